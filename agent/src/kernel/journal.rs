//! Reading the journal. What a posting means is `sockmeter_ebpf::posting`'s and `model`'s.

use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::{MapData, RingBuf};

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

impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

impl snapshot::Journal for Journal {
    fn drain(&mut self, book: &mut dyn FnMut(&Posting, &[u8])) {
        while let Some(item) = self.ring.next() {
            match Posting::from_bytes(&item) {
                Some((posting, head)) => book(&posting, head),
                None => self.damaged += 1,
            }
            // `item` is dropped here: only now the kernel may overwrite it.
        }
    }
}
