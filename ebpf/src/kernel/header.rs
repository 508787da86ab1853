//! The headers in front of a segment's payload. What a segment is to us, `packet` says.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;

/// Flags of a TCP header (RFC 9293 3.1).
pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
/// `IPPROTO_HOPOPTS`. The kernel itself puts such a header in front of what leaves in one piece of more than 64 KiB (RFC 2675;
/// `ip6_xmit`, net/ipv6/ip6_output.c), as it does over loopback.
const HOP_BY_HOP: u8 = 0;

/// What is needed of a TCP header.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) seq: u32,
    /// Next byte that its sender awaits.
    pub(super) awaits: u32,
    /// Offset of the payload from the network header.
    pub(super) payload: u32,
    /// Its length.
    pub(super) len: u32,
    pub(super) flags: u8,
    /// Remote port of what is received; host order.
    pub(super) source: u16,
}

impl Header {
    #[inline(always)]
    pub(super) fn read(skb: *mut __sk_buff) -> Option<Self> {
        let mut first = [0u8; 12];
        load(skb, 0, &mut first)?;
        // RFC 791 3.1, RFC 8200 3; of the extension headers in front of TCP only the shortest hop-by-hop options are
        // followed. What IPsec has encrypted is of another protocol by now (`net/ipv4/xfrm4_output.c`).
        let at = match first[0] >> 4 {
            4 if first[9] == sockmeter_ebpf::socket::TCP => u32::from(first[0] & 15) * 4,
            6 if first[6] == sockmeter_ebpf::socket::TCP => 40,
            6 if first[6] == HOP_BY_HOP => {
                let mut options = [0u8; 8];
                load(skb, 40, &mut options)?;
                if options[0] != sockmeter_ebpf::socket::TCP || options[1] != 0 {
                    return None;
                }
                48
            }
            _ => return None,
        };
        let mut tcp = [0u8; 16];
        load(skb, at, &mut tcp)?;
        let payload = at + u32::from(tcp[12] >> 4) * 4;
        // SAFETY: a field of the program's context.
        let whole = unsafe { (*skb).len };
        Some(Self {
            seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
            awaits: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
            payload,
            len: whole.saturating_sub(payload),
            flags: tcp[13],
            source: u16::from_be_bytes([tcp[0], tcp[1]]),
        })
    }

    /// Whether the packet carries nothing, as half of those do that come in while an answer is sent.
    #[inline(always)]
    pub(super) fn is_bare(&self) -> bool {
        self.len == 0 && self.flags & FIN == 0
    }
}

/// Copies `N` bytes from `at` on, counted from the network header; nothing if they are not there.
#[inline(always)]
pub(super) fn load<const N: usize>(skb: *mut __sk_buff, at: u32, into: &mut [u8; N]) -> Option<()> {
    // SAFETY: fields of the program's context.
    let (start, end) = unsafe { ((*skb).data as usize + at as usize, (*skb).data_end as usize) };
    if start + N <= end {
        // SAFETY: just checked, as the verifier wants it.
        *into = unsafe { core::ptr::with_exposed_provenance::<[u8; N]>(start).read() };
        return Some(());
    }
    // SAFETY: `into` has `N` bytes.
    let failed = unsafe { bpf_skb_load_bytes(skb.cast(), at, into.as_mut_ptr().cast(), N as u32) };
    if failed == 0 { Some(()) } else { None }
}
