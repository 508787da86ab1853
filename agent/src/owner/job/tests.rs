//! Rules as tables: which one decides, and which processes are asked.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;

use super::*;
use crate::owner::LONGEST;

fn place<'a>(paths: &'a [&'a str]) -> Place<'a> {
    Place { paths, unit: "", pod: None }
}

fn process(environment: &[u8], command_line: &[u8]) -> Process {
    Process { is_fresh: false, environment: environment.to_vec(), command_line: command_line.to_vec() }
}

fn variable_rule(name: &str, pattern: Option<&str>) -> Rule {
    Rule::Environment { name: name.to_owned(), pattern: pattern.map(str::to_owned) }
}

fn cgroup(pattern: &str) -> Rule {
    Rule::Cgroup(pattern.to_owned())
}

/// The job, and how many of the processes were read; `None`: they were not asked for.
fn job(rules: &[Rule], place: Place<'_>, processes: &[Process]) -> (Option<String>, Option<usize>) {
    let read = Cell::new(None);
    let found = Rules::new(rules).unwrap().job(place, |_| {
        read.set(Some(0));
        processes.iter().cloned().inspect(|_| read.set(read.get().map(|count| count + 1)))
    });
    assert_eq!(found.is_by_processes, read.get().is_some());
    (found.job, read.get())
}

fn found(job: &str, read: Option<usize>) -> (Option<String>, Option<usize>) {
    (Some(job.to_owned()), read)
}

#[test]
fn rules_of_the_configuration_go_first_in_their_order() {
    let rules = ["^/batch/(?<job>[a-z]+)$", "/(?<job>[0-9]+)/x$"].map(cgroup);
    let of = |paths: &[&str]| job(&rules, place(paths), &[]).0;
    assert_eq!(of(&["/batch/one"]).as_deref(), Some("one"));
    assert_eq!(of(&["/ffrtmp/7", "/batch/one"]).as_deref(), Some("one"));
    assert_eq!(of(&["/ffrtmp/7/x"]).as_deref(), Some("7"));
    assert_eq!(of(&["/", "/ffrtmp/7"]).as_deref(), Some("7"));
    assert_eq!(of(&["/batch/1"]), None);
    assert!(Rules::new(&[cgroup("(")]).is_err());
    // An empty id is none: the next rule is asked.
    assert_eq!(job(&[cgroup("^/ffrtmp/(?<job>x*)")], place(&["/ffrtmp/7"]), &[]), found("7", None));
}

#[test]
fn units_and_pods_have_rules_of_their_own() {
    let rules = [
        Rule::Unit(r"^worker@(?P<job>.+)\.service$".to_owned()),
        Rule::Pod("^batch/(?P<job>.+)-[a-z0-9]{5}$".to_owned()),
    ];
    let (namespace, name) = ("batch".to_owned(), "encode-7-x2x9z".to_owned());
    let pod = Pod { namespace, name, came: None, is_listed: false, job: None };
    let both = Place { paths: &["/ffrtmp/8"], unit: "worker@12.service", pod: Some(&pod) };
    assert_eq!(job(&rules, both, &[]), found("12", None));
    assert_eq!(job(&rules, Place { unit: "nginx.service", ..both }, &[]), found("encode-7", None));
    let other = Pod { namespace: "web".to_owned(), ..pod.clone() };
    assert_eq!(job(&rules, Place { unit: "", pod: Some(&other), ..both }, &[]), found("8", None));
    let path = [cgroup("^/kubernetes/batch/(?<job>.+)-[a-z0-9]{5}$")];
    assert_eq!(job(&path, both, &[]), found("encode-7", None));
}

#[test]
fn a_process_tells_by_its_environment_or_its_command_line() {
    let named = [variable_rule("JOB_ID", None)];
    let of = |environment: &[u8]| job(&named, place(&["/x"]), &[process(environment, b"")]).0;
    assert_eq!(of(b"A=1\0JOB_ID=7\0B=2\0").as_deref(), Some("7"));
    assert_eq!(of(b"JOB_ID=7\0JOB_ID=8\0").as_deref(), Some("7"));
    assert_eq!(of(b"JOB_ID=a=b").as_deref(), Some("a=b"));
    for without in ["", "JOB_ID=\0", "JOB_IDX=7\0", "MY_JOB_ID=7\0", "A=JOB_ID=7\0", "JOB_ID\0"] {
        assert_eq!(of(without.as_bytes()), None, "{without:?}");
    }
    let matched = [variable_rule("TASK", Some("^render-(?P<job>.+)$"))];
    let of = |environment: &[u8]| job(&matched, place(&["/x"]), &[process(environment, b"")]).0;
    assert_eq!(of(b"TASK=render-9\0").as_deref(), Some("9"));
    assert_eq!(of(b"TASK=encode-9\0"), None);
    let words = [Rule::CommandLine(r"--job[= ](?P<job>\S+)".to_owned())];
    let of = |command_line: &[u8]| job(&words, place(&["/x"]), &[process(b"--job=no", command_line)]).0;
    assert_eq!(of(b"encode\0--job=7\0-x\0").as_deref(), Some("7"));
    assert_eq!(of(b"encode\0--job\x007\0").as_deref(), Some("7"));
    assert_eq!(of(b"encode\0--job\0"), None);
    assert_eq!(of(b""), None);
}

#[test]
fn the_first_rule_decides_and_of_its_processes_the_oldest() {
    let rules = [variable_rule("A", None), cgroup("^/p/(?<job>.+)$"), variable_rule("B", None)];
    let all = [process(b"B=b1", b""), process(b"A=a2\0B=b2", b""), process(b"A=a3", b"")];
    assert_eq!(job(&rules, place(&["/x"]), &all), found("a2", Some(2)));
    assert_eq!(job(&rules, place(&["/p/1"]), &all), found("a2", Some(2)));
    assert_eq!(job(&rules, place(&["/p/1"]), &all[..1]), found("1", Some(1)));
    assert_eq!(job(&rules, place(&["/x"]), &all[..1]), found("b1", Some(1)));
    let later = [process(b"B=b1", b""), process(b"B=b2", b"")];
    assert_eq!(job(&rules, place(&["/x"]), &later), found("b1", Some(2)));
    // The others still apply.
    assert_eq!(job(&rules, place(&["/ffrtmp/7"]), &[]), found("7", Some(0)));
    assert_eq!(job(&rules, place(&["/x"]), &[]), (None, Some(0)));
}

#[test]
fn a_process_that_began_just_now_tells_nothing_and_that_is_said() {
    let rules = Rules::new(&[variable_rule("A", None), variable_rule("B", None)]).unwrap();
    let fresh = |environment: &[u8]| Process { is_fresh: true, ..process(environment, b"") };
    let of = |all: &[Process]| {
        let Found { job, is_early, .. } = rules.job(place(&["/x"]), |_| all.iter().cloned());
        (job, is_early)
    };
    let (worker, job) = (process(b"C=1", b""), process(b"B=b", b""));
    assert_eq!(of(&[worker.clone(), fresh(b"A=a")]), (None, true));
    assert_eq!(of(&[worker.clone(), fresh(b"C=1")]), (None, false));
    assert_eq!(of(&[worker, job.clone(), fresh(b"A=a")]), (Some("b".to_owned()), true));
    assert_eq!(of(&[job, fresh(b"B=b2")]), (Some("b".to_owned()), false));
}

#[test]
fn processes_are_asked_for_only_if_they_could_decide() {
    let (path, of_process) = (cgroup("^/p/(?<job>.+)$"), variable_rule("A", None));
    let all = [process(b"A=a", b"")];
    assert_eq!(job(std::slice::from_ref(&path), place(&["/x"]), &all), (None, None));
    assert_eq!(job(&[], place(&["/ffrtmp/7"]), &all), found("7", None));
    assert_eq!(job(&[path.clone(), of_process.clone()], place(&["/p/1"]), &all), found("1", None));
    assert_eq!(job(&[path, of_process], place(&["/ffrtmp/7"]), &all), found("a", Some(1)));
    let looks = |rules: &[Rule]| {
        let looks = Rules::new(rules).unwrap().looks();
        (looks.environment, looks.command_line)
    };
    assert_eq!(looks(&[cgroup("x"), Rule::Unit("x".to_owned()), Rule::Pod("x".to_owned())]), (false, false));
    assert_eq!(looks(&[variable_rule("A", None)]), (true, false));
    assert_eq!(looks(&[Rule::CommandLine("x".to_owned())]), (false, true));
}

#[test]
fn hostile_values_end_as_valid_text_of_bounded_length() {
    let mut value = b"JOB_ID=\xff\"\n\\".to_vec();
    value.extend([b'a'; 4_096]);
    let plain = job(&[variable_rule("JOB_ID", None)], place(&["/x"]), &[process(&value, b"")]).0.unwrap();
    assert!(plain.starts_with("\u{fffd}\"\n\\aaa"), "{plain}");
    assert_eq!(plain.len(), LONGEST);
    let whole = variable_rule("JOB_ID", Some("(?s)^(?<job>.*)$"));
    assert_eq!(job(&[whole], place(&["/x"]), &[process(&value, b"")]), found(&plain, Some(1)));
    // What lies beyond the bound is not looked at.
    let mut long = b"JOB_ID=".to_vec();
    long.extend(vec![b'a'; LONGEST_VALUE]);
    long.extend(b"-7");
    let end = variable_rule("JOB_ID", Some("-(?<job>[0-9])$"));
    assert_eq!(job(&[end], place(&["/x"]), &[process(&long, b"")]), (None, Some(1)));
}
