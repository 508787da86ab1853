//! Scrapes one after the other: at each the bytes of jobs and of none are those of all sockets, and no counter is below what it
//! was. What the bytes are is the tests' matter.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::Result;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::page::Page;

use crate::jobs::{balanced_page, owned_and_all};

/// Scrapes, and sees that the books balance and no counter goes down.
#[derive(Default)]
pub(crate) struct Watch(RefCell<BTreeMap<String, f64>>);

impl Watch {
    pub(crate) fn scrape(&self, agent: &Agent<'_>) -> Result<Page> {
        let mut page = self.rising(agent)?;
        let [owned, sockets] = owned_and_all(&page);
        if owned[0] > sockets[0] {
            // A request of the agent's own ended between the reading of sockets and that of jobs. The next one is a second
            // later, and a page takes less.
            page = self.rising(agent)?;
        }
        balanced_page(&page);
        Ok(page)
    }

    fn rising(&self, agent: &Agent<'_>) -> Result<Page> {
        let page = agent.scrape()?;
        let mut before = self.0.borrow_mut();
        let counters =
            page.text().lines().filter(|line| line.starts_with("sockmeter_") && line.contains("_bytes_total"));
        for (series, value) in counters.filter_map(|line| line.rsplit_once(' ')) {
            let value: f64 = value.parse().unwrap_or(f64::NAN);
            let known = before.entry(series.to_owned()).or_insert(value);
            assert!(*known <= value, "{series} was {known} and is {value}\n{}", page.text());
            *known = value;
        }
        Ok(page)
    }

    pub(crate) fn until(&self, agent: &Agent<'_>, what: &str, condition: impl FnMut(&Page) -> bool) -> Result<Page> {
        Page::until(what, || self.scrape(agent), condition)
    }
}
