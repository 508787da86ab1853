//! Packets of sockets: HTTP boundaries of observed connections, payload of UDP sockets, and who uses an accepted connection. All
//! others leave after a look at their port. Never drops a packet. What is read of a packet is in `reading`.

use core::ptr::read_volatile;

use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::bpf_sk_fullsock;
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use sockmeter_ebpf::conn::{Conn, Outside as _};
use sockmeter_ebpf::http::side::{self, Side};
use sockmeter_ebpf::layout::{LOSS_PACKET, LOSS_STASH};
use sockmeter_ebpf::posting::{self, Reason};
use sockmeter_ebpf::settle;
use sockmeter_ebpf::socket::{self, OBSERVED, ROLE_SERVER};

use super::atomic::{give, raise, take};
use super::bodies::{self, is_held};
use super::handshake;
use super::header::{FIN, Header, SYN};
use super::kept;
use super::maps::{CONN, SOCKET};
use super::outside::Kernel;
use super::owner;
use super::reading::{self, keep_early, read_inbound, read_outbound};
use super::stash;
use super::tcp::{LISTEN, SYN_RECEIVED, Tcp, is_within};
use super::{served, touch, udp};

/// Let the packet pass.
const PASS: i32 = 1;

#[cgroup_skb]
pub(super) fn packet_received(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    match Kind::of::<false>(skb) {
        Kind::Observed(conn, sk) => {
            touch::for_request(conn);
            let Some(tcp) = Tcp::known(sk.cast()) else {
                return PASS;
            };
            let [edge, right] = tcp.window();
            if admit_received(skb, conn, edge, right) != 0 {
                let arrivals = arrivals(conn, tcp);
                read_inbound(skb, conn);
                give(&raw mut conn.busy);
                if arrivals != self::arrivals(conn, tcp) && take(&raw mut conn.busy) {
                    // Something was left to us at the last moment: it is in the stash, as if behind an empty packet. What
                    // comes later still finds the lock free.
                    conn.reading = [0; 2];
                    read_inbound(skb, conn);
                    give(&raw mut conn.busy);
                }
            }
            // The connection may have ended meanwhile, and nobody would look at what was kept just now.
            if conn.closed != 0 {
                if let Some(stash) = stash::of(tcp.sk()) {
                    stash::clear(stash);
                }
            }
        }
        Kind::Listener => {
            if let Some(conn) = handshake::begin(skb) {
                read_inbound(skb, conn);
            }
        }
        Kind::Unborn => {
            kept::keep_unborn(skb);
        }
        Kind::Other => {}
    }
    PASS
}

#[cgroup_skb]
pub(super) fn packet_sent(ctx: SkBuffContext) -> i32 {
    let skb = ctx.skb.skb;
    if let Kind::Observed(conn, sk) = Kind::of::<true>(skb) {
        touch::for_sending(conn);
        bodies::take_sending(conn, sk);
        let mut unread = false;
        // In the middle of a body nothing can have become complete, and what came in early was read before the answer began.
        if conn.outbound.phase != side::BODY || conn.inbound.stashed != 0 || conn.waits() {
            touch::for_answer(conn);
            let Some(tcp) = Tcp::known(sk.cast()) else {
                return PASS;
            };
            let received = tcp.received();
            kept::read(conn, tcp, skb, received);
            unread = settle::missed(&conn.inbound, received);
            if conn.waits() && !kept::is_unread(conn, tcp, received) {
                settle_exchanges(conn, received, tcp.sent(tcp.state()));
            }
        }
        let mut sending = Sending { from: 0, until: 0, payload: 0 };
        if note_sent(skb, conn, &raw mut sending) != 0 {
            read_outbound(skb, conn, sending.payload as u32, sending.from, sending.until);
        }
        if !unread {
            bodies::note(conn, sk);
        }
    }
    PASS
}

/// What a packet is to us.
enum Kind {
    /// A packet of an observed connection, and its socket.
    Observed(&'static mut Conn, *mut bpf_sock),
    /// One that is sent to a listener.
    Listener,
    /// One of a connection that another CPU is about to make.
    Unborn,
    /// Nothing, or done with.
    Other,
}

impl Kind {
    #[inline(always)]
    fn of<const OUT: bool>(skb: *mut __sk_buff) -> Self {
        // SAFETY: a field of the program's context; the verifier checks the socket pointer.
        let sk = unsafe { (*skb).__bindgen_anon_2.sk };
        if sk.is_null() {
            return Self::Other;
        }
        // In this order, for the port is noted before the connection leaves `SYN_RECEIVED`. Processors other than x86-64 may read
        // it sooner: what comes first then, on the first connection of a port, may be `lost`.
        // SAFETY: checked above; every kind of socket has both.
        let (state, port) = unsafe { (read_volatile(&raw const (*sk).state) as u8, (*sk).src_port as u16) };
        if let Some(header) = &Header::read(skb) {
            let known =
                if OUT { Self::sent(skb, header, sk, state, port) } else { Self::received(header, sk, state, port) };
            if let Some(kind) = known {
                return kind;
            }
        }
        Self::of_socket::<OUT>(skb, sk, state)
    }

