//! Version, names and numbers of the maps. Their capacities are defaults that user space may override at load time.

/// Version of the pinned maps. A record of a pinned map never changes: what a newer version wants to keep beside it is
/// in a map of its own, which an upgrade makes. So every version from `OLDEST` on is taken over without a gap. 7: bodies
/// noted in fields of `Socket` that were there, which no older version would understand. 8: `SERVED`. 9: `BODIES` instead of 7,
/// `Side::ready`, and `Conn::note_user`. 10: `Body::ended`.
pub const VERSION: u32 = 10;
/// The oldest version that is taken over.
pub const OLDEST: u32 = 1;

/// Where in `LAYOUT` the agent is that passes over the sockets, as `Socket::user` tells processes; 0: none is noted.
pub const AGENT: usize = 3;

/// `Outside::lost`: the journal was full.
pub const LOSS_JOURNAL: u32 = 0;
/// `Outside::lost`: no room for another pipelined request.
pub const LOSS_PIPELINE: u32 = 1;
/// `Outside::lost`: the kernel had no memory for a socket's state.
pub const LOSS_STORAGE: u32 = 2;
/// `Outside::lost`: bytes that arrived out of order found no room.
pub const LOSS_STASH: u32 = 3;
/// `Outside::lost`: a packet could not be read (all windows of this CPU in use, or no linear header).
pub const LOSS_PACKET: u32 = 4;
/// `Outside::lost`: a map of totals was full, bytes went to its overflow entry.
pub const LOSS_TOTALS: u32 = 5;
/// `Outside::lost`: a listener's port was not noted, the role of sockets older than the agent may be wrong.
pub const LOSS_LISTENERS: u32 = 6;
/// Number of kinds of loss.
pub const LOSSES: u32 = 7;

/// Label values of the kinds of loss.
pub const LOSS_NAMES: [&str; LOSSES as usize] =
    ["journal", "pipeline", "storage", "stash", "packet", "totals", "listeners"];

