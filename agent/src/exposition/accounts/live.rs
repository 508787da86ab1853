//! The table of live sockets as JSON (`/api/v1/sockets`). The other tables are in `tables`; they have one row for many
//! sockets, this one may have very many rows, so only those that are shown are made.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv6Addr};

use serde_json::{Map, Value, json};
use sockmeter_ebpf::socket::{TCP, UDP};

use super::Wanted;
use super::tables::LIMIT;
use crate::model::live::LiveSocket;
use crate::model::sockets;

/// What a row says of a socket.
type Column = (&'static str, fn(&LiveSocket) -> Value);

/// The columns, in the order in which they are named. Texts that are not known are empty, numbers `null`.
const COLUMNS: [Column; 25] = [
    ("protocol", |live| sockets::protocol(live.listed.protocol).into()),
    ("role", |live| sockets::role(live.listed.role).into()),
    ("state", |live| state(live).into()),
    ("netns", |live| live.listed.netns.into()),
    ("local_address", |live| address(live.listed.local).into()),
    ("local_port", |live| live.listed.local_port.into()),
    ("remote_address", |live| address(live.listed.remote).into()),
    ("remote_port", |live| live.listed.remote_port.into()),
    ("process", |live| sockets::process(&live.listed.owner.process).into()),
    ("pid", |live| known(u64::from(live.listed.owner.pid))),
    ("process_start_seconds", |live| known(live.listed.place.started).as_f64().map(|nanos| nanos / 1e9).into()),
    ("job", |live| live.whose.job.clone().unwrap_or_default().into()),
    ("container", |live| live.whose.container.container.clone().into()),
    ("pod", |live| live.whose.container.pod.clone().into()),
    ("namespace", |live| live.whose.container.namespace.clone().into()),
    ("unit", |live| live.whose.container.unit.clone().into()),
    ("service", |live| live.service.clone().unwrap_or_default().into()),
    ("method", |live| live.request.as_ref().map_or("", |(method, _)| method).into()),
    ("endpoint", |live| live.request.as_ref().map_or("", |(_, endpoint)| endpoint.as_str()).into()),
    ("received_bytes", |live| live.listed.received.into()),
    ("sent_bytes", |live| live.listed.sent.into()),
    ("retransmitted_bytes", |live| (live.listed.protocol == TCP).then_some(live.listed.retransmitted).into()),
    ("bytes", |live| live.listed.received.saturating_add(live.listed.sent).into()),
    ("bytes_per_second", |live| live.rate.map(|[received, sent]| received + sent).into()),
    ("round_trip_seconds", |live| {
        known(u64::from(live.listed.round_trip)).as_f64().map(|eighths| eighths / 8e6).into()
    }),
];

/// The live sockets that are wanted. `left_out`: those that there was no room to read.
///
/// # Errors
/// When there is no such column; the sentence names those that there are.
pub fn live_sockets(sockets: &[LiveSocket], left_out: u64, wanted: &Wanted) -> Result<Value, String> {
    let sort = wanted.sort.as_deref().unwrap_or("bytes");
    let Some((_, key)) = COLUMNS.iter().find(|(name, _)| *name == sort) else {
        let names = COLUMNS.map(|(name, _)| name).join(", ");
        return Err(format!("sort is {sort:?}, wanted one of {names}"));
    };
    let is_wanted = |live: &&LiveSocket| {
        wanted.process.as_ref().is_none_or(|process| sockets::process(&live.listed.owner.process) == *process)
            && wanted.job.as_ref().is_none_or(|job| live.whose.job.as_ref() == Some(job))
    };
    let mut rows: Vec<(Value, &LiveSocket)> = sockets.iter().filter(is_wanted).map(|live| (key(live), live)).collect();
    rows.sort_by(|(a, one), (b, other)| against(a, b).then_with(|| one.listed.cookie.cmp(&other.listed.cookie)));
    let total = rows.len();
    rows.truncate(wanted.limit.unwrap_or(LIMIT));
    let shown: Vec<Value> = rows.into_iter().map(|(_, live)| row(live)).collect();
    Ok(json!({"sockets": shown, "total": total, "left_out": left_out}))
}

fn row(live: &LiveSocket) -> Value {
    Value::Object(COLUMNS.iter().map(|(name, value)| ((*name).to_owned(), value(live))).collect::<Map<_, _>>())
}

/// Numbers from the largest, texts from the first letter, what is not known last.
fn against(one: &Value, other: &Value) -> Ordering {
    if let (Value::String(a), Value::String(b)) = (one, other) {
        return (a.is_empty(), a).cmp(&(b.is_empty(), b));
    }
    let of = |value: &Value| value.as_f64().unwrap_or(-1.0);
    of(other).total_cmp(&of(one))
}

/// A number of which 0 says that it is not known.
fn known(number: u64) -> Value {
    (number != 0).then_some(number).into()
}

fn state(live: &LiveSocket) -> &'static str {
    if live.listed.protocol == UDP {
        sockets::udp_state(live.listed.state)
    } else {
        sockets::tcp_state(live.listed.state)
    }
}

