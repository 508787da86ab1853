//! What an earlier run left pinned: whether it goes on as it is, with other programs, or cannot be gone on with. Pinning
//! itself is in `pins`.

use std::path::Path;

use aya::maps::{Array, Map, MapData};
use sockmeter_ebpf::body::Body;
use sockmeter_ebpf::conn::{Conn, Entry};
use sockmeter_ebpf::layout::{self, books};
use sockmeter_ebpf::place::{CgroupName, Maker, PlaceTotals};
use sockmeter_ebpf::served::Served;
use sockmeter_ebpf::socket::{RoundTrips, Socket, Totals};
use sockmeter_ebpf::stash::Stash;

use super::interfaces::interface_of;
use super::pins::Pins;
use super::{PINNED, Refusal, links, programs};

/// What `LAYOUT` holds: the layout's version, and the fingerprint and the cgroup of the programs that are attached. All
/// zero until a start is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Layout {
    pub(super) version: u64,
    /// Of the object and of what was compiled into it.
    pub(super) fingerprint: u64,
    /// Id of the cgroup that the programs are attached to; 0: the root.
    pub(super) cgroup: u64,
}

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing: the books begin.
    Nothing,
    /// The same programs with the same settings: they stay attached as they are.
    Same,
    /// Other programs: their links are given the new ones.
    OtherPrograms,
}

/// Sizes of the records in pinned maps. A map with another one was made by a build that never was a release.
const RECORDS: [(&str, usize); 13] = [
    ("SOCKET", size_of::<Socket>()),
    ("MAKER", size_of::<Maker>()),
    ("PLACE_TOTALS", size_of::<PlaceTotals>()),
    ("CGROUP_NAMES", size_of::<CgroupName>()),
    ("CONN", size_of::<Conn>()),
    ("DEEP", size_of::<Entry>()),
    ("STASH", size_of::<Stash>()),
    ("SERVED", size_of::<Served>()),
    ("BODIES", size_of::<Body>()),
    ("TOTALS", size_of::<Totals>()),
    ("ROUND_TRIPS", size_of::<RoundTrips>()),
    ("BOOK_CELLS", books::CELL),
    ("BOOK_LEDGERS", books::LEDGER),
];

/// Looks what is there, and removes what does not belong to any books: a start that did not come to its end, links to a
/// cgroup that is not in scope any more or of programs that are not wanted any more, and maps of older layouts.
///
/// # Errors
/// When the books are of a layout that this build does not know: they are left as they are.
pub(super) fn look(pins: &Pins, wanted: Layout, may_stay: bool, programs: &[&str]) -> Result<Found, Refusal> {
    let failed = |error: std::io::Error| Refusal::because("cannot remove the old pins", &error);
    let found = if pins.map("LAYOUT").exists() { layout(&pins.map("LAYOUT")) } else { Some(Layout::default()) };
    let unknown = |what: String| {
        Refusal::new(format!("what is pinned in {} {what}", pins.directory().display())).hint(
            "go on with the sockmeter that made it, or give the counters up with `sockmeter detach` and begin anew",
        )
    };
    let Some(found) = found else {
        return Err(unknown("has no layout that this sockmeter knows".to_owned()));
    };
    if found.version == 0 {
        pins.clear().map_err(failed)?;
        return Ok(Found::Nothing);
    }
    if !(u64::from(layout::OLDEST)..=u64::from(layout::VERSION)).contains(&found.version) {
        let (version, oldest, newest) = (found.version, layout::OLDEST, layout::VERSION);
        return Err(unknown(format!("is of layout {version}, wanted {oldest} to {newest}")));
    }
    for (name, size) in RECORDS {
        let pinned = MapData::from_pin(pins.map(name)).ok().and_then(|map| Some(map.info().ok()?.value_size()));
        if pinned.is_some_and(|pinned| usize::try_from(pinned).ok() != Some(size)) {
            return Err(unknown(format!("has a map {name} of another build")));
        }
    }
    for name in pins.links().iter().filter(|name| interface_of(name).is_none()) {
        // One that somebody ended takes no program any more.
        if links::problem(&pins.link(name)).is_some() {
            std::fs::remove_file(pins.link(name)).map_err(failed)?;
        }
    }
    let is_whole = programs.iter().all(|name| pins.link(name).exists())
        && !pins.links().iter().any(|name| name.ends_with(programs::UNFINISHED));
    if found == wanted && may_stay && is_whole {
        return Ok(Found::Same);
    }
    for name in pins.links().iter().filter(|name| interface_of(name).is_none()) {
        if found.cgroup != wanted.cgroup || !programs.contains(&name.as_str()) {
            std::fs::remove_file(pins.link(name)).map_err(failed)?;
        }
    }
    // The programs that use it keep it until others take their place.
    for name in pins.maps().iter().filter(|name| is_left(name)) {
        std::fs::remove_file(pins.map(name)).map_err(failed)?;
    }
    Ok(Found::OtherPrograms)
}

/// Whether this is a map that only older layouts have.
fn is_left(map: &str) -> bool {
    map != "LAYOUT" && !PINNED.contains(&map)
}

fn layout(path: &Path) -> Option<Layout> {
    let map = Map::Array(MapData::from_pin(path).ok()?);
    let [version, fingerprint, cgroup, _] = Array::<MapData, [u64; 4]>::try_from(map).ok()?.get(&0, 0).ok()?;
    Some(Layout { version, fingerprint, cgroup })
}
