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
    /// UDP payload bytes received so far.
    pub udp_received: u64,
    /// UDP payload bytes sent so far.
    pub udp_sent: u64,
    /// Local port of a server, remote port of a client; host order.
    pub port: u16,
    /// `ROLE_...`.
    pub role: u8,
    /// `TCP` or `UDP`.
    pub protocol: u8,
    /// `BOUND`, `COUNTED`, `OBSERVED`.
    pub flags: u8,
    /// 1: its end is booked.
    pub closed: u8,
    /// Remote port of the last datagram; host order (UDP).
    pub peer_port: u16,
}
const _: () = assert!(size_of::<Socket>() == 48);

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

/// What the snapshot pass says about one live socket, written to the iterator's file.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Socket cookie; 0 where the kernel does not tell.
    pub cookie: u64,
    /// Application bytes received.
    pub received: u64,
    /// Application bytes sent.
    pub sent: u64,
    /// Smoothed round-trip time in eighths of a microsecond.
    pub round_trip: u32,
    /// Thread-group id of the owner; 0 if not known.
    pub pid: u32,
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order; 0 if not connected.
    pub remote_port: u16,
    /// The kernel's state number (`include/net/tcp_states.h`).
    pub state: u8,
    /// `TCP` or `UDP`.
    pub protocol: u8,
    /// `ROLE_...`.
    pub role: u8,
    /// Spelled-out padding.
    pub pad: u8,
    /// See `Owner::process`.
    pub process: [u8; COMM],
}
const _: () = assert!(size_of::<Live>() == 56);
