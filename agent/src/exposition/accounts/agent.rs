//! The agent's families about itself: what is attached, what was lost, how full the maps are, how long a scrape took.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Accounts;
use crate::exposition::{Page, catalog};
use crate::snapshot::AgentProcess;

/// Upper bounds of the phases' histogram, in seconds.
const BOUNDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What the running agent knows of itself, beside the accounts.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// What was built in, for `sockmeter_build_info`.
    pub revision: &'a str,
    /// The process; what could not be read is absent.
    pub process: AgentProcess,
    /// The exporters that are merged.
    pub upstreams: &'a [UpstreamState],
    /// How long earlier scrapes took.
    pub phases: &'a Phases,
}

/// A merged exporter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamState {
    /// Its configured name.
    pub name: String,
    /// Whether it answered this time.
    pub up: bool,
    /// Lines of its pages that could not be read, and series that came twice, since the start.
    pub left_out: [u64; 2],
}

/// A part of the work that a scrape is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the kernel side.
    Snapshot,
    /// Naming and adding up what the journal brought.
    Attribution,
    /// Fetching and merging other exporters.
    Upstream,
    /// Writing the page.
    Encode,
    /// All of it.
    Total,
}

impl Phase {
    /// All, with their label values.
    const ALL: [(Self, &'static str); 5] = [
        (Self::Snapshot, "snapshot"),
        (Self::Attribution, "attribution"),
        (Self::Upstream, "upstream"),
        (Self::Encode, "encode"),
        (Self::Total, "total"),
    ];
}

/// How long the phases of all scrapes took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Phases {
    taken: [([u64; BOUNDS.len() + 1], Duration); Phase::ALL.len()],
}

impl Phases {
    /// Notes how long a phase took.
    pub fn note(&mut self, phase: Phase, took: Duration) {
        let places = self.taken.iter_mut().zip(Phase::ALL);
        for ((counts, sum), _) in places.filter(|(_, (of, _))| *of == phase) {
            let bucket = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
            counts[bucket] += 1;
            *sum += took;
        }
    }
}

impl Own<'_> {
    /// Writes the families; `sockmeter_series` speaks of what is on the page by now, so these come last.
    pub fn write(&self, page: &mut Page) {
        page.family(&catalog::BUILD_INFO, "", |samples| {
            samples.gauge(&[env!("CARGO_PKG_VERSION"), self.revision], 1_u64);
        });
        page.family(&catalog::UPSTREAM_UP, "", |samples| {
            for upstream in self.upstreams {
                samples.gauge(&[&upstream.name], u64::from(upstream.up));
            }
        });
        page.family(&catalog::UPSTREAM_LEFT_OUT, "", |samples| {
            for upstream in self.upstreams {
                for (reason, lines) in ["unparsable", "duplicate"].into_iter().zip(upstream.left_out) {
                    samples.counter(&[&upstream.name, reason], lines);
                }
            }
        });
        page.family(&catalog::SCRAPE_DURATION, "", |samples| {
            for ((counts, sum), (_, name)) in self.phases.taken.iter().zip(Phase::ALL) {
                samples.histogram(&[name], &BOUNDS, counts, sum.as_secs_f64());
            }
        });
        self.process(page);
        let mut series: BTreeMap<String, u64> = BTreeMap::new();
        for (family, lines) in page.series() {
            *series.entry(family.to_owned()).or_default() += lines;
        }
        page.family(&catalog::SERIES, "", |samples| {
            for (family, lines) in &series {
                samples.gauge(&[family], *lines);
            }
        });
    }

    fn process(&self, page: &mut Page) {
        let process = self.process;
        if let Some(seconds) = process.cpu_seconds {
            page.family(&catalog::PROCESS_CPU_SECONDS, "", |samples| samples.counter(&[], seconds));
        }
        if let Some(seconds) = process.start_seconds {
            page.family(&catalog::PROCESS_START_TIME, "", |samples| samples.gauge(&[], seconds));
        }
        let gauges = [
            (&catalog::PROCESS_OPEN_FDS, process.open_fds),
            (&catalog::PROCESS_MAX_FDS, process.max_fds),
            (&catalog::PROCESS_VIRTUAL_MEMORY, process.virtual_bytes),
            (&catalog::PROCESS_RESIDENT_MEMORY, process.resident_bytes),
            (&catalog::PROCESS_THREADS, process.threads),
        ];
        for (family, value) in gauges {
            if let Some(value) = value {
                page.family(family, "", |samples| samples.gauge(&[], value));
            }
        }
    }
}

/// What the kernel side says of itself.
pub(super) fn kernel_side(accounts: &Accounts<'_>, page: &mut Page) {
    let snapshot = accounts.snapshot;
    page.family(&catalog::PROGRAM_ATTACHED, "", |samples| {
        let programs = snapshot.programs.iter();
        let attached: BTreeMap<(&str, &str), bool> = programs
            .map(|program| ((program.program.as_str(), program.target.as_str()), program.problem.is_none()))
            .collect();
        for ((program, target), attached) in attached {
            samples.gauge(&[program, target], u64::from(attached));
        }
    });
    // A program that is attached in several places is one program to the kernel.
    let mut runs: BTreeMap<&str, u64> = BTreeMap::new();
    let mut seconds: BTreeMap<&str, f64> = BTreeMap::new();
    for program in &snapshot.programs {
        runs.extend(program.runs.map(|count| (program.program.as_str(), count)));
        seconds.extend(program.run_seconds.map(|time| (program.program.as_str(), time)));
    }
    page.family(&catalog::PROGRAM_RUNS, "", |samples| {
        for (program, count) in runs {
            samples.counter(&[program], count);
        }
    });
    page.family(&catalog::PROGRAM_RUN_SECONDS, "", |samples| {
        for (program, time) in seconds {
            samples.counter(&[program], time);
        }
    });
    page.family(&catalog::LOST, "", |samples| {
        for (reason, count) in accounts.losses() {
            samples.counter(&[reason], count);
        }
    });
    page.family(&catalog::MAP_ENTRIES, "", |samples| {
        for map in &snapshot.maps {
            samples.gauge(&[map.map], map.entries);
        }
    });
    page.family(&catalog::MAP_CAPACITY, "", |samples| {
        for map in &snapshot.maps {
            samples.gauge(&[map.map], map.capacity);
        }
    });
}
