//! The exporter's port: who may connect, who may read, and in which form the page goes out.
//!
//! It knows nothing of what it serves: that comes from a [`Source`]. Nothing here can make the source wait, and a
//! client that is slow, greedy or broken harms nobody but itself. Which settings open the port is in `config`.

mod admission;
mod answers;
mod bounds;
mod budget;
mod gate;
mod making;
mod negotiation;
mod page;
mod server;
mod tables;
mod watched;

use std::future::Future;

pub use bounds::Bounds;
pub use gate::Gate;
pub use server::Server;
pub use tables::{Table, TableWanted};

/// What is served. Implemented by whoever holds the totals.
pub trait Source: Send + Sync + 'static {
    /// The exposition in the form that the reader wants.
    fn metrics(&self, wanted: MetricsWanted) -> impl Future<Output = Vec<u8>> + Send;

    /// Whether everything that this kernel and configuration call for is attached.
    fn readiness(&self) -> Readiness;

    /// The totals as one JSON object.
    fn stats(&self) -> impl Future<Output = serde_json::Value> + Send;

    /// One table as JSON, or what is wrong with the question.
    fn table(&self, wanted: TableWanted) -> impl Future<Output = Result<serde_json::Value, String>> + Send;

    /// Pages that nobody took were dropped: free memory may go back to the system.
    fn has_dropped(&self) {}
}

/// What a reader of `/metrics` asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MetricsWanted {
    /// The form of the page.
    pub format: Format,
    /// Families to limit it to, from `?name[]=`; empty means all.
    pub families: Vec<String>,
}

/// The form of an exposition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// What is missing of what should be attached; ready when nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Each program that is wanted and not attached.
    pub missing: Vec<Missing>,
}

/// A program that is wanted and not attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The program's name.
    pub program: String,
    /// What it should be attached to.
    pub target: String,
    /// Why it is not.
    pub reason: String,
}

impl Format {
    /// The media type with which the page is labelled.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Readiness {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty()
    }
}
