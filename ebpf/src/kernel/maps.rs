//! All maps. Beside each its capacity (what is configured may replace it), what it costs, and what happens when it is full.

use core::ffi::c_void;

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, Queue, RingBuf};
use aya_ebpf::helpers::generated::{bpf_sk_storage_delete, bpf_sk_storage_get};
use aya_ebpf::macros::btf_map;
use sockmeter_ebpf::body::{self, Body};
use sockmeter_ebpf::conn::{Conn, Entry};
use sockmeter_ebpf::http::window::Window;
use sockmeter_ebpf::interface::{self, Interface};
use sockmeter_ebpf::layout::{DeepKey, LOSSES, ListenerKey, OwnKey, SERVICES, Spill, books};
use sockmeter_ebpf::place::{CgroupKey, CgroupName, Maker, PlaceKey, PlaceTotals};
use sockmeter_ebpf::served::Served;
use sockmeter_ebpf::socket::{RoundTripKey, RoundTrips, Scanned, Socket, Totals, TotalsKey};
use sockmeter_ebpf::stash::{self, Block, Stash};

use super::handshake::Handshake;

const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;
/// Sockets that are accepted inherit the listener's value (`include/uapi/linux/bpf.h`, `BPF_F_CLONE`).
const CLONED: usize = NO_PREALLOC | (1 << 9);

/// Socket storage: lives and dies with its socket. No capacity; when the kernel has no memory (or the socket's
/// `optmem_max` is used up) the socket is not observed, which is counted.
#[repr(C)]
pub(super) struct Storage<T, const FLAGS: usize> {
    r#type: *const [i32; 24],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; FLAGS],
}

// SAFETY: a definition for the loader, never dereferenced.
unsafe impl<T, const FLAGS: usize> Sync for Storage<T, FLAGS> {}

impl<T, const FLAGS: usize> Storage<T, FLAGS> {
    const fn new() -> Self {
        Self {
            r#type: core::ptr::null(),
            key: core::ptr::null(),
            value: core::ptr::null(),
            max_entries: core::ptr::null(),
            map_flags: core::ptr::null(),
        }
    }

    /// The value of socket `sk` (any of the kernel's socket pointers); `create`: made, all zero, if there is none.
    #[inline(always)]
    pub(super) fn of(&self, sk: *mut c_void, create: bool) -> Option<&'static mut T> {
        self.of_or(sk, core::ptr::null_mut(), create)
    }

    /// The same; made as a copy of `first`, if that is not null.
    #[inline(always)]
    pub(super) fn of_or(&self, sk: *mut c_void, first: *mut T, create: bool) -> Option<&'static mut T> {
        // SAFETY: the verifier checks that `sk` is a socket; values live as long as the program runs (RCU).
        unsafe {
            let map = core::ptr::from_ref(self).cast_mut().cast();
            bpf_sk_storage_get(map, sk, first.cast(), u64::from(create)).cast::<T>().as_mut()
        }
    }

    /// Takes the value of socket `sk` away; who found it before still has it.
    #[inline(always)]
    pub(super) fn delete(&self, sk: *mut c_void) {
        // SAFETY: the verifier checks that `sk` is a socket.
        unsafe { bpf_sk_storage_delete(core::ptr::from_ref(self).cast_mut().cast(), sk) };
    }
}

/// Every TCP and UDP socket in scope: 48 bytes each, for which the kernel takes 128, and 192 for the socket's list of storages.
#[btf_map]
pub(super) static SOCKET: Storage<Socket, NO_PREALLOC> = Storage::new();

/// Who made the socket, and where that process stood: 72 bytes, for which the kernel takes 192.
#[btf_map]
pub(super) static MAKER: Storage<Maker, CLONED> = Storage::new();

/// Observed connections only: 1,784 bytes each. With what the kernel keeps in front of them that is a block of 2 KiB.
#[btf_map]
pub(super) static CONN: Storage<Conn, NO_PREALLOC> = Storage::new();

/// The journal: 16 MiB, that is 65,536 exchanges with request lines of up to 100 bytes. Full: detail is lost and counted,
/// the bytes wait in the socket and go to `lost`.
#[btf_map]
pub(super) static JOURNAL: RingBuf<[u8; 0], { 16 * 1024 * 1024 }> = RingBuf::new();

