//! Answers of processes, whole, cut and hostile; and what is read of all that is there.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;

use tokio::io::AsyncReadExt as _;
use tokio::runtime::Builder;

use super::*;
use crate::snapshot::{Peer, PublicKey};

/// As `wireguard-go` answers: device, one peer with a handshake, one without.
const ANSWER: &str = "private_key=5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e
listen_port=51820
public_key=0101010101010101010101010101010101010101010101010101010101010101
preshared_key=5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e
protocol_version=1
endpoint=10.77.0.2:51820
last_handshake_time_sec=1700000000
last_handshake_time_nsec=42
tx_bytes=18446744073709551615
rx_bytes=148
persistent_keepalive_interval=0
allowed_ip=10.9.0.0/24
public_key=0202020202020202020202020202020202020202020202020202020202020202
last_handshake_time_sec=0
tx_bytes=0
rx_bytes=0
errno=0

";

fn ask(answer: &[u8]) -> Result<Tunnel, String> {
    ask_of(answer, 9)
}

fn ask_of(answer: &[u8], room: usize) -> Result<Tunnel, String> {
    let runtime = Builder::new_current_thread().build().unwrap();
    let peers = runtime.block_on(process::read(answer, room));
    peers.map(|peers| peers.of("wg0".to_owned())).map_err(|error| error.to_string())
}

fn tunnel(peers: &[(PublicKey, Peer)]) -> Tunnel {
    Tunnel {
        interface: "wg0".to_owned(),
        netns: "self".to_owned(),
        peers: peers.iter().copied().collect(),
        left_out: Vec::new(),
    }
}

fn both() -> Tunnel {
    tunnel(&[
        ([1; 32], Peer { received: Some(148), sent: Some(u64::MAX), handshake: 1_700_000_000 }),
        ([2; 32], Peer { received: Some(0), sent: Some(0), handshake: 0 }),
    ])
}

