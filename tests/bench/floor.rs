//! Programs at the same hooks as ours that do a part of what any has to do there that books packets and exchanges, and nothing
//! with it: what bounds ours from below, which are measured in `programs`.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::RingBuf;
use aya::{Btf, Ebpf, EbpfLoader};

use crate::assembled::{Assembled, Code, Map, elf};
use crate::empty::attach;
use crate::loads::Load;
use crate::stage::Stage;

/// A ring as large as the journal, which is read all the while, and counters and scratch of a CPU.
const RING: Map = ("RING", [27, 0, 0, 16 << 20, 0]);
const COUNTERS: Map = ("COUNTERS", [6, 4, 16, 1024, 0]);
const SCRATCH: Map = ("SCRATCH", [6, 4, 512, 1, 0]);

/// Bytes of a record: as many as ours has of an exchange with the request line of these loads.
const RECORD: i32 = 168;

/// Helpers (`enum bpf_func_id`, `include/uapi/linux/bpf.h`).
const MAP_LOOKUP_ELEM: i32 = 1;
const KTIME_GET_NS: i32 = 5;
const SKB_LOAD_BYTES: i32 = 26;
const SK_STORAGE_GET: i32 = 107;
const RINGBUF_OUTPUT: i32 = 130;
const PROBE_READ_KERNEL: i32 = 113;
const GET_CURRENT_TASK_BTF: i32 = 158;

/// Ours, which these programs look up in too: what is kept of each socket, and of each observed connection. An agent that looks at
/// no packet has no use for the second.
pub(crate) const OURS: Map = ("SOCKET", [24, 4, 48, 0, 1]);
const CONNECTIONS: Map = ("CONN", [24, 4, 1784, 0, 1]);

/// Programs that look up what is kept of the packet's socket, by the load under which each is measured, and what each does. None of
/// ours runs beside it, so that nobody has brought that into a cache.
const FINDING: [(Load, &[(&str, &str)]); 6] = [
    (Load::KeptUnobserved, &[("floor_finds_sent", SENDING)]),
    (Load::FreshUnobserved, &[("floor_finds_sent", SENDING)]),
    (Load::LongBodiesObserved, &[("floor_finds_sent", SENDING)]),
    (Load::BodiesObserved, &HEADS),
    (Load::KeptObserved, &HEADS),
    (Load::FreshObserved, &HEADS),
];

const SENDING: &str = "finds what is kept of the socket, and asks which process runs, when a packet carries something";
const HEADS: [(&str, &str); 2] = [
    (
        "floor_heads_received",
        "finds what is kept of the connection, when a packet carries something, and takes a lock there; if it is what comes next by its \
         sequence number, copies the first 40 bytes of what it carries there, looks at each word for a line's end, and at each line's \
         first word, reads the clock",
    ),
    (
        "floor_heads_sent",
        "finds what is kept of the connection, when a packet carries something, asks which process runs, and whether it is what comes \
         next; where a request was, copies the first 240 bytes of what it carries, looks at each word and line, reads the clock, and \
         writes a record of 168 bytes, with what was kept of the request, into a ring",
    ),
];

/// Whether this is one of those.
pub(crate) fn finds_sockets(name: &str) -> bool {
    FINDING.iter().any(|(_, programs)| programs.iter().any(|(known, _)| *known == name))
}

/// The others: which load each is measured under, and what it does.
const WORDS: [(Load, &[(&str, &str)]); 2] = [
    (
        Load::KeptObserved,
        &[
            (
                "floor_received",
                "copies the first 96 bytes of the packet, headers included, looks at each word for a line's end, and at each line's first \
                 word, reads the clock",
            ),
            ("floor_sent", "the same for 288 bytes, and writes a record of 168 bytes into a ring"),
            ("floor_sends", "adds to two counters of its CPU, by the interface's index"),
        ],
    ),
    (Load::Datagrams, &[("floor_sends", "adds to two counters of its CPU, by the interface's index")]),
];

/// All of these.
pub(crate) const ALL: [&str; 3] = ["floor_received", "floor_sent", "floor_sends"];

