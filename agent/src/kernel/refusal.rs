//! What this kernel or these privileges cannot do, in words for the one who can change it. Exit code 3.

use std::error::Error;
use std::fmt;

use aya::programs::ProgramError;

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

    /// From an error of the kernel interface: the end of the chain tells the errno. What the verifier refused is said in
    /// its own words, for its errno is that of missing privileges too.
    pub fn because(what: impl Into<String>, error: &(dyn Error + 'static)) -> Self {
        let what = what.into();
        let causes = || anyhow::Chain::new(error);
        if let Some(verdict) = causes().find_map(verdict) {
            return Self::new(format!("{what}: the verifier of this kernel refuses it: {verdict}"))
                .hint("kernels are tried from 6.1 on; please report this one, with what `--log-level debug` adds");
        }
        let last = causes().last().unwrap_or(error);
        let refusal = Self::new(format!("{what}: {}", first_line(&last.to_string())));
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

/// The verifier's verdict, if that is what `error` is about.
fn verdict(error: &(dyn Error + 'static)) -> Option<String> {
    let Some(ProgramError::LoadError { verifier_log, .. }) = error.downcast_ref() else {
        return None;
    };
    let log = verifier_log.to_string();
    tracing::debug!("the verifier says:\n{log}");
    last_words(&log).map(str::to_owned)
}

/// The line that tells: the last in front of the statistics (`print_verification_stats` in `kernel/bpf/verifier.c`).
fn last_words(log: &str) -> Option<&str> {
    let told = log.split("\nprocessed ").next().unwrap_or(log);
    let told = told.split("\nverification time ").next().unwrap_or(told);
    told.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.starts_with("processed "))
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

impl Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_last_words_stand_before_its_statistics() {
        let log = "0: R1=ctx() R10=fp0\n; let x = y @ a.rs:7\n5: (85) call bpf_loop#181\n\
                   R1 invalid mem access 'scalar'\nprocessed 6 insns (limit 1000000) max_states_per_insn 0\n";
        assert_eq!(last_words(log), Some("R1 invalid mem access 'scalar'"));
        let with_time = "unknown func bpf_loop#181\nverification time 19 usec\nstack depth 0\nprocessed 6 insns";
        assert_eq!(last_words(with_time), Some("unknown func bpf_loop#181"));
        assert_eq!(last_words("processed 0 insns (limit 1000000)\n"), None);
        assert_eq!(last_words(""), None);
    }
}
