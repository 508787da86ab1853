//! A whole conversation on one connection, and what must be booked for it. How its messages are spelled is `message`,
//! which ones there are `strategy`.

use sockmeter_ebpf::http::head::REQUEST_HEAD;
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND, REASONS, Reason};

use super::delivery::Script;
use super::ledger::{Exchange, Ledger};
use super::message::{Draft, Framing, Written};

/// A request and what the service says to it.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    /// Empty lines in front (RFC 9112 2.2).
    pub(crate) blanks: usize,
    pub(crate) request: Draft,
    /// Interim answers.
    pub(crate) interim: Vec<Draft>,
    pub(crate) answer: Draft,
    pub(crate) status: u16,
    /// What the answer waits for: only the head, or all of the request.
    pub(crate) early: bool,
}

/// How a conversation ends.
#[derive(Debug, Clone)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// Another protocol, `[inbound, outbound]`, after the last answer.
    Upgraded([Vec<u8>; 2]),
    /// Each direction stops at this many 65,536ths of it.
    Cut([u16; 2]),
    /// The last request's head stops at this many 65,536ths of what follows its first line, and is answered with this.
    Refused(u16, Draft, u16),
}

/// See above.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) turns: Vec<Turn>,
    pub(crate) end: End,
    pub(crate) fins: [bool; 2],
    pub(crate) bases: [u32; 2],
}

/// What must be booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Books {
    pub(crate) exchanges: Vec<Exchange>,
    pub(crate) requests: u64,
    pub(crate) unattributed: [[u64; 2]; REASONS],
    pub(crate) lost: [u64; 2],
}

impl From<&Ledger> for Books {
    fn from(ledger: &Ledger) -> Self {
        Self {
            exchanges: ledger.exchanges.clone(),
            requests: ledger.requests,
            unattributed: ledger.unattributed,
            lost: ledger.lost,
        }
    }
}

/// A turn as it was written.
struct Said {
    request: Written,
    answer: Written,
    status: u16,
}

impl Conversation {
    /// The bytes, and what must be booked for them.
    pub(crate) fn write(&self) -> (Script, Books) {
        let mut script = Script { fins: self.fins, bases: self.bases, ..Script::default() };
        let mut said: Vec<Said> = Vec::new();
        let mut partial = None;
        for (index, turn) in self.turns.iter().enumerate() {
            let [inbound, outbound] = &mut script.streams;
            let start = inbound.len();
            inbound.extend(b"\r\n".repeat(turn.blanks));
            let mut request = turn.request.write(inbound);
            request.start = start;
            let start = outbound.len();
            if let (End::Refused(place, refusal, status), true) = (&self.end, index + 1 == self.turns.len()) {
                // At least the line end is there, at most all but the last byte of the head.
                let least = request.line.end + if turn.request.bare { 1 } else { 2 };
                let stop = least + usize::from(*place) * (request.head_end - least) / 65_536;
                inbound.truncate(stop);
                request.end = stop;
                request.payload.clear();
                script.gates.push((start, stop));
                let answer = refusal.write(outbound);
                partial = Some(index);
                said.push(Said { request, answer, status: *status });
                break;
            }
            for interim in &turn.interim {
                interim.write(outbound);
            }
            let mut answer = turn.answer.write(outbound);
            answer.start = start;
            script.gates.push((start, if turn.early { request.head_end } else { request.end }));
            said.push(Said { request, answer, status: turn.status });
            if matches!(turn.answer.framing, Framing::UntilClose(_)) {
                script.fins[OUTBOUND] = script.fins[OUTBOUND] || index % 2 == 0;
            }
        }
        let ends = script.streams.each_ref().map(Vec::len);
        if let End::Upgraded(rest) = &self.end {
            for (stream, rest) in script.streams.iter_mut().zip(rest) {
                stream.extend_from_slice(rest);
            }
        }
        if let End::Cut(parts) = self.end {
            cut(&mut script, parts);
        }
        let books = books(&script, &said, ends, partial);
        (script, books)
    }
}

/// Ends both directions somewhere; no answer begins in front of its gate.
fn cut(script: &mut Script, parts: [u16; 2]) {
    let at = |direction: usize| usize::from(parts[direction]) * script.streams[direction].len() / 65_536;
    let (inbound, mut outbound) = (at(INBOUND), at(OUTBOUND));
    for (out, needed) in &script.gates {
        if *needed > inbound {
            outbound = outbound.min(*out);
        }
    }
    script.streams[INBOUND].truncate(inbound);
    script.streams[OUTBOUND].truncate(outbound);
    script.gates.retain(|(out, _)| *out < outbound);
}

fn books(script: &Script, said: &[Said], ends: [usize; 2], partial: Option<usize>) -> Books {
    let lengths = script.streams.each_ref().map(Vec::len);
    let [inbound, outbound] = lengths;
    let mut books = Books { exchanges: Vec::new(), requests: 0, unattributed: [[0; 2]; REASONS], lost: [0; 2] };
    let mut booked = [0u64; 2];
    for (index, Said { request, answer, status }) in said.iter().enumerate() {
        let refused = partial == Some(index);
        if request.head_end > inbound && !refused {
            break;
        }
        let mut line = script.streams[INBOUND][request.line.clone()].to_vec();
        line.truncate(REQUEST_HEAD);
        let wire = [request.wire_until(inbound), answer.wire_until(outbound)];
        booked[INBOUND] += wire[INBOUND];
        booked[OUTBOUND] += wire[OUTBOUND];
        books.requests += u64::from(!refused);
        books.exchanges.push(Exchange {
            line,
            status: if answer.head_end <= outbound { *status } else { 0 },
            wire,
            body: [request.payload_until(inbound), answer.payload_until(outbound)],
        });
    }
    for direction in [INBOUND, OUTBOUND] {
        let after = lengths[direction].saturating_sub(ends[direction]);
        let after = u64::try_from(after).unwrap();
        books.unattributed[Reason::Upgraded as usize][direction] = after;
        // The beginning of a head that nobody answered.
        books.unattributed[Reason::NotHttp as usize][direction] =
            u64::try_from(lengths[direction]).unwrap() - booked[direction] - after;
    }
    books
}
