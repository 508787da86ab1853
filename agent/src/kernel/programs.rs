//! Loading and attaching the programs that are not bound to an interface.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use aya::programs::links::{CgroupAttachMode, FdLink};
use aya::programs::{CgroupSkbAttachType, Program};
use aya::util::KernelVersion;
use aya::{Btf, Ebpf};

use super::pins::Pins;
use super::scan::SCAN;
use super::{Refusal, syscall};
use crate::config::Observe;
use crate::snapshot::ProgramState;

/// Programs on the cgroup hierarchy and on trace points, in the order in which they are attached: ends before
/// beginnings, so that no socket is followed whose end would be missed.
const ATTACHED: [&str; 12] = [
    "cgroup_gone",
    "cgroup_renamed",
    "cgroup_made",
    "connection_ends",
    "connection_ends_nested",
    "socket_released",
    "socket_bound4",
    "socket_bound6",
    "socket_made",
    "packet_sent",
    "packet_received",
    "connection_changes",
];

/// Those of `ATTACHED` that run for packets of sockets.
const OF_PACKETS: [&str; 2] = ["packet_sent", "packet_received"];

/// That of `ATTACHED` that only connections need that are older than the agent, on kernels that cannot be asked to call
/// `connection_changes` for them: before 6.12 (`TCP_BPF_SOCK_OPS_CB_FLAGS`, `include/uapi/linux/bpf.h`).
const OF_OLDER: &str = "connection_ends_nested";

/// Those of `ATTACHED` that what is to be looked at takes on this kernel.
pub(super) fn wanted(observe: Observe) -> Vec<&'static str> {
    let packets = observe.http || observe.udp;
    // One that cannot be told is taken for an old one.
    let tells = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 12, 0));
    let is_left = |name: &&str| (!packets && OF_PACKETS.contains(name)) || (tells && *name == OF_OLDER);
    ATTACHED.into_iter().filter(|name| !is_left(name)).collect()
}

/// End of the name of a pinned link that takes the place of another one in a moment.
pub(super) const UNFINISHED: &str = "-new";

/// The programs that pass over live sockets, with the kind of iterator each is.
const ITERATORS: [(&str, &str); 6] = [
    (SCAN, "bpf_sk_storage_map"),
    ("snapshot_tcp", "tcp"),
    ("snapshot_udp", "udp"),
    ("snapshot_owners", "task_file"),
    ("list_tcp", "tcp"),
    ("list_udp", "udp"),
];

/// Has the kernel verify the iterators and the programs that are to be `attached`: all at once, a thread each, because
/// that is most of what a start takes.
///
/// # Errors
/// When the kernel refuses one; the first of that order.
pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf, attached: &[&str]) -> Result<(), Refusal> {
    let iterators = ITERATORS.into_iter().map(|(name, _)| name);
    let names: Vec<&str> = iterators.chain(attached.iter().copied()).collect();
    let mut programs: Vec<(usize, &str, &mut Program)> = ebpf
        .programs_mut()
        .filter_map(|(name, program)| Some((names.iter().position(|wanted| *wanted == name)?, name, program)))
        .collect();
    programs.sort_by_key(|(place, ..)| *place);
    std::thread::scope(|scope| {
        let load = |(_, name, program)| scope.spawn(move || load_one(name, program, btf));
        let loads: Vec<_> = programs.into_iter().map(load).collect();
        loads.into_iter().try_for_each(|load| match load.join() {
            Ok(loaded) => loaded,
            Err(_) => Err(Refusal::new("a thread that loads a program panicked")),
        })
    })
}

