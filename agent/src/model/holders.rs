//! Bytes by job and by container: what the slots of their places hold, and what was taken from those that were given
//! back. Whose a place is says `owner`; slots are the rim's (`kernel`).
//!
//! A slot is given back once one of its cgroups is gone. Until then its bytes are read where they are. What is taken goes
//! into one record of a job (or of no job) and one of a container; each remembers what it took last, so that a kill in
//! between neither loses nor repeats.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sockmeter_ebpf::layout::books::HOLDER;

use super::decisions::{self, Decisions, Residents};
use super::holder::{Holder, Record};
use super::store::StoreError;
use crate::owner::{Container, Looks, Pod, Rules, Whose, whose};
use crate::snapshot::{PlaceBytes, PlaceKey, Pods, Snapshot, Standing};

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

/// How many have series of their own at a time, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HolderBounds {
    /// Jobs.
    pub jobs: usize,
    /// Containers and units.
    pub containers: usize,
    /// How long a series is kept after the end.
    pub keep: Duration,
}

/// One series.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sum {
    /// `[received, sent]`.
    pub bytes: [u64; 2],
    /// Whether it has ended.
    pub has_ended: bool,
}

/// All series. The sums of jobs, of the other ones and of no job are the sum of all sockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    /// By the job's id.
    pub jobs: BTreeMap<String, Sum>,
    /// Jobs without a series of their own, `[received, sent]`.
    pub other_jobs: [u64; 2],
    /// What is no job's.
    pub no_job: [u64; 2],
    /// By container and unit.
    pub containers: BTreeMap<Container, Sum>,
    /// Containers without a series of their own.
    pub other_containers: [u64; 2],
}

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
    pods: Pods,
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
        let (whose, residents, pods) = (BTreeMap::new(), None, Pods::new());
        Self { store, rules, bounds, records, numbers, whose, decisions, residents, pods, refused }
    }

    /// Has somebody tell who is in a place, for rules that look at that. Without him nobody is.
    pub fn ask(&mut self, residents: Box<dyn Residents + Send>) {
        self.residents = Some(residents);
    }

    /// Whether the rules look at processes, so that a place should be learned while they live.
    #[must_use]
    pub fn is_in_haste(&self) -> bool {
        self.rules.looks() != Looks::default()
    }

    /// Takes other rules and bounds. Places that are known keep their owner: bytes once booked stay where they are.
    pub fn configure(&mut self, rules: Rules, bounds: HolderBounds) {
        self.rules = rules;
        self.bounds = bounds;
    }

    /// Takes the names of the pods that there are. Places that are known keep what they were called.
    pub fn name_pods(&mut self, pods: Pods) {
        self.pods = pods;
    }

    /// Writes that the store refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Learns whose the places of a snapshot are, first come, first served, and who has ended.
    pub fn note(&mut self, snapshot: &Snapshot) {
        self.learn_all(snapshot, false);
    }

    /// The same, but leaves places for the next time of which more can be said soon. Only where nothing is shown of the
    /// snapshot: it would not be whole.
    pub fn look(&mut self, snapshot: &Snapshot) {
        self.learn_all(snapshot, true);
    }

    fn learn_all(&mut self, snapshot: &Snapshot, may_wait: bool) {
        let mut places: Vec<&PlaceBytes> = snapshot.places.iter().collect();
        places.sort_by_key(|place| (place.totals.first, place.slot));
        if self.whose.len() > MOST_PLACES {
            let used: BTreeSet<&PlaceKey> = places.iter().map(|place| &place.totals.key).collect();
            self.whose.retain(|key, _| used.contains(key));
        }
        // Of each: whether one of its places is there, and when the last one went.
        let mut ends: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        for place in places {
            let Some(whose) = self.learn(place.totals.key, &place.standing, may_wait) else {
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

    /// Whose a place is: what was learned of it, or is learned now.
    pub fn whose(&mut self, key: PlaceKey, standing: &Standing) -> Whose {
        let known = (key != PlaceKey::default()).then(|| self.learn(key, standing, false));
        known.flatten().unwrap_or_default()
    }

    /// `None` only if it may wait.
    fn learn(&mut self, key: PlaceKey, standing: &Standing, may_wait: bool) -> Option<Whose> {
        if let Some(whose) = self.whose.get(&key) {
            return Some(whose.clone());
        }
        let (rules, pods, residents) = (&self.rules, &self.pods, &mut self.residents);
        let named = |uid: &str| {
            let pod = pods.get(uid)?;
            Some(Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), came: pod.came })
        };
        let decided = self.decisions.of_place(key).map(|decision| decision.job.clone());
        let mut found = whose(&standing.paths, rules, named, |looks| {
            let ask = residents.as_mut().filter(|_| decided.is_none());
            ask.map(|residents| residents.of(key, standing, looks)).into_iter().flatten()
        });
        if may_wait && found.is_early {
            return None;
        }
        if let Some(job) = decided {
            found.job = job;
        } else if found.is_by_processes && !self.decisions.keep(&mut self.store, key, found.job.clone()) {
            self.refused += 1;
        }
        self.whose.insert(key, found.clone());
        Some(found)
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
        let is_over =
            |place: &&PlaceBytes| place.standing.gone.is_some_and(|gone| snapshot.now.saturating_sub(gone) > SETTLED);
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
        let whose = self.learn(place.totals.key, &place.standing, false).unwrap_or_default();
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
