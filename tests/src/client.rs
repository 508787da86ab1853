//! The client that keeps its own books (`load/client.py`), and the server with chunked answers.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::namespace::Namespace;
use crate::process::{Process, run};
use crate::tally::{Answers, Sides, Tally};

/// One or more equal requests on a connection.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Step {
    /// Method.
    pub method: &'static str,
    /// Request target.
    pub target: String,
    /// Body bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub body: usize,
    /// Send the body in chunks of this size; 0: with a `Content-Length`.
    #[serde(skip_serializing_if = "is_zero")]
    pub chunk: usize,
    /// How often; 0: once.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeat: usize,
    /// Requests sent before the first answer is read; 0: one.
    #[serde(skip_serializing_if = "is_zero")]
    pub pipeline: usize,
    /// Send in pieces of this size; 0: whole.
    #[serde(skip_serializing_if = "is_zero")]
    pub split: usize,
    /// Ask to close, and close.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub close: bool,
    /// Wait for a `100 Continue` before the body.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expect: bool,
    /// More header lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub header: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}

/// What the client counted for one method, target and status.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Count {
    /// Method.
    pub method: String,
    /// Request target.
    pub target: String,
    /// Status code.
    pub status: String,
    /// Exchanges.
    pub count: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
    /// Body bytes of the requests.
    pub request_body: u64,
    /// Decoded body bytes of the answers.
    pub response_body: u64,
}

impl Count {
    /// Adds this to a tally under `endpoint`.
    pub fn tally(&self, tally: &mut Tally, endpoint: &str) {
        let sum = tally.sides.entry((self.method.clone(), endpoint.to_owned())).or_default();
        *sum = Sides {
            inbound: sum.inbound + self.sent,
            outbound: sum.outbound + self.received,
            request_body: sum.request_body + self.request_body,
        };
        let sum = tally.answers.entry((self.method.clone(), endpoint.to_owned(), self.status.clone())).or_default();
        *sum = Answers { exchanges: sum.exchanges + self.count, response_body: sum.response_body + self.response_body };
    }
}

pub(crate) fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("load").join(name)
}

/// Plays connections, all at once, and gives the client's books.
///
/// # Errors
/// When one of them fails.
pub fn play(namespace: &Namespace, host: &str, port: u16, connections: &[Vec<Step>]) -> Result<Vec<Count>> {
    let plan = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(&plan, connections)?;
    let mut command = namespace.command("python3");
    let said = run(command.arg(script("client.py")).arg(host).arg(port.to_string()).arg(plan.path()))?;
    serde_json::from_str(&said).with_context(|| format!("the client printed {said:?}"))
}

/// Starts the server with chunked answers.
///
/// # Errors
/// When it does not come up.
pub fn chunked_server(namespace: &Namespace, port: u16) -> Result<Process> {
    let mut command = namespace.command("python3");
    command.arg(script("chunked_server.py")).arg(port.to_string()).stdout(Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let out = process.output().context("no output")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    ensure!(line == "ready\n", "the server said {line:?}");
    Ok(process)
}
