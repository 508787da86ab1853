//! Loading and attaching the programs that are not bound to an interface.

use std::fs::File;

use aya::programs::links::{CgroupAttachMode, FdLink};
use aya::programs::{CgroupSkbAttachType, Program};
use aya::{Btf, Ebpf};

use super::Refusal;
use super::pins::Pins;
use crate::snapshot::ProgramState;

/// Programs on the cgroup hierarchy and on trace points, in the order in which they are attached: ends before
/// beginnings, so that no socket is followed whose end would be missed.
pub(super) const ATTACHED: [&str; 8] = [
    "connection_ends",
    "socket_released",
    "socket_bound4",
    "socket_bound6",
    "socket_made",
    "packet_sent",
    "packet_received",
    "connection_begins",
];

/// The programs that pass over live sockets, with the kind of iterator each is.
const ITERATORS: [(&str, &str); 2] = [("snapshot_tcp", "tcp"), ("snapshot_udp", "udp")];

/// Has the kernel verify the iterators, and with `attached` the programs of `ATTACHED`: all at once, a thread each, because
/// that is most of what a start takes.
///
/// # Errors
/// When the kernel refuses one; the first of that order.
pub(super) fn load(ebpf: &mut Ebpf, btf: &Btf, attached: bool) -> Result<(), Refusal> {
    let iterators = ITERATORS.into_iter().map(|(name, _)| name);
    let names: Vec<&str> = iterators.chain(ATTACHED.into_iter().filter(|_| attached)).collect();
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
    let kind = ITERATORS.iter().find(|(iterator, _)| *iterator == name).map_or("", |(_, kind)| kind);
    let loaded = match program {
        Program::BtfTracePoint(program) => program.load("inet_sock_set_state", btf),
        Program::SockOps(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::Iter(program) => program.load(kind, btf),
        _ => return Err(Refusal::new(format!("the program {name} is of a kind that is not attached here"))),
    };
    loaded.map_err(|error| Refusal::because(format!("cannot load the program {name}"), &error))
}

/// Attaches the loaded program `name`, and pins its link.
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
    let Some(pins) = pins else {
        return Ok(Some(link));
    };
    link.pin(pins.link(name)).map_err(|error| refused("pin the link of", &error))?;
    Ok(None)
}

/// What is said of a program on the page.
pub(super) fn state(name: &str, target: &str, problem: Option<String>) -> ProgramState {
    ProgramState { program: name.to_owned(), target: target.to_owned(), problem, runs: None, run_seconds: None }
}

/// What a program is attached to.
pub(super) fn target(name: &str) -> &'static str {
    if name == "connection_ends" { "inet_sock_set_state" } else { "cgroup" }
}
