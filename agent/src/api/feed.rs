//! The body of an answer for a thread that reads it while it comes, some pieces ahead at most.

use std::io;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::timeout;

use super::PollError;
use super::client::PATIENCE;

/// Pieces of an answer that wait to be read.
const WAITING: usize = 4;

/// The reading end, for a thread.
#[derive(Debug)]
pub struct Feed {
    from: Receiver<Bytes>,
    piece: Bytes,
}

/// Both ends.
pub(super) fn ends() -> (Sender<Bytes>, Feed) {
    let (to, from) = mpsc::channel(WAITING);
    (to, Feed { from, piece: Bytes::new() })
}

/// Hands the pieces of a body on as they come. That nobody wants them any more is no error of the body's.
pub(super) async fn feed(mut body: Incoming, to: Sender<Bytes>) -> Result<(), PollError> {
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.map_err(|_| PollError::Time)? {
        if let Ok(piece) = frame?.into_data()
            && to.send(piece).await.is_err()
        {
            break;
        }
    }
    Ok(())
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
