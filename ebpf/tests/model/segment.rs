//! The payload of one segment, and the bytes that arrived before their turn: what `kernel/stash.rs` does with blocks.

use sockmeter_ebpf::http::window::WINDOW;
use sockmeter_ebpf::walk::Segment;

/// Early pieces of one direction.
#[derive(Debug)]
pub(crate) struct Stash {
    pieces: Vec<(u64, Vec<u8>)>,
    capacity: usize,
}

impl Stash {
    /// An empty one with room for so many pieces.
    pub(crate) fn of(capacity: usize) -> Self {
        Self { pieces: Vec::new(), capacity }
    }

    /// Keeps a piece; false if there is no room.
    pub(crate) fn put(&mut self, from: u64, bytes: &[u8]) -> bool {
        let room = self.pieces.len() < self.capacity;
        if room {
            self.pieces.push((from, bytes.to_vec()));
        }
        room
    }

    fn find(&mut self, want: u64) -> Option<(u64, Vec<u8>)> {
        self.pieces.retain(|(from, bytes)| end(*from, bytes) > want);
        self.pieces.iter().find(|(from, _)| *from <= want).cloned()
    }
}

fn end(from: u64, bytes: &[u8]) -> u64 {
    from + u64::try_from(bytes.len()).unwrap()
}

/// A segment's payload; after `next` that of a kept piece.
pub(crate) struct Payload<'a> {
    pub(crate) stash: &'a mut Stash,
    pub(crate) packet: &'a [u8],
    pub(crate) kept: Option<Vec<u8>>,
}

impl Segment for Payload<'_> {
    fn load(&self, offset: u32, into: *mut u8, len: u32) -> bool {
        assert!(len > 0 && len <= WINDOW, "a load of {len} bytes, which the kernel would refuse");
        let bytes = self.kept.as_deref().unwrap_or(self.packet);
        let (offset, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
        let Some(part) = bytes.get(offset..).and_then(|rest| rest.get(..len)) else {
            return false;
        };
        // SAFETY: the caller's promise: room for `WINDOW` bytes.
        unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), into, len) };
        true
    }

    fn keep(&mut self, from: u64, until: u64) -> bool {
        assert!(self.kept.is_none(), "a kept piece is kept again");
        assert_eq!(end(from, self.packet), until);
        self.stash.put(from, self.packet)
    }

    fn next(&mut self, want: u64) -> Option<(u64, u64)> {
        let (from, bytes) = self.stash.find(want)?;
        let until = end(from, &bytes);
        self.kept = Some(bytes);
        Some((from, until))
    }
}
