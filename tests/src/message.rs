//! HTTP messages on a socket, read and written as fast as a thread can, every byte counted. Knows `Content-Length` and
//! nothing else; the client that knows the rest is `client`.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, recv};

/// Room for a head and what comes with it.
const ROOM: usize = 64 * 1024;
/// What is written and read at a time where a body is long.
const PIECE: usize = 1 << 20;
const END: &[u8] = b"\r\n\r\n";

/// One end of a connection, and what crossed it.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The part of the buffer that was read from the socket and not taken yet.
    left: std::ops::Range<usize>,
    /// Made when a body is long.
    piece: Vec<u8>,
    received: u64,
    sent: u64,
}

/// The head of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// First line, without its end.
    pub first: String,
    /// `Content-Length`; 0 without.
    pub body: u64,
    /// `Connection: close`.
    pub closes: bool,
    /// `Authorization`.
    pub authorization: Option<String>,
}

impl Wire {
    /// Speaks on `stream`.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, buffer: vec![0; ROOM], left: 0..0, piece: Vec::new(), received: 0, sent: 0 }
    }

    /// The socket.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Bytes that the socket gave.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the socket took.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// When the socket does not take it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        self.sent += number(bytes.len());
        Ok(())
    }

    /// Writes this many bytes.
    ///
    /// # Errors
    /// When the socket does not take them.
    pub fn write_body(&mut self, mut len: u64) -> Result<()> {
        self.piece.resize(PIECE, b'x');
        while len > 0 {
            let now = usize::try_from(len).unwrap_or(PIECE).min(PIECE);
            self.stream.write_all(&self.piece[..now])?;
            self.sent += number(now);
            len -= number(now);
        }
        Ok(())
    }

    /// Reads a head; `None` if the stream ends where one would begin.
    ///
    /// # Errors
    /// When the stream ends within one, or it is too long.
    pub fn head(&mut self) -> Result<Option<Head>> {
        loop {
            let left = &self.buffer[self.left.clone()];
            if let Some(end) = left.windows(END.len()).position(|window| window == END) {
                let head = parse(&left[..end]);
                self.left.start += end + END.len();
                return Ok(Some(head));
            }
            if self.left.is_empty() {
                self.left = 0..0;
            } else if self.left.end == ROOM {
                return Err(Error::new(ErrorKind::InvalidData, "a head of more than 64 KiB"));
            }
            let got = self.stream.read(&mut self.buffer[self.left.end..])?;
            if got == 0 {
                return if self.left.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
            self.left.end += got;
            self.received += number(got);
        }
    }

    /// Reads this many bytes and forgets them.
    ///
    /// # Errors
    /// When the stream ends before.
    pub fn skip(&mut self, mut len: u64) -> Result<()> {
        let here = number(self.left.len()).min(len);
        self.left.start += usize::try_from(here).unwrap_or(ROOM);
        len -= here;
        if len > 0 {
            self.piece.resize(PIECE, b'x');
        }
        while len > 0 {
            let now = usize::try_from(len).unwrap_or(PIECE).min(PIECE);
            // Taken from the socket, and copied nowhere (tcp(7), MSG_TRUNC).
            let got = recv(self.stream.as_raw_fd(), &mut self.piece[..now], MsgFlags::MSG_TRUNC)?;
            if got == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.received += number(got);
            len -= number(got);
        }
        Ok(())
    }
}

/// A length as a count of bytes.
#[must_use]
pub fn number(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

fn parse(head: &[u8]) -> Head {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let mut found = Head { first, body: 0, closes: false, authorization: None };
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        match name {
            "Content-Length" => found.body = value.parse().unwrap_or(0),
            "Connection" => found.closes = value == "close",
            "authorization" => found.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    found
}
