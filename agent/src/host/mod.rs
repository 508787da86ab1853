//! Facts of this host, of the agent's own process and of others in cgroups, from `/proc`, what the agent may do, and what
//! WireGuard tells of its peers. The kernel programs and their maps are `kernel`'s.

pub mod memory;
mod pods;
pub mod privileges;
mod process;
mod residents;
pub mod wireguard;

pub use self::pods::PodLogs;
pub use self::process::process;
pub use self::residents::{Parts, Resident, residents};
