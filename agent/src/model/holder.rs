//! What is kept of one job or container: its name, what was taken from slots that were given back, and when it ended.
//! Which there are is in `holders`.

use sockmeter_ebpf::layout::books::HOLDER;

use super::bytes::{Reader, Writer};
use crate::owner::{Container, LONGEST};

const TEXT: usize = LONGEST + 2;

/// Whose bytes a record has.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Holder {
    /// Places that are no job's.
    NoJob,
    /// Jobs without a series of their own, or whose time is over.
    OtherJobs,
    /// Containers and units, likewise.
    OtherContainers,
    /// A job, by its id.
    Job(String),
    /// A container or unit.
    Container(Container),
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) holder: Holder,
    /// Whether it has a series of its own; else its bytes are with the others.
    pub(super) is_shown: bool,
    /// `[received, sent]`, from slots that were given back.
    pub(super) bytes: [u64; 2],
    /// What was added last: a slot's number and beginning, or another record's number and beginning. A run that was killed
    /// in between may hand it over again.
    pub(super) last: (u32, u64),
    /// When it was first seen, nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) began: u64,
    /// When its last cgroup went, likewise; 0: it lives.
    pub(super) ended: u64,
}

impl Record {
    pub(super) fn new(holder: Holder, is_shown: bool, began: u64) -> Self {
        Self { holder, is_shown, bytes: [0; 2], last: (0, 0), began, ended: 0 }
    }

    /// Adds what `from` names, unless that was the last that was added.
    pub(super) fn add(&mut self, from: (u32, u64), bytes: [u64; 2]) {
        if self.last == from {
            return;
        }
        self.last = from;
        for (sum, more) in self.bytes.iter_mut().zip(bytes) {
            *sum = sum.saturating_add(more);
        }
    }

    pub(super) fn to_bytes(&self) -> [u8; HOLDER] {
        let mut bytes = [0; HOLDER];
        let mut to = Writer(&mut bytes);
        let none = Container::default();
        let (kind, container, job) = match &self.holder {
            Holder::NoJob => (1, &none, ""),
            Holder::OtherJobs => (2, &none, ""),
            Holder::OtherContainers => (3, &none, ""),
            Holder::Job(job) => (4, &none, job.as_str()),
            Holder::Container(container) => (5, container, ""),
        };
        to.u64s(&[kind, u64::from(self.is_shown)]);
        to.u64s(&self.bytes);
        to.u64s(&[u64::from(self.last.0), self.last.1, self.began, self.ended]);
        for text in
            [if kind == 4 { job } else { &container.container }, &container.pod, &container.namespace, &container.unit]
        {
            to.text(text, TEXT);
        }
        bytes
    }

    /// Reads what `to_bytes` wrote; `None` if it is damaged.
    pub(super) fn from_bytes(bytes: &[u8; HOLDER]) -> Option<Self> {
        let mut from = Reader(bytes);
        let mut head = [0; 8];
        from.u64s(&mut head)?;
        let [kind, is_shown, received, sent, slot, first, began, ended] = head;
        let mut text = || Some(from.text(TEXT)?.to_owned());
        let [container, pod, namespace, unit] = [text()?, text()?, text()?, text()?];
        let holder = match kind {
            1 => Holder::NoJob,
            2 => Holder::OtherJobs,
            3 => Holder::OtherContainers,
            4 => Holder::Job(container),
            5 => Holder::Container(Container { container, pod, namespace, unit }),
            _ => return None,
        };
        let last = (u32::try_from(slot).ok()?, first);
        Some(Self { holder, is_shown: is_shown != 0, bytes: [received, sent], last, began, ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_bytes_and_back() {
        let long = "x".repeat(LONGEST);
        let container =
            Container { container: long.clone(), pod: long.clone(), namespace: long.clone(), unit: long.clone() };
        for holder in
            [Holder::NoJob, Holder::OtherJobs, Holder::OtherContainers, Holder::Job(long), Holder::Container(container)]
        {
            let record = Record { holder, is_shown: true, bytes: [1, u64::MAX], last: (7, 8), began: 9, ended: 10 };
            assert_eq!(Record::from_bytes(&record.to_bytes()), Some(record));
        }
        assert_eq!(Record::from_bytes(&[0; HOLDER]), None);
    }
}
