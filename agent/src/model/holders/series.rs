//! What the books of jobs and containers come to: a series each, within bounds. How they add up is in `holders`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::owner::Container;

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

/// All series. The sums of jobs, of the other ones and of no job are the sum of all sockets, but for what waits.
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
