//! The families of what some exchanges say about the scheduler that a service is. Its state, by its API, is in `jobs`.

use super::Accounts;
use crate::exposition::{Page, catalog};
use crate::model::told;

/// Writes them, if they are derived.
pub(super) fn write(accounts: &Accounts<'_>, page: &mut Page) {
    if !accounts.derives {
        return;
    }
    page.family(&catalog::SCHEDULE_ATTEMPTS, "", |samples| {
        for (result, count) in told::schedule_attempts(accounts.cells) {
            samples.counter(&[result], count);
        }
    });
    page.family(&catalog::HEARTBEATS, "", |samples| {
        for (node, count) in told::heartbeats(accounts.cells) {
            samples.counter(&[node], count);
        }
    });
}
