//! One look at every socket that something is kept of, in all network namespaces at once: books the progress of those that are
//! not read, and says in which namespaces a pass over the sockets (`snapshot`) has to settle the others. Run for every scrape.
//!
//! The kernel goes through the storages, and through nothing else (`net/core/bpf_sk_storage.c`, `bpf_sk_storage_map_seq_ops`):
//! a pass over one namespace goes through the table of all namespaces' connections, most of whose chains are empty. It holds no
//! socket's lock: what is booked here is read as `unlocked` says, and who books brings what is booked up to there by one atomic
//! step (`totals`), so that nothing is booked twice.
//!
//! Not run where `struct bpf_local_storage_elem` has a state: those kernels take the storage away from an element when its socket
//! goes (`bpf_selem_unlink_nofail`, kernel/bpf/bpf_local_storage.c, from 7.0 on), which `__bpf_sk_storage_map_seq_show` does not
//! expect between two looks at it. There every namespace is passed over, as `snapshot` says.

use core::ffi::c_void;
use core::ptr::read_volatile;

use sockmeter_ebpf::place::Maker;
use sockmeter_ebpf::socket::{OBSERVED, ROLE_CLIENT, ROLE_UNKNOWN, Socket, TCP, UDP, live_index};
use sockmeter_ebpf::unlocked::{self, Unlocked};

use super::atomic::{add, barrier};
use super::maps::{MAKER, SCANNED, UNSETTLED};
use super::snapshot::{Meta, udp};
use super::tcp::{CLOSE, Common, LISTEN, Ports, SYN_SENT, Tcp};
use super::totals;

/// `struct bpf_iter__bpf_sk_storage_map` (`net/core/bpf_sk_storage.c`).
#[repr(C)]
pub(super) struct StoragePass {
    meta: *mut Meta,
    map: *mut c_void,
    sk: *mut c_void,
    value: *mut Socket,
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/bpf_sk_storage_map")]
extern "C" fn scan_sockets(pass: *mut StoragePass) -> i32 {
    // SAFETY: the program's context, whose pointers the verifier knows.
    let (sk, socket) = unsafe { ((*pass).sk, (*pass).value) };
    if sk.is_null() {
        return 0;
    }
    // SAFETY: as above; the value lives as long as the program runs (RCU).
    let Some(socket) = (unsafe { socket.as_mut() }) else {
        return 0;
    };
    if socket.closed != 0 {
        return 0;
    }
    let common = Common::of(sk);
    if !common.in_scope() {
        return 0;
    }
    match socket.protocol {
        TCP => {
            // Most did nothing since the last time. What it takes to see that is cache lines that nobody else looks at, so the
            // socket's first, with its state, is not among them.
            if socket.rests_at(common.next()) {
                count(TCP, socket.role, socket.rest_state());
                return 0;
            }
            let state = common.state();
            if state == CLOSE || state == LISTEN {
                return 0;
            }
            if !book(socket, sk) {
                ask_for_pass(common.netns());
            }
            count(TCP, socket.role, state);
        }
        UDP => {
            let ports = Ports::of(sk);
            if socket.role == ROLE_UNKNOWN && !is_whole(socket, sk, &ports) {
                ask_for_pass(common.netns());
                return 0;
            }
            // Neither bound nor connected, and in none of the kernel's tables.
            if ports.local == 0 {
                return 0;
            }
            if !udp(socket, &ports, |socket| book_datagrams(socket, sk)) {
                ask_for_pass(common.netns());
            }
            count(UDP, socket.role, common.state());
        }
        // Connecting: nothing to book before it is established, which `begin` will see.
        _ if common.state() == SYN_SENT => count(TCP, ROLE_CLIENT, SYN_SENT),
        _ => {}
    }
    0
}

/// What is read of a socket while somebody may hold its lock: its numbers, and who made it.
struct Look<'a, N> {
    socket: &'a mut Socket,
    tcp: Tcp,
    numbers: N,
    maker: *const [u64; WORDS],
    /// A copy of that, made by the first reading.
    noted: &'a mut [u64; WORDS],
}

/// The words of a `Maker`.
const WORDS: usize = size_of::<Maker>() / size_of::<u64>();

impl<N> Look<'_, N> {
    /// A word of the maker's record.
    #[inline(always)]
    fn word(&self, at: usize) -> u64 {
        // SAFETY: a map value that somebody may be writing.
        unsafe { read_volatile(&raw const (*self.maker)[at]) }
    }
}

