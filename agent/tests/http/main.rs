//! The exporter's port over real sockets, one module a subject. How a server is started and talked to is in `serving`.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bounds;
mod routes;
mod serving;
mod tls;
