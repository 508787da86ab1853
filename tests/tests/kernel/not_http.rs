//! What is not HTTP, half of it, or something else later: its bytes stand under their reason, and the ledger balances.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use anyhow::Result;
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left};
use sockmeter_tests::client::chunked_server;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::nginx::Nginx;
use sockmeter_tests::page::Page;

/// Sends `say`, closes the sending side if `half`, and gives what came back until the end.
fn talk(say: &[u8], half: bool) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect("127.0.0.1:8080")?;
    stream.write_all(say)?;
    if half {
        stream.shutdown(Shutdown::Write)?;
    }
    let mut heard = Vec::new();
    // A reset after the answer is one way to end.
    let _ = stream.read_to_end(&mut heard);
    Ok(heard)
}

fn settled(agent: &Agent<'_>, exchanges: f64) -> Result<Page> {
    agent.scrape_until("the end of the connections", |page| {
        only_the_scrape_is_left(page)
            && page.sum("sockmeter_sockets_closed_total", &[("protocol", "tcp"), ("role", "server")]) >= 1.0
            && page.sum("scheduler_http_exchanges_total", &[]) == exchanges
    })
}

fn unattributed(page: &Page, direction: &str, reason: &str) -> f64 {
    page.sum("scheduler_http_unattributed_bytes_total", &[("direction", direction), ("reason", reason)])
}

fn stream(page: &Page, direction: &str) -> f64 {
    page.sum("sockmeter_service_stream_bytes_total", &[("direction", direction)])
}

fn length(bytes: &[u8]) -> Result<f64> {
    Ok(f64::from(u32::try_from(bytes.len())?))
}

#[test]
fn garbage_and_tls_go_to_their_reason() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let _server = chunked_server(&namespace, 8080)?;
    let garbage = b"this is not HTTP\r\n\r\n";
    let heard = namespace.enter(|| talk(garbage, true))?;
    // A TLS 1.2 ClientHello's first bytes (RFC 8446 section 5.1), cut off.
    let hello = [0x16, 0x03, 0x01, 0x00, 0x05, 1, 0, 0, 1, 0];
    let answered = namespace.enter(|| talk(&hello, true))?;
    let page = settled(&agent, 0.0)?;
    assert_eq!(unattributed(&page, "inbound", "not_http"), length(garbage)?);
    assert_eq!(unattributed(&page, "inbound", "tls"), length(&hello)?);
    assert_eq!(unattributed(&page, "outbound", "not_http"), length(&heard)?);
    assert_eq!(unattributed(&page, "outbound", "tls"), length(&answered)?);
    assert_eq!(stream(&page, "inbound"), length(garbage)? + length(&hello)?);
    assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    assert_eq!(page.get("scheduler_http_requests_total"), Some(0.0));
    Ok(())
}

#[test]
fn half_a_head_is_no_exchange() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    // nginx closes without an answer; Python takes the end of the stream for the end of the head.
    let _server = Nginx::start(&namespace, &[])?;
    let half = b"GET /nothing HTTP/1.1\r\nHost: x";
    namespace.enter(|| talk(half, true))?;
    let page = settled(&agent, 0.0)?;
    assert_eq!(stream(&page, "inbound"), length(half)?);
    assert_eq!(unattributed(&page, "inbound", "not_http"), length(half)?);
    assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    Ok(())
}

#[test]
fn an_upgrade_is_an_exchange_and_what_follows_is_not() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let _server = chunked_server(&namespace, 8080)?;
    let head = b"GET /upgrade HTTP/1.1\r\nHost: x\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";
    let frames = b"GET /not/a/request HTTP/1.1\r\n\r\n";
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n";
    namespace.enter(|| {
        let mut stream = TcpStream::connect("127.0.0.1:8080")?;
        stream.write_all(head)?;
        let mut heard = vec![0; answer.len()];
        stream.read_exact(&mut heard)?;
        assert_eq!(heard, answer.as_bytes());
        stream.write_all(frames)?;
        let mut echoed = vec![0; frames.len()];
        stream.read_exact(&mut echoed)?;
        assert_eq!(echoed, frames);
        Ok(())
    })?;
    let page = settled(&agent, 1.0)?;
    let exchange = r#"scheduler_http_exchanges_total{endpoint="/upgrade",method="GET",status="101"}"#;
    assert_eq!(page.get(exchange), Some(1.0));
    let wire =
        |direction| page.sum("scheduler_http_wire_bytes_total", &[("direction", direction), ("endpoint", "/upgrade")]);
    assert_eq!(wire("inbound"), length(head)?);
    assert_eq!(wire("outbound"), length(answer.as_bytes())?);
    assert_eq!(unattributed(&page, "inbound", "upgraded"), length(frames)?);
    assert_eq!(unattributed(&page, "outbound", "upgraded"), length(frames)?);
    assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    Ok(())
}

#[test]
fn a_client_that_goes_away_counts_with_what_crossed() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let _server = chunked_server(&namespace, 8080)?;
    let begun = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nonly this";
    namespace.enter(|| {
        let mut stream = TcpStream::connect("127.0.0.1:8080")?;
        stream.write_all(begun)?;
        Ok(())
    })?;
    let page = agent.scrape_until("the exchange", |page| page.sum("scheduler_http_exchanges_total", &[]) == 1.0)?;
    assert_eq!(page.sum("scheduler_http_exchanges_total", &[("endpoint", "/jobs"), ("method", "POST")]), 1.0);
    assert_eq!(page.get(r#"scheduler_http_request_bytes_total{endpoint="/jobs",method="POST"}"#), Some(9.0));
    assert_eq!(page.sum("scheduler_http_wire_bytes_total", &[("direction", "inbound")]), length(begun)?);
    assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    Ok(())
}

#[test]
fn an_early_answer_to_an_unfinished_upload_is_one_exchange() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let _server = chunked_server(&namespace, 8080)?;
    let begun = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nsome of it";
    namespace.enter(|| talk(begun, false))?;
    let page = settled(&agent, 1.0)?;
    assert_eq!(page.get(r#"scheduler_http_exchanges_total{endpoint="/early",method="POST",status="413"}"#), Some(1.0));
    assert_eq!(
        page.get(r#"scheduler_http_response_bytes_total{endpoint="/early",method="POST",status="413"}"#),
        Some(5.0)
    );
    assert_eq!(page.get(r#"scheduler_http_request_bytes_total{endpoint="/early",method="POST"}"#), Some(10.0));
    assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    Ok(())
}
