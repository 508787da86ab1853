//! Local ports of TCP connections that packets may have to do with: all others' packets are done after a look at a bit. What
//! is looked for in a packet, `kernel/packet.rs` says.

/// A set of ports: 8 KiB.
#[repr(transparent)]
pub struct PortSet(pub [u32; WORDS]);

const WORDS: usize = (u16::MAX as usize + 1) / u32::BITS as usize;

impl PortSet {
    /// The word in which a port has its bit, and the bit.
    #[inline(always)]
    #[must_use]
    pub const fn place(port: u16) -> (usize, u32) {
        // The mask changes nothing, and verifiers see it.
        ((port as usize / u32::BITS as usize) & (WORDS - 1), 1 << (port as u32 % u32::BITS))
    }
}

/// What the map `SERVED` holds. Ports come in and none goes: a connection outlives what made it be looked at.
#[repr(C)]
pub struct Served {
    /// 1 once the sets hold for every connection of which something is kept. 0 in a map that an upgrade has just made: what
    /// earlier versions began is in none of them.
    pub begun: u64,
    /// A connection was accepted there, by whomever.
    pub accepted: PortSet,
    /// One was that is observed.
    pub observed: PortSet,
}
const _: () = assert!(size_of::<Served>() == 8 + 2 * 8192);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_port_has_a_bit_of_its_own() {
        let places: BTreeSet<_> = (0..=u16::MAX).map(PortSet::place).collect();
        assert_eq!(places.len(), 65_536);
        assert!(places.iter().all(|(word, bit)| *word < WORDS && bit.is_power_of_two()));
    }
}
