//! Replaying two byte streams as TCP segments in some order: cut anywhere, early, late, twice, overlapping, seen by the
//! hook but not taken by TCP. Every choice is a die; when the dice are used up, the rest comes in order and whole.

use super::connection::{Connection, Packet, Places};
use super::ledger::Ledger;
use super::outside::{Bounds, Host};
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND};

/// What both ends of a connection send.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// `[requests, answers]`.
    pub(crate) streams: [Vec<u8>; 2],
    /// Whether a direction ends with a FIN, or the connection is reset.
    pub(crate) fins: [bool; 2],
    /// `(out, in)`: outbound bytes from `out` on are sent only after the inbound ones up to `in` were received.
    pub(crate) gates: Vec<(usize, usize)>,
    /// Sequence numbers of the first bytes.
    pub(crate) bases: [u32; 2],
}

/// Numbers that decide.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    numbers: std::vec::IntoIter<u16>,
}

impl Dice {
    /// In order of use.
    pub(crate) fn new(numbers: Vec<u16>) -> Self {
        Self { numbers: numbers.into_iter() }
    }

    fn roll(&mut self, sides: usize) -> usize {
        usize::from(self.numbers.next().unwrap_or(0)) % sides
    }

    fn are_used_up(&self) -> bool {
        self.numbers.as_slice().is_empty()
    }

    /// A length: mostly tiny, sometimes an Ethernet segment, sometimes a merged one.
    fn length(&mut self) -> usize {
        match self.roll(4) {
            0 => 65_000,
            1 => 1 + self.roll(8),
            2 => 1 + self.roll(200),
            _ => 1 + self.roll(1_500),
        }
    }
}

/// One direction as TCP has it.
struct Flow {
    /// Sent for the first time up to here.
    next: usize,
    /// What TCP took.
    taken: Vec<bool>,
    /// All below was taken.
    whole: usize,
    /// Nothing from here on was taken.
    highest: usize,
    /// Ranges that are on their way, or that TCP refused: they will come (again).
    late: Vec<(usize, usize)>,
}

impl Flow {
    fn take(&mut self, from: usize, until: usize) {
        self.taken[from..until].fill(true);
        self.highest = self.highest.max(until);
        while self.taken.get(self.whole) == Some(&true) {
            self.whole += 1;
        }
    }
}

/// A replay.
struct Replay<'a> {
    script: &'a Script,
    connection: Connection,
    flows: [Flow; 2],
    dice: Dice,
    ledger: Ledger,
}

/// Replays `script` to the connection's end; what was posted, read whenever the dice say so.
pub(crate) fn deliver(script: &Script, dice: Dice, bounds: Bounds) -> Ledger {
    let mut replay = Replay::of(script, dice, bounds);
    while !replay.dice.are_used_up() {
        replay.act();
    }
    replay.finish(usize::MAX);
    replay.end()
}

/// Replays `script` a byte at a time, in order.
pub(crate) fn deliver_bytes(script: &Script) -> Ledger {
    let mut replay = Replay::of(script, Dice::new(Vec::new()), Bounds::AMPLE);
    replay.finish(1);
    replay.end()
}

impl<'a> Replay<'a> {
    fn of(script: &'a Script, dice: Dice, bounds: Bounds) -> Self {
        let connection = Connection::accept(bounds, script.bases);
        let flow = |stream: &Vec<u8>| {
            let taken = vec![false; stream.len()];
            Flow { next: 0, taken, whole: 0, highest: 0, late: Vec::new() }
        };
        Self { script, connection, flows: script.streams.each_ref().map(flow), dice, ledger: Ledger::default() }
    }

    fn act(&mut self) {
        let direction = self.dice.roll(2);
        match self.dice.roll(19) {
            0..=6 => {
                let length = self.dice.length();
                self.fresh(direction, length);
            }
            7 => {
                let length = self.dice.length();
                let range = self.cut(direction, length);
                if range.0 < range.1 && self.flows[direction].late.len() < 20 {
                    self.flows[direction].next = range.1;
                    self.flows[direction].late.push(range);
                }
            }
            8 | 9 => self.late(direction),
            10 | 11 => {
                let next = self.flows[direction].next;
                let from = next.saturating_sub(self.dice.roll(3_000));
                let until = (from + self.dice.length()).min(next);
                self.pass(direction, from, until, true);
            }
            12 => {
                let length = self.dice.length();
                let (from, until) = self.cut(direction, length);
                if from < until && self.flows[direction].late.len() < 20 {
                    self.flows[direction].next = until;
                    self.pass(direction, from, until, false);
                    let middle = from + self.dice.roll(until - from);
                    self.flows[direction].late.extend([(from, middle), (middle, until)]);
                }
            }
            13 => {
                let (first, second) = (self.dice.length(), self.dice.length());
                self.both(first, second);
            }
            14 => self.connection.exchanges(),
            15 | 16 => self.connection.positions(),
            17 => self.connection.places = [Places::Free, Places::Old, Places::Taken][self.dice.roll(3)],
            _ => self.ledger.read_journal(),
        }
    }

