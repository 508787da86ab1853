//! The page of books and snapshots that are known to the byte: a golden file, what is there from the first scrape on,
//! the balance, and that a posting taken twice or a restart changes nothing.
#![expect(clippy::unwrap_used, clippy::float_cmp, reason = "tests, in which equality is what is tested")]

use std::collections::BTreeMap;
use std::time::Duration;

use sockmeter_ebpf::interface::Interface;
use sockmeter_ebpf::posting::{KIND_EXCHANGE, Posting};
use sockmeter_ebpf::socket::{ROLE_CLIENT, ROLE_SERVER, RoundTripKey, RoundTrips, TCP, Totals, TotalsKey, UDP};

use super::{Accounts, Own, Phase, Phases, UpstreamState};
use crate::exposition::strict::{self, Family};
use crate::exposition::{Format, Page};
use crate::model::shelf::Shelf;
use crate::model::sockets::Bounds;
use crate::model::{Books, Forgetful, Rate, ServiceSettings, Store, Sums};
use crate::route::Routes;
use crate::snapshot::{
    AgentProcess, Booking as _, InterfaceCounters, Live, MapFill, Mark, ProgramState, Snapshot, Spill,
};

const BOUNDS: Bounds = Bounds { ports: 100, processes: 200 };

fn service(name: &str) -> ServiceSettings {
    let routes = Routes::parse("GET /jobs/{id}\nPOST /jobs\n").unwrap();
    ServiceSettings { name: name.to_owned(), routes, size_bounds: vec![100, 1_000], endpoint_limit: 200 }
}

/// An exchange that was posted when it was finished, all its bytes at once.
fn exchange(number: u32, status: u16, wire: [u64; 2], body: [u64; 2]) -> Posting {
    Posting {
        cookie: 7,
        number,
        kind: KIND_EXCHANGE,
        status,
        stream: wire,
        wire,
        body,
        requests: 1,
        began: 1_000_000_000,
        ended: 1_007_500_000,
        ..Posting::EMPTY
    }
}

/// Five postings with every term of the balance in them.
fn postings() -> Vec<(Posting, &'static [u8])> {
    let moved = Posting {
        cookie: 8,
        number: 1,
        stream: [40, 11],
        unattributed: [10, 0],
        // Inbound `Reason::NotHttp`, outbound `Reason::MidStream`.
        reasons: [1, 0],
        lost: [0, 4],
        open: [30, 7],
        ..Posting::EMPTY
    };
    vec![
        (exchange(1, 200, [120, 300], [0, 100]), b"GET /jobs/17 HTTP/1.1\r"),
        (exchange(2, 201, [1_300, 250], [1_001, 50]), b"POST /jobs HTTP/1.1\r"),
        (exchange(3, 404, [90, 80], [0, 0]), b"GET /secret/17 HTTP/1.1\r"),
        (exchange(4, 0, [60, 0], [0, 0]), b"GET /jobs/18 HTTP/1.1\r"),
        (moved, b""),
    ]
}

fn process(name: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name);
    bytes
}

