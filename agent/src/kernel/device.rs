//! The network devices of the agent's own namespace, and their own counters. Asked by netlink, because `/sys` may show
//! another namespace. What is counted on them is `interfaces`'.

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType};

use super::offload::Offload;
use crate::snapshot::ReadError;

/// A device as netlink tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub(super) index: u32,
    pub(super) name: String,
    /// `[received, sent]` bytes.
    pub(super) bytes: [u64; 2],
    /// Its counters see the segments of what passes our programs merged.
    pub(super) segments: bool,
    is_wireguard: bool,
}

impl Device {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It is one of the kernel's WireGuard.
    #[must_use]
    pub fn is_wireguard(&self) -> bool {
        self.is_wireguard
    }
}

/// Asks the kernel for all devices of this namespace.
///
/// # Errors
/// When netlink does not answer.
pub async fn devices(handle: &rtnetlink::Handle, offload: &Offload) -> Result<Vec<Device>, ReadError> {
    let failed = |error: rtnetlink::Error| ReadError { what: "interfaces", why: error.to_string() };
    let mut found = Vec::new();
    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await.map_err(failed)? {
        let mut device = Device {
            index: message.header.index,
            name: String::new(),
            bytes: [0; 2],
            segments: false,
            is_wireguard: false,
        };
        // Real hardware has no kind, and counts what is on the wire.
        let mut is_virtual = message.header.link_layer_type == LinkLayerType::Loopback;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::LinkInfo(info) => {
                    is_virtual |= info.iter().any(|info| matches!(info, LinkInfo::Kind(_)));
                    device.is_wireguard = info.contains(&LinkInfo::Kind(InfoKind::Wireguard));
                }
                LinkAttribute::Stats64(stats) => device.bytes = [stats.rx_bytes, stats.tx_bytes],
                _ => {}
            }
        }
        device.segments = !is_virtual || !offload.takes_merged(device.index, &device.name).await;
        found.push(device);
    }
    Ok(found)
}
