//! A server of lists over HTTP, in a mood that the test sets. What the lists are is `scheduler`'s and `cluster`'s.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use nix::sys::socket::{Shutdown, shutdown};

use crate::message::Wire;
use crate::namespace::Namespace;
use crate::server::Counted;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Good,
    /// Likewise, and ends the connection behind each answer.
    Closes,
    /// Takes the request and says nothing.
    Hangs,
    /// `500`, as when the database is gone.
    Fails,
    /// Breaks off in the middle of the list.
    BreaksOff,
}

/// What is served.
pub trait Content: Send + 'static {
    /// Whether a request of this method and target is for a list.
    fn is_list(&self, asked: &str) -> bool;
    /// The list.
    fn list(&mut self, asked: &str) -> Vec<u8>;
}

#[derive(Debug)]
struct State<C> {
    mood: Mood,
    /// What `Authorization` must be.
    key: Option<String>,
    /// How many requests for lists were refused for it.
    refused: u64,
    content: C,
    /// What the connections that asked for lists carried.
    polled: Counted,
    others: Counted,
}

/// The running server.
#[derive(Debug)]
pub struct Lists<C> {
    state: Arc<Mutex<State<C>>>,
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    address: SocketAddr,
}

impl<C: Content> Lists<C> {
    /// Listens in `namespace` at `address`.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(namespace: &Namespace, address: &str, content: C) -> Result<Self> {
        let listener = Arc::new(namespace.enter(|| Ok(TcpListener::bind(address)?))?);
        let (polled, others) = (Counted::default(), Counted::default());
        let state = State { mood: Mood::Good, key: None, refused: 0, content, polled, others };
        let lists = Self {
            address: listener.local_addr()?,
            state: Arc::new(Mutex::new(state)),
            listener,
            stopping: Arc::default(),
        };
        let (listener, state) = (Arc::clone(&lists.listener), Arc::clone(&lists.state));
        let stopping = Arc::clone(&lists.stopping);
        std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || serve(Wire::new(stream), &state));
                }
            }
        });
        Ok(lists)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers so.
    pub fn set(&self, mood: Mood) {
        locked(&self.state).mood = mood;
    }

    /// From now on nobody gets a list without this key.
    pub fn want(&self, key: &str) {
        locked(&self.state).key = Some(format!("Bearer {key}"));
    }

    /// How many requests for lists came without the key.
    #[must_use]
    pub fn refused(&self) -> u64 {
        locked(&self.state).refused
    }

    /// Looks at what is served, or changes it.
    pub fn with<T>(&self, work: impl FnOnce(&mut C) -> T) -> T {
        work(&mut locked(&self.state).content)
    }

    /// What ended connections carried: those that asked for lists, and the others.
    #[must_use]
    pub fn carried(&self) -> [Counted; 2] {
        let state = locked(&self.state);
        [state.polled, state.others]
    }
}

impl<C> Drop for Lists<C> {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

fn locked<C>(state: &Mutex<State<C>>) -> MutexGuard<'_, State<C>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve<C: Content>(mut wire: Wire, state: &Mutex<State<C>>) {
    let (mut asks, mut exchanges) = (false, 0);
    while let Ok(Some(head)) = wire.head() {
        if wire.skip(head.body).is_err() {
            break;
        }
        let asked = head.first.rsplit_once(' ').map_or(head.first.as_str(), |(before, _)| before).to_owned();
        let is_list = locked(state).content.is_list(&asked);
        asks |= is_list;
        let mood = if is_list { locked(state).mood } else { Mood::Good };
        let key = locked(state).key.clone();
        let (status, mut body) = match (is_list, mood) {
            (true, _) if key.is_some() && key != head.authorization => {
                locked(state).refused += 1;
                ("401 Unauthorized", b"Invalid API key\n".to_vec())
            }
            (_, Mood::Hangs) => {
                // Until the client has had enough.
                let _ = wire.head();
                break;
            }
            (_, Mood::Fails) => ("500 Internal Server Error", b"database is locked\n".to_vec()),
            (false, _) => ("200 OK", vec![b'x'; 256]),
            (true, _) => ("200 OK", locked(state).content.list(&asked)),
        };
        let close = if mood == Mood::Closes { "Connection: close\r\n" } else { "" };
        let mut answer = format!("HTTP/1.1 {status}\r\n{close}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        if mood == Mood::BreaksOff {
            body.truncate(body.len() / 2);
        }
        answer.append(&mut body);
        if wire.write(&answer).is_err() || mood == Mood::BreaksOff {
            break;
        }
        exchanges += 1;
        if head.closes || mood == Mood::Closes {
            break;
        }
    }
    let mut state = locked(state);
    let counted = Counted { connections: 1, exchanges, inbound: wire.received(), outbound: wire.sent() };
    if asks {
        state.polled += counted;
    } else {
        state.others += counted;
    }
}
