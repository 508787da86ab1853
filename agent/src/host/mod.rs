//! Facts of this host and of the agent's own process, from `/proc`, and what that process may do. The kernel programs and
//! their maps are `kernel`'s.

pub mod memory;
pub mod privileges;
mod process;

pub use self::process::process;
