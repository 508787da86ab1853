//! Keeping the model's books in maps beside the kernel's own, so that both live equally long: each write replaces one
//! cell or one ledger as a whole.

use aya::maps::{HashMap, MapData};
use sockmeter_ebpf::layout::books::{CELL, LEDGER};

use super::{Refusal, read};
use crate::model::{Store, StoreError};

/// The maps.
pub struct Books {
    cells: HashMap<MapData, u32, [u8; CELL]>,
    ledgers: HashMap<MapData, u32, [u8; LEDGER]>,
    most_cells: usize,
}

impl Books {
    pub(super) fn open(ebpf: &mut aya::Ebpf) -> Result<Self, Refusal> {
        let most_cells = usize::try_from(read::capacity(ebpf, "BOOK_CELLS")?).unwrap_or(usize::MAX);
        Ok(Self { cells: super::take(ebpf, "BOOK_CELLS")?, ledgers: super::take(ebpf, "BOOK_LEDGERS")?, most_cells })
    }
}

impl Store for Books {
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
