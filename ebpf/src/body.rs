//! The body that an observed connection sends, noted with its socket: its packets need nothing that is kept of the connection,
//! which would be several cache lines that nobody else has looked at since the packet before. How a body is read otherwise is
//! `walk`.
//!
//! Whoever holds the socket's lock notes it, and whoever is about to read, to settle or to end the connection takes it back
//! first. What comes in meanwhile is read as ever; what it leaves to whoever sends waits as it does while nothing is sent: until
//! the body has ended, or for a pass.

use crate::conn::Conn;
use crate::http::side::BODY;
use crate::socket::Socket;

/// How far ahead a body's end is noted: sequence numbers are compared by the sign of their difference (RFC 9293 3.4), and a
/// window ends in front of 1 GiB (RFC 7323 2.3).
const FARTHEST: u64 = 1 << 30;

impl Conn {
    /// Notes with its socket that nothing but a body is sent, if that is so and nothing else is to be done at a send. The socket's
    /// lock is held.
    #[inline(always)]
    pub fn note_body(&self, socket: &mut Socket) {
        let side = &self.outbound;
        // In the middle of a body nothing can become complete.
        if side.phase != BODY || side.seen >= side.want || self.waits() {
            return;
        }
        let left = side.want - side.seen;
        let left = if left > FARTHEST { FARTHEST } else { left };
        socket.note_body(side.sequence(side.seen), side.sequence(side.seen + left));
    }

    /// Takes what was noted of a body back, and how far it went. The socket's lock is held.
    #[inline(always)]
    pub fn take_body(&mut self, socket: &mut Socket) {
        if let Some(seq) = socket.take_body() {
            let side = &mut self.outbound;
            let seen = side.position(seq);
            // Anything else was not noted of this body.
            if side.phase == BODY && seen > side.seen && seen < side.want {
                side.seen = seen;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use super::*;
    use crate::http::side::START;

    /// The last sequence number but one is that of position 0.
    const BASE: u32 = u32::MAX - 1;

    fn sending(seen: u64, want: u64) -> (Box<Conn>, Socket) {
        let mut conn = Box::new(Conn::ZERO);
        conn.begin(7, 3, [0, seen], [0, BASE.wrapping_add(seen as u32)]);
        conn.outbound.phase = BODY;
        conn.outbound.want = want;
        (conn, Socket::ZERO)
    }

    #[test]
    fn packets_within_a_body_are_passed_over_and_how_far_they_went_comes_back() {
        let (mut conn, mut socket) = sending(100, 1_000);
        assert!(!socket.passes(BASE.wrapping_add(100), 10));
        conn.note_body(&mut socket);
        assert!(socket.passes(BASE.wrapping_add(100), 300));
        // Again, and what lies in front of it.
        assert!(socket.passes(BASE.wrapping_add(100), 300) && socket.passes(BASE.wrapping_add(50), 20));
        // The body's last byte, and more.
        assert!(!socket.passes(BASE.wrapping_add(400), 600) && !socket.passes(BASE.wrapping_add(400), 700));
        assert!(socket.passes(BASE.wrapping_add(400), 599));
        assert_eq!(conn.outbound.seen, 100);
        conn.take_body(&mut socket);
        assert_eq!(conn.outbound.seen, 999);
        assert!(!socket.passes(BASE.wrapping_add(999), 0));
        conn.take_body(&mut socket);
        assert_eq!(conn.outbound.seen, 999);
    }

    #[test]
    fn a_body_longer_than_sequence_numbers_is_noted_in_parts() {
        let (mut conn, mut socket) = sending(0, 10 << 30);
        let mut read = 0;
        let step: u32 = 1 << 20;
        for at in 0..10 << 10 {
            let seq = BASE.wrapping_add((at as u32).wrapping_mul(step));
            if !socket.passes(seq, step) {
                read += 1;
                conn.take_body(&mut socket);
                assert_eq!(conn.outbound.seen, at << 20);
                conn.outbound.seen = (at + 1) << 20;
                conn.note_body(&mut socket);
            }
        }
        // Every thousandth or so: the first, the last of each GiB, and that which ends the body.
        assert_eq!(read, 11);
    }

    #[test]
    fn nothing_is_noted_while_there_is_something_else_to_look_at() {
        type Change = fn(&mut Conn);
        let changes: [Change; 6] = [
            |conn| conn.outbound.phase = START,
            |conn| conn.outbound.seen = conn.outbound.want,
            |conn| conn.answered += 1,
            |conn| conn.cut = 1,
            |conn| conn.resume = 1,
            |conn| conn.early_status = 200,
        ];
        for change in changes {
            let (mut conn, mut socket) = sending(100, 1_000);
            change(&mut conn);
            conn.note_body(&mut socket);
            assert!(!socket.passes(BASE.wrapping_add(100), 10));
        }
    }

    #[test]
    fn what_was_not_noted_of_this_body_moves_nothing() {
        let (mut conn, mut socket) = sending(100, 1_000);
        for seen in [99, 1_000, 1_001, u32::MAX / 2] {
            socket.note_body(BASE.wrapping_add(seen), BASE.wrapping_add(seen).wrapping_add(1));
            conn.take_body(&mut socket);
            assert_eq!(conn.outbound.seen, 100, "{seen}");
        }
        conn.note_body(&mut socket);
        assert!(socket.passes(BASE.wrapping_add(100), 10));
        conn.outbound.phase = START;
        conn.take_body(&mut socket);
        assert_eq!(conn.outbound.seen, 100);
    }

    #[test]
    fn a_socket_that_sends_a_body_does_not_rest() {
        let (mut conn, mut socket) = sending(100, 1_000);
        conn.note_body(&mut socket);
        let (seen, until) = (BASE.wrapping_add(100), BASE.wrapping_add(1_000));
        assert!(!socket.rests_at([seen, until]));
        // Its state is another, and still its packets pass.
        socket.forget_rest();
        assert!(socket.passes(seen, 10));
        conn.take_body(&mut socket);
        socket.note_rest([seen, until], until, 1);
        assert!(socket.rests_at([seen, until]) && !socket.passes(seen, 10));
    }
}
