//! The agent: everything of sockmeter that runs in user space. The kernel programs are in `../../ebpf`.
#![forbid(unsafe_code)]

pub mod exposition;
pub mod route;
pub mod upstream;
