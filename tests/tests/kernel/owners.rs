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

/// Runs `code` in a job `first`, with `other()` to enter the job `second`, and what the client does meanwhile; the agent
/// reads nothing before the end. Answers the page then: where the port is nobody's, and where it is that of an observed service.
fn handed_over(name: &str, code: &str, client: impl Fn(TcpStream) -> Result<()> + Sync) -> Result<[Page; 2]> {
    Ok([served(&format!("{name}-0"), 0, code, &client)?, served(&format!("{name}-8080"), 8080, code, &client)?])
}

/// See `handed_over`.
fn served(name: &str, port: u16, code: &str, client: impl Fn(TcpStream) -> Result<()> + Sync) -> Result<Page> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified(name)?;
    cgroup.make("ffrtmp/second")?;
    let mut agent = Agent::start(&namespace, &[])?;
    agent.process().stop()?;
    let code = format!(
        "import signal\n\
         def other(): open(sys.argv[1] + '/../second/cgroup.procs', 'w').write(str(os.getpid()))\n\
         enter(); l = socket.create_server(('127.0.0.1', {port})); say(l.getsockname()[1])\n\
         {code}"
    );
    let mut script = Script::start(&namespace, &cgroup.make("ffrtmp/first")?, &code)?;
    let port: u16 = script.line()?.parse()?;
    namespace.enter(|| client(TcpStream::connect(("127.0.0.1", port))?))?;
    script.end()?;
    agent.process().signal(Signal::SIGCONT)?;
    let closed = [("role", "server"), ("protocol", "tcp")];
    agent.scrape_until("the socket's end", |page| page.sum("sockmeter_sockets_closed_total", &closed) == 1.0)
}

/// The bytes of the two jobs, which are all that crossed.
fn both(page: &Page) -> [[f64; 2]; 2] {
    ["first", "second"].map(|name| job(page, name))
}

/// What is accepted from a listener that somebody else made (socket activation, a server that forks) is theirs who serve it.
#[test]
fn what_is_accepted_is_theirs_who_serve_it() -> Result<()> {
    let code = "if os.fork() == 0:\n    other(); c, _ = l.accept(); n = len(c.recv(1 << 20, socket.MSG_WAITALL))\n    \
                c.sendall(b'x' * 2 * n); c.close(); os._exit(0)\nos.wait()";
    let pages = handed_over("serves", code, |mut client| {
        client.write_all(&[1; 5_000])?;
        client.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)?;
        assert_eq!(answer.len(), 10_000);
        Ok(())
    })?;
    assert_eq!(pages.each_ref().map(both), [[[0.0; 2], [5_000.0, 10_000.0]]; 2]);
    Ok(())
}

/// A process that only receives is told by its end, also if that is a violent one.
#[test]
fn what_a_process_received_that_never_sent_is_its_own() -> Result<()> {
    let code = "p = os.fork()\nif p == 0:\n    other(); c, _ = l.accept(); c.recv(5000, socket.MSG_WAITALL)\n    \
                os.kill(os.getpid(), signal.SIGKILL)\nos.waitpid(p, 0)";
    let pages = handed_over("receives", code, |mut client| {
        client.write_all(&[1; 5_000])?;
        // An end of either kind.
        let _ = client.read_to_end(&mut Vec::new());
        Ok(())
    })?;
    assert_eq!(pages.each_ref().map(both), [[[0.0; 2], [5_000.0, 0.0]]; 2]);
    Ok(())
}

/// A process that only receives is told by that too, if another one ends the connection: it tells the other end that there is room
/// again.
#[test]
fn what_a_process_received_is_its_own_though_another_one_closes() -> Result<()> {
    let code = "l.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192); c, _ = l.accept()\n\
                p = os.fork()\nif p == 0:\n    other(); n = len(c.recv(1 << 20, socket.MSG_WAITALL))\n    \
                os._exit(n != 1 << 20)\nassert os.waitpid(p, 0)[1] == 0; c.close()";
    let pages = handed_over("reads", code, |mut client| {
        client.write_all(&vec![1; 1 << 20])?;
        let _ = client.read_to_end(&mut Vec::new());
        Ok(())
    })?;
    assert_eq!(pages.each_ref().map(both), [[[0.0; 2], [1_048_576.0, 0.0]]; 2]);
    Ok(())
}

