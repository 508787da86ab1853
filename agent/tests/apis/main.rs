//! APIs that the agent asks, over real sockets.
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

mod kubernetes;
mod scheduler;
mod server;
