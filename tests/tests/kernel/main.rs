//! Real programs in this kernel, real services, real traffic in namespaces of the tests' own. Needs root.
//!
//! Each subject is a module; each compares with `==` against books that somebody else kept.
#![forbid(unsafe_code)]
#![expect(clippy::float_cmp, reason = "counters are whole numbers, and their equality is the point")]
#![expect(clippy::tests_outside_test_module, reason = "this is a test target")]

/// The exporter's port under attack.
mod attacked;
/// Bad input: one sentence, a hint, the designed exit code, nothing left attached.
mod bad_input;
/// Chunked and close-delimited answers of another server.
mod chunked_answers;
/// What the kernel programs say of themselves, when asked.
mod diagnostics;
/// nginx' log and the clients' own counts against our exchanges.
mod equal_books;
/// Interface counters against the kernel's own.
mod interfaces;
/// Our page with a real exporter's, in a real Prometheus; and with a broken one's.
mod merged_page;
/// What is not HTTP, half of it, or something else later.
mod not_http;
/// The numbers that the old in-process middleware gave, to the letter.
mod old_numbers;
/// What the agent may do once it runs, and how little it takes to start it.
mod privileges;
/// Killed, stopped, started again: the books go on.
mod restart;
/// Network namespaces other than the agent's own.
mod scope;
/// Socket counters against what both ends counted.
mod sockets;
/// Scrapes in the middle of a load.
mod under_load;
