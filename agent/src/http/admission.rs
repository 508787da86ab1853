//! Who has a connection, and who loses it when there are too many: the one that has kept us waiting longest for a
//! complete request head. A reader that asks properly is therefore never locked out by those that do not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Bounds;

/// The table of connections.
#[derive(Debug)]
pub(super) struct Admission {
    total: usize,
    a_peer: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts events, so that "longest" needs no clock.
    clock: u64,
    connections: HashMap<u64, Connection>,
}

#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    /// Since which event we wait for a complete head; `None` while a request is being answered.
    waiting_since: Option<u64>,
    evicted: CancellationToken,
}

/// A place in the table, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    admission: Arc<Admission>,
    evicted: CancellationToken,
}

impl Admission {
    pub(super) fn new(bounds: &Bounds) -> Arc<Self> {
        Arc::new(Self { total: bounds.connections, a_peer: bounds.connections_a_peer, table: Mutex::default() })
    }

    /// A place for a connection from this address, or `None` when there is none and everybody else is being answered.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Place> {
        let peer = peer.to_canonical();
        let mut table = self.table();
        let of_peer = table.connections.values().filter(|connection| connection.peer == peer).count();
        if of_peer >= self.a_peer {
            table.evict(|connection| connection.peer == peer)?;
        } else if table.connections.len() >= self.total {
            table.evict(|_| true)?;
        }
        let id = table.tick();
        let evicted = CancellationToken::new();
        table.connections.insert(id, Connection { peer, waiting_since: Some(id), evicted: evicted.clone() });
        Some(Place { id, admission: Arc::clone(self), evicted })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // The table is consistent between statements: a panic elsewhere leaves nothing half done.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn tick(&mut self) -> u64 {
        self.clock = self.clock.wrapping_add(1);
        self.clock
    }

    /// Takes the place of the one that has waited longest among those that match.
    fn evict(&mut self, matches: impl Fn(&Connection) -> bool) -> Option<()> {
        let waiting = self.connections.iter().filter(|(_, connection)| matches(connection));
        let waiting = waiting.filter_map(|(id, connection)| Some((connection.waiting_since?, *id)));
        let (_, id) = waiting.min()?;
        self.connections.remove(&id)?.evicted.cancel();
        Some(())
    }
}

impl Place {
    /// A complete head has arrived: the connection keeps its place until it is answered.
    pub(super) fn head_complete(&self) {
        if let Some(connection) = self.admission.table().connections.get_mut(&self.id) {
            connection.waiting_since = None;
        }
    }

    /// The answer is on its way: from now on we wait for the next head.
    pub(super) fn answered(&self) {
        let mut table = self.admission.table();
        let now = table.tick();
        if let Some(connection) = table.connections.get_mut(&self.id) {
            connection.waiting_since = Some(now);
        }
    }

    /// Resolves when somebody else got this place.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.table().connections.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const TWO: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn admission(connections: usize, connections_a_peer: usize) -> Arc<Admission> {
        Admission::new(&Bounds { connections, connections_a_peer, ..Bounds::default() })
    }

    #[test]
    fn the_longest_waiting_goes() {
        let admission = admission(2, 2);
        let first = admission.admit(ONE).unwrap();
        let second = admission.admit(TWO).unwrap();
        first.head_complete();
        first.answered();
        let third = admission.admit(ONE).unwrap();
        assert!(second.evicted.is_cancelled());
        assert!(!first.evicted.is_cancelled() && !third.evicted.is_cancelled());
    }

    #[test]
    fn those_being_answered_keep_their_places() {
        let admission = admission(1, 1);
        let first = admission.admit(ONE).unwrap();
        first.head_complete();
        assert!(admission.admit(TWO).is_none());
        drop(first);
        let second = admission.admit(TWO).unwrap();
        assert!(!second.evicted.is_cancelled());
    }

    #[test]
    fn a_peer_that_has_its_share_takes_from_itself() {
        let admission = admission(9, 2);
        let other = admission.admit(TWO).unwrap();
        let first = admission.admit(ONE).unwrap();
        let second = admission.admit("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        let third = admission.admit(ONE).unwrap();
        assert_eq!(
            [&other, &first, &second, &third].map(|place| place.evicted.is_cancelled()),
            [false, true, false, false]
        );
    }
}
