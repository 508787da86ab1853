//! The only place that knows aya: loads the programs, keeps them attached, reads their maps into the plain values of
//! `snapshot`. What the programs do is in `../../ebpf`.

mod before;
mod books;
pub mod btf;
mod casts;
mod cgroup;
mod device;
mod diagnostics;
pub mod examine;
mod fields;
mod filters;
mod hierarchies;
mod holders;
mod interfaces;
mod journal;
mod links;
mod listing;
mod namespaces;
mod object;
mod offload;
mod own;
mod passes;
mod pattern;
mod pins;
mod places;
mod programs;
mod quiet;
mod read;
mod refusal;
mod retired;
mod ring;
mod scan;
mod served;
mod syscall;
mod takeover;

use std::path::Path;

use aya::maps::{HashMap, Map, MapData};
use aya::programs::Iter;
use aya::programs::links::FdLink;
use aya::{Btf, Ebpf, EbpfLoader};
use sockmeter_ebpf::layout;

pub use self::before::PinnedBefore;
pub use self::books::Books;
pub use self::device::{Device, devices};
pub use self::filters::remove as remove_filters;
use self::hierarchies::Hierarchies;
pub use self::hierarchies::{Cgroups, Directory};
pub use self::holders::Holders;
pub use self::interfaces::has_tcx;
pub use self::journal::Journal;
pub use self::offload::Offload;
pub use self::own::OwnConnections;
use self::passes::Passed;
use self::pins::Pins;
pub use self::pins::{Removed, remove};
use self::places::{Places, monotonic};
use self::programs::Running;
use self::quiet::Moved;
use self::read::Maps;
pub use self::refusal::Refusal;
use self::scan::Scan;
use self::takeover::{Found, Layout};
use crate::config::{Scope, Settings};
use crate::snapshot::{PlaceBytes, PlaceKey, ProgramState, ReadError, Snapshot, Spill};

/// Maps that are pinned: all that carries state from one run to the next.
const PINNED: [&str; 31] = [
    "SOCKET",
    "MAKER",
    "CONN",
    "JOURNAL",
    "DEEP",
    "STASH",
    "BLOCKS",
    "FREE_BLOCKS",
    "STASHED",
    "SERVICE_PORTS",
    "SERVED",
    "BODIES",
    "OWN",
    "SPILLS",
    "LOST",
    "TOTALS",
    "ROUND_TRIPS",
    "SOCKETS",
    "INTERFACES",
    "FAR_INTERFACES",
    "INTERFACE_NAMES",
    "SEGMENTED",
    "BOOK_CELLS",
    "BOOK_LEDGERS",
    "BOOK_BATCH",
    "PLACE_SLOTS",
    "PLACE_TOTALS",
    "FREE_SLOTS",
    "CGROUP_NAMES",
    "CGROUPS_GONE",
    "BOOK_HOLDERS",
];

/// The program that passes over the open files of all processes.
const OWNERS: &str = "snapshot_owners";

/// The kernel side, attached.
pub struct Kernel {
    ebpf: Ebpf,
    pins: Option<Pins>,
    /// Links that live as long as the agent (`--no-pin`).
    _links: Vec<FdLink>,
    programs: Vec<ProgramState>,
    interfaces: interfaces::Interfaces,
    maps: Maps,
    places: Places,
    service_ports: HashMap<MapData, u32, u32>,
    diagnostics: Option<diagnostics::Diagnostics>,
    netns: u32,
    all_namespaces: bool,
    without_udp: bool,
    running: Running,
    layout: Layout,
    scan: Scan,
    /// Whether this kernel's storages can be scanned: see `layout::field::STORAGE_STATE`.
    scans: bool,
    passed: Passed,
    moved: Moved,
    wake: u64,
}

