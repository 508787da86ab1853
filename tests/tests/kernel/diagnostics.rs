//! What the kernel programs say of themselves: nothing by default, each observed connection at the level `debug`.

use anyhow::Result;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::namespace::Namespace;

const SAID: &str = "connection to port 8080 is observed as service 0";

/// The agent's log after one connection.
fn log(arguments: &[&str]) -> Result<String> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, arguments)?;
    let _server = chunked_server(&namespace, 8080)?;
    let posts = Step { method: "POST", target: "/jobs".to_owned(), body: 512, ..Step::default() };
    play(&namespace, "127.0.0.1", 8080, &[vec![posts]])?;
    agent.scrape_until("the exchange", |page| page.get("scheduler_http_requests_total") == Some(1.0))?;
    agent.scrape()?;
    agent.log()
}

#[test]
fn the_programs_are_silent_unless_asked() -> Result<()> {
    assert_eq!(log(&[])?.matches(SAID).count(), 0);
    assert_eq!(log(&["--log-level", "debug"])?.matches(SAID).count(), 1);
    Ok(())
}
