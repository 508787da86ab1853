//! Facts of this host and of the agent's own process, from `/proc`, and what that process may do. The kernel programs and
//! their maps are `kernel`'s.

pub mod memory;
mod pods;
pub mod privileges;
mod process;

pub use self::pods::PodLogs;
pub use self::process::process;
