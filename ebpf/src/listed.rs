//! What is told of one live socket, when somebody asks for the list of them. Written by `kernel/listing.rs`; how the agent
//! shows it is its model's.

use crate::place::{HIERARCHIES, Place, PlaceKey};
use crate::socket::{COMM, Owner};

/// `Listed::service` of a socket that no observed service has.
pub const NO_SERVICE: u16 = u16::MAX;

/// One live socket. If it has `head_len` bytes of the request that waits for its answer, `http::head::REQUEST_HEAD` bytes
/// follow.
#[repr(C, align(8))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The kernel's name of the socket.
    pub cookie: u64,
    /// Application bytes received, as in `Socket::received`.
    pub received: u64,
    /// Application bytes sent.
    pub sent: u64,
    /// Bytes sent again (TCP).
    pub retransmitted: u64,
    /// Where its owner stands; all 0 if that is not known.
    pub place: Place,
    /// Whose it is.
    pub owner: Owner,
    /// Local address; of IPv4 the mapped one (RFC 4291 2.5.5.2).
    pub local: [u8; 16],
    /// Remote address, likewise; all 0 if there is none.
    pub remote: [u8; 16],
    /// Local port, host order.
    pub local_port: u16,
    /// Remote port, host order; 0 if there is none.
    pub remote_port: u16,
    /// The kernel's state number (`include/net/tcp_states.h`).
    pub state: u8,
    /// `TCP` or `UDP`.
    pub protocol: u8,
    /// `ROLE_...`.
    pub role: u8,
    /// Spelled-out padding.
    pub pad: u8,
    /// Inode number of its network namespace.
    pub netns: u32,
    /// Smoothed round-trip time in eighths of a microsecond (TCP); 0 if none was measured.
    pub round_trip: u32,
    /// Number of the service, or `NO_SERVICE`.
    pub service: u16,
    /// Bytes of the request's beginning that are kept; 0 if no request waits for its answer.
    pub head_len: u16,
    /// Spelled-out padding.
    pub more_pad: u32,
}
const _: () = assert!(size_of::<Listed>() == 160);

impl Listed {
    /// All zero.
    pub const ZERO: Self = Self {
        cookie: 0,
        received: 0,
        sent: 0,
        retransmitted: 0,
        place: Place { key: PlaceKey { cgroups: [0; HIERARCHIES] }, started: 0 },
        owner: Owner { process: [0; COMM], pid: 0, known: 0 },
        local: [0; 16],
        remote: [0; 16],
        local_port: 0,
        remote_port: 0,
        state: 0,
        protocol: 0,
        role: 0,
        pad: 0,
        netns: 0,
        round_trip: 0,
        service: 0,
        head_len: 0,
        more_pad: 0,
    };
}
