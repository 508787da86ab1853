//! Per-interface counters, kept per CPU. Attaching to interfaces and naming them is user space's.

/// `Interface` index: IPv4.
pub const IPV4: usize = 0;
/// `Interface` index: IPv6.
pub const IPV6: usize = 1;
/// `Interface` index: everything else.
pub const OTHER: usize = 2;
/// Number of families.
pub const FAMILIES: usize = 3;
/// Label values, in the order of the indexes.
pub const FAMILY_NAMES: [&str; FAMILIES] = ["ipv4", "ipv6", "other"];

/// Interfaces with an index below this are found by it in an array; the others by a hash.
pub const DIRECT: u32 = 1024;

/// What one CPU saw on one interface.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Interface {
    /// Bytes received, by family: with the link header where the device has one.
    pub received_bytes: [u64; FAMILIES],
    /// Packets received, as they were on the wire (`gso_segs`).
    pub received_packets: [u64; FAMILIES],
    /// Bytes sent.
    pub sent_bytes: [u64; FAMILIES],
    /// Packets sent.
    pub sent_packets: [u64; FAMILIES],
}
const _: () = assert!(size_of::<Interface>() == 96);
