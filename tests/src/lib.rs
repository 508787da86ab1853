//! What the kernel tests stand on: network namespaces of their own, the agent and real services in them, and reading
//! what the agent says. The tests are in `tests/kernel`, their table of contents is `tests/kernel/main.rs`.
#![forbid(unsafe_code)]

pub mod agent;
pub mod attack;
pub mod cgroup;
pub mod client;
pub mod cluster;
pub mod connection;
pub mod container;
pub mod image;
pub mod jobs;
pub mod kernel;
pub mod lists;
pub mod load;
pub mod lossy_path;
pub mod message;
pub mod monitoring;
pub mod namespace;
pub mod nginx;
pub mod offer;
pub mod option;
pub mod ordinary;
pub mod page;
pub mod pod;
pub mod process;
pub mod scheduler;
pub mod server;
pub mod tally;
#[cfg(target_arch = "x86_64")]
pub mod trace;
pub mod tunnel;
pub mod unit;
pub mod wait;
pub mod ways;
