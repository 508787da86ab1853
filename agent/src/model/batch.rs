//! What one commit of the books changed, written down as a whole before the records themselves are: a kill in between
//! leaves it, and the next start ends what it began. What the records mean is `cell`'s and `ledger`'s.

use sockmeter_ebpf::layout::books::{BATCH, BATCH_RECORDS, CELL, LEDGER};

use super::bytes::{Reader, Writer};
use super::store::{Store, StoreError};
use crate::snapshot::Mark;

/// One record as it is after the commit.
#[derive(Debug)]
pub(super) enum Record {
    Cell(u32, [u8; CELL]),
    Ledger(u32, [u8; LEDGER]),
}

const A_CELL: u16 = 1;
const A_LEDGER: u16 = 2;

/// Keeps these records, at most `BATCH_RECORDS`, and that the journal was read up to `mark`: all of it or, if the batch
/// itself is refused, nothing.
pub(super) fn keep<S: Store>(store: &mut S, mark: Mark, records: &[Record]) -> Result<(), StoreError> {
    store.save_batch(&to_bytes(mark, records))?;
    save(store, records)
}

/// Ends the commit in which the last run was killed, if it was; says how far the journal was read.
pub(super) fn finish<S: Store>(store: &mut S) -> Result<Mark, StoreError> {
    let Some((mark, records)) = store.batch().and_then(|bytes| from_bytes(&bytes)) else {
        return Ok(Mark::default());
    };
    save(store, &records)?;
    Ok(mark)
}

fn save<S: Store>(store: &mut S, records: &[Record]) -> Result<(), StoreError> {
    let mut result = Ok(());
    // One that is refused keeps no other from its place.
    for record in records {
        let saved = match record {
            Record::Cell(id, bytes) => store.save_cell(*id, bytes),
            Record::Ledger(id, bytes) => store.save_ledger(*id, bytes),
        };
        result = result.and(saved);
    }
    result
}

fn to_bytes(mark: Mark, records: &[Record]) -> Box<[u8; BATCH]> {
    let mut bytes = Box::new([0; BATCH]);
    let mut to = Writer(bytes.as_mut_slice());
    to.bytes(&mark.journal.to_le_bytes());
    to.bytes(&u32::try_from(records.len()).unwrap_or(u32::MAX).to_le_bytes());
    to.u64s([&mark.position]);
    for record in records {
        let (kind, id, bytes) = match record {
            Record::Cell(id, bytes) => (A_CELL, id, bytes.as_slice()),
            Record::Ledger(id, bytes) => (A_LEDGER, id, bytes.as_slice()),
        };
        to.bytes(&kind.to_le_bytes());
        to.bytes(&[0; 2]);
        to.bytes(&id.to_le_bytes());
        to.bytes(bytes);
    }
    bytes
}

/// `None` if it is damaged, which a write of the kernel's cannot leave.
fn from_bytes(bytes: &[u8; BATCH]) -> Option<(Mark, Vec<Record>)> {
    let mut from = Reader(bytes);
    let journal = from.u32()?;
    let count = usize::try_from(from.u32()?).ok().filter(|count| *count <= BATCH_RECORDS)?;
    let mark = Mark { journal, position: from.u64()? };
    let mut records = Vec::with_capacity(count);
    for _ in 0..count {
        let (kind, _, id) = (from.u16()?, from.u16()?, from.u32()?);
        records.push(match kind {
            A_CELL => Record::Cell(id, *from.bytes(CELL)?.first_chunk()?),
            A_LEDGER => Record::Ledger(id, *from.bytes(LEDGER)?.first_chunk()?),
            _ => return None,
        });
    }
    Some((mark, records))
}
