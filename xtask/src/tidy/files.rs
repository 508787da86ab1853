//! Rules for single files: how they begin, how long they are, what they are called, and what they may not mention.

/// A Rust file past this has two concepts.
const MAX_LINES: usize = 400;
/// File names that say nothing about what is in the file.
const EMPTY_NAMES: [&str; 8] =
    ["types.rs", "util.rs", "utils.rs", "common.rs", "helper.rs", "helpers.rs", "misc.rs", "manager.rs"];
/// The top-level folders. There is no room for a `common/`, `crates/` or `utils/`.
const TOP: [&str; 8] = ["agent", "dashboards", "deploy", "docs", "ebpf", "fuzz", "tests", "xtask"];
/// Folders that exist on one person's machine only.
const PERSONAL: [&str; 4] = ["home", "root", "work", "Users"];

/// What is wrong with the file of that name, each as `file:line: sentence`.
pub(super) fn problems(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some((top, _)) = name.split_once('/')
        && !top.starts_with('.')
        && !TOP.contains(&top)
    {
        problems.push(format!("{name}: the top-level folder is {top}, wanted one of {}", TOP.join(", ")));
    }
    for (number, line) in text.lines().enumerate() {
        if let Some(path) = personal_path(line) {
            let number = number.saturating_add(1);
            problems.push(format!(
                "{name}:{number}: names {path}, a folder of one machine, wanted a path that others have"
            ));
        }
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    let is_rust = std::path::Path::new(last).extension().is_some_and(|extension| extension == "rs");
    if is_rust {
        problems.extend(rust_problems(name, last, text));
    }
    problems
}

fn rust_problems(name: &str, last: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if EMPTY_NAMES.contains(&last) {
        problems.push(format!("{name}: is called {last}, wanted a name that says what is in it"));
    }
    if !text.starts_with("//! ") {
        problems.push(format!("{name}:1: begins without //!, wanted its purpose in one sentence"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES {
        problems.push(format!("{name}: has {lines} lines, wanted at most {MAX_LINES}: it has two concepts"));
    }
    problems
}

/// The first absolute path in a line that leads into somebody's own folder.
fn personal_path(line: &str) -> Option<String> {
    PERSONAL.iter().map(|folder| format!("/{folder}/")).find(|path| {
        line.match_indices(path.as_str()).any(|(at, _)| {
            let before = line.get(..at).and_then(|before| before.chars().next_back());
            !before.is_some_and(|before| before.is_ascii_alphanumeric() || matches!(before, '_' | '.' | '-' | '}'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::problems;

    #[test]
    fn a_file_that_keeps_the_rules_has_no_problem() {
        assert_eq!(problems("agent/src/model.rs", "//! The totals.\n"), Vec::<String>::new());
        assert_eq!(problems(".ci/run", "#!/bin/bash\n"), Vec::<String>::new());
        assert_eq!(problems("Cargo.toml", "path = \"agent/work/x\"\n"), Vec::<String>::new());
    }

    #[test]
    fn each_broken_rule_is_named() {
        assert_eq!(
            problems("agent/src/utils.rs", "fn x() {}\n"),
            [
                "agent/src/utils.rs: is called utils.rs, wanted a name that says what is in it",
                "agent/src/utils.rs:1: begins without //!, wanted its purpose in one sentence",
            ]
        );
        let long = format!("//! Long.\n{}", "\n".repeat(400));
        assert_eq!(
            problems("xtask/src/a.rs", &long),
            ["xtask/src/a.rs: has 401 lines, wanted at most 400: it has two concepts"]
        );
        assert_eq!(
            problems("crates/x.toml", ""),
            [
                "crates/x.toml: the top-level folder is crates, wanted one of agent, dashboards, deploy, docs, ebpf, fuzz, tests, xtask"
            ]
        );
    }

    #[test]
    fn a_path_of_one_machine_is_found_where_it_begins() {
        let line = |folder: &str| ["x\ncd /", folder, "/me\n"].concat();
        assert_eq!(
            problems("deploy/run", &line("home")),
            [["deploy/run:2: names /", "home", "/, a folder of one machine, wanted a path that others have"].concat()]
        );
        assert_eq!(problems("deploy/run", &line("srv/home")), Vec::<String>::new());
    }
}
