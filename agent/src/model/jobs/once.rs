//! Histograms of how long jobs ran and waited, into which each job goes once, also when the agent is started again. Which
//! file keeps them is the rim's matter (`scheduler`).

use std::collections::{BTreeMap, HashMap};

use super::{ENGINES, Job, Key, Names, QUEUES};

/// Upper bounds of both histograms, in seconds.
pub const BOUNDS: [f64; 13] = [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0];

/// Jobs that are remembered: 33 bytes each in the file, about twice that in memory.
const MOST_JOBS: usize = 200_000;
/// The scheduler forgets a job seven days after its end. One that was not on its list for eight days does not come back.
const REMEMBERED: i64 = 8 * 24 * 3_600 * 1_000_000_000;

/// `Seen::observed`: its wait was.
const QUEUED: u8 = 1;
/// `Seen::observed`: its run was.
const RAN: u8 = 2;

/// First bytes of what is kept.
const MAGIC: &[u8; 8] = b"smjobs1\n";

/// One histogram.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Histogram {
    /// Observations of each bucket alone, the last one above all bounds.
    pub counts: [u64; BOUNDS.len() + 1],
    /// Their sum, in seconds.
    pub sum: f64,
}

impl Histogram {
    fn observe(&mut self, seconds: f64) {
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += seconds;
    }
}

/// What was kept cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not what this agent writes")]
pub struct Damaged;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    created: i64,
    last: i64,
    observed: u8,
}

/// Histograms by `(queue, engine)`.
type Histograms = BTreeMap<(String, String), Histogram>;

/// What was observed, of all jobs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durations {
    /// How long jobs ran.
    pub run: Histograms,
    /// How long they waited before.
    pub queue: Histograms,
}

/// What was observed of which job.
#[derive(Debug, Clone, PartialEq)]
pub struct Once {
    durations: Durations,
    queues: Names,
    engines: Names,
    jobs: HashMap<Key, Seen>,
    /// A job that is not known and was submitted no later than this was forgotten for want of room: it is not observed
    /// again.
    floor: Option<i64>,
    most: usize,
}

impl Default for Once {
    fn default() -> Self {
        Self::with_room(MOST_JOBS)
    }
}

impl Once {
    /// With room for so many jobs.
    #[must_use]
    pub fn with_room(most: usize) -> Self {
        Self {
            durations: Durations::default(),
            queues: Names::new(&QUEUES),
            engines: Names::new(&ENGINES),
            jobs: HashMap::new(),
            floor: None,
            most,
        }
    }

    /// Looks at a job that is on the list at `now` (nanoseconds of Unix time). Whether something was observed, and so
    /// is to be kept.
    pub fn job(&mut self, job: &Job, now: i64) -> bool {
        let Some(key) = job.key else {
            return false;
        };
        let created = job.created.unwrap_or(0);
        if !self.jobs.contains_key(&key) && self.floor.is_some_and(|floor| created <= floor) {
            return false;
        }
        // A list may be longer than there is room for.
        if self.jobs.len() > self.most.saturating_mul(2) {
            self.trim();
        }
        let seen = self.jobs.entry(key).or_insert(Seen { created, last: now, observed: 0 });
        seen.last = now;
        let waited = if seen.observed & QUEUED == 0 { job.queue_seconds() } else { None };
        let ran = if seen.observed & RAN == 0 && job.has_ended() { job.run_seconds() } else { None };
        if waited.is_none() && ran.is_none() {
            return false;
        }
        let labels = (self.queues.admit(job.queue.as_deref()), self.engines.admit(job.engine.as_deref()));
        if let Some(waited) = waited {
            seen.observed |= QUEUED;
            self.durations.queue.entry(labels.clone()).or_default().observe(waited);
        }
        if let Some(ran) = ran {
            seen.observed |= RAN;
            self.durations.run.entry(labels).or_default().observe(ran);
        }
        true
    }

