//! The `sockmeter` binary.
#![forbid(unsafe_code)]
fn main() {}
