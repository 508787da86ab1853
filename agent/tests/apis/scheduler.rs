//! Polls of a scheduler's API over real sockets: whom it believes over TLS, its token, an API that hangs, and 80,000 jobs.
//! What the lists come to is tested in `model::jobs`, the page in the kernel tests.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sockmeter::api::PollError;
use sockmeter::config::Api;
use sockmeter::model::jobs::{Job, Tally};
use sockmeter::scheduler::{Access, Sink};

use crate::server::{Said, listener, ok, self_signed, serve, tls};

const JOBS: &str = r#"{"count":1,"jobs":[{"id":"1","status":"running"}]}"#;
const NODES: &str = r#"{"count":0,"nodes":null}"#;

#[derive(Default)]
struct Counting(Tally);

impl Sink for Counting {
    fn job(&mut self, job: &Job) {
        self.0.job(job);
    }

    fn node(&mut self, status: Option<&str>) {
        self.0.node(status);
    }
}

fn poll(access: &Access) -> (Result<u64, PollError>, Tally, Vec<(SocketAddr, bool)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut said, sink) = (Said::default(), Arc::new(Mutex::new(Counting::default())));
    let result = runtime.block_on(access.poll(&mut said, &sink));
    drop(runtime);
    let tally = std::mem::take(&mut sink.lock().unwrap().0);
    (result, tally, said.0)
}

fn access(url: &str, ca: Option<&Path>, token: Option<&Path>) -> Access {
    let (token_file, ca) = (token.map(PathBuf::from), ca.map(PathBuf::from));
    Access::new(&Api { key: "scheduler_api", url: url.parse().unwrap(), token_file, ca }).unwrap()
}

/// Whether a client that believes `believed` gets the lists from a server that shows `shown`.
fn believes(believed: &str, shown: &str, key: &KeyPair) -> bool {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), believed).unwrap();
    let (listener, port) = listener();
    let serving = serve(listener, Some(tls(shown, key)), vec![ok(JOBS), ok(NODES)]);
    let (result, tally, _) = poll(&access(&format!("https://localhost:{port}"), Some(file.path()), None));
    serving.join().unwrap();
    assert_eq!(tally.active, u64::from(result.is_ok()), "{result:?}");
    result.is_ok()
}

#[test]
fn a_pinned_certificate_is_believed_whatever_its_name_and_no_other() {
    let ((ours, key), (other, other_key)) = (self_signed(), self_signed());
    assert!(believes(&ours, &ours, &key));
    assert!(!believes(&ours, &other, &other_key));
    assert!(believes(&format!("{other}{ours}"), &ours, &key));
}

#[test]
fn an_authority_is_believed_for_the_host_that_was_asked_only() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    for (name, wanted) in [("localhost", true), ("elsewhere", false)] {
        let key = KeyPair::generate().unwrap();
        let signed = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        assert_eq!(believes(&authority.pem(), &signed.pem(), &key), wanted, "{name}");
    }
}

#[test]
fn the_token_of_the_file_goes_with_both_requests_and_nothing_else_is_asked() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "s3cret\n").unwrap();
    let (listener, port) = listener();
    let serving = serve(listener, None, vec![ok(JOBS), ok(NODES)]);
    let (result, tally, said) = poll(&access(&format!("http://127.0.0.1:{port}/base/"), None, Some(file.path())));
    let (heads, peer) = serving.join().unwrap();
    result.unwrap();
    assert_eq!((tally.active, tally.nodes.total()), (1, 0));
    let head = |path: &str| {
        format!(
            "GET /base{path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: application/json\r\n\
             user-agent: sockmeter/{}\r\nauthorization: Bearer s3cret\r\n\r\n",
            env!("CARGO_PKG_VERSION")
        )
    };
    assert_eq!(heads, [head("/jobs"), head("/nodes")]);
    // Where the server saw it come from is where it was said to come from.
    assert_eq!(said, [(peer, false), (peer, true)]);
}

/// The answer with this body.
type Way<'a> = &'a dyn Fn(&str) -> Vec<u8>;