/// Looks at each word of so many bytes, which lie at `at` from this register on, for a line's end, and whether the line behind it
/// begins as the one that says how long the body is. Of two line ends in one word the first. A loop, for where code is cold more of
/// it takes longer to fetch than to run. Registers 0 to 5 and 8.
fn looking_at(register: u8, at: i16, bytes: i16) -> Code {
    // A word has a zero byte where `x - 0x01..01 & !x & 0x80..80` is not zero; how many bytes lie in front of the first one is
    // counted by a multiplication.
    let begins = Code::default().copy(1, 2).push(0x07, [1, 0], 0, -1).push(0xa7, [2, 0], 0, -1);
    let begins = begins.push(0x5f, [1, 2], 0, 0).push(0x5f, [1, 4], 0, 0).push(0x2f, [1, 4], 0, 0);
    let begins = begins.push(0x77, [1, 0], 0, 56).push(0x07, [1, 0], 0, -1).push(0x57, [1, 0], 0, 7);
    let begins = begins.push(0x0f, [1, 0], 0, 0).copy(2, register).push(0x0f, [2, 1], 0, 0);
    let begins = begins.push(0x79, [1, 2], at + 1, 0).push(0x5d, [1, 5], 1, 0).set(1, 0);
    let word = Code::default().copy(2, register).push(0x0f, [2, 0], 0, 0).push(0x79, [1, 2], at, 0);
    let word = word.push(0xaf, [1, 3], 0, 0).copy(2, 1).push(0x1f, [2, 4], 0, 0).push(0xa7, [1, 0], 0, -1);
    let word = word.push(0x5f, [2, 1], 0, 0).push(0x5f, [2, 8], 0, 0).push(0x15, [2, 0], over(&begins), 0);
    let word = word.then(begins).push(0x07, [0, 0], 0, 8);
    let again = -1 - over(&word);
    let look = Code::default().wide(3, u64::from_ne_bytes([b'\n'; 8])).wide(4, u64::from_ne_bytes([1; 8]));
    let look = look.wide(8, u64::from_ne_bytes([0x80; 8])).wide(5, u64::from_ne_bytes(*b"Content-"));
    look.set(0, 0).then(word).push(0xa5, [0, 0], again, i32::from(bytes))
}

/// Where on the stack lies from which of the packet's bytes on is read.
const OFFSET: i16 = -16;

/// Copies so many bytes of the packet to `at` from this register on, looks at them there, and reads the clock; then what follows.
/// Of a packet that is too short nothing. The context is in register 6.
fn reading(register: u8, at: i16, bytes: i16, then: Code) -> Code {
    let read = looking_at(register, at, bytes).call(KTIME_GET_NS).then(then);
    let load = Code::default().copy(1, 6).push(0x79, [2, 10], OFFSET, 0);
    let load = load.copy(3, register).push(0x07, [3, 0], 0, i32::from(at)).set(4, i32::from(bytes));
    load.call(SKB_LOAD_BYTES).push(0x55, [0, 0], over(&read), 0).then(read)
}

/// The same, to scratch of this CPU, which register 9 points to.
fn reading_aside(bytes: i16, then: Code) -> Code {
    let read = Code::default().copy(9, 0).then(reading(9, 0, bytes, then));
    let find = Code::default().push(0x62, [10, 0], -4, 0).map(1, SCRATCH.0).copy(2, 10).push(0x07, [2, 0], 0, -4);
    find.call(MAP_LOOKUP_ELEM).push(0x15, [0, 0], over(&read), 0).then(read)
}

/// How far a jump goes that leaves this out.
fn over(code: &Code) -> i16 {
    i16::try_from(code.len()).unwrap_or(i16::MAX)
}

/// Writes a record of what lies at `at` from this register on; nobody is woken (`BPF_RB_NO_WAKEUP`).
fn recording(register: u8, at: i16) -> Code {
    let record = Code::default().map(1, RING.0).copy(2, register).push(0x07, [2, 0], 0, i32::from(at));
    record.set(3, RECORD).set(4, 1).call(RINGBUF_OUTPUT)
}

