//! Asking an API over HTTP for lists of any length: over a connection whose source port is known before it is made, with a
//! token, TLS, and bounds of time and memory. What is asked and what the answers mean is `scheduler`'s and `kubernetes`'.

mod client;
mod cut;
mod feed;
mod shape;
mod source;
mod trust;

pub use self::client::{Access, Answer, Conversation, WHOLE};
pub use self::cut::Cut;
pub use self::feed::Feed;
pub use self::shape::{Part, Shape, Wrong};
pub use self::source::Own;

use std::error::Error;
use std::io;

use http::StatusCode;

/// The answer is no list.
#[derive(Debug, thiserror::Error)]
#[error("the answer is not the list that is wanted: {0}")]
pub struct Broken(#[from] serde_json::Error);

/// Why there are no lists.
#[derive(Debug, thiserror::Error)]
pub enum PollError {
    /// Nobody listens, or the name is not known, or the certificate is not believed.
    #[error("cannot connect: {0}")]
    Connect(#[from] io::Error),
    /// It took too long.
    #[error("nothing came for {} s, or the whole took more than {} s", client::PATIENCE.as_secs(), WHOLE.as_secs())]
    Time,
    /// The connection broke, or it is no HTTP.
    #[error("the exchange failed: {}", with_causes(.0))]
    Exchange(#[from] hyper::Error),
    /// The answer is no list.
    #[error("the answer to GET {1} is {0}, wanted 200 OK")]
    Status(StatusCode, String),
    /// It is packed, which nobody asked for.
    #[error("the answer to GET {1} has the content encoding {0:?}, wanted none")]
    Encoding(String, String),
    /// It is none that can be read.
    #[error("GET {1}: {0}")]
    Broken(Broken, String),
    /// There are more pages of it than any list has.
    #[error("the answer to GET {0} has no end")]
    Endless(String),
    /// The request cannot be written.
    #[error("the request cannot be written: {0}")]
    Request(#[from] http::Error),
}

/// An error of hyper's, which says what it was at and keeps the reason to itself.
fn with_causes(error: &hyper::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(": ");
        said.push_str(&error.to_string());
        cause = error.source();
    }
    said
}
