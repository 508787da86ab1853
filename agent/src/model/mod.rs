//! The totals, and what they are kept in. They take postings; the page that shows them is `exposition`'s.
//!
//! Each posting changes one cell and one ledger. What changed is kept batch by batch, together with how far the journal was
//! read: see `batch`.

mod batch;
mod books;
mod bytes;
mod cell;
mod decisions;
mod held;
mod holder;
mod holders;
pub mod jobs;
mod ledger;
pub mod live;
pub mod node;
mod rate;
#[cfg(test)]
pub(crate) mod shelf;
pub mod sockets;
mod store;
pub mod told;
pub mod wireguard;

pub use self::books::{Books, ServiceBook, ServiceSettings};
pub use self::cell::{Cell, DURATION_BOUNDS, MOST_SIZE_BOUNDS};
pub use self::decisions::Residents;
pub use self::held::Held;
pub use self::holders::{HolderBounds, Holders, Sum, Sums};
pub use self::ledger::{DIRECTIONS, Ledger};
pub use self::rate::Rate;
pub use self::store::{Forgetful, HolderStore, Store, StoreError};
