//! Interfaces of the agent's own network namespace: attaching to those that match, also when they appear later, and the
//! devices' own counters. Asked by netlink, because `/sys` may show another namespace.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues};
use aya::programs::links::FdLink;
use aya::programs::tc::{NlOptions, TcAttachOptions, qdisc_add_clsact, qdisc_detach_program};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkInfo, LinkLayerType};
use sockmeter_ebpf::interface::{DIRECT, FAMILIES, Interface};

use super::offload::Offload;
use super::pins::Pins;
use super::{Refusal, programs, take};
use crate::snapshot::{InterfaceCounters, ProgramState, ReadError};

const INTERFACE: usize = size_of::<Interface>();
const PROGRAMS: [(&str, TcAttachType); 2] =
    [("interface_receives", TcAttachType::Ingress), ("interface_sends", TcAttachType::Egress)];

/// A device as netlink tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    index: u32,
    name: String,
    /// `[received, sent]` bytes.
    bytes: [u64; 2],
    /// Its counters see the segments of what passes our programs merged.
    segments: bool,
}

/// Asks the kernel for all devices of this namespace.
///
/// # Errors
/// When netlink does not answer.
pub async fn devices(handle: &rtnetlink::Handle, offload: &Offload) -> Result<Vec<Device>, ReadError> {
    let failed = |error: rtnetlink::Error| ReadError { what: "interfaces", why: error.to_string() };
    let mut found = Vec::new();
    let mut links = handle.link().get().execute();
    while let Some(message) = links.try_next().await.map_err(failed)? {
        let mut device = Device { index: message.header.index, name: String::new(), bytes: [0; 2], segments: false };
        // Real hardware has no kind, and counts what is on the wire.
        let mut is_virtual = message.header.link_layer_type == LinkLayerType::Loopback;
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => device.name = name,
                LinkAttribute::LinkInfo(info) => {
                    is_virtual |= info.iter().any(|info| matches!(info, LinkInfo::Kind(_)));
                }
                LinkAttribute::Stats64(stats) => device.bytes = [stats.rx_bytes, stats.tx_bytes],
                _ => {}
            }
        }
        device.segments = !is_virtual || !offload.takes_merged(device.index, &device.name).await;
        found.push(device);
    }
    Ok(found)
}

/// What is attached to an interface.
struct Attached {
    name: String,
    /// Links that are not pinned; dropping them detaches.
    links: Vec<FdLink>,
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
}

impl Interfaces {
    pub(super) fn open(ebpf: &mut Ebpf, patterns: &[String]) -> Result<Self, Refusal> {
        for (name, _) in PROGRAMS {
            classifier(ebpf, name)?
                .load()
                .map_err(|error| Refusal::because(format!("cannot load the program {name}"), &error))?;
        }
        Ok(Self {
            patterns: patterns.to_vec(),
            near: take(ebpf, "INTERFACES")?,
            far: take(ebpf, "FAR_INTERFACES")?,
            names: take(ebpf, "INTERFACE_NAMES")?,
            segmented: take(ebpf, "SEGMENTED")?,
            attached: BTreeMap::new(),
        })
    }

    /// Takes other patterns; they count from the next `follow` on.
    pub(super) fn choose(&mut self, patterns: &[String]) {
        self.patterns = patterns.to_vec();
    }

