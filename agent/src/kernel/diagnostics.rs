//! What the kernel programs say of themselves, passed on to the agent's own log. Off unless the log level is `debug` or
//! `trace`: then the verifier removes it from the programs, so that it costs nothing.

use aya::Ebpf;
use aya_log::{EbpfLogger, Level};
use log::{Log, Metadata, Record};

use super::Refusal;
use crate::config::LogLevel;

/// The reader of the programs' messages.
pub(super) struct Diagnostics(EbpfLogger<ToTracing>);

/// What the programs are told about the level; 0: nothing is said.
pub(super) fn level(wanted: LogLevel) -> u8 {
    let level = match wanted {
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => return 0,
        LogLevel::Debug => Level::Debug,
        LogLevel::Trace => Level::Trace,
    };
    level.into()
}

impl Diagnostics {
    /// Opens the reader; `None` at a level at which the programs say nothing.
    pub(super) fn open(ebpf: &mut Ebpf, wanted: LogLevel) -> Result<Option<Self>, Refusal> {
        if level(wanted) == 0 {
            return Ok(None);
        }
        let logger = EbpfLogger::init_with_logger(ebpf, ToTracing)
            .map_err(|error| Refusal::because("cannot read the kernel programs' messages", &error))?;
        Ok(Some(Self(logger)))
    }

    /// Passes on what was said since the last time.
    pub(super) fn pass_on(&mut self) {
        self.0.flush();
    }
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::debug!(target: "kernel", level = %record.level(), "{}", record.args());
    }

    fn flush(&self) {}
}
