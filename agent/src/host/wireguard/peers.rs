//! The peers of one interface while they are read, within a bound.

use std::collections::BTreeMap;

use crate::snapshot::{Peer, PublicKey, Tunnel};

/// The agent's own network namespace, as a label says it.
const OWN: &str = "self";

/// As many as there is room for, those with the smallest keys: an answer may have them in any order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Peers {
    kept: BTreeMap<PublicKey, Peer>,
    left_out: Vec<u64>,
    room: usize,
}

impl Peers {
    pub(super) fn with_room(room: usize) -> Self {
        Self { room, ..Self::default() }
    }

    /// Takes one; false if it was there before.
    pub(super) fn take(&mut self, key: PublicKey, peer: Peer) -> bool {
        let is_new = self.kept.insert(key, peer).is_none();
        if self.kept.len() > self.room {
            self.left_out.extend(self.kept.pop_last().map(|(_, peer)| peer.handshake));
        }
        is_new
    }

    /// How many came, those without room too.
    pub(super) fn count(&self) -> usize {
        self.kept.len().saturating_add(self.left_out.len())
    }

    /// All of an interface.
    pub(super) fn of(self, interface: String) -> Tunnel {
        Tunnel { interface, netns: OWN.to_owned(), peers: self.kept, left_out: self.left_out }
    }
}
