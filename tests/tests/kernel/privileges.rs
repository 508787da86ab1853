//! What the agent may do once it runs: next to nothing. And how little it takes to start it.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left, pin_dir};
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::kernel;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::ordinary;
use sockmeter_tests::process::run;
use sockmeter_tests::tally::Tally;

use crate::bad_input::refused;
use crate::equal_books::{agrees, balanced};
use crate::interfaces::both;

/// Bits of `include/uapi/linux/capability.h`.
const NET_ADMIN: u64 = 1 << 12;
const SYS_PTRACE: u64 = 1 << 19;
const SYS_ADMIN: u64 = 1 << 21;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;

/// What a thread may do (proc(5), `/proc/PID/status`).
#[derive(Debug, PartialEq, Eq)]
struct Privileges {
    user: u32,
    inheritable: u64,
    permitted: u64,
    effective: u64,
    bounding: u64,
    ambient: u64,
    no_new: u64,
    umask: u64,
}

impl Privileges {
    fn of(status: &Path) -> Result<Self> {
        let text = fs::read_to_string(status).with_context(|| status.display().to_string())?;
        let field = |name: &str, radix: u32| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let value = line.and_then(|line| line.split_whitespace().next()).with_context(|| format!("no {name}"))?;
            Ok(u64::from_str_radix(value, radix)?)
        };
        Ok(Self {
            user: u32::try_from(field("Uid", 10)?)?,
            inheritable: field("CapInh", 16)?,
            permitted: field("CapPrm", 16)?,
            effective: field("CapEff", 16)?,
            bounding: field("CapBnd", 16)?,
            ambient: field("CapAmb", 16)?,
            no_new: field("NoNewPrivs", 10)?,
            umask: field("Umask", 8)?,
        })
    }

    /// Of a user who keeps `kept` and could, but for `no_new_privs`, get at `bounding`.
    fn only(user: u32, kept: u64, bounding: u64) -> Self {
        let (inheritable, ambient) = (0, 0);
        Self { user, inheritable, permitted: kept, effective: kept, bounding, ambient, no_new: 1, umask: 0o077 }
    }
}

/// Those of the process and of each of its threads, which are one set in all; how many threads there were.
fn all_threads_have(agent: &mut Agent<'_>, wanted: &Privileges) -> Result<usize> {
    let process = Path::new("/proc").join(agent.process().pid()?.to_string());
    assert_eq!(&Privileges::of(&process.join("status"))?, wanted);
    let mut threads = 0;
    for task in fs::read_dir(process.join("task"))? {
        let status = task?.path().join("status");
        // A thread may end between being listed and being read.
        if let Ok(found) = Privileges::of(&status) {
            assert_eq!(&found, wanted, "{}", status.display());
            threads += 1;
        }
    }
    Ok(threads)
}

/// What filters on interfaces that appear later take where there are no tcx links (before 6.6), and the peers of WireGuard
/// where it is in the kernel.
fn for_interfaces() -> Result<u64> {
    let is_wireguard_there = Path::new("/sys/module/wireguard").exists();
    Ok(if kernel::version()? < (6, 6) || is_wireguard_there { NET_ADMIN } else { 0 })
}

fn posts(target: &str) -> Step {
    Step { method: "POST", target: target.to_owned(), body: 512, repeat: 5, ..Step::default() }
}

/// A service is counted, and an interface that appears now, from its first byte.
fn goes_on_counting(agent: &Agent<'_>, here: &Namespace, there: &Namespace) -> Result<()> {
    let mut clients = Tally::default();
    for count in play(here, "127.0.0.1", 8080, &[vec![posts("/jobs")], vec![posts("/jobs")]])? {
        count.tally(&mut clients, "/jobs");
    }
    agrees(|| agent.scrape(), &clients)?;

    here.connect(there)?;
    for program in ["interface_receives", "interface_sends"] {
        agent.scrape_until(program, |page| {
            page.sum("sockmeter_program_attached", &[("program", program), ("target", "va")]) == 1.0
        })?;
    }
    let (ours_before, device_before, _) = both(agent, here, "va")?;
    here.enter(|| {
        let socket = UdpSocket::bind("10.77.0.1:0")?;
        for _ in 0..20 {
            // Nobody listens: a later one may be told so.
            let _ = socket.send_to(&[7; 1_000], "10.77.0.2:9");
        }
        Ok(())
    })?;
    let (ours_after, device_after, _) = both(agent, here, "va")?;
    assert!(device_after[1] - device_before[1] >= 20 * 1_042, "the datagrams did not cross");
    for direction in [0, 1] {
        assert_eq!(ours_after[direction] - ours_before[direction], device_after[direction] - device_before[direction]);
    }
    Ok(())
}

