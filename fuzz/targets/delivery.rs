//! Arbitrary bytes in both directions, cut and ordered at will: nothing panics or runs for ever, and every posting
//! balances. The harness is that of `ebpf/tests/model`, where the properties are that need to know what was meant.
//!
//! Input: bounds (1 byte), number of dice (1), where the requests end (2, little endian), the dice (2 each), the streams.
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

use delivery::{Dice, Script, deliver};
use outside::{Bounds, Host};

fuzz_target!(|input: &[u8]| {
    let Some(([bound, dice, low, high], rest)) = input.split_first_chunk() else {
        return;
    };
    let Some((dice, bytes)) = rest.split_at_checked(2 * usize::from(*dice)) else {
        return;
    };
    let dice: Vec<u16> = dice.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let end = usize::from(u16::from_le_bytes([*low, *high])).min(bytes.len());
    let (requests, answers) = bytes.split_at(end);
    let bounds = match bound & 0x0f {
        0 => Bounds::AMPLE,
        few => Bounds { journal: usize::from(few), deep: usize::from(bound >> 6), stash: usize::from(few) },
    };
    let fins = [bound & 0x10 != 0, bound & 0x20 != 0];
    let streams = [requests.to_vec(), answers.to_vec()];
    let script = Script { streams, fins, gates: Vec::new(), bases: [u32::MAX - 20, 3] };
    let rolls = dice.len();
    deliver(&script, Dice::new(dice), bounds);
    let most = (bytes.len() + 64) * 64 + rolls * 4_096;
    assert!(Host::steps() <= u64::try_from(most).unwrap(), "{} steps", Host::steps());
    // Frees what the host keeps, for the leak check at the end of the run.
    Host::begin(Bounds::AMPLE);
});
