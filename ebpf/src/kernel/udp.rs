//! UDP payload, counted at the socket: what it sends, and what arrives at its filter. Its end is `cgroup/sock_release`.

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use sockmeter_ebpf::conn::Outside as _;
use sockmeter_ebpf::layout::LOSS_STORAGE;
use sockmeter_ebpf::socket::{self, Socket};

use super::atomic::add;
use super::globals::{follows_udp, only_netns};
use super::header::load;
use super::maps::SOCKET;
use super::outside::Kernel;

/// `SOCK_DGRAM`.
const DATAGRAMS: u32 = 2;

/// Whether it is a UDP socket. A raw one may have the same protocol; it gets a copy of every datagram (`net/ipv4/raw.c`,
/// `raw_v4_input`), which counts where it belongs.
#[inline(always)]
pub(super) fn is(sk: *mut bpf_sock) -> bool {
    // SAFETY: fields of a socket that the verifier knows.
    unsafe { (*sk).protocol == u32::from(socket::UDP) && (*sk).type_ == DATAGRAMS }
}

/// Adds a datagram's payload to a socket of which nothing may be kept yet.
#[inline(always)]
pub(super) fn first_datagram<const OUT: bool>(skb: *mut __sk_buff, sk: *mut bpf_sock) {
    if !follows_udp() {
        return;
    }
    // A socket of a namespace that is not in scope has no state, and gets none here.
    let any_namespace = only_netns() == 0;
    match SOCKET.of(sk.cast(), any_namespace) {
        Some(socket) => datagram::<OUT>(skb, socket),
        None if any_namespace => Kernel.lost(LOSS_STORAGE),
        None => {}
    }
}

/// Adds a datagram's payload to its socket.
#[inline(always)]
pub(super) fn datagram<const OUT: bool>(skb: *mut __sk_buff, socket: &mut Socket) {
    if !follows_udp() {
        return;
    }
    let mut first = [0u8; 12];
    if load(skb, 0, &mut first).is_none() {
        return;
    }
    let at = match first[0] >> 4 {
        4 if first[9] == socket::UDP => u32::from(first[0] & 15) * 4,
        6 if first[6] == socket::UDP => 40,
        _ => return,
    };
    socket.protocol = socket::UDP;
    // SAFETY: a field of the program's context. RFC 768: eight bytes of header. A merged packet has one header (GRO, GSO).
    let payload = u64::from(unsafe { (*skb).len }.saturating_sub(at + 8));
    if OUT {
        let mut port = [0u8; 2];
        if load(skb, at + 2, &mut port).is_some() {
            socket.peer_port = u16::from_be_bytes(port);
        }
        add(&raw mut socket.udp_sent, payload);
    } else {
        add(&raw mut socket.udp_received, payload);
    }
}