/// Pipelined requests beyond those kept in the connection: allocated when used, 450 bytes each, 7 MiB at most. Full: the
/// connection's detail is given up, its bytes go to `lost`.
#[btf_map]
pub(super) static DEEP: HashMap<DeepKey, Entry, 16384, NO_PREALLOC> = HashMap::new();

/// A blank entry to copy from: it would not fit on the stack.
#[btf_map]
pub(super) static BLANK: Array<Entry, 1> = Array::new();

/// Ports of the observed services, to the number of the service. Small, written by user space only.
#[btf_map]
pub(super) static SERVICE_PORTS: HashMap<u32, u32, 4096> = HashMap::new();

/// Local ports whose packets are looked at further: 16 KiB.
#[btf_map]
pub(super) static SERVED: Array<Served, 1> = Array::new();

/// Bodies that observed connections are sending, or sent last, by their ports: 128 KiB.
#[btf_map]
pub(super) static BODIES: Array<Body, { body::BODIES as usize }> = Array::new();

/// Where the agent's own connections come from, while it has them. Written by user space only; full, the agent's requests
/// would count as anybody's.
#[btf_map]
pub(super) static OWN: HashMap<OwnKey, u32, 64> = HashMap::new();

/// What could not be posted when its connection ended, by service.
#[btf_map]
pub(super) static SPILLS: Array<Spill, { SERVICES as usize }> = Array::new();

/// Losses of detail, by kind.
#[btf_map]
pub(super) static LOST: PerCpuArray<u64, { LOSSES as usize }> = PerCpuArray::new();

/// Bytes by protocol, role, port and process: 8,192 keys, allocated when used, about 120 bytes each. Full: the bytes go
/// to the overflow key, which user space makes beforehand.
#[btf_map]
pub(super) static TOTALS: HashMap<TotalsKey, Totals, 8192, NO_PREALLOC> = HashMap::new();

/// Round-trip times by role and port: 1,024 keys. Full: the overflow key.
#[btf_map]
pub(super) static ROUND_TRIPS: HashMap<RoundTripKey, RoundTrips, 1024, NO_PREALLOC> = HashMap::new();

/// Sockets begun and ended: `[opened, closed]` by protocol (TCP, UDP) and role, see `totals`.
#[btf_map]
pub(super) static SOCKETS: PerCpuArray<[u64; 2], 8> = PerCpuArray::new();

/// Ports that somebody listens on, as the snapshot pass saw them: tells the role of sockets older than the agent.
#[btf_map]
pub(super) static LISTENERS: HashMap<ListenerKey, u32, 16384, NO_PREALLOC> = HashMap::new();

/// Namespaces in which the last scan found a socket that has more to settle, by inode number; read and emptied by user space.
/// Full: `Scanned::unnoted`, and all namespaces are passed over.
#[btf_map]
pub(super) static UNSETTLED: HashMap<u32, u32, 4096, NO_PREALLOC> = HashMap::new();

/// What scans found: 1 KiB.
#[btf_map]
pub(super) static SCANNED: Array<Scanned, 1> = Array::new();

/// Interfaces with an index below 1,024: 96 KiB a CPU.
#[btf_map]
pub(super) static INTERFACES: PerCpuArray<Interface, { interface::DIRECT as usize }> = PerCpuArray::new();

/// The others; user space makes the entries. Without one the packet is not counted, which `sockmeter_program_attached`
/// would not tell: so user space attaches only after it made the entry.
#[btf_map]
pub(super) static FAR_INTERFACES: PerCpuHashMap<u32, Interface, 4096, NO_PREALLOC> = PerCpuHashMap::new();

/// A window to read in. Four a CPU: the send hook may be interrupted by the receive hook, and be preempted.
#[repr(C)]
pub(super) struct Desk {
    /// 1: in use.
    pub(super) taken: u32,
    pad: u32,
    /// The window.
    pub(super) window: Window,
}

/// Desks per CPU.
pub(super) const DESKS: u32 = 4;

/// What came with the handshake of the connection that this CPU is about to make: 18 KiB.
#[btf_map]
pub(super) static HANDSHAKES: PerCpuArray<Handshake, 1> = PerCpuArray::new();