#[test]
fn an_api_that_closes_each_connection_behind_its_answer_gives_both_lists() {
    let closing =
        |version: &str, header: &str, body: &str| format!("HTTP/{version} 200 OK\r\n{header}\r\n{body}").into_bytes();
    let length = |body: &str| format!("Content-Length: {}\r\n", body.len());
    let ways: [Way<'_>; 4] = [
        &|body| closing("1.1", &format!("Connection: close\r\n{}", length(body)), body),
        &|body| closing("1.1", "Connection: close\r\n", body),
        &|body| closing("1.0", "", body),
        // Without a word.
        &|body| closing("1.1", &length(body), body),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let (listener, port) = listener();
        let again = listener.try_clone().unwrap();
        let (jobs, nodes) = (way(JOBS), way("{\"nodes\":[{\"status\":\"busy\"}]}"));
        let serving = std::thread::spawn(move || {
            let first = serve(listener, None, vec![jobs]).join().unwrap();
            let second = serve(again, None, vec![nodes]).join().unwrap();
            [first, second]
        });
        let (result, tally, said) = poll(&access(&format!("http://127.0.0.1:{port}"), None, None));
        result.unwrap();
        assert_eq!((tally.active, tally.nodes.total()), (1, 1), "{number}");
        let [(jobs, first), (nodes, second)] = serving.join().unwrap();
        assert_eq!([jobs.len(), nodes.len()], [1, 1], "{number}");
        assert!(jobs[0].starts_with("GET /jobs ") && nodes[0].starts_with("GET /nodes "), "{number}");
        // One after the other, and each was told before it was made.
        assert_eq!(said, [(first, false), (first, true), (second, false), (second, true)], "{number}");
    }
}

#[test]
fn an_api_that_ends_every_connection_without_an_answer_is_asked_no_more_than_twice() {
    let (listener, port) = listener();
    let again = listener.try_clone().unwrap();
    let serving = std::thread::spawn(move || {
        drop(serve(listener, None, vec![ok(JOBS)]).join().unwrap());
        drop(again.accept().unwrap());
    });
    let (result, _, said) = poll(&access(&format!("http://127.0.0.1:{port}"), None, None));
    serving.join().unwrap();
    assert!(matches!(result, Err(PollError::Exchange(_))), "{result:?}");
    assert_eq!(said.iter().map(|(_, over)| *over).collect::<Vec<_>>(), [false, true, false, true]);
}

#[test]
fn a_refusal_is_an_error_that_says_so() {
    let (listener, port) = listener();
    let refusal = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 15\r\n\r\nInvalid API key".to_vec();
    let serving = serve(listener, None, vec![refusal]);
    let (result, ..) = poll(&access(&format!("http://127.0.0.1:{port}"), None, None));
    serving.join().unwrap();
    assert_eq!(result.unwrap_err().to_string(), "the answer to GET /jobs is 401 Unauthorized, wanted 200 OK");
}

#[test]
fn an_api_that_hangs_is_given_up_wherever_it_hangs() {
    let half = format!("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{}", &JOBS[..30]).into_bytes();
    for answers in [vec![Vec::new(), Vec::new()], vec![half, Vec::new()], vec![ok(JOBS), Vec::new(), Vec::new()]] {
        let (listener, port) = listener();
        let serving = serve(listener, None, answers);
        let (result, _, said) = poll(&access(&format!("http://127.0.0.1:{port}"), None, None));
        serving.join().unwrap();
        assert!(matches!(result, Err(PollError::Time)), "{result:?}");
        assert_eq!(said.iter().map(|(_, over)| *over).collect::<Vec<_>>(), [false, true]);
    }
}

#[test]
fn eighty_thousand_jobs_come_whole() {
    let mut body = String::from("{\"count\":80000,\"jobs\":[");
    for number in 0..80_000 {
        let state = if number % 2 == 0 { "completed" } else { "pending" };
        let comma = if number == 0 { "" } else { "," };
        let logs = "x".repeat(400);
        let job = format!("{comma}{{\"id\":\"{number}\",\"status\":\"{state}\",\"logs\":\"{logs}\"}}");
        body.push_str(&job);
    }
    body.push_str("]}\n");
    let (listener, port) = listener();
    let serving = serve(listener, None, vec![ok(&body), ok(NODES)]);
    let (result, tally, _) = poll(&access(&format!("http://127.0.0.1:{port}"), None, None));
    serving.join().unwrap();
    result.unwrap();
    assert_eq!((tally.states.total(), tally.waiting), (80_000, 40_000));
}
