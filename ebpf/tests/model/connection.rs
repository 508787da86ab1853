//! One observed connection and its hooks, in the order in which `kernel/packet.rs`, `end.rs` and `snapshot.rs` call the
//! library. What TCP makes of the segments is `delivery`.

use sockmeter_ebpf::body::Body;
use sockmeter_ebpf::conn::{Conn, Outside as _};
use sockmeter_ebpf::http::side;
use sockmeter_ebpf::http::window::Window;
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND, Reason};
use sockmeter_ebpf::settle;
use sockmeter_ebpf::walk::Walk;

use super::outside::{Bounds, Host};
use super::segment::{Payload, Stash};

/// A piece of one direction's stream as it passes a hook.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// Position of its first byte.
    pub(crate) from: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) fin: bool,
}

/// What becomes of bodies that could be noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Places {
    Free,
    /// Not all programs know that one may have ended.
    Old,
    /// Another connection's.
    Taken,
}

/// See above.
pub(crate) struct Connection {
    pub(crate) conn: Box<Conn>,
    /// What `kernel/bodies.rs` notes.
    body: Option<Body>,
    pub(crate) places: Places,
    window: Box<Window>,
    stashes: [Stash; 2],
    /// Sequence numbers of position 0.
    bases: [u32; 2],
    /// What TCP holds: `tcp.received()` and `tcp.sent()`.
    pub(crate) streams: [u64; 2],
    /// Where TCP was when the pass found that there is nothing to do until that moves.
    rests: Option<[u64; 2]>,
}

impl Connection {
    /// A new connection whose sequence numbers begin at `bases`.
    pub(crate) fn accept(bounds: Bounds, bases: [u32; 2]) -> Self {
        Self::at(bounds, bases, [0, 0])
    }

    /// One that is older than its observation.
    pub(crate) fn mid_stream(bounds: Bounds, bases: [u32; 2], at: [u64; 2], quiet: bool) -> Self {
        let mut this = Self::at(bounds, bases, at);
        let seq = [sequence(bases, at, INBOUND), sequence(bases, at, OUTBOUND)];
        this.conn.begin_mid_stream(7, 3, at, seq, quiet);
        this
    }

    fn at(bounds: Bounds, bases: [u32; 2], at: [u64; 2]) -> Self {
        Host::begin(bounds);
        let mut conn = Box::new(Conn::ZERO);
        conn.begin(7, 3, at, [sequence(bases, at, INBOUND), sequence(bases, at, OUTBOUND)]);
        let stash = || Stash::of(bounds.stash);
        let (body, window) = (None, Box::new(Window::new()));
        let places = Places::Free;
        Self { conn, body, places, window, stashes: [stash(), stash()], bases, streams: at, rests: None }
    }

    /// `packet_received`. `quiet`: all that was sent is acknowledged.
    pub(crate) fn receive(&mut self, packet: Packet<'_>, quiet: bool) {
        self.note_fin(packet);
        if packet.bytes.is_empty() && !packet.fin {
            return;
        }
        let Some(from) = self.enter_received(packet, quiet) else {
            return;
        };
        self.read::<false>(from, packet.bytes);
    }

    /// Two packets on two CPUs: the second one finds the connection busy with the first, and is left to it.
    pub(crate) fn receive_both(&mut self, first: Packet<'_>, second: Packet<'_>, quiet: bool) {
        let Some(from) = self.enter_received(first, quiet) else {
            self.receive(second, quiet);
            return;
        };
        let left = self.enter_received(second, quiet);
        if let Some(from) = left {
            if self.stashes[INBOUND].put(from, second.bytes) {
                self.conn.inbound.stashed = 1;
            } else {
                self.conn.cut = 1 + Reason::Lost as u8;
            }
        }
        self.read::<false>(from, first.bytes);
        if left.is_some() {
            self.read::<false>(from, first.bytes);
        }
    }

    fn enter_received(&mut self, packet: Packet<'_>, quiet: bool) -> Option<u64> {
        let conn = &mut *self.conn;
        let from = conn.inbound.position(sequence(self.bases, [packet.from; 2], INBOUND));
        let until = from.wrapping_add(length(packet.bytes));
        conn.inbound.seen = conn.inbound.seen.max(until);
        if packet.fin {
            conn.inbound.fin = until;
        }
        if packet.bytes.is_empty() {
            return None;
        }
        if conn.inbound.phase == side::OPAQUE {
            if !conn.resumes(quiet && from == self.streams[INBOUND], from) {
                conn.turned = 0;
                return None;
            }
        } else if until < conn.inbound.want || (until == conn.inbound.want && conn.inbound.phase != side::BODY) {
            return None;
        }
        Some(from)
    }

