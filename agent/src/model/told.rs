//! What some exchanges say about the scheduler that a service is: its workers' questions for a job, and their heartbeats.
//! Each is counted in a cell of its own, beside that of its endpoint: so it is counted once, and outlives the agent.

use std::collections::BTreeMap;

use super::cell::Cell;
use crate::attribution::{SCHEDULE_RESULTS, Told};
use crate::route::Endpoint;

/// Nodes that are told apart; heartbeats of the others are those of `other`.
pub(super) const MOST_NODES: usize = 1_000;
/// Node of the others.
const OTHER: &str = "other";

/// In place of an endpoint, which begins with `/`, or is a word without a space.
const SCHEDULE: &str = "schedule ";
/// Likewise.
const HEARTBEAT: &str = "heartbeat ";

/// What the cell of this is called. `nodes`: how many have a cell already; `is_known` says whether one has.
pub(super) fn name(told: &Told, nodes: usize, is_known: impl Fn(&Endpoint) -> bool) -> Endpoint {
    match told {
        Told::Schedule(result) => Endpoint::template(format!("{SCHEDULE}{result}")),
        Told::Heartbeat(node) => {
            let own = Endpoint::template(format!("{HEARTBEAT}{node}"));
            if Cell::fits(&own) && (nodes < MOST_NODES || is_known(&own)) {
                own
            } else {
                Endpoint::template(format!("{HEARTBEAT}{OTHER}"))
            }
        }
    }
}

/// Whether a cell is one of these, and none of an endpoint.
#[must_use]
pub fn is_told(cell: &Cell) -> bool {
    [SCHEDULE, HEARTBEAT].iter().any(|prefix| cell.endpoint.as_str().starts_with(prefix))
}

/// Whether a cell is a node's.
pub(super) fn is_node(endpoint: &Endpoint) -> bool {
    endpoint.as_str().starts_with(HEARTBEAT)
}

/// How often a job was asked for, by result, in the order of `SCHEDULE_RESULTS`.
#[must_use]
pub fn schedule_attempts(cells: &[Cell]) -> [(&'static str, u64); SCHEDULE_RESULTS.len()] {
    let sums = sums(cells, SCHEDULE);
    SCHEDULE_RESULTS.map(|result| (result, sums.get(result).copied().unwrap_or(0)))
}

/// Heartbeats by node.
#[must_use]
pub fn heartbeats(cells: &[Cell]) -> BTreeMap<&str, u64> {
    sums(cells, HEARTBEAT)
}

fn sums<'a>(cells: &'a [Cell], prefix: &str) -> BTreeMap<&'a str, u64> {
    let mut sums = BTreeMap::new();
    for cell in cells {
        if let Some(name) = cell.endpoint.as_str().strip_prefix(prefix) {
            *sums.entry(name).or_default() += cell.exchanges;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model::{Books, Forgetful, ServiceSettings};
    use crate::route::Routes;
    use crate::snapshot::{Booking as _, Posting};
    use sockmeter_ebpf::posting;

    fn settings() -> Vec<ServiceSettings> {
        let (name, routes) = ("scheduler".to_owned(), Routes::default());
        vec![ServiceSettings { name, routes, size_bounds: vec![100], endpoint_limit: 2 }]
    }

    fn book(books: &mut Books<Forgetful>, number: u32, head: &str, status: u16, body: u64) {
        let kind = posting::KIND_EXCHANGE;
        let posting = Posting { cookie: 7, number, kind, status, body: [0, body], ..Posting::EMPTY };
        books.book(&posting, head.as_bytes());
    }

    #[test]
    fn questions_for_a_job_are_told_by_their_answers() {
        let mut books = Books::open(Forgetful, settings()).unwrap();
        books.derive(true);
        let asks = "GET /jobs/next?node_id=n HTTP/1.1\r\n";
        let answers =
            [(200, 13), (200, 13), (200, 400), (500, 20), (404, 3), (0, 0), (401, 28), (200, 14), (200, 12), (200, 0)];
        for (number, (status, body)) in (1..).zip(answers) {
            book(&mut books, number, asks, status, body);
        }
        // The last of them comes twice, as after a kill; others ask for something else.
        book(&mut books, 10, asks, 200, 0);
        for (number, head) in
            (11..).zip(["GET /jobs/nextone HTTP/1.1\r", "POST /jobs/next HTTP/1.1\r", "GET /jobs/7 HTTP/1.1\r"])
        {
            book(&mut books, number, head, 200, 400);
        }
        assert_eq!(schedule_attempts(books.cells()), [("success", 2), ("no_jobs", 4), ("error", 4)]);
        assert_eq!(heartbeats(books.cells()), BTreeMap::new());
        // Endpoints have what they had (the 404 is unmatched), and the cap of two is theirs.
        let asked = books.cells().iter().filter(|cell| !is_told(cell) && cell.endpoint.as_str() == "/jobs/next");
        assert_eq!(asked.filter(|cell| cell.method == "GET").map(|cell| cell.exchanges).sum::<u64>(), 9);
    }

    #[test]
    fn heartbeats_are_told_by_node_up_to_a_bound() {
        let mut books = Books::open(Forgetful, settings()).unwrap();
        books.derive(true);
        let beat = |node: &str| format!("POST /nodes/{node}/heartbeat HTTP/1.1\r\n");
        for node in 0..1_003 {
            book(&mut books, node + 1, &beat(&format!("n-{node}")), 200, 0);
        }
        book(&mut books, 2_000, &beat("n-5"), 204, 0);
        book(&mut books, 2_001, &beat(&"x".repeat(150)), 200, 0);
        for (number, head) in
            (2_002..).zip(["POST /nodes//heartbeat HTTP/1.1\r", "POST /nodes/a/b/heartbeat HTTP/1.1\r"])
        {
            book(&mut books, number, head, 200, 0);
        }
        book(&mut books, 2_004, &beat("refused"), 401, 0);
        let found = heartbeats(books.cells());
        assert_eq!((found.len(), found["n-5"], found["n-999"], found["other"]), (1_001, 2, 1, 4));
        assert_eq!(found.values().sum::<u64>(), 1_005);
    }

    #[test]
    fn nothing_is_told_where_nobody_asked_for_it() {
        let mut books = Books::open(Forgetful, settings()).unwrap();
        book(&mut books, 1, "GET /jobs/next HTTP/1.1\r\n", 200, 13);
        assert_eq!(books.cells().len(), 1);
    }
}
