//! A process that sends datagrams to a socket of its own as fast as it goes, for a bounded time.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;

/// What to send.
#[derive(Debug, Args)]
pub(crate) struct Sent {
    /// For how many seconds
    seconds: u64,
    /// Payload of each datagram, in bytes
    size: usize,
}

/// Sends. The receiver never reads: what arrives passes the receive hook all the same, before it is dropped.
pub(crate) fn send(sent: &Sent) -> Result<()> {
    let receiver = UdpSocket::bind("127.0.0.1:0")?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    sender.connect(receiver.local_addr()?)?;
    let payload = vec![b'd'; sent.size];
    let until = Instant::now() + Duration::from_secs(sent.seconds);
    while Instant::now() < until {
        for _ in 0..100 {
            sender.send(&payload)?;
        }
    }
    Ok(())
}
