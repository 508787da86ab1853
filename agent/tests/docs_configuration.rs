//! `docs/configuration.md` is `deploy/sockmeter.example.toml` as a page for people, with the flag and the variable of each key;
//! here it is made, and held equal to the file. That the example has every key with its true default is tested beside the keys.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Set to `1`, the file is written instead of compared.
const UPDATE: &str = "UPDATE_DOCS";

const EXAMPLE: &str = include_str!("../../deploy/sockmeter.example.toml");

/// Keys of a service that a flag sets too.
const OF_A_SERVICE: [(&str, &str); 3] = [("ports", "service"), ("routes", "routes"), ("upstream", "upstream")];

const BEGINNING: &str = "\
# Configuration

<!-- Generated from deploy/sockmeter.example.toml: UPDATE_DOCS=1 cargo test -p sockmeter docs_ -->

A TOML file, named by `--config` or `SOCKMETER_CONFIG`; flags; and environment variables. A flag beats the environment,
which beats the file. Where a key below shows a flag or a variable, these say the same as the key. Lists in a variable
are separated by white space. SIGHUP makes a running agent read all of it again.

* `sockmeter config check FILE` says what is wrong with a file.
* `sockmeter config show --config FILE` says what is in force, and where each value came from.
";

fn page() -> String {
    let mut page = BEGINNING.to_owned();
    let (mut table, mut prose, mut last_was_key) = (String::new(), Vec::new(), true);
    let (_, keys) = EXAMPLE.split_once("\n\n").unwrap();
    for line in keys.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            write!(page, "\n## {}\n", title.trim_end_matches('-').trim()).unwrap();
            (prose, last_was_key) = (Vec::new(), false);
        } else if let Some(header) = line.strip_prefix("#[") {
            let name = header.trim_end_matches(']').replace("service.scheduler", "service.NAME");
            paragraph(&mut page, &mut prose);
            write!(page, "\nIn the table `[{name}]`:\n").unwrap();
            (table, last_was_key) = (name, false);
        } else if let Some(text) = line.strip_prefix("# ") {
            prose.push(text);
        } else if let Some((has_default, text)) = line
            .strip_prefix("#~ ")
            .map(|text| (false, text))
            .or_else(|| line.strip_prefix('#').map(|text| (true, text)))
        {
            let new_list = !last_was_key || !prose.is_empty();
            paragraph(&mut page, &mut prose);
            if new_list {
                page.push('\n');
            }
            page.push_str(&entry(&table, text, has_default));
            last_was_key = true;
        } else {
            // Prose that no key follows.
            let stands_alone = !prose.is_empty();
            paragraph(&mut page, &mut prose);
            last_was_key &= !stands_alone;
        }
    }
    page
}

/// Lines of a comment, as they are.
fn paragraph(page: &mut String, prose: &mut Vec<&str>) {
    if !prose.is_empty() {
        write!(page, "\n{}\n", prose.join("\n")).unwrap();
        prose.clear();
    }
}

/// A key with what it is by default, or what it looks like.
fn entry(table: &str, text: &str, has_default: bool) -> String {
    let (key, value) = text.split_once(" = ").unwrap();
    let meaning = if has_default { format!("default `{value}`") } else { format!("no default; such as `{value}`") };
    let name = match table {
        "upstream" => "NAME",
        "wireguard.peers" => "\"PUBLIC KEY\"",
        _ => key,
    };
    let flag = match table {
        "" => Some(key.replace('_', "-")),
        "upstream" => Some("upstream".to_owned()),
        "service.NAME" => OF_A_SERVICE.iter().find(|(of, _)| *of == key).map(|(_, flag)| (*flag).to_owned()),
        _ => None,
    };
    let variable = |flag: &str| format!("SOCKMETER_{}", flag.replace('-', "_").to_uppercase());
    let also = flag.map_or_else(String::new, |flag| format!("; `--{flag}`, `{}`", variable(&flag)));
    format!("* `{name}`: {meaning}{also}\n")
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md")
}

#[test]
fn docs_configuration_page_is_the_example() {
    let wanted = page();
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        fs::write(file(), &wanted).unwrap();
    }
    let found = fs::read_to_string(file()).unwrap();
    assert!(
        found == wanted,
        "docs/configuration.md is not what the example says\nhint: {UPDATE}=1 cargo test -p sockmeter docs_ writes it"
    );
}

/// Flags that are about the command itself.
const NO_SETTINGS: [&str; 3] = ["config", "help", "color"];

/// Every flag of `run` that is a setting is on the page, and no other.
#[test]
fn docs_configuration_page_has_the_flags_that_there_are() {
    let help = Command::new(env!("CARGO_BIN_EXE_sockmeter")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut flags: Vec<&str> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("-h, ").unwrap_or(line.trim_start()).strip_prefix("--"))
        .filter_map(|line| line.split(' ').next())
        .filter(|flag| !NO_SETTINGS.contains(flag))
        .collect();
    flags.sort_unstable();
    let page = page();
    let mut found: Vec<&str> = page.split("`--").skip(1).filter_map(|rest| rest.split('`').next()).collect();
    found.retain(|flag| *flag != "config");
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, flags);
}