/// Fields of the kernel's structures that are read at offsets which user space takes from the kernel's BTF.
pub mod field {
    /// `struct tcp_sock`: bytes_received.
    pub const BYTES_RECEIVED: usize = 0;
    /// `struct tcp_sock`: bytes_acked.
    pub const BYTES_ACKED: usize = 1;
    /// `struct tcp_sock`: bytes_retrans.
    pub const BYTES_RETRANS: usize = 2;
    /// `struct tcp_sock`: snd_nxt.
    pub const SND_NXT: usize = 3;
    /// `struct tcp_sock`: snd_una.
    pub const SND_UNA: usize = 4;
    /// `struct tcp_sock`: rcv_nxt.
    pub const RCV_NXT: usize = 5;
    /// `struct tcp_sock`: rcv_wnd.
    pub const RCV_WND: usize = 6;
    /// `struct tcp_sock`: rcv_wup.
    pub const RCV_WUP: usize = 7;
    /// `struct tcp_sock`: write_seq.
    pub const WRITE_SEQ: usize = 8;
    /// `struct tcp_sock`: srtt_us.
    pub const SRTT_US: usize = 9;
    /// `struct sock_common`: skc_flags.
    pub const SKC_FLAGS: usize = 10;
    /// `struct sock_common`: skc_net.net.
    pub const SKC_NET: usize = 11;
    /// `struct net`: ns.inum.
    pub const NET_INUM: usize = 12;
    /// `struct sock_common`: skc_state.
    pub const SKC_STATE: usize = 13;
    /// `struct sock_common`: skc_num.
    pub const SKC_NUM: usize = 14;
    /// `struct sock_common`: skc_dport.
    pub const SKC_DPORT: usize = 15;
    /// `struct task_struct`: group_leader.
    pub const GROUP_LEADER: usize = 16;
    /// `struct task_struct`: comm.
    pub const TASK_COMM: usize = 17;
    /// `struct tcp_sock`: copied_seq.
    pub const COPIED_SEQ: usize = 18;
    /// `struct sock`: sk_cgrp_data.cgroup.
    pub const SK_CGROUP: usize = 19;
    /// `struct cgroup`: kn.
    pub const CGROUP_NODE: usize = 20;
    /// `struct kernfs_node`: id.
    pub const NODE_ID: usize = 21;
    /// `struct cgroup`: self.parent.
    pub const CGROUP_PARENT: usize = 22;
    /// `struct cgroup_subsys_state`: cgroup.
    pub const STATE_CGROUP: usize = 23;
    /// `struct task_struct`: nsproxy.
    pub const TASK_NAMESPACES: usize = 24;
    /// `struct nsproxy`: net_ns.
    pub const NAMESPACES_NET: usize = 25;
    /// `struct sock`: sk_userlocks; its offset is in bits, since some kernels have it in the middle of a byte.
    pub const SK_USERLOCKS: usize = 26;
    /// `struct task_struct`: cgroups.
    pub const TASK_CGROUPS: usize = 27;
    /// `struct css_set`: dfl_cgrp, its cgroup v2.
    pub const SET_UNIFIED: usize = 28;
    /// `struct css_set`: subsys, a pointer for each controller.
    pub const SET_STATES: usize = 29;
    /// `struct cgroup`: root.
    pub const CGROUP_ROOT: usize = 30;
    /// `struct cgroup_root`: hierarchy_id.
    pub const ROOT_HIERARCHY: usize = 31;
    /// `struct kernfs_node`: name.
    pub const NODE_NAME: usize = 32;
    /// `struct task_struct`: start_boottime.
    pub const TASK_STARTED: usize = 33;
    /// `struct task_struct`: flags.
    pub const TASK_FLAGS: usize = 34;
    /// `struct socket`: sk.
    pub const SOCKET_SK: usize = 35;
    /// `struct task_struct`: tgid.
    pub const TASK_GROUP: usize = 36;
    /// `struct sock_common`: skc_family.
    pub const SKC_FAMILY: usize = 37;
    /// `struct sock`: sk_lock.owned.
    pub const SK_HELD: usize = 38;
    /// `struct sock_common`: skc_rcv_saddr.
    pub const SKC_LOCAL: usize = 39;
    /// `struct sock_common`: skc_daddr.
    pub const SKC_REMOTE: usize = 40;
    /// `struct sock_common`: skc_v6_rcv_saddr; none in a kernel without IPv6.
    pub const SKC_LOCAL6: usize = 41;
    /// `struct sock_common`: skc_v6_daddr, likewise.
    pub const SKC_REMOTE6: usize = 42;
    /// `struct tcp_sock`: rcv_mwnd_seq, the highest right edge of a window that was ever advertised; none before 7.1.
    pub const RCV_MOST: usize = 43;
    /// `struct sock`: sk_lock.slock.rlock.raw_lock.val, on processors whose spinlocks are queued (`struct qspinlock`).
    pub const SK_SPIN: usize = 44;
    /// `struct bpf_local_storage_elem`: state, of kernels in which no scan is safe (`kernel/scan.rs`); none before 7.0.
    pub const STORAGE_STATE: usize = 45;
    /// How many.
    pub const COUNT: usize = 46;

    /// What stands in the kernel object where the offset of a field is to stand: the value of a load of 64 bits.
    #[must_use]
    pub const fn place(field: usize) -> u64 {
        (PLACE as u64) << 32 | field as u64
    }

    /// The upper half of that, and no other instruction's.
    pub const PLACE: u32 = 0x0ff5_e7ed;

