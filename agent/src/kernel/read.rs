//! Maps into plain values. Interfaces are in `interfaces`, the journal in `journal`.

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, Queue};
use sockmeter_ebpf::conn::Entry;
use sockmeter_ebpf::layout::{self, DeepKey, LOSSES, ListenerKey, SERVICES, Spill};
use sockmeter_ebpf::socket::{RoundTripKey, RoundTrips, TCP, Totals, TotalsKey, UDP};

use super::takeover::Layout;
use super::{Refusal, take};
use crate::snapshot::{MapFill, ReadError, Snapshot};

const TOTALS_KEY: usize = size_of::<TotalsKey>();
const TOTALS: usize = size_of::<Totals>();
const TRIPS_KEY: usize = size_of::<RoundTripKey>();
const TRIPS: usize = size_of::<RoundTrips>();
const SPILL: usize = size_of::<Spill>();
const DEEP_KEY: usize = size_of::<DeepKey>();
const ENTRY: usize = size_of::<Entry>();
const LISTENER_KEY: usize = size_of::<ListenerKey>();

/// The maps of totals.
pub(super) struct Maps {
    totals: HashMap<MapData, [u8; TOTALS_KEY], [u8; TOTALS]>,
    round_trips: HashMap<MapData, [u8; TRIPS_KEY], [u8; TRIPS]>,
    sockets: PerCpuArray<MapData, [u64; 2]>,
    spills: Array<MapData, [u8; SPILL]>,
    lost: PerCpuArray<MapData, u64>,
    layout: Array<MapData, [u64; 4]>,
    free_blocks: Queue<MapData, u32>,
    deep: HashMap<MapData, [u8; DEEP_KEY], [u8; ENTRY]>,
    listeners: HashMap<MapData, [u8; LISTENER_KEY], u32>,
    stashed: Array<MapData, u64>,
    /// Of `totals`, `round_trips`, `pipelined`, `listeners`, `stash_blocks`.
    capacities: [u64; 5],
}

/// How many entries a map has room for: a pinned one may be of another size than what is configured.
pub(super) fn capacity(ebpf: &Ebpf, name: &str) -> Result<u32, Refusal> {
    let map = ebpf.map(name).ok_or_else(|| Refusal::new(format!("the kernel object has no map {name}")))?;
    let (Map::Array(data) | Map::HashMap(data) | Map::PerCpuHashMap(data) | Map::Queue(data)) = map else {
        return Err(Refusal::new(format!("the map {name} is of a kind that is not measured")));
    };
    let found = data.info().map_err(|error| Refusal::because(format!("cannot ask for the map {name}"), &error))?;
    Ok(found.max_entries())
}

impl Maps {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, Refusal> {
        let mut capacities = [0; 5];
        for (slot, name) in capacities.iter_mut().zip(["TOTALS", "ROUND_TRIPS", "DEEP", "LISTENERS", "BLOCKS"]) {
            *slot = u64::from(capacity(ebpf, name)?);
        }
        Ok(Self {
            capacities,
            deep: take(ebpf, "DEEP")?,
            listeners: take(ebpf, "LISTENERS")?,
            stashed: take(ebpf, "STASHED")?,
            totals: take(ebpf, "TOTALS")?,
            round_trips: take(ebpf, "ROUND_TRIPS")?,
            sockets: take(ebpf, "SOCKETS")?,
            spills: take(ebpf, "SPILLS")?,
            lost: take(ebpf, "LOST")?,
            layout: take(ebpf, "LAYOUT")?,
            free_blocks: take(ebpf, "FREE_BLOCKS")?,
        })
    }

    /// Says that the start is complete, and whose layout this is.
    pub(super) fn seal(&mut self, layout: Layout) -> Result<(), Refusal> {
        let failed = |error: MapError| Refusal::because("cannot note the layout", &error);
        // The last one is the programs' own (`layout::AGENT`).
        let [.., agent] = self.layout.get(&0, 0).map_err(failed)?;
        let words = [u64::from(layout::VERSION), layout.fingerprint, layout.cgroup, agent];
        self.layout.set(0, words, 0).map_err(failed)
    }

    /// Makes the entries for what no map has room for.
    pub(super) fn prepare(&mut self) -> Result<(), Refusal> {
        let failed = |error: MapError| Refusal::because("cannot prepare the maps", &error);
        let is_new = self.layout.get(&0, 0).map_err(failed)? == [0; 4];
        if is_new {
            let [.., blocks] = self.capacities;
            for block in 0..u32::try_from(blocks).unwrap_or(u32::MAX) {
                self.free_blocks.push(block, 0).map_err(failed)?;
            }
        }
        for protocol in [TCP, UDP] {
            let mut key = [0; TOTALS_KEY];
            key[0] = protocol;
            key[std::mem::offset_of!(TotalsKey, overflow)] = 1;
            if self.totals.get(&key, 0).is_err() {
                self.totals.insert(key, [0; TOTALS], 0).map_err(failed)?;
            }
        }
        let mut key = [0; TRIPS_KEY];
        key[std::mem::offset_of!(RoundTripKey, overflow)] = 1;
        if self.round_trips.get(&key, 0).is_err() {
            self.round_trips.insert(key, [0; TRIPS], 0).map_err(failed)?;
        }
        Ok(())
    }

