//! The proof of dashboards and rules: real back-ends on what `deploy/` has, a real load, and every query asked. The tests
//! are in `tests/kernel/monitoring.rs`; what dashboards and rules are to look like is checked by `cargo xtask tidy`.

pub mod answers;
pub mod backend;
pub mod exceptions;
pub mod provision;
pub mod questions;
pub mod stage;
pub mod stand_in;
pub mod traffic;
