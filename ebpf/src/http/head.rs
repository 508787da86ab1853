//! What a complete head says about the message that it begins (RFC 9112 6.3). Finding the head is `scan`.

use super::side::{self, Side};

/// Bytes of a request head that are kept: the request line of nearly every request.
pub const REQUEST_HEAD: usize = 256;
/// Bytes of a response head that are kept: the status line up to the code.
pub const STATUS_LINE: usize = 16;

/// What a capture of `len` bytes takes: it is written in words, which may begin at its last byte.
#[must_use]
pub const fn room(len: usize) -> usize {
    len + 8
}

/// What matters of a request's method for the answer's framing.
pub const METHOD_PLAIN: u8 = 0;
/// `HEAD`: the answer has no body, whatever its header says (RFC 9110 9.3.2).
pub const METHOD_HEAD: u8 = 1;
/// `CONNECT`: a 2xx answer ends HTTP (RFC 9110 9.3.6).
pub const METHOD_CONNECT: u8 = 2;

/// How the body behind a head ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none.
    None,
    /// After this many bytes.
    Length(u64),
    /// With the last chunk and its trailers.
    Chunked,
    /// With the connection.
    UntilClose,
    /// There is none, and what follows is another protocol.
    Upgraded,
    /// This was an interim answer: another head follows.
    Interim,
}

/// Type of a TLS record that begins a handshake (RFC 8446 5.1).
pub const TLS: u8 = 0x16;

/// Whether a request head, or an empty line in front of one, can begin with this byte.
#[inline(always)]
#[must_use]
pub fn begins_request(first: u8) -> bool {
    first.is_ascii_alphabetic() || first == b'\r' || first == b'\n'
}

/// The method class of a captured request head.
#[inline(always)]
#[must_use]
pub fn method_class(head: &[u8; room(REQUEST_HEAD)]) -> u8 {
    if head[0] == b'H' && head[1] == b'E' && head[2] == b'A' && head[3] == b'D' && head[4] == b' ' {
        METHOD_HEAD
    } else if head[0] == b'C'
        && head[1] == b'O'
        && head[2] == b'N'
        && head[3] == b'N'
        && head[4] == b'E'
        && head[5] == b'C'
        && head[6] == b'T'
        && head[7] == b' '
    {
        METHOD_CONNECT
    } else {
        METHOD_PLAIN
    }
}

/// A method longer than this is not looked for where it is not clear that there is one; all registered ones are shorter.
const METHOD: usize = 20;

/// Whether a captured line begins with a method, a space and the beginning of a target: not the second half of such a
/// line, which ends alike. Registered methods are in upper case, and targets begin with `/`, `*` or a scheme of `http`
/// (RFC 9110 9.1, RFC 9112 3.2).
#[inline(always)]
#[must_use]
pub fn begins_like_a_request(head: &[u8; room(REQUEST_HEAD)]) -> bool {
    let mut i = 0;
    while i < METHOD {
        if head[i] == b' ' {
            let target = head[i + 1];
            return i != 0 && (target == b'/' || target == b'*' || target == b'h');
        }
        if !head[i].is_ascii_uppercase() && head[i] != b'-' {
            return false;
        }
        i += 1;
    }
    false
}

/// The body of a request with the framing fields that `side` collected.
#[inline(always)]
#[must_use]
pub fn request_body(side: &Side) -> Body {
    if side.flags & side::CHUNKED != 0 {
        Body::Chunked
    } else if side.flags & side::LENGTH != 0 && side.length > 0 {
        Body::Length(side.length)
    } else {
        Body::None
    }
}

/// The status code of a captured status line; `None` if it is none (RFC 9112 4). Every byte up to the code is looked at: what
/// an earlier line left lies behind the end of a shorter one.
#[inline(always)]
#[must_use]
pub fn status(line: &[u8; room(STATUS_LINE)]) -> Option<u16> {
    let http = line[0] == b'H' && line[1] == b'T' && line[2] == b'T' && line[3] == b'P';
    if !http || line[4] != b'/' || line[5] != b'1' || line[6] != b'.' || !line[7].is_ascii_digit() || line[8] != b' ' {
        return None;
    }
    let (a, b, c) = (line[9].wrapping_sub(b'0'), line[10].wrapping_sub(b'0'), line[11].wrapping_sub(b'0'));
    if a > 9 || b > 9 || c > 9 {
        return None;
    }
    Some(u16::from(a) * 100 + u16::from(b) * 10 + u16::from(c))
}

/// The body of an answer with `status` to a request of class `method`.
#[inline(always)]
#[must_use]
pub fn answer_body(side: &Side, status: u16, method: u8) -> Body {
    if status == 101 || (method == METHOD_CONNECT && (200..300).contains(&status)) {
        Body::Upgraded
    } else if status < 200 {
        Body::Interim
    } else if method == METHOD_HEAD || status == 204 || status == 304 {
        Body::None
    } else if side.flags & side::CHUNKED != 0 {
        Body::Chunked
    } else if side.flags & side::LENGTH != 0 {
        if side.length > 0 { Body::Length(side.length) } else { Body::None }
    } else {
        Body::UntilClose
    }
}