impl<T: PartialEq, N: Fn(Tcp) -> T> Unlocked for Look<'_, N> {
    type Numbers = T;

    #[inline(always)]
    fn numbers(&mut self) -> T {
        let mut at = 0;
        while at < WORDS && !self.maker.is_null() {
            self.noted[at] = self.word(at);
            at += 1;
        }
        (self.numbers)(self.tcp)
    }

    #[inline(always)]
    fn is_still(&mut self, first: &T) -> bool {
        let mut differs = 0;
        let mut at = 0;
        while at < WORDS && !self.maker.is_null() {
            differs |= self.noted[at] ^ self.word(at);
            at += 1;
        }
        differs == 0 && (self.numbers)(self.tcp) == *first
    }

    #[inline(always)]
    fn is_free(&mut self) -> bool {
        self.tcp.is_free()
    }

    #[inline(always)]
    fn barrier(&mut self) {
        barrier(&raw mut self.socket.received);
    }
}

/// What `numbers` gives, and whose it is, as it was while nobody held the socket's lock; `None` if that takes the lock.
#[inline(always)]
fn look<'a, T: PartialEq>(
    socket: &mut Socket,
    tcp: Tcp,
    noted: &'a mut [u64; WORDS],
    numbers: impl Fn(Tcp) -> T,
) -> Option<(T, Option<&'a Maker>)> {
    let maker: *const [u64; WORDS] =
        MAKER.of(tcp.sk(), false).map_or(core::ptr::null(), |maker| core::ptr::from_mut(maker).cast_const().cast());
    let found = unlocked::read(&mut Look { socket, tcp, numbers, maker, noted: &mut *noted })?;
    // SAFETY: as large and aligned as that, and any words are one.
    let noted = (!maker.is_null()).then(|| unsafe { &*core::ptr::from_ref(noted).cast() });
    Some((found, noted))
}

/// Books what a connection carried that is not read; false if that takes its lock.
#[inline(always)]
fn book(socket: &mut Socket, sk: *mut c_void) -> bool {
    // What is read of it is settled under its lock only.
    if socket.flags & OBSERVED != 0 {
        return false;
    }
    let mut noted = [0; WORDS];
    let Some(tcp) = Tcp::of(sk) else {
        return false;
    };
    let Some((numbers, maker)) = look(socket, tcp, &mut noted, Tcp::numbers) else {
        return false;
    };
    // One that ended meanwhile is booked, and its memory may be another one's; one that began meanwhile may be read.
    if is_another(socket) {
        return false;
    }
    totals::book_for(socket, maker, numbers.received(), numbers.sent(), numbers.retransmitted);
    socket.note_rest(numbers.next, numbers.acknowledged, numbers.state);
    // Who forgot meanwhile that it rests holds the lock, or has changed the state.
    barrier(&raw mut socket.received);
    if !tcp.is_free() || tcp.state() != numbers.state {
        socket.forget_rest();
    }
    true
}

/// The same for datagrams, which are counted in the socket's own storage.
#[inline(always)]
fn book_datagrams(socket: &mut Socket, sk: *mut c_void) -> bool {
    let (received, sent) = (socket.udp_received, socket.udp_sent);
    if received <= socket.received && sent <= socket.sent {
        return true;
    }
    let mut noted = [0; WORDS];
    let Some(((), maker)) = look(socket, Tcp::unchecked(sk), &mut noted, |_| ()) else {
        return false;
    };
    totals::book_for(socket, maker, received, sent, 0);
    true
}

/// Whether a socket's ports are not just being given to it: bind(2) holds its lock.
#[inline(always)]
fn is_whole(socket: &mut Socket, sk: *mut c_void, ports: &Ports) -> bool {
    barrier(&raw mut socket.received);
    if !Tcp::unchecked(sk).is_free() {
        return false;
    }
    barrier(&raw mut socket.received);
    Ports::of(sk) == *ports
}

/// Whether a socket that was neither closed nor read is by now.
#[inline(always)]
fn is_another(socket: &Socket) -> bool {
    // SAFETY: fields that another CPU may be writing.
    unsafe { read_volatile(&raw const socket.closed) != 0 || read_volatile(&raw const socket.flags) & OBSERVED != 0 }
}

/// Counts a live socket.
#[inline(always)]
pub(super) fn count(protocol: u8, role: u8, state: u8) {
    let Some(scanned) = SCANNED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: an element of an array map; there is one scan at a time.
    unsafe { (*scanned).live[live_index(protocol, role, state)] += 1 };
}

/// Notes the namespace of a socket that has more to settle.
#[inline(always)]
fn ask_for_pass(netns: u32) {
    if UNSETTLED.get_ptr(netns).is_some() || UNSETTLED.insert(netns, 1, 0).is_ok() {
        return;
    }
    if let Some(scanned) = SCANNED.get_ptr_mut(0) {
        // SAFETY: an element of an array map.
        add(unsafe { &raw mut (*scanned).unnoted }, 1);
    }
}
