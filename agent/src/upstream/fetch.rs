//! Fetching another exporter's page over HTTP/1.1. What becomes of it is the rest of `upstream`.

use std::time::Duration;

use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time for the whole page, from looking up the name to the last byte.
const TIME: Duration = Duration::from_secs(1);
/// The largest page that is taken.
const MOST_BYTES: usize = 50 << 20;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is none that can be asked.
    #[error("the URL {0} has no host, wanted http://HOST[:PORT]/PATH")]
    Url(Uri),
    /// It took too long.
    #[error("no complete page within {} s", TIME.as_secs())]
    Time,
    /// Nobody listens, or the name is not known.
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    /// The connection broke, or it is no HTTP.
    #[error("the exchange failed: {0}")]
    Exchange(#[from] hyper::Error),
    /// The answer is no page.
    #[error("the answer is {0}, wanted 200 OK")]
    Status(StatusCode),
    /// The page is too large, or broke off.
    #[error("the page is larger than {MOST_BYTES} bytes or broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
}

/// Fetches a page.
///
/// # Errors
/// When there is none in time.
pub async fn fetch(url: &Uri) -> Result<Bytes, FetchError> {
    timeout(TIME, exchange(url)).await.unwrap_or(Err(FetchError::Time))
}

async fn exchange(url: &Uri) -> Result<Bytes, FetchError> {
    let authority = url.authority().ok_or_else(|| FetchError::Url(url.clone()))?;
    // An IPv6 address stands in brackets in a URL only.
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let target = url.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(HOST, authority.as_str())
        .header(ACCEPT, "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1")
        .header(USER_AGENT, concat!("sockmeter/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Url(url.clone()))?;
    let page = async {
        let answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await.map_err(FetchError::Body)?;
        Ok(body.to_bytes())
    };
    // The connection is driven here and not by a task of its own, so that it ends with the time limit.
    let mut page = std::pin::pin!(page);
    tokio::select! {
        page = &mut page => page,
        _ = connection => page.await,
    }
}
