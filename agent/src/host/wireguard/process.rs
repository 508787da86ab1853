//! Asks a process that is WireGuard itself, as `wireguard-go` is, over its unix socket. How its answer reads is in `uapi`.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::peers::Peers;
use super::uapi::{Answer, Broken};
use super::untold::Untold;

/// The question.
const GET: &[u8] = b"get=1\n\n";
/// Bytes of the longest line; the protocol's longest is a key of 64 digits.
const LINE: usize = 4_096;
/// Bytes of an answer: room for 100,000 peers.
const MOST: u64 = 64 << 20;

/// Why there are no peers.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProcessError {
    /// The socket cannot be used.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// The answer cannot be.
    #[error("the answer is no WireGuard's: {0}")]
    Broken(#[from] Broken),
    /// A line does not end.
    #[error("the answer has a line of more than {LINE} bytes")]
    Line,
    /// It does not end, or breaks off.
    #[error("the answer broke off, or has more than {MOST} bytes")]
    End,
}

impl ProcessError {
    /// The same for whoever does not know of sockets: `path` is where this one is.
    pub(super) fn untold(self, path: String) -> Untold {
        match self {
            Self::Socket(error) if error.kind() == io::ErrorKind::PermissionDenied => Untold::Closed(path),
            other => Untold::Other(other.to_string()),
        }
    }
}

/// Asks at a socket.
pub(super) async fn peers(path: &Path, room: usize) -> Result<Peers, ProcessError> {
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(GET).await?;
    read(stream, room).await
}

/// Reads an answer, in whatever pieces it comes.
pub(super) async fn read(from: impl AsyncRead + Unpin, room: usize) -> Result<Peers, ProcessError> {
    let mut from = from.take(MOST);
    let mut answer = Answer::with_room(room);
    // Wiped when it goes: secrets pass through it.
    let mut buffer = Zeroizing::new([0; LINE + 1]);
    let mut filled = 0;
    loop {
        let free = buffer.get_mut(filled..).filter(|free| !free.is_empty()).ok_or(ProcessError::Line)?;
        let count = from.read(free).await?;
        if count == 0 {
            return Err(ProcessError::End);
        }
        filled += count;
        let mut rest = buffer.get(..filled).unwrap_or_default();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(end);
            if answer.line(line)? {
                return Ok(answer.peers()?);
            }
            rest = behind.get(1..).unwrap_or_default();
        }
        let left = rest.len();
        buffer.copy_within(filled - left..filled, 0);
        filled = left;
    }
}

/// For each interface whether a process of this network namespace listens for it: names of unix sockets are files, which
/// other namespaces see too, and there an interface may have the same name (`unix_seq_start`, net/unix/af_unix.c, shows
/// those of one namespace).
pub(super) fn listening(unix: &Path, names: &[String]) -> Vec<bool> {
    let mut found = vec![false; names.len()];
    let Ok(file) = File::open(unix) else {
        return found;
    };
    let ends: Vec<Vec<u8>> = names.iter().map(|name| format!("/wireguard/{name}.sock").into_bytes()).collect();
    for line in BufReader::new(file).split(b'\n').map_while(Result::ok) {
        // Address, references, protocol, flags: the bit of one that listens (`__SO_ACCEPTCON`, include/linux/net.h).
        if line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).nth(3) != Some(b"00010000") {
            continue;
        }
        for (end, found) in ends.iter().zip(&mut found) {
            *found |= line.ends_with(end);
        }
    }
    found
}