    /// What could not be posted, by number of the service.
    pub(super) fn spills(&self) -> Result<Vec<(u16, Spill)>, ReadError> {
        let mut spills = Vec::new();
        for index in 0..SERVICES {
            let bytes = self.spills.get(&index, 0).map_err(|error| failed("SPILLS", &error))?;
            let spill = spill(&bytes);
            if let (true, Ok(service)) = (spill != Spill::default(), u16::try_from(index)) {
                spills.push((service, spill));
            }
        }
        Ok(spills)
    }

    /// Losses of one kind.
    pub(super) fn lost(&self, kind: u32) -> Result<u64, ReadError> {
        let cpus = self.lost.get(&kind, 0).map_err(|error| failed("LOST", &error))?;
        Ok(cpus.iter().sum())
    }

    pub(super) fn read(&self, snapshot: &mut Snapshot) -> Result<(), ReadError> {
        for entry in &self.round_trips {
            let (key, value) = entry.map_err(|error| failed("ROUND_TRIPS", &error))?;
            snapshot.round_trips.push((trips_key(key), trips(&value)));
        }
        for (index, pair) in (0u32..).zip(&mut snapshot.sockets) {
            let cpus = self.sockets.get(&index, 0).map_err(|error| failed("SOCKETS", &error))?;
            *pair = cpus.iter().fold([0, 0], |sum, cpu| [sum[0] + cpu[0], sum[1] + cpu[1]]);
        }
        snapshot.spills = self.spills()?;
        for kind in 0..LOSSES {
            snapshot.lost.push(self.lost(kind)?);
        }
        let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        let stashed = self.stashed.get(&0, 0).map_err(|error| failed("STASHED", &error))?;
        let (deep, listeners) = (count(self.deep.keys().count()), count(self.listeners.keys().count()));
        // Last, since those of places are read next: what ends in between is in those only.
        for entry in &self.totals {
            let (key, value) = entry.map_err(|error| failed("TOTALS", &error))?;
            snapshot.totals.push((totals_key(&key), totals(&value)));
        }
        let fills = [
            ("totals", count(snapshot.totals.len())),
            ("round_trips", count(snapshot.round_trips.len())),
            ("pipelined", deep),
            ("listeners", listeners),
            // Some were in use before they were counted, if the maps are older than that.
            ("stash_blocks", if stashed > u64::MAX / 2 { 0 } else { stashed }),
        ];
        for ((map, entries), capacity) in fills.into_iter().zip(self.capacities) {
            snapshot.maps.push(MapFill { map, entries, capacity });
        }
        Ok(())
    }
}

fn failed(what: &'static str, error: &MapError) -> ReadError {
    ReadError { what, why: error.to_string() }
}

/// The little-endian words of a map value.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word))
}

fn totals_key(bytes: &[u8; TOTALS_KEY]) -> TotalsKey {
    let [protocol, role, p0, p1, o0, o1, o2, o3, process @ ..] = *bytes;
    TotalsKey {
        protocol,
        role,
        port: u16::from_le_bytes([p0, p1]),
        overflow: u32::from_le_bytes([o0, o1, o2, o3]),
        process,
    }
}

fn totals(bytes: &[u8; TOTALS]) -> Totals {
    let mut words = words(bytes);
    let mut next = || words.next().unwrap_or(0);
    Totals { received: next(), sent: next(), retransmitted: next(), first: next() }
}

fn trips_key(bytes: [u8; TRIPS_KEY]) -> RoundTripKey {
    let [p0, p1, role, overflow] = bytes;
    RoundTripKey { port: u16::from_le_bytes([p0, p1]), role, overflow }
}

fn trips(bytes: &[u8; TRIPS]) -> RoundTrips {
    let mut words = words(bytes);
    RoundTrips {
        buckets: std::array::from_fn(|_| words.next().unwrap_or(0)),
        eighths: words.next().unwrap_or(0),
        first: words.next().unwrap_or(0),
    }
}

fn spill(bytes: &[u8; SPILL]) -> Spill {
    let mut words = words(bytes);
    let mut pair = || [words.next().unwrap_or(0), words.next().unwrap_or(0)];
    let (stream, lost, open) = (pair(), pair(), pair());
    Spill { stream, lost, open: open.map(u64::cast_signed), requests: pair()[0] }
}
