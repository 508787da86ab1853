//! What the benchmark writes: every number as JSON, and tables for people, with what was aimed at first.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::machine::Machine;
use crate::pairs::float;

/// Something to reach.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    what: String,
    wanted: String,
    found: String,
    met: bool,
}

impl Target {
    pub(crate) fn at_least(what: &str, wanted: f64, found: f64, digits: usize) -> Self {
        Self::new(what, format!("at least {wanted}"), found, digits, found >= wanted)
    }

    pub(crate) fn at_most(what: &str, wanted: f64, found: f64, digits: usize) -> Self {
        Self::new(what, format!("at most {wanted}"), found, digits, found <= wanted)
    }

    fn new(what: &str, wanted: String, found: f64, digits: usize, met: bool) -> Self {
        Self { what: what.to_owned(), wanted, found: format!("{found:.digits$}"), met }
    }
}

/// A table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(columns: &[&str]) -> Self {
        Self { columns: columns.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    pub(crate) fn row(&mut self, row: impl Into<Vec<String>>) {
        self.rows.push(row.into());
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&self.columns);
        text.push('|');
        text.push_str(&"---|".repeat(self.columns.len()));
        text.push('\n');
        for row in &self.rows {
            text.push_str(&line(row));
        }
        text
    }
}

/// One part of the benchmark.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Part {
    title: String,
    explanation: String,
    targets: Vec<Target>,
    tables: Vec<Table>,
    raw: Map<String, Value>,
}

impl Part {
    pub(crate) fn new(title: &str, explanation: &str) -> Self {
        Self {
            title: title.to_owned(),
            explanation: explanation.to_owned(),
            targets: Vec::new(),
            tables: Vec::new(),
            raw: Map::new(),
        }
    }

    pub(crate) fn target(&mut self, target: Target) {
        self.targets.push(target);
    }

    pub(crate) fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Keeps numbers as they were measured.
    pub(crate) fn raw(&mut self, name: &str, value: Value) {
        self.raw.insert(name.to_owned(), value);
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    quick: bool,
    seconds: f64,
    /// Why it is not complete.
    failure: Option<String>,
    parts: Vec<Part>,
}

impl Report {
    pub(crate) fn new(machine: Machine, quick: bool) -> Self {
        Self { machine, quick, seconds: 0.0, failure: None, parts: Vec::new() }
    }

    pub(crate) fn add(&mut self, part: Part) {
        self.parts.push(part);
    }

    pub(crate) fn finish(&mut self, took: Duration, failure: Option<String>) {
        self.seconds = took.as_secs_f64().round();
        self.failure = failure;
    }

    /// The table of what was aimed at.
    pub(crate) fn targets(&self) -> String {
        let mut table = Table::new(&["target", "wanted", "found", ""]);
        for target in self.parts.iter().flat_map(|part| &part.targets) {
            let met = if target.met { "met" } else { "**not met**" };
            table.row([target.what.clone(), target.wanted.clone(), target.found.clone(), met.to_owned()]);
        }
        table.markdown()
    }

    /// Writes `results.json` and `README.md`.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("results.json"), serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(folder.join("README.md"), self.markdown()?)?;
        Ok(())
    }

    fn markdown(&self) -> Result<String> {
        let machine = &self.machine;
        let mut text = format!("# Benchmark of {} on {}\n\n", machine.date, machine.processor);
        writeln!(
            text,
            "Written by `cargo xtask bench{}` in {} s. How to read this: [docs/benchmarks](../README.md). All numbers are in \
             [results.json](results.json).\n",
            if self.quick { " --quick" } else { "" },
            self.seconds
        )?;
        if let Some(failure) = &self.failure {
            writeln!(text, "**Not complete:** {}\n", failure.replace('\n', " "))?;
        }
        let mut facts = Table::new(&["", ""]);
        for (name, value) in [
            ("commit", machine.commit.clone()),
            (
                "processor",
                format!(
                    "{}, {} CPUs{}",
                    machine.processor,
                    machine.cpus,
                    if machine.is_virtual { ", virtual" } else { "" }
                ),
            ),
            ("memory", machine.memory.clone()),
            ("kernel", machine.kernel.clone()),
            ("load average before", machine.load_before.clone()),
            ("BPF programs of others", machine.other_programs.to_string()),
            ("nginx", machine.nginx.clone()),
            ("wrk", machine.wrk.clone()),
            ("iperf3", machine.iperf3.clone()),
        ] {
            facts.row([name.to_owned(), value]);
        }
        writeln!(text, "{}", facts.markdown())?;
        if self.parts.iter().any(|part| !part.targets.is_empty()) {
            writeln!(text, "## Targets\n\n{}", self.targets())?;
        }
        for part in &self.parts {
            writeln!(text, "## {}\n\n{}\n", part.title, part.explanation)?;
            for table in &part.tables {
                writeln!(text, "{}", table.markdown())?;
            }
        }
        Ok(text.trim_end().to_owned() + "\n")
    }
}

/// Bytes in units of 1,048,576.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", float(bytes) / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_what_was_wanted_and_found() {
        let mut part = Part::new("t", "e");
        part.target(Target::at_least("a", 0.98, 0.9801, 3));
        part.target(Target::at_most("b", 20.0, 20.04, 1));
        assert_eq!(part.targets.iter().map(|target| target.met).collect::<Vec<_>>(), [true, false]);
        assert_eq!(part.targets.iter().map(|target| target.found.as_str()).collect::<Vec<_>>(), ["0.980", "20.0"]);
        let mut table = Table::new(&["x", "y"]);
        table.row(["1".to_owned(), "2".to_owned()]);
        assert_eq!(table.markdown(), "| x | y |\n|---|---|\n| 1 | 2 |\n");
    }
}
