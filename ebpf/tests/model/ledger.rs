//! Adding up postings as user space does, and looking whether each of them balances.

use sockmeter_ebpf::posting::{self, Posting, REASONS, Reason};

use super::outside::{Host, Record};

/// An exchange as a reader of the journal sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// First line as far as it was captured, without its line end.
    pub(crate) line: Vec<u8>,
    pub(crate) status: u16,
    pub(crate) wire: [u64; 2],
    pub(crate) body: [u64; 2],
}

/// Sums of one connection.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) stream: [u64; 2],
    pub(crate) wire: [u64; 2],
    pub(crate) unattributed: [[u64; 2]; REASONS],
    pub(crate) lost: [u64; 2],
    pub(crate) open: [i128; 2],
    pub(crate) requests: u64,
    number: u32,
}

impl Ledger {
    /// Adds everything that was posted.
    pub(crate) fn read_journal(&mut self) {
        for record in Host::drain() {
            self.add(&record);
        }
    }

    /// Adds what went past the full journal; once, at the end.
    pub(crate) fn read_spills(&mut self) {
        for posting in Host::spilled() {
            self.balances(&posting);
            for direction in 0..2 {
                self.stream[direction] += posting.stream[direction];
                self.lost[direction] += posting.lost[direction] + posting.unattributed[direction];
                self.open[direction] += i128::from(posting.open[direction]);
            }
            self.requests += u64::from(posting.requests);
        }
    }

    fn add(&mut self, record: &Record) {
        let posting = &record.posting;
        self.balances(posting);
        assert_eq!(posting.number, self.number + 1, "postings of a connection are numbered");
        self.number = posting.number;
        assert_eq!((posting.cookie, posting.service), (7, 3));
        for direction in 0..2 {
            self.stream[direction] += posting.stream[direction];
            self.wire[direction] += posting.wire[direction];
            self.unattributed[usize::from(posting.reasons[direction])][direction] += posting.unattributed[direction];
            self.lost[direction] += posting.lost[direction];
            self.open[direction] += i128::from(posting.open[direction]);
            assert!(self.open[direction] >= 0, "less than nothing is open: {posting:?}");
        }
        self.requests += u64::from(posting.requests);
        if posting.kind == posting::KIND_EXCHANGE {
            assert!(posting.began > 0 && posting.ended >= posting.began, "times of {posting:?} after {self:?}");
            let line = record.head.strip_suffix(b"\r").unwrap_or(&record.head);
            let (wire, body) = (posting.wire, posting.body);
            self.exchanges.push(Exchange { line: line.to_vec(), status: posting.status, wire, body });
        }
    }

    fn balances(&self, posting: &Posting) {
        for direction in 0..2 {
            let right = i128::from(posting.wire[direction])
                + i128::from(posting.unattributed[direction])
                + i128::from(posting.lost[direction])
                + i128::from(posting.open[direction]);
            assert_eq!(
                i128::from(posting.stream[direction]),
                right,
                "direction {direction} of {posting:?} after {self:?}"
            );
        }
    }

    /// Bytes whose detail was dropped, whichever way they were booked.
    pub(crate) fn given_up(&self, direction: usize) -> u64 {
        self.lost[direction] + self.unattributed[Reason::Lost as usize][direction]
    }

    /// After the end: all of `streams` is booked, nothing is open.
    pub(crate) fn is_complete(&self, streams: [u64; 2]) {
        for (direction, stream) in streams.into_iter().enumerate() {
            let unattributed: u64 = self.unattributed.iter().map(|bytes| bytes[direction]).sum();
            assert_eq!(self.stream[direction], stream, "stream of direction {direction}");
            assert_eq!(self.open[direction], 0, "open of direction {direction}");
            assert_eq!(self.wire[direction] + unattributed + self.lost[direction], stream, "direction {direction}");
        }
    }
}
