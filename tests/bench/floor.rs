//! What no program that looks at packets can be below: programs which do a part of what any of them has to do, and nothing with
//! it. Ours are measured in `programs`.

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

/// A ring as large as the journal, which is read all the while, and counters of a CPU.
const MAPS: [Map; 2] = [("RING", [27, 0, 0, 16 << 20, 0]), ("COUNTERS", [6, 4, 16, 1024, 0])];

/// Bytes of a record: an exchange with the request line of this load.
const RECORD: i32 = 184;

/// Helpers (`enum bpf_func_id`, `include/uapi/linux/bpf.h`).
const MAP_LOOKUP_ELEM: i32 = 1;
const KTIME_GET_NS: i32 = 5;
const SKB_LOAD_BYTES: i32 = 26;
const SK_STORAGE_GET: i32 = 107;
const RINGBUF_OUTPUT: i32 = 130;
const PROBE_READ_KERNEL: i32 = 113;
const GET_CURRENT_TASK_BTF: i32 = 158;

/// Ours, which these programs look up in too: what is kept of each socket.
pub(crate) const OURS: Map = ("SOCKET", [24, 4, 48, 0, 1]);

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
        "finds what is kept of the socket, when a packet carries something, and notes there that there was a request; copies its first \
         96 bytes, looks at each word for a line's end, reads the clock",
    ),
    (
        "floor_heads_sent",
        "finds what is kept of the socket, when a packet carries something, and asks which process runs; where a request was, copies \
         the first 288 bytes, looks at each word, reads the clock, and writes a record of 184 bytes into a ring",
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
                "copies the first 96 bytes of the packet, looks at each word for a line's end, reads the clock",
            ),
            ("floor_sent", "the same for 288 bytes, and writes a record of 184 bytes into a ring"),
            ("floor_sends", "adds to two counters of its CPU, by the interface's index"),
        ],
    ),
    (Load::Datagrams, &[("floor_sends", "adds to two counters of its CPU, by the interface's index")]),
];

/// All of these.
pub(crate) const ALL: [&str; 3] = ["floor_received", "floor_sent", "floor_sends"];

/// Copies so many bytes of the packet and looks at each word for a line's end; then what follows.
fn reading(bytes: i16, then: Code) -> Code {
    let size = i32::from(bytes);
    let mut look = Code::default().wide(7, u64::from_ne_bytes([b'\n'; 8])).wide(8, u64::from_ne_bytes([1; 8]));
    look = look.wide(9, u64::from_ne_bytes([0x80; 8])).set(5, 0);
    for at in (-bytes..0).step_by(8) {
        // A word has a zero byte where `(x - 0x01..01) & !x & 0x80..80` is not zero.
        look = look.push(0x79, [1, 10], at, 0).push(0xaf, [1, 7], 0, 0).copy(2, 1);
        look = look.push(0x1f, [2, 8], 0, 0).push(0xa7, [1, 0], 0, -1);
        look = look.push(0x5f, [2, 1], 0, 0).push(0x5f, [2, 9], 0, 0).push(0x4f, [5, 2], 0, 0);
    }
    let look = look.call(KTIME_GET_NS).then(then);
    // A packet that is too short is let go.
    let over = i16::try_from(look.len()).unwrap_or(i16::MAX);
    let load = Code::default().set(2, 0).copy(3, 10).push(0x07, [3, 0], 0, -size).set(4, size);
    load.call(SKB_LOAD_BYTES).push(0x55, [0, 0], over, 0).then(look).end(1)
}

/// A record of what was copied; nobody is woken (`BPF_RB_NO_WAKEUP`).
fn recording(bytes: i16) -> Code {
    let record = Code::default().map(1, "RING").copy(2, 10).push(0x07, [2, 0], 0, -i32::from(bytes));
    record.set(3, RECORD).set(4, 1).call(RINGBUF_OUTPUT)
}

