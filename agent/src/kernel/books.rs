//! Keeping the model's books in maps beside the kernel's own, so that both live equally long: each write replaces one
//! cell, one ledger or the batch as a whole.

use aya::maps::{Array, HashMap, MapData};
use sockmeter_ebpf::layout::books::{BATCH, CELL, LEDGER};

use super::{Refusal, read};
use crate::model::{Store, StoreError};

/// The maps.
pub struct Books {
    cells: HashMap<MapData, u32, [u8; CELL]>,
    ledgers: HashMap<MapData, u32, [u8; LEDGER]>,
    batch: Array<MapData, [u8; BATCH]>,
    most_cells: usize,
}

impl Books {
    pub(super) fn open(ebpf: &mut aya::Ebpf) -> Result<Self, Refusal> {
        let most_cells = usize::try_from(read::capacity(ebpf, "BOOK_CELLS")?).unwrap_or(usize::MAX);
        Ok(Self {
            cells: super::take(ebpf, "BOOK_CELLS")?,
            ledgers: super::take(ebpf, "BOOK_LEDGERS")?,
            batch: super::take(ebpf, "BOOK_BATCH")?,
            most_cells,
        })
    }
}

impl Store for Books {
    fn save_batch(&mut self, batch: &[u8; BATCH]) -> Result<(), StoreError> {
        // The kernel copies the value as a whole, and a signal waits for that (`array_map_update_elem`,
        // kernel/bpf/arraymap.c).
        self.batch.set(0, batch, 0).map_err(|error| StoreError(error.to_string()))
    }

    fn batch(&self) -> Option<Box<[u8; BATCH]>> {
        self.batch.get(&0, 0).ok().map(Box::new)
    }

    fn save_cell(&mut self, id: u32, cell: &[u8; CELL]) -> Result<(), StoreError> {
        self.cells.insert(id, cell, 0).map_err(|error| StoreError(error.to_string()))
    }

    fn save_ledger(&mut self, id: u32, ledger: &[u8; LEDGER]) -> Result<(), StoreError> {
        self.ledgers.insert(id, ledger, 0).map_err(|error| StoreError(error.to_string()))
    }

    fn most_cells(&self) -> usize {
        self.most_cells
    }

    fn cells(&self) -> Vec<(u32, [u8; CELL])> {
        self.cells.iter().filter_map(Result::ok).collect()
    }

    fn ledgers(&self) -> Vec<(u32, [u8; LEDGER])> {
        self.ledgers.iter().filter_map(Result::ok).collect()
    }
}
