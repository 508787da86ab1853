//! Whose an accepted connection is: theirs who use it, from one process to the next; with and without a service observed on its port.
//! Whose it is before anybody uses it, and whose others are, is in `owners`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::Result;
use nix::sys::signal::Signal;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::cgroup::Cgroup;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;

use crate::owners::{Script, job};

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