/// `struct __sk_buff`: `len` is its first field, `ifindex` its eleventh.
fn counting() -> Code {
    let find = Code::default().copy(6, 1).push(0x61, [1, 1], 40, 0).push(0x63, [10, 1], -4, 0);
    let find = find.map(1, "COUNTERS").copy(2, 10).push(0x07, [2, 0], 0, -4).call(MAP_LOOKUP_ELEM);
    let mut add = Code::default().push(0x61, [2, 6], 0, 0);
    for (at, one) in [(0, false), (8, true)] {
        add = add.push(0x79, [1, 0], at, 0);
        add = if one { add.push(0x07, [1, 0], 0, 1) } else { add.push(0x0f, [1, 2], 0, 0) };
        add = add.push(0x7b, [0, 1], at, 0);
    }
    let over = i16::try_from(add.len()).unwrap_or(i16::MAX);
    find.push(0x15, [0, 0], over, 0).then(add).end(-1)
}

/// `does`, of a packet that carries something; over it, of any other. TCP over IPv4 without options (RFC 791 3.1, RFC 9293 3.1), whose
/// headers are read where they lie (`struct __sk_buff`: `len`, `data`, `data_end`). The context is in register 6.
fn if_carries(does: Code) -> Code {
    const HEADERS: i32 = 40;
    let over = |more: usize| i16::try_from(does.len() + more).unwrap_or(i16::MAX);
    let look = Code::default().push(0x61, [1, 6], 76, 0).push(0x61, [2, 6], 80, 0).copy(3, 1);
    let look = look.push(0x07, [3, 0], 0, HEADERS).push(0x2d, [3, 2], over(6), 0);
    let look = look.push(0x71, [4, 1], 32, 0).push(0x77, [4, 0], 0, 4).push(0x67, [4, 0], 0, 2);
    let look = look.push(0x07, [4, 0], 0, 20).push(0x61, [5, 6], 0, 0).push(0x3d, [4, 5], over(0), 0);
    look.then(does)
}

/// Finds what is kept of the packet's socket (`struct __sk_buff`: `sk`), then `then`, with the value in register 0. The context is
/// in register 6.
fn finding(then: Code) -> Code {
    let over = |code: &Code| i16::try_from(code.len()).unwrap_or(i16::MAX);
    let then = Code::default().push(0x15, [0, 0], over(&then), 0).then(then);
    let find = Code::default().map(1, "SOCKET").set(3, 0).set(4, 0).call(SK_STORAGE_GET).then(then);
    Code::default().push(0x79, [2, 6], 168, 0).push(0x15, [2, 0], over(&find), 0).then(find)
}

/// Where a request is noted in that value: two bytes that the agent has no use for while nobody scrapes (`Socket::peer_port`).
const NOTE: i16 = 46;

/// Of a packet with a request, see `HEADS`.
fn request() -> Code {
    let note = Code::default().push(0x6a, [0, 0], NOTE, 1);
    if_carries(finding(note.copy(1, 6).then(reading(96, Code::default()))))
}

/// Of a packet of an answer, see `HEADS`.
fn answer() -> Code {
    let head = Code::default().copy(1, 6).then(reading(288, recording(288)));
    let over = i16::try_from(head.len()).unwrap_or(i16::MAX);
    let look = Code::default().push(0x69, [7, 0], NOTE, 0).push(0x6a, [0, 0], NOTE, 0).call(GET_CURRENT_TASK_BTF);
    if_carries(finding(look.push(0x55, [7, 0], over, 1).then(head)))
}

