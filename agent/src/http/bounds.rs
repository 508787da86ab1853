//! How much of everything a client may have. The values are the HTTP contract's.

use std::time::Duration;

/// The server's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once from one address.
    pub connections_a_peer: usize,
    /// Time that a new connection keeps its place whoever else comes: for a head that is on its way.
    pub grace: Duration,
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
            head_bytes: 16 << 10,
            body_bytes: 1 << 20,
            head_time: Duration::from_secs(10),
            answer_time: Duration::from_secs(30),
            stop_time: Duration::from_millis(1_500),
        }
    }
}
