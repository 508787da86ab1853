//! `dashboards/exceptions.toml` as the proof needs it: which queries may have no answer, and why.

use std::fs;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::provision::root;

/// Families that nobody exports here.
#[derive(Debug, Clone, Deserialize)]
pub struct Absent {
    /// What their names begin with.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Only as long as this has an answer.
    #[serde(rename = "while")]
    pub condition: Option<String>,
}

#[derive(Debug, Deserialize)]
struct File {
    absent: Vec<Absent>,
}

/// All of them.
///
/// # Errors
/// When the file cannot be read.
pub fn read() -> Result<Vec<Absent>> {
    let file: File = toml::from_str(&fs::read_to_string(root().join("dashboards/exceptions.toml"))?)
        .context("cannot understand dashboards/exceptions.toml")?;
    Ok(file.absent)
}
