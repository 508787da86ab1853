//! Bytes by place, and the names of the cgroups that make one. What a place means is `owner`'s, how long its bytes are
//! kept apart `model::holders`'.

use std::collections::{BTreeMap, BTreeSet, HashMap as Known};
use std::mem::offset_of;
use std::sync::Arc;

use aya::maps::{Array, HashMap, MapData, MapError, Queue};
use nix::time::{ClockId, clock_gettime};
use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};
use sockmeter_ebpf::place::{CgroupKey, CgroupName, HIERARCHIES, NAME, PlaceKey, PlaceTotals, ROOT};

use super::hierarchies::{Cgroups, Hierarchies};
use super::{Refusal, read, take};
use crate::snapshot::{MapFill, PlaceBytes, ReadError, Snapshot, Standing};

const KEY: usize = size_of::<PlaceKey>();
const TOTALS: usize = size_of::<PlaceTotals>();
const CGROUP: usize = size_of::<CgroupKey>();
const NAMED: usize = size_of::<CgroupName>();
/// Cgroups above each other that a path is put together of.
const DEEPEST: usize = 64;
/// How long the name of a cgroup that is gone is kept: sockets that it leaves behind end within that, or are known by now.
const LATE: u64 = 120_000_000_000;

/// Places that are remembered beyond their slots.
const MOST_STANDINGS: usize = 16_384;

/// The maps of places.
pub(super) struct Places {
    slots: HashMap<MapData, [u8; KEY], u32>,
    totals: Array<MapData, [u8; TOTALS]>,
    free: Queue<MapData, u32>,
    names: HashMap<MapData, [u8; CGROUP], [u8; NAMED]>,
    gone_now: Queue<MapData, [u8; CGROUP]>,
    hierarchies: Hierarchies,
    /// When each cgroup that is gone went, as long as its name is kept.
    gone: BTreeMap<CgroupKey, u64>,
    /// What was found out about places that are in use.
    standings: Known<PlaceKey, Standing>,
    capacity: u32,
    most_names: u64,
}

impl Places {
    pub(super) fn open(ebpf: &mut aya::Ebpf, hierarchies: Hierarchies) -> Result<Self, Refusal> {
        let capacity = read::capacity(ebpf, "PLACE_TOTALS")?.min(read::capacity(ebpf, "PLACE_SLOTS")?);
        Ok(Self {
            capacity,
            most_names: u64::from(read::capacity(ebpf, "CGROUP_NAMES")?),
            slots: take(ebpf, "PLACE_SLOTS")?,
            totals: take(ebpf, "PLACE_TOTALS")?,
            free: take(ebpf, "FREE_SLOTS")?,
            names: take(ebpf, "CGROUP_NAMES")?,
            gone_now: take(ebpf, "CGROUPS_GONE")?,
            hierarchies,
            gone: BTreeMap::new(),
            standings: Known::new(),
        })
    }

    /// Hands out the slots, if the maps are new. Before any program that takes one is attached.
    pub(super) fn prepare(&mut self) -> Result<(), Refusal> {
        let failed = |error: MapError| Refusal::because("cannot prepare the maps of places", &error);
        // Slot 0 is never handed out: that it has a beginning says that all others were.
        let mut first = self.totals.get(&0, 0).map_err(failed)?;
        if totals(&first).first != 0 {
            return Ok(());
        }
        while self.free.pop(0).is_ok() {}
        for slot in 1..self.capacity {
            self.free.push(slot, 0).map_err(failed)?;
        }
        if let Some(byte) = first.get_mut(offset_of!(PlaceTotals, first)) {
            *byte = 1;
        }
        self.totals.set(0, first, 0).map_err(failed)
    }

    /// Names the cgroups that are there, and notes which are gone. After the programs that see them come and go are attached.
    pub(super) fn name_present(&mut self, now: u64) {
        let mut present = BTreeSet::new();
        let names = &mut self.names;
        let gone_now = &mut self.gone_now;
        // The names tell by themselves who is gone.
        while gone_now.pop(0).is_ok() {}
        self.hierarchies.walk(|found| {
            let key = cgroup_bytes(found.key);
            let mut value = [0; NAMED];
            put(&mut value, offset_of!(CgroupName, parent), &found.parent.to_le_bytes());
            put(&mut value, offset_of!(CgroupName, name), &found.name);
            // One that the kernel side named by itself has its name. Without room it has none.
            let _ = names.insert(key, value, 1);
            // It may have been removed before it was named.
            if found.path.exists() {
                present.insert(found.key);
            }
        });
        let known: Vec<_> = self.names.iter().filter_map(Result::ok).collect();
        for (key, mut value) in known {
            let cgroup = cgroup_key(&key);
            // One that was made during the walk may not have been met.
            let is_there = |key| self.path(key).is_some_and(|path| self.hierarchies.has(key, &path));
            let mut gone = word(&value, offset_of!(CgroupName, gone));
            if gone == 0 && !present.contains(&cgroup) && !is_there(cgroup) {
                gone = now;
                put(&mut value, offset_of!(CgroupName, gone), &now.to_le_bytes());
                let _ = self.names.insert(key, value, 0);
            }
            if gone != 0 {
                self.gone.insert(cgroup, gone);
            }
        }
    }

