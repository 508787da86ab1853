//! Whose a socket is: the listener's, if it was accepted; whoever connects or has it open, if it is older; and what becomes of
//! names that somebody chose to break the page.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::cgroup::Cgroup;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::process::Process;

use crate::jobs::balanced_page;

/// A Python process; it says a line when it is where the test wants it.
pub(crate) struct Script {
    process: Process,
    says: BufReader<ChildStdout>,
}

impl Script {
    /// Runs `code`, in which `enter()` enters the cgroup.
    pub(crate) fn start(namespace: &Namespace, cgroup: &Path, code: &str) -> Result<Self> {
        let enter = "import os, socket, sys\n\
                     def enter(): open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))\n\
                     def say(*words): print(*words, flush=True)\n";
        let mut command: Command = namespace.command("python3");
        command.arg("-c").arg([enter, code].concat()).arg(cgroup).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let says = BufReader::new(process.output().context("no output")?);
        Ok(Self { process, says })
    }

    pub(crate) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.says.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn end(mut self) -> Result<()> {
        ensure!(self.process.wait()?.success(), "the script failed");
        Ok(())
    }
}

/// `[received, sent]` of a job.
pub(crate) fn job(page: &Page, job: &str) -> [f64; 2] {
    ["receive", "transmit"].map(|way| page.sum(&format!("sockmeter_job_{way}_bytes_total"), &[("job", job)]))
}

/// A listener that a job made gives the job what is accepted from it, also over another process' thread.
#[test]
fn what_a_listener_accepts_is_the_listeners() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("accepts")?;
    let agent = Agent::start(&namespace, &[])?;
    let code = "enter(); l = socket.create_server(('127.0.0.1', 0)); say(l.getsockname()[1]); c, _ = l.accept()\n\
                n = len(c.recv(1 << 20, socket.MSG_WAITALL)); c.sendall(b'x' * 2 * n); c.close()";
    let mut script = Script::start(&namespace, &cgroup.make("ffrtmp/server")?, code)?;
    let port: u16 = script.line()?.parse()?;
    namespace.enter(|| {
        let mut client = TcpStream::connect(("127.0.0.1", port))?;
        client.write_all(&[1; 5_000])?;
        client.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)?;
        assert_eq!(answer.len(), 10_000);
        Ok(())
    })?;
    script.end()?;
    let page = agent.scrape_until("the job's bytes", |page| job(page, "server") != [0.0; 2])?;
    assert_eq!(job(&page, "server"), [5_000.0, 10_000.0]);
    Ok(())
}

/// A socket that was made outside is the job's that connects it; and of two processes with the same socket it is the one
/// that made it.
#[test]
fn a_socket_is_theirs_who_connect_it() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("connects")?;
    let agent = Agent::start(&namespace, &[])?;
    let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let code = format!(
        "s = socket.socket(); enter(); s.connect(('127.0.0.1', {})); s.sendall(b'x' * 3000)\n\
         if os.fork() == 0: s.sendall(b'y' * 400)\n\
         else: os.wait()",
        listener.local_addr()?.port()
    );
    let script = Script::start(&namespace, &cgroup.make("ffrtmp/client")?, &code)?;
    let mut received = Vec::new();
    listener.accept()?.0.read_to_end(&mut received)?;
    script.end()?;
    assert_eq!(received.len(), 3_400);
    let page = agent.scrape_until("the job's bytes", |page| job(page, "client") != [0.0; 2])?;
    assert_eq!(job(&page, "client"), [0.0, 3_400.0]);
    Ok(())
}

/// What an older socket carries from the agent's start on is the job's that has it open.
#[test]
fn an_older_socket_is_theirs_who_have_it_open() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("older")?;
    let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let code = format!(
        "open('/proc/self/comm', 'w').write('elder'); enter()\n\
         s = socket.create_connection(('127.0.0.1', {})); s.sendall(b'x' * 1000); s.recv(1); s.sendall(b'x' * 70)",
        listener.local_addr()?.port()
    );
    let script = Script::start(&namespace, &cgroup.make("ffrtmp/older")?, &code)?;
    let mut accepted = listener.accept()?.0;
    accepted.read_exact(&mut [0; 1_000])?;
    let agent = Agent::start(&namespace, &[])?;
    accepted.write_all(b"!")?;
    accepted.read_to_end(&mut Vec::new())?;
    drop(accepted);
    script.end()?;
    let page = agent.scrape_until("the job's bytes", |page| job(page, "older")[1] != 0.0)?;
    assert_eq!(job(&page, "older"), [1.0, 70.0]);
    let process = [("process", "elder"), ("role", "client")];
    assert_eq!(page.sum("sockmeter_socket_transmit_bytes_total", &process), 70.0);
    Ok(())
}