impl Kernel {
    /// Loads the programs and attaches them, or takes over those that an earlier run left pinned.
    ///
    /// # Errors
    /// When this kernel or these privileges do not allow it; nothing stays attached then that was not before.
    pub fn open(settings: &Settings) -> Result<Self, Refusal> {
        let structures = btf::structures(Path::new(btf::VMLINUX)).map_err(|error| Refusal::new(error.to_string()))?;
        let bytes = object::read(&structures)?;
        let controllers = btf::controllers(Path::new(btf::VMLINUX)).map_err(|error| Refusal::new(error.to_string()))?;
        let hierarchies = Hierarchies::look(controllers)
            .map_err(|error| Refusal::because("cannot tell which cgroup hierarchies there are", &error))?;
        let btf = Btf::from_sys_fs().map_err(|error| Refusal::because("cannot read the kernel's types", &error))?;
        let below = if let Scope::Cgroup(path) = &settings.scope { Some(path.as_path()) } else { None };
        let (cgroup, only_cgroup) = cgroup::open(below)?;
        let netns = namespaces::own()?;
        let pins = settings.pin_dir.as_deref().map(Pins::open).transpose()?;
        let only_netns = if settings.scope == Scope::Netns { netns } else { 0 };
        let log_level = diagnostics::level(settings.log.level);
        // Programs that talk are not the same as those that do not, and only fresh ones are heard.
        let scope = u64::from(only_netns) ^ only_cgroup.rotate_left(16);
        let built_in = hierarchies.fingerprint().rotate_left(8) ^ scope ^ (u64::from(log_level) << 32);
        let follows_udp = u32::from(settings.observe.udp);
        let wanted = programs::wanted(settings.observe);
        let parts = u64::from(follows_udp) << 62 | u64::from(settings.observe.http) << 63;
        let fingerprint = object::fingerprint(&bytes) ^ built_in ^ parts;
        let layout = Layout { version: u64::from(layout::VERSION), fingerprint, cgroup: only_cgroup };
        let found = match &pins {
            Some(pins) => takeover::look(pins, layout, log_level == 0, &wanted)?,
            None => Found::Nothing,
        };

        let pinned = pins.as_ref().and_then(|pins| MapData::from_pin(pins.map("JOURNAL")).ok()?.info().ok());
        let wake = journal::late(pinned.map(|ring| ring.max_entries()), settings.kernel.ring_bytes);
        let mut loader = EbpfLoader::new();
        loader.override_global("JOURNAL_WAKE", &wake, true);
        loader.override_global("FOLLOW_UDP", &follows_udp, true);
        loader.override_global("STATES", &hierarchies.states, true);
        loader.override_global("NUMBERS", &hierarchies.numbers, true);
        loader.override_global("ONLY_NETNS", &only_netns, true);
        loader.override_global("ONLY_CGROUP", &only_cgroup, true);
        loader.override_global(aya_log::LEVEL, &log_level, true);
        for (name, entries) in settings.kernel.maps() {
            loader.map_max_entries(name, entries);
        }
        if let Some(pins) = &pins {
            for name in PINNED.into_iter().chain(["LAYOUT"]) {
                loader.map_pin_path(name, pins.map(name));
            }
        }
        let mut ebpf = loader.load(&bytes).map_err(|error| object::refused(&error))?;
        let mut maps = Maps::open(&mut ebpf)?;
        maps.prepare()?;
        served::prepare(&mut ebpf, found == Found::Nothing)?;
        let mut places = Places::open(&mut ebpf, hierarchies.clone())?;
        places.prepare()?;
        let stays = found == Found::Same;
        programs::load(&mut ebpf, &btf, if stays { &[] } else { &wanted })?;
        let mut links = Vec::new();
        let mut running = Running::default();
        for name in &wanted {
            if !stays {
                links.extend(programs::attach(&mut ebpf, name, &cgroup, pins.as_ref())?);
            }
            running.note(&ebpf, name, pins.as_ref());
        }
        places.name_present(monotonic());
        // Sockets that were made from here on have their maker.
        let older = iterator(&mut ebpf, OWNERS).and_then(namespaces::run);
        older.map_err(|error| refused(&error))?;
        let programs = wanted.iter().map(|name| programs::state(name, programs::target(name), None)).collect();
        Ok(Self {
            interfaces: interfaces::Interfaces::open(&mut ebpf, &settings.interfaces, !stays)?,
            running: interfaces::noted(running, &ebpf),
            layout,
            service_ports: take(&mut ebpf, "SERVICE_PORTS")?,
            scan: Scan::open(&mut ebpf)?,
            diagnostics: diagnostics::Diagnostics::open(&mut ebpf, settings.log.level)?,
            ebpf,
            pins,
            _links: links,
            programs,
            maps,
            places,
            netns,
            scans: structures.offsets[layout::field::STORAGE_STATE] == 0,
            passed: Passed::default(),
            moved: Moved::default(),
            wake,
            without_udp: !settings.observe.udp,
            all_namespaces: settings.scope != Scope::Netns,
        })
    }

    /// The journal; once.
    ///
    /// # Errors
    /// When it was taken before, or cannot be mapped.
    pub fn journal(&mut self) -> Result<Journal, Refusal> {
        Journal::open(&mut self.ebpf, self.wake)
    }

    /// The books' maps; once.
    ///
    /// # Errors
    /// When they were taken before.
    pub fn books(&mut self) -> Result<Books, Refusal> {
        Books::open(&mut self.ebpf)
    }

    /// Where to say which connections are the agent's own; once.
    ///
    /// # Errors
    /// When it was taken before, or cannot be written.
    pub fn own_connections(&mut self) -> Result<OwnConnections, Refusal> {
        OwnConnections::open(&mut self.ebpf, self.netns)
    }

