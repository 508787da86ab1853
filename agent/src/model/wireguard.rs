//! What a handshake says of a WireGuard peer. How peers are read is the rim's matter (`host::wireguard`).

/// For how long after a handshake a session is used (`REJECT_AFTER_TIME`, WireGuard paper 6.1), in seconds.
const SESSION: u64 = 180;

/// A peer by its last handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// It is younger than 180 seconds.
    Active,
    /// It is older.
    Idle,
    /// There never was one.
    Never,
}

impl PeerState {
    /// All, with their label values.
    pub const ALL: [(Self, &'static str); 3] = [(Self::Active, "active"), (Self::Idle, "idle"), (Self::Never, "never")];

    /// Of a handshake at that Unix time, 0 if there was none; `now` in seconds too.
    #[must_use]
    pub fn of(handshake: u64, now: u64) -> Self {
        match handshake {
            0 => Self::Never,
            // A clock that was set back makes it one of the future: nothing is younger.
            since if now.saturating_sub(since) < SESSION => Self::Active,
            _ => Self::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PeerState::{Active, Idle, Never};
    use super::*;

    #[test]
    fn a_session_ends_180_seconds_after_its_handshake() {
        let now = 1_700_000_000;
        for (handshake, state) in [
            (0, Never),
            (1, Idle),
            (now - 181, Idle),
            (now - 180, Idle),
            (now - 179, Active),
            (now, Active),
            (now + 9, Active),
            (u64::MAX, Active),
        ] {
            assert_eq!(PeerState::of(handshake, now), state, "{handshake}");
        }
        assert_eq!(PeerState::of(0, 0), Never);
    }
}
