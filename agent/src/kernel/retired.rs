//! Counters of interfaces whose index another one has now: kept under a number that no interface can have, with the name
//! that they had. What is counted, and where, is `interfaces`'.

use aya::maps::{HashMap, MapData, MapError, PerCpuArray, PerCpuHashMap, PerCpuValues};
use sockmeter_ebpf::interface::DIRECT;

use super::interfaces::INTERFACE;

/// An interface's index is a positive `int` (`include/linux/netdevice.h`, `struct net_device`): these are none.
const NUMBERS: std::ops::Range<u32> = 1 << 31..(1 << 31) + 4096;
/// Nor is this: what is under way from an index to a number. Its counters are what the number is to have, its name is
/// which index and which number. While it has a name, that is yet to be done, again and again if need be.
const UNDER_WAY: u32 = NUMBERS.end;

type Counters = [u8; INTERFACE];
type Name = [u8; 16];

/// Where counters and names are. Each change is whole or did not happen, whenever the agent is killed.
trait Store {
    fn name(&self, index: u32) -> Option<Name>;
    fn set_name(&mut self, index: u32, name: Name) -> Result<(), MapError>;
    fn forget_name(&mut self, index: u32) -> Result<(), MapError>;
    /// One for each CPU.
    fn counters(&self, index: u32) -> Result<Vec<Counters>, MapError>;
    fn set_counters(&mut self, index: u32, counters: Vec<Counters>) -> Result<(), MapError>;
    fn forget_counters(&mut self, index: u32) -> Result<(), MapError>;
}

/// The maps that counters are in, and their names.
pub(super) struct Kept<'a> {
    pub(super) near: &'a mut PerCpuArray<MapData, Counters>,
    pub(super) far: &'a mut PerCpuHashMap<MapData, u32, Counters>,
    pub(super) names: &'a mut HashMap<MapData, u32, Name>,
}

impl Store for Kept<'_> {
    fn name(&self, index: u32) -> Option<Name> {
        self.names.get(&index, 0).ok()
    }

    fn set_name(&mut self, index: u32, name: Name) -> Result<(), MapError> {
        self.names.insert(index, name, 0)
    }

    fn forget_name(&mut self, index: u32) -> Result<(), MapError> {
        self.names.remove(&index)
    }

    fn counters(&self, index: u32) -> Result<Vec<Counters>, MapError> {
        let values = if index < DIRECT { self.near.get(&index, 0)? } else { self.far.get(&index, 0)? };
        Ok(values.to_vec())
    }

    fn set_counters(&mut self, index: u32, counters: Vec<Counters>) -> Result<(), MapError> {
        let values = PerCpuValues::try_from(counters)?;
        if index < DIRECT { self.near.set(index, values, 0) } else { self.far.insert(index, values, 0) }
    }

    fn forget_counters(&mut self, index: u32) -> Result<(), MapError> {
        self.far.remove(&index)
    }
}

impl Kept<'_> {
    /// Frees an index for an interface called `name`, if what was counted under it is another's. Nothing may be counting
    /// there.
    ///
    /// # Errors
    /// When there is no room: then the new one goes on with the bytes of the old one.
    pub(super) fn retire(&mut self, index: u32, name: Name) -> Result<(), MapError> {
        retire(self, index, name)
    }

    /// Ends what an agent began that was killed in the middle. Nothing may have been attached since then.
    ///
    /// # Errors
    /// When the maps cannot be written.
    pub(super) fn finish(&mut self) -> Result<(), MapError> {
        finish(self)
    }
}

fn retire(store: &mut impl Store, index: u32, name: Name) -> Result<(), MapError> {
    let old = match store.name(index) {
        Some(old) if old != name => old,
        _ => return Ok(()),
    };
    let counted = store.counters(index)?;
    let same = NUMBERS.into_iter().find(|number| store.name(*number) == Some(old));
    let free = same.or_else(|| NUMBERS.into_iter().find(|number| store.name(*number).is_none()));
    let number = free.ok_or(MapError::OutOfBounds { index, max_entries: NUMBERS.end - NUMBERS.start })?;
    if same.is_none() {
        // Room for it, before anything is promised. Nothing is added to anybody's counters yet.
        store.set_counters(number, vec![[0; INTERFACE]; counted.len()])?;
        store.set_name(number, old)?;
    }
    let before = store.counters(number)?;
    let sums = counted.iter().zip(&before).map(|(now, before)| sum(now, before)).collect();
    store.set_counters(UNDER_WAY, sums)?;
    // From here on it will be done, by the next agent if need be.
    store.set_name(UNDER_WAY, way(index, number))?;
    finish(store)
}

