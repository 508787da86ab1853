//! How much of everything a client may have. The values are the HTTP contract's.

use std::time::Duration;

/// The server's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_a_peer: usize,
    /// Time that a connection keeps its place whoever else comes: a new one for a head that is on its way, one that is
    /// answered for its client to take a byte.
    pub grace: Duration,
    /// Time that others wait in the kernel's queue, from when the last of those who have all the places has asked; from then
    /// on they are refused while none of these is answered.
    pub making_time: Duration,
    /// Bytes of answers that wait for their readers, all connections together. A further one is made while there are less,
    /// so it may be as many more as the largest has.
    pub answer_bytes: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Time for a TLS handshake, for a head after the connection is made or the last answer sent, and for a body.
    pub head_time: Duration,
    /// Time to take an answer, from the moment that the connection's buffers are full.
    pub answer_time: Duration,
    /// Time for answers in progress when the server stops; less than the two seconds that the agent has for it.
    pub stop_time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_a_peer: 32,
            grace: Duration::from_millis(50),
            making_time: Duration::from_millis(250),
            answer_bytes: 16 << 20,
            head_bytes: 16 << 10,
            body_bytes: 1 << 20,
            head_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(30),
            stop_time: Duration::from_millis(1_500),
        }
    }
}
