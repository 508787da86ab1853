//! Keeping what the model knows of jobs and containers in a map beside the kernel's own, so that both live equally long.

use aya::maps::{HashMap, MapData};
use sockmeter_ebpf::layout::books::HOLDER;

use super::{Refusal, read, take};
use crate::model::{HolderStore, StoreError};

/// The map.
pub struct Holders {
    records: HashMap<MapData, u32, [u8; HOLDER]>,
    most: usize,
}

impl Holders {
    pub(super) fn open(ebpf: &mut aya::Ebpf) -> Result<Self, Refusal> {
        let most = usize::try_from(read::capacity(ebpf, "BOOK_HOLDERS")?).unwrap_or(usize::MAX);
        Ok(Self { records: take(ebpf, "BOOK_HOLDERS")?, most })
    }
}

impl HolderStore for Holders {
    fn save(&mut self, id: u32, record: &[u8; HOLDER]) -> Result<(), StoreError> {
        self.records.insert(id, record, 0).map_err(|error| StoreError(error.to_string()))
    }

    fn remove(&mut self, id: u32) -> Result<(), StoreError> {
        self.records.remove(&id).map_err(|error| StoreError(error.to_string()))
    }

    fn most(&self) -> usize {
        self.most
    }

    fn all(&self) -> Vec<(u32, [u8; HOLDER])> {
        self.records.iter().filter_map(Result::ok).collect()
    }
}
