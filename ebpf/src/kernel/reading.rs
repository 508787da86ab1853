//! Reading one packet's payload, and what it makes readable of the stash. Which packets are worth it is `packet`'s to say.
//!
//! The functions that are called from elsewhere are global, so that the verifier looks at each once, whatever connection it is called for: see
//! `outside`.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_sk_fullsock, bpf_skb_load_bytes};
use sockmeter_ebpf::conn::{Conn, Outside as _};
use sockmeter_ebpf::http::window::WINDOW;
use sockmeter_ebpf::layout::LOSS_PACKET;
use sockmeter_ebpf::stash::Block;
use sockmeter_ebpf::walk::{Segment, Walk};

use super::atomic::take;
use super::bounds;
use super::maps::{DESKS, Desk, WINDOWS};
use super::outside::Kernel;
use super::stash;
use super::tcp::LISTEN;

/// Where the bytes are: in the packet, or in a block of the stash.
struct Payload<const OUT: bool> {
    skb: *mut __sk_buff,
    at: u64,
    /// Null: in the packet.
    block: *const Block,
}

impl<const OUT: bool> Segment for Payload<OUT> {
    #[inline(always)]
    fn load(&self, offset: u32, into: *mut u8, len: u32) -> bool {
        if !bounds::is_within(len, WINDOW) {
            return false;
        }
        if self.block.is_null() {
            let at = self.at as u32 + offset;
            // SAFETY: `into` has `WINDOW` bytes.
            return unsafe {
                let len = bounds::sized::<WINDOW>(len);
                bpf_skb_load_bytes(self.skb.cast::<c_void>(), at, into.cast(), len) == 0
            };
        }
        let from = self.block.cast::<u8>().wrapping_add(offset as usize);
        // SAFETY: `into` has `WINDOW` bytes; kernel memory is copied by a helper that fails instead of faulting.
        unsafe { bpf_probe_read_kernel(into.cast(), bounds::sized::<WINDOW>(len), from.cast()) == 0 }
    }

    #[inline(always)]
    fn keep(&mut self, from: u64, until: u64) -> bool {
        keep_early(self.skb, u32::from(OUT), self.at as u32, from, until) != 0
    }

    #[inline(always)]
    fn next(&mut self, want: u64) -> Option<(u64, u64)> {
        let sk = socket(self.skb);
        if sk.is_null() {
            return None;
        }
        let found = stash::find(stash::of(sk)?, usize::from(OUT), want)?;
        self.block = found.block;
        Some((found.from, found.from.wrapping_add(found.len)))
    }
}

/// The packet's connection; null before it has a socket of its own: then nothing came in front of this packet.
#[inline(always)]
pub(super) fn socket(skb: *mut __sk_buff) -> *mut c_void {
    // SAFETY: fields of the program's context; the verifier checks the socket pointers.
    unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return core::ptr::null_mut();
        }
        let sk = bpf_sk_fullsock(sk);
        if sk.is_null() || (*sk).state == u32::from(LISTEN) {
            return core::ptr::null_mut();
        }
        sk.cast()
    }
}

/// Takes a desk of this CPU.
#[inline(always)]
fn desk() -> Option<&'static mut Desk> {
    let mut i = 0;
    while i < DESKS {
        let desk = WINDOWS.get_ptr_mut(i)?;
        // SAFETY: an element of an array map, and nobody else has it while `taken` was 0.
        let desk = unsafe { &mut *desk };
        if take(&raw mut desk.taken) {
            return Some(desk);
        }
        i += 1;
    }
    None
}

/// Keeps `from..until` of a direction, which lies at `at` in the packet, until it can be read: 1, or 0 if there is no room.
#[unsafe(no_mangle)]
pub(super) extern "C" fn keep_early(skb: *mut __sk_buff, direction: u32, at: u32, from: u64, until: u64) -> u32 {
    let sk = socket(skb);
    if sk.is_null() {
        return 0;
    }
    u32::from(stash::keep(sk, direction as usize, skb, at, from, until))
}

/// Reads what came in, `Conn::reading`. 0.
#[unsafe(no_mangle)]
pub(super) extern "C" fn read_inbound(skb: *mut __sk_buff, conn: *mut Conn) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    if let Some(conn) = unsafe { conn.as_mut() } {
        let (at, [from, until]) = (conn.payload, conn.reading);
        read::<false>(skb, conn, at, from, until);
    }
    0
}

/// The same for what goes out: `from..until`, which lies at `at` in the packet.
#[unsafe(no_mangle)]
pub(super) extern "C" fn read_outbound(skb: *mut __sk_buff, conn: *mut Conn, at: u32, from: u64, until: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    if let Some(conn) = unsafe { conn.as_mut() } {
        read::<true>(skb, conn, at, from, until);
    }
    0
}

#[inline(always)]
fn read<const OUT: bool>(skb: *mut __sk_buff, conn: &mut Conn, at: u32, from: u64, until: u64) {
    let Some(desk) = desk() else {
        Kernel.lost(LOSS_PACKET);
        return;
    };
    // Null; see `nothing`.
    let block = core::ptr::with_exposed_provenance(desk.window.nothing() as usize);
    Walk::<_, _, OUT> {
        conn,
        window: &mut desk.window,
        segment: Payload::<OUT> { skb, at: u64::from(at), block },
        outside: Kernel,
        from,
        until,
        done: false,
    }
    .run();
    // Nobody else waits for it: what interrupts this CPU ends before it goes on here.
    // SAFETY: a field of an array map's element; volatile, so that it is the last store.
    unsafe { core::ptr::write_volatile(&raw mut desk.taken, 0) };
}