fn snapshot() -> Snapshot {
    let totals = |protocol, role, port, name: &[u8], first| {
        let key = TotalsKey { protocol, role, port, overflow: 0, process: process(name) };
        (key, Totals { received: 1_000 + first, sent: 2_000 + first, retransmitted: 3, first })
    };
    let live = |protocol, state| Live { state, protocol, role: ROLE_SERVER };
    let mut buckets = [0; 14];
    buckets[0] = 2;
    buckets[13] = 1;
    let ours = Interface { received_bytes: [1, 2, 3], received_packets: [4, 5, 6], ..Interface::default() };
    let ours = Interface { sent_bytes: [7, 8, 9], sent_packets: [10, 11, 12], ..ours };
    let program = |program: &str, target: &str, problem: Option<&str>| ProgramState {
        program: program.to_owned(),
        target: target.to_owned(),
        problem: problem.map(str::to_owned),
        runs: problem.is_none().then_some(5),
        run_seconds: problem.is_none().then_some(0.25),
    };
    Snapshot {
        live: BTreeMap::from([(live(TCP, 1), 2), (live(TCP, 10), 1), (live(UDP, 7), 1)]),
        totals: vec![totals(TCP, ROLE_SERVER, 8080, b"nginx", 1), totals(UDP, ROLE_CLIENT, 53, b"", 2)],
        round_trips: vec![(
            RoundTripKey { port: 8080, role: ROLE_SERVER, overflow: 0 },
            RoundTrips { buckets, eighths: 12_000_000, first: 1 },
        )],
        sockets: [[0, 0], [3, 1], [2, 2], [0, 0], [0, 0], [1, 0], [4, 4], [0, 0]],
        interfaces: vec![
            InterfaceCounters { name: "wg0".into(), netns: "self".into(), ours, kernel: Some([100, 200]) },
            InterfaceCounters { name: "gone".into(), netns: "blue".into(), ours, kernel: None },
        ],
        spills: vec![(0, Spill { stream: [5, 6], lost: [5, 2], open: [0, 4], requests: 2 })],
        lost: vec![1, 0, 0, 0, 0, 2],
        maps: vec![MapFill { map: "totals", entries: 2, capacity: 8_192 }],
        programs: vec![
            program("packet_sent", "cgroup", None),
            program("interface_receives", "wg0", None),
            program("interface_receives", "gone", Some("no such device")),
        ],
        ..Snapshot::default()
    }
}

fn page_of<S: Store>(books: &Books<S>, snapshot: &Snapshot, rates: &BTreeMap<u16, Rate>, format: Format) -> String {
    let mut page = Page::new(format);
    let (services, cells, refused) = (books.services(), books.cells(), books.refused());
    Accounts {
        services,
        cells,
        rates,
        snapshot,
        holders: Sums::default(),
        bounds: BOUNDS,
        refused,
        damaged: 9,
        folded: 0,
        derives: false,
    }
    .write(&mut page);
    String::from_utf8(page.finish()).unwrap()
}

fn booked<S: Store>(store: S, times: usize) -> Books<S> {
    let mut books = Books::open(store, vec![service("scheduler")]).unwrap();
    for (posting, head) in postings() {
        for _ in 0..times {
            books.book(&posting, head);
        }
    }
    books.commit(Mark { journal: 1, position: 1 });
    books
}

#[test]
fn golden_page_of_known_books() {
    let mut rates: BTreeMap<u16, Rate> = BTreeMap::new();
    let rate = rates.entry(0).or_default();
    rate.note(Duration::from_secs(0), [0, 0]);
    rate.note(Duration::from_secs(10), [1_000, 25]);
    let page = page_of(&booked(Forgetful, 1), &snapshot(), &rates, Format::Text);
    assert_eq!(page, include_str!("../../../tests/golden/accounts.prom"));
}

#[test]
fn both_formats_pass_the_strict_parser_with_the_same_number_of_samples() {
    let books = booked(Forgetful, 1);
    let samples = [Format::Text, Format::OpenMetrics].map(|format| {
        let page = page_of(&books, &snapshot(), &BTreeMap::new(), format);
        strict::parse(page.as_bytes(), format).unwrap().iter().map(|family| family.samples.len()).sum::<usize>()
    });
    assert_eq!(samples[0], samples[1]);
}

/// `name{label="value",...}` of every sample, with its value.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let families: Vec<Family> = strict::parse(page.as_bytes(), Format::Text).unwrap();
    let lines = families.iter().flat_map(|family| &family.samples).map(|sample| {
        let labels: Vec<String> = sample.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (format!("{} {}", sample.name, labels.join(" ")).trim_end().to_owned(), sample.value)
    });
    lines.collect()
}

