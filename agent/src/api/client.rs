//! Connections to an API, and one answer after the other on them, each within bounds of time.
//! Where a connection comes from is in `source`, how a body is read in `feed`, whom to believe over TLS in `trust`.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::feed::{Feed, ends, feed};
use super::source::{Mine, Own};
use super::{Broken, PollError, trust};
use crate::config::{Api, ConfigError, Secret};

/// Time for the connection, for the head of an answer, and for each further piece of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Time for everything that one poll asks.
pub const WHOLE: Duration = Duration::from_mins(1);

/// How to reach the API.
#[derive(Clone)]
pub struct Access {
    settings: Api,
    host: String,
    port: u16,
    authority: HeaderValue,
    base: String,
    authorization: Option<HeaderValue>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Access {
    /// Reads the token and the certificates.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should, or the URL cannot be asked.
    pub fn new(settings: &Api) -> Result<Self, ConfigError> {
        let Api { key, url, token_file, ca } = settings;
        let refuse = |wanted: &str| ConfigError::new(format!("{key} is {}, wanted {wanted}", shown(url)));
        let authority = url.authority().ok_or_else(|| refuse("a URL with a host"))?;
        // An IPv6 address stands in brackets in a URL only.
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_tls = url.scheme_str() == Some("https");
        let tls = match (ca, is_tls) {
            (Some(file), true) => {
                let name = ServerName::try_from(host.clone()).map_err(|_| refuse("a host name or an address"))?;
                Some((trust::connector(file)?, name))
            }
            (None, true) => {
                // The configuration asked for it already.
                return Err(refuse("a certificate to believe with it"));
            }
            (_, false) => None,
        };
        let port = authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let bearer = |secret: Secret| HeaderValue::try_from(format!("Bearer {}", secret.reveal()));
        let token = token_file.as_deref().map(Secret::from_file).transpose()?;
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

    /// Connects.
    ///
    /// # Errors
    /// When nobody answers in time, or the certificate is not believed.
    pub async fn connect<'a>(&'a self, own: &'a mut dyn Own) -> Result<Conversation<'a>, PollError> {
        let mut mine = Mine::new(own);
        let line = self.line(&mut mine).await?;
        Ok(Conversation { access: self, line, mine })
    }

    async fn line(&self, mine: &mut Mine<'_>) -> Result<Line, PollError> {
        let stream = self.stream(mine).await?;
        match &self.tls {
            None => Line::new(stream).await,
            Some((connector, name)) => {
                let handshake = connector.connect(name.clone(), stream);
                Line::new(timeout(PATIENCE, handshake).await.map_err(|_| PollError::Time)??).await
            }
        }
    }

    /// Each address has its part of the patience: one that leads nowhere does not keep the next one from being tried.
    async fn stream(&self, mine: &mut Mine<'_>) -> Result<TcpStream, PollError> {
        let found = timeout(PATIENCE, lookup_host((self.host.as_str(), self.port))).await;
        let addresses: Vec<SocketAddr> = found.map_err(|_| PollError::Time)??.collect();
        let part = PATIENCE / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut failed = PollError::Connect(io::Error::other(format!("{} has no address", self.host)));
        for to in addresses {
            match timeout(part, mine.connect(to)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = error.into(),
                Err(_) => failed = PollError::Time,
            }
        }
        Err(failed)
    }

    fn request(&self, target: &str) -> Result<Request<Empty<Bytes>>, PollError> {
        let mut request = Request::get(format!("{}{target}", self.base))
            .header(HOST, &self.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("sockmeter/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        Ok(request.body(Empty::new())?)
    }
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Answer {
    response: Response<Incoming>,
    /// What was asked, without its query.
    path: String,
}

/// A connection, and another one where the API closes the first.
pub struct Conversation<'a> {
    access: &'a Access,
    // Closed before it is said to be over.
    line: Line,
    mine: Mine<'a>,
}

impl fmt::Debug for Conversation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("access", self.access).finish_non_exhaustive()
    }
}

impl Conversation<'_> {
    /// Asks; gives the answer's head.
    ///
    /// # Errors
    /// When none came in time.
    pub async fn ask(&mut self, target: &str) -> Result<Answer, PollError> {
        let request = self.access.request(target)?;
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let sender = &mut self.line.sender;
        let asked = async {
            sender.ready().await?;
            sender.send_request(request).await
        };
        let driven = driven(&mut self.line.driver, timeout(PATIENCE, asked));
        Ok(Answer { response: driven.await.map_err(|_| PollError::Time)??, path })
    }

    /// The same for what is not the first on its connection: some APIs, and most proxies of an old kind, close the connection
    /// behind each answer. Then it is asked on another.
    ///
    /// # Errors
    /// As `ask`, and as `Access::connect`.
    pub async fn ask_next(&mut self, target: &str) -> Result<Answer, PollError> {
        match self.ask(target).await {
            // Nothing of it was handed on yet.
            Err(PollError::Exchange(_)) => {
                self.line.driver = None;
                self.line = self.access.line(&mut self.mine).await?;
                self.ask(target).await
            }
            answer => answer,
        }
    }

    /// Takes the body of an answer. It is read by a thread of its own, which gets it piece by piece.
    ///
    /// # Errors
    /// When it did not come whole, or `read` does not take it.
    pub async fn take<T: Send + 'static>(
        &mut self,
        answer: Answer,
        read: impl FnOnce(Feed) -> Result<T, Broken> + Send + 'static,
    ) -> Result<T, PollError> {
        let Answer { response, path } = answer;
        if response.status() != StatusCode::OK {
            return Err(PollError::Status(response.status(), path));
        }
        // It was not asked for, but not every proxy cares.
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING).filter(|encoding| *encoding != "identity") {
            return Err(PollError::Encoding(String::from_utf8_lossy(encoding.as_bytes()).into_owned(), path));
        }
        let (to, from) = ends();
        let reading = spawn_blocking(move || read(from));
        let fed = driven(&mut self.line.driver, feed(response.into_body(), to)).await;
        let read = reading.await.map_err(|error| PollError::Connect(io::Error::other(error)))?;
        // Half a list is broken too, but why it is only a half says more.
        fed?;
        read.map_err(|error| PollError::Broken(error, path))
    }
}

/// What drives a connection; `None` once it has ended.
type Driver = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// One connection.
struct Line {
    sender: SendRequest<Empty<Bytes>>,
    driver: Driver,
}

impl Line {
    async fn new(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Self, PollError> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // What went wrong with it is told to whoever asks on it.
        let driver: Driver = Some(Box::pin(async { drop(connection.await) }));
        Ok(Self { sender, driver })
    }
}

/// Works while the connection is driven: here and not by a task of its own, so that it ends with the time limit.
async fn driven<T>(driver: &mut Driver, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Some(running) = driver {
        tokio::select! {
            result = &mut work => return result,
            () = running => {}
        }
        *driver = None;
    }
    work.await
}

/// A URL without what may be a password.
fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("{}://{}", url.scheme_str().unwrap_or_default(), authority.rsplit('@').next().unwrap_or_default())
}
