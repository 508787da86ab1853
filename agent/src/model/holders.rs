//! Bytes by job and by container: what the slots of their places hold, and what was taken from those that were given
//! back. Whose a place is says `owner`, and when that is decided `learning`; slots are the rim's (`kernel`).
//!
//! A slot is given back once one of its cgroups is gone. Until then its bytes are read where they are. What is taken goes
//! into one record of a job (or of no job) and one of a container; each remembers what it took last, so that a kill in
//! between neither loses nor repeats.

mod learning;
mod pods;
mod series;

use std::collections::{BTreeMap, BTreeSet};

use self::pods::{KnownPods, When};
pub use self::series::{HolderBounds, Sum, Sums};
use super::decisions::{self, Decisions, Residents};
use super::holder::{Holder, Record};
use super::store::HolderStore;
use crate::owner::{Looks, Rules, Whose};
use crate::snapshot::{PlaceBytes, PlaceKey, Pods, Snapshot};

/// Numbers of the records that are always there.
const NO_JOB: u32 = 0;
const OTHER_JOBS: u32 = 1;
const OTHER_CONTAINERS: u32 = 2;
/// How long a cgroup is gone before its slot is given back: what sockets leave behind mostly ends within that.
const SETTLED: u64 = 5_000_000_000;
/// Places whose owner is remembered beyond their slots.
const MOST_PLACES: usize = 16_384;
/// Marks the name of a record where one of a slot could stand.
const OF_RECORD: u32 = 1 << 31;

/// The records, and whose the places are.
#[derive(Debug)]
pub struct Holders<S> {
    store: S,
    rules: Rules,
    bounds: HolderBounds,
    records: BTreeMap<u32, Record>,
    numbers: BTreeMap<Holder, u32>,
    whose: BTreeMap<PlaceKey, Whose>,
    decisions: Decisions,
    residents: Option<Box<dyn Residents + Send>>,
    pods: KnownPods,
    /// When places were last looked at, nanoseconds of `CLOCK_MONOTONIC`.
    now: u64,
    refused: u64,
}

impl<S: HolderStore> Holders<S> {
    /// Reads the records that are kept.
    #[must_use]
    pub fn open(mut store: S, rules: Rules, bounds: HolderBounds) -> Self {
        let kept = store.all();
        let decisions = Decisions::of(&kept);
        let mut records: BTreeMap<u32, Record> =
            kept.into_iter().filter_map(|(id, bytes)| Some((id, Record::from_bytes(&bytes)?))).collect();
        for (id, holder) in
            [(NO_JOB, Holder::NoJob), (OTHER_JOBS, Holder::OtherJobs), (OTHER_CONTAINERS, Holder::OtherContainers)]
        {
            records.entry(id).or_insert_with(|| Record::new(holder, true, 0));
        }
        // A run that was killed when it had moved a record to the others, and not yet removed it.
        let moved = |id: u32, record: &Record| {
            let others = [OTHER_JOBS, OTHER_CONTAINERS].into_iter().filter_map(|other| records.get(&other));
            others.into_iter().any(|other| other.last == (OF_RECORD | id, record.began))
        };
        let moved: Vec<u32> = records.iter().filter(|(id, record)| moved(**id, record)).map(|(id, _)| *id).collect();
        let mut refused = 0;
        for id in moved {
            records.remove(&id);
            refused += u64::from(store.remove(id).is_err());
        }
        let numbers = records.iter().map(|(id, record)| (record.holder.clone(), *id)).collect();
        let (whose, residents, pods) = (BTreeMap::new(), None, KnownPods::default());
        Self { store, rules, bounds, records, numbers, whose, decisions, residents, pods, now: 0, refused }
    }

    /// Has somebody tell who is in a place, for rules that look at that. Without him nobody is.
    pub fn ask(&mut self, residents: Box<dyn Residents + Send>) {
        self.residents = Some(residents);
    }

    /// Whether the rules look at processes, or pods are asked for: a place should be learned while those are there.
    #[must_use]
    pub fn is_in_haste(&self) -> bool {
        self.rules.looks() != Looks::default() || self.pods.is_asked()
    }

    /// Takes other rules and bounds. Places that are known keep their owner: bytes once booked stay where they are.
    pub fn configure(&mut self, rules: Rules, bounds: HolderBounds) {
        self.rules = rules;
        self.bounds = bounds;
    }

    /// Takes the names of the pods that there are. Places that are known keep what they were called.
    pub fn name_pods(&mut self, pods: Pods) {
        self.pods.log(pods);
    }

    /// Whether there will be lists of pods: a place waits a while then for one that says what its pod is.
    pub fn ask_for_pods(&mut self, is_asked: bool) {
        self.pods.ask(is_asked);
    }

    /// Takes a list that was asked for when so many places had waited. Places that are known keep what they were called.
    pub fn list_pods(&mut self, pods: Pods, asked: u64) {
        self.pods.list(pods, asked);
    }

