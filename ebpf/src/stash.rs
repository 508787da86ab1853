//! Bytes that arrived before those in front of them: where a message ends may only be known once the gap is filled, and
//! nothing runs then, so they are kept. Copying them is `kernel/stash.rs`.

/// Payload bytes of one block.
pub const BLOCK: u32 = 16 * 1024;
/// Blocks in all: 8 MiB.
pub const BLOCKS: u32 = 512;
/// Blocks that one direction of one connection may hold: 2 MiB. A `Stash` must stay below 8 KiB: newer kernels have no more
/// for a socket's storage (`mm/slub.c`, `kmalloc_nolock_noprof`).
pub const ITEMS: u32 = 128;
/// A piece of at most this length is appended to the block that it follows, if there is room for a longest one.
pub const APPENDED: u32 = 2048;

/// `Item::state`: nothing in it.
pub const FREE: u32 = 0;
/// `Item::state`: somebody is writing it.
pub const FILLING: u32 = 1;
/// `Item::state`: can be read.
pub const READY: u32 = 2;

/// A kept piece of the stream.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// Position of its first byte.
    pub from: u64,
    /// How many.
    pub len: u32,
    /// Number of the block that has them.
    pub block: u32,
    /// `FREE`, `FILLING`, `READY`.
    pub state: u32,
    /// Spelled-out padding.
    pub pad: u32,
}
const _: () = assert!(size_of::<Item>() == 24);

/// What one connection keeps, `[inbound, outbound]`; made when something first arrives early.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Stash {
    /// The pieces.
    pub items: [[Item; ITEMS as usize]; 2],
    /// How often something was put in: tells the reader whether to look again.
    pub arrivals: [u32; 2],
    /// Where a search is, `[to put in, to take out]`. Here and not on the stack, because what the verifier knows of an
    /// index it follows apart for each value.
    pub cursors: [[u32; 2]; 2],
    /// Not used any more: the record of a pinned map keeps its size.
    pub spare: [u64; 2],
}

const _: () = assert!(size_of::<Stash>() <= 8 * 1024 - 256);

/// The bytes of a piece.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Payload.
    pub bytes: [u8; BLOCK as usize],
}