/// A socket that goes on long after its job's cgroup went, when even the name of that is forgotten: its bytes are the job's,
/// the job has ended all the same, and both are so for the next agent.
#[test]
fn what_is_left_of_a_dead_job_is_its_own_also_when_its_name_is_forgotten() -> Result<()> {
    const NAMES: usize = 2_000;
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("remains")?;
    let (home, folder) = (cgroup.make("ffrtmp/dead")?, tempfile::tempdir()?);
    cgroup.make("elsewhere")?;
    let file = folder.path().join("sockmeter.toml");
    std::fs::write(&file, format!("[kernel]\ncgroups = {NAMES}\n"))?;
    let (file, pins) = (file.to_string_lossy().into_owned(), pin_dir());
    let mut agent = Agent::start_pinned(&namespace, &["--config", &file], pins.clone())?;
    let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let code = format!(
        "enter(); s = socket.create_connection(('127.0.0.1', {})); s.sendall(b'x' * 100)\n\
         open(sys.argv[1] + '/../../elsewhere/cgroup.procs', 'w').write('0'); say('out')\n\
         while s.recv(1): s.sendall(b'x' * 1000)",
        listener.local_addr()?.port()
    );
    let mut script = Script::start(&namespace, &home, &code)?;
    let mut peer = listener.accept()?.0;
    peer.read_exact(&mut [0; 100])?;
    assert_eq!(script.line()?, "out");
    std::fs::remove_dir(&home)?;
    // Told so once its slot was given back: nothing of it is left but what was taken.
    let given_back = |agent: &Agent<'_>, sent: u32| -> Result<()> {
        let page = agent.scrape_until("the slot to be given back", |page| {
            job(page, "dead")[1] == f64::from(sent) && page.get("sockmeter_map_entries{map=\"places\"}") == Some(1.0)
        })?;
        balanced_page(&page);
        let table: serde_json::Value = serde_json::from_str(&agent.get("/api/v1/jobs?job=dead")?)?;
        assert_eq!(table["jobs"][0]["ended"], true, "{table}");
        Ok(())
    };
    given_back(&agent, 100)?;
    // As many dead names as make it forget them all.
    for number in 0..=NAMES / 2 {
        std::fs::remove_dir(cgroup.make(&number.to_string())?)?;
    }
    agent.scrape()?;
    for sent in [1_100, 2_100] {
        peer.write_all(b"!")?;
        peer.read_exact(&mut [0; 1_000])?;
        given_back(&agent, sent)?;
    }
    agent.process().signal(Signal::SIGKILL)?;
    agent.process().wait()?;
    std::mem::forget(agent);
    let agent = Agent::start_pinned(&namespace, &["--config", &file], pins)?;
    given_back(&agent, 2_100)?;
    drop(peer);
    script.end()
}

/// Names with quotes, line ends and bytes that are no text, as long as the kernel takes them: the page stays a page.
#[test]
fn hostile_names_are_escaped_or_refused() -> Result<()> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("hostile")?;
    let agent = Agent::start(&namespace, &[])?;
    // Fifteen levels of 255 bytes, 4 KiB in all. The kernel refuses line ends in these names.
    let mut below = cgroup.path().to_path_buf();
    for _ in 0..15 {
        below.push(OsStr::from_bytes(&[b"\"} 1\t\\\xff", [b'a'; 240].as_slice(), b".service"].concat()));
    }
    std::fs::create_dir_all(&below)?;
    let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let code = format!(
        "os.chdir(sys.argv[1]); open('/proc/self/comm', 'wb').write(b'a\"b\\n\\\\c\\xff'); open('cgroup.procs', 'w').write('0')\n\
         socket.create_connection(('127.0.0.1', {})).sendall(b'x' * 50)",
        listener.local_addr()?.port()
    );
    // The path is too long to be opened by: each level by itself.
    let code = code.replace(
        "os.chdir(sys.argv[1])",
        "os.chdir(os.fsencode(sys.argv[1]))\nfor _ in range(15): os.chdir([e for e in os.scandir(b'.') if e.is_dir()][0].name)",
    );
    let script = Script::start(&namespace, cgroup.path(), &code)?;
    listener.accept()?.0.read_to_end(&mut Vec::new())?;
    script.end()?;
    let unit = format!("\\\"}} 1\t\\\\\u{fffd}{}", "a".repeat(128 - 9));
    let wanted = format!(
        "sockmeter_container_transmit_bytes_total{{container=\"\",pod=\"\",namespace=\"\",unit=\"{unit}\"}} 50"
    );
    let page = agent
        .scrape_until("the unit's bytes", |page| page.text().contains("sockmeter_container_transmit_bytes_total{"))?;
    let found: Vec<&str> =
        page.text().lines().filter(|line| line.starts_with("sockmeter_container_transmit_bytes_total{")).collect();
    assert_eq!(found, [wanted]);
    let process = "process=\"a\\\"b\\n\\\\c\u{fffd}\"} 50";
    assert_eq!(page.text().matches(process).count(), 1, "{}", page.text());
    let table: serde_json::Value = serde_json::from_str(&agent.get("/api/v1/jobs")?)?;
    assert_eq!(table["jobs"], serde_json::json!([]));
    assert_eq!(table["total"], serde_json::json!(0));
    Ok(())
}