    /// No list will be waited for any more by as many places as have waited so far.
    pub fn give_up(&mut self, asked: u64) {
        self.pods.give_up(asked);
    }

    /// How many places waited for a list so far.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.pods.asked()
    }

    /// Writes that the store refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Learns whose the places of a snapshot are, first come, first served, and who has ended. Places of pods that are being
    /// asked for wait.
    pub fn note(&mut self, snapshot: &Snapshot) {
        self.learn_all(snapshot, When::Asked);
    }

    /// As `note`, but leaves also places for the next time of which processes say more soon. Only where nothing is shown of the
    /// snapshot: it would not be whole.
    pub fn look(&mut self, snapshot: &Snapshot) {
        self.learn_all(snapshot, When::Settled);
    }

    fn learn_all(&mut self, snapshot: &Snapshot, when: When) {
        self.now = snapshot.now;
        self.pods.forget_all_but(&snapshot.places);
        let mut places: Vec<&PlaceBytes> = snapshot.places.iter().collect();
        places.sort_by_key(|place| (place.totals.first, place.slot));
        if self.whose.len() > MOST_PLACES {
            let used: BTreeSet<&PlaceKey> = places.iter().map(|place| &place.totals.key).collect();
            self.whose.retain(|key, _| used.contains(key));
        }
        // Of each: whether one of its places is there, and when the last one went.
        let mut ends: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        for place in places {
            let Some(whose) = self.learn(place.totals.key, &place.standing, when) else {
                continue;
            };
            for holder in holders(&whose) {
                let Some(id) = self.admit(holder, place.totals.first) else {
                    continue;
                };
                let end = ends.entry(id).or_insert(Some(0));
                *end = end.and_then(|end| Some(end.max(place.standing.gone?)));
            }
        }
        let ids: Vec<u32> = self.records.keys().copied().filter(|id| *id > OTHER_CONTAINERS).collect();
        for id in ids {
            let Some(record) = self.records.get_mut(&id) else {
                continue;
            };
            let ended = match ends.get(&id) {
                Some(end) => end.unwrap_or(0),
                // Nothing of it is left but what was taken.
                None if record.ended == 0 => snapshot.now,
                None => record.ended,
            };
            if record.ended != ended {
                record.ended = ended;
                self.save(id);
            }
        }
    }

    /// The record of a job or container; made when it is first seen. `None`: there is no room for one.
    fn admit(&mut self, holder: Holder, began: u64) -> Option<u32> {
        if let Some(id) = self.numbers.get(&holder) {
            return Some(*id);
        }
        if self.records.len() + self.decisions.len() >= self.store.most() {
            return None;
        }
        let is_job = matches!(holder, Holder::Job(_));
        let limit = if is_job { self.bounds.jobs } else { self.bounds.containers };
        let own = self.records.iter().filter(|(id, _)| **id > OTHER_CONTAINERS);
        let shown =
            own.filter(|(_, record)| record.is_shown && matches!(record.holder, Holder::Job(_)) == is_job).count();
        let id = (OTHER_CONTAINERS + 1..decisions::FIRST).find(|id| !self.records.contains_key(id))?;
        self.records.insert(id, Record::new(holder.clone(), shown < limit, began));
        self.numbers.insert(holder, id);
        self.save(id);
        Some(id)
    }

    fn save(&mut self, id: u32) {
        let Some(record) = self.records.get(&id) else {
            return;
        };
        if self.store.save(id, &record.to_bytes()).is_err() {
            self.refused += 1;
        }
    }

    /// The records that a place's bytes belong to: one of the jobs, one of the containers if it is in any.
    fn routes(&self, whose: &Whose) -> (u32, Option<u32>) {
        let own = |holder: Holder, other: u32| {
            let found = self.numbers.get(&holder).and_then(|id| Some((*id, self.records.get(id)?)));
            found.filter(|(_, record)| record.is_shown).map_or(other, |(id, _)| id)
        };
        let job = match &whose.job {
            Some(job) => own(Holder::Job(job.clone()), OTHER_JOBS),
            None if whose.is_known => NO_JOB,
            // It may have been a job's: nobody can tell any more.
            None => OTHER_JOBS,
        };
        let container = if whose.container.is_empty() {
            None
        } else {
            Some(own(Holder::Container(whose.container.clone()), OTHER_CONTAINERS))
        };
        (job, container)
    }

    /// Slots that should be given back: those of places to which nobody comes any more.
    #[must_use]
    pub fn over(&self, snapshot: &Snapshot) -> Vec<(u32, PlaceKey)> {
        let is_over = |place: &&PlaceBytes| {
            let is_settled = |gone| snapshot.now.saturating_sub(gone) > SETTLED;
            place.standing.gone.is_some_and(is_settled) && !self.pods.is_waiting(place.totals.key)
        };
        snapshot.places.iter().filter(is_over).map(|place| (place.slot, place.totals.key)).collect()
    }

    /// The order in which slots are taken that an earlier run did not give back: first the one that it was at.
    #[must_use]
    pub fn in_order<'a>(&self, orphans: &'a [PlaceBytes]) -> Vec<&'a PlaceBytes> {
        let begun =
            |place: &PlaceBytes| self.records.values().any(|record| record.last == (place.slot, place.totals.first));
        let mut ordered: Vec<&PlaceBytes> = orphans.iter().collect();
        ordered.sort_by_key(|place| !begun(place));
        ordered
    }

    /// Takes what a slot held that was taken away from its place. Only then may it be given back.
    pub fn take(&mut self, place: &PlaceBytes) {
        let whose = self.learn(place.totals.key, &place.standing, When::Now).unwrap_or_default();
        for holder in holders(&whose) {
            self.admit(holder, place.totals.first);
        }
        let (job, container) = self.routes(&whose);
        for id in [Some(job), container].into_iter().flatten() {
            if let Some(record) = self.records.get_mut(&id) {
                record.add((place.slot, place.totals.first), [place.totals.received, place.totals.sent]);
                self.save(id);
            }
        }
    }

    /// Moves the bytes of those whose time is over to the others, once.
    pub fn expire(&mut self, snapshot: &Snapshot) {
        let there: BTreeSet<PlaceKey> = snapshot.places.iter().map(|place| place.totals.key).collect();
        self.refused += self.decisions.expire(&mut self.store, &there, snapshot.now);
        let keep = u64::try_from(self.bounds.keep.as_nanos()).unwrap_or(u64::MAX);
        let mut used: BTreeSet<u32> = BTreeSet::new();
        for whose in snapshot.places.iter().filter_map(|place| self.whose.get(&place.totals.key)) {
            used.extend(holders(whose).into_iter().filter_map(|holder| self.numbers.get(&holder)));
        }
        let is_over = |id: u32, record: &Record| {
            id > OTHER_CONTAINERS
                && !used.contains(&id)
                && record.ended != 0
                && (!record.is_shown || snapshot.now.saturating_sub(record.ended) > keep)
        };
        let over: Vec<u32> =
            self.records.iter().filter(|(id, record)| is_over(**id, record)).map(|(id, _)| *id).collect();
        for id in over {
            let Some(record) = self.records.get(&id).cloned() else {
                continue;
            };
            let other = if matches!(record.holder, Holder::Job(_)) { OTHER_JOBS } else { OTHER_CONTAINERS };
            if let Some(others) = self.records.get_mut(&other) {
                others.add((OF_RECORD | id, record.began), record.bytes);
            }
            self.save(other);
            self.records.remove(&id);
            self.numbers.remove(&record.holder);
            if self.store.remove(id).is_err() {
                self.refused += 1;
            }
        }
    }

    /// All series, of one snapshot.
    #[must_use]
    pub fn sums(&self, snapshot: &Snapshot) -> Sums {
        let mut bytes: BTreeMap<u32, [u64; 2]> = self.records.iter().map(|(id, record)| (*id, record.bytes)).collect();
        let mut add = |id: u32, more: [u64; 2]| {
            for (sum, more) in bytes.entry(id).or_default().iter_mut().zip(more) {
                *sum = sum.saturating_add(more);
            }
        };
        for place in &snapshot.places {
            let Some(whose) = self.whose.get(&place.totals.key) else {
                continue;
            };
            let (job, container) = self.routes(whose);
            for id in [Some(job), container].into_iter().flatten() {
                add(id, [place.totals.received, place.totals.sent]);
            }
        }
        add(OTHER_JOBS, snapshot.overflow);
        add(OTHER_CONTAINERS, snapshot.overflow);
        let mut sums = Sums::default();
        for (id, record) in &self.records {
            let bytes = bytes.get(id).copied().unwrap_or_default();
            let sum = Sum { bytes, has_ended: record.ended != 0 };
            match &record.holder {
                Holder::NoJob => sums.no_job = bytes,
                Holder::OtherJobs => sums.other_jobs = bytes,
                Holder::OtherContainers => sums.other_containers = bytes,
                Holder::Job(job) if record.is_shown => drop(sums.jobs.insert(job.clone(), sum)),
                Holder::Container(container) if record.is_shown => drop(sums.containers.insert(container.clone(), sum)),
                Holder::Job(_) | Holder::Container(_) => {}
            }
        }
        sums
    }
}

/// The job and the container of a place, as far as it has them.
fn holders(whose: &Whose) -> Vec<Holder> {
    let job = whose.job.clone().map(Holder::Job);
    let container = (!whose.container.is_empty()).then(|| Holder::Container(whose.container.clone()));
    job.into_iter().chain(container).collect()
}

#[cfg(test)]
mod tests;
