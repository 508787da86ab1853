//! A TCP socket's own counters (`struct tcp_sock`), read where they lie in this kernel.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;

use super::globals::{field, offset};

/// States of `include/net/tcp_states.h`.
pub(super) const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
/// The socket is gone.
pub(super) const CLOSE: u8 = 7;
const LAST_ACK: u8 = 9;
/// A listener.
pub(super) const LISTEN: u8 = 10;
const CLOSING: u8 = 11;

/// `enum sock_flags`: a FIN was received and consumed (`net/ipv4/tcp_input.c`, `tcp_fin`).
const SOCK_DONE: u64 = 1 << 1;

/// A kernel pointer to a full TCP socket.
#[derive(Clone, Copy)]
pub(super) struct Tcp(*const u8);

impl Tcp {
    /// The TCP socket behind any socket pointer; `None` for request and time-wait sockets and other protocols.
    #[inline(always)]
    pub(super) fn of(sk: *mut c_void) -> Option<Self> {
        // SAFETY: the verifier checks the pointer.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk) };
        if tcp.is_null() { None } else { Some(Self(tcp.cast())) }
    }

    /// For storage look-ups.
    #[inline(always)]
    pub(super) fn sk(self) -> *mut c_void {
        self.0.cast_mut().cast()
    }

    #[inline(always)]
    fn u64(self, field: usize) -> u64 {
        // SAFETY: a load that the verifier knows to be from a kernel structure: it reads 0 where it faults.
        unsafe { self.0.add(offset(field)).cast::<u64>().read_volatile() }
    }

    #[inline(always)]
    fn u32(self, field: usize) -> u32 {
        // SAFETY: as in `u64`.
        unsafe { self.0.add(offset(field)).cast::<u32>().read_volatile() }
    }

    #[inline(always)]
    fn u16(self, field: usize) -> u16 {
        // SAFETY: as in `u64`.
        unsafe { self.0.add(offset(field)).cast::<u16>().read_volatile() }
    }

    /// Inode number of the socket's network namespace.
    #[inline(always)]
    pub(super) fn netns(self) -> u32 {
        // SAFETY: as in `u64`; `struct net` outlives its sockets.
        unsafe {
            let net = self.0.add(offset(field::SKC_NET)).cast::<*const u8>().read_volatile();
            net.add(offset(field::NET_INUM)).cast::<u32>().read_volatile()
        }
    }

    /// `tcp_states.h`.
    #[inline(always)]
    pub(super) fn state(self) -> u8 {
        // SAFETY: as in `u64`.
        unsafe { self.0.add(offset(field::SKC_STATE)).read_volatile() }
    }

    /// Host order.
    #[inline(always)]
    pub(super) fn local_port(self) -> u16 {
        self.u16(field::SKC_NUM)
    }

    /// Host order.
    #[inline(always)]
    pub(super) fn remote_port(self) -> u16 {
        u16::from_be(self.u16(field::SKC_DPORT))
    }

    /// The socket's cookie; 0 if nobody asked the kernel to give it one.
    #[inline(always)]
    pub(super) fn cookie(self) -> u64 {
        self.u64(field::SKC_COOKIE)
    }

    /// Smoothed round-trip time in eighths of a microsecond.
    #[inline(always)]
    pub(super) fn round_trip(self) -> u32 {
        self.u32(field::SRTT_US)
    }

    /// Bytes sent again.
    #[inline(always)]
    pub(super) fn retransmitted(self) -> u64 {
        self.u64(field::BYTES_RETRANS)
    }

    /// Bytes of the in-order stream received: `bytes_received` counts the FIN (`tcp_rcv_nxt_update` in `tcp_fin`).
    #[inline(always)]
    pub(super) fn received(self) -> u64 {
        let fin = self.u64(field::SKC_FLAGS) & SOCK_DONE != 0;
        self.u64(field::BYTES_RECEIVED).wrapping_sub(u64::from(fin))
    }

    /// Highest byte ever sent, plus a constant of this socket (1 where its SYN was acknowledged as data): a difference
    /// of two readings is exact. The FIN is the last number that `write_seq` ever takes, so it was sent if `snd_nxt`
    /// reached that in a state behind `tcp_send_fin`.
    #[inline(always)]
    pub(super) fn sent(self, state: u8) -> u64 {
        let next = self.u32(field::SND_NXT);
        let in_flight = next.wrapping_sub(self.u32(field::SND_UNA));
        let finished =
            matches!(state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING) && next == self.u32(field::WRITE_SEQ);
        self.u64(field::BYTES_ACKED).wrapping_add(u64::from(in_flight)).wrapping_sub(u64::from(finished))
    }

    /// Next sequence numbers, `[inbound, outbound]`.
    #[inline(always)]
    pub(super) fn next(self) -> [u32; 2] {
        [self.u32(field::RCV_NXT), self.u32(field::SND_NXT)]
    }

    /// All that was sent is acknowledged.
    #[inline(always)]
    pub(super) fn is_quiet(self) -> bool {
        self.u32(field::SND_NXT) == self.u32(field::SND_UNA)
    }

    /// Whether TCP would take a segment that begins at `seq` and ends before `end` (`tcp_sequence`).
    #[inline(always)]
    pub(super) fn takes(self, seq: u32, end: u32) -> bool {
        let edge = self.u32(field::RCV_WUP);
        let right = edge.wrapping_add(self.u32(field::RCV_WND));
        end.wrapping_sub(edge).cast_signed() >= 0 && seq.wrapping_sub(right).cast_signed() <= 0
    }
}

/// Ports and state of any internet socket (`struct sock_common`).
pub(super) struct Ports {
    /// Host order.
    pub(super) local: u16,
    /// Host order.
    pub(super) remote: u16,
    /// `tcp_states.h`.
    pub(super) state: u8,
}

impl Ports {
    /// Reads them from a kernel socket pointer.
    #[inline(always)]
    pub(super) fn of(sk: *mut c_void) -> Self {
        let common = Tcp(sk.cast::<u8>().cast_const());
        Self { local: common.local_port(), remote: common.remote_port(), state: common.state() }
    }
}
