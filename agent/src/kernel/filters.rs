//! Interfaces on kernels without tcx (before 6.6): programs as filters of a `clsact` qdisc. A filter is no link that could
//! be pinned, and stays when the agent ends; so its program is pinned in the link's place, under a name that says where
//! the filter is. When they are attached is `interfaces`'.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact, qdisc_detach_program,
};
use aya::programs::{ProgramError, SchedClassifier, TcAttachType};
use nix::net::if_::if_indextoname;
use nix::sched::{CloneFlags, setns};

use super::device::Device;
use super::interfaces::PROGRAMS;
use super::namespaces;
use super::pins::Pins;
use super::syscall;

/// What stands in a pin's name between the link's name and the place of a filter.
const MARK: &str = "-at-";

/// Where a filter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Inode number of the network namespace.
    netns: u32,
    interface: u32,
    direction: TcAttachType,
    priority: u16,
    handle: u32,
}

impl Place {
    /// From `PROGRAM-INTERFACE-at-NETNS-PRIORITY-HANDLE`.
    fn of(name: &str) -> Option<Self> {
        let (link, place) = name.split_once(MARK)?;
        let (program, interface) = link.rsplit_once('-')?;
        let (netns, place) = place.split_once('-')?;
        let (priority, handle) = place.split_once('-')?;
        let direction = PROGRAMS.iter().find_map(|(known, direction)| (*known == program).then_some(*direction))?;
        Some(Self {
            netns: netns.parse().ok()?,
            interface: interface.parse().ok()?,
            direction,
            priority: priority.parse().ok()?,
            handle: handle.parse().ok()?,
        })
    }

    /// The filter, in the namespace of this thread; dropped, it is detached. An error if the interface is gone, and the
    /// filter with it.
    fn filter(self) -> io::Result<SchedClassifierLink> {
        let name = if_indextoname(self.interface)?;
        let handle = TcHandle::from(self.handle);
        SchedClassifierLink::attached(&name.to_string_lossy(), self.direction, self.priority, handle, None)
    }
}

/// Detaches the filter in its place, whichever namespace that is in: nothing is left to detach where interface or namespace
/// are gone.
fn detach(place: Place) -> io::Result<()> {
    let own = namespaces::own().map_err(|refusal| io::Error::other(refusal.to_string()))?;
    if place.netns == own {
        drop(place.filter());
        return Ok(());
    }
    let Some(namespace) = namespaces::others(own).remove(&u64::from(place.netns)) else {
        return Ok(());
    };
    let namespace = fs::File::open(namespace)?;
    let detaching = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        drop(place.filter());
        Ok(())
    });
    detaching.join().unwrap_or_else(|_| Err(io::Error::other("the detaching thread ended")))
}

/// Attaches a program as a filter. Somebody else's `clsact` is as good as ours.
pub(super) fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    direction: TcAttachType,
) -> Result<SchedClassifierLink, ProgramError> {
    // "Exists" is no error, and what else is wrong shows next.
    let _ = qdisc_add_clsact(interface);
    let id = program.attach_with_options(interface, direction, TcAttachOptions::Netlink(NlOptions::default()))?;
    program.take_link(id)
}

/// Lets a link or a filter outlive the agent, under the link's `name`.
pub(super) fn keep(
    program: &mut SchedClassifier,
    link: SchedClassifierLink,
    pins: &Pins,
    name: &str,
) -> Result<(), String> {
    if let (Ok(priority), Ok(handle)) = (link.priority(), link.handle()) {
        let netns = namespaces::own().map_err(|refusal| refusal.to_string())?;
        let pin = pins.link(&format!("{name}{MARK}{netns}-{priority}-{}", u32::from(handle)));
        // One with this name is of an earlier filter in the same place.
        let _ = fs::remove_file(&pin);
        program.pin(pin).map_err(|error| format!("cannot pin its program: {error}"))?;
        // Not detached at our end: from now on the pin stands for it.
        std::mem::forget(link);
        return Ok(());
    }
    let link = FdLink::try_from(link).map_err(|error| format!("cannot pin its link: {error}"))?;
    link.pin(pins.link(name)).map(drop).map_err(|error| format!("cannot pin its link: {error}"))
}

/// The name of the link in whose place this pin's filter is; none if it is the pin of a link.
pub(super) fn link_of(pin: &str) -> Option<&str> {
    pin.split_once(MARK).map(|(link, _)| link)
}

/// Whether a filter of this link's name is still attached, and is now this program's: it takes the other's place without a
/// gap. A filter can be removed by others, or with its interface: then its pin goes.
pub(super) fn take_over(program: &mut SchedClassifier, pins: &Pins, name: &str) -> bool {
    let start = format!("{name}{MARK}");
    let Some(pin) = pins.links().into_iter().find(|pin| pin.starts_with(&start)) else {
        return false;
    };
    let here = |place: &Place| namespaces::own().is_ok_and(|own| own == place.netns);
    let replaced = Place::of(&pin).filter(here).and_then(|place| place.filter().ok()).and_then(|filter| {
        let id = program.attach_to_link(filter).ok()?;
        program.take_link(id).ok()
    });
    // The one that is pinned there is the earlier run's program.
    let _ = fs::remove_file(pins.link(&pin));
    replaced.is_some_and(|link| keep(program, link, pins, name).is_ok())
}

/// Removes a link's pin, and detaches what it stands for.
///
/// # Errors
/// When the pin cannot be removed, or a filter's namespace cannot be entered.
pub(super) fn let_go(pin: &Path) -> io::Result<()> {
    if let Some(place) = pin.file_name().and_then(|name| Place::of(&name.to_string_lossy())) {
        detach(place)?;
    } else if let Ok(link) = syscall::open(pin) {
        // A link whose device is gone has ended by itself.
        let _ = syscall::detach(link.as_fd());
    }
    fs::remove_file(pin)
}

/// Removes all filters of ours from these devices, whoever attached them; says what it removed. For those that a killed
/// agent without pins left behind.
pub fn remove(devices: &[Device]) -> Vec<String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_pin_says_where_the_filter_is() {
        let place =
            Place { netns: 4_026_531_833, interface: 12, direction: TcAttachType::Egress, priority: 49152, handle: 1 };
        assert_eq!(Place::of("interface_sends-12-at-4026531833-49152-1"), Some(place));
        assert_eq!(Place::of("interface_sends-12"), None);
        assert_eq!(Place::of("packet_sent"), None);
        assert_eq!(Place::of("other-12-at-4026531833-49152-1"), None);
        assert_eq!(Place::of("interface_sends-12-at-4026531833-70000-1"), None);
    }
}
