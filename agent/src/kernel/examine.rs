//! What this kernel and these privileges allow, tried out without leaving anything behind. How it prints is
//! `pipeline::check`'s.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use aya::programs::{LinkOrder, Program, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya::{Btf, Ebpf, EbpfLoader};

use super::{Refusal, btf, cgroup, namespaces, object, pins, programs};
use crate::config::{Scope, Settings};

/// What became of a program: its name, and what loading it took or why that is not possible.
pub type Outcome = (String, Result<Loaded, Refusal>);

/// What it took to load a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Instructions that the verifier went through, where the kernel tells.
    pub instructions: Option<u32>,
    /// Time that the kernel took to verify and translate it.
    pub took: Duration,
}

/// Capabilities that matter, with their numbers (`include/uapi/linux/capability.h`).
const CAPABILITIES: [(&str, u32); 6] = [
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// Capabilities that nothing goes without, and what for.
pub const NEEDED: [(&str, &str); 3] = [
    ("CAP_BPF", "loads the programs"),
    ("CAP_NET_ADMIN", "attaches to sockets and interfaces"),
    ("CAP_PERFMON", "lets the programs read the kernel's counters"),
];

/// Whether this process has what nothing goes without.
///
/// # Errors
/// When one of `NEEDED` is not in effect.
pub fn privileges() -> Result<(), Refusal> {
    missing(&capabilities()).map_or(Ok(()), Err)
}

fn missing(found: &[(&str, bool)]) -> Option<Refusal> {
    let has = |wanted: &str| found.iter().any(|(name, has)| *name == wanted && *has);
    let missing: Vec<(&str, &str)> = NEEDED.into_iter().filter(|(name, _)| !has(name)).collect();
    match missing.as_slice() {
        [] => None,
        [(name, why)] => Some(
            Refusal::new(format!("cannot count without {name}, which is not in effect"))
                .hint(format!("run as root, or grant {name}, which {why}")),
        ),
        more => {
            let names: Vec<&str> = more.iter().map(|(name, _)| *name).collect();
            Some(
                Refusal::new(format!("cannot count without {}, which are not in effect", names.join(" and ")))
                    .hint("run as root, or grant them; `sockmeter check` says what each is for"),
            )
        }
    }
}

/// Capabilities in effect, each with whether it is. `CAP_SYS_ADMIN` stands for the two younger ones, as in the kernel.
#[must_use]
pub fn capabilities() -> Vec<(&'static str, bool)> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status)
}

fn effective(status: &str) -> Vec<(&'static str, bool)> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    let has = |number: u32| bits >> number & 1 == 1;
    CAPABILITIES.map(|(name, number)| (name, has(number) || (number >= 38 && has(21)))).to_vec()
}

/// The running kernel's version.
#[must_use]
pub fn version() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Whether the kernel shows the types that the programs need; how many offsets were found.
///
/// # Errors
/// When it does not.
pub fn types() -> Result<usize, Refusal> {
    btf::structures(Path::new(btf::VMLINUX))
        .map(|structures| structures.offsets.len())
        .map_err(|error| Refusal::new(error.to_string()))
}

/// Whether socket programs have a cgroup to attach to.
///
/// # Errors
/// When no cgroup v2 hierarchy is mounted, or the one of the scope is not there.
pub fn cgroup(settings: &Settings) -> Result<(), Refusal> {
    let below = if let Scope::Cgroup(path) = &settings.scope { Some(path.as_path()) } else { None };
    cgroup::open(below).map(drop)
}

/// Whether pins have a place.
///
/// # Errors
/// When the directory is on no bpffs and none can be mounted there.
pub fn bpffs(directory: &Path) -> Result<(), Refusal> {
    pins::ensure_bpffs(directory)
}

/// How many other network namespaces there are.
///
/// # Errors
/// When this process's own one cannot be told.
pub fn other_namespaces() -> Result<usize, Refusal> {
    Ok(namespaces::others(namespaces::own()?).len())
}

/// Loads every program for real, attaching none.
///
/// # Errors
/// When the object itself cannot be loaded; each program has a result of its own.
pub fn programs() -> Result<Vec<Outcome>, Refusal> {
    let mut ebpf = object()?;
    let btf = Btf::from_sys_fs().map_err(|error| Refusal::because("cannot read the kernel's types", &error))?;
    let mut names: Vec<String> = ebpf.programs().map(|(name, _)| name.to_owned()).collect();
    names.sort();
    let mut results = Vec::new();
    for name in names {
        let Some(program) = ebpf.program_mut(&name) else {
            continue;
        };
        let began = Instant::now();
        let loaded = load(&name, program, &btf).map(|()| Loaded {
            took: began.elapsed(),
            instructions: program.info().ok().and_then(|found| found.verified_instruction_count()),
        });
        let loaded = loaded.map_err(|error| Refusal::because(format!("cannot load the program {name}"), &error));
        results.push((name, loaded));
    }
    Ok(results)
}

/// Whether interfaces are attached to by tcx links (tried on the loopback device); else by `clsact` filters.
///
/// # Errors
/// When the object or the program cannot be loaded.
pub fn has_tcx() -> Result<bool, Refusal> {
    let mut ebpf = object()?;
    let name = "interface_receives";
    let program =
        ebpf.program_mut(name).ok_or_else(|| Refusal::new(format!("the kernel object has no program {name}")))?;
    let refused =
        |error: aya::programs::ProgramError| Refusal::because(format!("cannot load the program {name}"), &error);
    let program: &mut SchedClassifier = program.try_into().map_err(refused)?;
    program.load().map_err(refused)?;
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    // The link ends with the object.
    Ok(program.attach_with_options("lo", TcAttachType::Ingress, order).is_ok())
}

fn object() -> Result<Ebpf, Refusal> {
    let structures = btf::structures(Path::new(btf::VMLINUX)).map_err(|error| Refusal::new(error.to_string()))?;
    let bytes = object::read(&structures)?;
    EbpfLoader::new().load(&bytes).map_err(|error| object::refused(&error))
}

fn load(name: &str, program: &mut Program, btf: &Btf) -> Result<(), aya::programs::ProgramError> {
    match program {
        Program::BtfTracePoint(program) => program.load(programs::target(name), btf),
        Program::SockOps(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        Program::Iter(program) => program.load(programs::iterates(name), btf),
        _ => Err(aya::programs::ProgramError::UnexpectedProgramType),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_from_the_mask() {
        let of = |mask: &str| -> Vec<&str> {
            effective(&format!("Name:\tx\nCapEff:\t{mask}\n"))
                .into_iter()
                .filter(|(_, has)| *has)
                .map(|(name, _)| name)
                .collect()
        };
        assert_eq!(of("0000000000000000"), Vec::<&str>::new());
        assert_eq!(of("0000000000001000"), ["CAP_NET_ADMIN"]);
        assert_eq!(of("000000c000001000"), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(of("0000000000200000"), ["CAP_SYS_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let said = |mask: &str| missing(&effective(&format!("CapEff:\t{mask}\n"))).map(|refusal| refusal.to_string());
        assert_eq!(said("000000c000001000"), None);
        assert_eq!(
            said("0000008000001000").as_deref(),
            Some(
                "cannot count without CAP_PERFMON, which is not in effect\n\
                 hint: run as root, or grant CAP_PERFMON, which lets the programs read the kernel's counters"
            )
        );
        assert_eq!(
            said("0000000000001000").as_deref(),
            Some(
                "cannot count without CAP_BPF and CAP_PERFMON, which are not in effect\n\
                 hint: run as root, or grant them; `sockmeter check` says what each is for"
            )
        );
    }
}
