//! What this kernel or these privileges cannot do, in words for the one who can change it. Exit code 3.

use std::fmt;

/// One sentence, and a hint.
#[derive(Debug)]
pub struct Refusal {
    what: String,
    hint: Option<String>,
}

impl Refusal {
    /// A refusal without a hint.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), hint: None }
    }

    /// Adds what can be done about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// From an error of the kernel interface: the end of the chain tells the errno.
    pub fn because(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut last = error;
        while let Some(source) = last.source() {
            last = source;
        }
        let refusal = Self::new(format!("{}: {}", what.into(), first_line(&last.to_string())));
        let denied =
            last.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::PermissionDenied);
        if denied {
            refusal.hint(
                "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; `sockmeter check` tells which is missing",
            )
        } else {
            refusal
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