    /// Hears which cgroups went; whether any went lately, so that their slots may have to be given back.
    pub(super) fn hear(&mut self, now: u64) -> bool {
        while let Ok(key) = self.gone_now.pop(0) {
            self.gone.insert(cgroup_key(&key), now);
        }
        !self.gone.is_empty()
    }

    /// Where the cgroups of places are.
    pub(super) fn cgroups(&self) -> Cgroups {
        Cgroups(self.hierarchies.clone())
    }

    /// How full the map of slots is.
    pub(super) fn fill(&self, snapshot: &Snapshot) -> MapFill {
        let entries = u64::try_from(snapshot.places.len()).unwrap_or(u64::MAX);
        MapFill { map: "places", entries, capacity: u64::from(self.capacity) }
    }

    /// Bytes by place.
    pub(super) fn read(&mut self, snapshot: &mut Snapshot, now: u64) -> Result<(), ReadError> {
        self.hear(now);
        snapshot.places.clear();
        let mut found = BTreeMap::new();
        for entry in &self.slots {
            let (key, slot) = entry.map_err(|error| failed("PLACE_SLOTS", &error))?;
            found.insert(slot, key);
        }
        let overflow = totals(&self.totals.get(&0, 0).map_err(|error| failed("PLACE_TOTALS", &error))?);
        snapshot.overflow = [overflow.received, overflow.sent];
        for (slot, key) in found {
            let bytes = self.totals.get(&slot, 0).map_err(|error| failed("PLACE_TOTALS", &error))?;
            let totals = totals(&bytes);
            let key = place_key(&key);
            let standing = self.standing(key);
            snapshot.places.push(PlaceBytes { slot, totals: PlaceTotals { key, ..totals }, standing });
        }
        self.forget(snapshot, now);
        snapshot.now = now;
        Ok(())
    }

    /// Lets go of what nobody asks for any more.
    fn forget(&mut self, snapshot: &Snapshot, now: u64) {
        // Sockets of a place may be at rest for long after its slot was given back.
        if self.standings.len() > MOST_STANDINGS {
            let places: BTreeSet<PlaceKey> = snapshot.places.iter().map(|place| place.totals.key).collect();
            self.standings.retain(|key, _| places.contains(key));
        }
        let is_full = u64::try_from(self.gone.len()).unwrap_or(u64::MAX) > self.most_names / 2;
        let late = if is_full { 0 } else { LATE };
        let old: Vec<CgroupKey> =
            self.gone.iter().filter(|(_, gone)| now.saturating_sub(**gone) > late).map(|(key, _)| *key).collect();
        for key in old {
            let _ = self.names.remove(&cgroup_bytes(key));
            self.gone.remove(&key);
        }
    }

    /// What is known of a place.
    pub(super) fn standing(&mut self, key: PlaceKey) -> Standing {
        let keys: Vec<CgroupKey> = self.hierarchies.keys(key).collect();
        let gone = keys.iter().filter_map(|key| self.gone.get(key)).min().copied();
        if let Some(known) = self.standings.get_mut(&key) {
            // When its names are forgotten it is as dead as before: sockets may be left that go on for hours.
            known.gone = known.gone.or(gone);
            return known.clone();
        }
        let standing = Standing { paths: Arc::new(keys.iter().map(|key| self.path(*key)).collect()), gone };
        self.standings.insert(key, standing.clone());
        standing
    }

