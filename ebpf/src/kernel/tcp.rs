//! A TCP socket's own counters (`struct tcp_sock`), read where they lie in this kernel.

use core::arch::asm;
use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_probe_read_kernel, bpf_skc_to_tcp_sock};
use sockmeter_ebpf::layout::cast;

use super::globals::{field, offset, only_cgroup, only_netns};
use super::numbers::{self, Numbers};

/// States of `include/net/tcp_states.h`.
pub(super) const ESTABLISHED: u8 = 1;
/// Connecting.
pub(super) const SYN_SENT: u8 = 2;
/// Accepted, not yet established.
pub(super) const SYN_RECEIVED: u8 = 3;
/// Closed here, or shut down.
pub(super) const FIN_WAIT1: u8 = 4;
pub(super) const FIN_WAIT2: u8 = 5;
/// The socket is gone.
pub(super) const CLOSE: u8 = 7;
/// Closed here, behind the other end.
pub(super) const LAST_ACK: u8 = 9;
/// A listener.
pub(super) const LISTEN: u8 = 10;
pub(super) const CLOSING: u8 = 11;

/// `SOCK_BINDADDR_LOCK`, `SOCK_BINDPORT_LOCK` (`include/net/sock.h`).
const BIND_LOCKS: u8 = 4 | 8;

/// Levels of cgroups that are looked at.
const DEEPEST: u32 = 32;

/// `enum sock_flags`: a FIN was received and consumed (`net/ipv4/tcp_input.c`, `tcp_fin`).
const SOCK_DONE: u64 = 1 << 1;

/// A kernel pointer to a full TCP socket.
#[derive(Clone, Copy)]
pub(super) struct Tcp {
    /// Where its fields are read.
    at: *const u8,
    /// What storage is looked up by.
    sk: *mut c_void,
}

impl Tcp {
    /// The TCP socket behind any socket pointer; `None` for request and time-wait sockets and other protocols.
    #[inline(always)]
    pub(super) fn of(sk: *mut c_void) -> Option<Self> {
        // SAFETY: the verifier checks the pointer.
        let tcp = unsafe { bpf_skc_to_tcp_sock(sk) };
        if tcp.is_null() { None } else { Some(Self { at: tcp.cast(), sk: tcp.cast() }) }
    }

    /// A full socket that is known to be a TCP socket, or of which only that is asked which every socket has (`struct sock`). Unlike
    /// `of` this asks nothing of it, for it lies in a cache line that is not looked at else, but where the kernel has no
    /// `bpf_rdonly_cast`: see `layout::cast`.
    #[inline(always)]
    pub(super) fn known(sk: *mut c_void) -> Option<Self> {
        let at: *const u8;
        // SAFETY: the verifier checks the pointer; registers as calls leave them (RFC 9669 2).
        unsafe {
            asm!(
                "r2 = {place} ll",
                "call {helper}",
                place = const cast::PLACE,
                helper = const cast::HELPER,
                inout("r1") sk => _,
                out("r0") at,
                out("r2") _,
                out("r3") _,
                out("r4") _,
                out("r5") _,
                options(pure, nomem, nostack)
            );
        }
        if at.is_null() { None } else { Some(Self { at, sk }) }
    }

    /// Any internet socket: only what `struct sock_common` and `struct sock` have may be asked of it.
    #[inline(always)]
    pub(super) fn unchecked(sk: *mut c_void) -> Self {
        Self { at: sk.cast::<u8>().cast_const(), sk }
    }

    /// For storage look-ups.
    #[inline(always)]
    pub(super) fn sk(self) -> *mut c_void {
        self.sk
    }

    #[inline(always)]
    fn u64<const FIELD: usize>(self) -> u64 {
        // SAFETY: a load that the verifier knows to be from a kernel structure: it reads 0 where it faults.
        unsafe { self.at.add(offset::<FIELD>()).cast::<u64>().read_volatile() }
    }

    #[inline(always)]
    fn u32<const FIELD: usize>(self) -> u32 {
        // SAFETY: as in `u64`.
        unsafe { self.at.add(offset::<FIELD>()).cast::<u32>().read_volatile() }
    }

