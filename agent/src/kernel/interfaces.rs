//! Interfaces of the agent's own network namespace: attaching to those that match, also when they appear later. The
//! devices themselves are in `device`.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use sockmeter_ebpf::interface::{DIRECT, FAMILIES, Interface};

use super::device::Device;
use super::pattern::matches;
use super::pins::Pins;
use super::retired::Kept;
use super::{Refusal, filters, links, programs, syscall, take};
use crate::snapshot::{InterfaceCounters, ProgramState};

pub(super) const INTERFACE: usize = size_of::<Interface>();
pub(super) const PROGRAMS: [(&str, TcAttachType); 2] =
    [("interface_receives", TcAttachType::Ingress), ("interface_sends", TcAttachType::Egress)];

/// What is attached to an interface.
struct Attached {
    name: String,
    /// Links and filters that are not pinned; dropping them detaches.
    links: Vec<SchedClassifierLink>,
    problem: Option<String>,
    segments: Option<bool>,
}

/// The interfaces that are counted.
pub(super) struct Interfaces {
    patterns: Vec<String>,
    near: PerCpuArray<MapData, [u8; INTERFACE]>,
    far: PerCpuHashMap<MapData, u32, [u8; INTERFACE]>,
    names: HashMap<MapData, u32, [u8; 16]>,
    segmented: HashMap<MapData, u32, u32>,
    attached: BTreeMap<u32, Attached>,
    /// What is pinned runs other programs, which ours replace.
    replaces: bool,
}

/// Notes the programs of interfaces.
pub(super) fn noted(mut running: programs::Running, ebpf: &Ebpf) -> programs::Running {
    for (name, _) in PROGRAMS {
        running.note(ebpf, name, None);
    }
    running
}

impl Interfaces {
    /// `replaces`: what is pinned from an earlier run is given these programs.
    pub(super) fn open(ebpf: &mut Ebpf, patterns: &[String], replaces: bool) -> Result<Self, Refusal> {
        for (name, _) in PROGRAMS {
            classifier(ebpf, name)?
                .load()
                .map_err(|error| Refusal::because(format!("cannot load the program {name}"), &error))?;
        }
        let mut interfaces = Self {
            patterns: patterns.to_vec(),
            near: take(ebpf, "INTERFACES")?,
            far: take(ebpf, "FAR_INTERFACES")?,
            names: take(ebpf, "INTERFACE_NAMES")?,
            segmented: take(ebpf, "SEGMENTED")?,
            attached: BTreeMap::new(),
            replaces,
        };
        let failed = |error| Refusal::because("cannot write the counters of interfaces", &error);
        interfaces.kept().finish().map_err(failed)?;
        Ok(interfaces)
    }

