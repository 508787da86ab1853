//! Who has a connection, and who loses it when there are too many of them, or too many bytes that nobody takes: the one that
//! has kept us waiting longest, for a complete request or for taking a byte of its answer. A reader that asks properly
//! and reads is therefore never locked out by those that do not. Nobody loses a place before there was time for a head to
//! come, or for a byte to go: in a flood the next ones wait for that, in the kernel's queue.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Bounds;
use super::budget::{Budget, Share};

/// The table of connections.
#[derive(Debug)]
pub(super) struct Admission {
    total: usize,
    a_peer: usize,
    grace: Duration,
    making_time: Duration,
    budget: Budget,
    table: Mutex<Table>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Table {
    /// Counts events, so that "longest" needs no clock.
    clock: u64,
    connections: HashMap<u64, Connection>,
    /// Somebody lost a page that it did not take, and free memory has not been given back to the system since.
    was_full: bool,
}

#[derive(Debug)]
struct Connection {
    peer: IpAddr,
    turn: Turn,
    /// Its part of the budget while its answer is on its way.
    share: Option<Share>,
    evicted: CancellationToken,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug)]
enum Turn {
    /// The client's, since this event, and when that was: to send a complete request or to take a byte.
    Theirs(u64, Instant),
    /// Ours since then: an answer is being made, or goes out as fast as it can.
    Ours(Instant),
}

/// Whether there is a place.
#[derive(Debug)]
pub(super) enum Admitted {
    /// Yes.
    Now(Place),
    /// Not before this time has passed or something has changed: all who could lose theirs are too new.
    After(Duration),
    /// No: everybody else waits for an answer, and has for long.
    Not,
}

/// A place in the table, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    admission: Arc<Admission>,
    evicted: CancellationToken,
    /// Whether bytes of an answer are on their way.
    sending: watch::Sender<bool>,
}

/// What will have changed in the table from its making on.
pub(super) struct Changed<'a>(Notified<'a>);

impl Admission {
    pub(super) fn new(bounds: &Bounds) -> Arc<Self> {
        Arc::new(Self {
            total: bounds.connections,
            a_peer: bounds.connections_a_peer,
            grace: bounds.grace,
            making_time: bounds.making_time,
            budget: Budget::new(bounds.answer_bytes),
            table: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// A place for a connection from this address.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Admitted {
        let peer = peer.to_canonical();
        let mut table = self.table();
        let of_peer = table.connections.values().filter(|connection| connection.peer == peer).count();
        let of_its_kind = if of_peer >= self.a_peer {
            Some(peer)
        } else if table.connections.len() >= self.total {
            None
        } else {
            return Admitted::Now(self.place(&mut table, peer, now));
        };
        let matches = |connection: &Connection| of_its_kind.is_none_or(|peer| connection.peer == peer);
        let left = |since, time: Duration| time.saturating_sub(now.saturating_duration_since(since));
        let Some((id, since)) = table.longest_waiting(matches) else {
            let youngest = table.youngest_of_ours(matches).map(|since| left(since, self.making_time));
            return youngest.filter(|left| !left.is_zero()).map_or(Admitted::Not, Admitted::After);
        };
        let left = left(since, self.grace);
        if !left.is_zero() {
            return Admitted::After(left);
        }
        table.evict(id);
        Admitted::Now(self.place(&mut table, peer, now))
    }

    /// Room for a further page: those whose clients take nothing lose theirs until there is some. Gives how long to wait
    /// before asking again, unless something changes before: all who could lose theirs took a byte just now.
    pub(super) fn make_room(&self, now: Instant) -> Option<Duration> {
        let mut table = self.table();
        while self.budget.is_used_up() {
            let Some((id, since)) = table.longest_waiting(|connection| connection.share.is_some()) else {
                return Some(self.grace);
            };
            let left = self.grace.saturating_sub(now.saturating_duration_since(since));
            if !left.is_zero() {
                return Some(left);
            }
            table.evict(id);
        }
        None
    }

    /// The bytes of pages that are on their way.
    pub(super) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What changes from now on.
    pub(super) fn changed(&self) -> Changed<'_> {
        Changed(self.changed.notified())
    }

    /// Whether somebody has lost a page since this was last asked: pages are large and many then, and what is free of the heap
    /// should go back to the system before the next one is made.
    pub(super) fn has_freed(&self) -> bool {
        std::mem::take(&mut self.table().was_full)
    }

    fn place(self: &Arc<Self>, table: &mut Table, peer: IpAddr, now: Instant) -> Place {
        let id = table.tick();
        let evicted = CancellationToken::new();
        table
            .connections
            .insert(id, Connection { peer, turn: Turn::Theirs(id, now), share: None, evicted: evicted.clone() });
        Place { id, admission: Arc::clone(self), evicted, sending: watch::Sender::new(false) }
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
        let waiting = waiting.filter_map(|(id, connection)| match connection.turn {
            Turn::Theirs(event, since) => Some((event, since, *id)),
            Turn::Ours(_) => None,
        });
        let (_, since, id) = waiting.min()?;
        Some((id, since))
    }

    /// When it became our turn last, among those that match.
    fn youngest_of_ours(&self, matches: impl Fn(&Connection) -> bool) -> Option<Instant> {
        let matching = self.connections.values().filter(|connection| matches(connection));
        matching.filter_map(|connection| if let Turn::Ours(since) = connection.turn { Some(since) } else { None }).max()
    }

    fn evict(&mut self, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.evicted.cancel();
            self.was_full |= connection.share.is_some();
        }
    }
}

