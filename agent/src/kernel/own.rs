//! Says which connections the agent makes itself, before it makes them: at a service they are booked under the reason
//! `agent`. Who makes them is `scheduler`.

use std::net::{IpAddr, SocketAddr};

use aya::maps::{HashMap, MapData};
use sockmeter_ebpf::layout::OwnKey;

use super::Refusal;

const KEY: usize = size_of::<OwnKey>();

/// The map.
pub struct OwnConnections {
    map: HashMap<MapData, [u8; KEY], u32>,
    netns: u32,
}

impl OwnConnections {
    /// What a killed agent left there is removed: its connections ended with it.
    pub(super) fn open(ebpf: &mut aya::Ebpf, netns: u32) -> Result<Self, Refusal> {
        let mut map: HashMap<MapData, [u8; KEY], u32> = super::take(ebpf, "OWN")?;
        let old: Vec<[u8; KEY]> = map.keys().filter_map(Result::ok).collect();
        for key in old {
            map.remove(&key).map_err(|error| Refusal::because("cannot empty the map OWN", &error))?;
        }
        Ok(Self { map, netns })
    }

    /// A connection from here is about to be made.
    ///
    /// # Errors
    /// When the map is full.
    pub fn begins(&mut self, from: SocketAddr) -> std::io::Result<()> {
        self.map.insert(self.key(from), 1, 0).map_err(std::io::Error::other)
    }

    /// It is over.
    pub fn is_over(&mut self, from: SocketAddr) {
        // What is not there needs no removal.
        let _ = self.map.remove(&self.key(from));
    }

    fn key(&self, from: SocketAddr) -> [u8; KEY] {
        let address = match from.ip() {
            IpAddr::V4(address) => OwnKey::mapped(address.octets()),
            IpAddr::V6(address) => address.octets(),
        };
        let OwnKey { address, port, netns } = OwnKey::new(address, from.port(), self.netns);
        let mut bytes = [0; KEY];
        let words = port.to_ne_bytes().into_iter().chain(netns.to_ne_bytes());
        for (to, from) in bytes.iter_mut().zip(address.into_iter().chain(words)) {
            *to = from;
        }
        bytes
    }
}
