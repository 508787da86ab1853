//! Python's `http.server` with chunked answers (extensions, trailers) and close-delimited ones: the client's own counts
//! are the truth.

use anyhow::Result;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::load::load;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::tally::Tally;

use crate::equal_books::agrees;

fn endpoint(target: &str) -> &str {
    match target.split('/').nth(1) {
        Some("chunked") => "/chunked/{id}/{id}",
        Some("closed") => "/closed/{id}",
        Some("nothing") => "unmatched",
        _ => target,
    }
}

#[test]
fn chunked_and_close_delimited_answers_equal_the_clients_count() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &[])?;
    let _server = chunked_server(&namespace, 8080)?;
    let get = |target: &str| Step { method: "GET", target: target.to_owned(), ..Step::default() };
    let connection = vec![
        Step { repeat: load(20), ..get("/chunked/1000/100") },
        Step { repeat: load(5), ..get("/chunked/200000/4096") },
        Step { repeat: load(3), ..get("/chunked/5000/1") },
        get(&format!("/chunked/{}/65536", load(10_000_000))),
        Step { repeat: load(5), ..get("/chunked/1000/100") },
        Step { repeat: load(5), ..get("/chunked/210000/70000") },
        Step { repeat: load(5), ..get("/chunked/1000/100") },
        Step { repeat: load(5), ..get("/nothing/here") },
        Step { repeat: load(5), method: "HEAD", ..get("/nothing/here") },
        Step { method: "POST", body: 70_000, chunk: 333, repeat: load(5), ..get("/jobs") },
        Step { repeat: load(3), close: true, ..get("/closed/54321") },
        Step { repeat: load(3), close: true, ..get("/closed/0") },
    ];
    let mut clients = Tally::default();
    // Over IPv6 what leaves in one piece may be more than 64 KiB, and has a header in front of TCP's then.
    for host in ["127.0.0.1", "::1"] {
        for count in &play(&namespace, host, 8080, &vec![connection.clone(); load(10)])? {
            count.tally(&mut clients, endpoint(&count.target));
        }
    }
    agrees(|| agent.scrape(), &clients)
}
