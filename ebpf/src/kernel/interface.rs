//! Bytes and packets per interface, at the traffic-control hooks. Layer-2 length where the device has a link header.
//!
//! A packet here may stand for several on the wire (segmentation and receive offload). Where the device's own counters see
//! those, the headers that are missing here are added; on veth and the like the device counts the merged packet itself.

use aya_ebpf::bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use sockmeter_ebpf::interface::{DIRECT, IPV4, IPV6, Interface, OTHER};

use super::maps::{FAR_INTERFACES, INTERFACES, SEGMENTED};

/// `TCX_NEXT`, and `TC_ACT_UNSPEC` for `clsact`: whatever else is attached decides.
const NEXT: i32 = -1;

#[classifier]
pub(super) fn interface_receives(ctx: TcContext) -> i32 {
    count::<false>(ctx.skb.skb);
    NEXT
}

#[classifier]
pub(super) fn interface_sends(ctx: TcContext) -> i32 {
    count::<true>(ctx.skb.skb);
    NEXT
}

#[inline(always)]
fn count<const OUT: bool>(skb: *mut __sk_buff) {
    // SAFETY: fields of the program's context.
    let (index, len, protocol, segments) = unsafe { ((*skb).ifindex, (*skb).len, (*skb).protocol, (*skb).gso_segs) };
    let interface = if index < DIRECT { INTERFACES.get_ptr_mut(index) } else { FAR_INTERFACES.get_ptr_mut(index) };
    let Some(interface) = interface else {
        return;
    };
    // EtherType in network order (`include/uapi/linux/if_ether.h`).
    let family = match u16::from_be(protocol as u16) {
        0x0800 => IPV4,
        0x86dd => IPV6,
        _ => OTHER,
    };
    let packets = if segments > 1 { u64::from(segments) } else { 1 };
    let mut bytes = u64::from(len);
    if packets > 1 && SEGMENTED.get_ptr(index).is_some() {
        bytes += (packets - 1) * headers(skb, len);
    }
    // SAFETY: this CPU's own value, and soft interrupts are off in both hooks: nobody else writes it meanwhile.
    let interface: &mut Interface = unsafe { &mut *interface };
    if OUT {
        interface.sent_bytes[family] += bytes;
        interface.sent_packets[family] += packets;
    } else {
        interface.received_bytes[family] += bytes;
        interface.received_packets[family] += packets;
    }
}

/// Length of the headers in front of the payload, from the link layer on; 0 if they cannot be read. Few packets need it, and
/// all others are through sooner where it is not among what they run.
#[inline(never)]
fn headers(skb: *mut __sk_buff, len: u32) -> u64 {
    let mut ip = [0u8; 20];
    if !load(skb, 0, &mut ip) {
        return 0;
    }
    // RFC 791 3.1, RFC 8200 3: length of the header, of the packet, and what comes next.
    let (network, whole, next) = match ip[0] >> 4 {
        4 => (u32::from(ip[0] & 15) * 4, u32::from(u16::from_be_bytes([ip[2], ip[3]])), ip[9]),
        6 => (40, u32::from(u16::from_be_bytes([ip[4], ip[5]])) + 40, ip[6]),
        _ => return 0,
    };
    let transport = if next == sockmeter_ebpf::socket::TCP {
        let mut tcp = [0u8; 16];
        if !load(skb, network, &mut tcp) {
            return 0;
        }
        u32::from(tcp[12] >> 4) * 4
    } else {
        8
    };
    u64::from(len.saturating_sub(whole) + network + transport)
}

#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, at: u32, into: &mut [u8; N]) -> bool {
    // SAFETY: `into` has `N` bytes.
    unsafe { bpf_skb_load_bytes_relative(skb.cast(), at, into.as_mut_ptr().cast(), N as u32, BPF_HDR_START_NET) == 0 }
}
