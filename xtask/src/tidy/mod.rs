//! `cargo xtask tidy`: the rules that the compiler does not know. Rules for files are in `files`, for imports in
//! `stages` (the table) and `imports` (how they are found in the code), for dashboards and alerts in `dashboards::check`.

mod files;
mod imports;
mod stages;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::dashboards;
use crate::steps::output_of;

/// Checks every file that git knows or would take.
///
/// # Errors
/// When one breaks a rule; each is printed with its line before.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root).stdin(Stdio::null());
    let list = output_of(&mut git).context("git does not list the files of this repository")?;
    let mut problems = Vec::new();
    for name in list.lines() {
        // A file that was deleted but not committed is listed too; one that is not text has no lines to check.
        let text = fs::read(root.join(name)).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some(text) = text {
            problems.extend(files::problems(name, &text));
            problems.extend(imports::problems(name, &text));
        }
    }
    problems.extend(dashboards::check::problems(root)?);
    for problem in &problems {
        // Nobody is left to tell when standard error is closed.
        let _ = writeln!(anstream::stderr(), "{problem}");
    }
    match problems.len() {
        0 => Ok(()),
        1 => bail!("one rule is broken"),
        many => bail!("rules are broken in {many} places"),
    }
}
