//! Where log lines go: standard error, as text for people or as JSON for machines.

use std::io::{self, IsTerminal};

use anstream::{AutoStream, ColorChoice};
use tracing::level_filters::LevelFilter;

use crate::config::{Log, LogFormat, LogLevel};

/// Starts logging for the rest of the process. A second start changes nothing.
pub(super) fn start(log: Log) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let colour = io::stderr().is_terminal() || ColorChoice::global() == ColorChoice::AlwaysAnsi;
    let colour = colour && AutoStream::choice(&io::stderr()) != ColorChoice::Never;
    let lines = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(colour);
    // The error is that a subscriber is there already, such as a test's.
    let _ = match log.format {
        LogFormat::Text => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
}