    fn kept(&mut self) -> Kept<'_> {
        Kept { near: &mut self.near, far: &mut self.far, names: &mut self.names }
    }

    /// Takes other patterns; they count from the next `follow` on.
    pub(super) fn choose(&mut self, patterns: &[String]) {
        self.patterns = patterns.to_vec();
    }

    fn wants(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// Attaches to what is new, lets go of what is gone or not wanted any more.
    /// `changed`: an index may belong to another device than the last time.
    pub(super) fn follow(&mut self, ebpf: &mut Ebpf, devices: &[Device], pins: Option<&Pins>, changed: bool) {
        if self.attached.is_empty() || changed {
            self.forget_dead_links(ebpf, devices, pins);
        }
        let stays = |index: u32| devices.iter().any(|device| device.index == index && self.wants(&device.name));
        let gone: Vec<u32> = self.attached.keys().filter(|index| !stays(**index)).copied().collect();
        for index in gone {
            self.attached.remove(&index);
            if let Some(pins) = pins {
                // Where the device is gone the link is dead, and the pin only a name by now.
                let of_it = pins.links().into_iter().filter(|pin| interface_of(pin) == Some(index));
                of_it.for_each(|pin| drop(filters::let_go(&pins.link(&pin))));
            }
        }
        for device in devices {
            if !self.wants(&device.name) {
                continue;
            }
            // Before the first packet is counted, and again when the device changes its mind.
            if self.attached.get(&device.index).and_then(|attached| attached.segments) != Some(device.segments) {
                self.note_segments(device);
            }
            let renamed = self.attached.get(&device.index).is_some_and(|attached| attached.name != device.name);
            if self.attached.contains_key(&device.index) && !renamed {
                continue;
            }
            let pinned = |pins: &Pins| pins.links().iter().any(|pin| interface_of(pin) == Some(device.index));
            if !renamed
                && !pins.is_some_and(pinned)
                && let Err(error) = self.kept().retire(device.index, name_bytes(&device.name))
            {
                tracing::warn!(interface = device.name, %error, "has the bytes of another that had its index");
            }
            // Without a name nobody would ever see what was counted.
            if self.names.insert(device.index, name_bytes(&device.name), 0).is_err() && !renamed {
                let problem = "its map has no room for another interface (kernel.interfaces)".to_owned();
                tracing::warn!(interface = device.name, problem, "interface is not counted");
                let (name, problem) = (device.name.clone(), Some(problem));
                let none = Attached { name, links: Vec::new(), problem, segments: Some(device.segments) };
                self.attached.insert(device.index, none);
                continue;
            }
            if renamed {
                if let Some(attached) = self.attached.get_mut(&device.index) {
                    attached.name.clone_from(&device.name);
                }
                continue;
            }
            let attached = self.attach(ebpf, device, pins);
            if let Some(problem) = &attached.problem {
                tracing::warn!(interface = device.name, problem, "interface is not counted");
            }
            self.attached.insert(device.index, attached);
        }
    }

    /// Removes the pins of links whose device went away, even if another one has its index by now: that would be taken
    /// for attached.
    fn forget_dead_links(&mut self, ebpf: &mut Ebpf, devices: &[Device], pins: Option<&Pins>) {
        let Some(pins) = pins else {
            return;
        };
        for pin in pins.links() {
            let Some(index) = interface_of(&pin) else {
                continue;
            };
            let is_there = devices.iter().any(|device| device.index == index);
            if is_there && !is_dead(ebpf, pins, &pin) {
                continue;
            }
            if is_there {
                self.attached.remove(&index);
            } else if self.attached.contains_key(&index) {
                // Gone, and let go of in the usual way.
                continue;
            }
            let removed = std::fs::remove_file(pins.link(&pin));
            if let Err(error) = removed.or_else(is_gone) {
                tracing::warn!(link = pin, %error, "cannot remove the pin of a link whose device is gone");
            }
        }
    }

    /// Tells the programs whether headers of merged segments are to be added.
    fn note_segments(&mut self, device: &Device) {
        let noted = if device.segments {
            self.segmented.insert(device.index, 1, 0)
        } else {
            // Not there is as good as removed.
            let _ = self.segmented.remove(&device.index);
            Ok(())
        };
        if let Err(error) = noted {
            tracing::warn!(interface = device.name, %error, "headers of merged packets are not counted");
        }
        if let Some(attached) = self.attached.get_mut(&device.index) {
            attached.segments = Some(device.segments);
        }
    }

    fn attach(&mut self, ebpf: &mut Ebpf, device: &Device, pins: Option<&Pins>) -> Attached {
        let mut attached =
            Attached { name: device.name.clone(), links: Vec::new(), problem: None, segments: Some(device.segments) };
        if device.index >= DIRECT {
            let blank: Result<PerCpuValues<[u8; INTERFACE]>, _> =
                PerCpuValues::try_from(vec![[0; INTERFACE]; aya::util::nr_cpus().unwrap_or(1)]);
            // NOEXIST: counters of an earlier run stay.
            let is_refused = blank.is_ok_and(|blank| self.far.insert(device.index, blank, 1).is_err());
            if is_refused && self.far.get(&device.index, 0).is_err() {
                attached.problem = Some("its map has no room for another interface (kernel.interfaces)".to_owned());
                return attached;
            }
        }
        for (name, direction) in PROGRAMS {
            if let Err(problem) =
                attach(ebpf, name, direction, device, pins, self.replaces).map(|link| attached.links.extend(link))
            {
                attached.problem = Some(problem.replace('\n', "; "));
            }
        }
        attached
    }

    /// Counters of all interfaces that were ever counted; the devices' own where they are still there.
    pub(super) fn read(&self, devices: &[Device]) -> Vec<InterfaceCounters> {
        let mut by_name: BTreeMap<String, InterfaceCounters> = BTreeMap::new();
        for entry in &self.names {
            let Ok((index, name)) = entry else {
                continue;
            };
            let cpus = if index < DIRECT { self.near.get(&index, 0) } else { self.far.get(&index, 0) };
            let Ok(cpus) = cpus else {
                continue;
            };
            let name: String =
                String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
            let device = devices.iter().find(|device| device.index == index);
            let counters = by_name.entry(name.clone()).or_insert_with(|| InterfaceCounters {
                name,
                netns: "self".to_owned(),
                ours: Interface::default(),
                kernel: None,
            });
            for cpu in cpus.iter() {
                add(&mut counters.ours, cpu);
            }
            if let Some(device) = device {
                counters.kernel = Some(device.bytes);
            }
        }
        by_name.into_values().collect()
    }

    pub(super) fn states(&self, pins: Option<&Pins>) -> Vec<ProgramState> {
        let states = self.attached.iter().flat_map(|(index, attached)| {
            PROGRAMS.map(|(program, _)| {
                // A filter has no pin of this name.
                let pin = pins.map(|pins| pins.link(&link_name(program, *index))).filter(|pin| pin.exists());
                let problem = attached.problem.clone().or_else(|| links::problem(&pin?));
                programs::state(program, &attached.name, problem)
            })
        });
        states.collect()
    }
}

fn link_name(program: &str, index: u32) -> String {
    format!("{program}-{index}")
}

