//! A mixed load from three clients against nginx: its log and the clients' own counts are the truth.

use anyhow::{Result, ensure};
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left};
use sockmeter_tests::client::{Step, play};
use sockmeter_tests::load::load;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::nginx::{Line, Nginx};
use sockmeter_tests::page::Page;
use sockmeter_tests::process::run;
use sockmeter_tests::tally::Tally;

const BIG: usize = 10_000_000;

fn step(method: &'static str, target: &str) -> Step {
    Step { method, target: target.to_owned(), ..Step::default() }
}

/// The Python client's connections: 20 at once, some 9,000 requests.
fn connections() -> Vec<Vec<Step>> {
    let mut all = Vec::new();
    for worker in 0..load(20) {
        all.push(vec![
            Step { repeat: load(200), ..step("GET", "/small.txt") },
            Step { repeat: load(20), close: true, ..step("GET", "/small.txt") },
            Step { repeat: load(40), ..step("HEAD", "/small.txt") },
            Step { repeat: load(40), ..step("GET", "/missing/42") },
            Step { repeat: load(4), pipeline: 20, ..step("GET", "/jobs/7") },
            Step { repeat: load(40), body: 512, ..step("POST", "/sink") },
            Step { repeat: load(4), body: 3000, chunk: 700, ..step("POST", "/sink/chunked") },
            Step { repeat: load(2), body: load(40_000), chunk: 1, split: 0, ..step("POST", "/sink/chunked") },
            Step { repeat: load(2), body: 2000, split: 7, ..step("POST", "/sink") },
            Step { repeat: load(2), body: 5000, expect: true, ..step("POST", "/sink/expect") },
            Step { header: vec![format!("X-Long: {}", "h".repeat(30_000))], ..step("GET", "/small.txt") },
            Step { target: format!("/small.txt?q={}", "q".repeat(2000)), ..step("GET", "") },
        ]);
        if worker < load(6) {
            all.push(vec![
                step("GET", "/big.bin"),
                Step { body: load(BIG), ..step("POST", "/sink/big") },
                Step { body: load(BIG), chunk: 65_536, ..step("POST", "/sink/big") },
                Step { close: true, ..step("GET", "/big.bin") },
            ]);
        }
    }
    all
}

/// What nginx calls a target, we call so.
fn endpoint(target: &str) -> &str {
    match target.split('?').next().unwrap_or_default() {
        "/missing/42" => "unmatched",
        "/jobs/7" => "/jobs/{id}",
        path => path,
    }
}

/// The decoded size of the answer's body, which the log does not tell where it was chunked.
fn response_body(line: &Line) -> u64 {
    if line.method == "HEAD" {
        0
    } else if line.target.starts_with("/sink") {
        6
    } else {
        line.body_bytes_sent
    }
}

#[test]
fn exchanges_equal_nginx_log_and_the_clients_own_counts() -> Result<()> {
    let namespace = Namespace::new()?;
    let nginx = Nginx::start(&namespace, &[("small.txt", 612), ("jobs/7", 33), ("big.bin", load(BIG))])?;
    let agent = Agent::start(&namespace, &[])?;

    let counts = play(&namespace, "127.0.0.1", 8080, &connections())?;
    let counted: u64 = counts.iter().map(|count| count.count).sum();
    let over_v6 = play(&namespace, "::1", 8080, &[vec![Step { repeat: load(300), ..step("GET", "/small.txt") }]])?;
    let mut more = u64::try_from(load(300))?;
    for arguments in [
        &["-T", "/dev/null", "-H", "Transfer-Encoding: chunked", "http://127.0.0.1:8080/sink/curl"][..],
        &["-d", "x=1", "http://127.0.0.1:8080/sink/curl"],
        &["-d", "x=1", "-H", "Expect: 100-continue", "http://[::1]:8080/sink/curl"],
        &["-I", "http://127.0.0.1:8080/big.bin"],
        &["--http1.0", "http://127.0.0.1:8080/small.txt"],
        &["-X", "BREW", "http://127.0.0.1:8080/small.txt"],
        &["-r", "0-99", "http://127.0.0.1:8080/big.bin"],
    ] {
        run(namespace.command("curl").args(["-sS", "-o", "/dev/null"]).args(arguments))?;
        more += 1;
    }
    let wrk = run(namespace.command("wrk").args(["-t2", "-c20", "-d1", "http://127.0.0.1:8080/jobs/7"]))?;
    let page = agent.scrape_until("the end of all connections", |page| {
        page.get("scheduler_http_requests_total") == Some(page.sum("scheduler_http_exchanges_total", &[]))
            && only_the_scrape_is_left(page)
    })?;
    let ours = Tally::of_page(&page, "scheduler");
    ensure!(ours.exchanges() > counted + more, "wrk did nothing: {wrk}");

    let log = nginx.log(usize::try_from(ours.exchanges())?)?;
    let mut theirs = Tally::default();
    for line in &log {
        let mut line = line.clone();
        if line.method == "BREW" {
            // Refused with 405, and of a path that nobody declared.
            line.method = "OTHER".to_owned();
            line.target = "/missing/42".to_owned();
        }
        line.tally(&mut theirs, endpoint(&line.target), response_body(&line));
    }
    assert_eq!(ours.differences(&theirs), Vec::<String>::new());

    let mut clients = Tally::default();
    for count in counts.iter().chain(&over_v6) {
        count.tally(&mut clients, endpoint(&count.target));
    }
    for key in [
        ("POST", "/sink"),
        ("POST", "/sink/chunked"),
        ("POST", "/sink/expect"),
        ("POST", "/sink/big"),
        ("HEAD", "/small.txt"),
    ] {
        let key = (key.0.to_owned(), key.1.to_owned());
        assert_eq!(ours.sides.get(&key), clients.sides.get(&key), "{key:?}");
    }
    balanced(&page);
    Ok(())
}

/// The agent's exchanges are, once all have ended, those that the clients counted; and the ledger balances.
pub(crate) fn agrees(scrape: impl Fn() -> Result<Page>, clients: &Tally) -> Result<()> {
    let page = Page::until("all exchanges", scrape, |page| {
        Tally::of_page(page, "scheduler").exchanges() == clients.exchanges() && only_the_scrape_is_left(page)
    })?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(clients), Vec::<String>::new());
    balanced(&page);
    Ok(())
}

/// The ledger balances, nothing was lost, and the stream is what the sockets carried.
pub(crate) fn balanced(page: &Page) {
    for direction in ["inbound", "outbound"] {
        let labels = format!("{{direction=\"{direction}\",service=\"scheduler\"}}");
        assert_eq!(page.get(&format!("sockmeter_ledger_imbalance_bytes{labels}")), Some(0.0), "{direction}");
        assert_eq!(page.get(&format!("sockmeter_service_open_bytes{labels}")), Some(0.0), "{direction}");
        let lost = page.sum("scheduler_http_unattributed_bytes_total", &[("direction", direction), ("reason", "lost")]);
        assert_eq!(lost, 0.0, "{direction}");
        let stream = page.get(&format!("sockmeter_service_stream_bytes_total{labels}"));
        let sockets = if direction == "inbound" {
            "sockmeter_socket_receive_bytes_total"
        } else {
            "sockmeter_socket_transmit_bytes_total"
        };
        let sockets = page.sum(sockets, &[("role", "server"), ("port", "8080"), ("protocol", "tcp")]);
        assert_eq!(stream, Some(sockets), "{direction}");
    }
    assert_eq!(page.sum("sockmeter_lost_total", &[]), 0.0);
}
