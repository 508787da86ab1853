//! Which passes over sockets a scrape takes: one scan of all that something is kept of (`scan`), and passes over the namespaces in
//! which that leaves something to do (`namespaces`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use aya::programs::iter::IterLink;
use sockmeter_ebpf::layout::LOSS_STORAGE;

use super::namespaces::Wants;
use super::scan::Found;
use super::{Kernel, iterator, namespaces};
use crate::snapshot::{Live, ReadError};

/// The programs that pass over the live sockets of a namespace.
const PASSES: [&str; 2] = ["snapshot_tcp", "snapshot_udp"];

/// How often all namespaces are passed over. That finds sockets of which nothing is kept: those that are older than the agent and
/// stood where it did not look, and those that the programs did not see begin, where another program of a cgroup below
/// takes the place of ours (`BPF_F_ALLOW_OVERRIDE`).
const ALL: Duration = Duration::from_mins(5);

/// When all namespaces were passed over the last time.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Passed(Option<At>);

#[derive(Debug, Clone, Copy)]
struct At {
    time: Instant,
    /// Sockets of which nothing could be kept, when they had been.
    lost: u64,
}

impl Passed {
    /// Whether they are to be passed over again.
    fn is_due(self, now: Instant, lost: u64) -> bool {
        self.0.is_none_or(|last| last.lost != lost || now.duration_since(last.time) >= ALL)
    }
}

impl Kernel {
    /// Books what live sockets carried, and says how many are alike; `all`: that is asked for, else only what moved matters.
    ///
    /// # Errors
    /// When a read is refused; nothing is lost then, the next pass has it all.
    pub(super) fn pass(&mut self, all: bool) -> Result<BTreeMap<Live, u64>, ReadError> {
        if let Some(diagnostics) = &mut self.diagnostics {
            diagnostics.pass_on();
        }
        if !self.scans {
            return self.pass_without_scan(all);
        }
        let time = Instant::now();
        if self.passed.is_due(time, self.maps.lost(LOSS_STORAGE)?) {
            // What could not be read is passed over again the next time, with all others.
            if self.pass_over(None, &mut |_| true)?.is_empty() {
                self.passed = Passed(Some(At { time, lost: self.maps.lost(LOSS_STORAGE)? }));
            }
        }
        let Found { live, unsettled, incomplete } = self.scan.run()?;
        // What fails is unsettled the next time too.
        if incomplete {
            self.pass_over(None, &mut |_| true)?;
        } else if !unsettled.is_empty() {
            self.pass_over(Some(&unsettled), &mut |_| true)?;
        }
        Ok(live)
    }

    /// The same where there is no scan: all namespaces, or those of them that received or sent something since the last time.
    fn pass_without_scan(&mut self, all: bool) -> Result<BTreeMap<Live, u64>, ReadError> {
        let mut moved = std::mem::take(&mut self.moved);
        // What fails is passed over the next time, whether it moved or not: then nothing is remembered.
        let unread = self.pass_over(None, &mut |inode| moved.since(inode) || all)?;
        self.moved = moved.next(&unread);
        self.scan.counted().map(|found| found.live)
    }

    /// Passes over these namespaces, or all, as far as they are in scope and wanted; which could not be read.
    fn pass_over(&mut self, only: Option<&BTreeSet<u64>>, wants: &mut Wants<'_>) -> Result<Vec<u64>, ReadError> {
        let own = u64::from(self.netns);
        let is_there = |inode: &u64| only.is_none_or(|only| only.contains(inode));
        let mut take = namespaces::read_nothing;
        if is_there(&own) && wants(own) {
            namespaces::here(self.links(PASSES)?, &mut take)?;
        }
        if !self.all_namespaces || only.is_some_and(|only| only.iter().all(|inode| *inode == own)) {
            return Ok(Vec::new());
        }
        let others = namespaces::others(self.netns).into_iter().filter(|(inode, _)| is_there(inode));
        let passes: Result<_, ReadError> = others.map(|other| Ok((other, self.links(PASSES)?))).collect();
        namespaces::there(passes?, wants, &mut take)
    }

    /// Passes that are yet to be made, in the order of `Protocol::ALL`.
    pub(super) fn links(&mut self, programs: [&'static str; 2]) -> Result<[IterLink; 2], ReadError> {
        let [tcp, udp] = programs.map(|name| namespaces::link(iterator(&mut self.ebpf, name)?));
        Ok([tcp?, udp?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_passed_over_at_first_when_a_socket_was_lost_and_now_and_then() {
        let time = Instant::now();
        let passed = Passed(Some(At { time, lost: 3 }));
        assert!(Passed::default().is_due(time, 0));
        assert_eq!(
            [(0, 3), (299, 3), (300, 3), (1, 4)]
                .map(|(seconds, lost)| { passed.is_due(time + Duration::from_secs(seconds), lost) }),
            [false, false, true, true]
        );
    }
}
