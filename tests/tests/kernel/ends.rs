//! Connections that end in other ways than with a last answer: half closed, or reset in the middle.

use std::io::Read as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Connection, Request};
use sockmeter_tests::message::{Wire, number};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::run;
use sockmeter_tests::server::Counted;
use sockmeter_tests::tally::{Sides, Tally};
use sockmeter_tests::wait;

use crate::equal_books::balanced;
use crate::exact::{ended, exact, unattributed};

const BODY: u64 = 100_000;

/// Closing this socket resets the connection.
pub(crate) fn reset(stream: &TcpStream) -> Result<()> {
    Ok(setsockopt(stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?)
}

/// The head of an answer with a body of this many bytes.
fn answer(body: u64) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n").into_bytes()
}

/// Both ends at once, on a connection to port 8080.
fn between<A: Send, B: Send>(
    namespace: &Namespace,
    server: impl FnOnce(Wire) -> Result<A> + Send,
    client: impl FnOnce(Connection) -> Result<B> + Send,
) -> Result<(A, B)> {
    namespace.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:8080")?;
        let connection = Connection::on(TcpStream::connect("127.0.0.1:8080")?);
        let wire = Wire::new(listener.accept()?.0);
        thread::scope(|scope| {
            let serving = scope.spawn(|| server(wire));
            let asked = client(connection)?;
            Ok((serving.join().map_err(|_| anyhow!("the server panicked"))??, asked))
        })
    })
}

#[test]
fn half_closed_by_the_client() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let request = Request::post("/half/client", BODY);
    let serve = |mut wire: Wire| {
        let head = wire.head()?.context("no request")?;
        wire.skip(head.body)?;
        // The client is done before the answer begins.
        ensure!(wire.head()?.is_none(), "a second request");
        wire.write(&answer(BODY))?;
        wire.write_body(BODY)?;
        Ok([wire.received(), wire.sent()])
    };
    let ask = |mut connection: Connection| {
        connection.wire().write(&request.head())?;
        connection.wire().write_body(BODY)?;
        connection.wire().stream().shutdown(Shutdown::Write)?;
        connection.answer()?;
        ensure!(connection.wire().head()?.is_none(), "a second answer");
        Ok(connection.counted())
    };
    let (served, asked) = between(&namespace, serve, ask)?;
    assert_eq!(served, [asked.inbound, asked.outbound]);
    let mut clients = Tally::default();
    request.tally(&mut clients, "/half/client", asked, BODY);
    exact(&agent, &clients, asked)?;
    Ok(())
}

#[test]
fn half_closed_by_the_server() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let request = Request::post("/half/server", BODY);
    let serve = |mut wire: Wire| {
        let head = wire.head()?.context("no request")?;
        wire.skip(head.body / 2)?;
        // Answered in the middle of the upload, and nothing more will come.
        wire.write(&answer(BODY))?;
        wire.write_body(BODY)?;
        wire.stream().shutdown(Shutdown::Write)?;
        wire.skip(head.body - head.body / 2)?;
        ensure!(wire.head()?.is_none(), "a second request");
        Ok([wire.received(), wire.sent()])
    };
    let ask = |mut connection: Connection| {
        connection.wire().write(&request.head())?;
        connection.wire().write_body(BODY / 2)?;
        connection.answer()?;
        ensure!(connection.wire().head()?.is_none(), "a second answer");
        connection.wire().write_body(BODY / 2)?;
        Ok(connection.counted())
    };
    let (served, asked) = between(&namespace, serve, ask)?;
    assert_eq!(served, [asked.inbound, asked.outbound]);
    let mut clients = Tally::default();
    request.tally(&mut clients, "/half/server", asked, BODY);
    exact(&agent, &clients, asked)?;
    Ok(())
}

/// One exchange that ended unfinished, with these bytes of the answer.
fn unfinished(target: &str, sent: u64, received: u64, head: u64) -> (Tally, Counted) {
    let mut clients = Tally::default();
    let sides = Sides { inbound: sent, outbound: received, request_body: 0 };
    clients.add("GET", target, "200", sides, received - head);
    (clients, Counted { connections: 1, exchanges: 1, inbound: sent, outbound: received })
}

#[test]
fn reset_by_the_server_in_the_middle_of_an_answer() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let request = Request::get("/reset/server").head();
    let part = BODY / 3;
    let serve = |mut wire: Wire| {
        wire.head()?;
        wire.write(&answer(BODY))?;
        wire.write_body(part)?;
        // The client has it all: it says so.
        wire.skip(1)?;
        reset(wire.stream())
    };
    let ask = |mut connection: Connection| {
        let wire = connection.wire();
        wire.write(&request)?;
        wire.head()?;
        wire.skip(part)?;
        let received = wire.received();
        // The next request begins, and goes no further.
        wire.write(b"G")?;
        assert!(wire.head().is_err(), "no reset");
        Ok(received)
    };
    let ((), received) = between(&namespace, serve, ask)?;
    let (clients, mut all) = unfinished("/reset/server", number(request.len()), received, number(answer(BODY).len()));
    all.inbound += 1;
    let page = ended(&agent, all)?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    assert_eq!(unattributed(&page, "not_http"), [1, 0]);
    balanced(&page);
    Ok(())
}

#[test]
fn reset_by_the_client_in_the_middle_of_an_answer() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let request = Request::get("/reset/client").head();
    // Part of the answer, which the client has in its buffer and does not read.
    let serve = |mut wire: Wire| {
        wire.head()?;
        wire.write(&answer(BODY))?;
        wire.write_body(BODY / 5)?;
        let sent = wire.sent();
        crossed(&namespace, sent)?;
        Ok((sent, wire))
    };
    let ask = |mut connection: Connection| {
        connection.wire().write(&request)?;
        connection.wire().stream().read_exact(&mut [0; 17])?;
        Ok(connection)
    };
    let ((sent, wire), mut connection) = between(&namespace, serve, ask)?;
    reset(connection.wire().stream())?;
    drop(connection);
    drop(wire);
    let (clients, all) = unfinished("/reset/client", number(request.len()), sent, number(answer(BODY).len()));
    exact(&agent, &clients, all)?;
    Ok(())
}

/// Waits until the kernel says that the client has all of this.
fn crossed(namespace: &Namespace, sent: u64) -> Result<()> {
    let wanted = format!("bytes_acked:{sent}");
    wait::until("the acknowledgment", || {
        let said = run(namespace.command("ss").args(["-tinOH", "state", "established", "sport", "=", ":8080"]))?;
        Ok(said.split_whitespace().any(|word| word == wanted).then_some(()))
    })
}
