//! A server over a source of the test's own, and a client that says exactly what it is told.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::{Value, json};
use sockmeter::config::Access;
use sockmeter::http::{Bounds, Format, Gate, MetricsWanted, Missing, Readiness, Server, Source, TableWanted};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// A source whose answers a test can tell apart, and hold back.
pub(crate) struct Given {
    pub(crate) page: Vec<u8>,
    pub(crate) missing: Vec<Missing>,
    /// Each answer of `metrics` takes one permit.
    pub(crate) permits: Semaphore,
    /// Told when `metrics` is asked.
    pub(crate) asked: Option<mpsc::UnboundedSender<MetricsWanted>>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            page: b"page\n".to_vec(),
            missing: Vec::new(),
            permits: Semaphore::new(Semaphore::MAX_PERMITS),
            asked: None,
        }
    }
}

impl Source for Given {
    async fn metrics(&self, wanted: MetricsWanted) -> Vec<u8> {
        let start = match wanted.format {
            Format::Text => "text ",
            Format::OpenMetrics => "open ",
        };
        if let Some(asked) = &self.asked {
            asked.send(wanted).unwrap();
        }
        self.permits.acquire().await.unwrap().forget();
        [start.as_bytes(), &self.page].concat()
    }

    fn readiness(&self) -> Readiness {
        Readiness { missing: self.missing.clone() }
    }

    async fn stats(&self) -> Value {
        json!({"services": {"scheduler": {"total_requests": 3}}})
    }

    async fn table(&self, wanted: TableWanted) -> Result<Value, String> {
        if wanted.sort.is_some() { Err("no such column".to_owned()) } else { Ok(json!({"limit": wanted.limit})) }
    }
}

/// A server that runs until the end of the test.
pub(crate) struct Serving {
    pub(crate) address: SocketAddr,
    pub(crate) url: String,
    pub(crate) source: Arc<Given>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    pub(crate) fn open(source: Given) -> Self {
        Self::with(source, &Access::default(), Bounds::default())
    }

    pub(crate) fn with(source: Given, access: &Access, bounds: Bounds) -> Self {
        let gate = Gate::new(access).unwrap();
        let source = Arc::new(source);
        let stop = CancellationToken::new();
        let (tell, told) = std::sync::mpsc::channel();
        let (served, stopped) = (Arc::clone(&source), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind((Ipv4Addr::LOCALHOST, 0).into(), gate, bounds).await.unwrap();
                tell.send((server.address(), server.url())).unwrap();
                server.serve(served, stopped).await;
            });
        });
        let (address, url) = told.recv().unwrap();
        Self { address, url, source, stop, thread: Some(thread) }
    }

    /// Asks the server to stop and waits until it has.
    pub(crate) fn stop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// A connection from 127.0.0.`last`.
    pub(crate) fn connect_from(&self, last: u8) -> TcpStream {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let local = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
        socket.bind(&local.into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        socket.into()
    }

    /// One request on a connection of its own: `line` such as `GET /metrics`, and header lines.
    pub(crate) fn ask(&self, line: &str, fields: &[&str]) -> Answer {
        let mut stream = self.connect();
        write_request(&mut stream, line, fields);
        Answer::read(&mut stream)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub(crate) fn write_request(stream: &mut impl Write, line: &str, fields: &[&str]) {
    let mut lines = vec![line, "connection: close"];
    lines.extend(fields);
    let request = lines.join("\r\n").replacen("\r\n", " HTTP/1.1\r\nhost: test\r\n", 1) + "\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
}

/// An answer taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Reads until the server closes.
    pub(crate) fn read(stream: &mut impl Read) -> Self {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        Self::parse(&bytes).expect("a complete answer")
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let fields = lines.filter_map(|line| line.split_once(": "));
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Some(Self { status, fields, body: bytes.get(end + 4..)?.to_vec() })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Whether the other side has closed: no further byte comes, however the close reads.
pub(crate) fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}