/// Each step may be taken twice: none adds to what is there. Nor does one take room.
fn finish(store: &mut impl Store) -> Result<(), MapError> {
    let Some((index, number)) = store.name(UNDER_WAY).map(ends) else {
        return Ok(());
    };
    let counters = store.counters(UNDER_WAY)?;
    let zeros = vec![[0; INTERFACE]; counters.len()];
    store.set_counters(number, counters)?;
    store.set_counters(index, zeros)?;
    store.forget_name(UNDER_WAY)?;
    store.forget_counters(UNDER_WAY)
}

fn way(index: u32, number: u32) -> Name {
    let mut way = [0; 16];
    for (slot, byte) in way.iter_mut().zip(index.to_le_bytes().into_iter().chain(number.to_le_bytes())) {
        *slot = byte;
    }
    way
}

fn ends(way: Name) -> (u32, u32) {
    let mut words = way.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    (words.next().unwrap_or(0), words.next().unwrap_or(0))
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
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use super::*;

    /// Maps in memory, until the agent is killed.
    #[derive(Default)]
    struct Memory {
        names: BTreeMap<u32, Name>,
        counters: BTreeMap<u32, Vec<Counters>>,
        /// Changes that it lives to make; none: as many as it likes.
        lives: Option<usize>,
    }

    impl Memory {
        fn change(&mut self) -> Result<(), MapError> {
            match &mut self.lives {
                Some(0) => Err(MapError::ElementNotFound),
                Some(lives) => {
                    *lives -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }

        /// What the page says of an interface: the first word of all CPUs, under each number that has its name.
        fn of(&self, name: Name) -> u64 {
            let numbers = self.names.iter().filter(|(_, found)| **found == name).map(|(number, _)| number);
            let counters = numbers.filter_map(|number| self.counters.get(number)).flatten();
            counters.map(|counters| u64::from_le_bytes(*counters.as_chunks::<8>().0.first().unwrap())).sum()
        }

        fn count(&mut self, index: u32, name: Name, value: u8) {
            let mut counters = [0; INTERFACE];
            counters[0] = value;
            self.names.insert(index, name);
            self.counters.insert(index, vec![counters; 2]);
        }
    }

    impl Store for Memory {
        fn name(&self, index: u32) -> Option<Name> {
            self.names.get(&index).copied()
        }

        fn set_name(&mut self, index: u32, name: Name) -> Result<(), MapError> {
            self.change()?;
            self.names.insert(index, name);
            Ok(())
        }

        fn forget_name(&mut self, index: u32) -> Result<(), MapError> {
            self.change()?;
            self.names.remove(&index);
            Ok(())
        }

        fn counters(&self, index: u32) -> Result<Vec<Counters>, MapError> {
            self.counters.get(&index).cloned().ok_or(MapError::KeyNotFound)
        }

        fn set_counters(&mut self, index: u32, counters: Vec<Counters>) -> Result<(), MapError> {
            self.change()?;
            self.counters.insert(index, counters);
            Ok(())
        }

        fn forget_counters(&mut self, index: u32) -> Result<(), MapError> {
            self.change()?;
            self.counters.remove(&index);
            Ok(())
        }
    }

    #[test]
    fn counters_of_a_retired_interface_go_on_wherever_the_agent_was_stopped() {
        let (first, second) = ([b'a'; 16], [b'b'; 16]);
        // At what was retired before under this name there is something to add to; else there is none.
        for (before, changes) in [(Some(5), 6), (None, 8)] {
            for (index, stop) in [77, DIRECT].into_iter().flat_map(|index| (0..=changes).map(move |stop| (index, stop)))
            {
                let mut store = Memory::default();
                if let Some(before) = before {
                    store.count(index, first, before);
                    retire(&mut store, index, second).unwrap();
                }
                store.count(index, first, 7);
                let all = store.of(first);
                assert_eq!(all, 2 * u64::from(7 + before.unwrap_or(0)));
                store.lives = Some(stop);
                assert_eq!(retire(&mut store, index, second).is_err(), stop < changes, "stopped at change {stop}");
                store.lives = None;
                finish(&mut store).unwrap();
                assert_eq!(store.of(first), all, "stopped at change {stop}");
                retire(&mut store, index, second).unwrap();
                store.set_name(index, second).unwrap();
                assert_eq!((store.of(first), store.of(second)), (all, 0), "stopped at change {stop}");
                assert_eq!(store.name(UNDER_WAY), None, "stopped at change {stop}");
            }
        }
    }

    #[test]
    fn counters_add_up_word_by_word() {
        let (mut a, mut b) = ([0; INTERFACE], [0; INTERFACE]);
        (a[0], a[8], b[0], b[9]) = (255, 1, 1, 1);
        let sum = sum(&a, &b);
        assert_eq!((sum[0], sum[1], sum[8], sum[9]), (0, 1, 1, 1));
    }
}
