//! What TCP's counters say of a connection, as numbers. Where they are read is `tcp`.

use super::tcp::{CLOSING, FIN_WAIT1, FIN_WAIT2, LAST_ACK};

/// See `Tcp::received`.
#[inline(always)]
pub(super) fn received(bytes: u64, has_fin: bool) -> u64 {
    bytes.wrapping_sub(u64::from(has_fin))
}

/// See `Tcp::sent`.
#[inline(always)]
pub(super) fn sent(acked: u64, next: u32, acknowledged: u32, end: u32, state: u8) -> u64 {
    let in_flight = next.wrapping_sub(acknowledged);
    let finished = matches!(state, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING) && next == end;
    acked.wrapping_add(u64::from(in_flight)).wrapping_sub(u64::from(finished))
}

/// What TCP says of a connection, as it lies there: each of these only grows, but for the state, which does not come back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers {
    /// `bytes_received`, in which a FIN counts.
    pub(super) received: u64,
    /// `bytes_acked`.
    pub(super) acked: u64,
    /// See `Tcp::retransmitted`.
    pub(super) retransmitted: u64,
    /// See `Tcp::next`.
    pub(super) next: [u32; 2],
    /// See `Tcp::acknowledged`.
    pub(super) acknowledged: u32,
    /// `write_seq`.
    pub(super) end: u32,
    /// `tcp_states.h`.
    pub(super) state: u8,
    /// Whether a FIN was received and consumed.
    pub(super) has_fin: bool,
}

impl Numbers {
    /// See `Tcp::received`.
    #[inline(always)]
    pub(super) fn received(&self) -> u64 {
        received(self.received, self.has_fin)
    }

    /// See `Tcp::sent`.
    #[inline(always)]
    pub(super) fn sent(&self) -> u64 {
        sent(self.acked, self.next[1], self.acknowledged, self.end, self.state)
    }
}
