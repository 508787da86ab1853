//! Reading the journal. What a posting means is `sockmeter_ebpf::posting`'s and `model`'s.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use nix::time::{ClockId, clock_gettime};

use super::Refusal;
use crate::snapshot::{self, Posting};

/// The kernel's ring of postings.
pub struct Journal {
    ring: RingBuf<MapData>,
    /// Records that were no postings: never, unless kernel and agent are of different layouts.
    damaged: u64,
}

impl Journal {
    pub(super) fn open(ebpf: &mut aya::Ebpf) -> Result<Self, Refusal> {
        let map = ebpf.take_map("JOURNAL").ok_or_else(|| Refusal::new("the kernel object has no journal"))?;
        let ring = RingBuf::try_from(map).map_err(|error| Refusal::because("cannot map the journal", &error))?;
        Ok(Self { ring, damaged: 0 })
    }

    /// Records that were no postings.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

/// The kernel programs' clock (`bpf_ktime_get_ns`), in nanoseconds; behind everything if it cannot be read.
fn now() -> u64 {
    let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return u64::MAX;
    };
    Duration::from(time).as_nanos().try_into().unwrap_or(u64::MAX)
}

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl snapshot::Journal for Journal {
    fn drain(&mut self, book: &mut dyn FnMut(&Posting, &[u8])) {
        let called = now();
        while let Some(item) = self.ring.next() {
            match Posting::from_bytes(&item) {
                Some((posting, head)) => {
                    book(&posting, head);
                    // Only exchanges have a time; where there are none, there is no flood of postings either.
                    if posting.ended > called {
                        return;
                    }
                }
                None => self.damaged += 1,
            }
            // `item` is dropped here: only now the kernel may overwrite it.
        }
    }
}
