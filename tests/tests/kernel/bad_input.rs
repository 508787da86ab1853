//! Bad input and missing means: one sentence, a hint, the designed exit code, and nothing left attached.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{binary, pin_dir};
use sockmeter_tests::load::patience;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::{output, run};

/// Exit code and what it said on standard error.
pub(crate) struct Said {
    code: Option<i32>,
    text: String,
}

/// Runs the agent in its own namespace behind `wrapper`, with a pin directory that must not survive.
pub(crate) fn refused(wrapper: &[&str], arguments: &[&str]) -> Result<Said> {
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    // What is not refused would run on.
    let mut command = namespace.command("timeout");
    command.args(["--signal=KILL", &patience().as_secs().to_string()]).args(wrapper).arg(binary()).arg("run").args([
        "--listen",
        "127.0.0.1:0",
        "--scope",
        "netns",
    ]);
    command.arg("--pin-dir").arg(&pins).args(arguments);
    let output = output(&mut command)?;
    assert_eq!(pinned(&pins), Vec::<String>::new(), "pins were left behind");
    Ok(Said { code: output.status.code(), text: String::from_utf8_lossy(&output.stderr).into_owned() })
}

/// Links and maps below a pin directory.
fn pinned(pins: &Path) -> Vec<String> {
    let folders = [pins.join("links"), pins.join("maps")];
    let entries = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect()
}

impl Said {
    /// One sentence that has `words`, then a hint if there is to be one.
    pub(crate) fn is(&self, code: i32, words: &[&str], hint: bool) {
        assert_eq!(self.code, Some(code), "{}", self.text);
        let error = self.text.lines().find(|line| line.contains("error")).unwrap_or_default();
        for word in words {
            assert!(error.contains(word), "{word:?} is not in the error line of:\n{}", self.text);
        }
        assert_eq!(self.text.lines().any(|line| line.trim_start().starts_with("hint: ")), hint, "{}", self.text);
        assert!(!self.text.contains("panicked") && !self.text.contains("Stack backtrace"), "{}", self.text);
    }
}

#[test]
fn without_root() -> Result<()> {
    let wrapper = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps=-all"];
    refused(&wrapper, &[])?.is(3, &["cannot"], true);
    Ok(())
}

#[test]
fn without_a_capability() -> Result<()> {
    for missing in ["net_admin", "bpf", "perfmon"] {
        // CAP_SYS_ADMIN would do for each of them.
        let set = format!("--bounding-set=-{missing},-sys_admin");
        let name = format!("CAP_{}", missing.to_uppercase());
        refused(&["setpriv", &set], &[])?.is(3, &["cannot count without", &name], true);
    }
    Ok(())
}

#[test]
fn without_cgroup_v2() -> Result<()> {
    let hide = "umount -l /sys/fs/cgroup/unified 2>/dev/null || umount -l /sys/fs/cgroup; exec \"$@\"";
    refused(&["unshare", "--mount", "sh", "-c", hide, "sh"], &[])?.is(3, &["cgroup v2"], true);
    Ok(())
}

#[test]
fn without_btf() -> Result<()> {
    let hide = "mount -t tmpfs none /sys/kernel/btf; exec \"$@\"";
    refused(&["unshare", "--mount", "sh", "-c", hide, "sh"], &[])?.is(3, &["/sys/kernel/btf/vmlinux"], true);
    Ok(())
}

#[test]
fn without_a_bpffs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pins");
    let namespace = Namespace::new()?;
    let mut command = namespace.command("timeout");
    command
        .args(["--signal=KILL", &patience().as_secs().to_string()])
        .arg(binary())
        .args(["run", "--listen", "127.0.0.1:0", "--pin-dir"])
        .arg(&path);
    let output = output(&mut command)?;
    let said = Said { code: output.status.code(), text: String::from_utf8_lossy(&output.stderr).into_owned() };
    said.is(3, &["bpffs"], true);
    assert!(!path.exists());
    Ok(())
}

#[test]
fn a_port_that_is_taken() -> Result<()> {
    let namespace = Namespace::new()?;
    let listener = namespace.enter(|| Ok(std::net::TcpListener::bind("127.0.0.1:9464")?))?;
    let pins = pin_dir();
    let output = output(
        namespace.command(&binary().to_string_lossy()).args(["run", "--scope", "netns", "--pin-dir"]).arg(&pins),
    )?;
    let said = Said { code: output.status.code(), text: String::from_utf8_lossy(&output.stderr).into_owned() };
    said.is(1, &["127.0.0.1:9464"], true);
    assert_eq!(pinned(&pins), Vec::<String>::new());
    drop(listener);
    Ok(())
}

