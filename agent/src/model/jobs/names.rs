//! A label's values and how often each was met: a closed set that is always there, and a bounded number of others under
//! their own names. What they are names of is in `jobs`.

use std::collections::BTreeMap;

/// Values beyond the known ones that keep their own names.
const MOST_OTHERS: usize = 10;
/// Bytes of a name; a longer one is none that a scheduler gives.
const LONGEST: usize = 64;
/// Where the rest is counted, and what has no value.
const OTHER: &str = "other";

/// Values and their counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    counts: BTreeMap<String, u64>,
    room: usize,
}

impl Names {
    /// The known ones, each 0.
    #[must_use]
    pub fn new(known: &[&str]) -> Self {
        Self { counts: known.iter().map(|name| ((*name).to_owned(), 0)).collect(), room: MOST_OTHERS }
    }

    /// The same names, each 0.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self { counts: self.counts.keys().map(|name| (name.clone(), 0)).collect(), room: self.room }
    }

    /// The name under which this value is counted. First come, first served; who has a name keeps it.
    pub fn admit(&mut self, value: Option<&str>) -> String {
        let value = value.filter(|value| !value.is_empty() && value.len() <= LONGEST).unwrap_or(OTHER);
        if self.counts.contains_key(value) {
            return value.to_owned();
        }
        if value != OTHER {
            if self.room == 0 {
                return self.admit(None);
            }
            self.room -= 1;
        }
        self.counts.insert(value.to_owned(), 0);
        value.to_owned()
    }

    /// Counts one.
    pub fn count(&mut self, value: Option<&str>) {
        if let Some(count) = value.and_then(|value| self.counts.get_mut(value)) {
            *count += 1;
            return;
        }
        let name = self.admit(value);
        *self.counts.entry(name).or_default() += 1;
    }

    /// All, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// The sum of all counts.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}
