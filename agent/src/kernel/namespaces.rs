//! One pass over the live sockets of every network namespace in scope: the kernel's iterators see only the namespace of
//! the thread that opens them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use aya::programs::Iter;
use aya::programs::iter::IterLink;
use nix::sched::{CloneFlags, setns};

use super::Refusal;
use crate::snapshot::{Live, ReadError};

/// Inode number of this thread's network namespace.
pub(super) fn own() -> Result<u32, Refusal> {
    let inode = fs::metadata("/proc/thread-self/ns/net")
        .map_err(|error| Refusal::because("cannot read this process's network namespace", &error))?
        .ino();
    u32::try_from(inode).map_err(|_| Refusal::new(format!("network namespace inode {inode} has more than 32 bits")))
}

/// The other namespaces that some process is in, or that has a name (ip-netns(8)): inode number to a path of it.
pub(super) fn others(own: u32) -> BTreeMap<u64, PathBuf> {
    let mut found = BTreeMap::new();
    let named = fs::read_dir("/run/netns").into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        path.file_name()?.to_str()?.bytes().all(|byte| byte.is_ascii_digit()).then(|| path.join("ns/net"))
    });
    for path in named.chain(processes) {
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.ino() != u64::from(own)
        {
            found.entry(metadata.ino()).or_insert(path);
        }
    }
    found
}

/// Runs an iterator in this thread's namespace.
pub(super) fn here(program: &mut Iter) -> Result<Vec<Live>, ReadError> {
    read(link(program)?).map_err(|error| failed(&error))
}

/// Runs both iterators in other namespaces, in one thread that goes from one to the next. A namespace that is gone
/// meanwhile has no sockets; one that cannot be entered is left out.
pub(super) fn there(passes: Vec<(PathBuf, [IterLink; 2])>) -> Result<Vec<Live>, ReadError> {
    if passes.is_empty() {
        return Ok(Vec::new());
    }
    let reading = std::thread::spawn(move || {
        let mut live = Vec::new();
        for (path, links) in passes {
            match enter_and_read(&path, links) {
                Ok(more) => live.extend(more),
                Err(error) => tracing::debug!(%error, path = %path.display(), "cannot read a namespace's sockets"),
            }
        }
        live
    });
    reading
        .join()
        .map_err(|_| ReadError { what: "sockets of other namespaces", why: "the reading thread ended".to_owned() })
}

fn enter_and_read(path: &Path, links: [IterLink; 2]) -> std::io::Result<Vec<Live>> {
    let Ok(namespace) = File::open(path) else {
        return Ok(Vec::new());
    };
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    let mut live = Vec::new();
    for link in links {
        live.extend(read(link)?);
    }
    Ok(live)
}

fn failed(error: &std::io::Error) -> ReadError {
    ReadError { what: "sockets", why: error.to_string() }
}

/// A pass that is yet to be made, wherever it is read.
pub(super) fn link(program: &mut Iter) -> Result<IterLink, ReadError> {
    let failed = |error: aya::programs::ProgramError| ReadError { what: "sockets", why: error.to_string() };
    let id = program.attach().map_err(failed)?;
    program.take_link(id).map_err(failed)
}

fn read(link: IterLink) -> std::io::Result<Vec<Live>> {
    let mut file = link.into_file().map_err(std::io::Error::other)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes.as_chunks::<LIVE>().0.iter().map(live).collect())
}

const LIVE: usize = size_of::<Live>();

fn live(bytes: &[u8; LIVE]) -> Live {
    let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes.get(at + i).copied().unwrap_or(0)));
    let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes.get(at + i).copied().unwrap_or(0)));
    let u16_at = |at: usize| u16::from_le_bytes(std::array::from_fn(|i| bytes.get(at + i).copied().unwrap_or(0)));
    let [.., state, protocol, role, pad] = *bytes.first_chunk::<40>().unwrap_or(&[0; 40]);
    Live {
        cookie: u64_at(std::mem::offset_of!(Live, cookie)),
        received: u64_at(std::mem::offset_of!(Live, received)),
        sent: u64_at(std::mem::offset_of!(Live, sent)),
        round_trip: u32_at(std::mem::offset_of!(Live, round_trip)),
        pid: u32_at(std::mem::offset_of!(Live, pid)),
        local_port: u16_at(std::mem::offset_of!(Live, local_port)),
        remote_port: u16_at(std::mem::offset_of!(Live, remote_port)),
        state,
        protocol,
        role,
        pad,
        process: bytes.last_chunk().copied().unwrap_or_default(),
    }
}