    /// The path of a cgroup within its hierarchy, as far up as this mount shows it; `None` if its name is not known.
    fn path(&self, mut key: CgroupKey) -> Option<Vec<u8>> {
        let mut names = Vec::new();
        for _ in 0..DEEPEST {
            if key.id == ROOT {
                break;
            }
            let value = self.names.get(&cgroup_bytes(key), 0).ok()?;
            let parent = word(&value, offset_of!(CgroupName, parent));
            if parent == 0 {
                break;
            }
            let name = value.get(offset_of!(CgroupName, name)..).unwrap_or_default();
            names.push(name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec());
            key.id = parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Some(path)
    }

    /// Takes slots away from their places: from here on nothing is added to them, and this is what they hold. Bytes of the
    /// same place that come later get another slot.
    pub(super) fn take(&mut self, slots: &[(u32, PlaceKey)]) -> Result<Vec<PlaceBytes>, ReadError> {
        if !membarrier_query().contains_command(MembarrierCommand::Global) {
            let why = "this kernel runs without a tick, and cannot wait for them".to_owned();
            return Err(ReadError { what: "the end of running programs", why });
        }
        for (_, key) in slots {
            // One that is not there was taken by a run that was killed.
            let _ = self.slots.remove(&place_bytes(*key));
        }
        settle()?;
        slots
            .iter()
            .map(|(slot, _)| {
                let bytes = self.totals.get(slot, 0).map_err(|error| failed("PLACE_TOTALS", &error))?;
                let totals = totals(&bytes);
                Ok(PlaceBytes { slot: *slot, totals, standing: self.standing(totals.key) })
            })
            .collect()
    }

    /// Slots that a run took away from their places and was killed before it gave them back.
    pub(super) fn orphans(&mut self) -> Result<Vec<PlaceBytes>, ReadError> {
        let suspects = self.held()?;
        if suspects.is_empty() {
            return Ok(suspects);
        }
        // Some may be about to get their place.
        settle()?;
        let still = self.held()?;
        let is_same = |a: &PlaceBytes, b: &PlaceBytes| (a.slot, a.totals.first) == (b.slot, b.totals.first);
        Ok(still.into_iter().filter(|found| suspects.iter().any(|suspect| is_same(suspect, found))).collect())
    }

    /// Slots that are taken and belong to no place.
    fn held(&mut self) -> Result<Vec<PlaceBytes>, ReadError> {
        let placed: BTreeSet<u32> = self.slots.iter().filter_map(Result::ok).map(|(_, slot)| slot).collect();
        let mut held = Vec::new();
        for slot in (1..self.capacity).filter(|slot| !placed.contains(slot)) {
            let totals = totals(&self.totals.get(&slot, 0).map_err(|error| failed("PLACE_TOTALS", &error))?);
            if totals.first != 0 {
                held.push(PlaceBytes { slot, totals, standing: self.standing(totals.key) });
            }
        }
        Ok(held)
    }

    /// Gives a slot back whose bytes are booked elsewhere.
    pub(super) fn free(&mut self, slot: u32) -> Result<(), ReadError> {
        // In this order: killed between the two, the slot is never used again, but nobody's bytes are in it twice.
        self.totals.set(slot, [0; TOTALS], 0).map_err(|error| failed("PLACE_TOTALS", &error))?;
        self.free.push(slot, 0).map_err(|error| failed("FREE_SLOTS", &error))
    }
}

impl super::Kernel {
    /// Reads the bytes by place again, if a cgroup went lately or `always`.
    ///
    /// # Errors
    /// When the kernel refuses a read.
    pub fn places(&mut self, snapshot: &mut Snapshot, always: bool) -> Result<(), ReadError> {
        let now = monotonic();
        snapshot.now = now;
        if self.places.hear(now) || always { self.places.read(snapshot, now) } else { Ok(()) }
    }
}

/// Returns when every program that runs now has ended: programs are RCU read sides, and this waits for all of those
/// (`kernel/sched/membarrier.c`, `MEMBARRIER_CMD_GLOBAL`).
fn settle() -> Result<(), ReadError> {
    membarrier(MembarrierCommand::Global)
        .map_err(|error| ReadError { what: "the end of running programs", why: error.to_string() })
}

fn failed(what: &'static str, error: &MapError) -> ReadError {
    ReadError { what, why: error.to_string() }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (slot, byte) in bytes.iter_mut().skip(at).zip(value) {
        *slot = *byte;
    }
}

fn place_key(bytes: &[u8; KEY]) -> PlaceKey {
    PlaceKey { cgroups: std::array::from_fn(|i| word(bytes, 8 * i)) }
}

fn place_bytes(key: PlaceKey) -> [u8; KEY] {
    let mut bytes = [0; KEY];
    for (place, cgroup) in key.cgroups.into_iter().enumerate() {
        put(&mut bytes, 8 * place, &cgroup.to_le_bytes());
    }
    bytes
}

fn cgroup_key(bytes: &[u8; CGROUP]) -> CgroupKey {
    CgroupKey { hierarchy: word(bytes, 0), id: word(bytes, 8) }
}

fn cgroup_bytes(key: CgroupKey) -> [u8; CGROUP] {
    let mut bytes = [0; CGROUP];
    put(&mut bytes, 0, &key.hierarchy.to_le_bytes());
    put(&mut bytes, 8, &key.id.to_le_bytes());
    bytes
}

fn totals(bytes: &[u8; TOTALS]) -> PlaceTotals {
    let at = |at| word(bytes, at);
    PlaceTotals {
        key: PlaceKey { cgroups: std::array::from_fn(|i| word(bytes, 8 * i)) },
        received: at(offset_of!(PlaceTotals, received)),
        sent: at(offset_of!(PlaceTotals, sent)),
        first: at(offset_of!(PlaceTotals, first)),
    }
}

const _: () = assert!(NAME < NAMED && HIERARCHIES * 8 == KEY);

/// The clock of `bpf_ktime_get_ns`; 0 if there is none.
pub(super) fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(std::time::Duration::from);
    now.ok().and_then(|now| u64::try_from(now.as_nanos()).ok()).unwrap_or(0)
}
