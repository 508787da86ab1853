//! Progress: a line when a step begins and one when it ends, with the time since the start; and how a failure reads.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result, bail};

/// The steps of one command. Lines go to standard error, coloured on a terminal.
#[derive(Debug)]
pub(crate) struct Steps {
    start: Instant,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Does one step. `alone` is the command that does only this step, for whoever has to mend it.
    pub(crate) fn step<T>(&self, name: &str, alone: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let done = self.last_word(name, alone, work)?;
        self.say(format_args!("{name}: done in {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(done)
    }

    /// Does one step and says nothing after it, so that what the step printed itself stands last.
    pub(crate) fn last_word<T>(&self, name: &str, alone: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.say(name);
        work().with_context(|| format!("step {name} failed\nhint: {alone} does only this step"))
    }

    /// A line of progress.
    pub(crate) fn say(&self, line: impl Display) {
        let dim = Style::new().dimmed();
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(anstream::stderr(), "{dim}[{:6.1}s]{dim:#} {line}", self.start.elapsed().as_secs_f64());
    }
}

/// Runs a program to its end; its output is the user's to read.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", words(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", words(command));
    }
    Ok(())
}

/// What a program prints, if it can be run and succeeds.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// A command as one would type it.
pub(crate) fn words(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}

/// Prints an error: its causes as one sentence, then the hints.
pub(crate) fn complain(error: &anyhow::Error) {
    let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
    let texts: Vec<String> = error.chain().map(ToString::to_string).collect();
    let parts = texts.iter().map(|text| text.split_once("\nhint: ").unwrap_or((text, "")));
    let (sentences, hints): (Vec<&str>, Vec<&str>) = parts.unzip();
    let mut err = anstream::stderr().lock();
    let _ = writeln!(err, "{red}error:{red:#} {}", sentences.join(": "));
    for hint in hints.into_iter().filter(|hint| !hint.is_empty()) {
        let _ = writeln!(err, "hint: {hint}");
    }
}
