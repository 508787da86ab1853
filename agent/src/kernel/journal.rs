//! Reading the journal. What a posting means is `sockmeter_ebpf::posting`'s and `model`'s; how a ring is read, `ring`'s.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aya::maps::Map;
use nix::time::{ClockId, clock_gettime};

use super::Refusal;
use super::ring::Ring;
use crate::snapshot::{self, Booking, Mark, Posting};

/// The journal is read when this part of it is full. The less, the shorter the reader keeps a processor from others; the
/// more, the fewer wakes: a 64th of 16 MiB is 1,300 exchanges, about a millisecond's work.
const WAKES: u64 = 64;

/// Bytes that wait from which on the journal should be read. A ring that is pinned stays as large as it is, whatever is
/// configured now.
pub(super) fn late(pinned: Option<u32>, configured: u32) -> u64 {
    u64::from(pinned.unwrap_or(configured)) / WAKES
}

/// The kernel's ring of postings.
pub struct Journal {
    ring: Ring,
    /// Bytes that wait from which on it should be read.
    late: u64,
    /// Records that were no postings: never, unless kernel and agent are of different layouts.
    damaged: u64,
}

impl Journal {
    pub(super) fn open(ebpf: &mut aya::Ebpf, late: u64) -> Result<Self, Refusal> {
        let Some(Map::RingBuf(map)) = ebpf.take_map("JOURNAL") else {
            return Err(Refusal::new("the kernel object has no journal"));
        };
        let ring = Ring::open(map).map_err(|error| Refusal::because("cannot map the journal", &error))?;
        Ok(Self { ring, late, damaged: 0 })
    }

    /// Leaves out what an earlier run had taken into the books and was killed before it removed it here.
    pub fn go_on_from(&mut self, read: Mark) {
        if read.journal == self.ring.id() && (self.ring.released()..=self.ring.written()).contains(&read.position) {
            self.ring.release(read.position);
        }
    }

    /// Records that were no postings.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Its descriptor: readable while there is something in it, and told so when it has filled so far that it should be
    /// read.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.ring.map().fd().as_fd()
    }

    fn commit(&mut self, books: &mut dyn Booking, position: u64) {
        books.commit(Mark { journal: self.ring.id(), position });
        self.ring.release(position);
    }
}

/// The kernel programs' clock (`bpf_ktime_get_ns`), in nanoseconds; behind everything if it cannot be read.
fn now() -> u64 {
    let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return u64::MAX;
    };
    Duration::from(time).as_nanos().try_into().unwrap_or(u64::MAX)
}

impl snapshot::Journal for Journal {
    fn drain(&mut self, books: &mut dyn Booking) -> bool {
        let called = now();
        let began = self.ring.released();
        let mut kept = began;
        let mut is_over = false;
        while !is_over {
            let mut window = match self.ring.window(kept) {
                Ok(Some(window)) => window,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the journal cannot be mapped now, what is in it waits");
                    break;
                }
            };
            let from = kept;
            let mut read = from;
            while let Some(record) = window.next() {
                read = record.end;
                let mut is_full = false;
                match Posting::from_bytes(record.bytes) {
                    Some((posting, head)) => {
                        is_full = books.book(&posting, head);
                        // Only exchanges have a time; where there are none, there is no flood of postings either.
                        is_over = posting.ended > called;
                    }
                    None => self.damaged += 1,
                }
                if is_full {
                    self.commit(books, read);
                    kept = read;
                }
                if is_over {
                    break;
                }
            }
            if read != kept {
                self.commit(books, read);
                kept = read;
            }
            // What comes next may still be being written.
            is_over |= read == from;
        }
        kept != began
    }

    fn is_late(&self) -> bool {
        self.ring.written().saturating_sub(self.ring.released()) >= self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_ring_is_late_by_its_own_size() {
        assert_eq!([late(None, 1 << 24), late(Some(1 << 16), 1 << 24)], [1 << 18, 1 << 10]);
    }
}
