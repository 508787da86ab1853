//! Reading the journal. What a posting means is `sockmeter_ebpf::posting`'s and `model`'s.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};

use super::Refusal;
use crate::snapshot::{self, Posting};

/// The kernel's ring of postings. It is mapped only while it is read: the kernel shows it twice in a row, and all of that
/// would count as this process's memory.
pub struct Journal {
    ring: Map,
    /// Records that were no postings: never, unless kernel and agent are of different layouts.
    damaged: u64,
}

impl Journal {
    pub(super) fn open(ebpf: &mut aya::Ebpf) -> Result<Self, Refusal> {
        let ring = ebpf.take_map("JOURNAL").ok_or_else(|| Refusal::new("the kernel object has no journal"))?;
        // What cannot be mapped is said at the start, not when it is read.
        RingBuf::try_from(&ring).map_err(|error| Refusal::because("cannot map the journal", &error))?;
        Ok(Self { ring, damaged: 0 })
    }

    /// Records that were no postings.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Its descriptor: readable while there is something in it, and told so when it has filled so far that it should be
    /// read.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        descriptor(&self.ring)
    }
}

fn descriptor(ring: &Map) -> Option<BorrowedFd<'_>> {
    let Map::RingBuf(data) = ring else {
        return None;
    };
    let data: &MapData = data;
    Some(data.fd().as_fd())
}

/// The kernel programs' clock (`bpf_ktime_get_ns`), in nanoseconds; behind everything if it cannot be read.
fn now() -> u64 {
    let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return u64::MAX;
    };
    Duration::from(time).as_nanos().try_into().unwrap_or(u64::MAX)
}

/// Whether nothing is there to be read, as far as the kernel tells.
fn is_empty(ring: &Map) -> bool {
    descriptor(ring).is_some_and(|descriptor| {
        let mut wanted = [PollFd::new(descriptor, PollFlags::POLLIN)];
        poll(&mut wanted, PollTimeout::ZERO) == Ok(0)
    })
}

impl snapshot::Journal for Journal {
    fn drain(&mut self, book: &mut dyn FnMut(&Posting, &[u8])) {
        let called = now();
        if is_empty(&self.ring) {
            return;
        }
        let mut ring = match RingBuf::try_from(&self.ring) {
            Ok(ring) => ring,
            Err(error) => {
                tracing::warn!(%error, "the journal cannot be mapped now, what is in it waits");
                return;
            }
        };
        while let Some(item) = ring.next() {
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
