//! Facts of this host and of the agent's own process, from `/proc`. The kernel programs and their maps are `kernel`'s.

pub mod memory;
mod process;

pub use self::process::process;
