//! The body that an observed connection sends, noted where its packets find it by their ports: they need nothing that is kept of the
//! socket or the connection, which would be several cache lines that nobody else has looked at since the packet before. How a
//! body is read otherwise is `walk`, where the notes lie `kernel/bodies.rs`.
//!
//! Whoever holds the socket's lock notes it, and whoever is about to read, to settle or to end the connection takes it back
//! first, and ends the message if its last packet has gone out by then. What comes in meanwhile is read as ever; what it leaves to
//! whoever sends waits as it does while nothing is sent: until something else is, or for a pass.

use crate::conn::{Conn, Outside};
use crate::http::side::{BODY, NEVER};

/// How far ahead a body's end is noted: sequence numbers are compared by the sign of their difference (RFC 9293 3.4), and a
/// window ends in front of 1 GiB (RFC 7323 2.3).
const FARTHEST: u64 = 1 << 30;

/// A body that is being sent.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body {
    /// Address of the connection's socket, whose lock whoever looks at the rest holds; 0: none is noted.
    pub socket: u64,
    /// Sequence number up to which it had gone out when it was noted ...
    pub from: u32,
    /// ... and its end.
    pub until: u32,
    /// Id of the process that was last seen to use the connection.
    pub user: u32,
    /// 1: its end is the message's, and a packet that ends there needs nothing else; 0: it is a part of one, or noted by a layout
    /// that knew of no more.
    pub whole: u32,
    /// When such a packet went out, as `Outside::now` tells it; 0: none did. Whoever takes the body back ends the message.
    pub ended: u64,
}
const _: () = assert!(size_of::<Body>() == 32);

/// The layout since which a noted body may have ended.
pub const ENDED_SINCE: u32 = 10;

/// Bodies that can be noted at once. Where two meet at a place, the packets of the second are looked at as any others.
pub const BODIES: u32 = 1 << BITS;
const BITS: u32 = 12;

impl Body {
    /// The place of a connection's body, by its ports: those that one client uses lie side by side, so by a part of a product.
    #[inline(always)]
    #[must_use]
    pub const fn place(local: u16, remote: u16) -> u32 {
        let ports = (local as u32) << 16 | remote as u32;
        ports.wrapping_mul(0x9e37_79b1) >> (u32::BITS - BITS)
    }

    /// Whether a packet of `len` bytes from `seq` on lies within what was noted, and does not end it.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, seq: u32, len: u32) -> bool {
        let end = seq.wrapping_add(len);
        end.wrapping_sub(self.from).cast_signed() > 0 && self.until.wrapping_sub(end).cast_signed() > 0
    }

    /// Whether a packet of `len` bytes from `seq` on ends the message together with its body.
    #[inline(always)]
    #[must_use]
    pub const fn is_ended_by(&self, seq: u32, len: u32) -> bool {
        self.whole != 0 && seq.wrapping_add(len) == self.until
    }
}

impl Conn {
    /// The body that is sent from here on, if one is and nothing else is to be done at a send; not yet anybody's. The socket's lock
    /// is held.
    #[inline(always)]
    #[must_use]
    pub fn body(&self) -> Option<Body> {
        let side = &self.outbound;
        // In the middle of a body nothing can have become complete.
        if side.phase != BODY || side.seen >= side.want || side.fin != NEVER || self.waits() {
            return None;
        }
        let left = side.want - side.seen;
        let part = if left > FARTHEST { FARTHEST } else { left };
        let (from, until) = (side.sequence(side.seen), side.sequence(side.seen + part));
        Some(Body { socket: 0, from, until, user: 0, whole: u32::from(part == left), ended: 0 })
    }

    /// Notes how much of a body has gone out since it was noted: all that TCP sent, up to sequence number `next`. The socket's
    /// lock is held.
    #[inline(always)]
    pub fn take_body(&mut self, next: u32) {
        let side = &mut self.outbound;
        // A FIN has a number of its own, and what was sent in front of it was seen.
        if side.phase != BODY || side.fin != NEVER {
            return;
        }
        let seen = side.position(next);
        // What ends the body, or comes behind it, is read.
        if seen > side.seen && seen < side.want {
            side.seen = seen;
        }
    }

