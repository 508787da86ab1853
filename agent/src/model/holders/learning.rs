//! When it is decided whose a place is: once, because bytes that are somebody's stay his. A place of a pod may wait for a list
//! that says what the pod is (`pods`); what it has meanwhile is in no sum.

use super::super::decisions::Decision;
use super::{Holders, When};
use crate::model::HolderStore;
use crate::owner::{InPod, Whose, whose};
use crate::snapshot::{PlaceKey, Snapshot, Standing};

impl<S: HolderStore> Holders<S> {
    /// Bytes of a snapshot that are in no sum yet, `[received, sent]`: those of places that wait.
    #[must_use]
    pub fn waiting(&self, snapshot: &Snapshot) -> [u64; 2] {
        let waiting = snapshot.places.iter().filter(|place| !self.whose.contains_key(&place.totals.key));
        waiting.fold([0; 2], |sum, place| [sum[0] + place.totals.received, sum[1] + place.totals.sent])
    }

    /// Whose a place is: what was learned of it, or is learned now. Of one that waits, what is known so far.
    pub fn whose(&mut self, key: PlaceKey, standing: &Standing) -> Whose {
        if key == PlaceKey::default() {
            return Whose::default();
        }
        let known = self.learn(key, standing, When::Asked);
        known.unwrap_or_else(|| whose(&standing.paths, &self.rules, |uid| self.pods.named(uid), |_| std::iter::empty()))
    }

    /// `None` only if it may wait.
    pub(super) fn learn(&mut self, key: PlaceKey, standing: &Standing, when: When) -> Option<Whose> {
        if let Some(whose) = self.whose.get(&key) {
            return Some(whose.clone());
        }
        let (rules, pods, residents) = (&self.rules, &self.pods, &mut self.residents);
        let decision = self.decisions.of_place(key).cloned();
        let told = decision.as_ref().map(|decision| decision.job.clone()).or_else(|| pods.told(key).map(Some));
        let mut found = whose(
            &standing.paths,
            rules,
            |uid| pods.named(uid),
            |looks| {
                let ask = residents.as_mut().filter(|_| told.is_none());
                ask.map(|residents| residents.of(key, standing, looks)).into_iter().flatten()
            },
        );
        if let Some(job) = told {
            found.job = job;
        }
        match decision {
            Some(Decision { pod: Some([namespace, pod]), .. }) => {
                (found.container.namespace, found.container.pod) = (namespace, pod);
            }
            Some(_) => {}
            None if when == When::Settled && found.is_early => return None,
            None if when != When::Now && self.pods.waits(key, &found, self.now) => return None,
            None => self.keep(key, &found),
        }
        self.pods.decided(key);
        self.whose.insert(key, found.clone());
        Some(found)
    }

    /// Keeps what was found out about a place by what may be gone when it is asked for again.
    fn keep(&mut self, key: PlaceKey, found: &Whose) {
        let is_by_pod = self.pods.is_asked() && found.pod != InPod::No;
        let pod = is_by_pod.then(|| [found.container.namespace.clone(), found.container.pod.clone()]);
        if (is_by_pod || found.is_by_processes) && !self.decisions.keep(&mut self.store, key, (found.job.clone(), pod))
        {
            self.refused += 1;
        }
    }
}