    #[inline(always)]
    fn u16<const FIELD: usize>(self) -> u16 {
        // SAFETY: as in `u64`.
        unsafe { self.at.add(offset::<FIELD>()).cast::<u16>().read_volatile() }
    }

    /// Inode number of the socket's network namespace.
    #[inline(always)]
    pub(super) fn netns(self) -> u32 {
        // SAFETY: as in `u64`; `struct net` outlives its sockets.
        unsafe {
            let net = self.at.add(offset::<{ field::SKC_NET }>()).cast::<*const u8>().read_volatile();
            net.add(offset::<{ field::NET_INUM }>()).cast::<u32>().read_volatile()
        }
    }

    /// `tcp_states.h`.
    #[inline(always)]
    pub(super) fn state(self) -> u8 {
        // SAFETY: as in `u64`.
        unsafe { self.at.add(offset::<{ field::SKC_STATE }>()).read_volatile() }
    }

    /// Address family.
    #[inline(always)]
    pub(super) fn family(self) -> u16 {
        self.u16::<{ field::SKC_FAMILY }>()
    }

    /// Host order.
    #[inline(always)]
    pub(super) fn local_port(self) -> u16 {
        self.u16::<{ field::SKC_NUM }>()
    }

    /// Host order.
    #[inline(always)]
    pub(super) fn remote_port(self) -> u16 {
        u16::from_be(self.u16::<{ field::SKC_DPORT }>())
    }

    /// The socket's cookie; the kernel makes one when it is first asked (`__sock_gen_cookie`).
    #[inline(always)]
    pub(super) fn cookie(self) -> u64 {
        // SAFETY: the verifier knows the pointer to be a socket's.
        unsafe { bpf_get_socket_cookie(self.sk()) }
    }

    /// Smoothed round-trip time in eighths of a microsecond.
    #[inline(always)]
    pub(super) fn round_trip(self) -> u32 {
        self.u32::<{ field::SRTT_US }>()
    }

    /// Bytes sent again.
    #[inline(always)]
    pub(super) fn retransmitted(self) -> u64 {
        self.u64::<{ field::BYTES_RETRANS }>()
    }

    /// Bytes of the in-order stream received: `bytes_received` counts the FIN (`tcp_rcv_nxt_update` in `tcp_fin`).
    #[inline(always)]
    pub(super) fn received(self) -> u64 {
        numbers::received(self.u64::<{ field::BYTES_RECEIVED }>(), self.has_fin())
    }

    /// A FIN was received and consumed.
    #[inline(always)]
    fn has_fin(self) -> bool {
        self.u64::<{ field::SKC_FLAGS }>() & SOCK_DONE != 0
    }

    /// Highest byte ever sent, plus a constant of this socket (1 where its SYN was acknowledged as data): a difference
    /// of two readings is exact. The FIN is the last number that `write_seq` ever takes, so it was sent if `snd_nxt`
    /// reached that in a state behind `tcp_send_fin`.
    #[inline(always)]
    pub(super) fn sent(self, state: u8) -> u64 {
        let next = self.u32::<{ field::SND_NXT }>();
        let end = self.u32::<{ field::WRITE_SEQ }>();
        numbers::sent(self.u64::<{ field::BYTES_ACKED }>(), next, self.acknowledged(), end, state)
    }

    /// All that `received` and `sent` are made of, each read once.
    #[inline(always)]
    pub(super) fn numbers(self) -> Numbers {
        Numbers {
            received: self.u64::<{ field::BYTES_RECEIVED }>(),
            acked: self.u64::<{ field::BYTES_ACKED }>(),
            retransmitted: self.retransmitted(),
            next: self.next(),
            acknowledged: self.acknowledged(),
            end: self.u32::<{ field::WRITE_SEQ }>(),
            state: self.state(),
            has_fin: self.has_fin(),
        }
    }

    /// Next sequence numbers, `[inbound, outbound]`.
    #[inline(always)]
    pub(super) fn next(self) -> [u32; 2] {
        [self.u32::<{ field::RCV_NXT }>(), self.u32::<{ field::SND_NXT }>()]
    }

