//! The scan of all sockets that something is kept of, whatever their namespaces: run, and what it found. What it does with each
//! socket is `../../../ebpf/src/kernel/scan.rs`; passes over single namespaces are in `namespaces`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use aya::programs::Iter;
use sockmeter_ebpf::socket::{LIVE, ROLE_CLIENT, ROLE_SERVER, ROLE_UNKNOWN, Scanned, TCP, UDP, live_index};

use super::{Refusal, iterator, syscall, take};
use crate::snapshot::{Live, ReadError};

/// The program.
pub(super) const SCAN: &str = "scan_sockets";

/// States are numbered up to this (`include/net/tcp_states.h`).
const STATES: u8 = 15;

/// The words of `Scanned`.
const WORDS: usize = size_of::<Scanned>() / size_of::<u64>();

/// The scan, ready to be run.
pub(super) struct Scan {
    link: OwnedFd,
    scanned: Array<MapData, [u64; WORDS]>,
    unsettled: HashMap<MapData, u32, u32>,
    /// What was counted before the scan that comes next.
    before: Box<[u64; WORDS]>,
}

/// What one scan found.
pub(super) struct Found {
    pub(super) live: BTreeMap<Live, u64>,
    /// Namespaces with sockets that have more to settle, by inode number.
    pub(super) unsettled: BTreeSet<u64>,
    /// There are more of those.
    pub(super) incomplete: bool,
}

impl Scan {
    /// Makes it ready; the program is loaded.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, Refusal> {
        let refused = |error: &(dyn std::error::Error + 'static)| Refusal::because("cannot scan sockets", error);
        let program: &mut Iter = iterator(ebpf, SCAN).map_err(|error| refused(&error))?;
        let program = program.fd().and_then(|fd| Ok(fd.try_clone()?)).map_err(|error| refused(&error))?;
        let Some(Map::SkStorage(sockets)) = ebpf.map("SOCKET") else {
            return Err(Refusal::new("the kernel object has no map SOCKET"));
        };
        let link = syscall::iterate(program.as_fd(), sockets.fd().as_fd()).map_err(|error| refused(&error))?;
        let (scanned, unsettled) = (take(ebpf, "SCANNED")?, take(ebpf, "UNSETTLED")?);
        Ok(Self { link, scanned, unsettled, before: Box::new([0; WORDS]) })
    }

    /// Books what sockets carried that are not read, and says what is left.
    ///
    /// # Errors
    /// When a read is refused; nothing is lost then, the next one has it all.
    pub(super) fn run(&mut self) -> Result<Found, ReadError> {
        let mut file = syscall::iterator(self.link.as_fd()).map(File::from).map_err(|error| failed(&error))?;
        // It writes nothing. Past a million of sockets the kernel wants to be asked again (`bpf_seq_read`, `kernel/bpf/bpf_iter.c`).
        loop {
            match file.read(&mut [0; 8]) {
                Ok(_) => break,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        self.counted()
    }

    /// What was counted since this was asked, or a scan was run.
    ///
    /// # Errors
    /// As of `run`.
    pub(super) fn counted(&mut self) -> Result<Found, ReadError> {
        let now = self.scanned.get(&0, 0).map_err(|error| refused(&error))?;
        let before = std::mem::replace(&mut *self.before, now);
        let more = |index: usize| Some(now.get(index)?.wrapping_sub(*before.get(index)?)).filter(|count| *count != 0);
        let unsettled: Vec<u32> = self.unsettled.keys().filter_map(Result::ok).collect();
        for netns in &unsettled {
            self.unsettled.remove(netns).map_err(|error| refused(&error))?;
        }
        let live = kinds().filter_map(|(index, kind)| Some((kind, more(index)?))).collect();
        let incomplete = more(LIVE).is_some();
        Ok(Found { live, unsettled: unsettled.into_iter().map(u64::from).collect(), incomplete })
    }
}

/// The kinds of live sockets, each with its place in `Scanned::live`.
fn kinds() -> impl Iterator<Item = (usize, Live)> {
    [TCP, UDP].into_iter().flat_map(|protocol| {
        [ROLE_UNKNOWN, ROLE_SERVER, ROLE_CLIENT].into_iter().flat_map(move |role| {
            (0..=STATES).map(move |state| (live_index(protocol, role, state), Live { state, protocol, role }))
        })
    })
}

fn failed(error: &std::io::Error) -> ReadError {
    ReadError { what: "sockets", why: error.to_string() }
}

fn refused(error: &MapError) -> ReadError {
    ReadError { what: "what was scanned", why: error.to_string() }
}