/// A connection that one job began to serve and another one goes on with: each has what crossed while it was the one that
/// used it.
#[test]
fn a_connection_that_is_passed_on_is_whose_turn_it_is() -> Result<()> {
    let code = "ours, theirs = socket.socketpair()\n\
                if os.fork() == 0:\n    other(); _, [d], _, _ = socket.recv_fds(theirs, 1, 1); c = socket.socket(fileno=d)\n    \
                c.sendall(b'y' * 700); c.recv(50, socket.MSG_WAITALL); c.close(); os._exit(0)\n\
                c, _ = l.accept(); c.recv(5000, socket.MSG_WAITALL); c.sendall(b'x' * 300)\n\
                socket.send_fds(ours, [b'c'], [c.fileno()]); c.close(); os.wait()";
    let pages = handed_over("passes", code, two_turns)?;
    assert_eq!(pages.each_ref().map(both), [[[5_000.0, 300.0], [50.0, 700.0]]; 2]);
    Ok(())
}

/// The same in the middle of a long answer, and back again: the second process begins when the client has all of the first one's.
#[test]
fn an_answer_that_is_passed_on_is_whose_turn_it_is() -> Result<()> {
    let code = "def turn(byte): c.recv(1); c.sendall(byte * 30000)\n\
                c, _ = l.accept(); c.recv(5000, socket.MSG_WAITALL)\n\
                c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 90001\\r\\n\\r\\n'); turn(b'x')\n\
                p = os.fork()\nif p == 0: other(); turn(b'y'); os._exit(0)\n\
                os.waitpid(p, 0); turn(b'z'); c.recv(1); c.sendall(b'.'); c.close()";
    let pages = handed_over("answers", code, |mut client| {
        let head = b"GET /long HTTP/1.1\r\nContent-Length: 4956\r\n\r\n";
        client.write_all(head)?;
        client.write_all(&[1; 4_956])?;
        let mut answered = [0; 42];
        client.read_exact(&mut answered)?;
        for _ in 0..3 {
            client.write_all(b"!")?;
            client.read_exact(&mut vec![0; 30_000])?;
        }
        client.write_all(b"!")?;
        client.read_to_end(&mut Vec::new())?;
        Ok(())
    })?;
    assert_eq!(pages.each_ref().map(both), [[[5_003.0, 60_043.0], [1.0, 30_000.0]]; 2]);
    Ok(())
}

/// What a client does that is served by two: 5,000 bytes for 300 of the first one, and 50 when the second one has sent its 700.
fn two_turns(mut client: TcpStream) -> Result<()> {
    client.write_all(&[1; 5_000])?;
    client.read_exact(&mut [0; 1_000])?;
    client.write_all(&[2; 50])?;
    client.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A process that has the id of an earlier one is not that: neither its bytes nor its name are.
#[test]
fn a_process_with_the_id_of_an_earlier_one_is_another_one() -> Result<()> {
    // The kernel gives the id behind this one out next (proc(5), `ns_last_pid`), unless somebody else begins just then.
    let code = "def begin(name, wanted=None):\n    \
                for _ in range(10000):\n        \
                if wanted: open('/proc/sys/kernel/ns_last_pid', 'w').write(str(wanted - 1))\n        \
                p = os.fork()\n        \
                if p == 0 and wanted in (None, os.getpid()): open('/proc/self/comm', 'w').write(name); return p\n        \
                if p == 0: os._exit(0)\n        \
                os.waitpid(p, 0)\n        \
                if wanted in (None, p): return p\n    \
                sys.exit('the id was not to be had')\n\
                c, _ = l.accept()\n\
                earlier = begin('earlier')\n\
                if earlier == 0: other(); c.recv(5000, socket.MSG_WAITALL); c.sendall(b'x' * 300); os._exit(0)\n\
                if begin('later', earlier) == 0: c.sendall(b'y' * 700); c.recv(50, socket.MSG_WAITALL); os._exit(0)";
    let pages = handed_over("reused", code, two_turns)?;
    for page in pages {
        assert_eq!(both(&page), [[50.0, 700.0], [5_000.0, 300.0]]);
        let named = ["later", "earlier"].map(|name| {
            let process = [("process", name), ("role", "server")];
            ["receive", "transmit"].map(|way| page.sum(&format!("sockmeter_socket_{way}_bytes_total"), &process))
        });
        assert_eq!(named, both(&page));
    }
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
