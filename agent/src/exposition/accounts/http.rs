//! The HTTP families of each observed service, and the balance of its books.

use std::collections::BTreeMap;

use sockmeter_ebpf::posting::{INBOUND, OUTBOUND, Reason};

use super::{Accounts, signed};
use crate::exposition::number::float;
use crate::exposition::{Page, catalog};
use crate::model::{Cell, DIRECTIONS, DURATION_BOUNDS, Ledger, MOST_SIZE_BOUNDS, Rate, ServiceBook};
use crate::route::Endpoint;

const BOTH: [usize; 2] = [INBOUND, OUTBOUND];

/// Writes the families of all services.
pub(super) fn write(accounts: &Accounts<'_>, page: &mut Page) {
    let ledgers: Vec<(&ServiceBook, Ledger)> =
        accounts.services.iter().map(|service| (service, accounts.ledger(service))).collect();
    for (service, ledger) in &ledgers {
        exchanges(accounts, service, page);
        totals(ledger, accounts.rates.get(&service.number).map_or([0.0; 2], Rate::per_second), page);
    }
    balance(&ledgers, page);
    page.family(&catalog::ENDPOINTS_FOLDED, "", |samples| {
        for (service, ledger) in &ledgers {
            // From the cells, which are kept, so that it does not begin anew with the agent.
            let folded = accounts.cells_of(service).filter(|cell| cell.endpoint == Endpoint::OTHER);
            samples.counter(&[&ledger.service], folded.map(|cell| cell.exchanges).sum::<u64>());
        }
    });
}

/// What cells with common labels have together.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    exchanges: u64,
    wire: [u64; 2],
    body: [u64; 2],
    bodies: [u64; 2],
    sizes: [[u64; MOST_SIZE_BOUNDS + 1]; 2],
    durations: [u64; DURATION_BOUNDS.len() + 1],
    nanoseconds: u64,
}

impl Sum {
    fn add(&mut self, cell: &Cell) {
        self.exchanges += cell.exchanges;
        self.nanoseconds += cell.nanoseconds;
        add(&mut self.wire, &cell.wire);
        add(&mut self.body, &cell.body);
        add(&mut self.bodies, &cell.bodies);
        add(&mut self.durations, &cell.durations);
        for (sum, sizes) in self.sizes.iter_mut().zip(&cell.sizes) {
            add(sum, sizes);
        }
    }
}

