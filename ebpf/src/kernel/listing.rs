//! One pass over all live sockets of a network namespace that tells each by itself. Opened only when somebody asks for the
//! list; what books their progress is `snapshot`.

use core::ffi::c_void;

use aya_ebpf::bindings::seq_file;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_seq_write};
use sockmeter_ebpf::conn::INLINE;
use sockmeter_ebpf::http::head::REQUEST_HEAD;
use sockmeter_ebpf::listed::{Listed, NO_SERVICE};
use sockmeter_ebpf::socket::{OBSERVED, Owner, ROLE_CLIENT, TCP, UDP};

use super::globals::{field, offset};
use super::maps::{CONN, MAKER, SOCKET};
use super::snapshot::{TcpPass, UdpPass};
use super::tcp::{CLOSE, LISTEN, Tcp};

/// `AF_INET`.
const AF_INET: u16 = 2;

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn list_tcp(pass: *mut TcpPass) -> i32 {
    // SAFETY: the program's context, whose pointers the verifier knows.
    let (seq, sk) = unsafe { ((*(*pass).meta).seq, (*pass).sk) };
    if sk.is_null() {
        return 0;
    }
    let Some(tcp) = Tcp::of(sk) else {
        return 0;
    };
    let state = tcp.state();
    if state == LISTEN || state == CLOSE || !tcp.in_scope() {
        return 0;
    }
    let Some(socket) = SOCKET.of(tcp.sk(), false) else {
        return 0;
    };
    if socket.closed != 0 || socket.protocol == 0 {
        return 0;
    }
    let mut listed = Listed::ZERO;
    fill(&mut listed, tcp, sk);
    listed.protocol = TCP;
    listed.role = socket.role;
    listed.received = tcp.received();
    // The SYN of a client is among the bytes that were acknowledged.
    listed.sent = tcp.sent(state).saturating_sub(u64::from(socket.role == ROLE_CLIENT));
    listed.retransmitted = tcp.retransmitted();
    listed.round_trip = tcp.round_trip();
    if socket.flags & OBSERVED != 0 {
        if let Some(conn) = CONN.of(tcp.sk(), false) {
            listed.service = conn.service;
            let number = conn.emitted;
            let entry = &conn.entries[(number % INLINE) as usize];
            if number != conn.pushed && entry.number == number.wrapping_add(1) {
                listed.head_len = entry.posting.head_len;
                tell(seq, &mut listed);
                // SAFETY: the head has exactly this length.
                unsafe { bpf_seq_write(seq, entry.head.as_ptr().cast_mut().cast(), REQUEST_HEAD as u32) };
                return 0;
            }
        }
    }
    tell(seq, &mut listed);
    0
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/udp")]
extern "C" fn list_udp(pass: *mut UdpPass) -> i32 {
    // SAFETY: the program's context, whose pointers the verifier knows.
    let (seq, sk) = unsafe { ((*(*pass).meta).seq, (*pass).sk) };
    if sk.is_null() {
        return 0;
    }
    let common = Tcp::unchecked(sk);
    if !common.in_scope() {
        return 0;
    }
    let Some(socket) = SOCKET.of(sk, false) else {
        return 0;
    };
    if socket.closed != 0 {
        return 0;
    }
    let mut listed = Listed::ZERO;
    fill(&mut listed, common, sk);
    listed.protocol = UDP;
    listed.role = socket.role;
    listed.received = socket.udp_received;
    listed.sent = socket.udp_sent;
    tell(seq, &mut listed);
    0
}

/// Fills in what all sockets have.
#[inline(always)]
fn fill(listed: &mut Listed, common: Tcp, sk: *mut c_void) {
    // SAFETY: the verifier checks the pointer.
    listed.cookie = unsafe { bpf_get_socket_cookie(sk) };
    listed.local_port = common.local_port();
    listed.remote_port = common.remote_port();
    listed.state = common.state();
    listed.netns = common.netns();
    listed.service = NO_SERVICE;
    if let Some(maker) = MAKER.of(sk, false) {
        listed.place = maker.place;
        // SAFETY: both have exactly this size; by a helper, because the record is on the stack, where words are aligned, and
        // an `Owner` need not be.
        unsafe {
            let from = (&raw mut maker.owner).cast::<c_void>();
            bpf_probe_read_kernel((&raw mut listed.owner).cast(), size_of::<Owner>() as u32, from);
        }
    }
    if common.family() == AF_INET {
        listed.local[10] = 0xff;
        listed.local[11] = 0xff;
        listed.remote[10] = 0xff;
        listed.remote[11] = 0xff;
        copy::<{ field::SKC_LOCAL }>(&mut listed.local[12..], sk);
        copy::<{ field::SKC_REMOTE }>(&mut listed.remote[12..], sk);
    } else {
        copy::<{ field::SKC_LOCAL6 }>(&mut listed.local, sk);
        copy::<{ field::SKC_REMOTE6 }>(&mut listed.remote, sk);
    }
}

#[inline(always)]
fn copy<const FIELD: usize>(into: &mut [u8], sk: *mut c_void) {
    let at = sk.cast::<u8>().wrapping_add(offset::<FIELD>());
    // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
    unsafe { bpf_probe_read_kernel(into.as_mut_ptr().cast(), into.len() as u32, at.cast::<c_void>()) };
}

/// Writes one socket to the iterator's file; when the buffer is full the kernel calls again for the same socket.
#[inline(always)]
fn tell(seq: *mut seq_file, listed: &mut Listed) {
    // SAFETY: a local of exactly this size.
    unsafe { bpf_seq_write(seq, core::ptr::from_mut(listed).cast(), size_of::<Listed>() as u32) };
}
