//! The families of jobs, containers and units. Which of them have series is the model's to say.

use crate::exposition::{Family, Page, catalog};
use crate::model::Sums;

/// Label value of those without a series of their own.
const OTHER: &str = "other";

/// Writes them.
pub(super) fn write(sums: &Sums, page: &mut Page) {
    let columns: [(&Family, &Family, &Family, usize); 2] = [
        (&catalog::JOB_RECEIVE_BYTES, &catalog::NO_JOB_RECEIVE_BYTES, &catalog::CONTAINER_RECEIVE_BYTES, 0),
        (&catalog::JOB_TRANSMIT_BYTES, &catalog::NO_JOB_TRANSMIT_BYTES, &catalog::CONTAINER_TRANSMIT_BYTES, 1),
    ];
    let of = |bytes: [u64; 2], column: usize| bytes.get(column).copied().unwrap_or(0);
    for (jobs, _, _, column) in columns {
        page.family(jobs, "", |samples| {
            // A job of this name is shown with the others.
            let mut other = of(sums.other_jobs, column);
            for (job, sum) in &sums.jobs {
                if job == OTHER {
                    other = other.saturating_add(of(sum.bytes, column));
                } else {
                    samples.counter(&[job], of(sum.bytes, column));
                }
            }
            if other > 0 || sums.other_jobs != [0; 2] || sums.jobs.contains_key(OTHER) {
                samples.counter(&[OTHER], other);
            }
        });
    }
    for (_, none, _, column) in columns {
        page.family(none, "", |samples| samples.counter(&[], of(sums.no_job, column)));
    }
    for (_, _, containers, column) in columns {
        page.family(containers, "", |samples| {
            for (labels, sum) in &sums.containers {
                let labels = [&labels.container, &labels.pod, &labels.namespace, &labels.unit].map(String::as_str);
                samples.counter(&labels, of(sum.bytes, column));
            }
            if sums.other_containers != [0; 2] {
                samples.counter(&[OTHER, "", "", ""], of(sums.other_containers, column));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::exposition::{Format, strict};
    use crate::model::Sum;
    use crate::owner::Container;

    fn sum(received: u64) -> Sum {
        Sum { bytes: [received, 2 * received], has_ended: false }
    }

    fn container(container: &str, unit: &str) -> Container {
        Container { container: container.to_owned(), unit: unit.to_owned(), ..Container::default() }
    }

    /// Series of one family, as the strict parser reads them: the labels' values, and the value.
    fn series(page: &[u8], name: &str) -> Vec<(Vec<String>, f64)> {
        let families = strict::parse(page, Format::Text).unwrap();
        let samples = families.into_iter().filter(|family| family.name == name).flat_map(|family| family.samples);
        samples.map(|sample| (sample.labels.into_iter().map(|(_, value)| value).collect(), sample.value)).collect()
    }

    #[test]
    fn every_name_comes_out_as_it_went_in_and_the_sums_stay() {
        let hostile = "a\"} 1\nb\\c\u{fffd}";
        let long = "x".repeat(4096);
        let sums = Sums {
            jobs: [("7", 1), (hostile, 10), (OTHER, 100), (&long, 1_000)]
                .map(|(job, bytes)| (job.to_owned(), sum(bytes)))
                .into(),
            other_jobs: [10_000, 20_000],
            no_job: [5, 6],
            containers: [(container("c0", hostile), sum(3)), (container("", "x\\x2d.service"), sum(30))].into(),
            other_containers: [300, 600],
        };
        let mut page = Page::new(Format::Text);
        write(&sums, &mut page);
        let page = page.finish();
        let of = |labels: &[&str], value: f64| (labels.iter().map(|label| (*label).to_owned()).collect(), value);
        assert_eq!(
            series(&page, "sockmeter_job_transmit_bytes_total"),
            [of(&["7"], 2.0), of(&[hostile], 20.0), of(&["other"], 20_200.0), of(&[&long], 2_000.0)]
        );
        assert_eq!(series(&page, "sockmeter_no_job_receive_bytes_total"), [of(&[], 5.0)]);
        assert_eq!(
            series(&page, "sockmeter_container_receive_bytes_total"),
            [
                of(&["", "", "", "x\\x2d.service"], 30.0),
                of(&["c0", "", "", hostile], 3.0),
                of(&["other", "", "", ""], 300.0)
            ]
        );
    }

    #[test]
    fn without_jobs_there_is_what_is_nobodys() {
        let mut page = Page::new(Format::Text);
        write(&Sums::default(), &mut page);
        let page = String::from_utf8(page.finish()).unwrap();
        let samples: Vec<&str> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, ["sockmeter_no_job_receive_bytes_total 0", "sockmeter_no_job_transmit_bytes_total 0"]);
    }
}
