//! A store in memory, for tests: it outlives the books that write to it, and can stop taking writes as if they were killed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use sockmeter_ebpf::layout::books::{BATCH, CELL, LEDGER};

use super::{Store, StoreError};

/// What a store kept, for the next run. Writes are refused when so many were made.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    kept: Rc<RefCell<Kept>>,
    most_cells: usize,
}

#[derive(Debug, Default)]
struct Kept {
    cells: BTreeMap<u32, [u8; CELL]>,
    ledgers: BTreeMap<u32, [u8; LEDGER]>,
    batch: Option<Box<[u8; BATCH]>>,
    /// Writes that are left until the run is killed.
    left: Option<usize>,
}

impl Shelf {
    pub(crate) fn new(most_cells: usize) -> Self {
        Self { kept: Rc::default(), most_cells }
    }

    /// A run that is killed after so many writes.
    pub(crate) fn killed_after(&self, writes: Option<usize>) -> Self {
        self.kept.borrow_mut().left = writes;
        self.clone()
    }

    fn write(&self, change: impl FnOnce(&mut Kept)) -> Result<(), StoreError> {
        let mut kept = self.kept.borrow_mut();
        match &mut kept.left {
            Some(0) => return Err(StoreError("killed".to_owned())),
            Some(left) => *left -= 1,
            None => (),
        }
        change(&mut kept);
        Ok(())
    }
}

impl Store for Shelf {
    fn save_batch(&mut self, batch: &[u8; BATCH]) -> Result<(), StoreError> {
        self.write(|kept| kept.batch = Some(Box::new(*batch)))
    }

    fn batch(&self) -> Option<Box<[u8; BATCH]>> {
        self.kept.borrow().batch.clone()
    }

    fn save_cell(&mut self, id: u32, cell: &[u8; CELL]) -> Result<(), StoreError> {
        self.write(|kept| {
            kept.cells.insert(id, *cell);
        })
    }

    fn save_ledger(&mut self, id: u32, ledger: &[u8; LEDGER]) -> Result<(), StoreError> {
        self.write(|kept| {
            kept.ledgers.insert(id, *ledger);
        })
    }

    fn most_cells(&self) -> usize {
        self.most_cells
    }

    fn cells(&self) -> Vec<(u32, [u8; CELL])> {
        self.kept.borrow().cells.iter().map(|(id, cell)| (*id, *cell)).collect()
    }

    fn ledgers(&self) -> Vec<(u32, [u8; LEDGER])> {
        self.kept.borrow().ledgers.iter().map(|(id, ledger)| (*id, *ledger)).collect()
    }
}