#[test]
fn what_is_always_there_is_there_before_anything_happened() {
    let books = Books::open(Forgetful, vec![service("scheduler"), service("api")]).unwrap();
    let found = samples(&page_of(&books, &Snapshot::default(), &BTreeMap::new(), Format::Text));
    let mut wanted = Vec::new();
    for service in ["scheduler", "api"] {
        wanted.push(format!("{service}_http_requests_total"));
        wanted.push(format!("sockmeter_service_endpoints_folded_total service={service}"));
        for direction in ["inbound", "outbound"] {
            wanted.push(format!("{service}_http_bandwidth_bytes_total direction={direction}"));
            wanted.push(format!("{service}_bandwidth_bytes_per_second direction={direction}"));
            wanted.push(format!("sockmeter_service_stream_bytes_total service={service} direction={direction}"));
            wanted.push(format!("sockmeter_service_open_bytes service={service} direction={direction}"));
            wanted.push(format!("sockmeter_ledger_imbalance_bytes service={service} direction={direction}"));
            for reason in ["mid_stream", "not_http", "syn_data", "lost", "upgraded", "tls", "tls_overhead", "agent"] {
                let family = format!("{service}_http_unattributed_bytes_total");
                wanted.push(format!("{family} direction={direction} reason={reason}"));
            }
        }
    }
    for role in ["server", "client"] {
        for protocol in ["tcp", "udp"] {
            wanted.push(format!("sockmeter_sockets_opened_total protocol={protocol} role={role}"));
            wanted.push(format!("sockmeter_sockets_closed_total protocol={protocol} role={role}"));
        }
        let states = "established syn_sent syn_recv fin_wait1 fin_wait2 time_wait close close_wait last_ack listen \
                      closing new_syn_recv";
        for state in states.split(' ') {
            wanted.push(format!("sockmeter_sockets protocol=tcp role={role} state={state}"));
        }
        for state in ["established", "unconnected"] {
            wanted.push(format!("sockmeter_sockets protocol=udp role={role} state={state}"));
        }
    }
    for reason in ["journal", "pipeline", "storage", "stash", "packet", "totals", "listeners", "refused", "cells"] {
        wanted.push(format!("sockmeter_lost_total reason={reason}"));
    }
    for direction in ["receive", "transmit"] {
        wanted.push(format!("sockmeter_no_job_{direction}_bytes_total"));
    }
    let mut wanted: BTreeMap<String, f64> = wanted.into_iter().map(|name| (name, 0.0)).collect();
    wanted.insert("sockmeter_lost_total reason=damaged".to_owned(), 9.0);
    assert_eq!(found, wanted);
}

#[test]
fn the_four_terms_on_the_page_balance() {
    let found = samples(&page_of(&booked(Forgetful, 1), &snapshot(), &BTreeMap::new(), Format::Text));
    for (direction, stream) in [("inbound", 1_615.0), ("outbound", 647.0)] {
        let ends = format!("direction={direction}");
        let sum = |family: &str| -> f64 {
            let of_it = found.iter().filter(|(name, _)| name.starts_with(family) && name.contains(&ends));
            of_it.map(|(_, value)| value).sum()
        };
        assert_eq!(sum("sockmeter_service_stream_bytes_total"), stream);
        let unattributed = sum("scheduler_http_unattributed_bytes_total");
        let terms = sum("scheduler_http_wire_bytes_total") + unattributed + sum("sockmeter_service_open_bytes");
        assert_eq!(terms, stream, "{direction}");
        assert_eq!(sum("sockmeter_ledger_imbalance_bytes"), 0.0);
    }
}

#[test]
fn books_that_do_not_balance_say_by_how_much() {
    let mut books = Books::open(Forgetful, vec![service("scheduler")]).unwrap();
    books.book(&Posting { stream: [3, 0], number: 1, open: [0, 5], ..Posting::EMPTY }, b"");
    let found = samples(&page_of(&books, &Snapshot::default(), &BTreeMap::new(), Format::Text));
    let imbalance =
        |direction: &str| found[&format!("sockmeter_ledger_imbalance_bytes service=scheduler direction={direction}")];
    assert_eq!((imbalance("inbound"), imbalance("outbound")), (3.0, -5.0));
}

#[test]
fn a_posting_taken_twice_changes_nothing() {
    let page = |times| page_of(&booked(Forgetful, times), &snapshot(), &BTreeMap::new(), Format::Text);
    assert_eq!(page(2), page(1));
}

#[test]
fn a_service_that_is_not_observed_any_more_keeps_its_totals_without_sizes() {
    let shelf = Shelf::new(16_384);
    drop(booked(shelf.clone(), 1));
    let books = Books::open(shelf, vec![service("api")]).unwrap();
    let found = samples(&page_of(&books, &snapshot(), &BTreeMap::new(), Format::Text));
    assert_eq!(found["scheduler_http_requests_total"], 6.0);
    assert_eq!(found["scheduler_http_request_bytes_total endpoint=/jobs method=POST"], 1_001.0);
    assert_eq!(found["api_http_requests_total"], 0.0);
    assert_eq!(found.keys().filter(|name| name.contains("_size_bytes_bucket")).count(), 0);
}

