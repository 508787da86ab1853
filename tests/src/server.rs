//! An HTTP server of threads in the test's own process, fast enough for a storm, that keeps its own books.
//!
//! `/bytes/N` is answered with a body of N bytes, everything else with one of 256.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};
use nix::sys::socket::{Shutdown, shutdown};

use crate::message::{Head, Wire};
use crate::namespace::Namespace;

/// Body bytes of an answer to anything but `/bytes/N`.
pub const ANSWER: u64 = 256;

/// What one end of connections counted itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Connections.
    pub connections: u64,
    /// Requests that were answered whole.
    pub exchanges: u64,
    /// Bytes from the client to the service.
    pub inbound: u64,
    /// Bytes from the service to the client.
    pub outbound: u64,
}

impl std::ops::AddAssign for Counted {
    fn add_assign(&mut self, other: Self) {
        self.connections += other.connections;
        self.exchanges += other.exchanges;
        self.inbound += other.inbound;
        self.outbound += other.outbound;
    }
}

#[derive(Debug, Default)]
struct Books {
    connections: AtomicU64,
    exchanges: AtomicU64,
    inbound: AtomicU64,
    outbound: AtomicU64,
    stopping: AtomicBool,
}

/// A running server; it ends when its clients do.
#[derive(Debug)]
pub struct Server {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    books: Arc<Books>,
}

impl Server {
    /// Listens in `namespace` at `address` and serves `at_once` connections at once.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(namespace: &Namespace, address: &str, at_once: usize) -> Result<Self> {
        namespace.enter(|| Self::on(TcpListener::bind(address)?, at_once))
    }

    /// The same on a listener that is there.
    ///
    /// # Errors
    /// When it has no address.
    pub fn on(listener: TcpListener, at_once: usize) -> Result<Self> {
        let address = listener.local_addr()?;
        let (listener, books) = (Arc::new(listener), Arc::new(Books::default()));
        let threads = (0..at_once).map(|_| {
            let (listener, books) = (Arc::clone(&listener), Arc::clone(&books));
            std::thread::spawn(move || accept(&listener, &books))
        });
        let threads = threads.collect();
        Ok(Self { listener, address, threads, books })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the last client went away, and gives the server's books.
    ///
    /// # Errors
    /// When one of its threads panicked.
    pub fn finish(mut self) -> Result<Counted> {
        self.stop()?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(Counted {
            connections: read(&self.books.connections),
            exchanges: read(&self.books.exchanges),
            inbound: read(&self.books.inbound),
            outbound: read(&self.books.outbound),
        })
    }

    fn stop(&mut self) -> Result<()> {
        self.books.stopping.store(true, Ordering::Relaxed);
        // Wakes those that wait in accept(2). Not connected is what a listener is.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("a thread of the server panicked"))?;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

fn accept(listener: &TcpListener, books: &Books) {
    while !books.stopping.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            continue;
        };
        let mut wire = Wire::new(stream);
        let mut exchanges = 0;
        // A client that goes away in the middle is counted with what crossed.
        while let Ok(Some(head)) = wire.head() {
            let Ok(goes_on) = answer(&mut wire, &head) else {
                break;
            };
            exchanges += 1;
            if !goes_on {
                break;
            }
        }
        books.connections.fetch_add(1, Ordering::Relaxed);
        books.exchanges.fetch_add(exchanges, Ordering::Relaxed);
        books.inbound.fetch_add(wire.received(), Ordering::Relaxed);
        books.outbound.fetch_add(wire.sent(), Ordering::Relaxed);
    }
}

/// Answers one request; false if the connection is to end.
fn answer(wire: &mut Wire, request: &Head) -> std::io::Result<bool> {
    wire.skip(request.body)?;
    let target = request.first.split(' ').nth(1).unwrap_or_default();
    let body = target.strip_prefix("/bytes/").and_then(|size| size.parse().ok()).unwrap_or(ANSWER);
    let mut head = format!("HTTP/1.1 200 OK\r\nContent-Length: {body}\r\n\r\n").into_bytes();
    if body <= 64 * 1024 {
        head.resize(head.len() + usize::try_from(body).unwrap_or(0), b'x');
        wire.write(&head)?;
    } else {
        wire.write(&head)?;
        wire.write_body(body)?;
    }
    Ok(!request.closes)
}
