//! The one error of the configuration: a sentence, and what to do about it. Exit codes are in `cli`.

use std::fmt;

/// What is wrong with the configuration, in one sentence, with a hint when the user can act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    sentence: String,
    hint: Option<String>,
}

impl ConfigError {
    /// An error without a hint.
    pub fn new(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), hint: None }
    }

    /// The same error with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}
