//! The exit codes, and errors that know theirs.

use std::io;
use std::process::{ExitCode, Termination};

use crate::config::ConfigError;

/// How the program ended. Scripts and unit files rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: stopped on request, or did what was asked.
    Stopped,
    /// 1: failed at run time.
    Failed,
    /// 2: wrong usage or configuration.
    Usage,
    /// 3: this kernel or these privileges cannot do it.
    Kernel,
}

impl Exit {
    /// The number that the caller of the program sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Stopped => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Kernel => 3,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

/// An error with the exit code that it calls for. An error that says nothing about it is [`Exit::Failed`].
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    error: anyhow::Error,
}

impl Failure {
    /// The user can mend it: usage or configuration.
    pub fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Usage, error: error.into() }
    }

    /// This kernel or these privileges cannot do it.
    pub fn kernel(error: impl Into<anyhow::Error>) -> Self {
        Self { exit: Exit::Kernel, error: error.into() }
    }

    /// The exit code that it calls for.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The error itself.
    pub fn error(&self) -> &anyhow::Error {
        &self.error
    }

    /// Whether the reader of our output went away, as `head` does: nobody is left to tell.
    pub(super) fn is_closed_pipe(&self) -> bool {
        let mut causes = self.error.chain();
        causes.any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        })
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { exit: Exit::Failed, error }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { exit: Exit::Failed, error: error.into() }
    }
}
