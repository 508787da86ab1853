//! The totals as one JSON object (`/api/v1/stats`), from the same numbers as the page.

use serde_json::{Map, Value, json};
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND, Reason};

use super::{Accounts, signed};
use crate::model::{DIRECTIONS, Ledger};
use crate::snapshot::InterfaceCounters;

/// The object.
pub(super) fn totals(accounts: &Accounts<'_>) -> Value {
    let services = accounts.services.iter();
    let services: Map<String, Value> =
        services.map(|service| (service.ledger.service.clone(), of_service(&accounts.ledger(service)))).collect();
    let interfaces = accounts.snapshot.interfaces.iter();
    let interfaces: Map<String, Value> =
        interfaces.map(|interface| (interface_name(interface), of_interface(interface))).collect();
    let lost: Map<String, Value> =
        accounts.losses().into_iter().map(|(reason, count)| (reason.to_owned(), count.into())).collect();
    json!({"services": services, "interfaces": interfaces, "lost": lost})
}

fn of_service(ledger: &Ledger) -> Value {
    let unattributed = [INBOUND, OUTBOUND].map(|direction| -> Value {
        let reasons = Reason::ALL.iter().zip(&ledger.unattributed);
        reasons
            .map(|(reason, bytes)| (reason.as_str().to_owned(), bytes[direction].into()))
            .collect::<Map<_, _>>()
            .into()
    });
    json!({
        "total_bytes_received": ledger.body[INBOUND],
        "total_bytes_sent": ledger.body[OUTBOUND],
        "total_requests": ledger.requests,
        "stream_bytes": by_direction(ledger.stream.map(Value::from)),
        "wire_bytes": by_direction(ledger.wire.map(Value::from)),
        "unattributed_bytes": by_direction(unattributed),
        "open_bytes": by_direction(ledger.open.map(Value::from)),
        "ledger_imbalance_bytes": by_direction(ledger.imbalance().map(|bytes| signed(bytes).into())),
    })
}

fn by_direction(values: [Value; 2]) -> Map<String, Value> {
    DIRECTIONS.into_iter().map(str::to_owned).zip(values).collect()
}

/// Interfaces of other namespaces may have the same name.
fn interface_name(interface: &InterfaceCounters) -> String {
    if interface.netns == "self" { interface.name.clone() } else { format!("{}/{}", interface.netns, interface.name) }
}

fn of_interface(interface: &InterfaceCounters) -> Value {
    let sum = |values: [u64; 3]| values.iter().sum::<u64>();
    let ours = &interface.ours;
    json!({
        "receive_bytes": sum(ours.received_bytes),
        "transmit_bytes": sum(ours.sent_bytes),
        "receive_packets": sum(ours.received_packets),
        "transmit_packets": sum(ours.sent_packets),
    })
}
