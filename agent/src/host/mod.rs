//! Facts of this host, of the agent's own process and of others in cgroups, from `/proc`, and what the agent may do. The kernel programs and
//! their maps are `kernel`'s.

pub mod memory;
mod pods;
pub mod privileges;
mod process;
mod residents;

pub use self::pods::PodLogs;
pub use self::process::process;
pub use self::residents::{Parts, residents};
