//! The listener and its connections: accepts, admits, serves, and stops. What is answered is in `answers`.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use http::HeaderValue;
use http::header::CONNECTION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::admission::{Admission, Admitted, Place};
use super::answers::Answers;
use super::budget::Share;
use super::making::Making;
use super::watched::Watched;
use super::{Bounds, Gate, Source};

/// A bound port that does not serve yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    gate: Gate,
    bounds: Bounds,
}

impl Server {
    /// Binds the port.
    ///
    /// # Errors
    /// When the address is not ours or taken.
    pub async fn bind(address: SocketAddr, gate: Gate, bounds: Bounds) -> Result<Self> {
        let listener = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                anyhow::anyhow!("cannot listen on {address}: {error}\nhint: --listen takes another address or port")
            }
            _ => anyhow::anyhow!("cannot listen on {address}: {error}"),
        })?;
        let address = listener.local_addr().context("cannot tell the address that was bound")?;
        Ok(Self { listener, address, gate, bounds })
    }

    /// The address that was bound, with the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as the start of a URL.
    pub fn url(&self) -> String {
        let scheme = if self.gate.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Serves until `stop`, then gives answers in progress their time and returns.
    pub async fn serve<S: Source>(self, source: Arc<S>, stop: CancellationToken) {
        let Self { listener, gate, bounds, .. } = self;
        let admission = Admission::new(&bounds);
        let told = Arc::clone(&source);
        let making = Making::new(Arc::clone(&admission), move || told.has_dropped());
        let answers = Arc::new(Answers { source, gate, bounds, making });
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        let place = tokio::select! {
                            place = place(&admission, peer.ip()) => place,
                            () = stop.cancelled() => break,
                        };
                        if let Some(place) = place {
                            let connection = Connection { answers: Arc::clone(&answers), place: Arc::new(place), stop: stop.clone() };
                            connections.spawn(connection.serve(stream, peer.ip()));
                        } else {
                            tracing::debug!(peer = %peer.ip(), "no place for another connection");
                        }
                        // A request that is there already is read before the next one comes: in a flood a reader who
                        // asked properly would lose its place to those behind it before anybody looked.
                        yield_now().await;
                    }
                    // Out of file descriptors, or a peer that went away again: neither is ours to mend, and the
                    // first would otherwise spin.
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        let finished = timeout(bounds.stop_time, async { while connections.join_next().await.is_some() {} });
        if finished.await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// A place for a connection from this address as soon as there is one, `None` if everybody else waits for an answer that
/// takes long.
async fn place(admission: &Arc<Admission>, peer: IpAddr) -> Option<Place> {
    loop {
        let changed = admission.changed();
        match admission.admit(peer, Instant::now()) {
            Admitted::Now(place) => return Some(place),
            Admitted::After(time) => changed.within(time).await,
            Admitted::Not => return None,
        }
    }
}

/// What one connection needs.
struct Connection<S> {
    answers: Arc<Answers<S>>,
    place: Arc<Place>,
    stop: CancellationToken,
}

impl<S: Source> Connection<S> {
    async fn serve(self, stream: TcpStream, peer: IpAddr) {
        let place = Arc::clone(&self.place);
        let stop = self.stop.clone();
        let served = async {
            match self.answers.gate.tls.clone() {
                None => self.converse(stream).await,
                Some(tls) => {
                    // Until here there is no answer to finish: a stop ends a handshake at once.
                    let handshake = timeout(self.answers.bounds.head_time, tls.accept(stream));
                    let stream = tokio::select! {
                        stream = handshake => stream.context("the TLS handshake took too long")??,
                        () = stop.cancelled() => return Ok(()),
                    };
                    self.converse(stream).await
                }
            }
        };
        tokio::select! {
            () = place.evicted() => tracing::debug!(%peer, "closed a connection that kept us waiting, for another one"),
            result = served => if let Err(error) = result {
                tracing::debug!(%peer, error = format!("{error:#}"), "a connection ended early");
            },
        }
    }

    async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
        let bounds = self.answers.bounds;
        let stream = Watched::new(stream, Arc::clone(&self.place), bounds.answer_time);
        let service = service_fn(|request| async {
            self.place.taken().await;
            let mut answer = self.answers.answer(request, &self.place).await;
            self.place.sends(answer.extensions_mut().remove::<Share>());
            // Others wait: one answer for each.
            if self.place.is_the_last() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        });
        let conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head_time)
            .max_buf_size(bounds.head_bytes.max(8 << 10))
            .half_close(true)
            .serve_connection(TokioIo::new(stream), service);
        let mut conversation = pin!(conversation);
        tokio::select! {
            result = conversation.as_mut() => return Ok(result?),
            () = self.stop.cancelled() => conversation.as_mut().graceful_shutdown(),
        }
        Ok(conversation.await?)
    }
}