#[test]
fn an_answer_is_the_same_wherever_it_is_cut() {
    let runtime = Builder::new_current_thread().build().unwrap();
    assert_eq!(ask(ANSWER.as_bytes()), Ok(both()));
    for at in 1..ANSWER.len() {
        let (one, other) = ANSWER.as_bytes().split_at(at);
        let peers = runtime.block_on(process::read(one.chain(other), 9));
        assert_eq!(peers.map(|peers| peers.of("wg0".to_owned())).unwrap(), both(), "{at}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_none() {
    for end in 0..ANSWER.len() {
        let wanted = "the answer broke off, or has more than 67108864 bytes".to_owned();
        assert_eq!(ask(&ANSWER.as_bytes()[..end]), Err(wanted), "{end}");
    }
}

/// The answer with a line instead of another.
fn instead(line: &str, other: &str) -> Result<Tunnel, String> {
    assert_eq!(ANSWER.matches(line).count(), 1);
    ask(ANSWER.replace(line, other).as_bytes())
}

#[test]
fn what_a_peer_does_not_tell_is_absent() {
    let mut wanted = both();
    wanted.peers.get_mut(&[1; 32]).unwrap().received = None;
    assert_eq!(instead("rx_bytes=148\n", ""), Ok(wanted.clone()));
    wanted.peers.get_mut(&[1; 32]).unwrap().sent = None;
    wanted.peers.get_mut(&[1; 32]).unwrap().handshake = 0;
    let lines = "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=42\ntx_bytes=18446744073709551615\nrx_bytes=148\n";
    assert_eq!(instead(lines, ""), Ok(wanted));
    assert_eq!(ask(b"private_key=00\nerrno=0\n\n"), Ok(tunnel(&[])));
    assert_eq!(instead("listen_port=51820\n", "a_key_of_later=\u{1}\n"), Ok(both()));
}

#[test]
fn what_is_not_as_the_protocol_says_is_refused() {
    let broken = |why: &str| Err(format!("the answer is no WireGuard's: {why}"));
    let number = "wanted a number of 64 bits";
    for (line, other, why) in [
        (
            "rx_bytes=148\n",
            "rx_bytes=18446744073709551616\n",
            format!("rx_bytes is \"18446744073709551616\", {number}"),
        ),
        ("rx_bytes=148\n", "rx_bytes=+1\n", format!("rx_bytes is \"+1\", {number}")),
        ("rx_bytes=148\n", "rx_bytes=-1\n", format!("rx_bytes is \"-1\", {number}")),
        ("rx_bytes=148\n", "rx_bytes=\n", format!("rx_bytes is \"\", {number}")),
        ("rx_bytes=148\n", "rx_bytes=1\r\n", format!("rx_bytes is \"1\\r\", {number}")),
        ("rx_bytes=148\n", "rx_bytes=1\nrx_bytes=2\n", "rx_bytes comes twice in one peer, wanted it once".to_owned()),
        ("listen_port=51820\n", "tx_bytes=1\n", "tx_bytes comes before the first public_key".to_owned()),
        ("listen_port=51820\n", "no key\n", "a line of 6 bytes has no =, wanted key=value".to_owned()),
        ("listen_port=51820\n", "\n", "the answer ends without errno=0, wanted it whole".to_owned()),
        ("errno=0\n", "errno=-13\n", "errno is -13, wanted 0".to_owned()),
        ("errno=0\n", "errno=x\n", "errno is \"x\", wanted a number".to_owned()),
    ] {
        assert_eq!(instead(line, other), broken(&why), "{other}");
    }
    let digits = "02".repeat(32);
    let wrong = ["zz", "0g", "+2"].map(|pair| digits.replacen("02", pair, 1));
    for other in wrong.into_iter().chain([digits[1..].to_owned(), "02".repeat(33), String::new()]) {
        let why = format!("public_key is {other:?}, wanted 64 hexadecimal digits");
        assert_eq!(instead(&digits, &other), broken(&why));
    }
    let (one, other) = ("01".repeat(32), "02".repeat(32));
    assert_eq!(instead(&other, &one), broken("a public_key comes twice, wanted each peer once"));
}

#[test]
fn long_lines_and_bytes_that_are_no_text_end_the_answer() {
    let long = |length: usize| format!("{}={}\n", "k".repeat(16), "v".repeat(length - 17));
    assert_eq!(instead("listen_port=51820\n", &long(4_096)), Ok(both()));
    let too_long = Err("the answer has a line of more than 4096 bytes".to_owned());
    assert_eq!(instead("listen_port=51820\n", &long(4_098)), too_long);
    assert_eq!(ask(&vec![b'x'; 1 << 20]), too_long);
    let mut bytes = ANSWER.replace("148", "xyz").into_bytes();
    let at = bytes.windows(3).position(|window| window == b"xyz").unwrap();
    bytes[at] = 0xff;
    assert_eq!(
        ask(&bytes),
        Err("the answer is no WireGuard's: rx_bytes is \"\u{fffd}yz\", wanted a number of 64 bits".to_owned())
    );
    // What is shown of a value has a bound.
    let refused = instead("rx_bytes=148", &format!("rx_bytes={}", "9".repeat(4_000))).unwrap_err();
    assert_eq!(refused.len(), "the answer is no WireGuard's: rx_bytes is \"\", wanted a number of 64 bits".len() + 80);
}

#[test]
fn no_secret_is_in_what_is_said_of_a_broken_answer() {
    for (line, other) in [
        ("private_key=", "private_key"),
        ("preshared_key=", "preshared_key"),
        ("listen_port=51820", "private_key"),
        ("rx_bytes=148", "rx_bytes=x"),
    ] {
        let refused = instead(line, other).unwrap_err();
        assert!(!refused.contains("5e5e"), "{refused}");
    }
}

#[test]
fn more_peers_than_there_is_room_for_are_counted_whatever_their_order() {
    let peer =
        |number: u8| format!("public_key={}\nlast_handshake_time_sec={number}\n", format!("{number:02x}").repeat(32));
    for order in [[1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [3, 5, 1, 4, 2]] {
        let answer = order.map(peer).concat() + "errno=0\n\n";
        let found = ask_of(answer.as_bytes(), 2).unwrap();
        assert_eq!(found.peers.keys().map(|key| key[0]).collect::<Vec<_>>(), [1, 2]);
        let mut left_out = found.left_out;
        left_out.sort_unstable();
        assert_eq!(left_out, [3, 4, 5]);
    }
}

#[test]
fn the_room_is_for_all_interfaces_together() {
    let peers: Vec<_> = (1..=3).map(|key| ([key; 32], Peer { handshake: u64::from(key), ..Peer::default() })).collect();
    let mut tunnels = [tunnel(&peers), tunnel(&peers), tunnel(&peers)];
    bound(&mut tunnels, 4);
    let kept = tunnels.each_ref().map(|tunnel| tunnel.peers.len());
    assert_eq!(kept, [3, 1, 0]);
    assert_eq!(tunnels.map(|tunnel| tunnel.left_out), [vec![], vec![3, 2], vec![3, 2, 1]]);
}

#[test]
fn an_interface_is_wireguards_by_its_kind_or_by_its_socket() {
    let sockets = tempfile::tempdir().unwrap();
    let long = "n".repeat(250);
    for name in ["wg1.sock", "wg2", "gone.sock", "wg0.sock", &format!("{long}.sock")] {
        fs::write(sockets.path().join(name), "").unwrap();
    }
    let all = [("lo", false), ("wg0", true), ("wg1", false), ("wg2", false), ("eth0", false)];
    let found = Interfaces::with(all.into_iter(), sockets.path());
    assert_eq!(found, Interfaces { kernel: vec!["wg0".to_owned()], processes: vec!["wg1".to_owned()] });
    let none = Interfaces::with(all.into_iter(), &sockets.path().join("none"));
    assert_eq!(none, Interfaces { kernel: vec!["wg0".to_owned()], processes: Vec::new() });
}

#[test]
fn a_socket_counts_where_a_process_of_this_namespace_listens() {
    let files = tempfile::tempdir().unwrap();
    let unix = files.path().join("unix");
    let head = "Num       RefCount Protocol Flags    Type St Inode Path\n";
    let lines = "0000000000000000: 00000002 00000000 00010000 0001 01 91 /run/wireguard/wg1.sock\n\
                 0000000000000000: 00000003 00000000 00000000 0001 03 92 /var/run/wireguard/wg2.sock\n\
                 0000000000000000: 00000002 00000000 00010000 0001 01    93 /var/run/wireguard/wg3.sock\n\
                 0000000000000000: 00000002 00000000 00010000 0001 01 94 @/wireguard/wg4.sock.old\n\
                 0000000000000000: 00000002 00000000 00010000 0001 01 95 /tmp/wg5.sock\n";
    fs::write(&unix, format!("{head}{lines}")).unwrap();
    let names = ["wg1", "wg2", "wg3", "wg4", "wg5"].map(str::to_owned);
    assert_eq!(process::listening(&unix, &names), [true, false, true, false, false]);
    assert_eq!(process::listening(&files.path().join("none"), &names), [false; 5]);
}
