//! The families of WireGuard's peers. How they are read is the rim's matter (`host::wireguard`).

use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::exposition::{Family, Page, Samples, catalog};
use crate::model::wireguard::PeerState;
use crate::snapshot::{Peer, PublicKey, Tunnel};

/// Characters of a key that stand for a name.
const SHORT: usize = 8;

/// Bytes of a peer, if it tells them.
type Column = fn(&Peer) -> Option<u64>;

/// Writes them. `names` is what peers are called, `now` Unix time in seconds.
pub fn write_wireguard(tunnels: &[Tunnel], names: &BTreeMap<PublicKey, String>, now: u64, page: &mut Page) {
    let columns: [(&Family, Column); 2] =
        [(&catalog::PEER_RECEIVE_BYTES, |peer| peer.received), (&catalog::PEER_TRANSMIT_BYTES, |peer| peer.sent)];
    for (family, column) in columns {
        each(family, tunnels, names, page, |samples, labels, peer| {
            if let Some(bytes) = column(peer) {
                samples.counter(labels, bytes);
            }
        });
    }
    each(&catalog::PEER_LAST_HANDSHAKE, tunnels, names, page, |samples, labels, peer| {
        samples.gauge(labels, peer.handshake);
    });
    page.family(&catalog::PEERS, "", |samples| {
        for tunnel in tunnels {
            let handshakes = tunnel.peers.values().map(|peer| peer.handshake).chain(tunnel.left_out.iter().copied());
            let states: Vec<PeerState> = handshakes.map(|handshake| PeerState::of(handshake, now)).collect();
            for (state, name) in PeerState::ALL {
                let count = states.iter().filter(|other| **other == state).count();
                let labels = [tunnel.interface.as_str(), &tunnel.netns, name];
                samples.gauge(&labels, u64::try_from(count).unwrap_or(u64::MAX));
            }
        }
    });
}

/// A family that has a sample for each peer.
fn each(
    family: &'static Family,
    tunnels: &[Tunnel],
    names: &BTreeMap<PublicKey, String>,
    page: &mut Page,
    mut sample: impl FnMut(&mut Samples<'_>, &[&str], &Peer),
) {
    page.family(family, "", |samples| {
        for tunnel in tunnels {
            for (key, peer) in &tunnel.peers {
                let text = BASE64_STANDARD.encode(key);
                let name = names.get(key).map_or(text.get(..SHORT).unwrap_or(&text), String::as_str);
                sample(samples, &[&tunnel.interface, &tunnel.netns, &text, name], peer);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::exposition::Format;

    const NOW: u64 = 1_700_000_000;

    fn page(tunnels: &[Tunnel], names: &BTreeMap<PublicKey, String>) -> Vec<String> {
        let mut page = Page::new(Format::Text);
        write_wireguard(tunnels, names, NOW, &mut page);
        let text = String::from_utf8(page.finish()).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    fn tunnel(interface: &str, peers: &[(PublicKey, Peer)], left_out: &[u64]) -> Tunnel {
        Tunnel {
            interface: interface.to_owned(),
            netns: "self".to_owned(),
            peers: peers.iter().copied().collect(),
            left_out: left_out.to_owned(),
        }
    }

    #[test]
    fn every_peer_has_its_series_and_every_state_its_count() {
        let peers = [
            ([0; 32], Peer { received: Some(148), sent: Some(92), handshake: NOW - 60 }),
            ([0xff; 32], Peer { received: Some(u64::MAX), sent: Some(0), handshake: 0 }),
        ];
        let names = [([0; 32], "a\"b\\".to_owned())].into();
        let zero = format!("{}A=", "A".repeat(42));
        let ones = format!("{}8=", "/".repeat(42));
        let labels = [
            format!(r#"{{interface="wg0",netns="self",public_key="{ones}",peer="////////"}}"#),
            format!(r#"{{interface="wg0",netns="self",public_key="{zero}",peer="a\"b\\"}}"#),
        ];
        let of_family = |name: &str, values: [u64; 2]| -> Vec<String> {
            let lines = labels.iter().zip(values);
            lines.map(|(labels, value)| format!("sockmeter_wireguard_peer_{name}{labels} {value}")).collect()
        };
        let states = [("active", 1), ("idle", 2), ("never", 1)]
            .map(|(state, count)| {
                format!(r#"sockmeter_wireguard_peers{{interface="wg0",netns="self",state="{state}"}} {count}"#)
            })
            .to_vec();
        let mut wanted = [
            of_family("last_handshake_timestamp_seconds", [0, NOW - 60]),
            of_family("receive_bytes_total", [u64::MAX, 148]),
            of_family("transmit_bytes_total", [0, 92]),
            states,
        ]
        .concat();
        let mut found = page(&[tunnel("wg0", &peers, &[1, NOW - 180])], &names);
        // The order of families is the page's.
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_is_not_told_is_absent_and_no_peers_are_zeros() {
        assert_eq!(page(&[], &BTreeMap::new()), Vec::<String>::new());
        let without = ([7; 32], Peer { received: None, sent: Some(3), handshake: 0 });
        let count = |found: &[String], name: &str| found.iter().filter(|line| line.starts_with(name)).count();
        let found = page(&[tunnel("wg0", &[without], &[])], &BTreeMap::new());
        assert_eq!(count(&found, "sockmeter_wireguard_peer_receive_bytes_total"), 0);
        assert_eq!(count(&found, "sockmeter_wireguard_peer_transmit_bytes_total"), 1);
        let found = page(&[tunnel("wg0", &[], &[])], &BTreeMap::new());
        let wanted = ["active", "idle", "never"]
            .map(|state| format!(r#"sockmeter_wireguard_peers{{interface="wg0",netns="self",state="{state}"}} 0"#));
        assert_eq!(found, wanted);
    }
}