    /// The next range of at most `length` bytes that `direction` may send.
    fn cut(&self, direction: usize, length: usize) -> (usize, usize) {
        let from = self.flows[direction].next;
        let mut until = self.script.streams[direction].len();
        if direction == OUTBOUND {
            for (out, inbound) in &self.script.gates {
                if self.flows[INBOUND].whole < *inbound {
                    until = until.min(*out);
                }
            }
        }
        (from, until.clamp(from, from.saturating_add(length)))
    }

    fn fresh(&mut self, direction: usize, length: usize) {
        let (from, until) = self.cut(direction, length);
        self.flows[direction].next = until;
        self.pass(direction, from, until, true);
    }

    fn late(&mut self, direction: usize) {
        let count = self.flows[direction].late.len();
        if count > 0 {
            let which = self.dice.roll(count);
            let (from, until) = self.flows[direction].late.remove(which);
            self.pass(direction, from, until, true);
        }
    }

    /// Two fresh inbound segments at the same moment.
    fn both(&mut self, first: usize, second: usize) {
        let (from, middle) = self.cut(INBOUND, first);
        self.flows[INBOUND].next = middle;
        let (_, until) = self.cut(INBOUND, second);
        self.flows[INBOUND].next = until;
        if from < middle && middle < until {
            let bytes = &self.script.streams[INBOUND];
            let packet =
                |from: usize, until: usize| Packet { from: position(from), bytes: &bytes[from..until], fin: false };
            self.connection.receive_both(packet(from, middle), packet(middle, until), false);
            self.accept(INBOUND, from, until);
        } else {
            self.pass(INBOUND, from, until, true);
        }
    }

    /// A segment passes the hook, and TCP takes it or not.
    fn pass(&mut self, direction: usize, from: usize, until: usize, taken: bool) {
        if from >= until {
            return;
        }
        let bytes = &self.script.streams[direction];
        let fin = until == bytes.len() && self.script.fins[direction] && self.dice.roll(2) == 0;
        self.hook(direction, from, until, fin);
        if taken {
            self.accept(direction, from, until);
        }
    }

    fn hook(&mut self, direction: usize, from: usize, until: usize, fin: bool) {
        let packet = Packet { from: position(from), bytes: &self.script.streams[direction][from..until], fin };
        if direction == INBOUND {
            self.connection.receive(packet, false);
        } else {
            self.connection.send(packet);
        }
    }

    fn accept(&mut self, direction: usize, from: usize, until: usize) {
        let flow = &mut self.flows[direction];
        flow.take(from, until);
        let reached = if direction == INBOUND { flow.whole } else { flow.highest };
        self.connection.streams[direction] = position(reached);
    }

    /// Sends what is left, at most `length` bytes at a time.
    fn finish(&mut self, length: usize) {
        loop {
            for direction in [INBOUND, OUTBOUND] {
                while !self.flows[direction].late.is_empty() {
                    self.late(direction);
                }
            }
            let rest = [INBOUND, OUTBOUND].map(|direction| self.cut(direction, length));
            if rest.iter().all(|(from, until)| from == until) {
                break;
            }
            for direction in [INBOUND, OUTBOUND] {
                self.fresh(direction, length);
            }
        }
        for direction in [INBOUND, OUTBOUND] {
            let end = self.script.streams[direction].len();
            assert_eq!(self.flows[direction].whole, end, "the script can be played to its end");
            if self.script.fins[direction] {
                self.hook(direction, end, end, true);
            }
        }
    }

    fn end(mut self) -> Ledger {
        self.connection.close();
        self.ledger.read_journal();
        self.ledger.read_spills();
        assert_eq!(Host::deep_entries(), 0, "entries are left in the overflow map");
        self.ledger.is_complete(self.connection.streams);
        self.ledger
    }
}

fn position(at: usize) -> u64 {
    u64::try_from(at).unwrap()
}
