//! The built binary as a user meets it: exit codes, and errors that are one sentence with a hint.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::process::{Command, Output};

fn sockmeter(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sockmeter")).args(arguments).env_clear().output().unwrap()
}

/// Exit code and standard error.
fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = sockmeter(arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn printed(arguments: &[&str]) -> String {
    let output = sockmeter(arguments);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn config(folder: &Path, text: &str) -> String {
    let file = folder.join("sockmeter.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn a_flag_that_is_not_there_is_wrong_usage() {
    let wanted = "error: unexpected argument '--lisen' found\nhint: a similar argument exists: '--listen'\n";
    assert_eq!(refusal(&["run", "--lisen", "x"]), (Some(2), wanted.to_owned()));
}

#[test]
fn a_flag_with_a_wrong_value_names_value_and_wish() {
    let wanted = "error: invalid value 'api' for '--service <NAME=PORT[,PORT...]>': NAME=PORT[,PORT...] with ports from \
                  1 to 65535, such as scheduler=8080\nhint: --help after a command explains it\n";
    assert_eq!(refusal(&["run", "--service", "api"]), (Some(2), wanted.to_owned()));
    let wanted = "error: --scope is \"pod\", wanted host, netns, or cgroup: and an absolute path\n";
    assert_eq!(refusal(&["run", "--scope", "pod"]), (Some(2), wanted.to_owned()));
}

#[test]
fn an_unknown_key_is_refused_with_file_line_and_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), "# ours\nlissten = \"127.0.0.1:0\"\n");
    let wanted = format!("error: {file}:2: unknown key lissten\nhint: did you mean listen?\n");
    assert_eq!(refusal(&["config", "check", &file]), (Some(2), wanted.clone()));
    assert_eq!(refusal(&["run", "--config", &file]), (Some(2), wanted));
}

#[test]
fn a_port_belongs_to_one_service() {
    let wanted = "error: port 80 is given to two services, a and b, wanted one service a port\n\
                  hint: take the port from one of them, or give both sets of ports to a\n";
    assert_eq!(refusal(&["run", "--service", "a=80", "--service", "b=81,80"]), (Some(2), wanted.to_owned()));
}

#[test]
fn a_file_that_cannot_be_read_is_wrong_configuration() {
    let wanted = "error: configuration file /nowhere.toml: No such file or directory (os error 2)\n\
                  hint: --config names the file; deploy/sockmeter.example.toml is one to start from\n";
    assert_eq!(refusal(&["run", "--config", "/nowhere.toml"]), (Some(2), wanted.to_owned()));
    let wanted = "error: token file /nowhere: No such file or directory (os error 2)\n";
    assert_eq!(refusal(&["run", "--auth-token-file", "/nowhere"]), (Some(2), wanted.to_owned()));
    let wanted = "error: file /nowhere: No such file or directory (os error 2)\n";
    assert_eq!(refusal(&["run", "--routes", "scheduler=/nowhere"]), (Some(2), wanted.to_owned()));
}

#[test]
fn serving_everybody_must_be_asked_for() {
    let (code, text) = refusal(&["run", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        text.lines().next(),
        Some("error: listen is 0.0.0.0:0, which others can reach, and nothing says who may read it")
    );
}

#[test]
fn what_this_build_cannot_do_is_refused_at_start() {
    let wanted = "error: remote_write is set, but remote write is not available in this build\n\
                  hint: take remote_write and what belongs to it out of the configuration\n";
    assert_eq!(refusal(&["run", "--remote-write", "http://h/w"]), (Some(2), wanted.to_owned()));
}

#[test]
fn secrets_are_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "hunter2\n").unwrap();
    let text = printed(&["config", "show", "--auth-token-file", token.to_str().unwrap()]);
    assert_eq!(text.matches("hunter2").count(), 0);
    assert_eq!(text.matches(&format!("auth_token_file = \"{}\"  # flag", token.display())).count(), 1);
}

#[test]
fn config_check_says_that_the_example_is_good() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/sockmeter.example.toml");
    assert_eq!(printed(&["config", "check", example]), format!("{example}: good\n"));
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    let plain = refusal(&["run", "--scope", "x"]).1;
    assert_eq!(plain.matches('\u{1b}').count(), 0);
    let coloured = refusal(&["--color", "always", "run", "--scope", "x"]).1;
    assert_eq!(coloured.split_once(' ').unwrap().0, "\u{1b}[1m\u{1b}[31merror:\u{1b}[0m");
    assert_eq!(coloured.split_once(' ').unwrap().1, plain.split_once(' ').unwrap().1);
}

#[test]
fn help_names_every_flag_of_the_contract() {
    let help = printed(&["run", "--help"]);
    let flags = "config listen service routes upstream scheduler-api scheduler-token-file scheduler-ca kubernetes-pods \
                 kubernetes-node kubernetes-token-file kubernetes-ca interface scope \
                 pin-dir no-pin state-dir auth-token-file tls-cert tls-key tls-client-ca insecure report-to report-as \
                 report-token-file remote-write log-level log-format color help";
    let mut wanted: Vec<String> = flags.split_whitespace().map(|flag| format!("--{flag}")).collect();
    let mut found: Vec<String> = help
        .lines()
        .filter_map(|line| line.trim_start().trim_start_matches("-h, ").split_whitespace().next())
        .filter(|word| word.starts_with("--"))
        .map(ToOwned::to_owned)
        .collect();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted);
}

#[test]
fn completions_and_manual_pages_come_from_the_same_grammar() {
    assert_eq!(printed(&["completions", "bash"]).lines().next(), Some("_sockmeter() {"));
    assert_eq!(printed(&["man"]).matches("\n.SH NAME\n").count(), 1);
    // Once in the synopsis, once with its explanation.
    assert_eq!(printed(&["man", "run"]).matches("\\-\\-tls\\-client\\-ca").count(), 2);
    let wanted = "error: there is no command \"walk\"\n\
                  hint: the commands are run, check, detach, config, routes, completions, man, help\n";
    assert_eq!(refusal(&["man", "walk"]), (Some(2), wanted.to_owned()));
}