/// The interface that a pin's name is about.
pub(super) fn interface_of(pin: &str) -> Option<u32> {
    let index = PROGRAMS.iter().find_map(|(program, _)| pin.strip_prefix(program)?.strip_prefix('-'))?;
    index.split('-').next()?.parse().ok()
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, Refusal> {
    let missing = || Refusal::new(format!("the kernel object has no program {name}"));
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or_else(missing)
}

/// By a tcx link (6.6 and later), which others can stand beside; else as a filter of a `clsact` qdisc. With pins both
/// outlive the agent, and are taken over: with `replaces` by this program, else as they are. Without pins what is returned
/// holds them.
fn attach(
    ebpf: &mut Ebpf,
    name: &str,
    direction: TcAttachType,
    device: &Device,
    pins: Option<&Pins>,
    replaces: bool,
) -> Result<Option<SchedClassifierLink>, String> {
    let program = classifier(ebpf, name).map_err(|refusal| refusal.to_string())?;
    let pin = link_name(name, device.index);
    if let Some(path) = pins.map(|pins| pins.link(&pin)).filter(|path| path.exists()) {
        return if replaces { replace(program, name, &path).map(|()| None) } else { Ok(None) };
    }
    if pins.is_some_and(|pins| filters::take_over(program, pins, &pin)) {
        return Ok(None);
    }
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    let linked = match program.attach_with_options(&device.name, direction, order) {
        Err(error) if is_unsupported(&error) => filters::attach(program, &device.name, direction),
        linked => linked.and_then(|id| program.take_link(id)),
    };
    let link = linked.map_err(|error| {
        Refusal::because(format!("cannot attach the program {name} to {}", device.name), &error).to_string()
    })?;
    match pins {
        Some(pins) => filters::keep(program, link, pins, &pin).map(|()| None),
        None => Ok(Some(link)),
    }
}

/// Whether a link is pinned there whose device is gone: it takes no program (`kernel/bpf/tcx.c`, `tcx_link_update`). What
/// became of a filter is `filters`' to say; the pin goes with it.
fn is_dead(ebpf: &mut Ebpf, pins: &Pins, pin: &str) -> bool {
    let program = PROGRAMS.iter().find(|(program, _)| pin.starts_with(program));
    let Some(Ok(program)) = program.map(|(program, _)| classifier(ebpf, program)) else {
        return false;
    };
    if let Some(link) = filters::link_of(pin) {
        return !filters::take_over(program, pins, link);
    }
    let Ok(program) = program.fd() else {
        return false;
    };
    let given = syscall::open(&pins.link(pin)).and_then(|link| syscall::replace(link.as_fd(), program.as_fd()));
    given.is_err_and(|error| error.raw_os_error() == Some(nix::libc::ENOLINK))
}

/// A pin that is not there any more need not be removed.
fn is_gone(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Gives the link that is pinned there another program.
fn replace(program: &SchedClassifier, name: &str, pin: &Path) -> Result<(), String> {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        Refusal::because(format!("cannot replace the program {name}"), error).to_string()
    };
    let program = program.fd().map_err(|error| refused(&error))?;
    syscall::open(pin).and_then(|link| syscall::replace(link.as_fd(), program.as_fd())).map_err(|error| refused(&error))
}

/// Whether interfaces are attached to by tcx links, which ask for no capability but those that loaded the program
/// (`tcx_link_attach`, kernel/bpf/tcx.c); rtnetlink, which filters go by, asks for `CAP_NET_ADMIN` every time.
#[must_use]
pub fn has_tcx() -> bool {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => true,
        // That others' programs cannot be looked at is a yes too.
        Err(error) => !is_unsupported(&error),
    }
}

/// Kernels without tcx answer EINVAL to that kind of link.
fn is_unsupported(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidInput)
}

fn name_bytes(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (slot, byte) in bytes.iter_mut().zip(name.bytes()) {
        *slot = byte;
    }
    bytes
}

fn add(sum: &mut Interface, bytes: &[u8; INTERFACE]) {
    let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
    let fields = [&mut sum.received_bytes, &mut sum.received_packets, &mut sum.sent_bytes, &mut sum.sent_packets];
    for field in fields {
        for value in field.iter_mut().take(FAMILIES) {
            *value += words.next().unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pins_name_tells_the_interface_of_links_and_of_filters() {
        assert_eq!(interface_of("interface_sends-12"), Some(12));
        assert_eq!(interface_of("interface_receives-3-at-4026531833-49152-1"), Some(3));
        assert_eq!(interface_of("packet_sent"), None);
    }

    #[test]
    fn counters_of_cpus_add_up_field_by_field() {
        let mut sum = Interface::default();
        let bytes: Vec<u8> = (1u64..=12).flat_map(u64::to_le_bytes).collect();
        let mut cpu = [0; INTERFACE];
        cpu.copy_from_slice(&bytes);
        add(&mut sum, &cpu);
        add(&mut sum, &cpu);
        assert_eq!(sum.received_bytes, [2, 4, 6]);
        assert_eq!(sum.received_packets, [8, 10, 12]);
        assert_eq!(sum.sent_bytes, [14, 16, 18]);
        assert_eq!(sum.sent_packets, [20, 22, 24]);
    }
}
