//! What is kept for every socket, observed service or not, and the totals that its bytes are added to. The HTTP state of
//! an observed connection is in `conn`.

/// Length of a kernel task name (`TASK_COMM_LEN`).
pub const COMM: usize = 16;

/// `protocol`: TCP.
pub const TCP: u8 = 6;
/// `protocol`: UDP.
pub const UDP: u8 = 17;

/// `role`: not known yet.
pub const ROLE_UNKNOWN: u8 = 0;
/// `role`: accepted, or bound and never connected.
pub const ROLE_SERVER: u8 = 1;
/// `role`: connected.
pub const ROLE_CLIENT: u8 = 2;

/// `Socket::flags`: bound explicitly (UDP).
pub const BOUND: u8 = 1;
/// `Socket::flags`: counted as opened.
pub const COUNTED: u8 = 2;
/// `Socket::flags`: an observed service's connection, with a `Conn` beside this.
pub const OBSERVED: u8 = 4;

/// Who made a socket, found in the maker's own context; inherited by accepted sockets.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// Name of the thread-group leader.
    pub process: [u8; COMM],
    /// Thread-group id.
    pub pid: u32,
    /// 1: known.
    pub known: u32,
}
const _: () = assert!(size_of::<Owner>() == 24);

/// One TCP or UDP socket.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Socket {
    /// Receive counter up to which bytes are in the totals: TCP stream position, UDP payload.
    pub received: u64,
    /// Transmit counter, likewise.
    pub sent: u64,
    /// Retransmitted bytes, likewise (TCP).
    pub retransmitted: u64,
    /// UDP payload bytes received so far. Of TCP, what `note_rest` notes.
    pub udp_received: u64,
    /// UDP payload bytes sent so far. Of TCP, what `note_user` notes.
    pub udp_sent: u64,
    /// Local port of a server, remote port of a client; host order.
    pub port: u16,
    /// `ROLE_...`.
    pub role: u8,
    /// `TCP` or `UDP`.
    pub protocol: u8,
    /// `BOUND`, `COUNTED`, `OBSERVED`; 8 is what earlier versions set.
    pub flags: u8,
    /// 1: its end is booked.
    pub closed: u8,
    /// Remote port of the last datagram; host order (UDP). Of TCP, the state that `note_rest` notes.
    pub peer_port: u16,
}
const _: () = assert!(size_of::<Socket>() == 48);

impl Socket {
    /// All zero.
    pub const ZERO: Self = Self {
        received: 0,
        sent: 0,
        retransmitted: 0,
        udp_received: 0,
        udp_sent: 0,
        port: 0,
        role: 0,
        protocol: 0,
        flags: 0,
        closed: 0,
        peer_port: 0,
    };

    /// Notes the next sequence numbers `[inbound, outbound]` of a TCP socket whose progress is all booked, and its state; while one
    /// is not `acknowledged` there may be retransmissions that move neither, and nothing is noted. Stores, since several may note.
    #[inline(always)]
    pub fn note_rest(&mut self, next: [u32; 2], acknowledged: u32, state: u8) {
        if next[1] == acknowledged {
            // SAFETY: fields of this.
            unsafe {
                core::ptr::write_volatile(&raw mut self.peer_port, u16::from(state));
                core::ptr::write_volatile(&raw mut self.udp_received, joined(next));
            }
        } else {
            self.forget_rest();
        }
    }

    /// There may be something to book, or the state be another, though neither sequence number moves.
    #[inline(always)]
    pub fn forget_rest(&mut self) {
        // SAFETY: a field of this.
        unsafe { core::ptr::write_volatile(&raw mut self.udp_received, NO_REST) };
    }

    /// Whether there is nothing to book while the next sequence numbers are these. After 4 GiB to the byte it says so though
    /// there is; then the next scan books it, or the connection's end.
    #[inline(always)]
    #[must_use]
    pub fn rests_at(&self, next: [u32; 2]) -> bool {
        // Earlier versions noted no state, or that a body is sent.
        let rests = self.peer_port != 0 && self.peer_port != SENDS_BODY;
        rests && self.udp_received == joined(next) && self.udp_received != NO_REST
    }

    /// The state (`include/net/tcp_states.h`) of a socket that rests.
    #[inline(always)]
    #[must_use]
    pub const fn rest_state(&self) -> u8 {
        self.peer_port as u8
    }
}

impl Socket {
    /// The process that was last seen to use an accepted TCP socket, as the kernel side's tasks tell it; 0 if none was.
    #[inline(always)]
    #[must_use]
    pub const fn user(&self) -> u64 {
        self.udp_sent
    }

    /// See `user`.
    #[inline(always)]
    pub const fn note_user(&mut self, process: u64) {
        self.udp_sent = process;
    }
}

