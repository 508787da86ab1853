//! The families of interfaces: what our programs saw, and beside it what the device counted.

use sockmeter_ebpf::interface::{FAMILIES, FAMILY_NAMES, Interface};

use crate::exposition::{Family, Page, catalog};
use crate::snapshot::Snapshot;

/// Label values of the device's own counters, in their order.
const DIRECTIONS: [&str; 2] = ["receive", "transmit"];

type Column = fn(&Interface) -> [u64; FAMILIES];

/// Writes them. An interface has samples from the moment on at which it is counted.
pub(super) fn write(snapshot: &Snapshot, page: &mut Page) {
    let columns: [(&Family, Column); 4] = [
        (&catalog::INTERFACE_RECEIVE_BYTES, |ours| ours.received_bytes),
        (&catalog::INTERFACE_TRANSMIT_BYTES, |ours| ours.sent_bytes),
        (&catalog::INTERFACE_RECEIVE_PACKETS, |ours| ours.received_packets),
        (&catalog::INTERFACE_TRANSMIT_PACKETS, |ours| ours.sent_packets),
    ];
    for (family, column) in columns {
        page.family(family, "", |samples| {
            for interface in &snapshot.interfaces {
                for (name, value) in FAMILY_NAMES.iter().zip(column(&interface.ours)) {
                    samples.counter(&[&interface.name, &interface.netns, name], value);
                }
            }
        });
    }
    page.family(&catalog::INTERFACE_KERNEL_BYTES, "", |samples| {
        for interface in &snapshot.interfaces {
            for (direction, value) in DIRECTIONS.iter().zip(interface.kernel.into_iter().flatten()) {
                samples.counter(&[&interface.name, &interface.netns, direction], value);
            }
        }
    });
}