/// About 1 KiB each. All in use: the packet is not read, counted as a loss.
#[btf_map]
pub(super) static WINDOWS: PerCpuArray<Desk, { DESKS as usize }> = PerCpuArray::new();

/// The books of user space, which the programs never touch: they are maps so that they live exactly as long as the
/// kernel's own, whatever happens to the agent. A cell per (service, method, endpoint, status); full: the agent books
/// under `other`.
#[btf_map]
pub(super) static BOOK_CELLS: HashMap<u32, [u8; books::CELL], 16384, NO_PREALLOC> = HashMap::new();

/// A ledger per service, by its number.
#[btf_map]
pub(super) static BOOK_LEDGERS: HashMap<u32, [u8; books::LEDGER], { SERVICES as usize }, NO_PREALLOC> = HashMap::new();

/// What user space changed of these last, and how far it had read the journal by then: 16 KB.
#[btf_map]
pub(super) static BOOK_BATCH: Array<[u8; books::BATCH], 1> = Array::new();

/// `[layout::VERSION, fingerprint of the programs that are attached, their cgroup, the agent (layout::AGENT)]`.
#[btf_map]
pub(super) static LAYOUT: Array<[u64; 4], 1> = Array::new();

/// Interfaces whose device sees the segments of what comes here merged: their headers are counted apart.
#[btf_map]
pub(super) static SEGMENTED: HashMap<u32, u32, 8192, NO_PREALLOC> = HashMap::new();

/// Names of the interfaces that were ever counted, by index.
#[btf_map]
pub(super) static INTERFACE_NAMES: HashMap<u32, [u8; 16], 8192, NO_PREALLOC> = HashMap::new();

/// Which pieces of a connection's stream are kept: 6 KiB, made when something arrives early.
#[btf_map]
pub(super) static STASH: Storage<Stash, NO_PREALLOC> = Storage::new();

/// The pieces' bytes: 512 blocks of 16 KiB. All in use: the connection's detail is given up, its bytes go to `lost`.
#[btf_map]
pub(super) static BLOCKS: Array<Block, { stash::BLOCKS as usize }> = Array::new();

/// How many blocks are in use.
#[btf_map]
pub(super) static STASHED: Array<u64, 1> = Array::new();

/// Numbers of the free blocks; user space fills it when it makes the maps.
#[btf_map]
pub(super) static FREE_BLOCKS: Queue<u32, { stash::BLOCKS as usize }> = Queue::new();

/// The slot of each place: 8,192, about 100 bytes each, allocated when used. Full: the bytes go to slot 0, whose place is
/// not known.
#[btf_map]
pub(super) static PLACE_SLOTS: HashMap<PlaceKey, u32, 8192, NO_PREALLOC> = HashMap::new();

/// Bytes by slot: 512 KiB. Slots are given back by user space only, when nobody can be adding to them any more.
#[btf_map]
pub(super) static PLACE_TOTALS: Array<PlaceTotals, 8192> = Array::new();

/// Numbers of the free slots; user space fills it when it makes the maps.
#[btf_map]
pub(super) static FREE_SLOTS: Queue<u32, 8192> = Queue::new();

/// Names of cgroups: 16,384, about 330 bytes each, allocated when used. Full: what is in a cgroup that is gone before user
/// space looked has no name, and its bytes go to `other`.
#[btf_map]
pub(super) static CGROUP_NAMES: HashMap<CgroupKey, CgroupName, 16384, NO_PREALLOC> = HashMap::new();

/// A place to put a cgroup's name together: it would not fit on the stack. Cgroups are made one after the other, under
/// the kernel's lock (`cgroup_mutex`).
#[btf_map]
pub(super) static NAMING: PerCpuArray<CgroupName, 1> = PerCpuArray::new();

/// Cgroups that were removed, for user space to read. Full: it looks through all the names.
#[btf_map]
pub(super) static CGROUPS_GONE: Queue<CgroupKey, 16384> = Queue::new();

/// What user space took from slots that it gave back, which the programs never touch: a record for each job and each
/// container that it keeps a series for. 16,384 of 640 bytes, when used; before that is full the agent books under `other`.
#[btf_map]
pub(super) static BOOK_HOLDERS: HashMap<u32, [u8; books::HOLDER], 16384, NO_PREALLOC> = HashMap::new();
