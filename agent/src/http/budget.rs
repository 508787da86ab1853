//! How many bytes of pages may lie in memory for readers to take. Who loses a page that is not taken is in `admission`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of bytes, and how many of them are taken.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: usize,
    taken: Arc<AtomicUsize>,
}

/// A page's part of the budget, the same one for all connections that send this page: given back when the last has
/// dropped it.
#[derive(Clone, Debug)]
pub(super) struct Share {
    _bytes: Arc<Bytes>,
}

#[derive(Debug)]
struct Bytes {
    bytes: usize,
    taken: Arc<AtomicUsize>,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, taken: Arc::default() }
    }

    /// The share of a page that there is. It may go beyond the budget, since nobody knows a page's size before it is made:
    /// whoever makes pages asks [`Budget::is_used_up`] before.
    pub(super) fn take(&self, bytes: usize) -> Share {
        self.taken.fetch_add(bytes, Ordering::Relaxed);
        Share { _bytes: Arc::new(Bytes { bytes, taken: Arc::clone(&self.taken) }) }
    }

    /// Whether no further page may be made now. One may always, whatever the budget.
    pub(super) fn is_used_up(&self) -> bool {
        let taken = self.taken();
        taken > 0 && taken >= self.bytes
    }

    /// Bytes that are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_taken_once_and_given_back_by_the_last_who_has_it() {
        let budget = Budget::new(10);
        let page = budget.take(6);
        let same = page.clone();
        assert_eq!((budget.taken(), budget.is_used_up()), (6, false));
        let other = budget.take(6);
        assert_eq!((budget.taken(), budget.is_used_up()), (12, true));
        drop(page);
        assert_eq!(budget.taken(), 12);
        drop(same);
        assert_eq!((budget.taken(), budget.is_used_up()), (6, false));
        drop(other);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn a_budget_is_used_up_at_its_last_byte() {
        let budget = Budget::new(10);
        let _nine = budget.take(9);
        assert!(!budget.is_used_up());
        let _one = budget.take(1);
        assert!(budget.is_used_up());
    }

    #[test]
    fn one_page_may_always_go_out() {
        let budget = Budget::new(0);
        assert!(!budget.is_used_up());
        let page = budget.take(1);
        assert!(budget.is_used_up());
        drop(page);
        assert!(!budget.is_used_up());
    }
}