#[test]
fn the_totals_as_json() {
    let books = booked(Forgetful, 1);
    let (snapshot, rates) = (snapshot(), BTreeMap::new());
    let (services, cells) = (books.services(), books.cells());
    let accounts = Accounts {
        services,
        cells,
        rates: &rates,
        snapshot: &snapshot,
        holders: Sums::default(),
        bounds: BOUNDS,
        refused: 0,
        damaged: 9,
        folded: 0,
        derives: false,
    };
    let none = |not_http: u64, lost: u64| {
        serde_json::json!({"mid_stream": 0, "not_http": not_http, "syn_data": 0, "lost": lost, "upgraded": 0, "tls": 0,
            "tls_overhead": 0, "agent": 0})
    };
    let interface =
        serde_json::json!({"receive_bytes": 6, "transmit_bytes": 24, "receive_packets": 15, "transmit_packets": 33});
    let wanted = serde_json::json!({
        "services": {"scheduler": {
            "total_bytes_received": 1_001,
            "total_bytes_sent": 150,
            "total_requests": 6,
            "stream_bytes": {"inbound": 1_615, "outbound": 647},
            "wire_bytes": {"inbound": 1_570, "outbound": 630},
            "unattributed_bytes": {"inbound": none(10, 5), "outbound": none(0, 6)},
            "open_bytes": {"inbound": 30, "outbound": 11},
            "ledger_imbalance_bytes": {"inbound": 0, "outbound": 0},
        }},
        "interfaces": {"wg0": interface, "blue/gone": interface},
        "lost": {"journal": 1, "pipeline": 0, "storage": 0, "stash": 0, "packet": 0, "totals": 2, "listeners": 0, "refused": 0, "damaged": 9, "cells": 0},
    });
    assert_eq!(accounts.stats(), wanted);
}

#[test]
fn what_the_agent_knows_of_itself() {
    let mut phases = Phases::default();
    phases.note(Phase::Encode, Duration::from_millis(2));
    phases.note(Phase::Encode, Duration::from_secs(20));
    let upstreams = [UpstreamState { name: "a".into(), up: true, left_out: [1, 2] }];
    let process = AgentProcess { open_fds: Some(12), ..AgentProcess::default() };
    let mut page = Page::new(Format::Text);
    Own { revision: "abc", process, upstreams: &upstreams, phases: &phases }.write(&mut page);
    let found = samples(&String::from_utf8(page.finish()).unwrap());
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(found[&format!("sockmeter_build_info version={version} revision=abc")], 1.0);
    assert_eq!(found["sockmeter_upstream_up upstream=a"], 1.0);
    assert_eq!(found["sockmeter_upstream_left_out_total upstream=a reason=unparsable"], 1.0);
    assert_eq!(found["sockmeter_upstream_left_out_total upstream=a reason=duplicate"], 2.0);
    assert_eq!(found["sockmeter_scrape_duration_seconds_bucket phase=encode le=0.001"], 0.0);
    assert_eq!(found["sockmeter_scrape_duration_seconds_bucket phase=encode le=0.0025"], 1.0);
    assert_eq!(found["sockmeter_scrape_duration_seconds_bucket phase=encode le=10"], 1.0);
    assert_eq!(found["sockmeter_scrape_duration_seconds_sum phase=encode"], 20.002);
    for phase in ["snapshot", "attribution", "upstream", "total"] {
        assert_eq!(found[&format!("sockmeter_scrape_duration_seconds_count phase={phase}")], 0.0);
    }
    let process: Vec<&str> = found.keys().filter(|name| name.starts_with("process_")).map(String::as_str).collect();
    assert_eq!((process, found["process_open_fds"]), (vec!["process_open_fds"], 12.0));
    // 5 histograms of 13 bounds, +Inf, sum and count.
    assert_eq!(found["sockmeter_series family=sockmeter_scrape_duration_seconds"], 80.0);
}