    /// All that the service wrote is sent and acknowledged, by a client that awaits `acknowledged` next. A segment that
    /// brings a request often brings that too (RFC 9293 3.8.6.3, delayed acknowledgments), and TCP has not looked at it yet.
    #[inline(always)]
    pub(super) fn is_quiet(self, acknowledged: u32) -> bool {
        let next = self.u32::<{ field::SND_NXT }>();
        next == acknowledged && next == self.u32::<{ field::WRITE_SEQ }>()
    }

    /// The oldest byte that is not acknowledged.
    #[inline(always)]
    pub(super) fn acknowledged(self) -> u32 {
        self.u32::<{ field::SND_UNA }>()
    }

    /// The service has read all that came.
    #[inline(always)]
    pub(super) fn is_read(self) -> bool {
        self.u32::<{ field::COPIED_SEQ }>() == self.u32::<{ field::RCV_NXT }>()
    }

    /// Whether somebody holds the socket's lock as its user: `lock_sock` (`net/core/sock.c`), which only a process can
    /// take. A soft interrupt that finds it held leaves its packet to the holder, so who asks is in the holder's context.
    #[inline(always)]
    pub(super) fn is_held(self) -> bool {
        self.u32::<{ field::SK_HELD }>() != 0
    }

    /// Whether nobody holds the socket's lock, neither as its user nor for a moment (`bh_lock_sock`, `lock_sock_fast`), or did
    /// not between two moments of this. The spinlock's word is 0 then (`queued_spin_is_locked`); a kernel whose spinlocks are
    /// of another kind never says so. That word first: who gives the lock up as a user holds that until he is done.
    #[inline(always)]
    pub(super) fn is_free(self) -> bool {
        offset::<{ field::SK_SPIN }>() != 0 && self.u32::<{ field::SK_SPIN }>() == 0 && !self.is_held()
    }

    /// Whether the socket is within `--scope`. Where a cgroup bounds that, programs on the cgroup see only what is in
    /// it; this is for those that see all.
    #[inline(always)]
    pub(super) fn in_scope(self) -> bool {
        self.in_namespace() && (only_cgroup() == 0 || self.is_below(only_cgroup()))
    }

    #[inline(always)]
    fn in_namespace(self) -> bool {
        only_netns() == 0 || self.netns() == only_netns()
    }

    /// Whether the socket was bound to an address or a port.
    #[inline(always)]
    fn is_bound(self) -> bool {
        let at = offset::<{ field::SK_USERLOCKS }>();
        // SAFETY: as in `u64`.
        let byte = unsafe { self.at.add(at / 8).read_volatile() };
        (byte >> (at % 8)) & BIND_LOCKS != 0
    }

    /// Whether the socket's cgroup is the one with this id, or below it.
    #[inline(always)]
    fn is_below(self, wanted: u64) -> bool {
        // SAFETY: as in `u64`; a socket holds its cgroup, and that its parents.
        unsafe {
            let mut cgroup = self.at.add(offset::<{ field::SK_CGROUP }>()).cast::<*const u8>().read_volatile();
            let mut level = 0;
            while level < DEEPEST {
                let node = cgroup.add(offset::<{ field::CGROUP_NODE }>()).cast::<*const u8>().read_volatile();
                if node.add(offset::<{ field::NODE_ID }>()).cast::<u64>().read_volatile() == wanted {
                    return true;
                }
                let parent = cgroup.add(offset::<{ field::CGROUP_PARENT }>()).cast::<*const u8>().read_volatile();
                if parent.is_null() {
                    return false;
                }
                cgroup = parent.add(offset::<{ field::STATE_CGROUP }>()).cast::<*const u8>().read_volatile();
                level += 1;
            }
        }
        false
    }

