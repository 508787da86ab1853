//! Who has a connection, and who loses it when there are too many: the one that has kept us waiting longest for a
//! complete request head. A reader that asks properly is therefore never locked out by those that do not. Nobody loses a
//! place before there was time for a head to come: in a flood the next ones wait for that, in the kernel's queue.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Bounds;

/// The table of connections.
#[derive(Debug)]
pub(super) struct Admission {
    total: usize,
    a_peer: usize,
    grace: Duration,
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
    /// Since which event, and when that was, we wait for a complete head; `None` while a request is being answered.
    waiting_since: Option<(u64, Instant)>,
    evicted: CancellationToken,
}

/// Whether there is a place.
#[derive(Debug)]
pub(super) enum Admitted {
    /// Yes.
    Now(Place),
    /// Not before this time has passed: all who could lose theirs are too new.
    After(Duration),
    /// No: everybody else is being answered.
    Not,
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
        Arc::new(Self {
            total: bounds.connections,
            a_peer: bounds.connections_a_peer,
            grace: bounds.grace,
            table: Mutex::default(),
        })
    }

    /// A place for a connection from this address.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Admitted {
        let peer = peer.to_canonical();
        let mut table = self.table();
        let of_peer = table.connections.values().filter(|connection| connection.peer == peer).count();
        let longest = if of_peer >= self.a_peer {
            table.longest_waiting(|connection| connection.peer == peer)
        } else if table.connections.len() >= self.total {
            table.longest_waiting(|_| true)
        } else {
            return Admitted::Now(self.place(&mut table, peer, now));
        };
        let Some((id, since)) = longest else {
            return Admitted::Not;
        };
        let left = self.grace.saturating_sub(now.saturating_duration_since(since));
        if !left.is_zero() {
            return Admitted::After(left);
        }
        if let Some(connection) = table.connections.remove(&id) {
            connection.evicted.cancel();
        }
        Admitted::Now(self.place(&mut table, peer, now))
    }

    fn place(self: &Arc<Self>, table: &mut Table, peer: IpAddr, now: Instant) -> Place {
        let id = table.tick();
        let evicted = CancellationToken::new();
        table.connections.insert(id, Connection { peer, waiting_since: Some((id, now)), evicted: evicted.clone() });
        Place { id, admission: Arc::clone(self), evicted }
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

    /// The one that has waited longest among those that match, and since when.
    fn longest_waiting(&self, matches: impl Fn(&Connection) -> bool) -> Option<(u64, Instant)> {
        let waiting = self.connections.iter().filter(|(_, connection)| matches(connection));
        let waiting = waiting.filter_map(|(id, connection)| Some((connection.waiting_since?, *id)));
        let ((_, since), id) = waiting.min()?;
        Some((id, since))
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
        let event = table.tick();
        if let Some(connection) = table.connections.get_mut(&self.id) {
            connection.waiting_since = Some((event, Instant::now()));
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

    fn admission(connections: usize, connections_a_peer: usize, grace: Duration) -> Arc<Admission> {
        Admission::new(&Bounds { connections, connections_a_peer, grace, ..Bounds::default() })
    }

    impl Admitted {
        fn place(self) -> Option<Place> {
            if let Self::Now(place) = self { Some(place) } else { None }
        }
    }

    #[test]
    fn the_longest_waiting_goes() {
        let (admission, now) = (admission(2, 2, Duration::ZERO), Instant::now());
        let first = admission.admit(ONE, now).place().unwrap();
        let second = admission.admit(TWO, now).place().unwrap();
        first.head_complete();
        first.answered();
        let third = admission.admit(ONE, now).place().unwrap();
        assert!(second.evicted.is_cancelled());
        assert!(!first.evicted.is_cancelled() && !third.evicted.is_cancelled());
    }

    #[test]
    fn nobody_goes_before_a_head_could_come() {
        let grace = Duration::from_millis(50);
        let (admission, now) = (admission(9, 1, grace), Instant::now());
        let first = admission.admit(ONE, now).place().unwrap();
        let soon = now + Duration::from_millis(20);
        assert!(matches!(admission.admit(ONE, soon), Admitted::After(left) if left == Duration::from_millis(30)));
        assert!(!first.evicted.is_cancelled());
        let second = admission.admit(ONE, now + grace).place().unwrap();
        assert!(first.evicted.is_cancelled() && !second.evicted.is_cancelled());
    }

    #[test]
    fn those_being_answered_keep_their_places() {
        let (admission, now) = (admission(1, 1, Duration::ZERO), Instant::now());
        let first = admission.admit(ONE, now).place().unwrap();
        first.head_complete();
        assert!(matches!(admission.admit(TWO, now), Admitted::Not));
        drop(first);
        let second = admission.admit(TWO, now).place().unwrap();
        assert!(!second.evicted.is_cancelled());
    }

    #[test]
    fn a_peer_that_has_its_share_takes_from_itself() {
        let (admission, now) = (admission(9, 2, Duration::ZERO), Instant::now());
        let other = admission.admit(TWO, now).place().unwrap();
        let first = admission.admit(ONE, now).place().unwrap();
        let second = admission.admit("::ffff:192.0.2.1".parse().unwrap(), now).place().unwrap();
        let third = admission.admit(ONE, now).place().unwrap();
        assert_eq!(
            [&other, &first, &second, &third].map(|place| place.evicted.is_cancelled()),
            [false, true, false, false]
        );
    }
}