    fn wants(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// Attaches to what is new, lets go of what is gone or not wanted any more.
    pub(super) fn follow(&mut self, ebpf: &mut Ebpf, devices: &[Device], pins: Option<&Pins>) {
        if self.attached.is_empty() {
            forget_dead_links(devices, pins);
        }
        let stays = |index: u32| devices.iter().any(|device| device.index == index && self.wants(&device.name));
        let gone: Vec<u32> = self.attached.keys().filter(|index| !stays(**index)).copied().collect();
        for index in gone {
            self.attached.remove(&index);
            if let Some(pins) = pins {
                for (program, _) in PROGRAMS {
                    // Where the device is gone the link is dead, and the pin only a name by now.
                    let _ = std::fs::remove_file(pins.link(&link_name(program, index)));
                }
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
        for (program, direction) in PROGRAMS {
            let pin = pins.map(|pins| pins.link(&link_name(program, device.index)));
            if pin.as_ref().is_some_and(|pin| pin.exists()) {
                continue;
            }
            match attach(ebpf, program, direction, &device.name) {
                Ok(Some(link)) => match pin {
                    Some(pin) => {
                        if let Err(error) = link.pin(pin) {
                            attached.problem = Some(format!("cannot pin its link: {error}"));
                        }
                    }
                    None => attached.links.push(link),
                },
                Ok(None) => {}
                Err(refusal) => attached.problem = Some(refusal.to_string().replace('\n', "; ")),
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

    pub(super) fn states(&self) -> Vec<ProgramState> {
        let states = self.attached.values().flat_map(|attached| {
            PROGRAMS.map(|(program, _)| programs::state(program, &attached.name, attached.problem.clone()))
        });
        states.collect()
    }
}

/// Removes the pins of links whose device went away while no agent ran: a device that gets its index later would be taken
/// for attached.
fn forget_dead_links(devices: &[Device], pins: Option<&Pins>) {
    let Some(pins) = pins else {
        return;
    };
    for name in pins.links() {
        let index =
            PROGRAMS.iter().find_map(|(program, _)| name.strip_prefix(program)?.strip_prefix('-')?.parse().ok());
        let is_dead = index.is_some_and(|index: u32| !devices.iter().any(|device| device.index == index));
        if is_dead && let Err(error) = std::fs::remove_file(pins.link(&name)) {
            tracing::warn!(link = name, %error, "cannot remove the pin of a link whose device is gone");
        }
    }
}

fn link_name(program: &str, index: u32) -> String {
    format!("{program}-{index}")
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut SchedClassifier, Refusal> {
    let missing = || Refusal::new(format!("the kernel object has no program {name}"));
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or_else(missing)
}

/// By a tcx link (6.6 and later), which others can stand beside; else as a filter of a `clsact` qdisc, which stays until
/// `detach` (no link to hold).
fn attach(ebpf: &mut Ebpf, name: &str, direction: TcAttachType, interface: &str) -> Result<Option<FdLink>, Refusal> {
    let program = classifier(ebpf, name)?;
    let refused = |error: &(dyn std::error::Error + 'static)| {
        Refusal::because(format!("cannot attach the program {name} to {interface}"), error)
    };
    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
    match program.attach_with_options(interface, direction, order) {
        Ok(id) => {
            let link = program.take_link(id).map_err(|error| refused(&error))?;
            return FdLink::try_from(link).map(Some).map_err(|error| refused(&error));
        }
        Err(error) if !is_unsupported(&error) => return Err(refused(&error)),
        Err(_) => {}
    }
    // Somebody else's clsact is as good as ours: "exists" is no error.
    let _ = qdisc_add_clsact(interface);
    program
        .attach_with_options(interface, direction, TcAttachOptions::Netlink(NlOptions::default()))
        .map_err(|error| refused(&error))?;
    Ok(None)
}

/// Removes our filters from the `clsact` of these devices, where there was no tcx; says what it removed.
pub fn remove_filters(devices: &[Device]) -> Vec<String> {
    let mut removed = Vec::new();
    for device in devices {
        for (program, direction) in PROGRAMS {
            // That there is none is the usual case and no error.
            if qdisc_detach_program(&device.name, direction, program).is_ok() {
                removed.push(format!("filter {program} on {}", device.name));
            }
        }
    }
    removed
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

/// A file-name pattern: `*` any characters, `?` one.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if matches(rest, name) => true,
        (Some((b'*', _)), Some((_, behind))) => matches(pattern, behind),
        (Some((b'?', rest)), Some((_, behind))) => matches(rest, behind),
        (Some((wanted, rest)), Some((found, behind))) if wanted == found => matches(rest, behind),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_patterns() {
        for (pattern, name, expected) in [
            ("*", "wg0", true),
            ("wg*", "wg0", true),
            ("wg*", "eth0", false),
            ("eth?", "eth0", true),
            ("eth?", "eth10", false),
            ("*0", "eth0", true),
            ("*0", "eth1", false),
            ("lo", "lo", true),
            ("lo", "lo0", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
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
