//! What is known of pods, and which places wait to be told whose they are: those of pods that a list may name which was asked
//! for when their first bytes were there already. What a waiting place has is held back (`model::held`).

use std::collections::{BTreeMap, BTreeSet};

use crate::owner::{InPod, Pod, Whose};
use crate::snapshot::{PlaceBytes, PlaceKey, PodName, Pods};

/// How long a place waits at most, in nanoseconds: an API that answers at all does so within that.
const PATIENCE: u64 = 15_000_000_000;

/// When a place is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Now, by what is known.
    Now,
    /// Once its pod was asked for. A page can be made of what is known.
    Asked,
    /// Likewise, and once it is clear who stays in it. No page can be made.
    Settled,
}

/// All that is known of pods.
#[derive(Debug, Default)]
pub(super) struct KnownPods {
    /// Where there are lists.
    is_asked: bool,
    /// From the logs of the kubelet.
    logged: Pods,
    /// From the last list.
    listed: Pods,
    /// How many places waited so far: the last one's number.
    asked: u64,
    /// Up to which number a list was asked for behind them and came.
    answered: u64,
    waiting: BTreeMap<PlaceKey, Waiting>,
}

/// A place that waits.
#[derive(Debug)]
struct Waiting {
    number: u64,
    /// Since when, nanoseconds of `CLOCK_MONOTONIC`.
    since: u64,
    /// The job that a process told meanwhile: it may have ended by the time that the pod is known.
    job: Option<String>,
}

impl KnownPods {
    /// Whether there are lists to wait for.
    pub(super) fn ask(&mut self, is_asked: bool) {
        self.is_asked = is_asked;
        if !is_asked {
            // It may be the reason why nobody is asked any more.
            self.listed.clear();
        }
    }

    pub(super) fn is_asked(&self) -> bool {
        self.is_asked
    }

    /// Takes the names in the logs.
    pub(super) fn log(&mut self, pods: Pods) {
        self.logged = pods;
    }

    /// Takes a whole list that was asked for when so many places had waited.
    pub(super) fn list(&mut self, pods: Pods, asked: u64) {
        self.listed = pods;
        self.give_up(asked);
    }

    /// The first so many places do not wait any more.
    pub(super) fn give_up(&mut self, asked: u64) {
        self.answered = self.answered.max(asked);
    }

    /// How many places waited so far: one more than was asked for is a reason to ask.
    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// A pod by its uid. The list says more.
    pub(super) fn named(&self, uid: &str) -> Option<Pod> {
        let logged = self.logged.get(uid);
        let PodName { namespace, name, came, is_listed, job } = self.listed.get(uid).or(logged)?.clone();
        let came = came.or(logged.and_then(|pod| pod.came));
        Some(Pod { namespace, name, came, is_listed, job })
    }

    /// What a process told of a place that waits.
    pub(super) fn told(&self, place: PlaceKey) -> Option<String> {
        self.waiting.get(&place)?.job.clone()
    }

    /// Whether a place waits, of which this is known now.
    pub(super) fn waits(&mut self, place: PlaceKey, found: &Whose, now: u64) -> bool {
        if !self.is_asked || found.pod != InPod::Unlisted {
            self.waiting.remove(&place);
            return false;
        }
        let asked = &mut self.asked;
        let waiting = self.waiting.entry(place).or_insert_with(|| {
            *asked += 1;
            Waiting { number: *asked, since: now, job: None }
        });
        if found.is_by_processes && !found.is_early {
            waiting.job.clone_from(&found.job);
        }
        let is_over = self.answered >= waiting.number || now.saturating_sub(waiting.since) > PATIENCE;
        if is_over {
            self.waiting.remove(&place);
        }
        !is_over
    }

    /// Whether a place was found to wait when it was last looked at.
    pub(super) fn is_waiting(&self, place: PlaceKey) -> bool {
        self.waiting.contains_key(&place)
    }

    /// No longer.
    pub(super) fn decided(&mut self, place: PlaceKey) {
        self.waiting.remove(&place);
    }

    /// Forgets places that are not there any more.
    pub(super) fn forget_all_but(&mut self, places: &[PlaceBytes]) {
        if self.waiting.is_empty() {
            return;
        }
        let there: BTreeSet<PlaceKey> = places.iter().map(|place| place.totals.key).collect();
        self.waiting.retain(|place, _| there.contains(place));
    }
}
