//! The programs, a file each, and what they need of the kernel.

mod atomic;
mod begin;
mod bounds;
mod cgroup;
mod end;
mod globals;
mod handshake;
mod header;
mod interface;
mod kept;
mod listing;
mod maps;
mod older;
mod outside;
mod owner;
mod packet;
mod place;
mod reading;
mod scan;
mod snapshot;
mod stash;
mod task;
mod tcp;
mod totals;
mod touch;
mod udp;
