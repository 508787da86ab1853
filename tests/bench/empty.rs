//! Programs that do nothing, of the same kinds as ours, attached at the same places: what the kernel's own measuring
//! says of them is the measuring.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::tc::TcAttachOptions;
use aya::programs::{CgroupAttachMode, CgroupSkbAttachType, Iter, LinkOrder, Program, ProgramError, TcAttachType};
use aya::{Btf, Ebpf, EbpfLoader};
use nix::time::{ClockId, clock_gettime};

use sockmeter_tests::agent::{Agent, pin_dir};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::run;

use crate::assembled::{Assembled, Code, elf};
use crate::floor;
use crate::pairs::float;

/// Section (which is the kind, libbpf's `program_types`), name, and what the program returns: let everything pass.
const PROGRAMS: [(&str, &str, i32); 9] = [
    ("cgroup_skb/ingress", "empty_received", 1),
    ("cgroup_skb/egress", "empty_sent", 1),
    ("classifier/received", "empty_interface_receives", -1),
    ("classifier/sent", "empty_interface_sends", -1),
    ("sockops", "empty_events", 1),
    ("cgroup/sock_create", "empty_create", 1),
    ("cgroup/sock_release", "empty_release", 1),
    ("tp_btf/inet_sock_set_state", "empty_state", 0),
    ("iter/tcp", PASS, 0),
];

/// The one that passes over the live TCP sockets.
const PASS: &str = "empty_pass";

/// The file.
fn file() -> Result<Vec<u8>> {
    let programs = PROGRAMS.map(|(section, name, value)| Assembled { section, name, code: Code::default().end(value) });
    elf(&programs, &[])
}

/// The same without those that packets of sockets pass and that for what the interface sends, in whose places are `floor`'s; that
/// for connections keeps something of each.
fn keeping() -> Result<Vec<u8>> {
    let programs: Vec<Assembled> = PROGRAMS
        .into_iter()
        .filter(|(section, ..)| !section.starts_with("cgroup_skb") && *section != "classifier/sent")
        .map(|(section, name, value)| {
            let does = if section == "sockops" { floor::keeping(floor::OURS.0) } else { Code::default() };
            Assembled { section, name, code: does.end(value) }
        })
        .collect();
    elf(&programs, &[floor::OURS])
}

/// The programs, attached as long as this lives.
pub(crate) struct Empty(Ebpf);

impl Empty {
    /// Attaches them where an agent in this namespace, with this cgroup in scope, has its own.
    pub(crate) fn attach(here: &Namespace, group: &Path) -> Result<Self> {
        Self::attach_all(here, group, EbpfLoader::new().load(&file()?).context("cannot load the empty programs")?)
    }

    /// The same, but for packets of sockets; of each connection a value is made in an agent's map that is pinned there.
    pub(crate) fn attach_keeping(here: &Namespace, group: &Path, pins: &Path) -> Result<Self> {
        let ebpf = floor::loader(pins).load(&keeping()?).context("cannot load the programs that keep something")?;
        Self::attach_all(here, group, ebpf)
    }

    fn attach_all(here: &Namespace, group: &Path, mut ebpf: Ebpf) -> Result<Self> {
        let btf = Btf::from_sys_fs()?;
        let group = File::open(group)?;
        for (name, program) in ebpf.programs_mut().filter(|(name, _)| *name != PASS) {
            here.enter(|| attach(program, name, &group, &btf).map_err(anyhow::Error::from))
                .with_context(|| format!("cannot attach the program {name}"))?;
        }
        Ok(Self(ebpf))
    }

    /// Nanoseconds per run of each that runs often while `load` does.
    pub(crate) fn per_run(&self, load: impl FnOnce() -> Result<()>) -> Result<BTreeMap<&'static str, f64>> {
        let before = self.read()?;
        load()?;
        let mut found = BTreeMap::new();
        for (name, (time, count)) in self.read()? {
            let (time_before, count_before) = before.get(name).copied().unwrap_or_default();
            let count = count - count_before;
            if count >= 5000 {
                found.insert(name, time.saturating_sub(time_before).as_secs_f64() * 1e9 / float(count));
            }
        }
        Ok(found)
    }

    /// Time and number of runs of each.
    fn read(&self) -> Result<BTreeMap<&'static str, (Duration, u64)>> {
        let mut found = BTreeMap::new();
        for (_, name, _) in PROGRAMS.into_iter().filter(|(_, name, _)| *name != PASS) {
            let program = self.0.program(name).with_context(|| format!("no program {name}"))?;
            let info = program.info()?;
            found.insert(name, (info.run_time(), info.run_count()));
        }
        Ok(found)
    }
}