    /// Structure and path of each field, in the order of the indexes.
    pub const NAMES: [(&str, &str); COUNT] = [
        ("tcp_sock", "bytes_received"),
        ("tcp_sock", "bytes_acked"),
        ("tcp_sock", "bytes_retrans"),
        ("tcp_sock", "snd_nxt"),
        ("tcp_sock", "snd_una"),
        ("tcp_sock", "rcv_nxt"),
        ("tcp_sock", "rcv_wnd"),
        ("tcp_sock", "rcv_wup"),
        ("tcp_sock", "write_seq"),
        ("tcp_sock", "srtt_us"),
        ("sock_common", "skc_flags"),
        ("sock_common", "skc_net.net"),
        ("net", "ns.inum"),
        ("sock_common", "skc_state"),
        ("sock_common", "skc_num"),
        ("sock_common", "skc_dport"),
        ("task_struct", "group_leader"),
        ("task_struct", "comm"),
        ("tcp_sock", "copied_seq"),
        ("sock", "sk_cgrp_data.cgroup"),
        ("cgroup", "kn"),
        ("kernfs_node", "id"),
        ("cgroup", "self.parent"),
        ("cgroup_subsys_state", "cgroup"),
        ("task_struct", "nsproxy"),
        ("nsproxy", "net_ns"),
        ("sock", "sk_userlocks"),
        ("task_struct", "cgroups"),
        ("css_set", "dfl_cgrp"),
        ("css_set", "subsys"),
        ("cgroup", "root"),
        ("cgroup_root", "hierarchy_id"),
        ("kernfs_node", "name"),
        ("task_struct", "start_boottime"),
        ("task_struct", "flags"),
        ("socket", "sk"),
        ("task_struct", "tgid"),
        ("sock_common", "skc_family"),
        ("sock", "sk_lock.owned"),
        ("sock_common", "skc_rcv_saddr"),
        ("sock_common", "skc_daddr"),
        ("sock_common", "skc_v6_rcv_saddr"),
        ("sock_common", "skc_v6_daddr"),
        ("tcp_sock", "rcv_mwnd_seq"),
        ("sock", "sk_lock.slock.rlock.raw_lock.val"),
        ("bpf_local_storage_elem", "state"),
    ];
}

/// Telling the verifier that a pointer is a TCP socket's, which user space makes cost nothing where the kernel lets it.
pub mod cast {
    /// What stands in the kernel object where the id of `struct tcp_sock` is to stand, right in front of a call of `HELPER`: the
    /// value of a load of 64 bits.
    pub const PLACE: u64 = 0x0ca5_7ed0_0000_0000;
    /// The function that is called where there is no other way: it asks the socket (`BPF_FUNC_skc_to_tcp_sock`,
    /// include/uapi/linux/bpf.h).
    pub const HELPER: u32 = 137;
}

/// Most services that can be observed at once; each has a slot in the spill map.
pub const SERVICES: u32 = 64;

/// Key of a request in the overflow map.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeepKey {
    /// Socket cookie.
    pub cookie: u64,
    /// Number of the request.
    pub number: u64,
}

/// Key of a listening port.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerKey {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Port, host order.
    pub port: u32,
}

/// Where a connection of the agent's own comes from.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnKey {
    /// Its address; of IPv4 the mapped one (RFC 4291 2.5.5.2).
    pub address: [u8; 16],
    /// Port, host order.
    pub port: u32,
    /// Inode number of the network namespace if the address is a loopback one, which every namespace has; else 0.
    pub netns: u32,
}
const _: () = assert!(size_of::<OwnKey>() == 24);

impl OwnKey {
    /// The mapped address.
    #[inline(always)]
    #[must_use]
    pub const fn mapped(address: [u8; 4]) -> [u8; 16] {
        let [a, b, c, d] = address;
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
    }

    /// The key of that address (mapped, if it is an IPv4 one) and port, in a namespace.
    #[inline(always)]
    #[must_use]
    pub const fn new(address: [u8; 16], port: u16, netns: u32) -> Self {
        let value = u128::from_be_bytes(address);
        // ::1, and ::ffff:127.0.0.0/104.
        let is_loopback = value == 1 || value >> 24 == 0xff_ff7f;
        Self { address, port: port as u32, netns: if is_loopback { netns } else { 0 } }
    }
}

/// Bytes whose posting found the journal full when their connection ended, per service: what a posting would have said.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spill {
    /// As in `Posting`.
    pub stream: [u64; 2],
    /// As in `Posting`, all reasons; they are booked as lost.
    pub lost: [u64; 2],
    /// As in `Posting`.
    pub open: [i64; 2],
    /// As in `Posting`.
    pub requests: u64,
}
const _: () = assert!(size_of::<Spill>() == 56);

/// Sizes of what user space keeps in the kernel.
pub mod books {
    /// One cell.
    pub const CELL: usize = 640;
    /// One service's ledger.
    pub const LEDGER: usize = 512;
    /// One job or container.
    pub const HOLDER: usize = 640;
    /// Most cells and ledgers that one batch changes.
    pub const BATCH_RECORDS: usize = 24;
    /// One batch: how far the journal was read, and the records that changed, each with what it is.
    pub const BATCH: usize = 16 + BATCH_RECORDS * (8 + CELL);
}
