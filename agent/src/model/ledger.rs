//! One service's ledger: the four terms of the balance, each added up on its own.

use sockmeter_ebpf::layout::books::LEDGER;
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND, Posting, REASONS, Reason};

use super::bytes::{Reader, Writer};
use super::cell::Name;
use crate::snapshot::Spill;

const NAME_ROOM: usize = 64;

/// Label values of the two directions, in the order of all arrays.
pub const DIRECTIONS: [&str; 2] = ["inbound", "outbound"];

/// The terms. Arrays are `[inbound, outbound]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Name of the service.
    pub service: String,
    /// Stream bytes of all its connections: the kernel's own counters.
    pub stream: [u64; 2],
    /// Of exchanges.
    pub wire: [u64; 2],
    /// Of no exchange, by number of the reason.
    pub unattributed: [[u64; 2]; REASONS],
    /// Of what is not finished.
    pub open: [i64; 2],
    /// Body bytes of exchanges.
    pub body: [u64; 2],
    /// Complete request heads.
    pub requests: u64,
    /// Tells the bounds by which the size histograms of its cells were sorted.
    pub(super) bounds: u64,
    pub(super) last: Name,
}

impl Ledger {
    /// Adds a posting; false if it was added already.
    pub(super) fn book(&mut self, name: Name, posting: &Posting) -> bool {
        if self.last == name {
            return false;
        }
        self.last = name;
        for direction in [INBOUND, OUTBOUND] {
            self.stream[direction] += posting.stream[direction];
            self.wire[direction] += posting.wire[direction];
            let reason = usize::from(posting.reasons[direction]).min(REASONS - 1);
            self.unattributed[reason][direction] += posting.unattributed[direction];
            self.unattributed[reason_index(Reason::Lost)][direction] += posting.lost[direction];
            self.open[direction] += posting.open[direction];
            self.body[direction] += posting.body[direction];
        }
        self.requests += u64::from(posting.requests);
        true
    }

    /// With what could not be posted, which the kernel keeps apart.
    #[must_use]
    pub fn with(&self, spill: &Spill) -> Self {
        let mut sum = self.clone();
        for direction in [INBOUND, OUTBOUND] {
            sum.stream[direction] += spill.stream[direction];
            sum.unattributed[reason_index(Reason::Lost)][direction] += spill.lost[direction];
            sum.open[direction] += spill.open[direction];
        }
        sum.requests += spill.requests;
        sum
    }

    /// stream - wire - unattributed - open; 0 when the books balance.
    #[must_use]
    pub fn imbalance(&self) -> [i128; 2] {
        [INBOUND, OUTBOUND].map(|direction| {
            let unattributed: u64 = self.unattributed.iter().map(|reason| reason[direction]).sum();
            i128::from(self.stream[direction])
                - i128::from(self.wire[direction])
                - i128::from(unattributed)
                - i128::from(self.open[direction])
        })
    }

    pub(super) fn to_bytes(&self) -> [u8; LEDGER] {
        let mut bytes = [0; LEDGER];
        let mut to = Writer(&mut bytes);
        to.u64s([&self.last.0, &u64::from(self.last.1)]);
        to.text(&self.service, NAME_ROOM);
        to.u64s([&self.bounds]);
        to.u64s(self.stream.iter().chain(&self.wire).chain(self.unattributed.iter().flatten()));
        to.u64s(&self.open.map(i64::cast_unsigned));
        to.u64s(self.body.iter().chain([&self.requests]));
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; LEDGER]) -> Option<Self> {
        let mut from = Reader(bytes);
        let last = (from.u64()?, u32::try_from(from.u64()?).ok()?);
        let mut ledger =
            Self { service: from.text(NAME_ROOM)?.to_owned(), last, bounds: from.u64()?, ..Self::default() };
        from.u64s(&mut ledger.stream)?;
        from.u64s(&mut ledger.wire)?;
        for reason in &mut ledger.unattributed {
            from.u64s(reason)?;
        }
        ledger.open = [from.u64()?.cast_signed(), from.u64()?.cast_signed()];
        from.u64s(&mut ledger.body)?;
        ledger.requests = from.u64()?;
        Some(ledger)
    }
}

fn reason_index(reason: Reason) -> usize {
    Reason::ALL.iter().position(|other| *other == reason).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_bytes_and_back() {
        let ledger = Ledger {
            service: "s".repeat(NAME_ROOM - 2),
            stream: [1, 2],
            wire: [3, 4],
            unattributed: std::array::from_fn(|i| [u64::try_from(i).unwrap_or(0), 9]),
            open: [-5, 6],
            body: [7, 8],
            requests: u64::MAX,
            bounds: 10,
            last: (11, 12),
        };
        assert_eq!(Ledger::from_bytes(&ledger.to_bytes()), Some(ledger));
    }
}
