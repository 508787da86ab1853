//! The journal: what the kernel tells user space, as balanced postings. Per direction
//! `stream = wire + unattributed + lost + open` holds in every single one, so it holds in the sum at any point of the
//! journal, whatever happens to the reader. Who makes them is `settle`; who adds them up is the agent's model.

use core::mem::offset_of;

use crate::http::head::REQUEST_HEAD;

/// Towards the service.
pub const INBOUND: usize = 0;
/// From the service.
pub const OUTBOUND: usize = 1;

/// `Posting::kind`: nothing but positions: the connection moved on without finishing an exchange.
pub const KIND_POSITION: u8 = 0;
/// `Posting::kind`: an exchange.
pub const KIND_EXCHANGE: u8 = 1;

/// `Posting::flags`: the last posting of its connection.
pub const CLOSED: u8 = 1;
/// `Posting::flags`: the request head never became complete.
pub const PARTIAL_REQUEST: u8 = 2;
/// `Posting::flags`: the first line is longer than what was captured.
pub const CUT_HEAD: u8 = 4;
/// `Posting::flags`: the request has a body (a `Content-Length` above 0, or chunks).
pub const REQUEST_BODY: u8 = 8;

/// Why bytes belong to no exchange: the closed set of the metric contract.
#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The connection is older than its observation, or its detail was given up.
    MidStream = 0,
    /// The bytes are not HTTP/1.
    NotHttp = 1,
    /// Payload that came with the handshake and cannot be read.
    SynData = 2,
    /// Detail that was dropped.
    Lost = 3,
    /// Another protocol after `101` or `CONNECT`.
    Upgraded = 4,
    /// TLS that is not decrypted.
    Tls = 5,
    /// Stream bytes of a decrypted connection beyond its plaintext.
    TlsOverhead = 6,
    /// The agent's own requests.
    Agent = 7,
}

/// Number of reasons.
pub const REASONS: usize = 8;

impl Reason {
    /// All, in the order of their numbers.
    pub const ALL: [Self; REASONS] = [
        Self::MidStream,
        Self::NotHttp,
        Self::SynData,
        Self::Lost,
        Self::Upgraded,
        Self::Tls,
        Self::TlsOverhead,
        Self::Agent,
    ];

    /// The label value of the metric contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MidStream => "mid_stream",
            Self::NotHttp => "not_http",
            Self::SynData => "syn_data",
            Self::Lost => "lost",
            Self::Upgraded => "upgraded",
            Self::Tls => "tls",
            Self::TlsOverhead => "tls_overhead",
            Self::Agent => "agent",
        }
    }
}

/// One entry of the journal. Arrays are `[inbound, outbound]`; all sizes are bytes, all times nanoseconds of
/// `CLOCK_MONOTONIC`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Posting {
    /// The connection: the kernel's socket cookie.
    pub cookie: u64,
    /// Stream bytes since the connection's last posting.
    pub stream: [u64; 2],
    /// Of these and of what was open: the exchange's.
    pub wire: [u64; 2],
    /// ... those that belong to no exchange, for `reasons`.
    pub unattributed: [u64; 2],
    /// ... those whose detail was dropped.
    pub lost: [u64; 2],
    /// Change of what is open: in the stream, of messages that are not finished.
    pub open: [i64; 2],
    /// Body bytes, decoded.
    pub body: [u64; 2],
    /// First byte of the request.
    pub began: u64,
    /// Last byte of the exchange.
    pub ended: u64,
    /// Number of this posting of this connection, from 1: with `cookie`, its name.
    pub number: u32,
    /// Complete request heads since the connection's last posting.
    pub requests: u32,
    /// Number of the service.
    pub service: u16,
    /// Status code; 0 if no final answer came.
    pub status: u16,
    /// Captured bytes of the request head.
    pub head_len: u16,
    /// `KIND_...`.
    pub kind: u8,
    /// Flags above.
    pub flags: u8,
    /// `Reason` of `unattributed`, each.
    pub reasons: [u8; 2],
    /// Spelled-out padding.
    pub pad: [u8; 6],
}

/// Size of a posting; `head_len` bytes of the request head follow it in the journal.
pub const SIZE: usize = 144;
const _: () = assert!(size_of::<Posting>() == SIZE);
const _: () = assert!(SIZE + REQUEST_HEAD == 400);

impl Posting {
    /// All zero: a position posting of nothing.
    pub const EMPTY: Self = Self {
        cookie: 0,
        stream: [0; 2],
        wire: [0; 2],
        unattributed: [0; 2],
        lost: [0; 2],
        open: [0; 2],
        body: [0; 2],
        began: 0,
        ended: 0,
        number: 0,
        requests: 0,
        service: 0,
        status: 0,
        head_len: 0,
        kind: 0,
        flags: 0,
        reasons: [0; 2],
        pad: [0; 6],
    };

    /// Reads what the kernel wrote, and the captured head behind it; `None` if it is too short for that.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let u64_at = |at: usize| -> Option<u64> { Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?)) };
        let pair = |at: usize| -> Option<[u64; 2]> { Some([u64_at(at)?, u64_at(at + 8)?]) };
        let u32_at = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?)) };
        let u16_at = |at: usize| -> Option<u16> { Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?)) };
        let rest = bytes.get(SIZE..)?;
        let open = pair(offset_of!(Self, open))?;
        let posting = Self {
            cookie: u64_at(offset_of!(Self, cookie))?,
            stream: pair(offset_of!(Self, stream))?,
            wire: pair(offset_of!(Self, wire))?,
            unattributed: pair(offset_of!(Self, unattributed))?,
            lost: pair(offset_of!(Self, lost))?,
            open: [open[0].cast_signed(), open[1].cast_signed()],
            body: pair(offset_of!(Self, body))?,
            began: u64_at(offset_of!(Self, began))?,
            ended: u64_at(offset_of!(Self, ended))?,
            number: u32_at(offset_of!(Self, number))?,
            requests: u32_at(offset_of!(Self, requests))?,
            service: u16_at(offset_of!(Self, service))?,
            status: u16_at(offset_of!(Self, status))?,
            head_len: u16_at(offset_of!(Self, head_len))?,
            kind: *bytes.get(offset_of!(Self, kind))?,
            flags: *bytes.get(offset_of!(Self, flags))?,
            reasons: *bytes.get(offset_of!(Self, reasons)..)?.first_chunk()?,
            pad: [0; 6],
        };
        let head = rest.get(..usize::from(posting.head_len))?;
        Some((posting, head))
    }
}