/// `struct __sk_buff`: `len` is its first field, `ifindex` its eleventh.
fn counting() -> Code {
    let find = Code::default().copy(6, 1).push(0x61, [1, 1], 40, 0).push(0x63, [10, 1], -4, 0);
    let find = find.map(1, COUNTERS.0).copy(2, 10).push(0x07, [2, 0], 0, -4).call(MAP_LOOKUP_ELEM);
    let mut add = Code::default().push(0x61, [2, 6], 0, 0);
    for (at, one) in [(0, false), (8, true)] {
        add = add.push(0x79, [1, 0], at, 0);
        add = if one { add.push(0x07, [1, 0], 0, 1) } else { add.push(0x0f, [1, 2], 0, 0) };
        add = add.push(0x7b, [0, 1], at, 0);
    }
    find.push(0x15, [0, 0], over(&add), 0).then(add).end(-1)
}

/// `does`, of a packet that carries something. TCP over IPv4 without options (RFC 791 3.1, RFC 9293 3.1), whose headers are read
/// where they lie (`struct __sk_buff`: `len`, `data`, `data_end`); `does` finds them by register 8, and the payload's length in
/// register 9. The context is in register 6.
fn if_carries(does: Code) -> Code {
    const HEADERS: i32 = 40;
    let does = Code::default().push(0x7b, [10, 4], OFFSET, 0).push(0x1f, [9, 4], 0, 0).then(does);
    let header = Code::default().push(0x71, [4, 8], 32, 0).push(0x77, [4, 0], 0, 4).push(0x67, [4, 0], 0, 2);
    let header =
        header.push(0x07, [4, 0], 0, 20).push(0x61, [9, 6], 0, 0).push(0x3d, [4, 9], over(&does), 0).then(does);
    let look = Code::default().push(0x61, [8, 6], 76, 0).push(0x61, [2, 6], 80, 0).copy(3, 8);
    look.push(0x07, [3, 0], 0, HEADERS).push(0x2d, [3, 2], over(&header), 0).then(header)
}

/// Finds what is kept in this map of the packet's socket (`struct __sk_buff`: `sk`), then `then`, with the value in register 7. The
/// context is in register 6.
fn finding(map: &'static str, then: Code) -> Code {
    let then = Code::default().copy(7, 0).then(then);
    let find = Code::default().map(1, map).set(3, 0).set(4, 0).call(SK_STORAGE_GET);
    let find = find.push(0x15, [0, 0], over(&then), 0).then(then);
    Code::default().push(0x79, [2, 6], 168, 0).push(0x15, [2, 0], over(&find), 0).then(find)
}

/// What is kept of a connection, by its place in the value: whether a request is waiting, the time of that, the next sequence
/// numbers of what is received and sent, a lock, the time of the answer, and the beginning of the request. A record is the first
/// `RECORD` bytes.
const WAITING: i16 = 0;
const RECEIVED: i16 = 8;
const NEXT_IN: i16 = 16;
const NEXT_OUT: i16 = 24;
const LOCK: i16 = 32;
const SENT: i16 = 40;
const REQUEST: i16 = 64;

/// `does`, if the segment is the one that comes next; what does is noted in any case.
fn if_next(next: i16, does: Code) -> Code {
    let seq = Code::default().push(0x61, [2, 8], 24, 0).push(0xdc, [2, 0], 0, 32).push(0x61, [3, 7], next, 0);
    let seq = seq.copy(4, 2).push(0x0f, [4, 9], 0, 0).push(0x63, [7, 4], next, 0);
    // The first one is, whatever its number.
    seq.push(0x15, [3, 0], 1, 0).push(0x5d, [3, 2], over(&does), 0).then(does)
}

/// Of a packet with a request, see `HEADS`.
fn request() -> Code {
    let note = Code::default().push(0x7b, [7, 0], RECEIVED, 0).push(0x7a, [7, 0], WAITING, 1);
    let read = if_next(NEXT_IN, reading(7, REQUEST, 40, note)).push(0x62, [7, 0], LOCK, 0);
    // `BPF_XCHG`: received segments of a connection may be on two processors.
    let lock = Code::default().set(1, 1).push(0xc3, [7, 1], LOCK, 0xe1).push(0x55, [1, 0], over(&read), 0);
    if_carries(finding(CONNECTIONS.0, lock.then(read)))
}

