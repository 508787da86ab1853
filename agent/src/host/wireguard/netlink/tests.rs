//! Messages as the kernel makes them, and as it does not.
#![expect(clippy::unwrap_used, reason = "tests")]

use netlink_packet_core::NLA_F_NESTED;

use super::*;

fn attributes(list: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let list: Vec<DefaultNla> = list.iter().map(|(kind, value)| DefaultNla::new(*kind, value.clone())).collect();
    let mut bytes = vec![0; list.as_slice().buffer_len()];
    list.as_slice().emit(&mut bytes);
    bytes
}

fn whole(key: u8, received: u64, sent: u64, handshake: i64) -> Vec<u8> {
    attributes(&[
        (KEY, vec![key; 32]),
        // The preshared key, the keepalive.
        (2, vec![0x5e; 32]),
        (5, vec![25, 0]),
        (LAST_HANDSHAKE, [handshake.to_ne_bytes(), 5_i64.to_ne_bytes()].concat()),
        (SENT, sent.to_ne_bytes().to_vec()),
        (RECEIVED, received.to_ne_bytes().to_vec()),
        (9 | NLA_F_NESTED, attributes(&[(0, attributes(&[(1, vec![2, 0])]))])),
    ])
}

#[test]
fn a_device_is_told_in_pieces_and_its_peers_are_taken_once() {
    let mut peers = Peers::with_room(9);
    let piece = |list: &[Vec<u8>]| {
        let list: Vec<_> = list.iter().map(|peer| (NLA_F_NESTED, peer.clone())).collect();
        // The interface's name, its private key.
        attributes(&[(INTERFACE, b"wg0\0".to_vec()), (3, vec![0x5e; 32]), (PEERS | NLA_F_NESTED, attributes(&list))])
    };
    device(&piece(&[whole(1, 10, 20, 1_700_000_000), whole(2, 30, u64::MAX, 0)]), &mut peers).unwrap();
    // More addresses of the last one, then the next.
    let rest = attributes(&[(KEY, vec![2; 32]), (9 | NLA_F_NESTED, Vec::new())]);
    device(&piece(&[rest, whole(3, 1, 2, -1)]), &mut peers).unwrap();
    let wanted = [
        ([1; 32], Peer { received: Some(10), sent: Some(20), handshake: 1_700_000_000 }),
        ([2; 32], Peer { received: Some(30), sent: Some(u64::MAX), handshake: 0 }),
        ([3; 32], Peer { received: Some(1), sent: Some(2), handshake: 0 }),
    ];
    let found = peers.of("wg0".to_owned());
    assert_eq!(found.peers, wanted.into());
    assert_eq!(found.left_out, Vec::<u64>::new());
}

#[test]
fn what_is_cut_is_refused_and_never_read_past_its_end() {
    let bytes = attributes(&[(PEERS | NLA_F_NESTED, attributes(&[(NLA_F_NESTED, whole(1, 10, 20, 30))]))]);
    for end in 1..bytes.len() {
        let mut peers = Peers::with_room(9);
        let refused = device(&bytes[..end], &mut peers).unwrap_err().to_string();
        assert_eq!(refused.split(':').next(), Some("the kernel's answer cannot be understood"), "{end}");
        assert_eq!(peers, Peers::with_room(9), "{end}");
    }
}

#[test]
fn a_request_is_as_the_kernel_wants_it() {
    let header = |length: u8, family: u8| [length, 0, 0, 0, family, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(request(0x10, 3, None).unwrap(), [&header(20, 0x10)[..], &[3, 1, 0, 0]].concat());
    let named = request(0x20, 0, Some((2, b"wg0\0".to_vec()))).unwrap();
    assert_eq!(named, [&header(28, 0x20)[..], &[0, 1, 0, 0, 8, 0, 2, 0], b"wg0\0"].concat());
}

/// Any kernel has the family that tells of families, and of an interface that is not WireGuard's nobody tells peers.
#[test]
fn the_kernel_answers() {
    let socket = Socket::open(Duration::from_secs(5)).unwrap();
    let is_there = std::path::Path::new("/sys/module/wireguard").exists();
    assert_eq!(socket.has_family().unwrap(), is_there);
    let refused = socket.peers("lo", 1).unwrap_err().to_string();
    assert!(is_there || refused == "WireGuard is not in the kernel", "{refused}");
}
