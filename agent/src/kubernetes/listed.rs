//! All pods of all pages: as many as a node may have, and each by its own uid. How a page is read is in `list`.

use std::collections::BTreeMap;

use super::list::Page;
use crate::snapshot::{PodName, Pods};

/// Pods that are kept: the kubelet has 110 of them unless told otherwise.
pub(super) const MOST: usize = 10_000;

/// What a list says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// The pods.
    pub pods: Pods,
    /// Items that are none, or say something of themselves that cannot be: nobody knows what they are.
    pub wrong: u64,
    /// Pods for which there is no room.
    pub beyond: u64,
}

/// Pages, until there are no more.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// `None`: two pods claim the uid, and which of them has it nobody can tell.
    pods: BTreeMap<String, Option<PodName>>,
    wrong: u64,
    beyond: u64,
}

impl Gathered {
    /// Takes a page.
    pub(super) fn add(&mut self, page: Page) {
        self.wrong += page.wrong;
        self.beyond += page.beyond;
        for (uid, pod) in page.pods {
            let is_full = self.pods.len() >= MOST;
            match self.pods.get_mut(&uid) {
                // A list that changes between two pages may have a pod on both.
                Some(Some(known)) if *known == pod => {}
                Some(known) => {
                    *known = None;
                    self.wrong += 1;
                }
                None if is_full => self.beyond += 1,
                None => drop(self.pods.insert(uid, Some(pod))),
            }
        }
    }

    /// There are no more.
    pub(super) fn end(self) -> Listed {
        let pods = self.pods.into_iter().filter_map(|(uid, pod)| Some((uid, pod?))).collect();
        Listed { pods, wrong: self.wrong, beyond: self.beyond }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(pods: &[(u32, &str)]) -> Page {
        let one = |(uid, name): &(u32, &str)| {
            let (namespace, name) = ("batch".to_owned(), (*name).to_owned());
            (uid.to_string(), PodName { namespace, name, came: None, is_listed: true, job: None })
        };
        Page { pods: pods.iter().map(one).collect(), next: None, wrong: 1, beyond: 0 }
    }

    #[test]
    fn a_uid_that_two_pods_claim_is_neithers_and_stays_so() {
        let mut all = Gathered::default();
        all.add(page(&[(1, "a"), (2, "b"), (3, "c"), (2, "b")]));
        all.add(page(&[(1, "a"), (2, "other")]));
        all.add(page(&[(2, "b"), (2, "other")]));
        let listed = all.end();
        assert_eq!(listed.pods.into_keys().collect::<Vec<_>>(), ["1", "3"]);
        // One of each page, and three that say it again.
        assert_eq!((listed.wrong, listed.beyond), (6, 0));
    }

    #[test]
    fn what_there_is_no_room_for_is_counted() {
        let mut all = Gathered::default();
        let many: Vec<(u32, &str)> = (0..7_000).map(|uid| (uid, "a")).collect();
        let more: Vec<(u32, &str)> = (6_000..12_000).map(|uid| (uid, "a")).collect();
        all.add(page(&many));
        all.add(page(&more));
        let listed = all.end();
        assert_eq!((listed.pods.len(), listed.wrong, listed.beyond), (10_000, 2, 2_000));
    }
}
