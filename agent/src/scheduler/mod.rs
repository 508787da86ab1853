//! The scheduler's API over HTTP: asks it for its jobs and nodes, and keeps what must survive the agent. What the answers
//! come to is `model::jobs`'; when it is asked is `pipeline`'s.
//!
//! Only `GET /jobs` and `GET /nodes` are ever asked: `GET /jobs/next` would assign a job. A list may be of any length:
//! it is read while it comes (`list`), with strings cut to a bound (`api::Cut`), so memory does not depend on it.

mod client;
mod kept;
mod list;

pub use self::client::{Access, Sink};
pub use self::kept::Kept;
pub use self::list::{jobs, nodes};