fn address(bytes: [u8; 16]) -> String {
    IpAddr::from(Ipv6Addr::from(bytes)).to_canonical().to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::route::Endpoint;
    use crate::snapshot::{Listed, NO_SERVICE};

    fn live(cookie: u64, received: u64, process: &[u8]) -> LiveSocket {
        let mut listed = Listed { cookie, received, sent: 1, service: NO_SERVICE, protocol: TCP, ..Listed::ZERO };
        for (slot, byte) in listed.owner.process.iter_mut().zip(process) {
            *slot = *byte;
        }
        LiveSocket { listed, whose: crate::owner::Whose::default(), service: None, request: None, rate: None }
    }

    fn cookies(sockets: &[LiveSocket], wanted: &Wanted) -> Vec<u64> {
        let answer = live_sockets(sockets, 0, wanted).unwrap();
        let rows = answer["sockets"].as_array().unwrap();
        rows.iter().map(|row| row["received_bytes"].as_u64().unwrap()).collect()
    }

    #[test]
    fn rows_are_sorted_chosen_and_cut() {
        let mut sockets = [live(1, 5, b"b"), live(2, 7, b"a"), live(3, 6, b"")];
        sockets[0].rate = Some([0.5, 0.25]);
        sockets[1].whose.job = Some("j".to_owned());
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(cookies(&sockets, &Wanted::default()), [7, 6, 5]);
        assert_eq!(cookies(&sockets, &Wanted { sort: text("process"), ..Wanted::default() }), [7, 5, 6]);
        assert_eq!(cookies(&sockets, &Wanted { sort: text("bytes_per_second"), ..Wanted::default() }), [5, 7, 6]);
        assert_eq!(cookies(&sockets, &Wanted { limit: Some(1), ..Wanted::default() }), [7]);
        assert_eq!(cookies(&sockets, &Wanted { process: text("b"), ..Wanted::default() }), [5]);
        assert_eq!(cookies(&sockets, &Wanted { job: text("j"), ..Wanted::default() }), [7]);
        let wrong = live_sockets(&sockets, 0, &Wanted { sort: text("size"), ..Wanted::default() }).unwrap_err();
        assert!(wrong.starts_with("sort is \"size\", wanted one of protocol, role, "), "{wrong}");
    }

    #[test]
    fn a_row_says_all_that_is_known() {
        let mut socket = live(1, 40, b"a\"b\n");
        let v4 = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, last];
        socket.listed = Listed {
            state: 1,
            role: 1,
            netns: 9,
            local: v4(1),
            remote: v4(2),
            local_port: 8080,
            remote_port: 50_000,
            round_trip: 800,
            ..socket.listed
        };
        socket.listed.owner.pid = 77;
        socket.listed.place.started = 1_500_000_000;
        socket.whose.job = Some("j".to_owned());
        socket.whose.container.unit = "w.service".to_owned();
        socket.service = Some("scheduler".to_owned());
        socket.request = Some(("GET", Endpoint::template("/jobs/{id}")));
        socket.rate = Some([2.0, 0.5]);
        let row = json!({
            "protocol": "tcp", "role": "server", "state": "established", "netns": 9,
            "local_address": "127.0.0.1", "local_port": 8080, "remote_address": "127.0.0.2", "remote_port": 50_000,
            "process": "a\"b\n", "pid": 77, "process_start_seconds": 1.5,
            "job": "j", "container": "", "pod": "", "namespace": "", "unit": "w.service",
            "service": "scheduler", "method": "GET", "endpoint": "/jobs/{id}",
            "received_bytes": 40, "sent_bytes": 1, "retransmitted_bytes": 0, "bytes": 41,
            "bytes_per_second": 2.5, "round_trip_seconds": 0.0001,
        });
        let wanted = json!({"sockets": [row], "total": 1, "left_out": 3});
        assert_eq!(live_sockets(&[socket], 3, &Wanted::default()), Ok(wanted));
    }
}
