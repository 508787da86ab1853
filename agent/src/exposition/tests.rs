//! Pages against golden files, and what the strict parser reads back from them.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::catalog::{self, ALL};
use super::{Format, Kind, Page, strict};

const SIZES: [f64; 8] = [100.0, 1000.0, 10_000.0, 100_000.0, 1e6, 1e7, 1e8, 1e9];
const DURATIONS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// A small page as a scheduler's would be, with labels that need escaping.
fn scheduler(format: Format) -> Vec<u8> {
    let mut page = Page::new(format);
    page.family(&catalog::STREAM_BYTES, "", |samples| {
        samples.counter(&["scheduler", "outbound"], u64::MAX);
        samples.counter(&["scheduler", "inbound"], 1_234_567_u64);
    });
    page.family(&catalog::REQUEST_SIZE, "scheduler", |samples| {
        samples.histogram(&["/jobs", "POST"], &SIZES, &[1, 2, 0, 0, 0, 1, 0, 0, 1], 5_000_000_000_u64);
        samples.histogram(&["/a\"b\\c\n", "PUT"], &SIZES, &[0; 9], 0_u64);
    });
    page.family(&catalog::REQUESTS, "scheduler", |samples| samples.counter(&[], 17_u64));
    page.family(&catalog::REQUEST_BYTES, "scheduler", |_| ());
    page.family(&catalog::REQUEST_SIZE_AVG, "scheduler", |samples| samples.gauge(&[], 1_250_000.5));
    page.family(&catalog::IMBALANCE_BYTES, "", |samples| samples.gauge(&["scheduler", "inbound"], -3_i64));
    page.family(&catalog::EXCHANGE_DURATION, "scheduler", |samples| {
        let counts = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        samples.histogram(&["/jobs/{id}", "GET", "200"], &DURATIONS, &counts, 0.0125);
    });
    page.finish()
}

#[test]
fn golden_text() {
    let page = String::from_utf8(scheduler(Format::Text)).unwrap();
    assert_eq!(page, include_str!("../../tests/golden/scheduler.prom"));
}

#[test]
fn golden_open_metrics() {
    let page = String::from_utf8(scheduler(Format::OpenMetrics)).unwrap();
    assert_eq!(page, include_str!("../../tests/golden/scheduler.openmetrics"));
}

/// Every family of the catalogue with two samples.
fn all_families(format: Format) -> Vec<u8> {
    let mut page = Page::new(format);
    for family in ALL.iter().rev() {
        page.family(family, "scheduler", |samples| {
            for number in [2_u64, 1] {
                let value = format!("value {number}");
                let labels: Vec<&str> = family.labels.iter().map(|_| value.as_str()).collect();
                match family.kind {
                    Kind::Counter => samples.counter(&labels, number),
                    Kind::Gauge => samples.gauge(&labels, number),
                    Kind::Histogram => samples.histogram(&labels, &[0.5, 1e6], &[1, 0, number], 2.5),
                }
                if labels.is_empty() {
                    break;
                }
            }
        });
    }
    page.finish()
}

#[test]
fn all_families_pass_the_strict_parser_in_order() {
    let mut names: Vec<String> = ALL.iter().map(|family| family.full_name("scheduler")).collect();
    names.sort();
    for format in [Format::Text, Format::OpenMetrics] {
        let read = strict::parse(&all_families(format), format).unwrap();
        let counter_suffix = if format == Format::OpenMetrics { "_total" } else { "" };
        let read: Vec<String> = read
            .iter()
            .map(|family| format!("{}{}", family.name, if family.kind == "counter" { counter_suffix } else { "" }))
            .collect();
        assert_eq!(read, names);
    }
}

#[test]
fn golden_pages_of_all_families() {
    let text = String::from_utf8(all_families(Format::Text)).unwrap();
    assert_eq!(text, include_str!("../../tests/golden/all-families.prom"));
    let open_metrics = String::from_utf8(all_families(Format::OpenMetrics)).unwrap();
    assert_eq!(open_metrics, include_str!("../../tests/golden/all-families.openmetrics"));
}

