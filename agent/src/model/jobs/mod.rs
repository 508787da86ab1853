//! The scheduler's jobs and nodes as one poll of its API shows them: counts by state, queue, priority and engine. What
//! is observed once a job, over all polls, is in `once`. Who asks the API is the rim (`scheduler`).

mod names;
mod once;

pub use self::names::Names;
pub use self::once::{BOUNDS, Damaged, Durations, Histogram, Once};

/// States of a job, as the scheduler names them.
pub const STATES: [&str; 12] = [
    "pending",
    "queued",
    "assigned",
    "processing",
    "running",
    "paused",
    "retrying",
    "completed",
    "failed",
    "timed_out",
    "canceled",
    "rejected",
];
/// Those of a job that a worker has.
const ACTIVE: [&str; 3] = ["assigned", "processing", "running"];
/// Those of a job that waits for one.
const WAITING: [&str; 3] = ["pending", "queued", "retrying"];
/// Those of a job that has ended; a retry takes it out of them again.
const ENDED: [&str; 5] = ["completed", "failed", "timed_out", "canceled", "rejected"];
/// States of a node.
pub const NODE_STATES: [&str; 3] = ["available", "busy", "offline"];
/// Queues.
pub const QUEUES: [&str; 3] = ["live", "default", "batch"];
/// Priorities.
pub const PRIORITIES: [&str; 3] = ["high", "medium", "low"];
/// Engines.
pub const ENGINES: [&str; 3] = ["ffmpeg", "gstreamer", "auto"];

/// What tells one job from another: a digest of its id, so that a long list of them is small.
pub type Key = [u8; 16];

/// A job, as far as it is looked at. Times are nanoseconds of Unix time; `None` where there is none, or one that cannot
/// be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// Digest of its id; `None` if it has none.
    pub key: Option<Key>,
    /// Its state.
    pub status: Option<String>,
    /// Its queue.
    pub queue: Option<String>,
    /// Its priority.
    pub priority: Option<String>,
    /// Its engine.
    pub engine: Option<String>,
    /// When it was submitted.
    pub created: Option<i64>,
    /// When a worker began with it, the last time.
    pub started: Option<i64>,
    /// When it ended, the last time.
    pub completed: Option<i64>,
}

impl Job {
    /// Seconds from its start to its end; `None` where one of them is missing, or they contradict each other.
    #[must_use]
    pub fn run_seconds(&self) -> Option<f64> {
        seconds(self.started?, self.completed?)
    }

    /// Seconds from its submission to its start, likewise.
    #[must_use]
    pub fn queue_seconds(&self) -> Option<f64> {
        seconds(self.created?, self.started?)
    }

    /// Whether it has ended. One that is retried may still have the times of the run before.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.is_in(&ENDED)
    }

    fn is_in(&self, states: &[&str]) -> bool {
        self.status.as_deref().is_some_and(|status| states.contains(&status))
    }
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "seconds of a histogram; 2^53 ns are 104 days")]
fn seconds(from: i64, until: i64) -> Option<f64> {
    let nanoseconds = until.checked_sub(from).filter(|difference| *difference >= 0)?;
    Some(nanoseconds as f64 / 1e9)
}

/// A mean that grows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mean {
    count: u64,
    sum: f64,
}

impl Mean {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.count += 1;
            self.sum += value;
        }
    }

    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a mean of jobs")]
    fn value(self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// What one poll counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// Jobs by state.
    pub states: Names,
    /// Jobs that wait, by priority.
    pub priorities: Names,
    /// Jobs that wait, by queue.
    pub queues: Names,
    /// Jobs by engine.
    pub engines: Names,
    /// Nodes by status.
    pub nodes: Names,
    /// Jobs that a worker has.
    pub active: u64,
    /// Jobs that wait for one.
    pub waiting: u64,
    run: Mean,
    queue: Mean,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            states: Names::new(&STATES),
            priorities: Names::new(&PRIORITIES),
            queues: Names::new(&QUEUES),
            engines: Names::new(&ENGINES),
            nodes: Names::new(&NODE_STATES),
            active: 0,
            waiting: 0,
            run: Mean::default(),
            queue: Mean::default(),
        }
    }
}

impl Tally {
    /// An empty one for the next poll, in which the names that were admitted so far keep their places.
    #[must_use]
    pub fn after(&self) -> Self {
        Self {
            states: self.states.emptied(),
            priorities: self.priorities.emptied(),
            queues: self.queues.emptied(),
            engines: self.engines.emptied(),
            nodes: self.nodes.emptied(),
            ..Self::default()
        }
    }

    /// Counts a job.
    pub fn job(&mut self, job: &Job) {
        self.states.count(job.status.as_deref());
        self.engines.count(job.engine.as_deref());
        if job.is_in(&ACTIVE) {
            self.active += 1;
        }
        if job.is_in(&WAITING) {
            self.waiting += 1;
            self.priorities.count(job.priority.as_deref());
            self.queues.count(job.queue.as_deref());
        }
        self.run.add(if job.has_ended() { job.run_seconds() } else { None });
        self.queue.add(job.queue_seconds());
    }

    /// Counts a node of that status.
    pub fn node(&mut self, status: Option<&str>) {
        self.nodes.count(status);
    }

    /// Mean seconds of the runs known; `None` while there is none.
    #[must_use]
    pub fn mean_run(&self) -> Option<f64> {
        self.run.value()
    }

    /// Mean seconds of the waits known; `None` while there is none.
    #[must_use]
    pub fn mean_queue(&self) -> Option<f64> {
        self.queue.value()
    }
}

#[cfg(test)]
mod tests;
