//! Tables as JSON (`/api/v1/endpoints`, `/jobs`, `/interfaces`), from the same numbers as the page: rows that can
//! be sorted by any column, chosen by process and job, and cut. Live sockets are in `live`, the totals in `stats`.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND};

use super::Accounts;

/// Rows that an answer has unless more or fewer are asked for.
pub(super) const LIMIT: usize = 1_000;

/// Which table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Exchanges by service, endpoint, method and status.
    Endpoints,
    /// Bytes by job.
    Jobs,
    /// Bytes and packets by interface.
    Interfaces,
}

/// What of a table is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Column to sort by: numbers from the largest, texts from the first letter. Otherwise by bytes.
    pub sort: Option<String>,
    /// Rows at most.
    pub limit: Option<usize>,
    /// Only rows with this `process`.
    pub process: Option<String>,
    /// Only rows with this `job`.
    pub job: Option<String>,
}

impl Table {
    /// Its name, which is that of the array in the answer.
    fn name(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::Jobs => "jobs",
            Self::Interfaces => "interfaces",
        }
    }
}

/// A table.
///
/// # Errors
/// When it has no such column; the sentence names those that it has.
pub(super) fn table(accounts: &Accounts<'_>, table: Table, wanted: &Wanted) -> Result<Value, String> {
    let columns = columns(table);
    let sort = wanted.sort.as_deref().unwrap_or("bytes");
    if !columns.contains(&sort) {
        return Err(format!("sort is {sort:?}, wanted one of {}", columns.join(", ")));
    }
    let rows: Vec<Row> = match table {
        Table::Endpoints => of_cells(accounts),
        Table::Jobs => of_jobs(accounts),
        Table::Interfaces => of_interfaces(accounts),
    };
    let asked = [("process", &wanted.process), ("job", &wanted.job)];
    if let Some((name, _)) = asked.iter().find(|(name, value)| value.is_some() && !columns.contains(name)) {
        return Err(format!("{name} is given, which {} do not have", table.name()));
    }
    let is_wanted =
        |row: &Row| asked.iter().all(|(name, value)| value.as_ref().is_none_or(|value| row.text(name) == Some(value)));
    let mut rows: Vec<Row> = rows.into_iter().filter(is_wanted).collect();
    rows.sort_by(|a, b| a.against(b, sort));
    let total = rows.len();
    rows.truncate(wanted.limit.unwrap_or(LIMIT));
    let rows: Vec<Value> = rows.into_iter().map(|row| Value::Object(row.0)).collect();
    let mut answer = Map::new();
    answer.insert(table.name().to_owned(), rows.into());
    answer.insert("total".to_owned(), total.into());
    if table == Table::Jobs {
        for (name, bytes) in [("other", accounts.holders.other_jobs), ("no_job", accounts.holders.no_job)] {
            answer.insert(name.to_owned(), json!({"received_bytes": bytes[0], "sent_bytes": bytes[1]}));
        }
    }
    Ok(answer.into())
}

/// The columns that each row of a table has.
fn columns(table: Table) -> &'static [&'static str] {
    match table {
        Table::Endpoints => &[
            "service",
            "endpoint",
            "method",
            "status",
            "exchanges",
            "request_bytes",
            "response_bytes",
            "inbound_bytes",
            "outbound_bytes",
            "bytes",
        ],
        Table::Jobs => &["job", "received_bytes", "sent_bytes", "bytes", "ended"],
        Table::Interfaces => &[
            "interface",
            "netns",
            "receive_bytes",
            "transmit_bytes",
            "receive_packets",
            "transmit_packets",
            "kernel_receive_bytes",
            "kernel_transmit_bytes",
            "bytes",
        ],
    }
}

/// One row, by column.
struct Row(Map<String, Value>);

impl Row {
    /// Of a JSON object.
    fn of(value: Value) -> Self {
        if let Value::Object(columns) = value { Self(columns) } else { Self(Map::new()) }
    }

    fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column)?.as_str()
    }

    /// Numbers from the largest, texts from the first, what is unknown last.
    fn against(&self, other: &Self, column: &str) -> Ordering {
        match (self.0.get(column), other.0.get(column)) {
            (Some(Value::String(a)), Some(Value::String(b))) => a.cmp(b),
            (Some(a), Some(b)) => {
                // What is not known is less than any number.
                let number = |value: &Value| value.as_u64().or_else(|| value.as_bool().map(u64::from));
                let of = |value: &Value| number(value).map_or(-1, i128::from);
                of(b).cmp(&of(a))
            }
            _ => Ordering::Equal,
        }
    }
}

fn of_cells(accounts: &Accounts<'_>) -> Vec<Row> {
    let rows = accounts.services.iter().flat_map(|service| {
        accounts.cells_of(service).map(|cell| {
            let status = if cell.status == 0 { "none".to_owned() } else { cell.status.to_string() };
            Row::of(json!({
                "service": service.ledger.service,
                "endpoint": cell.endpoint.as_str(),
                "method": cell.method,
                "status": status,
                "exchanges": cell.exchanges,
                "request_bytes": cell.body[INBOUND],
                "response_bytes": cell.body[OUTBOUND],
                "inbound_bytes": cell.wire[INBOUND],
                "outbound_bytes": cell.wire[OUTBOUND],
                "bytes": cell.wire.iter().sum::<u64>(),
            }))
        })
    });
    rows.collect()
}