    /// After a list: forgets what there is no room for and, if it was a `whole` one, what has not been on one for long.
    /// Whether anything was forgotten.
    pub fn settle(&mut self, now: i64, whole: bool) -> bool {
        let before = self.jobs.len();
        if whole {
            self.jobs.retain(|_, seen| now.saturating_sub(seen.last) < REMEMBERED);
        }
        self.trim();
        self.jobs.len() != before
    }

    fn trim(&mut self) {
        if self.jobs.len() > self.most {
            let mut by_age: Vec<(i64, i64)> = self.jobs.values().map(|seen| (seen.created, seen.last)).collect();
            by_age.sort_unstable();
            let over = self.jobs.len() - self.most;
            // The oldest go, and with them whatever was submitted at the same moment.
            if let Some((floor, _)) = by_age.get(over - 1) {
                let floor = self.floor.map_or(*floor, |known| known.max(*floor));
                self.floor = Some(floor);
                self.jobs.retain(|_, seen| seen.created > floor);
            }
        }
    }

    /// What was observed so far.
    #[must_use]
    pub fn durations(&self) -> &Durations {
        &self.durations
    }

    /// How many jobs are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.jobs.len()
    }

    /// As bytes, to be kept.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.jobs.len() * 33);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.floor.unwrap_or(i64::MIN).to_le_bytes());
        for histograms in [&self.durations.run, &self.durations.queue] {
            bytes.extend_from_slice(&length(histograms.len()).to_le_bytes());
            for ((queue, engine), histogram) in histograms {
                for text in [queue, engine] {
                    bytes.extend_from_slice(&length(text.len()).to_le_bytes());
                    bytes.extend_from_slice(text.as_bytes());
                }
                for count in histogram.counts {
                    bytes.extend_from_slice(&count.to_le_bytes());
                }
                bytes.extend_from_slice(&histogram.sum.to_le_bytes());
            }
        }
        bytes.extend_from_slice(&length(self.jobs.len()).to_le_bytes());
        for (key, seen) in &self.jobs {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(&seen.created.to_le_bytes());
            bytes.extend_from_slice(&seen.last.to_le_bytes());
            bytes.push(seen.observed);
        }
        bytes
    }

    /// What was kept.
    ///
    /// # Errors
    /// When these are no such bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Damaged> {
        let mut from = Bytes(bytes);
        if from.array::<8>()? != *MAGIC {
            return Err(Damaged);
        }
        let floor = i64::from_le_bytes(from.array()?);
        let mut once = Self { floor: (floor != i64::MIN).then_some(floor), ..Self::default() };
        for which in [true, false] {
            for _ in 0..from.length()? {
                let queue = from.text()?;
                let engine = from.text()?;
                let labels = (once.queues.admit(Some(&queue)), once.engines.admit(Some(&engine)));
                let mut histogram = Histogram::default();
                for count in &mut histogram.counts {
                    *count = u64::from_le_bytes(from.array()?);
                }
                histogram.sum = f64::from_le_bytes(from.array()?);
                let durations = &mut once.durations;
                let histograms = if which { &mut durations.run } else { &mut durations.queue };
                histograms.insert(labels, histogram);
            }
        }
        for _ in 0..from.length()? {
            let key = from.array()?;
            let created = i64::from_le_bytes(from.array()?);
            let last = i64::from_le_bytes(from.array()?);
            let [observed] = from.array()?;
            once.jobs.insert(key, Seen { created, last, observed });
        }
        if from.0.is_empty() { Ok(once) } else { Err(Damaged) }
    }
}

fn length(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// Bytes that are read from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (first, rest) = self.0.split_first_chunk::<N>().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*first)
    }

    fn length(&mut self) -> Result<u32, Damaged> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<String, Damaged> {
        let length = usize::try_from(self.length()?).map_err(|_| Damaged)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        String::from_utf8(text.to_vec()).map_err(|_| Damaged)
    }
}
