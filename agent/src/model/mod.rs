//! The totals, and what they are kept in. They take postings; the page that shows them is `exposition`'s.
//!
//! Each posting changes one cell and one ledger; both remember the posting they took last. So if the agent is killed
//! between the two writes, or before the posting leaves the journal, it takes the posting again and changes only what it
//! did not change before.

mod books;
mod bytes;
mod cell;
mod holder;
mod holders;
pub mod jobs;
mod ledger;
pub mod live;
pub mod node;
mod rate;
pub mod sockets;
mod store;
pub mod told;

pub use self::books::{Books, ServiceBook, ServiceSettings};
pub use self::cell::{Cell, DURATION_BOUNDS, MOST_SIZE_BOUNDS};
pub use self::holders::{HolderBounds, HolderStore, Holders, Sum, Sums};
pub use self::ledger::{DIRECTIONS, Ledger};
pub use self::rate::Rate;
pub use self::store::{Forgetful, Store, StoreError};
