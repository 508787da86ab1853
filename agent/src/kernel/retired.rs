//! Counters of interfaces whose index another one has now: kept under a number that no interface can have, with the name
//! that they had. What is counted, and where, is `interfaces`'.

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues};
use sockmeter_ebpf::interface::DIRECT;

use super::interfaces::INTERFACE;

/// An interface's index is a positive `int` (`include/linux/netdevice.h`, `struct net_device`): these are none.
const NUMBERS: std::ops::Range<u32> = 1 << 31..(1 << 31) + 4096;

type Counters = [u8; INTERFACE];

/// The maps that counters are in, and their names.
pub(super) struct Kept<'a> {
    pub(super) near: &'a mut PerCpuArray<MapData, Counters>,
    pub(super) far: &'a mut PerCpuHashMap<MapData, u32, Counters>,
    pub(super) names: &'a mut HashMap<MapData, u32, [u8; 16]>,
}

impl Kept<'_> {
    /// Frees an index for an interface called `name`, if what was counted under it is another's. Nothing may be counting
    /// there.
    ///
    /// # Errors
    /// When there is no room: then the new one goes on with the bytes of the old one.
    pub(super) fn retire(&mut self, index: u32, name: [u8; 16]) -> Result<(), MapError> {
        let old = match self.names.get(&index, 0) {
            Ok(old) if old != name => old,
            _ => return Ok(()),
        };
        let counted = if index < DIRECT { self.near.get(&index, 0)? } else { self.far.get(&index, 0)? };
        let free = NUMBERS.into_iter().find(|number| self.names.get(number, 0).is_ok_and(|kept| kept == old));
        let free = free.or_else(|| NUMBERS.into_iter().find(|number| self.names.get(number, 0).is_err()));
        let number = free.ok_or(MapError::OutOfBounds { index, max_entries: NUMBERS.end - NUMBERS.start })?;
        let before = self.far.get(&number, 0).map_or_else(|_| Vec::new(), |values| values.to_vec());
        let before = before.into_iter().chain(std::iter::repeat([0; INTERFACE]));
        let sums: Vec<Counters> = counted.iter().zip(before).map(|(now, before)| sum(now, &before)).collect();
        let zeros = vec![[0; INTERFACE]; counted.len()];
        self.far.insert(number, PerCpuValues::try_from(sums)?, 0)?;
        self.names.insert(number, old, 0)?;
        let zeros = PerCpuValues::try_from(zeros)?;
        if index < DIRECT { self.near.set(index, zeros, 0) } else { self.far.insert(index, zeros, 0) }
    }
}

/// Word by word.
fn sum(a: &Counters, b: &Counters) -> Counters {
    let mut sum = [0; INTERFACE];
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    for (into, (a, b)) in sum.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *into = u64::from_le_bytes(*a).wrapping_add(u64::from_le_bytes(*b)).to_le_bytes();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_word_by_word() {
        let (mut a, mut b) = ([0; INTERFACE], [0; INTERFACE]);
        (a[0], a[8], b[0], b[9]) = (255, 1, 1, 1);
        let sum = sum(&a, &b);
        assert_eq!((sum[0], sum[1], sum[8], sum[9]), (0, 1, 1, 1));
    }
}
