//! A scheduler of jobs that speaks the API of the real one over HTTP (`lists`), from a state that the test sets. What the
//! agent's page is to say of that state is worked out here, in another way than the agent does.

use std::collections::BTreeMap;
use std::ops::Deref;

use anyhow::Result;
use serde_json::{Value, json};

use crate::lists::{Content, Lists};
use crate::namespace::Namespace;

/// One job: its own fields, and the moments of it that its durations are worked out from.
#[derive(Debug, Clone)]
pub struct Job {
    /// As the API gives it.
    pub json: Value,
    /// Half seconds that it waited, once it was started for the first time.
    pub waited: Option<u32>,
    /// Half seconds that it ran, once it ended for the first time.
    pub ran: Option<u32>,
}

/// What it knows.
#[derive(Debug, Default)]
pub struct Known {
    jobs: Vec<Job>,
    /// Those that are off the list.
    gone: Vec<Job>,
    nodes: Vec<Value>,
    polls: u64,
}

/// The running scheduler.
#[derive(Debug)]
pub struct Scheduler(Lists<Known>);

impl Deref for Scheduler {
    type Target = Lists<Known>;

    fn deref(&self) -> &Lists<Known> {
        &self.0
    }
}

impl Scheduler {
    /// Listens in `namespace` at `address`, without jobs and nodes.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(namespace: &Namespace, address: &str) -> Result<Self> {
        Lists::start(namespace, address, Known::default()).map(Self)
    }

    /// Takes a job, submitted at `second` of the day.
    pub fn submit(&self, id: &str, queue: &str, priority: &str, engine: &str, second: u32) {
        let json = json!({"id": id, "scenario": "4K60-h264", "confidence": "auto", "status": "pending", "queue": queue,
            "priority": priority, "engine": engine, "created_at": moment(2 * second), "retry_count": 0,
            "logs": "frame= 1 fps=\"25\"\n", "parameters": {"id": "not this", "status": ["nor", {"this": null}]}});
        self.with(|known| known.jobs.insert(0, Job { json, waited: None, ran: None }));
    }

    /// Changes a job.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Job)) {
        self.with(|known| {
            if let Some(job) = known.jobs.iter_mut().find(|job| job.json["id"] == id) {
                change(job);
            }
        });
    }

    /// Sets the nodes, each with its status.
    pub fn set_nodes(&self, statuses: &[Value]) {
        let node = |(number, status): (usize, &Value)| json!({"id": format!("n{number}"), "status": status});
        self.with(|known| known.nodes = statuses.iter().enumerate().map(node).collect());
    }

    /// Puts any job on the list.
    pub fn push(&self, json: Value) {
        self.with(|known| known.jobs.insert(0, Job { json, waited: None, ran: None }));
    }

    /// Takes the oldest jobs off the list, as the real one does some days after their end.
    pub fn forget(&self, count: usize) {
        self.with(|known| {
            let stay = known.jobs.len().saturating_sub(count);
            let gone = known.jobs.split_off(stay);
            known.gone.extend(gone);
        });
    }

    /// How often both lists were given.
    #[must_use]
    pub fn polls(&self) -> u64 {
        self.with(|known| known.polls)
    }

    /// What the page is to say of its state: every series of it, but the two histograms and the means.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, f64> {
        self.with(|known| known.state())
    }

    /// Count and sum of what jobs ran and waited, by `(family, queue, engine)`, whatever is on the list now.
    #[must_use]
    pub fn durations(&self) -> BTreeMap<String, f64> {
        self.with(|known| known.durations())
    }
}

impl Known {
    fn state(&self) -> BTreeMap<String, f64> {
        let count = |key: &str, value: &str, among: &[&str]| {
            let here = |job: &&Job| {
                job.json[key] == value && (among.is_empty() || among.iter().any(|status| job.json["status"] == *status))
            };
            f64::from(u32::try_from(self.jobs.iter().filter(here).count()).unwrap_or(u32::MAX))
        };
        let waiting = ["pending", "queued", "retrying"];
        let mut page = BTreeMap::new();
        for status in "pending queued assigned processing running paused retrying completed failed timed_out canceled \
                       rejected"
            .split_whitespace()
        {
            page.insert(format!("ffrtmp_jobs_total{{state=\"{status}\"}}"), count("status", status, &[]));
        }
        let sum = |statuses: &[&str]| statuses.iter().map(|status| count("status", status, &[])).sum::<f64>();
        page.insert("ffrtmp_active_jobs".to_owned(), sum(&["assigned", "processing", "running"]));
        page.insert("ffrtmp_queue_length".to_owned(), sum(&waiting));
        for engine in ["ffmpeg", "gstreamer", "auto"] {
            page.insert(format!("ffrtmp_jobs_by_engine{{engine=\"{engine}\"}}"), count("engine", engine, &[]));
        }
        for priority in ["high", "medium", "low"] {
            let name = format!("ffrtmp_queue_by_priority{{priority=\"{priority}\"}}");
            page.insert(name, count("priority", priority, &waiting));
        }
        for queue in ["live", "default", "batch"] {
            page.insert(format!("ffrtmp_queue_by_type{{type=\"{queue}\"}}"), count("queue", queue, &waiting));
        }
        for status in ["available", "busy", "offline"] {
            let nodes = self.nodes.iter().filter(|node| node["status"] == status).count();
            let nodes = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
            page.insert(format!("ffrtmp_nodes_by_status{{status=\"{status}\"}}"), nodes);
        }
        let nodes = f64::from(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        page.insert("ffrtmp_nodes_total".to_owned(), nodes);
        page
    }

    fn durations(&self) -> BTreeMap<String, f64> {
        let mut page: BTreeMap<String, f64> = BTreeMap::new();
        for job in self.jobs.iter().chain(&self.gone) {
            for (family, halves) in [("run", job.ran), ("queue", job.waited)] {
                let Some(halves) = halves else { continue };
                let text = |key: &str| job.json[key].as_str().unwrap_or("other").to_owned();
                let labels = format!("queue=\"{}\",engine=\"{}\"", text("queue"), text("engine"));
                let series = |suffix: &str| format!("ffrtmp_job_{family}_seconds_{suffix}{{{labels}}}");
                *page.entry(series("count")).or_default() += 1.0;
                *page.entry(series("sum")).or_default() += f64::from(halves) / 2.0;
            }
        }
        page
    }
}

/// A moment of the first of January 2026, in half seconds of the day, as Go writes it somewhere east of Greenwich.
#[must_use]
pub fn moment(halves: u32) -> String {
    let (seconds, half) = (halves / 2 + 3_600, if halves % 2 == 1 { ".500000000" } else { "" });
    format!("2026-01-01T{:02}:{:02}:{:02}{half}+01:00", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

impl Content for Known {
    fn is_list(&self, asked: &str) -> bool {
        asked == "GET /jobs" || asked == "GET /nodes"
    }

    fn list(&mut self, asked: &str) -> Vec<u8> {
        let (name, list): (_, Vec<Value>) = if asked == "GET /jobs" {
            ("jobs", self.jobs.iter().map(|job| job.json.clone()).collect())
        } else {
            self.polls += 1;
            ("nodes", self.nodes.clone())
        };
        // Go writes a list that was never made as null.
        let value = if list.is_empty() { Value::Null } else { Value::Array(list) };
        format!("{}\n", json!({"count": value.as_array().map_or(0, Vec::len), name: value})).into_bytes()
    }
}
