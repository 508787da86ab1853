//! The families of the scheduler's own state. What they are made of is `model::jobs`; bytes of jobs are not here.

use std::collections::BTreeMap;

use crate::exposition::{Family, Page, catalog};
use crate::model::jobs::{BOUNDS, Durations, Histogram, Names, Tally};

/// What is known of the scheduler.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Derived {
    /// What the last poll counted; `None` if it failed, or there was none yet: then nothing is known, which is no 0.
    pub tally: Option<Tally>,
    /// What was observed once a job.
    pub durations: Durations,
    /// Polls that gave both lists, and polls that did not, since the start.
    pub polls: [u64; 2],
}

impl Derived {
    /// Writes the families.
    pub fn write(&self, page: &mut Page) {
        page.family(&catalog::SCHEDULER_UP, "", |samples| samples.gauge(&[], u64::from(self.tally.is_some())));
        page.family(&catalog::SCHEDULER_POLLS, "", |samples| {
            for (result, count) in ["success", "error"].into_iter().zip(self.polls) {
                samples.counter(&[result], count);
            }
        });
        histograms(page, &catalog::JOB_RUN, &self.durations.run);
        histograms(page, &catalog::JOB_QUEUE, &self.durations.queue);
        if let Some(tally) = &self.tally {
            state(page, tally);
        }
    }
}

fn state(page: &mut Page, tally: &Tally) {
    let by_name: [(&Family, &Names); 5] = [
        (&catalog::JOBS, &tally.states),
        (&catalog::NODES_BY_STATUS, &tally.nodes),
        (&catalog::QUEUE_BY_PRIORITY, &tally.priorities),
        (&catalog::QUEUE_BY_TYPE, &tally.queues),
        (&catalog::JOBS_BY_ENGINE, &tally.engines),
    ];
    for (family, names) in by_name {
        page.family(family, "", |samples| {
            for (name, count) in names.iter() {
                samples.gauge(&[name], count);
            }
        });
    }
    let numbers: [(&Family, u64); 3] = [
        (&catalog::ACTIVE_JOBS, tally.active),
        (&catalog::QUEUE_LENGTH, tally.waiting),
        (&catalog::NODES, tally.nodes.total()),
    ];
    for (family, count) in numbers {
        page.family(family, "", |samples| samples.gauge(&[], count));
    }
    for (family, mean) in [(&catalog::JOB_DURATION, tally.mean_run()), (&catalog::JOB_WAIT, tally.mean_queue())] {
        if let Some(mean) = mean {
            page.family(family, "", |samples| samples.gauge(&[], mean));
        }
    }
}

fn histograms(page: &mut Page, family: &Family, all: &BTreeMap<(String, String), Histogram>) {
    page.family(family, "", |samples| {
        for ((queue, engine), histogram) in all {
            samples.histogram(&[queue, engine], &BOUNDS, &histogram.counts, histogram.sum);
        }
    });
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::exposition::{Format, strict};
    use crate::model::jobs::Once;
    use crate::scheduler;

    /// The page of these lists.
    fn page(jobs: &[u8], nodes: &[u8]) -> Vec<strict::Family> {
        let (mut tally, mut once) = (Tally::default(), Once::default());
        scheduler::jobs(jobs, |job| {
            tally.job(job);
            once.job(job, 0);
        })
        .unwrap();
        scheduler::nodes(nodes, |status| tally.node(status)).unwrap();
        let derived = Derived { tally: Some(tally), durations: once.durations().clone(), polls: [1, 0] };
        let mut page = Page::new(Format::Text);
        derived.write(&mut page);
        strict::parse(&page.finish(), Format::Text).unwrap()
    }

    #[test]
    fn hostile_names_end_up_escaped_or_under_other() {
        let mut jobs =
            br#"{"jobs":[{"id":"1","status":"a\"}\nffrtmp_active_jobs 99\n","queue":"\\","engine":"x\u0000y",
            "created_at":"2026-01-01T00:00:00Z","started_at":"2026-01-01T00:00:01Z"},{"status":""#
                .to_vec();
        jobs.extend(vec![b'z'; 4_096]);
        jobs.extend_from_slice(b"\"},{\"status\":\"\xff\xfe\"}]}");
        let families = page(&jobs, br#"{"nodes":[{"status":"{le=\"1\"}"}]}"#);
        let values = |family: &str| -> Vec<(String, f64)> {
            let family = families.iter().find(|found| found.name == family).unwrap();
            let samples = family.samples.iter().filter(|sample| sample.value > 0.0);
            samples
                .map(|sample| (sample.labels.first().map_or("", |(_, value)| value).to_owned(), sample.value))
                .collect()
        };
        let states = [("a\"}\nffrtmp_active_jobs 99\n", 1.0), ("other", 1.0), ("\u{fffd}\u{fffd}", 1.0)];
        assert_eq!(values("ffrtmp_jobs_total"), states.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(values("ffrtmp_nodes_by_status"), [("{le=\"1\"}".to_owned(), 1.0)]);
        assert_eq!(values("ffrtmp_active_jobs"), []);
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let mut page = Page::new(Format::Text);
        Derived { polls: [0, 3], ..Derived::default() }.write(&mut page);
        let names: Vec<&str> = page.series().map(|(name, _)| name).collect();
        assert_eq!(names, ["sockmeter_scheduler_up", "sockmeter_scheduler_polls_total"]);
    }

    #[test]
    fn every_value_of_a_closed_set_is_there_before_anything_happened() {
        let count = page(b"{\"jobs\":null}", b"{\"nodes\":null}")
            .iter()
            .filter(|family| family.name.starts_with("ffrtmp_"))
            .map(|family| family.samples.len())
            .sum::<usize>();
        assert_eq!(count, 12 + 3 + 3 + 3 + 3 + 3);
    }
}
