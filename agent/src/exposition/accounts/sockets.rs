//! The families of sockets: bytes, live sockets by state, beginnings and ends, round-trip times.

use std::collections::BTreeMap;

use sockmeter_ebpf::socket::{ROLE_CLIENT, ROLE_SERVER, ROLE_UNKNOWN, ROUND_TRIP_BOUNDS, TCP, UDP};

use super::Accounts;
use crate::exposition::number::float;
use crate::exposition::{Family, Page, catalog};
use crate::model::sockets;

/// Roles that always have samples.
const ROLES: [u8; 2] = [ROLE_SERVER, ROLE_CLIENT];
/// `srtt_us` is in eighths of a microsecond.
const EIGHTHS_A_SECOND: f64 = 8e6;

/// Writes them.
pub(super) fn write(accounts: &Accounts<'_>, page: &mut Page) {
    let snapshot = accounts.snapshot;
    let sums = sockets::totals(&snapshot.totals, accounts.bounds);
    let bytes: [(&Family, usize); 3] = [
        (&catalog::SOCKET_RECEIVE_BYTES, 0),
        (&catalog::SOCKET_TRANSMIT_BYTES, 1),
        (&catalog::SOCKET_RETRANSMIT_BYTES, 2),
    ];
    for (family, column) in bytes {
        page.family(family, "", |samples| {
            for (labels, sum) in &sums {
                // Datagrams are not sent again.
                if column < 2 || labels.protocol == "tcp" {
                    let value = sum.get(column).copied().unwrap_or(0);
                    samples.counter(&[labels.protocol, labels.role, &labels.port, &labels.process], value);
                }
            }
        });
    }
    page.family(&catalog::SOCKETS, "", |samples| {
        for ((protocol, role, state), count) in states(accounts) {
            samples.gauge(&[protocol, role, state], count);
        }
    });
    for (family, event) in [(&catalog::SOCKETS_OPENED, 0), (&catalog::SOCKETS_CLOSED, 1)] {
        page.family(family, "", |samples| {
            for (base, protocol) in [(0, TCP), (4, UDP)] {
                for role in [ROLE_UNKNOWN, ROLE_SERVER, ROLE_CLIENT] {
                    let counts = snapshot.sockets.get(base + usize::from(role));
                    let count = counts.and_then(|counts| counts.get(event)).copied().unwrap_or(0);
                    let is_measured = protocol == TCP || !snapshot.without_udp;
                    if count > 0 || (is_measured && ROLES.contains(&role)) {
                        samples.counter(&[sockets::protocol(protocol), sockets::role(role)], count);
                    }
                }
            }
        });
    }
    let bounds = ROUND_TRIP_BOUNDS.map(|microseconds| f64::from(microseconds) / 1e6);
    page.family(&catalog::ROUND_TRIP, "", |samples| {
        for ((role, port), trips) in sockets::round_trips(&snapshot.round_trips, accounts.bounds) {
            samples.histogram(&[role, &port], &bounds, &trips.buckets, float(trips.eighths) / EIGHTHS_A_SECOND);
        }
    });
}

type State = (&'static str, &'static str, &'static str);

/// Live sockets; a state that nobody is in is there with 0.
fn states(accounts: &Accounts<'_>) -> BTreeMap<State, u64> {
    let mut counts: BTreeMap<State, u64> = BTreeMap::new();
    for role in ROLES.map(sockets::role) {
        for state in (1..=12).map(sockets::tcp_state) {
            counts.insert((sockets::protocol(TCP), role, state), 0);
        }
        let unmeasured = if accounts.snapshot.without_udp { 2 } else { 0 };
        for state in ["established", "unconnected"].into_iter().skip(unmeasured) {
            counts.insert((sockets::protocol(UDP), role, state), 0);
        }
    }
    counts.extend(sockets::states(&accounts.snapshot.live));
    counts
}
