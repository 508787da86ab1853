//! Why the peers of an interface are not known, in words, and what can be done about it. It is said in the log by `Reader`,
//! and by `sockmeter check` (`pipeline::tunnels`).

use super::PATIENCE;

/// Why there are no peers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// The kernel does not tell this process (`netlink_ns_capable`, net/netlink/af_netlink.c).
    #[error("the kernel tells its peers with CAP_NET_ADMIN only")]
    Capability,
    /// The socket with this path is another user's.
    #[error("{0} is closed to this user")]
    Closed(String),
    /// The socket with this path belongs to another interface of the same name, or is left over.
    #[error("{0} is not of this network namespace, or nobody listens there")]
    Elsewhere(String),
    /// Nobody answered.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
    /// An answer that is none, or another refusal.
    #[error("{0}")]
    Other(String),
}

impl Untold {
    /// What whoever starts the agent can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Capability => Some("run as root, or grant CAP_NET_ADMIN".to_owned()),
            Self::Closed(path) => Some(format!("run as root, or let this user write to {path}")),
            Self::Elsewhere(_) => Some("start the interface's process in the interface's network namespace".to_owned()),
            Self::Late | Self::Other(_) => None,
        }
    }
}