#[test]
fn wrong_configuration() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("sockmeter.toml");
    for (text, words) in [
        ("listne = \"127.0.0.1:1\"\n", &["listne", "sockmeter.toml"][..]),
        ("interface = 7\n", &["interface"]),
        ("log_level = \"loud\"\n", &["log_level", "loud"]),
        ("remote_write = \"no address\"\n", &["remote_write", "no address"]),
        ("[service.Scheduler]\nports = [80]\n", &["Scheduler"]),
        ("[service.a]\nports = [80]\n[service.b]\nports = [80]\n", &["80"]),
    ] {
        fs::write(&file, text)?;
        let said = refused(&[], &["--config", &file.to_string_lossy()])?;
        assert_eq!(said.code, Some(2), "{text}: {}", said.text);
        for word in words {
            assert!(said.text.contains(word), "{text}: {word:?} is not in:\n{}", said.text);
        }
    }
    let missing = folder.path().join("missing.toml");
    refused(&[], &["--config", &missing.to_string_lossy()])?.is(2, &["missing.toml"], true);
    Ok(())
}

#[test]
fn a_damaged_or_empty_kernel_object() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("object");
    for content in [&b""[..], b"not an object", b"\x7fELF\x02\x01\x01"] {
        fs::write(&file, content)?;
        let variable = format!("SOCKMETER_KERNEL_OBJECT={}", file.display());
        refused(&["env", &variable], &[])?.is(3, &["kernel"], true);
    }
    Ok(())
}

#[test]
fn two_agents_with_one_pin_directory() -> Result<()> {
    let namespace = Namespace::new()?;
    let first = sockmeter_tests::agent::Agent::start(&namespace, &[])?;
    let mut second = namespace.command(&binary().to_string_lossy());
    second.args(["run", "--listen", "127.0.0.1:0", "--scope", "netns", "--pin-dir"]).arg(first.pins());
    let output = output(&mut second)?;
    let said = Said { code: output.status.code(), text: String::from_utf8_lossy(&output.stderr).into_owned() };
    said.is(3, &["another sockmeter"], true);
    assert_eq!(first.scrape()?.get("scheduler_http_requests_total"), Some(0.0));
    Ok(())
}

#[test]
fn detach_leaves_nothing_behind() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = sockmeter_tests::agent::Agent::start(&namespace, &[])?;
    let pins = agent.pins().clone();
    let links = |pins: &Path| pinned(pins).len();
    let before = links(&pins);
    assert_eq!(agent.stop()?, Some(0));
    // `stop` detaches with the agent's end in tests; what it removed is what was there.
    assert!(before > 20, "only {before} pins");
    assert!(!pins.exists());
    let again = run(Command::new(binary()).arg("detach").arg("--pin-dir").arg(&pins))?;
    assert!(again.contains("nothing"), "{again}");
    Ok(())
}

#[test]
fn detach_leaves_what_somebody_else_put_there() -> Result<()> {
    let namespace = Namespace::new()?;
    let mut agent = sockmeter_tests::agent::Agent::start(&namespace, &[])?;
    let pins = agent.pins().clone();
    let foreign = pins.join("foreign");
    fs::create_dir(&foreign)?;
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    // Its own end would detach.
    std::mem::forget(agent);
    let maps = fs::read_dir(pins.join("maps"))?.count();
    let detach = || run(Command::new(binary()).arg("detach").arg("--pin-dir").arg(&pins));
    let left = format!("left {}: it is not ours\n", foreign.display());
    let said = detach()?;
    assert_eq!(said.lines().filter(|line| line.starts_with("removed map ")).count(), maps);
    assert!(said.ends_with(&left), "{said}");
    assert_eq!(fs::read_dir(&pins)?.count(), 1);
    assert_eq!(detach()?, format!("nothing to remove: nothing is pinned in {}\n{left}", pins.display()));
    fs::remove_dir(foreign)?;
    assert_eq!(detach()?, format!("removed directory {}\n", pins.display()));
    assert!(!pins.exists());
    Ok(())
}
