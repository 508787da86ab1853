//! The agent: everything of sockmeter that runs in user space. The kernel programs are in `../../ebpf`.
//!
//! Stages, each of which imports earlier ones only: `snapshot`, `owner`, `attribution` (with `route`), `model`, `exposition`.
//! The rim touches the outside world: `kernel`, `host`, `node`, `http`, `upstream`, `api` with
//! `scheduler` and `kubernetes`, `cli`, `config`. `pipeline` puts them together.
// Expected in two places: `kernel::syscall` and `host::memory`.
#![deny(unsafe_code)]

pub mod api;
pub mod attribution;
pub mod cli;
pub mod config;
pub mod exposition;
pub mod host;
pub mod http;
pub mod kernel;
pub mod kubernetes;
pub mod model;
pub mod node;
pub mod owner;
pub mod pipeline;
pub mod route;
pub mod scheduler;
pub mod snapshot;
pub mod upstream;