    /// The map of what is kept for jobs and containers; once.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn holders(&mut self) -> Result<Holders, Refusal> {
        Holders::open(&mut self.ebpf)
    }

    /// Takes slots away from their places: nothing is added to them any more, and this is what they hold.
    ///
    /// # Errors
    /// When the kernel refuses; what was taken is an orphan of the next start then.
    pub fn take_places(&mut self, slots: &[(u32, PlaceKey)]) -> Result<Vec<PlaceBytes>, ReadError> {
        self.places.take(slots)
    }

    /// What an earlier run took away and was killed before it gave it back.
    ///
    /// # Errors
    /// When the kernel refuses a read.
    pub fn orphans(&mut self) -> Result<Vec<PlaceBytes>, ReadError> {
        self.places.orphans()
    }

    /// Gives a slot back whose bytes are booked elsewhere.
    ///
    /// # Errors
    /// When the kernel refuses; the slot is never used again then.
    pub fn free_place(&mut self, slot: u32) -> Result<(), ReadError> {
        self.places.free(slot)
    }

    /// Says that the start is complete: from now on what is pinned is somebody's books.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn seal(&mut self) -> Result<(), Refusal> {
        self.maps.seal(self.layout)
    }

    /// Says which ports belong to which service (by number). Connections that are open go on as they began.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn observe(&mut self, ports: &[(u16, u16)]) -> Result<(), Refusal> {
        let failed = |error: aya::maps::MapError| Refusal::because("cannot write the observed ports", &error);
        let old: Vec<u32> = self.service_ports.keys().filter_map(Result::ok).collect();
        for port in old {
            if !ports.iter().any(|(wanted, _)| u32::from(*wanted) == port) {
                self.service_ports.remove(&port).map_err(failed)?;
            }
        }
        for (port, service) in ports {
            self.service_ports.insert(u32::from(*port), u32::from(*service), 0).map_err(failed)?;
        }
        Ok(())
    }

    /// Counts on other interfaces from the next `follow` on: those whose names match one of the patterns.
    pub fn choose_interfaces(&mut self, patterns: &[String]) {
        self.interfaces.choose(patterns);
    }

    /// Attaches to interfaces that are new, lets go of those gone.
    /// `changed`: an index may belong to another device than the last time.
    pub fn follow(&mut self, devices: &[Device], changed: bool) {
        self.interfaces.follow(&mut self.ebpf, devices, self.pins.as_ref(), changed);
    }

    /// The programs and whether they are attached.
    #[must_use]
    pub fn programs(&self) -> Vec<ProgramState> {
        let mut states = self.programs.clone();
        if let Some(pins) = &self.pins {
            for state in &mut states {
                state.problem = links::problem(&pins.link(&state.program));
            }
        }
        states.extend(self.interfaces.states(self.pins.as_ref()));
        for state in &mut states {
            self.running.fill(state);
        }
        states
    }

    /// Books what live sockets carried since the last time, in the kernel, and reads everything.
    ///
    /// # Errors
    /// When a read is refused; nothing is lost then, the next one has it all.
    pub fn snapshot(&mut self, devices: &[Device]) -> Result<Snapshot, ReadError> {
        let mut snapshot = Snapshot { without_udp: self.without_udp, ..Snapshot::default() };
        snapshot.live = self.pass(true)?;
        self.maps.read(&mut snapshot)?;
        self.places.read(&mut snapshot, monotonic())?;
        snapshot.maps.push(self.places.fill(&snapshot));
        snapshot.interfaces = self.interfaces.read(devices);
        snapshot.programs = self.programs();
        Ok(snapshot)
    }

    /// Books what live sockets carried since the last time, in the kernel, and reads what could not be posted when its
    /// connection ended.
    ///
    /// # Errors
    /// When a read is refused; nothing is lost then, the next one has it all.
    pub fn progress(&mut self) -> Result<Vec<(u16, Spill)>, ReadError> {
        self.pass(false)?;
        self.maps.spills()
    }
}

fn refused(error: &ReadError) -> Refusal {
    Refusal::because("cannot tell whose the older sockets are", error)
}

fn iterator<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Iter, ReadError> {
    let missing = || ReadError { what: name, why: "the kernel object has no such program".to_owned() };
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or_else(missing)
}

/// Takes a map out of the object.
fn take<M: TryFrom<Map, Error = aya::maps::MapError>>(ebpf: &mut Ebpf, name: &str) -> Result<M, Refusal> {
    let map = ebpf.take_map(name).ok_or_else(|| Refusal::new(format!("the kernel object has no map {name}")))?;
    M::try_from(map).map_err(|error| Refusal::because(format!("cannot use the map {name}"), &error))
}
