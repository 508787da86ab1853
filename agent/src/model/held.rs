//! Holds bytes of sockets back whose owner is still being asked for, so that what is shown of sockets is at every moment what
//! is shown of jobs and of none. Which places wait is `holders`' matter.
//!
//! Which of the sockets are those of a waiting place is not known: totals have no places. So bytes are taken from where more
//! came since they were last shown, least known keys first, and never more than came: no counter goes down. All of them are
//! shown once nothing waits.

use std::collections::BTreeMap;

use crate::snapshot::{Totals, TotalsKey};

/// What was shown last, `[received, sent]`; `None` before anything was.
#[derive(Debug, Default)]
pub struct Held {
    shown: Option<BTreeMap<TotalsKey, [u64; 2]>>,
}

impl Held {
    /// Notes totals that are shown, or were, as they are.
    pub fn show_all(&mut self, totals: &[(TotalsKey, Totals)]) {
        self.shown = Some(totals.iter().map(|(key, totals)| (*key, [totals.received, totals.sent])).collect());
    }

    /// Takes so many bytes out of totals that are about to be shown. Without an earlier `show_all` they stay as they are.
    pub fn hold(&mut self, totals: &mut [(TotalsKey, Totals)], waiting: [u64; 2]) {
        let Some(shown) = &self.shown else {
            return;
        };
        let before = |key: &TotalsKey| shown.get(key).copied().unwrap_or_default();
        if waiting != [0; 2] {
            let mut order: Vec<&mut (TotalsKey, Totals)> = totals.iter_mut().collect();
            order.sort_by_key(|(key, _)| (before(key), *key));
            let [mut received, mut sent] = waiting;
            for (key, totals) in order {
                let before = before(key);
                take(&mut totals.received, before[0], &mut received);
                take(&mut totals.sent, before[1], &mut sent);
            }
        }
        self.show_all(totals);
    }
}

/// Takes as much of `left` out of a total as came to it since it was `before`.
fn take(total: &mut u64, before: u64, left: &mut u64) {
    let taken = total.saturating_sub(before).min(*left);
    *total -= taken;
    *left -= taken;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(ports: &[(u16, u64)]) -> Vec<(TotalsKey, Totals)> {
        let one = |(port, bytes): &(u16, u64)| {
            let key = TotalsKey { protocol: 0, role: 0, port: *port, overflow: 0, process: Default::default() };
            (key, Totals { received: *bytes, sent: 2 * bytes, retransmitted: 0, first: 1 })
        };
        ports.iter().map(one).collect()
    }

    fn shown(held: &mut Held, ports: &[(u16, u64)], waiting: u64) -> Vec<(u16, u64, u64)> {
        let mut totals = totals(ports);
        held.hold(&mut totals, [waiting, 2 * waiting]);
        totals.iter().map(|(key, totals)| (key.port, totals.received, totals.sent)).collect()
    }

    #[test]
    fn what_waits_is_missing_and_nothing_goes_down() {
        let mut held = Held::default();
        held.show_all(&totals(&[(1, 100), (2, 50)]));
        // From the new one first, then from those that grew.
        assert_eq!(shown(&mut held, &[(1, 110), (2, 50), (3, 20)], 25), [(1, 105, 210), (2, 50, 100), (3, 0, 0)]);
        // More of them, and less that waits.
        assert_eq!(shown(&mut held, &[(1, 130), (2, 60), (3, 20)], 25), [(1, 130, 260), (2, 55, 110), (3, 0, 0)]);
        assert_eq!(shown(&mut held, &[(1, 130), (2, 60), (3, 20)], 5), [(1, 130, 260), (2, 60, 120), (3, 15, 30)]);
        assert_eq!(shown(&mut held, &[(1, 130), (2, 60), (3, 20)], 0), [(1, 130, 260), (2, 60, 120), (3, 20, 40)]);
        // Never more than came.
        assert_eq!(shown(&mut held, &[(1, 131), (2, 60), (3, 20)], 9), [(1, 130, 260), (2, 60, 120), (3, 20, 40)]);
    }

    #[test]
    fn before_anything_was_shown_nothing_is_held_back() {
        assert_eq!(shown(&mut Held::default(), &[(1, 100)], 30), [(1, 100, 200)]);
    }
}
