//! However bytes are sent, TCP carries the same: every way to send against what both ends counted.

use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Connection, Request};
use sockmeter_tests::message::{Wire, number};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::server::Counted;
use sockmeter_tests::tally::Tally;
use sockmeter_tests::ways::{WAYS, Way};

use crate::exact::exact;

/// Several segments of the largest size, and a piece.
const BODY: usize = 300_001;

/// Takes one request, and answers it by `way`.
fn serve(listener: &TcpListener, way: Way) -> Result<Counted> {
    let mut wire = Wire::new(listener.accept()?.0);
    let request = wire.head()?.context("no request")?;
    wire.skip(request.body)?;
    wire.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n").as_bytes())?;
    (way.send)(wire.stream(), &vec![b'a'; BODY])?;
    assert!(wire.head()?.is_none());
    Ok(Counted { connections: 1, exchanges: 1, inbound: wire.received(), outbound: wire.sent() + number(BODY) })
}

/// Posts by `way`.
fn ask(listener: &TcpListener, way: Way) -> Result<Counted> {
    let mut connection = Connection::on(TcpStream::connect(listener.local_addr()?)?);
    let head = Request::post(&format!("/{}", way.name), number(BODY)).head();
    connection.wire().write(&head)?;
    (way.send)(connection.wire().stream(), &vec![b'b'; BODY])?;
    assert_eq!(connection.answer()?, number(BODY));
    let counted = connection.counted();
    Ok(Counted { inbound: counted.inbound + number(BODY), ..counted })
}

#[test]
fn every_way_to_send_is_counted_to_the_byte() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let (mut clients, mut all) = (Tally::default(), Counted::default());
    namespace.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:8080")?;
        for way in WAYS {
            let (served, asked) = thread::scope(|scope| {
                let serving = scope.spawn(|| serve(&listener, way));
                let asked = ask(&listener, way).with_context(|| format!("cannot send by {}", way.name));
                let served = serving.join().map_err(|_| anyhow!("the server of {} panicked", way.name))?;
                Ok::<_, anyhow::Error>((served?, asked?))
            })?;
            assert_eq!(served, asked, "server and client by {}", way.name);
            let request = Request::post(&format!("/{}", way.name), number(BODY));
            request.tally(&mut clients, &format!("/{}", way.name), asked, number(BODY));
            all += asked;
        }
        Ok(())
    })?;
    exact(&agent, &clients, all)?;
    Ok(())
}