    /// The sequence numbers between which TCP takes segments (`tcp_sequence`), see `is_within`. Kernels that note how far the
    /// window ever reached take what is within that, though the window was taken back since (RFC 7323 2.4).
    #[inline(always)]
    pub(super) fn window(self) -> [u32; 2] {
        let edge = self.u32::<{ field::RCV_WUP }>();
        let mut right = edge.wrapping_add(self.u32::<{ field::RCV_WND }>());
        if offset::<{ field::RCV_MOST }>() != 0 {
            let most = self.u32::<{ field::RCV_MOST }>();
            if most.wrapping_sub(right).cast_signed() > 0 {
                right = most;
            }
        }
        [edge, right]
    }

    /// Whether TCP would take a segment that begins at `seq` and ends before `end`.
    #[inline(always)]
    pub(super) fn takes(self, seq: u32, end: u32) -> bool {
        is_within(self.window(), seq, end)
    }
}

/// Whether a segment that begins at `seq` and ends before `end` has something of what lies between `edge` and `right`.
#[inline(always)]
pub(super) fn is_within([edge, right]: [u32; 2], seq: u32, end: u32) -> bool {
    end.wrapping_sub(edge).cast_signed() >= 0 && seq.wrapping_sub(right).cast_signed() <= 0
}

/// Any socket that has storage of ours and says there that it is TCP's: the little that is needed of one at rest. To make it a
/// `Tcp` the kernel would look at a field in a cache line of its own (`bpf_skc_to_tcp_sock`, `sk_protocol`).
#[derive(Clone, Copy)]
pub(super) struct Common(Tcp);

impl Common {
    #[inline(always)]
    pub(super) fn of(sk: *mut c_void) -> Self {
        Self(Tcp::unchecked(sk))
    }

    /// See `Tcp::state`.
    #[inline(always)]
    pub(super) fn state(self) -> u8 {
        self.0.state()
    }

    /// See `Tcp::netns`.
    #[inline(always)]
    pub(super) fn netns(self) -> u32 {
        self.0.netns()
    }

    /// Whether a socket that was in scope when it got its storage still is.
    #[inline(always)]
    pub(super) fn in_scope(self) -> bool {
        self.0.in_scope()
    }

    /// See `Tcp::next`. Read at once: they lie side by side, for a segment that comes in changes both.
    #[inline(always)]
    pub(super) fn next(self) -> [u32; 2] {
        let (inbound, outbound) = (offset::<{ field::RCV_NXT }>(), offset::<{ field::SND_NXT }>());
        let (first, last) = if inbound < outbound { (inbound, outbound) } else { (outbound, inbound) };
        if last - first + 4 > NEAR {
            return [self.u32(inbound), self.u32(outbound)];
        }
        let mut bytes = [0u32; NEAR / 4];
        // SAFETY: as in `u32`; no more than there is room for.
        unsafe {
            let at = self.0.at.wrapping_add(first);
            bpf_probe_read_kernel(bytes.as_mut_ptr().cast(), (last - first + 4) as u32, at.cast());
        }
        let [inbound, outbound] = [inbound, outbound].map(|at| ((at - first) / 4) % bytes.len());
        [bytes[inbound], bytes[outbound]]
    }

    #[inline(always)]
    fn u32(self, offset: usize) -> u32 {
        let mut value = 0u32;
        // SAFETY: kernel memory is copied by a helper that fails instead of faulting.
        unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 4, self.0.at.wrapping_add(offset).cast()) };
        value
    }
}

/// Bytes that are read at once.
const NEAR: usize = 32;

/// Ports of any internet socket (`struct sock_common`).
#[derive(PartialEq, Eq)]
pub(super) struct Ports {
    /// Host order.
    pub(super) local: u16,
    /// Host order.
    pub(super) remote: u16,
    /// See `Tcp::in_scope`.
    pub(super) in_scope: bool,
    /// Bound explicitly.
    pub(super) is_bound: bool,
}

impl Ports {
    /// Reads them from a kernel socket pointer.
    #[inline(always)]
    pub(super) fn of(sk: *mut c_void) -> Self {
        let common = Tcp::unchecked(sk);
        Self {
            local: common.local_port(),
            remote: common.remote_port(),
            in_scope: common.in_scope(),
            is_bound: common.is_bound(),
        }
    }
}
