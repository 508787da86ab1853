//! The files of `deploy/` as the back-ends of a test get them: the addresses of the test, a scrape each second, and where
//! that is wanted a minute of the rules that lasts a second. Nothing else is changed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

/// How long a minute of the rules is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Minute {
    /// As it is shipped.
    Whole,
    /// A second, so that what takes ten minutes is seen in ten seconds.
    Second,
}

/// Where the repository is.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A copy of what `deploy/` has for both back-ends.
#[derive(Debug)]
pub struct Provision {
    folder: TempDir,
}

impl Provision {
    /// Copies it for the agents at these addresses and the fleet manager at that one. `limits` takes the place of the rules
    /// in `limits.yaml`, the one file that a site is to edit.
    ///
    /// # Errors
    /// When a file cannot be read, or does not have what is to be replaced.
    pub fn new(agents: &[&str], manager: &str, minute: Minute, limits: Option<&str>) -> Result<Self> {
        let (folder, deploy) = (tempfile::tempdir()?, root().join("deploy"));
        let rules = folder.path().join("rules");
        fs::create_dir(&rules)?;
        for entry in fs::read_dir(deploy.join("prometheus/rules"))? {
            let entry = entry?;
            let text = fs::read_to_string(entry.path())?;
            let text = match limits {
                Some(limits) if entry.file_name() == "limits.yaml" => limits.to_owned(),
                _ if minute == Minute::Second => hurried(&text),
                _ => text,
            };
            fs::write(rules.join(entry.file_name()), text)?;
        }
        let agents = agents.iter().map(|agent| format!("\"{agent}\"")).collect::<Vec<_>>().join(", ");
        for (from, to) in
            [("prometheus/prometheus.yml", "prometheus.yml"), ("victoriametrics/scrape.yml", "scrape.yml")]
        {
            let text = fs::read_to_string(deploy.join(from)).with_context(|| format!("cannot read deploy/{from}"))?;
            for wanted in ["\"127.0.0.1:9464\"", ": 15s"] {
                ensure!(text.contains(wanted), "deploy/{from} has no {wanted}");
            }
            let text = text.replace("\"127.0.0.1:9464\"", &agents).replace(": 15s", ": 1s");
            fs::write(folder.path().join(to), text)?;
        }
        fs::create_dir(folder.path().join("fleet"))?;
        fs::write(folder.path().join("fleet/manager.yaml"), format!("- targets: [\"{manager}\"]\n"))?;
        Ok(Self { folder })
    }

    /// The copy.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Minutes in ranges and in `for:` become seconds; thresholds and names stay.
fn hurried(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines() {
        let mut rest = line;
        while let Some(at) = rest.find("m]") {
            let (before, after) = rest.split_at(at);
            let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
            let range = digits > 0 && before.as_bytes().get(before.len() - digits - 1) == Some(&b'[');
            text.push_str(before);
            text.push_str(if range { "s]" } else { "m]" });
            rest = &after[2..];
        }
        let is_for = rest.trim_start().starts_with("for: ");
        text.push_str(&if is_for { rest.trim_end().trim_end_matches('m').to_owned() + "s" } else { rest.to_owned() });
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::hurried;

    #[test]
    fn a_minute_becomes_a_second_where_it_is_a_duration() {
        assert_eq!(
            hurried("  - record: x:rate5m\n    expr: rate(x[5m]) + y[10m]\n    for: 2m\n"),
            "  - record: x:rate5m\n    expr: rate(x[5s]) + y[10s]\n    for: 2s\n"
        );
    }
}
