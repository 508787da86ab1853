//! Heads, chunk-size lines and trailers read the same however the streams are cut: all requests, then all answers, in
//! pieces and byte by byte, give the same books. Order and repetition are `delivery`'s.
//!
//! Input: number of pieces of the requests and of the answers (1 byte each), where the requests end (2, little endian),
//! the pieces' lengths (1 each), the streams. What is left behind the pieces comes whole.
#![no_main]

#[path = "../../ebpf/tests/model/connection.rs"]
mod connection;
#[path = "../../ebpf/tests/model/delivery.rs"]
mod delivery;
#[path = "../../ebpf/tests/model/ledger.rs"]
mod ledger;
#[path = "../../ebpf/tests/model/outside.rs"]
mod outside;
#[path = "../../ebpf/tests/model/segment.rs"]
mod segment;

use libfuzzer_sys::fuzz_target;

use delivery::{Dice, Script, deliver, deliver_bytes};
use outside::{Bounds, Host};

fuzz_target!(|input: &[u8]| {
    let Some(([inbound, outbound, low, high], rest)) = input.split_first_chunk() else {
        return;
    };
    let pieces = [*inbound, *outbound].map(usize::from);
    let Some((lengths, bytes)) = rest.split_at_checked(pieces[0] + pieces[1]) else {
        return;
    };
    let end = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
    let (requests, answers) = bytes.split_at(end);
    let streams = [requests.to_vec(), answers.to_vec()];
    // No answer before all requests are there: which request it belongs to must not depend on the pieces.
    let script = Script { streams, fins: [false; 2], gates: vec![(0, end)], bases: [u32::MAX - 20, 3] };
    // A fresh segment of this direction (`Replay::act`), of 1 to 200 bytes (`Dice::length`).
    let piece = |direction: u16, length: &u8| [direction, 0, 2, u16::from(*length)];
    let (first, second) = lengths.split_at(pieces[0]);
    let dice = first.iter().flat_map(|length| piece(0, length));
    let dice = dice.chain([0, 0, 0]).chain(second.iter().flat_map(|length| piece(1, length)));
    let cut = deliver(&script, Dice::new(dice.collect()), Bounds::AMPLE);
    let bytewise = deliver_bytes(&script);
    assert_eq!(cut.stream, bytewise.stream);
    // Where an answer turns out to be no HTTP, what was settled by then is booked, and the rest is set aside: how much that
    // is depends on when the pieces came. Each posting balances all the same (`Ledger`).
    let refused = |ledger: &ledger::Ledger| ledger.unattributed.iter().any(|bytes| bytes[1] != 0);
    assert_eq!(refused(&cut), refused(&bytewise));
    if !refused(&cut) {
        assert_eq!((cut.exchanges, cut.requests), (bytewise.exchanges, bytewise.requests));
        assert_eq!((cut.wire, cut.unattributed, cut.lost), (bytewise.wire, bytewise.unattributed, bytewise.lost));
    }
    // Frees what the host keeps, for the leak check at the end of the run.
    Host::begin(Bounds::AMPLE);
});
