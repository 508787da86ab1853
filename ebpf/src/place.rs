//! Where the maker of a socket stood: the cgroups that its bytes are told apart by, the totals of each such place, and the
//! names of cgroups. What a place means (container, job) is user space's to say.

use crate::socket::Owner;

/// Hierarchies that are looked at: cgroup v2, and the version 1 hierarchies of the controllers in `CONTROLLERS`.
pub const HIERARCHIES: usize = 5;

/// Controllers whose version 1 hierarchies are looked at, where they have one: runtimes and batch systems make a cgroup
/// in at least one of these.
pub const CONTROLLERS: [&str; HIERARCHIES - 1] = ["memory", "cpu", "pids", "freezer"];

/// No version 1 hierarchy has this controller.
pub const NO_HIERARCHY: u32 = u32::MAX;

/// Id of the root cgroup of every hierarchy (`kernfs_create_root`, `fs/kernfs/dir.c`).
pub const ROOT: u64 = 1;

/// What is kept of a cgroup's name, with a zero behind it: `NAME_MAX` bytes. The kernel takes longer ones (kernfs has no
/// bound but the path's), which no rule asks for.
pub const NAME: usize = 256;

/// The cgroups that a process is in: v2, then those of `CONTROLLERS`; 0 where there is none, or none is known.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PlaceKey {
    /// `kernfs_node.id` of each, which on 64-bit machines is the inode number of its directory.
    pub cgroups: [u64; HIERARCHIES],
}
const _: () = assert!(size_of::<PlaceKey>() == 40);

/// Who made a socket, and where it stood: inherited by accepted sockets.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maker {
    /// Who.
    pub owner: Owner,
    /// Where.
    pub place: Place,
}
const _: () = assert!(size_of::<Maker>() == 72);

/// Where the maker of a socket stood.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The cgroups.
    pub key: PlaceKey,
    /// When the process began, nanoseconds of `CLOCK_BOOTTIME`: tells it from a later one with the same id.
    pub started: u64,
}
const _: () = assert!(size_of::<Place>() == 48);

/// Bytes of all sockets of one place. They only grow, until user space takes the slot back.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PlaceTotals {
    /// Whose slot this is.
    pub key: PlaceKey,
    /// Application bytes received.
    pub received: u64,
    /// Application bytes sent; retransmissions add nothing.
    pub sent: u64,
    /// When the slot was taken, nanoseconds of `CLOCK_MONOTONIC`; 0: it is free. With its number a name that is not used
    /// twice.
    pub first: u64,
}
const _: () = assert!(size_of::<PlaceTotals>() == 64);

/// A cgroup: ids are unique within a hierarchy only.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupKey {
    /// `cgroup_root.hierarchy_id`; 0 is cgroup v2.
    pub hierarchy: u64,
    /// `kernfs_node.id`.
    pub id: u64,
}
const _: () = assert!(size_of::<CgroupKey>() == 16);

/// What a cgroup is called, caught when it is made: a dead one's directory cannot be read any more.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupName {
    /// Id of the cgroup that it is in; 0: it is a root.
    pub parent: u64,
    /// When it was removed, nanoseconds of `CLOCK_MONOTONIC`; 0: it is there.
    pub gone: u64,
    /// Its own name, without those above it.
    pub name: [u8; NAME],
}
const _: () = assert!(size_of::<CgroupName>() == 272);