/// Makes a value of `SOCKET` for a connection that begins (`struct bpf_sock_ops`: `op`, `sk`): `BPF_SOCK_OPS_TCP_CONNECT_CB` and
/// `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB`.
pub(crate) fn keeping() -> Code {
    let make = Code::default().map(1, "SOCKET").set(3, 0).set(4, 1).call(SK_STORAGE_GET);
    let over = i16::try_from(make.len()).unwrap_or(i16::MAX);
    let make = Code::default().push(0x79, [2, 1], 184, 0).push(0x15, [2, 0], over, 0).then(make);
    let over = i16::try_from(make.len()).unwrap_or(i16::MAX);
    // To `make` from the one, over it from whatever is not the other.
    Code::default().push(0x61, [3, 1], 0, 0).push(0x15, [3, 0], 1, 3).push(0x55, [3, 0], over, 5).then(make)
}

/// Of a socket that is passed over (`struct bpf_iter__bpf_sk_storage_map`: `sk`, `value`) 16 bytes that no walk looks at, as its
/// sequence numbers are (`struct tcp_sock` has 2 KiB and more), and what is kept of it.
pub(crate) fn looking() -> Code {
    const FAR: i32 = 1536;
    let look = Code::default().copy(3, 6).push(0x07, [3, 0], 0, FAR).copy(1, 10).push(0x07, [1, 0], 0, -16);
    let look = look.set(2, 16).call(PROBE_READ_KERNEL).push(0x79, [1, 7], 24, 0);
    let over = i16::try_from(look.len()).unwrap_or(i16::MAX);
    let begin = Code::default().push(0x79, [6, 1], 16, 0).push(0x79, [7, 1], 24, 0);
    begin.push(0x15, [6, 0], over + 1, 0).push(0x15, [7, 0], over, 0).then(look)
}

/// A loader that takes `OURS` of an agent whose maps are pinned there.
pub(crate) fn loader(pins: &Path) -> EbpfLoader<'static> {
    let mut loader = EbpfLoader::new();
    loader.map_pin_path(OURS.0, pins.join("maps").join(OURS.0));
    loader
}

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
fn finds(stage: &Stage, pins: &Path, names: &[&str], load: impl FnOnce() -> Result<()>) -> Result<Vec<Ran>> {
    let sending = if_carries(finding(Code::default().call(GET_CURRENT_TASK_BTF)));
    let (received, sent) = ("cgroup_skb/ingress", "cgroup_skb/egress");
    let programs = [
        (sent, "floor_finds_sent", sending),
        (received, "floor_heads_received", request()),
        (sent, "floor_heads_sent", answer()),
    ]
    .map(|(section, name, does)| Assembled { section, name, code: Code::default().copy(6, 1).then(does).end(1) });
    let maps = [OURS, MAPS[0]];
    let mut ebpf = loader(pins).load(&elf(&programs, &maps)?).context("cannot load the programs that only look up")?;
    attach_all(stage, &mut ebpf, names)?;
    let ((), records) = while_read(&mut ebpf, load)?;
    for name in names.iter().filter(|name| **name == "floor_heads_sent") {
        // An answer's head for each request.
        let requests = ran(&ebpf, name)?.count;
        anyhow::ensure!(records != 0 && records <= requests, "{records} records of {requests} packets");
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
    let programs = [
        Assembled { section: "cgroup_skb/ingress", name: "floor_received", code: reading(96, Code::default()) },
        Assembled { section: "cgroup_skb/egress", name: "floor_sent", code: reading(288, recording(288)) },
        Assembled { section: "classifier/sent", name: "floor_sends", code: counting() },
    ];
    let mut ebpf = EbpfLoader::new().load(&elf(&programs, &MAPS)?).context("cannot load the floor's programs")?;
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
    let mut ring = RingBuf::try_from(ebpf.take_map("RING").context("no ring")?)?;
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
fn measure(stage: &Stage, names: &[&str], load: impl FnOnce() -> Result<()>) -> Result<Vec<Ran>> {
    let ((), ebpf, records) = beside(stage, names, load)?;
    for name in names.iter().filter(|name| **name == "floor_sent") {
        let count = ran(&ebpf, name)?.count;
        anyhow::ensure!(records * 10 > count * 9, "{records} records of {count} runs");
    }
    names.iter().map(|name| ran(&ebpf, name)).collect()
}
