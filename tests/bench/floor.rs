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
use crate::pairs::float;
use crate::programs::Load;
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
pub(crate) const FINDING: [(Load, &[(&str, &str)]); 6] = [
    (Load::KeptUnobserved, &[("floor_finds_sent", "finds what is kept of the socket, and asks which process runs")]),
    (Load::FreshUnobserved, &[("floor_new_sent", "the same")]),
    (Load::LongBodiesObserved, &[("floor_body_sent", "the same, and copies the headers")]),
    (Load::BodiesObserved, &[("floor_some_received", REQUEST), ("floor_some_sent", ANSWER)]),
    (Load::KeptObserved, &[("floor_heads_received", REQUEST), ("floor_heads_sent", ANSWER)]),
    (Load::FreshObserved, &[("floor_first_received", REQUEST), ("floor_first_sent", ANSWER)]),
];

const REQUEST: &str = "copies the headers; of a request finds what is kept of the socket, copies the first 96 bytes of the packet, looks at \
                       each word for a line's end, reads the clock";
const ANSWER: &str = "finds what is kept of the socket, asks which process runs, copies the headers; of an answer's head copies the first \
                      288 bytes, looks at each word, reads the clock, and writes a record of 184 bytes into a ring";

/// The others: which load each is measured under, and what it does.
pub(crate) const WORDS: [(Load, &[(&str, &str)]); 2] = [
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

/// Finds what `map` keeps of the packet's socket (`struct __sk_buff`: `sk`), then `then`. The context is in register 6.
fn finding(map: &'static str, then: Code) -> Code {
    let find = Code::default().map(1, map).set(3, 0).set(4, 0).call(SK_STORAGE_GET).then(then);
    let over = i16::try_from(find.len()).unwrap_or(i16::MAX);
    Code::default().push(0x79, [2, 6], 168, 0).push(0x15, [2, 0], over, 0).then(find)
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

/// Copies so many bytes of the packet, from its network header on. The context is in register 6.
fn copying(bytes: i32) -> Code {
    let begin = Code::default().copy(1, 6).set(2, 0).copy(3, 10).push(0x07, [3, 0], 0, -bytes);
    begin.set(4, bytes).call(SKB_LOAD_BYTES)
}

/// Does this if the payload begins so, behind the headers that TCP over IPv4 has with time stamps (RFC 9293 3.1, RFC 7323 3.2).
fn if_begins(first: [u8; 4], does: Code) -> Code {
    const HEADERS: i32 = 20 + 32;
    let does = Code::default().copy(1, 6).then(does);
    let over = |code: &Code| i16::try_from(code.len()).unwrap_or(i16::MAX);
    let look = Code::default().push(0x61, [1, 10], -4, 0).push(0x55, [1, 0], over(&does), i32::from_le_bytes(first));
    let look = look.then(does);
    copying(HEADERS + 4).push(0x55, [0, 0], over(&look), 0).then(look)
}

/// Nanoseconds per run of each of those of `FINDING` while their `load` runs beside an agent whose maps are pinned there, and which
/// looks at no packet.
pub(crate) fn finds(
    stage: &Stage,
    pins: &Path,
    names: &[(&str, &str)],
    load: impl FnOnce() -> Result<()>,
) -> Result<Vec<Ran>> {
    let who = || Code::default().call(GET_CURRENT_TASK_BTF);
    let request = || {
        let read = Code::default().copy(1, 6).then(reading(96, Code::default()));
        if_begins(*b"GET ", finding("SOCKET", read))
    };
    let answer = || finding("SOCKET", who().then(if_begins(*b"HTTP", reading(288, recording(288)))));
    let (received, sent) = ("cgroup_skb/ingress", "cgroup_skb/egress");
    let programs = [
        (sent, "floor_finds_sent", finding("SOCKET", who())),
        (sent, "floor_new_sent", finding("SOCKET", who())),
        (sent, "floor_body_sent", finding("SOCKET", who().then(copying(40)))),
        (received, "floor_some_received", request()),
        (sent, "floor_some_sent", answer()),
        (received, "floor_heads_received", request()),
        (sent, "floor_heads_sent", answer()),
        (received, "floor_first_received", request()),
        (sent, "floor_first_sent", answer()),
    ]
    .map(|(section, name, does)| Assembled { section, name, code: Code::default().copy(6, 1).then(does).end(1) });
    let maps = [OURS, MAPS[0]];
    let mut ebpf = loader(pins).load(&elf(&programs, &maps)?).context("cannot load the programs that only look up")?;
    let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    attach_all(stage, &mut ebpf, &names)?;
    while_read(&mut ebpf, load)?;
    names.iter().map(|name| per_run(&ebpf, name)).collect()
}

/// What the kernel measured of a program.
pub(crate) struct Ran {
    /// Nanoseconds per run.
    pub(crate) ns: f64,
    /// How many runs.
    pub(crate) count: u64,
}

fn per_run(ebpf: &Ebpf, name: &str) -> Result<Ran> {
    let info = ebpf.program(name).with_context(|| format!("no program {name}"))?.info()?;
    let count = info.run_count();
    anyhow::ensure!(count >= 5_000, "{name} ran {count} times only");
    Ok(Ran { ns: info.run_time().as_secs_f64() * 1e9 / float(count), count })
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

/// Nanoseconds per run of each of these of `WORDS`, as the kernel measures them, while `load` runs.
pub(crate) fn measure(stage: &Stage, names: &[&str], load: impl FnOnce() -> Result<()>) -> Result<Vec<Ran>> {
    let ((), ebpf, records) = beside(stage, names, load)?;
    for name in names.iter().filter(|name| **name == "floor_sent") {
        let info = ebpf.program(name).with_context(|| format!("no program {name}"))?.info()?;
        anyhow::ensure!(records * 10 > info.run_count() * 9, "{records} records of {} runs", info.run_count());
    }
    names.iter().map(|name| per_run(&ebpf, name)).collect()
}
