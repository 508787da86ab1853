//! The live sockets, each by itself: whose it is, what it is busy with, and how fast. Time comes in as a value. How they are
//! shown is `exposition`'s.

use std::collections::HashMap;
use std::time::Duration;

use super::holders::Holders;
use super::store::HolderStore;
use super::{Books, Store};
use crate::attribution;
use crate::owner::Whose;
use crate::route::Endpoint;
use crate::snapshot::{Listed, Listing};

/// Rates are over at least this long.
const SHORTEST: Duration = Duration::from_secs(1);

/// A live socket and what is known of it.
#[derive(Debug, Clone)]
pub struct LiveSocket {
    /// What the kernel side said.
    pub listed: Listed,
    /// Job and container.
    pub whose: Whose,
    /// The service, if it is an observed one's.
    pub service: Option<String>,
    /// Method and endpoint of the request that waits for its answer.
    pub request: Option<(&'static str, Endpoint)>,
    /// Bytes a second `[received, sent]` since an earlier listing; `None` if it was in none.
    pub rate: Option<[f64; 2]>,
}

/// What sockets had carried at a time, by cookie.
type Carried = HashMap<u64, [u64; 2]>;

/// What sockets had carried when they were listed before.
#[derive(Debug, Default)]
pub struct Listings {
    /// What rates are since ...
    before: Option<(Duration, Carried)>,
    /// ... and what they will be since, once that is long enough ago.
    last: Option<(Duration, Carried)>,
}

impl Listings {
    /// Takes a listing made at `now` (any clock that does not go back).
    pub fn take<S: Store, H: HolderStore>(
        &mut self,
        listing: Listing,
        now: Duration,
        books: &Books<S>,
        holders: &mut Holders<H>,
    ) -> Vec<LiveSocket> {
        let is_old = |at: &Duration| now.saturating_sub(*at) >= SHORTEST;
        if self.last.as_ref().is_none_or(|(at, _)| is_old(at)) {
            let carried = listing.sockets.iter().map(|(listed, _)| (listed.cookie, [listed.received, listed.sent]));
            let last = self.last.replace((now, carried.collect()));
            self.before = last.or(self.before.take());
        }
        let before = &self.before;
        let Listing { sockets, standings, .. } = listing;
        let named = sockets.into_iter().map(|(listed, head)| {
            let routes = books.routes(listed.service);
            let cut = usize::from(listed.head_len) >= sockmeter_ebpf::http::head::REQUEST_HEAD;
            LiveSocket {
                whose: standings
                    .get(&listed.place.key)
                    .map(|standing| holders.whose(listed.place.key, standing))
                    .unwrap_or_default(),
                service: routes.map(|(name, _)| name.to_owned()),
                request: routes
                    .filter(|_| !head.is_empty())
                    .map(|(_, routes)| attribution::request(&head, cut, routes)),
                rate: before.as_ref().and_then(|(at, carried)| rate(carried, &listed, now.saturating_sub(*at))),
                listed,
            }
        });
        named.collect()
    }
}

fn rate(before: &Carried, listed: &Listed, since: Duration) -> Option<[f64; 2]> {
    let before = before.get(&listed.cookie)?;
    let seconds = since.as_secs_f64();
    let more = [listed.received.saturating_sub(before[0]), listed.sent.saturating_sub(before[1])];
    (seconds > 0.0).then(|| more.map(|more| super::rate::as_f64(more) / seconds))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn rates(listings: &mut Listings, at: u64, received: u64) -> Option<[f64; 2]> {
        let books = Books::open(crate::model::Forgetful, Vec::new()).unwrap();
        let rules = crate::owner::Rules::new(&[]).unwrap();
        let bounds = crate::model::HolderBounds { jobs: 1, containers: 1, keep: Duration::ZERO };
        let mut holders = Holders::open(crate::model::Forgetful, rules, bounds);
        let listed = Listed { cookie: 7, received, sent: 2 * received, ..Listed::ZERO };
        let listing = Listing { sockets: vec![(listed, Vec::new())], ..Listing::default() };
        let found = listings.take(listing, Duration::from_millis(at), &books, &mut holders);
        assert_eq!(found.len(), 1);
        found[0].rate
    }

    #[test]
    fn rates_are_since_a_listing_that_is_long_enough_ago() {
        let mut listings = Listings::default();
        assert_eq!(rates(&mut listings, 0, 100), None);
        assert_eq!(rates(&mut listings, 500, 200), None);
        assert_eq!(rates(&mut listings, 1_000, 300), Some([200.0, 400.0]));
        // The listing just before is too young: still since the first.
        assert_eq!(rates(&mut listings, 1_250, 600), Some([400.0, 800.0]));
        assert_eq!(rates(&mut listings, 2_000, 1_300), Some([1_000.0, 2_000.0]));
    }
}