/// Of a packet of an answer, see `HEADS`.
fn answer() -> Code {
    let record = Code::default().push(0x7b, [7, 0], SENT, 0).then(recording(7, WAITING));
    let head = Code::default().push(0x7a, [7, 0], WAITING, 0).then(reading_aside(240, record));
    let look = Code::default().push(0x79, [1, 7], WAITING, 0).push(0x55, [1, 0], over(&head), 1).then(head);
    if_carries(finding(CONNECTIONS.0, Code::default().call(GET_CURRENT_TASK_BTF).then(if_next(NEXT_OUT, look))))
}

/// Makes a value of this map for a connection that begins (`struct bpf_sock_ops`: `op`, `sk`): `BPF_SOCK_OPS_TCP_CONNECT_CB` and
/// `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`.
pub(crate) fn keeping(map: &'static str) -> Code {
    let make = Code::default().map(1, map).set(3, 0).set(4, 1).call(SK_STORAGE_GET);
    let make = Code::default().push(0x79, [2, 1], 184, 0).push(0x15, [2, 0], over(&make), 0).then(make);
    // To `make` from the one, over it from whatever is not the other.
    Code::default().push(0x61, [3, 1], 0, 0).push(0x15, [3, 0], 1, 3).push(0x55, [3, 0], over(&make), 5).then(make)
}

/// Of a socket that is passed over (`struct bpf_iter__bpf_sk_storage_map`: `sk`, `value`) 16 bytes that no walk looks at, as its
/// sequence numbers are (`struct tcp_sock` has 2 KiB and more), and what is kept of it.
pub(crate) fn looking() -> Code {
    const FAR: i32 = 1536;
    let look = Code::default().copy(3, 6).push(0x07, [3, 0], 0, FAR).copy(1, 10).push(0x07, [1, 0], 0, -16);
    let look = look.set(2, 16).call(PROBE_READ_KERNEL).push(0x79, [1, 7], 24, 0);
    let begin = Code::default().push(0x79, [6, 1], 16, 0).push(0x79, [7, 1], 24, 0);
    begin.push(0x15, [6, 0], over(&look) + 1, 0).push(0x15, [7, 0], over(&look), 0).then(look)
}

/// A loader that takes `OURS` of an agent whose maps are pinned there.
pub(crate) fn loader(pins: &Path) -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    for (name, _) in [OURS, CONNECTIONS] {
        loader.map_pin_path(name, pins.join("maps").join(name));
    }
    loader
}

/// The program that keeps something of each connection; it is not measured here.
const KEEPS: &str = "floor_keeps";

/// What the programs take that are measured under this load: name, what it does, and how long it ran.
pub(crate) fn under(stage: &Stage, load: Load, seconds: u32) -> Result<Vec<(&'static str, &'static str, Ran)>> {
    let run = || load.run(stage, seconds);
    let mut found = Vec::new();
    for (_, programs) in WORDS.into_iter().filter(|(of, _)| *of == load) {
        let names: Vec<&str> = programs.iter().map(|(name, _)| *name).collect();
        found.extend(programs.iter().zip(measure(stage, &names, run)?));
    }
    for (_, programs) in FINDING.into_iter().filter(|(of, _)| *of == load) {
        let agent = stage.agent_without_packets()?;
        let names: Vec<&str> = programs.iter().map(|(name, _)| *name).collect();
        found.extend(programs.iter().zip(finds(stage, agent.pins(), &names, run)?));
    }
    Ok(found.into_iter().map(|((name, words), ran)| (*name, *words, ran)).collect())
}

