//! Whether a pass over a namespace's sockets could find anything, by what the kernel counts anyway (proc_pid_net(5)): a pass
//! goes through the hash table of all namespaces, whoever's the sockets are. The pass itself is in `namespaces`.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::ErrorKind;

/// Which sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// In the order of the passes.
    pub(super) const ALL: [Self; 2] = [Self::Tcp, Self::Udp];
}

/// Whether this thread's namespace has such sockets, connected, listening or bound; yes, if that cannot be read.
pub(super) fn has_sockets(protocol: Protocol) -> bool {
    ["sockstat", "sockstat6"].iter().any(|file| match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
        Ok(text) => in_use(&text, protocol) != Some(0),
        // A kernel without IPv6.
        Err(error) => error.kind() != ErrorKind::NotFound,
    })
}

/// Sockets in the tables that the kernel's iterators go through (`net/ipv4/proc.c`, `sockstat_seq_show`).
fn in_use(text: &str, protocol: Protocol) -> Option<u64> {
    let names = match protocol {
        Protocol::Tcp => ["TCP:", "TCP6:"],
        Protocol::Udp => ["UDP:", "UDP6:"],
    };
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.next().is_some_and(|name| names.contains(&name)) && words.next() == Some("inuse");
        words.next().filter(|_| is_it)?.parse().ok()
    })
}

/// What each namespace had received and sent, by inode number, when its sockets were last passed over.
#[derive(Debug, Default)]
pub(super) struct Moved {
    before: BTreeMap<u64, u64>,
    now: BTreeMap<u64, u64>,
}

impl Moved {
    /// Whether this thread's namespace, which is this one, received or sent a packet since the round before. A stream goes
    /// forward, and a datagram arrives, with a packet only; sums over all sockets, ended ones too.
    pub(super) fn since(&mut self, inode: u64) -> bool {
        let Some(now) = counters() else {
            return true;
        };
        self.now.insert(inode, now);
        self.before.get(&inode) != Some(&now)
    }

    /// A round is over: namespaces that were not asked about in it are gone, and those that could not be read have moved.
    #[must_use]
    pub(super) fn next(mut self, unread: &[u64]) -> Self {
        self.now.retain(|inode, _| !unread.contains(inode));
        Self { before: self.now, now: BTreeMap::new() }
    }
}

/// All counters of packets of this thread's namespace, as one number.
fn counters() -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    fs::read("/proc/thread-self/net/snmp").ok()?.hash(&mut hasher);
    match fs::read("/proc/thread-self/net/snmp6") {
        Ok(bytes) => bytes.hash(&mut hasher),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => return None,
    }
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_has_moved_and_what_was_not_asked_about_is_gone() {
        let moved = Moved { before: BTreeMap::from([(1, 4), (3, 7)]), now: BTreeMap::from([(1, 5), (2, 6)]) };
        let Moved { before, now } = moved.next(&[1]);
        assert_eq!((before, now), (BTreeMap::from([(2, 6)]), BTreeMap::new()));
    }

    #[test]
    fn sockets_in_use_are_found_by_protocol() {
        let four =
            "sockets: used 12\nTCP: inuse 3 orphan 0 tw 7 alloc 5 mem 173\nUDP: inuse 0 mem 8\nUDPLITE: inuse 4\n";
        let six = "TCP6: inuse 0\nUDP6: inuse 2\nUDPLITE6: inuse 9\n";
        let found = [four, six].map(|text| Protocol::ALL.map(|protocol| in_use(text, protocol)));
        assert_eq!(found, [[Some(3), Some(0)], [Some(0), Some(2)]]);
        assert_eq!(in_use("RAW: inuse 1\n", Protocol::Tcp), None);
    }
}
