//! What the kernel programs and user space share: fixed-layout records, and all logic that needs no kernel to be
//! understood or tested. The programs themselves are in `main.rs` and `kernel/`; reading the maps is the agent's.
#![no_std]
#![expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "stream positions are 64 bits and sequence numbers 32: the truncation is the arithmetic of RFC 9293 3.4"
)]
#![expect(
    clippy::inline_always,
    reason = "the verifier looks at whole programs: a call here is a choice, not the compiler's"
)]

#[cfg(test)]
extern crate std;

pub mod body;
pub mod conn;
pub mod http;
pub mod interface;
pub mod layout;
pub mod listed;
pub mod message;
pub mod place;
pub mod posting;
pub mod served;
pub mod settle;
pub mod socket;
pub mod stash;
pub mod unlocked;
mod waiting;
pub mod walk;