    /// Ends the message whose body went out to its end since it was noted, the last packet at time `ended`. The socket's lock is
    /// held.
    #[inline(always)]
    pub fn end_body<O: Outside>(&mut self, ended: u64) {
        let side = &mut self.outbound;
        if side.phase != BODY {
            return;
        }
        let end = side.want;
        if side.seen < end {
            side.seen = end;
        }
        O::message_ended(self, true, end, ended);
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::side::START;

    /// The last sequence number but one is that of position 0.
    const BASE: u32 = u32::MAX - 1;

    fn sending(seen: u64, want: u64) -> Box<Conn> {
        let mut conn = Box::new(Conn::ZERO);
        conn.begin(7, 3, [0, seen], [0, at(seen)]);
        conn.outbound.phase = BODY;
        conn.outbound.want = want;
        conn
    }

    fn at(position: u64) -> u32 {
        BASE.wrapping_add(position as u32)
    }

    /// What is noted of that.
    fn noted(conn: &Conn) -> Body {
        conn.body().unwrap_or(Body { socket: 0, from: 0, until: 0, user: 0, whole: 0, ended: 0 })
    }

    #[test]
    fn packets_within_a_body_are_passed_over_and_how_far_they_went_comes_back() {
        let mut conn = sending(100, 1_000);
        let body = noted(&conn);
        let cases = [
            (100, 300, true),
            (100, 1, true),
            (50, 51, true),
            (50, 50, false),
            (400, 599, true),
            (400, 600, false),
            (400, 700, false),
        ];
        for (from, len, passes) in cases {
            assert_eq!(body.has(at(from), len), passes, "{from} {len}");
            assert_eq!(body.is_ended_by(at(from), len), from + u64::from(len) == 1_000, "{from} {len}");
        }
        for (next, seen) in
            [(100, 100), (700, 700), (400, 700), (999, 999), (1_000, 999), (1_001, 999), (u64::from(u32::MAX / 2), 999)]
        {
            conn.take_body(at(next));
            assert_eq!(conn.outbound.seen, seen, "{next}");
        }
        conn.outbound.phase = START;
        conn.outbound.want = 2_000;
        conn.take_body(at(1_500));
        assert_eq!(conn.outbound.seen, 999);
    }

    #[test]
    fn a_fin_in_the_middle_of_a_body_was_not_a_byte_of_it() {
        let mut conn = sending(100, 1_000);
        conn.outbound.seen = 700;
        conn.outbound.fin = 700;
        conn.take_body(at(701));
        assert_eq!(conn.outbound.seen, 700);
    }

    #[test]
    fn a_body_longer_than_sequence_numbers_is_noted_in_parts() {
        let mut conn = sending(0, 10 << 30);
        let mut body = noted(&conn);
        let mut read = 0;
        let step: u32 = 1 << 20;
        for mib in 0..10_u64 << 10 {
            let seq = at(mib << 20);
            let last = mib + 1 == 10 << 10;
            assert_eq!(body.is_ended_by(seq, step), last);
            if !body.has(seq, step) {
                read += 1;
                conn.take_body(seq);
                assert_eq!(conn.outbound.seen, mib << 20);
                conn.outbound.seen = (mib + 1) << 20;
                body = if conn.body().is_some() { noted(&conn) } else { body };
            }
        }
        // The last of each GiB.
        assert_eq!(read, 10);
    }

    #[test]
    fn nothing_is_noted_while_there_is_something_else_to_look_at() {
        type Change = fn(&mut Conn);
        let changes: [Change; 7] = [
            |conn| conn.outbound.phase = START,
            |conn| conn.outbound.seen = conn.outbound.want,
            |conn| conn.outbound.fin = 500,
            |conn| conn.answered += 1,
            |conn| conn.cut = 1,
            |conn| conn.resume = 1,
            |conn| conn.early_status = 200,
        ];
        for change in changes {
            let mut conn = sending(100, 1_000);
            assert!(conn.body().is_some());
            change(&mut conn);
            assert_eq!(conn.body(), None);
        }
    }

    #[test]
    fn connections_of_one_client_have_places_of_their_own() {
        for local in [80, 443, 8_080] {
            // Every second port is what connect(2) gives (`net/ipv4/inet_hashtables.c`, `__inet_hash_connect`).
            let places: BTreeSet<_> = (0..1_024).map(|client| Body::place(local, 32_768 + 2 * client)).collect();
            assert_eq!(places.len(), 1_024, "{local}");
            assert!(places.iter().all(|place| *place < BODIES));
        }
    }
}