fn of_jobs(accounts: &Accounts<'_>) -> Vec<Row> {
    let rows = accounts.holders.jobs.iter().map(|(job, sum)| {
        Row::of(json!({
            "job": job,
            "received_bytes": sum.bytes[0],
            "sent_bytes": sum.bytes[1],
            "bytes": sum.bytes.iter().sum::<u64>(),
            "ended": sum.has_ended,
        }))
    });
    rows.collect()
}

fn of_interfaces(accounts: &Accounts<'_>) -> Vec<Row> {
    let sum = |values: [u64; 3]| values.iter().sum::<u64>();
    let rows = accounts.snapshot.interfaces.iter().map(|interface| {
        let ours = &interface.ours;
        Row::of(json!({
            "interface": interface.name,
            "netns": interface.netns,
            "receive_bytes": sum(ours.received_bytes),
            "transmit_bytes": sum(ours.sent_bytes),
            "receive_packets": sum(ours.received_packets),
            "transmit_packets": sum(ours.sent_packets),
            "kernel_receive_bytes": interface.kernel.map(|[received, _]| received),
            "kernel_transmit_bytes": interface.kernel.map(|[_, sent]| sent),
            "bytes": sum(ours.received_bytes).saturating_add(sum(ours.sent_bytes)),
        }))
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::sockets::Bounds;
    use crate::model::{Sum, Sums};
    use crate::snapshot::Snapshot;

    /// Asks for a table of known books.
    fn ask(of: Table, wanted: &Wanted) -> Result<Value, String> {
        let snapshot = Snapshot::default();
        let holders = Sums {
            jobs: [("a", 1), ("j", 3), ("k", 2)]
                .map(|(job, received)| (job.to_owned(), Sum { bytes: [received, 2], has_ended: received == 3 }))
                .into(),
            no_job: [3, 4],
            ..Sums::default()
        };
        let rates = BTreeMap::new();
        let accounts = Accounts {
            services: &[],
            cells: &[],
            rates: &rates,
            snapshot: &snapshot,
            holders,
            bounds: Bounds { ports: 1, processes: 1 },
            refused: 0,
            damaged: 0,
            folded: 0,
            derives: false,
        };
        accounts.table(of, wanted)
    }

    fn jobs(wanted: &Wanted) -> Vec<String> {
        let answer = ask(Table::Jobs, wanted).unwrap();
        answer["jobs"].as_array().unwrap().iter().map(|row| row["job"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn rows_are_sorted_chosen_and_cut() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(jobs(&Wanted::default()), ["j", "k", "a"]);
        assert_eq!(jobs(&Wanted { sort: text("job"), ..Wanted::default() }), ["a", "j", "k"]);
        assert_eq!(jobs(&Wanted { sort: text("ended"), ..Wanted::default() }), ["j", "a", "k"]);
        assert_eq!(jobs(&Wanted { limit: Some(1), ..Wanted::default() }), ["j"]);
        assert_eq!(jobs(&Wanted { job: text("k"), ..Wanted::default() }), ["k"]);
        assert_eq!(jobs(&Wanted { job: text("x"), ..Wanted::default() }), Vec::<String>::new());
    }

    #[test]
    fn every_row_has_the_columns_that_it_can_be_sorted_by() {
        let answer = ask(Table::Jobs, &Wanted::default()).unwrap();
        let mut found: Vec<&String> = answer["jobs"][0].as_object().unwrap().keys().collect();
        let mut columns: Vec<&str> = columns(Table::Jobs).to_vec();
        found.sort();
        columns.sort_unstable();
        assert_eq!(found, columns);
    }

    #[test]
    fn jobs_come_with_what_is_nobodys_and_a_wrong_question_is_refused() {
        assert_eq!(
            ask(Table::Jobs, &Wanted { limit: Some(1), ..Wanted::default() }),
            Ok(json!({
                "jobs": [{"job": "j", "received_bytes": 3, "sent_bytes": 2, "bytes": 5, "ended": true}],
                "total": 3,
                "other": {"received_bytes": 0, "sent_bytes": 0},
                "no_job": {"received_bytes": 3, "sent_bytes": 4},
            }))
        );
        let wanted = Wanted { sort: Some("size".to_owned()), ..Wanted::default() };
        assert_eq!(
            ask(Table::Jobs, &wanted),
            Err("sort is \"size\", wanted one of job, received_bytes, sent_bytes, bytes, ended".to_owned())
        );
        let wanted = Wanted { process: Some("x".to_owned()), ..Wanted::default() };
        assert_eq!(ask(Table::Jobs, &wanted), Err("process is given, which jobs do not have".to_owned()));
    }
}
