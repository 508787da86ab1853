//! The reading of HTTP and the books, replayed without a kernel: scripted connections whose segments come in any order.
//! What needs the kernel's own TCP is the agent's tests' business.
#![expect(clippy::unwrap_used, clippy::as_conversions, reason = "tests: what must hold is demanded")]

mod connection;
mod conversation;
mod delivery;
mod ledger;
mod lines;
mod message;
mod outside;
mod properties;
mod records;
mod rest;
mod rules;
mod segment;
mod strategy;
