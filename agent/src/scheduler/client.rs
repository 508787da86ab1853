//! One poll: a connection whose source port is known before it is made, and both lists asked on it, or the second one on
//! another where the API closes the first, within bounds of time.
//! How the lists are read is in `list`, whom to believe over TLS in `trust`.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UdpSocket, lookup_host};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::list::{self, Broken};
use super::trust;
use crate::config::{ConfigError, Scheduler, Secret};
use crate::model::jobs::Job;

/// Time for the connection, for the head of an answer, and for each further piece of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time for both lists.
const WHOLE: Duration = Duration::from_mins(1);
/// The lists.
const JOBS: &str = "/jobs";
const NODES: &str = "/nodes";
/// Pieces of an answer that wait to be read.
const WAITING: usize = 4;

/// Why there are no lists.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// Nobody listens, or the name is not known, or the certificate is not believed.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// It took too long.
    #[error("nothing came for {} s, or the whole took more than {} s", PATIENCE.as_secs(), WHOLE.as_secs())]
    Time,
    /// The connection broke, or it is no HTTP.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The answer is no list.
    #[error("the answer to GET {1} is {0}, wanted 200 OK")]
    Status(StatusCode, &'static str),
    /// It is none that can be read.
    #[error("GET {1}: {0}")]
    Broken(Broken, &'static str),
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
}

/// Who wants to know the agent's own connections before they are made.
pub trait Own: Send {
    /// A connection from here is about to be made.
    fn begins(&mut self, from: SocketAddr);
    /// It is over.
    fn is_over(&mut self, from: SocketAddr);
}

/// What takes jobs and nodes as they come.
pub trait Sink: Send + 'static {
    /// A job.
    fn job(&mut self, job: &Job);
    /// A node of that status.
    fn node(&mut self, status: Option<&str>);
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Both lists.
    Both,
    /// The nodes, where the connection before ended with the jobs.
    Nodes,
}

/// How to reach the API.
#[derive(Clone)]
pub struct Access {
    settings: Scheduler,
    host: String,
    port: u16,
    authority: HeaderValue,
    base: String,
    authorization: Option<HeaderValue>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Access {
    /// Reads the token and the certificates.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should, or the URL cannot be asked.
    pub fn new(settings: &Scheduler) -> Result<Self, ConfigError> {
        let url = &settings.api;
        let refuse = |wanted: &str| ConfigError::new(format!("scheduler_api is {}, wanted {wanted}", shown(url)));
        let authority = url.authority().ok_or_else(|| refuse("a URL with a host"))?;
        // An IPv6 address stands in brackets in a URL only.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_tls = url.scheme_str() == Some("https");
        let tls = match (&settings.ca, is_tls) {
            (Some(file), true) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| refuse("a host name or an address"))?;
                Some((trust::connector(file)?, name))
            }
            (None, true) => {
                // The configuration asked for it already.
                return Err(refuse("scheduler_ca with it"));
            }
            (_, false) => None,
        };
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let bearer = |secret: Secret| HeaderValue::try_from(format!("Bearer {}", secret.reveal()));
        let token = settings.token_file.as_deref().map(Secret::from_file).transpose()?;
        let mut authorization = token.map(bearer).transpose().map_err(|_| refuse("a token that fits a header"))?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        let named = authority.as_str().rsplit('@').next().unwrap_or_default();
        Ok(Self {
            settings: settings.clone(),
            authority: HeaderValue::try_from(named).map_err(|_| refuse("a host name or an address"))?,
            base: url.path().trim_end_matches('/').to_owned(),
            host,
            port,
            authorization,
            tls,
        })
    }

    /// The same with token and certificates as their files are now.
    ///
    /// # Errors
    /// As `new`.
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        Self::new(&self.settings)
    }

    /// Asks for both lists and hands on what is in them. On an error what came before was handed on.
    ///
    /// # Errors
    /// When one of them did not come whole, in time.
    pub async fn poll<S: Sink>(&self, own: &mut dyn Own, sink: &Arc<Mutex<S>>) -> Result<(), PollError> {
        timeout(WHOLE, self.connected(own, sink)).await.unwrap_or(Err(PollError::Time))
    }

    async fn connected<S: Sink>(&self, own: &mut dyn Own, sink: &Arc<Mutex<S>>) -> Result<(), PollError> {
        if !self.session(Asks::Both, own, sink).await? {
            self.session(Asks::Nodes, own, sink).await?;
        }
        Ok(())
    }

    /// Asks on a connection of its own. Whether the nodes came too: some APIs, and most proxies of an old kind, close the
    /// connection behind each answer.
    async fn session<S: Sink>(&self, asks: Asks, own: &mut dyn Own, sink: &Arc<Mutex<S>>) -> Result<bool, PollError> {
        let (stream, _mine) = self.connect(own).await?;
        match &self.tls {
            None => self.lists(asks, stream, sink).await,
            Some((connector, name)) => {
                let handshake = connector.connect(name.clone(), stream);
                self.lists(asks, timeout(PATIENCE, handshake).await.map_err(|_| PollError::Time)??, sink).await
            }
        }
    }

    /// Each address has its part of the patience: one that leads nowhere does not keep the next one from being tried.
    async fn connect<'a>(&self, own: &'a mut dyn Own) -> Result<(TcpStream, Mine<'a>), PollError> {
        let found = timeout(PATIENCE, lookup_host((self.host.as_str(), self.port))).await;
        let addresses: Vec<SocketAddr> = found.map_err(|_| PollError::Time)??.collect();
        let part = PATIENCE / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut failed = PollError::Connect(io::Error::other(format!("{} has no address", self.host)));
        let mut mine = Mine { own, from: None };
        for to in addresses {
            match timeout(part, mine.connect(to)).await {
                Ok(Ok(stream)) => return Ok((stream, mine)),
                Ok(Err(error)) => failed = error.into(),
                Err(_) => failed = PollError::Time,
            }
        }
        Err(failed)
    }

    async fn lists<S: Sink>(
        &self,
        asks: Asks,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        sink: &Arc<Mutex<S>>,
    ) -> Result<bool, PollError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let asked = async {
            if asks == Asks::Both {
                let jobs = |from, sink: &Mutex<S>| list::jobs(from, |job| locked(sink, |sink| sink.job(job)));
                let answer = self.answer(&mut sender, JOBS).await?;
                take(answer, JOBS, sink, jobs).await?;
            }
            let nodes = |from, sink: &Mutex<S>| list::nodes(from, |status| locked(sink, |sink| sink.node(status)));
            let answer = match self.answer(&mut sender, NODES).await {
                // Nothing of it was handed on yet.
                Err(PollError::Exchange(_)) if asks == Asks::Both => return Ok(false),
                answer => answer?,
            };
            take(answer, NODES, sink, nodes).await?;
            Ok(true)
        };
        // The connection is driven here and not by a task of its own, so that it ends with the time limit.
        let mut asked = std::pin::pin!(asked);
        tokio::select! {
            result = &mut asked => result,
            _ = connection => asked.await,
        }
    }

    /// Asks for one list; gives the answer's head, and the body as it comes.
    async fn answer(
        &self,
        sender: &mut SendRequest<Empty<Bytes>>,
        path: &'static str,
    ) -> Result<Response<Incoming>, PollError> {
        let mut request = Request::get(format!("{}{path}", self.base))
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("sockmeter/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new())?;
        let answer = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        Ok(timeout(PATIENCE, answer).await.map_err(|_| PollError::Time)??)
    }
}

