//! Bytes and packets per interface, at the traffic-control hooks. Layer-2 length where the device has a link header.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use sockmeter_ebpf::interface::{DIRECT, IPV4, IPV6, Interface, OTHER};

use super::maps::{FAR_INTERFACES, INTERFACES};

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
    let interface =
        if index < DIRECT { INTERFACES.get_ptr_mut(index) } else { FAR_INTERFACES.get_ptr_mut(index) };
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
    // SAFETY: this CPU's own value, and soft interrupts are off in both hooks: nobody else writes it meanwhile.
    let interface: &mut Interface = unsafe { &mut *interface };
    if OUT {
        interface.sent_bytes[family] += u64::from(len);
        interface.sent_packets[family] += packets;
    } else {
        interface.received_bytes[family] += u64::from(len);
        interface.received_packets[family] += packets;
    }
}
