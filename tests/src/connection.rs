//! A client's connection that makes one exchange after the other, fast, and keeps its own books; and many of them.
//! What they talk to is `server`.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::message::Wire;
use crate::namespace::Namespace;
use crate::server::Counted;
use crate::tally::{Sides, Tally};

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    method: &'static str,
    target: String,
    body: u64,
    closes: bool,
}

impl Request {
    /// Asks for `target`.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self { method: "GET", target: target.to_owned(), body: 0, closes: false }
    }

    /// Posts a body of `body` bytes to `target`.
    #[must_use]
    pub fn post(target: &str, body: u64) -> Self {
        Self { method: "POST", target: target.to_owned(), body, closes: false }
    }

    /// Asks the server to close behind its answer.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Its head as it goes on the wire.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        let length = if self.body == 0 { String::new() } else { format!("Content-Length: {}\r\n", self.body) };
        let close = if self.closes { "Connection: close\r\n" } else { "" };
        format!("{} {} HTTP/1.1\r\nHost: x\r\n{length}{close}\r\n", self.method, self.target).into_bytes()
    }

    /// Head and body.
    ///
    /// # Errors
    /// When the body is larger than this machine's memory can be.
    pub fn whole(&self) -> Result<Vec<u8>> {
        let mut bytes = self.head();
        bytes.resize(bytes.len() + usize::try_from(self.body)?, b'x');
        Ok(bytes)
    }

    /// Adds `times` of this, which crossed as `counted` in all, to a tally under `endpoint`. `answer`: body bytes of each
    /// answer.
    pub fn tally(&self, tally: &mut Tally, endpoint: &str, counted: Counted, answer: u64) {
        let sides =
            Sides { inbound: counted.inbound, outbound: counted.outbound, request_body: self.body * counted.exchanges };
        tally.add_many(self.method, endpoint, "200", counted.exchanges, sides, answer * counted.exchanges);
    }
}

/// A connection.
#[derive(Debug)]
pub struct Connection {
    wire: Wire,
    exchanges: u64,
}

impl Connection {
    /// Connects from the namespace of the calling thread.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn open(to: SocketAddr) -> Result<Self> {
        Ok(Self::on(TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?))
    }

    /// A connection that is there.
    #[must_use]
    pub fn on(stream: TcpStream) -> Self {
        Self { wire: Wire::new(stream), exchanges: 0 }
    }

    /// Below it.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Sends a request, and reads its answer.
    ///
    /// # Errors
    /// When the connection ends before, or the answer is not 200.
    pub fn exchange(&mut self, request: &Request) -> Result<()> {
        if request.body <= 64 * 1024 {
            self.wire.write(&request.whole()?)?;
        } else {
            self.wire.write(&request.head())?;
            self.wire.write_body(request.body)?;
        }
        self.answer()?;
        if request.closes {
            ensure!(self.wire.head()?.is_none(), "something came behind the last answer");
        }
        Ok(())
    }

    /// Reads an answer; gives the size of its body.
    ///
    /// # Errors
    /// When the connection ends before, or it is not 200.
    pub fn answer(&mut self) -> Result<u64> {
        let head = self.wire.head()?.context("the connection ended in front of an answer")?;
        ensure!(head.first == "HTTP/1.1 200 OK", "the server said {:?}", head.first);
        self.wire.skip(head.body)?;
        self.exchanges += 1;
        Ok(head.body)
    }

    /// What crossed.
    #[must_use]
    pub fn counted(&self) -> Counted {
        Counted { connections: 1, exchanges: self.exchanges, inbound: self.wire.sent(), outbound: self.wire.received() }
    }
}

/// Opens connections from `namespace`.
///
/// # Errors
/// When nobody listens.
pub fn open(namespace: &Namespace, to: SocketAddr, count: usize) -> Result<Vec<Connection>> {
    namespace.enter(|| (0..count).map(|_| Connection::open(to)).collect())
}

/// What crossed all of these.
#[must_use]
pub fn counted(connections: &[Connection]) -> Counted {
    let mut sum = Counted::default();
    for connection in connections {
        sum += connection.counted();
    }
    sum
}

/// Makes `each` exchanges on every one of these connections, all connections at once.
///
/// # Errors
/// When one of them fails.
pub fn exchange(connections: &mut [Connection], request: &Request, each: u64) -> Result<()> {
    std::thread::scope(|scope| {
        let threads = connections
            .iter_mut()
            .map(|connection| scope.spawn(move || (0..each).try_for_each(|_| connection.exchange(request))));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a client panicked"))?)
    })
}

/// Connections that open, make one exchange and close: `count` of them, `at_once` at once, to these addresses in turn.
///
/// # Errors
/// When one of them fails.
pub fn storm(namespace: &Namespace, to: &[SocketAddr], request: &Request, at_once: u64, count: u64) -> Result<Counted> {
    let step = usize::try_from(at_once)?;
    namespace.enter(|| {
        std::thread::scope(|scope| {
            let one = |client: u64| {
                let mut sum = Counted::default();
                let turns = to.iter().cycle().skip(usize::try_from(client)?);
                for (_, to) in (client..count).step_by(step).zip(turns) {
                    let mut connection = Connection::open(*to)?;
                    connection.exchange(request)?;
                    sum += connection.counted();
                }
                Ok(sum)
            };
            let threads: Vec<_> = (0..at_once).map(|client| scope.spawn(move || one(client))).collect();
            let mut sum = Counted::default();
            for thread in threads {
                let counted: Result<Counted> = thread.join().map_err(|_| anyhow!("a client panicked"))?;
                sum += counted?;
            }
            Ok(sum)
        })
    })
}