    /// What a packet is that a TCP socket sends, if that can be told without what is kept of every socket.
    #[inline(always)]
    fn sent(skb: *mut __sk_buff, header: &Header, sk: *mut bpf_sock, state: u8, port: u16) -> Option<Self> {
        if state == LISTEN || !served::is_accepted(port) {
            return Some(Self::Other);
        }
        if !served::is_observed(port) {
            // All that matters of it is who uses the connection, which only one that is held tells.
            return (!is_held(sk)).then_some(Self::Other);
        }
        if bodies::has(header, sk) {
            return Some(Self::Other);
        }
        let conn = ready(sk, |conn| &conn.outbound)?;
        if is_held(sk) && owner::is_new_user_of(conn) {
            note_use(skb);
        }
        Some(Self::Observed(conn, sk))
    }

    /// The same for one that it receives.
    #[inline(always)]
    fn received(header: &Header, sk: *mut bpf_sock, state: u8, port: u16) -> Option<Self> {
        // The headers first: they lie where the kernel has just read them, the port's bit where nobody has.
        if header.is_bare() {
            if state == LISTEN {
                handshake::forget();
            }
            return Some(Self::Other);
        }
        if state == LISTEN {
            return Some(Self::Listener);
        }
        if state != SYN_RECEIVED && !served::is_observed(port) {
            return Some(Self::Other);
        }
        Some(Self::Observed(ready(sk, |conn| &conn.inbound)?, sk))
    }

    /// What a packet is by what is kept of its socket, whatever that is.
    #[inline(always)]
    fn of_socket<const OUT: bool>(skb: *mut __sk_buff, sk: *mut bpf_sock, state: u8) -> Self {
        let Some(socket) = SOCKET.of(sk.cast(), false) else {
            return Self::of_new::<OUT>(skb, sk, state);
        };
        if socket.protocol != socket::TCP {
            if socket.protocol == socket::UDP {
                udp::datagram::<OUT>(skb, socket);
                return Self::Other;
            }
            return Self::of_new::<OUT>(skb, sk, state);
        }
        // Much is sent when an acknowledgment comes, in the context of whoever was interrupted: that is no use.
        if OUT && socket.role == ROLE_SERVER && socket.closed == 0 && is_held(sk) && owner::is_new_user(socket) {
            note_use(skb);
        }
        if socket.flags & OBSERVED == 0 {
            return if !OUT && state == SYN_RECEIVED { Self::Unborn } else { Self::Other };
        }
        match CONN.of(sk.cast(), false) {
            Some(conn) if conn.closed == 0 => Self::Observed(conn, sk),
            _ => Self::Other,
        }
    }

    /// What a packet is of a socket of which nothing is kept yet.
    #[inline(always)]
    fn of_new<const OUT: bool>(skb: *mut __sk_buff, sk: *mut bpf_sock, state: u8) -> Self {
        // SAFETY: the verifier knows the socket pointer.
        let sk = unsafe { bpf_sk_fullsock(sk) };
        if sk.is_null() {
            return Self::Other;
        }
        if udp::is(sk) {
            udp::first_datagram::<OUT>(skb, sk);
            return Self::Other;
        }
        // SAFETY: checked above.
        let is_tcp = unsafe { (*sk).protocol } == u32::from(socket::TCP);
        if !OUT && state == SYN_RECEIVED && is_tcp { Self::Unborn } else { Self::Other }
    }
}

/// The connection of a socket, if it is observed and packets may look at it: then nothing else need be known.
#[inline(always)]
fn ready(sk: *mut bpf_sock, side: impl FnOnce(&Conn) -> &Side) -> Option<&'static mut Conn> {
    CONN.of(sk.cast(), false).filter(|conn| side(conn).ready != 0 && conn.closed == 0)
}

/// An accepted socket sends: perhaps in the context of whoever uses it. Global, so that its stack is not part of that on
/// which packets are read.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn note_use(skb: *mut __sk_buff) -> u32 {
    let sk = reading::socket(skb);
    if sk.is_null() {
        return 0;
    }
    let (Some(tcp), Some(socket)) = (Tcp::of(sk), SOCKET.of(sk, false)) else {
        return 0;
    };
    owner::used_now(socket, tcp);
    0
}

/// Global, so that its stack is not part of that on which packets are read: see `outside`.
#[unsafe(no_mangle)]
extern "C" fn settle_exchanges(conn: *mut Conn, received: u64, sent: u64) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    if let Some(conn) = unsafe { conn.as_mut() } {
        settle::exchanges(conn, &mut Kernel, [received, sent]);
    }
    0
}

/// What is to be read of a packet that the service sends.
#[repr(C)]
struct Sending {
    /// Positions.
    from: u64,
    until: u64,
    /// Offset of the payload.
    payload: u64,
}