#[test]
fn a_running_agent_keeps_no_capability() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let _server = chunked_server(&here, 8080)?;
    let files = tempfile::tempdir()?;
    let config = files.path().join("sockmeter.toml");
    fs::write(&config, "[service.scheduler]\nports = [8080]\n")?;
    let why = "the test is of what becomes of root's capabilities";
    let mut agent = Agent::start_as_root(&here, &["--config", &config.to_string_lossy()], why)?;
    let wanted = Privileges::only(0, for_interfaces()?, 0);
    // The main thread and the accountant.
    assert_eq!(all_threads_have(&mut agent, &wanted)?, 2);
    goes_on_counting(&agent, &here, &there)?;

    fs::write(&config, "[service.scheduler]\nports = [8080]\n[service.later]\nports = [8081]\n")?;
    agent.process().signal(Signal::SIGHUP)?;
    agent.scrape_until("the new service", |page| page.get("later_http_requests_total") == Some(0.0))?;
    let _later = chunked_server(&here, 8081)?;
    play(&here, "127.0.0.1", 8081, &[vec![posts("/later")]])?;
    agent.scrape_until("its exchanges", |page| page.get("later_http_requests_total") == Some(5.0))?;

    // A compressed page is the work of other threads.
    let url = format!("{}/metrics", agent.url());
    run(here.command("curl").args(["-sS", "--fail", "--compressed", "-o", "/dev/null", &url]))?;
    assert!(all_threads_have(&mut agent, &wanted)? > 2, "no other threads");
    Ok(())
}

#[test]
fn scope_over_other_namespaces_keeps_what_entering_them_takes() -> Result<()> {
    let here = Namespace::new()?;
    let service = ["--scope", "host", "--service", "elsewhere=18473"];
    let mut agent = Agent::start_as_root(&here, &service, "CAP_SYS_ADMIN, to enter other namespaces")?;
    agent.scrape()?;
    let wanted = Privileges::only(0, SYS_ADMIN | SYS_PTRACE | for_interfaces()?, 0);
    all_threads_have(&mut agent, &wanted)?;
    Ok(())
}

#[test]
fn what_is_pinned_is_its_users_alone() -> Result<()> {
    let here = Namespace::new()?;
    let agent = Agent::start(&here, &[])?;
    let mode = |path: &Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o7777) };
    let mut files = 0;
    assert_eq!(mode(agent.pins())?, 0o700);
    for folder in ["maps", "links"] {
        let folder = agent.pins().join(folder);
        assert_eq!(mode(&folder)?, 0o700, "{}", folder.display());
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            assert_eq!(mode(&path)?, 0o600, "{}", path.display());
            files += 1;
        }
    }
    assert!(files > 20, "only {files} pins");
    Ok(())
}

#[test]
fn an_ordinary_user_with_three_capabilities_counts() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let _server = chunked_server(&here, 8080)?;
    let pins = pin_dir();
    let mut agent = Agent::start_as_ordinary_user(&here, &[], pins.clone())?;
    // Without CAP_SETPCAP the bounding set stays; nothing can be had from it with no_new_privs.
    let wanted = Privileges::only(ordinary::USER, for_interfaces()?, BPF | NET_ADMIN | PERFMON);
    assert_eq!(all_threads_have(&mut agent, &wanted)?, 2);
    goes_on_counting(&agent, &here, &there)?;
    let before = agent.scrape()?;
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    play(&here, "127.0.0.1", 8080, &[vec![posts("/jobs")]])?;
    // Its pins are what the next one goes on with.
    std::mem::forget(agent);
    let agent = Agent::start_as_ordinary_user(&here, &[], pins)?;
    let requests = before.get("scheduler_http_requests_total").context("no requests")?;
    let page = agent.scrape_until("the exchanges in between", |page| {
        page.get("scheduler_http_requests_total") == Some(requests + 5.0) && only_the_scrape_is_left(page)
    })?;
    balanced(&page);
    Ok(())
}

#[test]
fn an_ordinary_user_without_one_of_them_is_told_which() -> Result<()> {
    for missing in ordinary::CAPABILITIES {
        let others: Vec<&str> = ordinary::CAPABILITIES.into_iter().filter(|name| *name != missing).collect();
        let wrapper = ordinary::wrapper(&others);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let name = format!("CAP_{}", missing.to_uppercase());
        refused(&wrapper, &[])?.is(3, &["cannot count without", &name], true);
    }
    Ok(())
}
