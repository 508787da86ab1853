//! The pods of this node, as the kubelet or the API server lists them: their names, and the Jobs that own them. When they are
//! asked for is `pipeline`'s, what a pod's job is called `owner`'s.
//!
//! Nothing but lists is asked: `GET /pods` of the kubelet, `GET /api/v1/pods` of the API server, page by page. A page is read
//! while it comes (`list`), and of each pod only what is wanted stays (`listed`).

mod client;
mod list;
mod listed;

pub use self::client::Access;
pub use self::list::{Page, page};
pub use self::listed::Listed;
