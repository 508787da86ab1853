//! The agent's own connections, told to the kernel side by whoever makes them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::jobs::locked;
use crate::api::Own;
use crate::kernel::OwnConnections;

/// The map, for more than one who polls.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<OwnConnections>>);

impl Shared {
    pub(super) fn new(own: OwnConnections) -> Self {
        Self(Arc::new(Mutex::new(own)))
    }
}

impl Own for Shared {
    fn begins(&mut self, from: SocketAddr) {
        if let Err(error) = locked(&self.0).begins(from) {
            tracing::warn!(%error, "a request of the agent's own counts as anybody's");
        }
    }

    fn is_over(&mut self, from: SocketAddr) {
        locked(&self.0).is_over(from);
    }
}