/// Interfaces of a namespace of the stage's (`Namespace::connect`).
const INTERFACES: [&str; 2] = ["lo", "va"];

/// Attaches a program to the cgroup, or to the interfaces, in the direction that its name tells.
pub(crate) fn attach(program: &mut Program, name: &str, group: &File, btf: &Btf) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSkb(program) => {
            program.load()?;
            let direction =
                if name.ends_with("_sent") { CgroupSkbAttachType::Egress } else { CgroupSkbAttachType::Ingress };
            program.attach(group, direction, CgroupAttachMode::Single).map(drop)
        }
        Program::SchedClassifier(program) => {
            program.load()?;
            let direction = if name.ends_with("_sends") { TcAttachType::Egress } else { TcAttachType::Ingress };
            INTERFACES.iter().try_for_each(|interface| {
                let order = TcAttachOptions::TcxOrder(LinkOrder::default());
                program.attach_with_options(interface, direction, order).map(drop)
            })
        }
        Program::SockOps(program) => {
            program.load()?;
            program.attach(group, CgroupAttachMode::Single).map(drop)
        }
        Program::CgroupSock(program) => {
            program.load()?;
            program.attach(group, CgroupAttachMode::Single).map(drop)
        }
        Program::BtfTracePoint(program) => {
            program.load("inet_sock_set_state", btf)?;
            program.attach().map(drop)
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// What the kernel's own walk over the live TCP sockets of a namespace takes: the processor time of passes with a program
/// that does nothing.
pub(crate) fn passes(namespace: &Namespace, count: usize) -> Result<Vec<Duration>> {
    let mut ebpf = EbpfLoader::new().load(&file()?).context("cannot load the empty programs")?;
    let program: &mut Iter = ebpf.program_mut(PASS).with_context(|| format!("no program {PASS}"))?.try_into()?;
    program.load("tcp", &Btf::from_sys_fs()?)?;
    let mut took = Vec::new();
    for _ in 0..count {
        let id = program.attach()?;
        let link = program.take_link(id)?;
        took.push(namespace.enter(|| {
            // The pass is bound to the namespace of who opens it, the time is this thread's.
            let mut file = link.into_file()?;
            let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
            let mut told = Vec::new();
            file.read_to_end(&mut told)?;
            anyhow::ensure!(told.is_empty(), "the program that does nothing told {} bytes", told.len());
            Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before))
        })?);
    }
    Ok(took)
}

/// The same for the kernel's own walk over what is kept in sockets, in the agent's map of that, with a program that does this; and
/// something else done in front of each.
pub(crate) fn scans(agent: &Agent<'_>, count: usize, does: Code, mut before: impl FnMut()) -> Result<Vec<Duration>> {
    let program = Assembled { section: "iter/bpf_sk_storage_map", name: "empty_scan", code: does.end(0) };
    let folder = tempfile::tempdir()?;
    let (object, pin) = (folder.path().join("scan.o"), pin_dir());
    fs::write(&object, elf(&[program], &[])?)?;
    let mut command = Command::new("bpftool");
    command.args(["iter", "pin"]).arg(&object).arg(&pin).args(["map", "pinned"]).arg(agent.pins().join("maps/SOCKET"));
    run(&mut command)?;
    let once = |_| {
        before();
        scan(&pin)
    };
    let took = (0..count).map(once).collect();
    fs::remove_file(&pin)?;
    took
}

/// One walk: opened, the pinned iterator's link runs it.
fn scan(pin: &Path) -> Result<Duration> {
    let mut file = File::open(pin)?;
    let before = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?;
    let mut told = Vec::new();
    file.read_to_end(&mut told)?;
    anyhow::ensure!(told.is_empty(), "the program that does nothing told {} bytes", told.len());
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)? - before))
}

/// Which empty program is like one of ours.
pub(crate) fn like(name: &str) -> &'static str {
    match name {
        "interface_sends" | "floor_sends" => "empty_interface_sends",
        "interface_receives" => "empty_interface_receives",
        "connection_changes" => "empty_events",
        "connection_ends" => "empty_state",
        "socket_released" => "empty_release",
        name if name.ends_with("_received") => "empty_received",
        name if name.ends_with("_sent") => "empty_sent",
        _ => "empty_create",
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_file_has_every_program_in_its_section() {
        let bytes = file().unwrap();
        for (section, name, _) in PROGRAMS {
            for text in [section, name] {
                let found = bytes.windows(text.len()).filter(|window| *window == text.as_bytes()).count();
                assert_eq!(found, 1, "{text}");
            }
        }
    }
}
