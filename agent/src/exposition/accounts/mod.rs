//! The model and one snapshot as families of the page, and as the JSON object of totals. Which families there are is in
//! `catalog`; how they are written in `page`. What only the running agent knows of itself is in `agent`.

mod agent;
mod holders;
mod http;
mod interfaces;
mod jobs;
mod live;
mod llm;
mod node;
mod sockets;
mod stats;
mod tables;
mod told;
mod wireguard;

use std::collections::BTreeMap;

use super::Page;
use crate::model::sockets::Bounds;
use crate::model::told::is_told;
use crate::model::{Cell, Ledger, Rate, ServiceBook, Sums};
use crate::snapshot::Snapshot;
use sockmeter_ebpf::layout::LOSS_NAMES;

pub use self::agent::{Own, Phase, Phases, UpstreamState};
pub use self::jobs::Derived;
pub use self::live::live_sockets;
pub use self::llm::write_llm_node;
pub use self::node::write_node;
pub use self::tables::{Table, Wanted};
pub use self::wireguard::write_wireguard;

/// Everything that was counted, as one scrape shows it.
#[derive(Debug, Clone)]
pub struct Accounts<'a> {
    /// The services' books.
    pub services: &'a [ServiceBook],
    /// The cells of all services.
    pub cells: &'a [Cell],
    /// Stream bytes per second, by number of the service.
    pub rates: &'a BTreeMap<u16, Rate>,
    /// What the kernel side said.
    pub snapshot: &'a Snapshot,
    /// Bytes by job and by container.
    pub holders: Sums,
    /// How many ports and processes have series of their own.
    pub bounds: Bounds,
    /// Postings and writes that the books refused.
    pub refused: u64,
    /// Records of the journal that were no postings.
    pub damaged: u64,
    /// Exchanges whose series found no room and had to be another one.
    pub folded: u64,
    /// Whether the scheduler's families are derived from its exchanges.
    pub derives: bool,
}

impl<'a> Accounts<'a> {
    /// Writes all families.
    pub fn write(&self, page: &mut Page) {
        http::write(self, page);
        told::write(self, page);
        sockets::write(self, page);
        interfaces::write(self.snapshot, page);
        holders::write(&self.holders, page);
        agent::kernel_side(self, page);
    }

    /// The totals as JSON.
    #[must_use]
    pub fn stats(&self) -> serde_json::Value {
        stats::totals(self)
    }

    /// A table as JSON.
    ///
    /// # Errors
    /// When it has no column that is asked for.
    pub fn table(&self, table: Table, wanted: &Wanted) -> Result<serde_json::Value, String> {
        tables::table(self, table, wanted)
    }

    /// A service's ledger, with what could not be posted.
    fn ledger(&self, service: &ServiceBook) -> Ledger {
        let spill = self.snapshot.spills.iter().find(|(number, _)| *number == service.number);
        spill.map_or_else(|| service.ledger.clone(), |(_, spill)| service.ledger.with(spill))
    }

    /// Losses by reason; every reason is there.
    fn losses(&self) -> Vec<(&'static str, u64)> {
        let kernel = LOSS_NAMES.iter().enumerate();
        let mut losses: Vec<(&str, u64)> =
            kernel.map(|(index, name)| (*name, self.snapshot.lost.get(index).copied().unwrap_or(0))).collect();
        losses.extend([("refused", self.refused), ("damaged", self.damaged), ("cells", self.folded)]);
        losses
    }

    fn cells_of(&self, service: &'a ServiceBook) -> impl Iterator<Item = &'a Cell> {
        self.cells.iter().filter(|cell| cell.service == service.number && !is_told(cell))
    }
}

/// A difference that is a gauge.
fn signed(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests;
