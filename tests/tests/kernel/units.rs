//! The systemd unit as it is in `deploy/systemd`: what systemd says of it, and that a service which systemd starts by it counts.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::unistd::{AccessFlags, Gid, Uid, access};
use serde_json::Value;
use sockmeter_tests::cgroup::Visit;
use sockmeter_tests::container::Bundle;
use sockmeter_tests::image::deployed;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::{output, run};
use sockmeter_tests::unit::{Bpffs, NAME, Unit};

use crate::equal_books::agrees;
use crate::pods::{loaded, nginx};

/// What `systemd-analyze security` makes of the unit (systemd 252), as docs/install.md says.
const EXPOSURE: &str = "1.8 OK";

/// Whether systemd-analyze(1) can run here: it wants a directory in /tmp, whatever `TMPDIR` says.
fn has_tmp() -> bool {
    let is_there = access("/tmp", AccessFlags::W_OK).is_ok();
    if !is_there {
        println!("left out: systemd-analyze needs /tmp, which cannot be written here");
    }
    is_there
}

#[test]
fn systemd_has_nothing_to_say_against_the_unit() -> Result<()> {
    if !has_tmp() {
        return Ok(());
    }
    let root = tempfile::tempdir()?;
    let mut unit = Unit::ours()?;
    for drop_in in ["systemd/host-scope.conf", "systemd/job-processes.conf", "systemd/nvidia.conf"] {
        unit.drop_ins.push(fs::read_to_string(deployed(drop_in))?);
    }
    unit.install(root.path())?;
    let output = output(Command::new("systemd-analyze").arg("verify").arg("--root").arg(root.path()).arg(NAME))?;
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    Ok(())
}

#[test]
fn the_exposure_of_the_unit_is_what_the_documentation_says() -> Result<()> {
    if !has_tmp() {
        return Ok(());
    }
    let unit = deployed("systemd").join(NAME);
    let said = run(Command::new("systemd-analyze").args(["security", "--offline=true", "--no-pager"]).arg(unit))?;
    let overall = said.lines().find(|line| line.contains("Overall exposure level")).context("no overall level")?;
    assert!(overall.contains(&format!(": {EXPOSURE}")), "{overall}");
    let documented = fs::read_to_string(deployed("../docs/install.md"))?;
    assert!(documented.contains(&format!("Overall exposure level for {NAME}: {EXPOSURE}")), "docs/install.md");
    Ok(())
}

#[test]
fn the_service_of_the_unit_counts() -> Result<()> {
    let here = Namespace::new()?;
    let bpffs = Bpffs::new()?;
    let bundle = Bundle::new()?;
    let config = Unit::ours()?.configuration(&bundle, &here, bpffs.path())?;
    let service = bundle.start(&config, &here, None)?;
    // READY=1 came through.
    service.until_it_says(&["systemctl", "is-active", NAME], "active")?;
    // The cgroup that this systemd takes for the root of all.
    let visit = Visit::to(service.name())?;
    let nginx = nginx(&here)?;
    let clients = loaded(&here, &nginx)?;
    drop(visit);
    agrees(|| service.scrape(), &clients)
}

#[test]
fn the_service_is_its_users_and_keeps_nothing() -> Result<()> {
    let here = Namespace::new()?;
    let bpffs = Bpffs::new()?;
    let bundle = Bundle::new()?;
    let config = Unit::ours()?.configuration(&bundle, &here, bpffs.path())?;
    let service = bundle.start(&config, &here, None)?;
    let pid = service.says(&["systemctl", "show", "--property=MainPID", "--value", NAME])?;
    let status = service.says(&["cat", &format!("/proc/{}/status", pid.trim())])?;
    let field = |name: &str| -> Result<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
        Ok(line.context("no such field")?.split_whitespace().next().unwrap_or_default().to_owned())
    };
    assert!(field("Uid")? != Uid::from_raw(0).to_string() && field("Gid")? != Gid::from_raw(0).to_string());
    assert_eq!((field("NoNewPrivs")?, field("Seccomp")?), ("1".to_owned(), "2".to_owned()));
    let known: BTreeSet<&str> = ["0000000000000000", "0000000000001000"].into();
    assert!(known.contains(field("CapEff")?.as_str()), "{status}");
    Ok(())
}

/// What becomes of the service: the exit code, and what it said.
fn ends(unit: &Unit) -> Result<(Option<i32>, String)> {
    let here = Namespace::new()?;
    let bpffs = Bpffs::new()?;
    let bundle = Bundle::new()?;
    let config: Value = unit.configuration(&bundle, &here, bpffs.path())?;
    bundle.to_its_end(&config)
}

#[test]
fn the_unit_has_no_capability_that_it_does_not_need() -> Result<()> {
    let unit = Unit::ours()?;
    let capabilities = unit.capabilities()?;
    assert_eq!(capabilities, ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    for capability in capabilities {
        let mut less = unit.clone();
        let lines: Vec<String> = unit
            .text
            .lines()
            .map(|line| if line.starts_with('#') { line.to_owned() } else { line.replace(&capability, "") })
            .collect();
        less.text = lines.join("\n");
        let (code, said) = ends(&less)?;
        assert_eq!(code, Some(3), "without {capability}:\n{said}");
        assert!(said.contains(&capability), "without {capability}:\n{said}");
    }
    Ok(())
}

#[test]
fn the_unit_needs_its_window_to_the_bpffs_and_its_system_calls() -> Result<()> {
    let unit = Unit::ours()?;
    for (line, code) in
        [("BindPaths=-/sys/fs/bpf/sockmeter:/run/sockmeter/bpf\n", 3), ("SystemCallFilter=bpf capset\n", 3)]
    {
        let mut less = unit.clone();
        less.text = unit.text.replace(line, "");
        assert!(less.text.len() < unit.text.len(), "{line}");
        let (found, said) = ends(&less)?;
        assert_eq!(found, Some(code), "without {line}{said}");
    }
    Ok(())
}

/// `sockmeter check` in the unit's place misses something without the drop-in, and nothing with it: what it says then.
fn made_whole_by(mut unit: Unit, drop_in: &str, missing: &str) -> Result<String> {
    let check = "[Service]\nType=oneshot\nExecStart=\nExecStart=/usr/bin/sockmeter check --config /etc/sockmeter/sockmeter.toml\n";
    unit.drop_ins.push(check.to_owned());
    let (code, said) = ends(&unit)?;
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains(missing), "{said}");
    unit.drop_ins.push(fs::read_to_string(deployed(drop_in))?);
    let (code, said) = ends(&unit)?;
    assert_eq!(code, Some(0), "{said}");
    Ok(said)
}

#[test]
fn the_drop_in_for_all_namespaces_leaves_nothing_missing() -> Result<()> {
    let mut unit = Unit::ours()?;
    unit.settings = unit.settings.replace("scope = \"netns\"", "scope = \"host\"");
    let said = made_whole_by(unit, "systemd/host-scope.conf", "no   CAP_SYS_PTRACE")?;
    assert!(said.contains("yes  CAP_SYS_PTRACE"), "{said}");
    Ok(())
}

#[test]
fn the_drop_in_for_rules_that_look_at_processes_leaves_nothing_missing() -> Result<()> {
    let mut unit = Unit::ours()?;
    unit.settings.push_str("\n[jobs]\nrules = [{ environment = \"JOB_ID\" }]\n");
    let said = made_whole_by(unit, "systemd/job-processes.conf", "no   environments of processes")?;
    for name in ["CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"] {
        assert!(said.contains(&format!("yes  environments of processes: {name} in effect")), "{said}");
    }
    Ok(())
}
