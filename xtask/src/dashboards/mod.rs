//! `cargo xtask dashboards`: makes `dashboards/*.json`, which is what is shipped, from `dashboards/source/*.toml`, which is
//! what is reviewed. A test holds the two equal; the rules for both are in `check`, running their queries is
//! `monitoring`'s.

pub(crate) mod check;
mod expression;
mod grafana;
mod names;
pub(crate) mod source;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::steps::Steps;

/// Writes the JSON of every source.
pub(crate) fn write(root: &Path, steps: &Steps) -> Result<()> {
    for (file, text) in shipped(root)? {
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        steps.say(format_args!("wrote {}", file.display()));
    }
    Ok(())
}

/// Each JSON file with the text that its source makes.
fn shipped(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let make = |(_, source): (PathBuf, source::Dashboard)| -> Result<(PathBuf, String)> {
        let text = serde_json::to_string_pretty(&grafana::dashboard(&source))?;
        Ok((root.join("dashboards").join(format!("{}.json", source.uid)), text + "\n"))
    };
    source::read_all(root)?.into_iter().map(make).collect()
}
