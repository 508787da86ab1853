//! What holds for every conversation, however it is delivered.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND};

use super::conversation::Books;
use super::delivery::{Dice, Script, deliver, deliver_bytes};
use super::outside::{Bounds, Host};
use super::strategy::conversation;

fn dice() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![1 => vec(any::<u16>(), 0..40), 3 => vec(any::<u16>(), 0..1_500)]
}

/// Steps that the reading of so many bytes may take: far fewer than a loop without end.
fn step_bound(script: &Script, dice: usize) -> u64 {
    let bytes = script.streams.iter().map(Vec::len).sum::<usize>();
    u64::try_from((bytes + 64) * 64 + dice * 4_096).unwrap()
}

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(default);
    // The same cases every time, so that a change is judged by itself; new ones when somebody asks for more.
    let rng_seed = if std::env::var_os("PROPTEST_CASES").is_some() { RngSeed::Random } else { RngSeed::Fixed(9112) };
    ProptestConfig { cases, rng_seed, max_shrink_iters: 1_000, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(64))]

    /// Byte by byte and in order, the books are what was written.
    #[test]
    fn bytes_in_order_are_booked_as_they_were_written(conversation in conversation()) {
        let (script, expected) = conversation.write();
        prop_assert_eq!(Books::from(&deliver_bytes(&script)), expected);
    }

    /// However the streams are cut, reordered and repeated, the books are the same.
    #[test]
    fn any_delivery_gives_the_same_books(conversation in conversation(), dice in dice()) {
        let (script, expected) = conversation.write();
        let rolls = dice.len();
        let ledger = deliver(&script, Dice::new(dice), Bounds::AMPLE);
        prop_assert_eq!(Books::from(&ledger), expected);
        prop_assert!(Host::steps() <= step_bound(&script, rolls));
    }

    /// When something runs out, detail goes, and the ledger balances (`Ledger` looks at each posting).
    #[test]
    fn books_balance_when_bounds_are_passed(
        conversation in conversation(),
        dice in dice(),
        journal in 0usize..6,
        deep in 0usize..3,
        stash in 0usize..3,
    ) {
        let (script, _) = conversation.write();
        deliver(&script, Dice::new(dice), Bounds { journal, deep, stash });
    }

    /// Bytes that are no HTTP, or nearly.
    #[test]
    fn garbage_balances(streams in [garbage(), garbage()], fins in any::<[bool; 2]>(), dice in dice(), tiny in any::<bool>()) {
        let script = Script { streams, fins, gates: Vec::new(), bases: [u32::MAX - 100, 5] };
        let bounds = if tiny { Bounds { journal: 2, deep: 1, stash: 2 } } else { Bounds::AMPLE };
        let rolls = dice.len();
        let ledger = deliver(&script, Dice::new(dice), bounds);
        prop_assert!(Host::steps() <= step_bound(&script, rolls));
        if !tiny {
            prop_assert_eq!(ledger.lost, [0, 0]);
        }
    }

    /// Conversations with some bytes changed.
    #[test]
    fn damaged_conversations_balance(
        conversation in conversation(),
        damage in vec((any::<bool>(), any::<u16>(), any::<u8>()), 1..8),
        dice in dice(),
    ) {
        let (mut script, _) = conversation.write();
        for (out, place, byte) in damage {
            let stream = &mut script.streams[if out { OUTBOUND } else { INBOUND }];
            let at = usize::from(place) * stream.len() / 65_536;
            if let Some(place) = stream.get_mut(at) {
                *place = byte;
            }
        }
        let ledger = deliver(&script, Dice::new(dice), Bounds::AMPLE);
        prop_assert_eq!(ledger.lost, [0, 0]);
    }
}

/// Pieces of HTTP and bytes, in any order.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let pieces: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 101 x\r\n",
        b"HTTP/1.1 100 x\r\n\r\n",
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"Content-Length: ",
        b"Transfer-Encoding: chunked\r\n",
        b"99999999999999999999999",
        b"5",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"CONNECT a HTTP/1.1\r\n\r\n",
        b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HEAD /",
        b" HTTP/1.0\r\n",
        b"\x16\x03\x01",
    ];
    let piece = prop_oneof![
        6 => proptest::sample::select(pieces.to_vec()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..40),
        1 => vec(Just(b'\n'), 0..3_000),
    ];
    vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}