fn add<const N: usize>(sums: &mut [u64; N], values: &[u64; N]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

fn exchanges(accounts: &Accounts<'_>, service: &ServiceBook, page: &mut Page) {
    let name = &service.ledger.service;
    let mut requests: BTreeMap<(&str, &str), Sum> = BTreeMap::new();
    let mut responses: BTreeMap<(&str, &str, String), Sum> = BTreeMap::new();
    for cell in accounts.cells_of(service) {
        requests.entry((cell.endpoint.as_str(), cell.method)).or_default().add(cell);
        responses.entry((cell.endpoint.as_str(), cell.method, status(cell.status))).or_default().add(cell);
    }
    page.family(&catalog::EXCHANGES, name, |samples| {
        for ((endpoint, method, status), sum) in &responses {
            samples.counter(&[endpoint, method, status], sum.exchanges);
        }
    });
    page.family(&catalog::WIRE_BYTES, name, |samples| {
        for ((endpoint, method), sum) in &requests {
            for (direction, bytes) in DIRECTIONS.iter().zip(sum.wire) {
                samples.counter(&[endpoint, method, direction], bytes);
            }
        }
    });
    let bounds = DURATION_BOUNDS.map(|milliseconds| float(milliseconds) / 1e3);
    page.family(&catalog::EXCHANGE_DURATION, name, |samples| {
        for ((endpoint, method, status), sum) in &responses {
            samples.histogram(&[endpoint, method, status], &bounds, &sum.durations, float(sum.nanoseconds) / 1e9);
        }
    });
    // No sample until a message with a body was seen.
    requests.retain(|_, sum| sum.bodies[INBOUND] > 0);
    responses.retain(|_, sum| sum.bodies[OUTBOUND] > 0);
    page.family(&catalog::REQUEST_BYTES, name, |samples| {
        for ((endpoint, method), sum) in &requests {
            samples.counter(&[endpoint, method], sum.body[INBOUND]);
        }
    });
    page.family(&catalog::RESPONSE_BYTES, name, |samples| {
        for ((endpoint, method, status), sum) in &responses {
            samples.counter(&[endpoint, method, status], sum.body[OUTBOUND]);
        }
    });
    let bounds: Vec<f64> = service.size_bounds().iter().take(MOST_SIZE_BOUNDS).map(|bound| float(*bound)).collect();
    if bounds.is_empty() {
        // Observed in an earlier run only: nobody knows any more by which bounds the sizes were sorted.
        return;
    }
    let buckets = |sizes: &[u64; MOST_SIZE_BOUNDS + 1]| sizes.get(..=bounds.len()).unwrap_or_default().to_vec();
    page.family(&catalog::REQUEST_SIZE, name, |samples| {
        for ((endpoint, method), sum) in &requests {
            samples.histogram(&[endpoint, method], &bounds, &buckets(&sum.sizes[INBOUND]), sum.body[INBOUND]);
        }
    });
    page.family(&catalog::RESPONSE_SIZE, name, |samples| {
        for ((endpoint, method, status), sum) in &responses {
            let counts = buckets(&sum.sizes[OUTBOUND]);
            samples.histogram(&[endpoint, method, status], &bounds, &counts, sum.body[OUTBOUND]);
        }
    });
}

/// Three digits; `none` if no final status came.
fn status(code: u16) -> String {
    if code == 0 { "none".to_owned() } else { format!("{code:03}") }
}

/// What has no labels of an exchange; all of it is there from the first scrape on, but the means.
fn totals(ledger: &Ledger, rates: [f64; 2], page: &mut Page) {
    let name = &ledger.service;
    page.family(&catalog::REQUESTS, name, |samples| samples.counter(&[], ledger.requests));
    page.family(&catalog::BANDWIDTH_TOTAL, name, |samples| {
        for direction in BOTH {
            samples.counter(&[DIRECTIONS[direction]], ledger.body[direction]);
        }
    });
    page.family(&catalog::BANDWIDTH, name, |samples| {
        for direction in BOTH {
            samples.gauge(&[DIRECTIONS[direction]], rates[direction]);
        }
    });
    page.family(&catalog::UNATTRIBUTED_BYTES, name, |samples| {
        for (reason, bytes) in Reason::ALL.iter().zip(&ledger.unattributed) {
            for direction in BOTH {
                samples.counter(&[DIRECTIONS[direction], reason.as_str()], bytes[direction]);
            }
        }
    });
    if ledger.requests > 0 {
        for (family, direction) in [(&catalog::REQUEST_SIZE_AVG, INBOUND), (&catalog::RESPONSE_SIZE_AVG, OUTBOUND)] {
            let mean = float(ledger.body[direction]) / float(ledger.requests);
            page.family(family, name, |samples| samples.gauge(&[], mean));
        }
    }
}

fn balance(ledgers: &[(&ServiceBook, Ledger)], page: &mut Page) {
    page.family(&catalog::STREAM_BYTES, "", |samples| {
        for (_, ledger) in ledgers {
            for direction in BOTH {
                samples.counter(&[&ledger.service, DIRECTIONS[direction]], ledger.stream[direction]);
            }
        }
    });
    page.family(&catalog::OPEN_BYTES, "", |samples| {
        for (_, ledger) in ledgers {
            for direction in BOTH {
                samples.gauge(&[&ledger.service, DIRECTIONS[direction]], ledger.open[direction]);
            }
        }
    });
    page.family(&catalog::IMBALANCE_BYTES, "", |samples| {
        for (_, ledger) in ledgers {
            for direction in BOTH {
                samples.gauge(&[&ledger.service, DIRECTIONS[direction]], signed(ledger.imbalance()[direction]));
            }
        }
    });
}
