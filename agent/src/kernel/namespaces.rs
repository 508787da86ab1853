//! One pass over the live sockets of network namespaces: the kernel's iterators see only the namespace of the thread that opens
//! them. Which namespaces are passed over is `passes`'.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use aya::programs::Iter;
use aya::programs::iter::IterLink;
use nix::sched::{CloneFlags, setns};

use super::Refusal;
use super::quiet::{Protocol, has_sockets};
use crate::snapshot::ReadError;

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

/// What takes the records of one iterator's file.
pub(super) type Take<'a> = dyn FnMut(BufReader<File>) -> std::io::Result<()> + Send + 'a;

/// Says in a namespace, by its inode number, whether to pass over it.
pub(super) type Wants<'a> = dyn FnMut(u64) -> bool + Send + 'a;

/// Passes over this thread's namespace.
pub(super) fn here(links: [IterLink; 2], take: &mut Take<'_>) -> Result<(), ReadError> {
    pass(links, take).map_err(|error| failed(&error))
}

/// Passes over other namespaces, in one thread that goes from one to the next; which of them could not be read, by inode number.
/// A namespace that is gone meanwhile has no sockets; one that cannot be entered is left out.
pub(super) fn there(
    passes: Vec<((u64, PathBuf), [IterLink; 2])>,
    wants: &mut Wants<'_>,
    take: &mut Take<'_>,
) -> Result<Vec<u64>, ReadError> {
    if passes.is_empty() {
        return Ok(Vec::new());
    }
    let reading = || {
        let mut unread = Vec::new();
        for ((inode, path), links) in passes {
            let Ok(namespace) = File::open(&path) else {
                continue;
            };
            if let Err(error) = setns(namespace, CloneFlags::CLONE_NEWNET) {
                tracing::debug!(%error, path = %path.display(), "cannot enter a namespace");
            } else if wants(inode)
                && let Err(error) = pass(links, take)
            {
                tracing::debug!(%error, path = %path.display(), "cannot read a namespace's sockets");
                unread.push(inode);
            }
        }
        unread
    };
    // A thread of its own: it does not come back.
    std::thread::scope(|scope| scope.spawn(reading).join())
        .map_err(|_| ReadError { what: "sockets of other namespaces", why: "the reading thread ended".to_owned() })
}

fn pass(links: [IterLink; 2], take: &mut Take<'_>) -> std::io::Result<()> {
    for (link, protocol) in links.into_iter().zip(Protocol::ALL) {
        if has_sockets(protocol) {
            let file = link.into_file().map_err(std::io::Error::other)?;
            take(BufReader::with_capacity(BUFFER, file))?;
        }
    }
    Ok(())
}

fn failed(error: &std::io::Error) -> ReadError {
    ReadError { what: "sockets", why: error.to_string() }
}

/// Runs an iterator that writes nothing.
pub(super) fn run(program: &mut Iter) -> Result<(), ReadError> {
    let mut file = link(program)?.into_file().map_err(|error| failed(&std::io::Error::other(error)))?;
    file.read_to_end(&mut Vec::new()).map(drop).map_err(|error| failed(&error))
}

/// A pass that is yet to be made, wherever it is read.
pub(super) fn link(program: &mut Iter) -> Result<IterLink, ReadError> {
    let failed = |error: aya::programs::ProgramError| ReadError { what: "sockets", why: error.to_string() };
    let id = program.attach().map_err(failed)?;
    program.take_link(id).map_err(failed)
}

/// Takes the records of programs that write none.
pub(super) fn read_nothing(mut records: BufReader<File>) -> std::io::Result<()> {
    records.read_to_end(&mut Vec::new()).map(drop)
}

/// As much as the kernel has ready at a time (`bpf_seq_read`, `kernel/bpf/bpf_iter.c`).
const BUFFER: usize = 32 * 1024;
