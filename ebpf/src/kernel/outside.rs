//! What the reading and the settlement need of the kernel: clock, journal, overflow map, loops.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_loop, bpf_map_delete_elem, bpf_map_lookup_elem, bpf_map_update_elem, bpf_ringbuf_output,
    bpf_ringbuf_query,
};
use sockmeter_ebpf::conn::{Conn, Entry, Outside, Steps};
use sockmeter_ebpf::http::head::REQUEST_HEAD;
use sockmeter_ebpf::http::scan::{Scan, Stop, block, line, lines, scan};
use sockmeter_ebpf::http::side::Side;
use sockmeter_ebpf::http::window::{WINDOW, Window};
use sockmeter_ebpf::layout::DeepKey;
use sockmeter_ebpf::message;
use sockmeter_ebpf::posting::{self, INBOUND, OUTBOUND, Posting};

use super::atomic::{self, add};
use super::globals::journal_wake;
use super::maps::{BLANK, DEEP, JOURNAL, LOST, SPILLS};

/// The kernel.
pub(super) struct Kernel;

#[inline(always)]
fn address<T>(map: &T) -> *mut c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}

#[inline(always)]
fn output(from: *const c_void, len: u64) -> bool {
    // SAFETY: `from` has `len` bytes, which the verifier checks.
    unsafe {
        let waiting = bpf_ringbuf_query(address(&JOURNAL), u64::from(BPF_RB_AVAIL_DATA));
        // The reader comes by at every scrape anyway, and waking it costs more than all the rest: so only when one more such
        // part of the ring is full. Not when the first is: of two CPUs that fill it together, neither may see that it did.
        let parts = !(journal_wake().wrapping_sub(1));
        let is_late = (waiting ^ (waiting + len + 8)) & parts != 0;
        let flags = if is_late { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
        bpf_ringbuf_output(address(&JOURNAL), from.cast_mut(), len, u64::from(flags)) == 0
    }
}

#[inline(never)]
unsafe extern "C" fn one<S: Steps>(_: u32, steps: *mut S) -> i64 {
    // SAFETY: `bpf_loop` hands over the context that it was given.
    if unsafe { &mut *steps }.step() { 0 } else { 1 }
}

// The functions below are global: the verifier looks at each once, by itself, with nothing known of its arguments, instead
// of once for every way in which they are reached. Their pointers come as "memory or null".

#[unsafe(no_mangle)]
extern "C" fn scan_window(side: *mut Side, window: *mut Window, len: u32) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let (Some(side), Some(window)) = (unsafe { side.as_mut() }, unsafe { window.as_mut() }) else {
        return 0;
    };
    if len > WINDOW {
        return 0;
    }
    let found = scan::<Kernel>(side, window, len);
    window.keep_result(&found);
    match found.stop {
        Stop::Exhausted => 0,
        Stop::Blank => 1,
        Stop::ChunkSize => 2,
        Stop::NotHttp => 3,
        Stop::Tls => 4,
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lines_read(side: *mut Side, window: *mut Window, len: u32) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    if let (Some(side), Some(window)) = (unsafe { side.as_mut() }, unsafe { window.as_mut() }) {
        lines::<Kernel>(side, window, len);
    }
    0
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn block_read(side: *mut Side, window: *mut Window, from: u32, end: u32) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let (Some(side), Some(window)) = (unsafe { side.as_mut() }, unsafe { window.as_mut() }) else {
        return 0;
    };
    u32::from(block::<Kernel>(side, window, from, end))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn line_read(side: *mut Side, window: *mut Window, feed: u32) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let (Some(side), Some(window)) = (unsafe { side.as_mut() }, unsafe { window.as_mut() }) else {
        return 0;
    };
    u32::from(line(side, window, window.blur(feed)))
}

#[unsafe(no_mangle)]
extern "C" fn request_head_read(conn: *mut Conn, position: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    match unsafe { conn.as_mut() } {
        Some(conn) => u32::from(message::request_head(conn, &mut Kernel, position)),
        None => 0,
    }
}

#[unsafe(no_mangle)]
extern "C" fn answer_head_read(conn: *mut Conn, position: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    match unsafe { conn.as_mut() } {
        Some(conn) => u32::from(message::answer_head(conn, &mut Kernel, position)),
        None => 0,
    }
}

#[unsafe(no_mangle)]
extern "C" fn message_end_read(conn: *mut Conn, out: u32, position: u64, ended: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    if let Some(conn) = unsafe { conn.as_mut() } {
        message::message_ended(conn, &mut Kernel, out != 0, position, ended);
    }
    0
}

impl Outside for Kernel {
    #[inline(always)]
    fn now(&mut self) -> u64 {
        // SAFETY: no arguments.
        unsafe { bpf_ktime_get_ns() }
    }

    #[inline(always)]
    fn post(&mut self, posting: &Posting) -> bool {
        output(core::ptr::from_ref(posting).cast(), posting::SIZE as u64)
    }

    #[inline(always)]
    fn post_entry(&mut self, entry: &Entry) -> bool {
        let mut len = u64::from(entry.posting.head_len);
        if len > REQUEST_HEAD as u64 {
            len = REQUEST_HEAD as u64;
        }
        output(core::ptr::from_ref(&entry.posting).cast(), posting::SIZE as u64 + len)
    }

    #[inline(always)]
    fn spill(&mut self, posting: &Posting) {
        let Some(spill) = SPILLS.get_ptr_mut(u32::from(posting.service)) else {
            return;
        };
        // SAFETY: an element of an array map.
        unsafe {
            add(&raw mut (*spill).stream[INBOUND], posting.stream[INBOUND]);
            add(&raw mut (*spill).stream[OUTBOUND], posting.stream[OUTBOUND]);
            add(&raw mut (*spill).lost[INBOUND], posting.lost[INBOUND] + posting.unattributed[INBOUND]);
            add(&raw mut (*spill).lost[OUTBOUND], posting.lost[OUTBOUND] + posting.unattributed[OUTBOUND]);
            add((&raw mut (*spill).open[INBOUND]).cast(), posting.open[INBOUND].cast_unsigned());
            add((&raw mut (*spill).open[OUTBOUND]).cast(), posting.open[OUTBOUND].cast_unsigned());
            add(&raw mut (*spill).requests, u64::from(posting.requests));
        }
    }

    #[inline(always)]
    fn deep_create(&mut self, cookie: u64, number: u32) -> *mut Entry {
        // What came with a handshake has no name yet.
        if cookie == 0 {
            return core::ptr::null_mut();
        }
        let key = DeepKey { cookie, number: u64::from(number) };
        let zero = 0u32;
        // SAFETY: map addresses of ours, key and value of the maps' types.
        unsafe {
            let blank = bpf_map_lookup_elem(address(&BLANK), (&raw const zero).cast_mut().cast());
            if blank.is_null() {
                return core::ptr::null_mut();
            }
            let key = (&raw const key).cast_mut().cast();
            if bpf_map_update_elem(address(&DEEP), key, blank, 0) != 0 {
                return core::ptr::null_mut();
            }
            bpf_map_lookup_elem(address(&DEEP), key).cast()
        }
    }

    #[inline(always)]
    fn deep(&mut self, cookie: u64, number: u32) -> *mut Entry {
        let key = DeepKey { cookie, number: u64::from(number) };
        // SAFETY: as in `deep_create`.
        unsafe { bpf_map_lookup_elem(address(&DEEP), (&raw const key).cast_mut().cast()).cast() }
    }

    #[inline(always)]
    fn deep_remove(&mut self, cookie: u64, number: u32) {
        let key = DeepKey { cookie, number: u64::from(number) };
        // SAFETY: as in `deep_create`.
        unsafe { bpf_map_delete_elem(address(&DEEP), (&raw const key).cast_mut().cast()) };
    }

    #[inline(always)]
    fn lost(&mut self, what: u32) {
        if let Some(counter) = LOST.get_ptr_mut(what) {
            add(counter, 1);
        }
    }

    #[inline(always)]
    fn take(busy: &mut u32) -> bool {
        atomic::take(busy)
    }

    #[inline(always)]
    fn give(busy: &mut u32) {
        atomic::give(busy);
    }

    #[inline(always)]
    fn line(side: &mut Side, window: &mut Window, feed: u32) -> bool {
        line_read(side, window, feed) != 0
    }

    #[inline(always)]
    fn block(side: &mut Side, window: &mut Window, from: u32, end: u32) -> bool {
        block_read(side, window, from, end) != 0
    }

    #[inline(always)]
    fn scan(side: &mut Side, window: &mut Window, len: u32) -> Scan {
        lines_read(side, window, len);
        let found = scan_window(side, window, len);
        let stop = match found {
            1 => Stop::Blank,
            2 => Stop::ChunkSize,
            3 => Stop::NotHttp,
            4 => Stop::Tls,
            _ => Stop::Exhausted,
        };
        window.result(stop)
    }

    #[inline(always)]
    fn request_head(conn: &mut Conn, position: u64) -> bool {
        request_head_read(conn, position) != 0
    }

    #[inline(always)]
    fn answer_head(conn: &mut Conn, position: u64) -> bool {
        answer_head_read(conn, position) != 0
    }

    #[inline(always)]
    fn message_ended(conn: &mut Conn, out: bool, position: u64, ended: u64) {
        message_end_read(conn, u32::from(out), position, ended);
    }

    #[inline(always)]
    fn repeat<S: Steps>(times: u32, steps: &mut S) {
        let mut taken = 0;
        while taken < S::DIRECT {
            let more = if S::FRAMED {
                // SAFETY: what the loop does.
                unsafe { one(0, core::ptr::from_mut(steps)) == 0 }
            } else {
                steps.step()
            };
            if !more {
                return;
            }
            taken += 1;
        }
        let callback: unsafe extern "C" fn(u32, *mut S) -> i64 = one::<S>;
        // SAFETY: the callback takes exactly this context.
        unsafe { bpf_loop(times, callback as *mut c_void, core::ptr::from_mut(steps).cast(), 0) };
    }
}
