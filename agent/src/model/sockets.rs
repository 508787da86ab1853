//! Socket totals by the labels of the contract: ports and processes are bounded, first come, first served.

use std::collections::BTreeMap;

use sockmeter_ebpf::socket::{ROLE_CLIENT, ROLE_SERVER, TCP, UDP};

use crate::snapshot::{Live, RoundTripKey, RoundTrips, Totals, TotalsKey};

/// How many distinct label values there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Ports.
    pub ports: usize,
    /// Processes.
    pub processes: usize,
}

/// Labels of socket bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketLabels {
    /// `tcp`, `udp`.
    pub protocol: &'static str,
    /// `server`, `client`.
    pub role: &'static str,
    /// Port, or `other`.
    pub port: String,
    /// Process name, `unknown`, or `other`.
    pub process: String,
}

/// A bounded set of label values, in the order in which they first appeared.
struct Admitted {
    limit: usize,
    names: Vec<String>,
}

impl Admitted {
    fn label(&mut self, name: String) -> String {
        if self.names.contains(&name) {
            return name;
        }
        if self.names.len() >= self.limit {
            return "other".to_owned();
        }
        self.names.push(name.clone());
        name
    }
}

/// Adds up totals by label. The order in which keys were first used decides who gets a label of his own: that order is
/// kept in the kernel, so a restart does not change it.
#[must_use]
pub fn totals(keys: &[(TotalsKey, Totals)], bounds: Bounds) -> BTreeMap<SocketLabels, [u64; 3]> {
    let mut ordered: Vec<&(TotalsKey, Totals)> = keys.iter().collect();
    ordered.sort_by_key(|(key, totals)| (totals.first, *key));
    let mut ports = Admitted { limit: bounds.ports, names: Vec::new() };
    let mut processes = Admitted { limit: bounds.processes, names: Vec::new() };
    let mut sums: BTreeMap<SocketLabels, [u64; 3]> = BTreeMap::new();
    for (key, totals) in ordered {
        let all = [totals.received, totals.sent, totals.retransmitted];
        if key.overflow != 0 && all == [0; 3] {
            continue;
        }
        let labels = if key.overflow != 0 {
            SocketLabels {
                protocol: protocol(key.protocol),
                role: "other",
                port: "other".into(),
                process: "other".into(),
            }
        } else {
            SocketLabels {
                protocol: protocol(key.protocol),
                role: role(key.role),
                port: ports.label(key.port.to_string()),
                process: processes.label(process(&key.process)),
            }
        };
        let sum = sums.entry(labels).or_default();
        for (slot, value) in sum.iter_mut().zip(all) {
            *slot += value;
        }
    }
    sums
}

/// Round-trip times by `(role, port)`.
#[must_use]
pub fn round_trips(
    keys: &[(RoundTripKey, RoundTrips)],
    bounds: Bounds,
) -> BTreeMap<(&'static str, String), RoundTrips> {
    let mut ordered: Vec<&(RoundTripKey, RoundTrips)> = keys.iter().collect();
    ordered.sort_by_key(|(key, trips)| (trips.first, *key));
    let mut ports = Admitted { limit: bounds.ports, names: Vec::new() };
    let mut sums: BTreeMap<(&'static str, String), RoundTrips> = BTreeMap::new();
    for (key, trips) in ordered {
        if trips.buckets == [0; 14] {
            continue;
        }
        let labels = if key.overflow != 0 {
            ("other", "other".to_owned())
        } else {
            (role(key.role), ports.label(key.port.to_string()))
        };
        let sum = sums.entry(labels).or_default();
        for (slot, value) in sum.buckets.iter_mut().zip(trips.buckets) {
            *slot += value;
        }
        sum.eighths += trips.eighths;
    }
    sums
}

/// Live sockets by `(protocol, role, state)`.
#[must_use]
pub fn states(live: &BTreeMap<Live, u64>) -> BTreeMap<(&'static str, &'static str, &'static str), u64> {
    let mut counts = BTreeMap::new();
    for (socket, count) in live {
        let state = if socket.protocol == UDP { udp_state(socket.state) } else { tcp_state(socket.state) };
        *counts.entry((protocol(socket.protocol), role(socket.role), state)).or_default() += count;
    }
    counts
}

/// Label value of a protocol number.
#[must_use]
pub fn protocol(number: u8) -> &'static str {
    match number {
        TCP => "tcp",
        UDP => "udp",
        _ => "other",
    }
}

/// Label value of a role.
#[must_use]
pub fn role(number: u8) -> &'static str {
    match number {
        ROLE_SERVER => "server",
        ROLE_CLIENT => "client",
        _ => "unknown",
    }
}

/// What a state of a UDP socket is called.
#[must_use]
pub fn udp_state(number: u8) -> &'static str {
    if number == 1 { "established" } else { "unconnected" }
}

/// The kernel's name of a TCP state, lower case (`include/net/tcp_states.h`).
#[must_use]
pub fn tcp_state(number: u8) -> &'static str {
    const NAMES: [&str; 13] = [
        "unknown",
        "established",
        "syn_sent",
        "syn_recv",
        "fin_wait1",
        "fin_wait2",
        "time_wait",
        "close",
        "close_wait",
        "last_ack",
        "listen",
        "closing",
        "new_syn_recv",
    ];
    NAMES.get(usize::from(number)).copied().unwrap_or("unknown")
}

/// A task name as a label; `unknown` if there is none.
#[must_use]
pub fn process(name: &[u8]) -> String {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    if name.is_empty() { "unknown".to_owned() } else { String::from_utf8_lossy(name).into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16, process: &[u8], overflow: u32) -> TotalsKey {
        let mut name = [0; 16];
        name[..process.len()].copy_from_slice(process);
        TotalsKey { protocol: TCP, role: ROLE_SERVER, port, overflow, process: name }
    }

    fn value(first: u64, received: u64) -> Totals {
        Totals { received, sent: 2 * received, retransmitted: 1, first }
    }

    #[test]
    fn the_first_ports_and_processes_keep_their_names_whatever_the_order_of_the_map() {
        let keys = [
            (key(3, b"late", 0), value(30, 100)),
            (key(1, b"a", 0), value(10, 1)),
            (key(2, b"a", 0), value(20, 10)),
            (key(0, b"", 1), Totals::default()),
        ];
        let sums = totals(&keys, Bounds { ports: 2, processes: 1 });
        let found: Vec<_> = sums.iter().map(|(l, sum)| (l.port.as_str(), l.process.as_str(), *sum)).collect();
        assert_eq!(found, [("1", "a", [1, 2, 1]), ("2", "a", [10, 20, 1]), ("other", "other", [100, 200, 1])]);
    }
}
