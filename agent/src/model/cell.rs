//! The totals of one (service, method, endpoint, status): all HTTP families are sums of these.

use sockmeter_ebpf::layout::books::CELL;
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND, Posting};

use super::bytes::{Reader, Writer};
use crate::attribution::Exchange;
use crate::route::{Endpoint, method_label};

/// Upper bounds of the duration histogram, in milliseconds (so that they compare exactly).
pub const DURATION_BOUNDS: [u64; 14] =
    [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];
/// Most bounds that a size histogram may have.
pub const MOST_SIZE_BOUNDS: usize = 10;

const METHOD_ROOM: usize = 24;
const ENDPOINT_ROOM: usize = 240;

/// What a posting is called: connection and number.
pub(super) type Name = (u64, u32);

pub(super) fn name(posting: &Posting) -> Name {
    (posting.cookie, posting.number)
}

/// Totals of one combination. Arrays are `[inbound, outbound]`; buckets are not cumulative.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Number of the service.
    pub service: u16,
    /// Registered method, or `OTHER`.
    pub method: &'static str,
    /// Route template.
    pub endpoint: Endpoint,
    /// Status code; 0: none.
    pub status: u16,
    /// Completed exchanges.
    pub exchanges: u64,
    /// Wire bytes.
    pub wire: [u64; 2],
    /// Body bytes.
    pub body: [u64; 2],
    /// Messages with a body.
    pub bodies: [u64; 2],
    /// Body sizes per bucket, the last one above all bounds.
    pub sizes: [[u64; MOST_SIZE_BOUNDS + 1]; 2],
    /// Durations per bucket, likewise.
    pub durations: [u64; DURATION_BOUNDS.len() + 1],
    /// Sum of the durations, nanoseconds.
    pub nanoseconds: u64,
    last: Name,
}

impl Cell {
    /// A cell with nothing in it.
    #[must_use]
    pub fn new(service: u16, method: &'static str, endpoint: Endpoint, status: u16) -> Self {
        Self {
            service,
            method,
            endpoint,
            status,
            exchanges: 0,
            wire: [0; 2],
            body: [0; 2],
            bodies: [0; 2],
            sizes: [[0; MOST_SIZE_BOUNDS + 1]; 2],
            durations: [0; DURATION_BOUNDS.len() + 1],
            nanoseconds: 0,
            last: (0, 0),
        }
    }

    /// Whether this endpoint can be a cell's.
    #[must_use]
    pub fn fits(endpoint: &Endpoint) -> bool {
        endpoint.as_str().len() <= ENDPOINT_ROOM - 2
    }

    /// Adds an exchange; false if it was added already.
    pub(super) fn book(&mut self, posting: Name, exchange: &Exchange, size_bounds: &[u64]) -> bool {
        if self.last == posting {
            return false;
        }
        self.last = posting;
        self.exchanges += 1;
        for direction in [INBOUND, OUTBOUND] {
            let size = exchange.body[direction];
            self.wire[direction] += exchange.wire[direction];
            self.body[direction] += size;
            if size > 0 {
                self.bodies[direction] += 1;
                let bucket = size_bounds.iter().position(|bound| size <= *bound).unwrap_or(size_bounds.len());
                self.sizes[direction][bucket.min(MOST_SIZE_BOUNDS)] += 1;
            }
        }
        if let Some(nanoseconds) = exchange.duration {
            let over = |bound: &u64| nanoseconds <= *bound * 1_000_000;
            let bucket = DURATION_BOUNDS.iter().position(over).unwrap_or(DURATION_BOUNDS.len());
            self.durations[bucket] += 1;
            self.nanoseconds += nanoseconds;
        }
        true
    }

    /// Counts an exchange, and nothing that it carried; false if it was counted already.
    pub(super) fn count(&mut self, posting: Name) -> bool {
        let is_new = self.last != posting;
        if is_new {
            self.last = posting;
            self.exchanges += 1;
        }
        is_new
    }

    /// The sizes were sorted by other bounds: nothing more is known of them than that they were.
    pub(super) fn forget_sizes(&mut self, bounds: usize) {
        for direction in [INBOUND, OUTBOUND] {
            self.sizes[direction] = [0; MOST_SIZE_BOUNDS + 1];
            self.sizes[direction][bounds.min(MOST_SIZE_BOUNDS)] = self.bodies[direction];
        }
    }

    pub(super) fn to_bytes(&self) -> [u8; CELL] {
        let mut bytes = [0; CELL];
        let mut to = Writer(&mut bytes);
        to.u64s([&self.last.0]);
        to.bytes(&self.last.1.to_le_bytes());
        to.bytes(&self.service.to_le_bytes());
        to.bytes(&self.status.to_le_bytes());
        to.text(self.method, METHOD_ROOM);
        to.text(self.endpoint.as_str(), ENDPOINT_ROOM);
        to.u64s([&self.exchanges]);
        to.u64s(self.wire.iter().chain(&self.body).chain(&self.bodies));
        to.u64s(self.sizes.iter().flatten().chain(&self.durations));
        to.u64s([&self.nanoseconds]);
        bytes
    }

    /// Reads what `to_bytes` wrote; `None` if it is damaged.
    pub(super) fn from_bytes(bytes: &[u8; CELL]) -> Option<Self> {
        let mut from = Reader(bytes);
        let last = (from.u64()?, from.u32()?);
        let (service, status) = (from.u16()?, from.u16()?);
        let method = method_label(from.text(METHOD_ROOM)?.as_bytes());
        let endpoint = Endpoint::template(from.text(ENDPOINT_ROOM)?);
        let mut cell = Self::new(service, method, endpoint, status);
        cell.last = last;
        cell.exchanges = from.u64()?;
        from.u64s(&mut cell.wire)?;
        from.u64s(&mut cell.body)?;
        from.u64s(&mut cell.bodies)?;
        for direction in &mut cell.sizes {
            from.u64s(direction)?;
        }
        from.u64s(&mut cell.durations)?;
        cell.nanoseconds = from.u64()?;
        Some(cell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_cell_survives_bytes_and_back() {
        let endpoint = Endpoint::template("x".repeat(ENDPOINT_ROOM - 2));
        assert!(Cell::fits(&endpoint));
        let mut cell = Cell::new(63, "UPDATEREDIRECTREF", endpoint, 599);
        let mut next = u64::MAX;
        let mut fill = |slot: &mut u64| {
            *slot = next;
            next -= 1;
        };
        fill(&mut cell.exchanges);
        cell.wire.iter_mut().chain(&mut cell.body).chain(&mut cell.bodies).for_each(&mut fill);
        cell.sizes.iter_mut().flatten().chain(&mut cell.durations).for_each(&mut fill);
        fill(&mut cell.nanoseconds);
        cell.last = (1, 2);
        assert_eq!(Cell::from_bytes(&cell.to_bytes()), Some(cell));
    }
}