/// `Socket::peer_port` where layouts 7 and 8 noted a body instead; no state of TCP's is that.
const SENDS_BODY: u16 = u16::MAX;

/// A socket whose next sequence numbers are both 0 is looked at every time.
const NO_REST: u64 = 0;

#[inline(always)]
const fn joined(next: [u32; 2]) -> u64 {
    ((next[0] as u64) << 32) | next[1] as u64
}

/// What socket bytes are added up by. Aligned, because the compiler clears it eight bytes at a time, and the verifier wants
/// what is on the stack to be where it belongs.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TotalsKey {
    /// `TCP` or `UDP`.
    pub protocol: u8,
    /// `ROLE_...`.
    pub role: u8,
    /// See `Socket::port`.
    pub port: u16,
    /// 1: the map was full; what this stands for is not known.
    pub overflow: u32,
    /// See `Owner::process`; empty if not known.
    pub process: [u8; COMM],
}
const _: () = assert!(size_of::<TotalsKey>() == 24);

/// Bytes of all sockets with one key. They only grow.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Application bytes received.
    pub received: u64,
    /// Application bytes sent; retransmissions add nothing.
    pub sent: u64,
    /// TCP bytes sent again.
    pub retransmitted: u64,
    /// When the key was first used, nanoseconds of `CLOCK_MONOTONIC`: keys are given out first come, first served.
    pub first: u64,
}
const _: () = assert!(size_of::<Totals>() == 32);

/// Upper bounds of the round-trip histogram in microseconds; what is above them all goes to one more bucket.
pub const ROUND_TRIP_BOUNDS: [u32; 13] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

/// What round-trip times are added up by.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoundTripKey {
    /// See `Socket::port`.
    pub port: u16,
    /// `ROLE_...`.
    pub role: u8,
    /// 1: the map was full.
    pub overflow: u8,
}
const _: () = assert!(size_of::<RoundTripKey>() == 4);

/// Smoothed round-trip times at close.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoundTrips {
    /// Sockets per bucket, not cumulative.
    pub buckets: [u64; 14],
    /// Sum in eighths of a microsecond, the kernel's own unit (`tcp_sock.srtt_us`).
    pub eighths: u64,
    /// When the key was first used.
    pub first: u64,
}
const _: () = assert!(size_of::<RoundTrips>() == 128);

/// What scans of all sockets found, since the agent began: the difference of two readings is one scan's.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scanned {
    /// Live sockets by `live_index`.
    pub live: [u64; LIVE],
    /// Sockets that have more to settle, and whose namespace could not be noted.
    pub unnoted: u64,
}
const _: () = assert!(size_of::<Scanned>() == 8 * (LIVE + 1));

/// Kinds of live sockets that are told apart.
pub const LIVE: usize = 128;

/// Where live sockets of this protocol, role and state (`include/net/tcp_states.h`: at most 15) are counted.
#[inline(always)]
#[must_use]
pub const fn live_index(protocol: u8, role: u8, state: u8) -> usize {
    ((protocol == UDP) as usize) << 6 | ((role & 3) as usize) << 4 | (state & 15) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_rests_until_a_number_moves_and_only_if_all_was_acknowledged() {
        let mut socket = Socket { port: 80, role: ROLE_SERVER, protocol: TCP, flags: COUNTED, ..Socket::ZERO };
        assert!(!socket.rests_at([0, 0]));
        socket.note_rest([7, 9], 8, 1);
        assert!(!socket.rests_at([7, 9]));
        socket.note_rest([7, 9], 9, 8);
        assert_eq!(socket.rest_state(), 8);
        assert_eq!([[7, 9], [8, 9], [7, 10], [9, 7]].map(|next| socket.rests_at(next)), [true, false, false, false]);
        socket.note_rest([8, 12], 9, 1);
        assert!(!socket.rests_at([7, 9]) && !socket.rests_at([8, 12]));
        socket.note_rest([8, 12], 12, 1);
        socket.forget_rest();
        assert!(!socket.rests_at([8, 12]) && !socket.rests_at([0, 0]));
        socket.note_rest([8, 12], 12, 1);
        socket.peer_port = SENDS_BODY;
        assert!(!socket.rests_at([8, 12]));
    }

    #[test]
    fn every_kind_of_live_socket_is_counted_apart() {
        let mut seen = [false; LIVE];
        for protocol in [TCP, UDP] {
            for role in [ROLE_UNKNOWN, ROLE_SERVER, ROLE_CLIENT] {
                for state in 1..=12 {
                    let slot = &mut seen[live_index(protocol, role, state)];
                    assert!(!*slot, "{protocol} {role} {state}");
                    *slot = true;
                }
            }
        }
    }
}