/// Takes a list. It is read by a thread of its own, which gets the answer piece by piece.
async fn take<S: Sink>(
    answer: Response<Incoming>,
    path: &'static str,
    sink: &Arc<Mutex<S>>,
    read: impl FnOnce(Feed, &Mutex<S>) -> Result<(), Broken> + Send + 'static,
) -> Result<(), PollError> {
    if answer.status() != StatusCode::OK {
        return Err(PollError::Status(answer.status(), path));
    }
    let (to, from) = mpsc::channel(WAITING);
    let sink = Arc::clone(sink);
    let reading = spawn_blocking(move || read(Feed { from, piece: Bytes::new() }, &sink));
    let fed = feed(answer.into_body(), to).await;
    let read = reading.await.map_err(|error| PollError::Connect(io::Error::other(error)))?;
    // Half a list is broken too, but why it is only a half says more.
    fed?;
    read.map_err(|error| PollError::Broken(error, path))
}

fn locked<S>(sink: &Mutex<S>, work: impl FnOnce(&mut S)) {
    work(&mut sink.lock().unwrap_or_else(PoisonError::into_inner));
}

/// A URL without what may be a password.
fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{}", url.scheme_str().unwrap_or_default(), authority.rsplit('@').next().unwrap_or_default())
}

/// A connection of ours, which is over when this is dropped.
struct Mine<'a> {
    own: &'a mut dyn Own,
    from: Option<SocketAddr>,
}

impl Mine<'_> {
    /// Binds before it connects: from its first packet on everybody who wants to know can know whose it is.
    async fn connect(&mut self, to: SocketAddr) -> io::Result<TcpStream> {
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        // A datagram socket that is connected knows its source address, and sends nothing for that.
        let route = UdpSocket::bind((any, 0)).await?;
        route.connect(to).await?;
        let mut from = route.local_addr()?;
        from.set_port(0);
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.bind(from)?;
        let from = socket.local_addr()?;
        self.is_over();
        self.own.begins(from);
        self.from = Some(from);
        socket.connect(to).await
    }

    fn is_over(&mut self) {
        if let Some(from) = self.from.take() {
            self.own.is_over(from);
        }
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        self.is_over();
    }
}

/// Hands the pieces of a body on as they come. That nobody wants them any more is no error of the body's.
async fn feed(mut body: Incoming, to: Sender<Bytes>) -> Result<(), PollError> {
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(|_| PollError::Time)? {
        if let Ok(piece) = frame?.into_data()
            && to.send(piece).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

/// The reading end, for a thread.
struct Feed {
    from: Receiver<Bytes>,
    piece: Bytes,
}

impl io::Read for Feed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.from.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let most = into.len().min(self.piece.len());
        let piece = self.piece.split_to(most);
        for (to, from) in into.iter_mut().zip(piece) {
            *to = from;
        }
        Ok(most)
    }
}
