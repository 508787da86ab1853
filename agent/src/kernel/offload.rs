//! Whether a device's own counters see packets merged (segmentation offload), asked by ethtool netlink. What follows
//! from it is `interfaces`'.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ethtool::{EthtoolAttr, EthtoolFeatureAttr, EthtoolHandle};
use futures_util::StreamExt as _;

/// Kernel names of the features that let a device take several TCP segments as one packet
/// (`include/linux/netdev_features.h`).
const FEATURES: [&str; 2] = ["tx-tcp-segmentation", "tx-tcp6-segmentation"];

/// Asks, and remembers until told that something changed.
#[derive(Clone)]
pub struct Offload {
    handle: EthtoolHandle,
    known: Arc<Mutex<HashMap<u32, bool>>>,
}

impl Offload {
    /// Opens a connection; within a runtime.
    ///
    /// # Errors
    /// When the system refuses the socket.
    pub fn open() -> std::io::Result<Self> {
        let (connection, handle, _) = ethtool::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, known: Arc::default() })
    }

    /// Something changed: ask anew.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether the device takes merged packets; a kernel that does not tell (before 5.6) is taken to say no.
    pub async fn takes_merged(&self, index: u32, name: &str) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&index).copied();
        if let Some(known) = known {
            return known;
        }
        let found = self.ask(name).await;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(index, found);
        found
    }

    async fn ask(&self, name: &str) -> bool {
        let mut handle = self.handle.clone();
        let Ok(mut answers) = handle.feature().get(Some(name)).execute().await else {
            return false;
        };
        while let Some(answer) = answers.next().await {
            let Ok(answer) = answer else {
                return false;
            };
            for attribute in answer.payload.nlas {
                if let EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) = attribute {
                    return bits.iter().any(|bit| bit.value && FEATURES.contains(&bit.name.as_str()));
                }
            }
        }
        false
    }
}
