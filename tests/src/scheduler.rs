//! A scheduler of jobs that speaks the API of the real one over HTTP, from a state that the test sets. What the agent's page
//! is to say of that state is worked out here, in another way than the agent does.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use nix::sys::socket::{Shutdown, shutdown};
use serde_json::{Value, json};

use crate::message::Wire;
use crate::namespace::Namespace;
use crate::server::Counted;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Good,
    /// Likewise, and ends the connection behind each answer.
    Closes,
    /// Takes the request and says nothing.
    Hangs,
    /// `500`, as when the database is gone.
    Fails,
    /// Breaks off in the middle of the list.
    BreaksOff,
}

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

#[derive(Debug)]
struct State {
    mood: Mood,
    /// What `Authorization` must be.
    key: Option<String>,
    jobs: Vec<Job>,
    /// Those that are off the list.
    gone: Vec<Job>,
    nodes: Vec<Value>,
    polls: u64,
    /// What the connections that asked for lists carried.
    polled: Counted,
    others: Counted,
}

/// The running scheduler.
#[derive(Debug)]
pub struct Scheduler {
    state: Arc<Mutex<State>>,
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    address: SocketAddr,
}

impl Scheduler {
    /// Listens in `namespace` at `address`, without jobs and nodes.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(namespace: &Namespace, address: &str) -> Result<Self> {
        let listener = Arc::new(namespace.enter(|| Ok(TcpListener::bind(address)?))?);
        let state = State {
            mood: Mood::Good,
            key: None,
            jobs: Vec::new(),
            gone: Vec::new(),
            nodes: Vec::new(),
            polls: 0,
            polled: Counted::default(),
            others: Counted::default(),
        };
        let scheduler = Self {
            address: listener.local_addr()?,
            state: Arc::new(Mutex::new(state)),
            listener,
            stopping: Arc::default(),
        };
        let (listener, state) = (Arc::clone(&scheduler.listener), Arc::clone(&scheduler.state));
        let stopping = Arc::clone(&scheduler.stopping);
        std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                if let Ok((stream, _)) = listener.accept() {
                    let state = Arc::clone(&state);
                    std::thread::spawn(move || serve(Wire::new(stream), &state));
                }
            }
        });
        Ok(scheduler)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers so.
    pub fn set(&self, mood: Mood) {
        locked(&self.state).mood = mood;
    }

    /// From now on nobody gets a list without this key.
    pub fn want(&self, key: &str) {
        locked(&self.state).key = Some(format!("Bearer {key}"));
    }

    /// Takes a job, submitted at `second` of the day.
    pub fn submit(&self, id: &str, queue: &str, priority: &str, engine: &str, second: u32) {
        let json = json!({"id": id, "scenario": "4K60-h264", "confidence": "auto", "status": "pending", "queue": queue,
            "priority": priority, "engine": engine, "created_at": moment(2 * second), "retry_count": 0,
            "logs": "frame= 1 fps=\"25\"\n", "parameters": {"id": "not this", "status": ["nor", {"this": null}]}});
        locked(&self.state).jobs.insert(0, Job { json, waited: None, ran: None });
    }

    /// Changes a job.
    pub fn change(&self, id: &str, change: impl FnOnce(&mut Job)) {
        if let Some(job) = locked(&self.state).jobs.iter_mut().find(|job| job.json["id"] == id) {
            change(job);
        }
    }

    /// Sets the nodes, each with its status.
    pub fn set_nodes(&self, statuses: &[Value]) {
        let node = |(number, status): (usize, &Value)| json!({"id": format!("n{number}"), "status": status});
        locked(&self.state).nodes = statuses.iter().enumerate().map(node).collect();
    }

    /// Puts any job on the list.
    pub fn push(&self, json: Value) {
        locked(&self.state).jobs.insert(0, Job { json, waited: None, ran: None });
    }

    /// Takes the oldest jobs off the list, as the real one does some days after their end.
    pub fn forget(&self, count: usize) {
        let mut state = locked(&self.state);
        let stay = state.jobs.len().saturating_sub(count);
        let gone = state.jobs.split_off(stay);
        state.gone.extend(gone);
    }

    /// How often both lists were given.
    #[must_use]
    pub fn polls(&self) -> u64 {
        locked(&self.state).polls
    }

    /// What ended connections carried: those that asked for lists, and the others.
    #[must_use]
    pub fn carried(&self) -> [Counted; 2] {
        let state = locked(&self.state);
        [state.polled, state.others]
    }

    /// What the page is to say of its state: every series of it, but the two histograms and the means.
    #[must_use]
    pub fn state(&self) -> BTreeMap<String, f64> {
        let state = locked(&self.state);
        let count = |key: &str, value: &str, among: &[&str]| {
            let here = |job: &&Job| {
                job.json[key] == value && (among.is_empty() || among.iter().any(|status| job.json["status"] == *status))
            };
            f64::from(u32::try_from(state.jobs.iter().filter(here).count()).unwrap_or(u32::MAX))
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
            let nodes = state.nodes.iter().filter(|node| node["status"] == status).count();
            let nodes = f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
            page.insert(format!("ffrtmp_nodes_by_status{{status=\"{status}\"}}"), nodes);
        }
        let nodes = f64::from(u32::try_from(state.nodes.len()).unwrap_or(u32::MAX));
        page.insert("ffrtmp_nodes_total".to_owned(), nodes);
        page
    }

    /// Count and sum of what jobs ran and waited, by `(family, queue, engine)`, whatever is on the list now.
    #[must_use]
    pub fn durations(&self) -> BTreeMap<String, f64> {
        let mut page: BTreeMap<String, f64> = BTreeMap::new();
        let state = locked(&self.state);
        for job in state.jobs.iter().chain(&state.gone) {
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

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

/// A moment of the first of January 2026, in half seconds of the day, as Go writes it somewhere east of Greenwich.
#[must_use]
pub fn moment(halves: u32) -> String {
    let (seconds, half) = (halves / 2 + 3_600, if halves % 2 == 1 { ".500000000" } else { "" });
    format!("2026-01-01T{:02}:{:02}:{:02}{half}+01:00", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut wire: Wire, state: &Mutex<State>) {
    let (mut asks, mut exchanges) = (false, 0);
    while let Ok(Some(head)) = wire.head() {
        if wire.skip(head.body).is_err() {
            break;
        }
        let target = head.first.rsplit_once(' ').map_or(head.first.as_str(), |(before, _)| before).to_owned();
        let list = match target.as_str() {
            "GET /jobs" => Some("jobs"),
            "GET /nodes" => Some("nodes"),
            _ => None,
        };
        asks |= list.is_some();
        let mood = if list.is_some() { locked(state).mood } else { Mood::Good };
        let key = locked(state).key.clone();
        let (status, mut body) = match (list, mood) {
            (Some(_), _) if key.is_some() && key != head.authorization => {
                ("401 Unauthorized", b"Invalid API key\n".to_vec())
            }
            (_, Mood::Hangs) => {
                // Until the client has had enough.
                let _ = wire.head();
                break;
            }
            (_, Mood::Fails) => ("500 Internal Server Error", b"database is locked\n".to_vec()),
            (None, _) => ("200 OK", vec![b'x'; 256]),
            (Some(name), _) => ("200 OK", list_of(&mut locked(state), name)),
        };
        let close = if mood == Mood::Closes { "Connection: close\r\n" } else { "" };
        let mut answer = format!("HTTP/1.1 {status}\r\n{close}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        if mood == Mood::BreaksOff {
            body.truncate(body.len() / 2);
        }
        answer.append(&mut body);
        if wire.write(&answer).is_err() || mood == Mood::BreaksOff {
            break;
        }
        exchanges += 1;
        if head.closes || mood == Mood::Closes {
            break;
        }
    }
    let mut state = locked(state);
    let counted = Counted { connections: 1, exchanges, inbound: wire.received(), outbound: wire.sent() };
    if asks {
        state.polled += counted;
    } else {
        state.others += counted;
    }
}

fn list_of(state: &mut State, name: &str) -> Vec<u8> {
    let list: Vec<Value> = if name == "jobs" {
        state.jobs.iter().map(|job| job.json.clone()).collect()
    } else {
        state.polls += 1;
        state.nodes.clone()
    };
    // Go writes a list that was never made as null.
    let value = if list.is_empty() { Value::Null } else { Value::Array(list) };
    format!("{}\n", json!({"count": value.as_array().map_or(0, Vec::len), name: value})).into_bytes()
}