/// These of `FINDING` while `load` runs beside an agent whose maps are pinned there, and which looks at no packet.
fn finds(stage: &Stage, pins: &Path, names: &[&str], load: impl FnOnce() -> Result<u64>) -> Result<Vec<Ran>> {
    let sending = if_carries(finding(OURS.0, Code::default().call(GET_CURRENT_TASK_BTF)));
    let (received, sent) = ("cgroup_skb/ingress", "cgroup_skb/egress");
    let programs = [
        (sent, "floor_finds_sent", sending),
        (received, "floor_heads_received", request()),
        (sent, "floor_heads_sent", answer()),
        ("sockops", KEEPS, keeping(CONNECTIONS.0)),
    ]
    .map(|(section, name, does)| Assembled { section, name, code: Code::default().copy(6, 1).then(does).end(1) });
    let maps = [OURS, CONNECTIONS, RING, SCRATCH];
    let mut ebpf = loader(pins).load(&elf(&programs, &maps)?).context("cannot load the programs that only look up")?;
    attach_all(stage, &mut ebpf, names)?;
    attach_all(stage, &mut ebpf, &[KEEPS])?;
    let (requests, records) = while_read(&mut ebpf, load)?;
    if names.contains(&"floor_heads_sent") {
        // As many as wrk had answers, but for those that are left in the ring and those that wrk did not wait for.
        anyhow::ensure!(records * 10 > requests * 9, "{records} records of {requests} requests");
    }
    names.iter().map(|name| ran(&ebpf, name)).collect()
}

/// What the kernel measured of a program.
#[derive(Clone, Copy)]
pub(crate) struct Ran {
    pub(crate) time: Duration,
    pub(crate) count: u64,
}

fn ran(ebpf: &Ebpf, name: &str) -> Result<Ran> {
    let info = ebpf.program(name).with_context(|| format!("no program {name}"))?.info()?;
    Ok(Ran { time: info.run_time(), count: info.run_count() })
}

/// Runs `load` while these programs, of those that `WORDS` names, are attached and their ring is read; what it gives, the programs,
/// and how many records there were.
pub(crate) fn beside<T>(stage: &Stage, names: &[&str], load: impl FnOnce() -> Result<T>) -> Result<(T, Ebpf, u64)> {
    let of_each = |does: Code| Code::default().copy(6, 1).push(0x7a, [10, 0], OFFSET, 0).then(does).end(1);
    let programs = [
        Assembled {
            section: "cgroup_skb/ingress",
            name: "floor_received",
            code: of_each(reading_aside(96, Code::default())),
        },
        Assembled {
            section: "cgroup_skb/egress",
            name: "floor_sent",
            code: of_each(reading_aside(288, recording(9, 0))),
        },
        Assembled { section: "classifier/sent", name: "floor_sends", code: counting() },
    ];
    let mut ebpf = EbpfLoader::new()
        .load(&elf(&programs, &[RING, COUNTERS, SCRATCH])?)
        .context("cannot load the floor's programs")?;
    attach_all(stage, &mut ebpf, names)?;
    let (given, records) = while_read(&mut ebpf, load)?;
    Ok((given, ebpf, records))
}

fn attach_all(stage: &Stage, ebpf: &mut Ebpf, names: &[&str]) -> Result<()> {
    let btf = Btf::from_sys_fs()?;
    let group = File::open(&stage.group.path)?;
    for name in names {
        let program = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?;
        stage.here.enter(|| attach(program, name, &group, &btf).map_err(anyhow::Error::from))?;
    }
    Ok(())
}

/// Runs `load` while the programs' ring is read; what it gives, and how many records there were.
fn while_read<T>(ebpf: &mut Ebpf, load: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let mut ring = RingBuf::try_from(ebpf.take_map(RING.0).context("no ring")?)?;
    let over = AtomicBool::new(false);
    let mut records = 0_u64;
    let given = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                while ring.next().is_some() {
                    records += 1;
                }
                // Nobody wakes it; this is how long it leaves the processor to the load.
                thread::park_timeout(Duration::from_millis(20));
            }
        });
        let result = load();
        over.store(true, Ordering::Relaxed);
        result
    })?;
    Ok((given, records))
}

/// These of `WORDS` while `load` runs.
fn measure(stage: &Stage, names: &[&str], load: impl FnOnce() -> Result<u64>) -> Result<Vec<Ran>> {
    let (_, ebpf, records) = beside(stage, names, load)?;
    for name in names.iter().filter(|name| **name == "floor_sent") {
        let count = ran(&ebpf, name)?.count;
        anyhow::ensure!(records * 10 > count * 9, "{records} records of {count} runs");
    }
    names.iter().map(|name| ran(&ebpf, name)).collect()
}
