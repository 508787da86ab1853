//! Books kept by somebody else: sums per endpoint, from a server's log or a client's own count, to hold ours against.

use std::collections::{BTreeMap, BTreeSet};

use crate::page::Page;

/// Sums per method and endpoint: wire bytes each way, request body bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sides {
    /// Bytes from the client.
    pub inbound: u64,
    /// Bytes to the client.
    pub outbound: u64,
    /// Body bytes of the requests.
    pub request_body: u64,
}

/// Sums per method, endpoint and status: exchanges, response body bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    /// Exchanges.
    pub exchanges: u64,
    /// Body bytes of the answers.
    pub response_body: u64,
}

/// Somebody's books.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    /// By method and endpoint.
    pub sides: BTreeMap<(String, String), Sides>,
    /// By method, endpoint and status.
    pub answers: BTreeMap<(String, String, String), Answers>,
}

impl Tally {
    /// Adds one exchange.
    pub fn add(&mut self, method: &str, endpoint: &str, status: &str, sides: Sides, response_body: u64) {
        self.add_many(method, endpoint, status, 1, sides, response_body);
    }

    /// Adds `exchanges`, which have these bytes together.
    pub fn add_many(
        &mut self,
        method: &str,
        endpoint: &str,
        status: &str,
        exchanges: u64,
        sides: Sides,
        response_body: u64,
    ) {
        let sum = self.sides.entry((method.to_owned(), endpoint.to_owned())).or_default();
        sum.inbound += sides.inbound;
        sum.outbound += sides.outbound;
        sum.request_body += sides.request_body;
        let answer = self.answers.entry((method.to_owned(), endpoint.to_owned(), status.to_owned())).or_default();
        answer.exchanges += exchanges;
        answer.response_body += response_body;
    }

    /// What the agent says of a service, in the same form.
    #[must_use]
    pub fn of_page(page: &Page, service: &str) -> Self {
        let mut tally = Self::default();
        let label = |labels: &BTreeMap<String, String>, name: &str| labels.get(name).cloned().unwrap_or_default();
        let by_side = |labels: &BTreeMap<String, String>| (label(labels, "method"), label(labels, "endpoint"));
        for (labels, value) in page.family(&format!("{service}_http_wire_bytes_total")) {
            let sides = tally.sides.entry(by_side(&labels)).or_default();
            match label(&labels, "direction").as_str() {
                "inbound" => sides.inbound = whole(value),
                _ => sides.outbound = whole(value),
            }
        }
        for (labels, value) in page.family(&format!("{service}_http_request_bytes_total")) {
            tally.sides.entry(by_side(&labels)).or_default().request_body = whole(value);
        }
        let by_answer = |labels: &BTreeMap<String, String>| {
            (label(labels, "method"), label(labels, "endpoint"), label(labels, "status"))
        };
        for (labels, value) in page.family(&format!("{service}_http_exchanges_total")) {
            tally.answers.entry(by_answer(&labels)).or_default().exchanges = whole(value);
        }
        for (labels, value) in page.family(&format!("{service}_http_response_bytes_total")) {
            tally.answers.entry(by_answer(&labels)).or_default().response_body = whole(value);
        }
        tally
    }

    /// Where this one and another differ, a line each; empty if they are equal.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let keys: BTreeSet<_> = self.sides.keys().chain(other.sides.keys()).collect();
        let sides = keys.into_iter().filter(|key| self.sides.get(*key) != other.sides.get(*key));
        let sides = sides.map(|key| format!("{key:?}: {:?} and {:?}", self.sides.get(key), other.sides.get(key)));
        let keys: BTreeSet<_> = self.answers.keys().chain(other.answers.keys()).collect();
        let answers = keys.into_iter().filter(|key| self.answers.get(*key) != other.answers.get(*key));
        let answers =
            answers.map(|key| format!("{key:?}: {:?} and {:?}", self.answers.get(key), other.answers.get(key)));
        sides.chain(answers).collect()
    }

    /// All exchanges.
    #[must_use]
    pub fn exchanges(&self) -> u64 {
        self.answers.values().map(|answers| answers.exchanges).sum()
    }
}

/// A counter's value; a fraction becomes a number that equals nothing.
#[must_use]
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be a whole number within 53 bits"
)]
pub fn whole(value: f64) -> u64 {
    if value.fract() == 0.0 && (0.0..9.0e15).contains(&value) { value as u64 } else { u64::MAX }
}
