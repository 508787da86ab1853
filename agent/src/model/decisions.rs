//! What was found out about places by the processes in them or by a list of pods, kept beside the records of `holders`:
//! processes end, lists cannot always be had, and bytes that are somebody's stay his. Who finds it out is `owner`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sockmeter_ebpf::layout::books::HOLDER;

use super::bytes::{Reader, Writer};
use super::store::HolderStore;
use crate::owner::{LONGEST, Looks, Process};
use crate::snapshot::{PlaceKey, Standing};

/// From here on the numbers in the store are those of decisions; below are the records of holders.
pub(super) const FIRST: u32 = 1 << 30;
/// Tells a decision from the kinds of records (`holder`): one by processes, and one by what was known of a pod.
const KIND: u64 = 6;
const KIND_OF_POD: u64 = 7;
const TEXT: usize = LONGEST + 2;
/// How long a decision is kept after its place was last seen, in nanoseconds: as long as a cgroup's name is after its end.
const LATE: u64 = 120_000_000_000;

/// Who is in a place now.
pub trait Residents: fmt::Debug {
    /// The processes in its cgroups, oldest first, with what is looked at; none if they cannot be read.
    fn of(&mut self, place: PlaceKey, standing: &Standing, looks: Looks) -> Box<dyn Iterator<Item = Process> + '_>;
}

/// Whose places are, where processes or pods told it.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    places: BTreeMap<PlaceKey, Decision>,
    next: u32,
}

/// One place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    number: u32,
    /// `None`: no job's.
    pub(super) job: Option<String>,
    /// Namespace and name of the pod as they were shown, if that was asked for.
    pub(super) pod: Option<[String; 2]>,
    /// When the place was last there, nanoseconds of `CLOCK_MONOTONIC`; 0: not since the agent began.
    seen: u64,
}

/// What a decision says: `Decision::job` and `Decision::pod`.
pub(super) type Content = (Option<String>, Option<[String; 2]>);

impl Decisions {
    /// Takes those that are kept; what else is in the store is left alone.
    pub(super) fn of(kept: &[(u32, [u8; HOLDER])]) -> Self {
        let mut all = Self::default();
        for (number, bytes) in kept {
            if let Some((place, (job, pod))) = from_bytes(bytes).filter(|_| *number >= FIRST) {
                all.places.insert(place, Decision { number: *number, job, pod, seen: 0 });
            }
        }
        all
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// What was decided of a place; `None` if nothing was.
    pub(super) fn of_place(&self, place: PlaceKey) -> Option<&Decision> {
        self.places.get(&place)
    }

    /// Keeps a decision; false if the store refused. Holders have half of the room for themselves: beyond that a decision
    /// holds until the agent ends.
    pub(super) fn keep<S: HolderStore>(&mut self, store: &mut S, place: PlaceKey, (job, pod): Content) -> bool {
        if self.places.len() >= store.most() / 2 {
            return true;
        }
        while self.places.values().any(|decision| decision.number == FIRST + self.next) {
            self.next = (self.next + 1) % FIRST;
        }
        let number = FIRST + self.next;
        self.next = (self.next + 1) % FIRST;
        let saved = store.save(number, &to_bytes(place, job.as_deref(), pod.as_ref())).is_ok();
        self.places.insert(place, Decision { number, job, pod, seen: 0 });
        saved
    }

    /// Forgets places that have not been there for long. How often the store refused that.
    pub(super) fn expire<S: HolderStore>(&mut self, store: &mut S, there: &BTreeSet<PlaceKey>, now: u64) -> u64 {
        let mut refused = 0;
        self.places.retain(|place, decision| {
            if decision.seen == 0 || there.contains(place) {
                decision.seen = now;
            }
            let is_kept = now.saturating_sub(decision.seen) <= LATE;
            if !is_kept && store.remove(decision.number).is_err() {
                refused += 1;
            }
            is_kept
        });
        refused
    }
}

fn to_bytes(place: PlaceKey, job: Option<&str>, pod: Option<&[String; 2]>) -> [u8; HOLDER] {
    let mut bytes = [0; HOLDER];
    let mut to = Writer(&mut bytes);
    to.u64s(&[if pod.is_some() { KIND_OF_POD } else { KIND }, u64::from(job.is_some())]);
    to.u64s(&place.cgroups);
    to.text(job.unwrap_or_default(), TEXT);
    for text in pod.into_iter().flatten() {
        to.text(text, TEXT);
    }
    bytes
}

/// Reads what `to_bytes` wrote; `None` if it is something else, or damaged.
fn from_bytes(bytes: &[u8; HOLDER]) -> Option<(PlaceKey, Content)> {
    let mut from = Reader(bytes);
    let (mut head, mut place) = ([0; 2], PlaceKey::default());
    from.u64s(&mut head)?;
    from.u64s(&mut place.cgroups)?;
    let mut text = || Some(from.text(TEXT)?.to_owned());
    let job = text()?;
    let pod = match head[0] {
        KIND => None,
        KIND_OF_POD => Some([text()?, text()?]),
        _ => return None,
    };
    Some((place, ((head[1] != 0).then_some(job), pod)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_survives_bytes_and_back() {
        let place = PlaceKey { cgroups: [1, u64::MAX, 3, 4, 5] };
        let long = || "x".repeat(LONGEST);
        for job in [None, Some(String::new()), Some(long())] {
            for pod in [None, Some([String::new(), long()]), Some([long(), long()])] {
                let bytes = to_bytes(place, job.as_deref(), pod.as_ref());
                assert_eq!(from_bytes(&bytes), Some((place, (job.clone(), pod))));
            }
        }
        assert_eq!(from_bytes(&[0; HOLDER]), None);
    }
}
