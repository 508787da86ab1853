//! The answer to `get=1` of the cross-platform configuration protocol (<https://www.wireguard.com/xplatform/>): lines
//! `key=value`, an empty one at the end. Where it comes from is in `process`.
//!
//! Whoever has the socket may write anything: what is not as the protocol says is refused with the whole answer. Keys that
//! are not known are passed over, as the protocol grows.

use super::peers::Peers;
use crate::snapshot::{Peer, PublicKey};

/// Why an answer is none. What a line says is not repeated but for values that are no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// A line has no `=`.
    #[error("a line of {0} bytes has no =, wanted key=value")]
    NoKey(usize),
    /// A value cannot be understood.
    #[error("{key} is {found:?}, wanted {wanted}")]
    Value { key: &'static str, found: String, wanted: &'static str },
    /// A field of a peer comes before any peer.
    #[error("{0} comes before the first public_key")]
    NoPeer(&'static str),
    /// A field comes twice in one peer.
    #[error("{0} comes twice in one peer, wanted it once")]
    Twice(&'static str),
    /// A peer comes twice.
    #[error("a public_key comes twice, wanted each peer once")]
    SamePeer,
    /// The process says that it cannot tell.
    #[error("errno is {0}, wanted 0")]
    Errno(i64),
    /// It ends without saying that it is complete.
    #[error("the answer ends without errno=0, wanted it whole")]
    Unfinished,
}

/// What of a value is shown.
const SHOWN: usize = 80;

/// An answer as far as it was read.
#[derive(Debug)]
pub(super) struct Answer {
    peers: Peers,
    current: Option<(PublicKey, Fields)>,
    is_good: bool,
}

/// Fields of a peer, as far as they came.
#[derive(Debug, Default)]
struct Fields {
    received: Option<u64>,
    sent: Option<u64>,
    handshake: Option<u64>,
}

impl Answer {
    pub(super) fn with_room(room: usize) -> Self {
        Self { peers: Peers::with_room(room), current: None, is_good: false }
    }

    /// Takes a line without its end; true if it was the last.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<bool, Broken> {
        if line.is_empty() {
            return if self.is_good { Ok(true) } else { Err(Broken::Unfinished) };
        }
        let at = line.iter().position(|byte| *byte == b'=').ok_or(Broken::NoKey(line.len()))?;
        let (key, value) = line.split_at(at);
        let value = value.get(1..).unwrap_or_default();
        match key {
            b"public_key" => {
                self.end_of_peer()?;
                self.current = Some((public_key(value)?, Fields::default()));
            }
            b"rx_bytes" => self.field("rx_bytes", value, |fields| &mut fields.received)?,
            b"tx_bytes" => self.field("tx_bytes", value, |fields| &mut fields.sent)?,
            b"last_handshake_time_sec" => {
                self.field("last_handshake_time_sec", value, |fields| &mut fields.handshake)?;
            }
            b"errno" => {
                let wanted = "a number";
                match text(value).parse().map_err(|_| Broken::Value { key: "errno", found: shown(value), wanted })? {
                    0 => self.is_good = true,
                    errno => return Err(Broken::Errno(errno)),
                }
            }
            // Whatever else: private_key and preshared_key are not even looked at.
            _ => {}
        }
        Ok(false)
    }

    /// The peers, behind the last line.
    pub(super) fn peers(mut self) -> Result<Peers, Broken> {
        self.end_of_peer()?;
        Ok(self.peers)
    }

    fn field(
        &mut self,
        key: &'static str,
        value: &[u8],
        place: impl FnOnce(&mut Fields) -> &mut Option<u64>,
    ) -> Result<(), Broken> {
        let (_, fields) = self.current.as_mut().ok_or(Broken::NoPeer(key))?;
        let is_number = value.iter().all(u8::is_ascii_digit);
        let number = text(value).parse().ok().filter(|_| is_number);
        let wanted = "a number of 64 bits";
        let number = number.ok_or_else(|| Broken::Value { key, found: shown(value), wanted })?;
        match place(fields).replace(number) {
            None => Ok(()),
            Some(_) => Err(Broken::Twice(key)),
        }
    }

    fn end_of_peer(&mut self) -> Result<(), Broken> {
        let Some((key, fields)) = self.current.take() else {
            return Ok(());
        };
        // Some leave the time out where there was no handshake, and `wg` reads it so (`ipc-uapi.h`).
        let peer =
            Peer { received: fields.received, sent: fields.sent, handshake: fields.handshake.unwrap_or_default() };
        if self.peers.take(key, peer) { Ok(()) } else { Err(Broken::SamePeer) }
    }
}

/// 64 hexadecimal digits.
fn public_key(value: &[u8]) -> Result<PublicKey, Broken> {
    let wrong = || Broken::Value { key: "public_key", found: shown(value), wanted: "64 hexadecimal digits" };
    let (pairs, []) = value.as_chunks::<2>() else {
        return Err(wrong());
    };
    let mut key = PublicKey::default();
    if pairs.len() != key.len() {
        return Err(wrong());
    }
    for (byte, pair) in key.iter_mut().zip(pairs) {
        let is_hex = pair.iter().all(u8::is_ascii_hexdigit);
        *byte = u8::from_str_radix(text(pair), 16).ok().filter(|_| is_hex).ok_or_else(wrong)?;
    }
    Ok(key)
}

/// What is no text is none of our values either.
fn text(value: &[u8]) -> &str {
    str::from_utf8(value).unwrap_or_default()
}

fn shown(value: &[u8]) -> String {
    String::from_utf8_lossy(value.get(..SHOWN).unwrap_or(value)).into_owned()
}
