//! Network namespaces other than the agent's own: in scope by default, out of it with `--scope netns`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::Result;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::namespace::Namespace;

/// A port that no other test uses: in host scope the agent sees them all.
const PORT: u16 = 18_471;

#[test]
fn a_service_in_another_namespace_is_observed_in_host_scope_only() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let _server = chunked_server(&there, PORT)?;
    let service = format!("elsewhere={PORT}");
    let all = Agent::start(&here, &["--scope", "host", "--service", &service])?;
    let own = Agent::start(&here, &["--scope", "netns", "--service", &service])?;
    let posts = Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat: 5, ..Step::default() };
    play(&there, "127.0.0.1", PORT, &[vec![posts]])?;
    let page = all.scrape_until("the exchanges", |page| page.get("elsewhere_http_requests_total") == Some(5.0))?;
    assert_eq!(page.get(r#"elsewhere_http_request_bytes_total{endpoint="/jobs",method="POST"}"#), Some(2560.0));
    assert_eq!(own.scrape()?.get("elsewhere_http_requests_total"), Some(0.0));
    Ok(())
}

#[test]
fn a_live_connection_in_another_namespace_is_read_at_every_scrape() -> Result<()> {
    const PORT: u16 = 18_472;
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let _server = chunked_server(&there, PORT)?;
    let service = format!("elsewhere={PORT}");
    let agent = Agent::start(&here, &["--scope", "host", "--service", &service])?;
    let request = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let mut connection = there.enter(|| Ok(TcpStream::connect(("127.0.0.1", PORT))?))?;
    let mut sent = 0.0;
    for exchanges in [1.0, 2.0, 3.0] {
        connection.write_all(request)?;
        sent += f64::from(u32::try_from(request.len())?);
        let mut head = [0; 17];
        connection.read_exact(&mut head)?;
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\n");
        let mut rest = Vec::new();
        let mut byte = [0];
        while !rest.ends_with(&[b'a'; 256]) {
            connection.read_exact(&mut byte)?;
            rest.push(byte[0]);
        }
        // Open all the while: nothing but the scrape itself can have told.
        let page = agent.scrape()?;
        assert_eq!(page.sum("elsewhere_http_exchanges_total", &[("endpoint", "/jobs")]), exchanges);
        let stream =
            page.sum("sockmeter_service_stream_bytes_total", &[("service", "elsewhere"), ("direction", "inbound")]);
        assert_eq!(stream, sent);
        assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    }
    Ok(())
}
