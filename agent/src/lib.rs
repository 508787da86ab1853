//! The agent: everything of sockmeter that runs in user space. The kernel programs are in `../../ebpf`.
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod http;
