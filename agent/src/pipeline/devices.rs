//! The watch over this namespace's interfaces by rtnetlink: all of them when asked, and a message when they change.

use futures_util::{FutureExt as _, StreamExt as _};
use rtnetlink::{Handle, MulticastGroup, new_connection, new_multicast_connection};
use tokio::task::JoinHandle;

use super::accountant::{Line, Message};
use crate::kernel::{self, Device, Offload};

/// A connection to ask by.
#[derive(Clone)]
pub(super) struct Devices {
    handle: Handle,
    offload: Offload,
}

impl Devices {
    /// Opens it; within a runtime.
    ///
    /// # Errors
    /// When the system refuses the socket.
    pub(super) fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, offload: Offload::open()? })
    }

    /// All interfaces with the kernel's own counters; `None` if netlink does not answer.
    pub(super) async fn all(&self) -> Option<Vec<Device>> {
        kernel::devices(&self.handle, &self.offload)
            .await
            .inspect_err(|error| tracing::warn!(%error, "interfaces are those of the last reading"))
            .ok()
    }

    /// Tells the accountant whenever interfaces change, for as long as the task runs.
    ///
    /// # Errors
    /// When the system refuses the socket.
    pub(super) fn watch(&self, line: Line) -> std::io::Result<JoinHandle<()>> {
        let (connection, _, mut changes) = new_multicast_connection(&[MulticastGroup::Link])?;
        tokio::spawn(connection);
        let devices = self.clone();
        Ok(tokio::spawn(async move {
            while changes.next().await.is_some() {
                // Many changes at once, as when containers start, are one reason to look.
                while changes.next().now_or_never().flatten().is_some() {}
                devices.offload.forget();
                if let Some(devices) = devices.all().await
                    && !line.send(Message::Devices { devices })
                {
                    return;
                }
            }
        }))
    }
}