fn load_one(name: &str, program: &mut Program, btf: &Btf) -> Result<(), Refusal> {
    let loaded = match program {
        Program::BtfTracePoint(program) => program.load(target(name), btf),
        Program::SockOps(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::Iter(program) => program.load(iterates(name), btf),
        _ => return Err(Refusal::new(format!("the program {name} is of a kind that is not attached here"))),
    };
    loaded.map_err(|error| Refusal::because(format!("cannot load the program {name}"), &error))
}

/// Attaches the loaded program `name`, and pins it and its link; or gives the link that is pinned the program.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    name: &str,
    cgroup: &File,
    pins: Option<&Pins>,
) -> Result<Option<FdLink>, Refusal> {
    let refused = |what: &str, error: &(dyn std::error::Error + 'static)| {
        Refusal::because(format!("cannot {what} the program {name}"), error)
    };
    let program =
        ebpf.program_mut(name).ok_or_else(|| Refusal::new(format!("the kernel object has no program {name}")))?;
    let pinned = pins.map(|pins| (pins.link(name), pins.program(name)));
    if let Some((_, path)) = &pinned {
        remove(path).map_err(|error| refused("replace the pin of", &error))?;
        program.pin(path).map_err(|error| refused("pin", &error))?;
    }
    let is_tracing = matches!(program, Program::BtfTracePoint(_));
    if let Some((path, _)) = pinned.as_ref().filter(|(path, _)| path.exists() && !is_tracing) {
        let replaced = syscall::open(path).and_then(|link| {
            let program = program.fd().map_err(std::io::Error::other)?;
            syscall::replace(link.as_fd(), program.as_fd())
        });
        return replaced.map(|()| None).map_err(|error| refused("replace", &error));
    }
    let link = match program {
        Program::BtfTracePoint(program) => {
            let id = program.attach().map_err(|error| refused("attach", &error))?;
            program.take_link(id).map_err(|error| refused("attach", &error)).map(FdLink::from)?
        }
        Program::SockOps(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single).map_err(|error| refused("attach", &error))?;
            let link = program.take_link(id).map_err(|error| refused("attach", &error))?;
            FdLink::try_from(link).map_err(|error| refused("attach", &error))?
        }
        Program::CgroupSock(program) => {
            let id = program.attach(cgroup, CgroupAttachMode::Single).map_err(|error| refused("attach", &error))?;
            let link = program.take_link(id).map_err(|error| refused("attach", &error))?;
            FdLink::try_from(link).map_err(|error| refused("attach", &error))?
        }
        Program::CgroupSkb(program) => {
            let direction =
                if name == "packet_sent" { CgroupSkbAttachType::Egress } else { CgroupSkbAttachType::Ingress };
            let id = program
                .attach(cgroup, direction, CgroupAttachMode::Single)
                .map_err(|error| refused("attach", &error))?;
            let link = program.take_link(id).map_err(|error| refused("attach", &error))?;
            FdLink::try_from(link).map_err(|error| refused("attach", &error))?
        }
        _ => return Err(Refusal::new(format!("the program {name} is of a kind that is not attached here"))),
    };
    let (Some(pins), Some((path, _))) = (pins, pinned) else {
        return Ok(Some(link));
    };
    // A link of this kind keeps its program. For a moment the old one runs beside the new one, on the same maps, and the
    // second of the two finds the work done.
    let fresh = pins.link(&format!("{name}{UNFINISHED}"));
    remove(&fresh).map_err(|error| refused("replace the pin of", &error))?;
    link.pin(&fresh).map_err(|error| refused("pin the link of", &error))?;
    std::fs::rename(&fresh, &path).map_err(|error| refused("pin the link of", &error))?;
    Ok(None)
}

/// Removes a pin, if it is there.
fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Programs that tell how often they ran.
#[derive(Default)]
pub(super) struct Running(BTreeMap<&'static str, OwnedFd>);

impl Running {
    /// Remembers a program that was loaded, or one that is pinned from an earlier run.
    pub(super) fn note(&mut self, ebpf: &Ebpf, name: &'static str, pins: Option<&Pins>) {
        let loaded = ebpf.program(name).and_then(|program| program.fd().ok()?.as_fd().try_clone_to_owned().ok());
        let found = loaded.or_else(|| syscall::open(&pins?.program(name)).ok());
        self.0.extend(found.map(|program| (name, program)));
    }

    /// Fills in how often and how long a program ran, where the kernel counts that (`kernel.bpf_stats_enabled`): it tells
    /// in the descriptor's own file (`kernel/bpf/syscall.c`, `bpf_prog_show_fdinfo`).
    pub(super) fn fill(&self, state: &mut ProgramState) {
        let told = self.0.get(state.program.as_str()).and_then(|program| {
            std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", program.as_raw_fd())).ok()
        });
        let Some([runs, nanoseconds]) = told.as_deref().and_then(runs) else {
            return;
        };
        if runs != 0 {
            state.runs = Some(runs);
            state.run_seconds = Some(Duration::from_nanos(nanoseconds).as_secs_f64());
        }
    }
}

/// How often a program ran, and for how many nanoseconds.
fn runs(told: &str) -> Option<[u64; 2]> {
    let number = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some([number("run_cnt:")?, number("run_time_ns:")?])
}

/// What is said of a program on the page.
pub(super) fn state(name: &str, target: &str, problem: Option<String>) -> ProgramState {
    ProgramState { program: name.to_owned(), target: target.to_owned(), problem, runs: None, run_seconds: None }
}

/// What a program is attached to.
pub(super) fn target(name: &str) -> &'static str {
    match name {
        "cgroup_made" => "cgroup_mkdir",
        "cgroup_renamed" => "cgroup_rename",
        "cgroup_gone" => "cgroup_rmdir",
        _ if name.starts_with("connection_ends") => "inet_sock_set_state",
        _ => "cgroup",
    }
}

/// What kind of iterator a program is.
pub(super) fn iterates(name: &str) -> &'static str {
    ITERATORS.iter().find(|(iterator, _)| *iterator == name).map_or("", |(_, kind)| kind)
}