/// The service sends. The socket's lock is held. 1, with `sending` filled in, or 0 if nothing is to be read. Global, so that
/// its stack is not part of that on which packets are read.
#[unsafe(no_mangle)]
extern "C" fn note_sent(skb: *mut __sk_buff, conn: *mut Conn, sending: *mut Sending) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let (Some(conn), Some(sending)) = (unsafe { conn.as_mut() }, unsafe { sending.as_mut() }) else {
        return 0;
    };
    let Some(header) = Header::read(skb) else {
        // What it carries is known to nobody, and what comes behind it would be taken for what it began.
        Kernel.lost(LOSS_PACKET);
        if !matches!(conn.outbound.phase, side::OPAQUE | side::UNTIL_CLOSE) {
            conn.give_up_answers(Reason::Lost as u8);
        }
        return 0;
    };
    if header.flags & SYN != 0 {
        return 0;
    }
    if header.len != 0 {
        conn.spoken_to::<Kernel>();
    }
    let fin = header.flags & FIN != 0;
    if header.len == 0 && !fin {
        return 0;
    }
    let side = &mut conn.outbound;
    let from = side.position(header.seq);
    let until = from.wrapping_add(u64::from(header.len));
    if until > side.seen {
        side.seen = until;
    }
    if fin {
        side.fin = until;
    }
    if side.phase == side::OPAQUE {
        conn.turned = 1;
        return 0;
    }
    if !fin && (until < side.want || (until == side.want && side.phase != side::BODY)) {
        return 0;
    }
    *sending = Sending { from, until, payload: u64::from(header.payload) };
    1
}

/// Whether the packet is worth reading: 1, with the connection's try-lock taken and `reading` filled in, or 0. TCP takes what lies
/// between `edge` and `right`. Global, so that its stack is not part of that on which packets are read.
#[unsafe(no_mangle)]
extern "C" fn admit_received(skb: *mut __sk_buff, conn: *mut Conn, edge: u32, right: u32) -> u32 {
    // SAFETY: the caller's own, checked for null here.
    let Some(conn) = (unsafe { conn.as_mut() }) else {
        return 0;
    };
    let Some(header) = Header::read(skb) else {
        Kernel.lost(LOSS_PACKET);
        return 0;
    };
    u32::from(header.flags & SYN == 0 && admit(conn, skb, header, [edge, right]))
}

/// The service receives. TCP has not looked at the segment yet, and nobody holds the socket's lock.
#[inline(always)]
fn admit(conn: &mut Conn, skb: *mut __sk_buff, header: Header, window: [u32; 2]) -> bool {
    let fin = header.flags & FIN != 0;
    if header.len == 0 && !fin {
        return false;
    }
    let end = header.seq.wrapping_add(header.len).wrapping_add(u32::from(fin));
    if !is_within(window, header.seq, end) {
        return false;
    }
    let from = conn.inbound.position(header.seq);
    let until = from.wrapping_add(u64::from(header.len));
    raise(&raw mut conn.inbound.seen, until);
    if fin {
        conn.inbound.fin = until;
    }
    if header.len == 0 {
        return false;
    }
    if conn.inbound.phase == side::OPAQUE {
        if !conn.resumes(is_next(skb, header, from), from) {
            conn.turned = 0;
            return false;
        }
    } else if until < conn.inbound.want || (until == conn.inbound.want && conn.inbound.phase != side::BODY) {
        return false;
    }
    if !take(&raw mut conn.busy) {
        // Another CPU is reading an earlier packet of this connection: leave ours to it, unless it is done meanwhile.
        if keep_early(skb, posting::INBOUND as u32, header.payload, from, until) == 0 {
            Kernel.lost(LOSS_STASH);
            conn.cut = 1 + Reason::Lost as u8;
        } else {
            conn.inbound.stashed = 1;
        }
        if !take(&raw mut conn.busy) {
            return false;
        }
    }
    conn.payload = header.payload;
    conn.reading = [from, until];
    true
}

/// Whether nothing is on its way but this segment, which begins at position `from`.
#[inline(always)]
fn is_next(skb: *mut __sk_buff, header: Header, from: u64) -> bool {
    let sk = reading::socket(skb);
    if sk.is_null() {
        return false;
    }
    Tcp::of(sk).is_some_and(|tcp| tcp.is_quiet(header.awaits) && from == tcp.received())
}

/// How often something was put into the connection's stash.
#[inline(always)]
fn arrivals(conn: &Conn, tcp: Tcp) -> u32 {
    // SAFETY: a field that other CPUs may be writing.
    if unsafe { read_volatile(&raw const conn.inbound.stashed) } == 0 {
        return 0;
    }
    match stash::of(tcp.sk()) {
        // SAFETY: a field that other CPUs may be writing.
        Some(stash) => unsafe { read_volatile(&raw const stash.arrivals[posting::INBOUND]) },
        None => 0,
    }
}
