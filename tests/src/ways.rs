//! All system calls that send on a TCP socket, one beside the other. Each sends the same bytes.

use std::io::{IoSlice, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;

use anyhow::{Result, ensure};
use compio::io::AsyncWriteExt as _;
use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::sendfile::sendfile;
use nix::sys::socket::{MsgFlags, send, sendmsg};

use crate::option;

/// `MSG_ZEROCOPY` of `include/linux/socket.h`.
const ZEROCOPY: i32 = 0x400_0000;
/// `MSG_MORE`.
const MORE: i32 = 0x8000;

/// A way to send.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Its name.
    pub name: &'static str,
    /// Sends all of it.
    pub send: fn(&TcpStream, &[u8]) -> Result<()>,
}

/// All of them.
pub const WAYS: [Way; 9] = [
    Way { name: "write", send: write },
    Way { name: "pieces", send: pieces },
    Way { name: "writev", send: write_vectored },
    Way { name: "sendmsg", send: message },
    Way { name: "more", send: more },
    Way { name: "sendfile", send: file },
    Way { name: "splice", send: pipe },
    Way { name: "io_uring", send: ring },
    Way { name: "zerocopy", send: zerocopy },
];

fn write(mut stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    Ok(stream.write_all(bytes)?)
}

fn pieces(mut stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    stream.set_nodelay(true)?;
    Ok(bytes.chunks(777).try_for_each(|piece| stream.write_all(piece))?)
}

fn write_vectored(mut stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let pieces: Vec<IoSlice<'_>> = bytes.chunks(1000).take(64).map(IoSlice::new).collect();
        let sent = stream.write_vectored(&pieces)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

fn message(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let pieces: Vec<IoSlice<'_>> = bytes.chunks(3000).take(16).map(IoSlice::new).collect();
        let sent = sendmsg::<()>(stream.as_raw_fd(), &pieces, &[], MsgFlags::empty(), None)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// The kernel waits for more in front of the last piece.
fn more(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    let (most, last) = bytes.split_at(bytes.len() / 2);
    flagged(stream, most, MsgFlags::from_bits_retain(MORE))?;
    flagged(stream, last, MsgFlags::empty())
}

fn zerocopy(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    option::set(stream, option::SOCKET, option::ZEROCOPY, 1)?;
    flagged(stream, bytes, MsgFlags::from_bits_retain(ZEROCOPY))
}

fn flagged(stream: &TcpStream, mut bytes: &[u8], flags: MsgFlags) -> Result<()> {
    while !bytes.is_empty() {
        let sent = send(stream.as_raw_fd(), bytes, flags)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

fn file(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    let mut at = 0;
    while usize::try_from(at)? < bytes.len() {
        sendfile(stream, &file, Some(&mut at), bytes.len())?;
    }
    Ok(())
}

fn pipe(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    let (out, mut into) = std::io::pipe()?;
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || into.write_all(bytes));
        let mut left = bytes.len();
        while left > 0 {
            left -= splice(&out, None, stream, None, left, SpliceFFlags::empty())?;
        }
        ensure!(writer.join().is_ok_and(|written| written.is_ok()), "the pipe did not take all");
        Ok(())
    })
}

fn ring(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    let copy = stream.try_clone()?;
    let runtime = compio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let mut stream = compio::net::TcpStream::from_std(copy)?;
        let buf_result = stream.write_all(bytes.to_vec()).await;
        buf_result.0
    })?;
    // The two share their flags.
    stream.set_nonblocking(false)?;
    Ok(())
}
