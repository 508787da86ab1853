//! Where books are kept so that they outlive the agent. In the kernel's maps: `kernel::Books`.

use sockmeter_ebpf::layout::books::{BATCH, CELL, HOLDER, LEDGER};

/// A write was refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the books: {0}")]
pub struct StoreError(pub String);

/// Keeps cells and ledgers, and the batch that changed some last; each write replaces one of them as a whole.
pub trait Store {
    /// Replaces the batch.
    ///
    /// # Errors
    /// When the write is refused.
    fn save_batch(&mut self, batch: &[u8; BATCH]) -> Result<(), StoreError>;
    /// The batch; all zero if there was none.
    fn batch(&self) -> Option<Box<[u8; BATCH]>>;
    /// Replaces a cell.
    ///
    /// # Errors
    /// When there is no room.
    fn save_cell(&mut self, id: u32, cell: &[u8; CELL]) -> Result<(), StoreError>;
    /// Replaces a ledger.
    ///
    /// # Errors
    /// When there is no room.
    fn save_ledger(&mut self, id: u32, ledger: &[u8; LEDGER]) -> Result<(), StoreError>;
    /// How many cells there is room for.
    fn most_cells(&self) -> usize;
    /// All cells.
    fn cells(&self) -> Vec<(u32, [u8; CELL])>;
    /// All ledgers.
    fn ledgers(&self) -> Vec<(u32, [u8; LEDGER])>;
}

/// Where records are kept so that they outlive the agent.
pub trait HolderStore {
    /// Replaces a record as a whole.
    ///
    /// # Errors
    /// When there is no room.
    fn save(&mut self, id: u32, record: &[u8; HOLDER]) -> Result<(), StoreError>;
    /// Removes a record.
    ///
    /// # Errors
    /// When it is not there.
    fn remove(&mut self, id: u32) -> Result<(), StoreError>;
    /// How many records there is room for.
    fn most(&self) -> usize;
    /// All records.
    fn all(&self) -> Vec<(u32, [u8; HOLDER])>;
}

/// Keeps nothing (`--no-pin`, and tests).
#[derive(Debug, Default)]
pub struct Forgetful;

impl Store for Forgetful {
    fn save_batch(&mut self, _: &[u8; BATCH]) -> Result<(), StoreError> {
        Ok(())
    }

    fn batch(&self) -> Option<Box<[u8; BATCH]>> {
        None
    }

    fn save_cell(&mut self, _: u32, _: &[u8; CELL]) -> Result<(), StoreError> {
        Ok(())
    }

    fn save_ledger(&mut self, _: u32, _: &[u8; LEDGER]) -> Result<(), StoreError> {
        Ok(())
    }

    fn most_cells(&self) -> usize {
        16_384
    }

    fn cells(&self) -> Vec<(u32, [u8; CELL])> {
        Vec::new()
    }

    fn ledgers(&self) -> Vec<(u32, [u8; LEDGER])> {
        Vec::new()
    }
}

impl HolderStore for Forgetful {
    fn save(&mut self, _: u32, _: &[u8; HOLDER]) -> Result<(), StoreError> {
        Ok(())
    }

    fn remove(&mut self, _: u32) -> Result<(), StoreError> {
        Ok(())
    }

    fn most(&self) -> usize {
        16_384
    }

    fn all(&self) -> Vec<(u32, [u8; HOLDER])> {
        Vec::new()
    }
}