#[test]
fn the_filter_takes_family_and_sample_names() {
    let table: [(&[&str], &[&str]); 6] = [
        (&[], &["scheduler_http_request_size_bytes", "scheduler_http_requests_total", "upstream_x"]),
        (&["scheduler_http_requests_total"], &["scheduler_http_requests_total"]),
        (&["scheduler_http_requests"], &["scheduler_http_requests_total"]),
        (&["scheduler_http_request_size_bytes_count"], &["scheduler_http_request_size_bytes"]),
        (&["upstream_x", "scheduler_http_request_size_bytes"], &["scheduler_http_request_size_bytes", "upstream_x"]),
        (&["nothing", "scheduler_http_request"], &[]),
    ];
    for (only, expected) in table {
        let mut page = Page::new(Format::Text).only(only.iter().copied());
        page.foreign("upstream_x", "upstream_x 1\n");
        page.family(&catalog::REQUESTS, "scheduler", |samples| samples.counter(&[], 1_u64));
        page.family(&catalog::REQUEST_SIZE, "scheduler", |samples| {
            samples.histogram(&["/", "PUT"], &[1.0], &[0, 1], 5_u64);
        });
        let lines: u64 = page.series().map(|(_, lines)| lines).sum();
        let read = strict::parse(&page.finish(), Format::Text).unwrap();
        assert_eq!(read.iter().map(|family| family.name.as_str()).collect::<Vec<_>>(), expected);
        let samples: usize = read.iter().map(|family| family.samples.len()).sum();
        assert_eq!(lines, u64::try_from(samples).unwrap());
    }
}

#[test]
fn a_family_in_two_calls_is_one_family() {
    let mut page = Page::new(Format::OpenMetrics);
    for service in ["a", "b"] {
        page.family(&catalog::OPEN_BYTES, "", |samples| samples.gauge(&[service, "inbound"], 1_u64));
        page.family(&catalog::REQUESTS, service, |samples| samples.counter(&[], 1_u64));
    }
    let read = strict::parse(&page.finish(), Format::OpenMetrics).unwrap();
    let counts: Vec<(&str, usize)> = read.iter().map(|family| (family.name.as_str(), family.samples.len())).collect();
    assert_eq!(counts, [("a_http_requests", 1), ("b_http_requests", 1), ("sockmeter_service_open_bytes", 2)]);
}

#[test]
#[should_panic(expected = "the labels of the catalogue")]
fn another_number_of_labels_stops_a_debug_build() {
    Page::new(Format::Text).family(&catalog::LOST, "", |samples| samples.counter(&[], 1_u64));
}

#[test]
#[should_panic(expected = "the kind of the catalogue")]
fn another_kind_stops_a_debug_build() {
    Page::new(Format::Text).family(&catalog::LOST, "", |samples| samples.gauge(&["ring"], 1_u64));
}

proptest! {
    #[test]
    fn labels_and_values_come_back(
        rows in proptest::collection::btree_map(("\\PC{0,12}|[\\\\\"\n a]{0,6}", "[a-z\n\"\\\\]{0,6}"), any::<f64>(), 1..20),
        open in any::<bool>(),
    ) {
        let format = if open { Format::OpenMetrics } else { Format::Text };
        let mut page = Page::new(format);
        page.family(&catalog::PROGRAM_ATTACHED, "", |samples| {
            for ((program, target), value) in rows.iter().rev() {
                samples.gauge(&[program, target], *value);
            }
        });
        let read = strict::parse(&page.finish(), format).map_err(TestCaseError::fail)?;
        prop_assert_eq!(read.len(), 1);
        prop_assert_eq!(read[0].samples.len(), rows.len());
        for sample in &read[0].samples {
            let key = (sample.labels[0].1.clone(), sample.labels[1].1.clone());
            let value = rows.get(&key).copied();
            prop_assert!(value == Some(sample.value) || value.is_some_and(f64::is_nan) && sample.value.is_nan());
        }
    }
}