    /// `packet_sent`.
    pub(crate) fn send(&mut self, packet: Packet<'_>) {
        self.note_fin(packet);
        let seq = sequence(self.bases, [packet.from; 2], OUTBOUND);
        let len = u32::try_from(packet.bytes.len()).unwrap();
        let noted = self.body.as_mut().filter(|_| len != 0 && !packet.fin);
        if let Some(body) = noted.filter(|body| body.has(seq, len) || body.is_ended_by(seq, len)) {
            if !body.has(seq, len) && body.ended == 0 {
                body.ended = Host.now();
            }
            return;
        }
        self.take_body();
        if let Some(from) = self.enter_sent(packet, seq) {
            self.read::<true>(from, packet.bytes);
        }
        self.body = self.conn.body();
        match self.places {
            Places::Free => {}
            Places::Old => self.body = self.body.map(|body| Body { whole: 0, ..body }),
            Places::Taken => self.body = None,
        }
    }

    fn enter_sent(&mut self, packet: Packet<'_>, seq: u32) -> Option<u64> {
        let conn = &mut *self.conn;
        if !packet.bytes.is_empty() {
            conn.spoken_to::<Host>();
        }
        if conn.emitted != conn.answered || conn.cut != 0 || conn.resume != 0 || conn.early_status != 0 {
            settle::exchanges(conn, &mut Host, self.streams);
        }
        if packet.bytes.is_empty() && !packet.fin {
            return None;
        }
        let side = &mut conn.outbound;
        let from = side.position(seq);
        let until = from.wrapping_add(length(packet.bytes));
        side.seen = side.seen.max(until);
        if packet.fin {
            side.fin = until;
        }
        if side.phase == side::OPAQUE {
            conn.turned = 1;
            return None;
        }
        if !packet.fin && (until < side.want || (until == side.want && side.phase != side::BODY)) {
            return None;
        }
        Some(from)
    }

    fn read<const OUT: bool>(&mut self, from: u64, bytes: &[u8]) {
        Walk::<_, _, OUT> {
            conn: &mut self.conn,
            window: &mut self.window,
            segment: Payload { stash: &mut self.stashes[usize::from(OUT)], packet: bytes, kept: None },
            outside: Host,
            from,
            until: from.wrapping_add(length(bytes)),
            done: false,
        }
        .run();
    }

    /// The send hook's settlement.
    pub(crate) fn exchanges(&mut self) {
        self.take_body();
        settle::exchanges(&mut self.conn, &mut Host, self.streams);
    }

    /// The snapshot pass. It leaves out a connection that rests; here it does not, so as to see that nothing was left out. Where a
    /// hook ran ahead TCP is about to move, or what the hook saw never was.
    pub(crate) fn positions(&mut self) {
        self.take_body();
        let before = Host::posts();
        settle::positions(&mut self.conn, &mut Host, self.streams);
        let is_ahead = [self.conn.inbound.seen, self.conn.outbound.seen] != self.streams;
        if self.rests == Some(self.streams) && !is_ahead {
            assert_eq!(Host::posts(), before, "something was to be posted, though TCP did not move");
        }
        self.rests = settle::is_through(&self.conn, self.streams).then_some(self.streams);
    }

    /// Whether the next pass would leave this out.
    pub(crate) fn rests(&self) -> bool {
        self.rests == Some(self.streams)
    }

    /// A FIN is in no stream, but moves a sequence number.
    fn note_fin(&mut self, packet: Packet<'_>) {
        if packet.fin {
            self.rests = None;
        }
    }

    fn take_body(&mut self) {
        match self.body.take() {
            Some(body) if body.ended != 0 => self.conn.end_body::<Host>(body.ended),
            _ => self.conn.take_body(sequence(self.bases, self.streams, OUTBOUND)),
        }
    }

    /// The socket's end.
    pub(crate) fn close(&mut self) {
        self.take_body();
        settle::close(&mut self.conn, &mut Host, self.streams);
    }
}

fn sequence(bases: [u32; 2], at: [u64; 2], direction: usize) -> u32 {
    let low = u32::try_from(at[direction] & u64::from(u32::MAX)).unwrap();
    bases[direction].wrapping_add(low)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap()
}