impl Changed<'_> {
    /// Waits for it, not longer than this.
    pub(super) async fn within(self, time: Duration) {
        // Which of the two it was is the table's to say.
        let _ = timeout(time, self.0).await;
    }
}

impl Place {
    /// Resolves when the answer before is out: of what is asked in advance nothing is made.
    pub(super) async fn taken(&self) {
        // The sender is ours: this cannot fail.
        let _ = self.sending.subscribe().wait_for(|sending| !sending).await;
    }

    /// A complete request has arrived.
    pub(super) fn asked(&self) {
        self.update(|connection, _| connection.turn = Turn::Ours(Instant::now()));
    }

    /// An answer of this share is about to be sent.
    pub(super) fn sends(&self, share: Option<Share>) {
        self.update(|connection, _| connection.share = share);
    }

    /// Whether another connection from the same address, or from any, would have to wait for a place.
    pub(super) fn is_the_last(&self) -> bool {
        let table = self.admission.table();
        let Some(own) = table.connections.get(&self.id) else {
            return true;
        };
        let of_peer = table.connections.values().filter(|connection| connection.peer == own.peer).count();
        of_peer >= self.admission.a_peer || table.connections.len() >= self.admission.total
    }

    /// Bytes have gone out.
    pub(super) fn moves(&self) {
        self.sending.send_replace(true);
        self.asked();
    }

    /// No byte can go out: it is the client's turn to take one.
    pub(super) fn stalls(&self) {
        self.update(|connection, event| {
            if let Turn::Ours(_) = connection.turn {
                connection.turn = Turn::Theirs(event, Instant::now());
            }
        });
    }

    /// The answer is on its way: from now on we wait for the next head.
    pub(super) fn answered(&self) {
        self.update(|connection, event| {
            connection.turn = Turn::Theirs(event, Instant::now());
            connection.share = None;
        });
        self.sending.send_replace(false);
    }

    fn update(&self, change: impl FnOnce(&mut Connection, u64)) {
        let mut table = self.admission.table();
        let event = table.tick();
        if let Some(connection) = table.connections.get_mut(&self.id) {
            change(connection, event);
        }
        drop(table);
        self.admission.changed.notify_waiters();
    }

    /// Resolves when somebody else got this place.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.table().connections.remove(&self.id);
        self.admission.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    /// Longer than any bound.
    const LONG: Duration = Duration::from_secs(100);
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
        first.asked();
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
    fn those_who_wait_for_an_answer_keep_their_places() {
        let (admission, now) = (admission(1, 1, Duration::ZERO), Instant::now());
        let first = admission.admit(ONE, now).place().unwrap();
        first.asked();
        assert!(matches!(admission.admit(TWO, now), Admitted::After(left) if left >= Bounds::default().making_time));
        assert!(matches!(admission.admit(TWO, now + LONG), Admitted::Not));
        first.moves();
        first.stalls();
        let second = admission.admit(TWO, now + LONG).place().unwrap();
        assert!(first.evicted.is_cancelled() && !second.evicted.is_cancelled());
    }

    #[test]
    fn the_page_goes_that_nobody_takes_a_byte_of_for_longest() {
        let admission =
            Admission::new(&Bounds { answer_bytes: 25, grace: Duration::from_secs(1), ..Bounds::default() });
        let now = Instant::now();
        let [first, second, third] = [ONE, TWO, ONE].map(|peer| admission.admit(peer, now).place().unwrap());
        for place in [&first, &second, &third] {
            place.asked();
            place.sends(Some(admission.budget().take(10)));
            place.moves();
            assert!(!admission.has_freed());
            place.stalls();
        }
        // Slow but steady.
        first.moves();
        first.stalls();
        // It takes nothing, but has nothing that would be of use.
        let idle = admission.admit(TWO, now).place().unwrap();
        assert!(admission.make_room(now).is_some_and(|left| left >= Duration::from_secs(1)));
        assert_eq!(admission.budget().taken(), 30);
        assert_eq!(admission.make_room(now + LONG), None);
        assert_eq!(admission.budget().taken(), 20);
        assert_eq!(
            [&first, &second, &third, &idle].map(|place| place.evicted.is_cancelled()),
            [false, true, false, false]
        );
        first.answered();
        drop(third);
        assert_eq!(admission.budget().taken(), 0);
        assert_eq!([admission.has_freed(), admission.has_freed()], [true, false]);
    }

    #[test]
    fn who_takes_bytes_keeps_a_page_whatever_the_budget() {
        let admission = Admission::new(&Bounds { answer_bytes: 5, ..Bounds::default() });
        let now = Instant::now();
        let reader = admission.admit(ONE, now).place().unwrap();
        reader.asked();
        assert_eq!(admission.make_room(now + LONG), None);
        reader.sends(Some(admission.budget().take(10)));
        reader.moves();
        assert_eq!(admission.make_room(now + LONG), Some(Bounds::default().grace));
        assert!(!reader.evicted.is_cancelled());
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
