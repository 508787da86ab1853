//! Pages in, pages out: tables, a real exporter's page, and what holds for any bytes at all.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Merged, Taken, merge};
use crate::exposition::{Format, Page, catalog, strict};

const NODE_EXPORTER: &str = include_str!("../../tests/fixtures/upstream/node-exporter.prom");

fn text_of(merged: &Merged) -> String {
    merged.families.iter().map(|family| family.text.as_str()).collect()
}

/// Both outputs of a page that meets no name of ours, and how many lines were unparsable and duplicates.
fn both(page: &str) -> (String, String, u64, u64) {
    let text = merge(page.as_bytes(), &mut Taken::default(), Format::Text);
    let open = merge(page.as_bytes(), &mut Taken::default(), Format::OpenMetrics);
    assert_eq!((text.unparsable, text.duplicates), (open.unparsable, open.duplicates));
    (text_of(&text), text_of(&open), text.unparsable, text.duplicates)
}

#[test]
fn each_type_in_both_formats() {
    let table = [
        // A counter of either format.
        (
            "# HELP x_total a \"b\"\n# TYPE x_total counter\nx_total 1\n",
            "# HELP x_total a \"b\"\n# TYPE x_total counter\nx_total 1\n",
            "# HELP x a \\\"b\\\"\n# TYPE x counter\nx_total 1\n",
        ),
        (
            "# TYPE x_bytes counter\n# UNIT x_bytes bytes\nx_bytes_total 1 1.5 # {a=\"b\"} 1 2.25\nx_bytes_created 7\n# EOF\n",
            "# TYPE x_bytes_created gauge\nx_bytes_created 7\n# TYPE x_bytes_total counter\nx_bytes_total 1 1500\n",
            // Time stamps of one group differ, so it is no counter there.
            "# TYPE x_bytes_created unknown\nx_bytes_created 7\n# TYPE x_bytes_total unknown\nx_bytes_total 1 1.500\n",
        ),
        (
            "# TYPE x_bytes counter\n# UNIT x_bytes bytes\nx_bytes_total 1 # {a=\"b\"} 1 2.25\n# EOF\n",
            "# TYPE x_bytes_total counter\nx_bytes_total 1\n",
            "# TYPE x_bytes counter\n# UNIT x_bytes bytes\nx_bytes_total 1 # {a=\"b\"} 1 2.25\n",
        ),
        // A counter without `_total` is none to OpenMetrics.
        ("# TYPE x counter\nx 1\n", "# TYPE x counter\nx 1\n", "# TYPE x unknown\nx 1\n"),
        // Gauge, untyped, no metadata at all.
        ("# TYPE x gauge\nx -1 -1500\n", "# TYPE x gauge\nx -1 -1500\n", "# TYPE x gauge\nx -1 -1.500\n"),
        ("# TYPE x untyped\nx NaN\n", "# TYPE x untyped\nx NaN\n", "# TYPE x unknown\nx NaN\n"),
        (
            "x{a=\"\\\\\\n\\\"\"} inf\n",
            "# TYPE x untyped\nx{a=\"\\\\\\n\\\"\"} +Inf\n",
            "# TYPE x unknown\nx{a=\"\\\\\\n\\\"\"} +Inf\n",
        ),
        // Info and state set.
        (
            "# TYPE x info\nx_info{a=\"b\"} 1\n# EOF\n",
            "# TYPE x_info gauge\nx_info{a=\"b\"} 1\n",
            "# TYPE x info\nx_info{a=\"b\"} 1\n",
        ),
        (
            "# TYPE x stateset\nx{x=\"on\"} 1\nx{x=\"off\"} 0\n# EOF\n",
            "# TYPE x gauge\nx{x=\"on\"} 1\nx{x=\"off\"} 0\n",
            "# TYPE x stateset\nx{x=\"on\"} 1\nx{x=\"off\"} 0\n",
        ),
        // Histogram and summary, with bounds in either spelling.
        (
            "# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx_bucket{le=\"1000000\"} 2\nx_bucket{le=\"+Inf\"} 2\nx_sum 3\nx_count 2\n",
            "# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx_bucket{le=\"1e+06\"} 2\nx_bucket{le=\"+Inf\"} 2\nx_sum 3\nx_count 2\n",
            "# TYPE x histogram\nx_bucket{le=\"1.0\"} 1\nx_bucket{le=\"1e+06\"} 2\nx_bucket{le=\"+Inf\"} 2\nx_sum 3\nx_count 2\n",
        ),
        (
            "# TYPE x summary\nx{quantile=\"1\"} NaN\nx_sum 0\nx_count 0\n",
            "# TYPE x summary\nx{quantile=\"1\"} NaN\nx_sum 0\nx_count 0\n",
            "# TYPE x summary\nx{quantile=\"1.0\"} NaN\nx_sum 0\nx_count 0\n",
        ),
        (
            "# TYPE x gaugehistogram\nx_bucket{le=\"+Inf\"} 2\nx_gsum 3\nx_gcount 2\n# EOF\n",
            "# TYPE x_bucket untyped\nx_bucket{le=\"+Inf\"} 2\n# TYPE x_gcount untyped\nx_gcount 2\n# TYPE x_gsum untyped\nx_gsum 3\n",
            "# TYPE x gaugehistogram\nx_bucket{le=\"+Inf\"} 2\nx_gsum 3\nx_gcount 2\n",
        ),
        // A type whose promise is broken: no `+Inf`, a counter below zero, a quantile without its label.
        (
            "# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx_sum 1\nx_count 1\n",
            "# TYPE x histogram\nx_bucket{le=\"1\"} 1\nx_sum 1\nx_count 1\n",
            "# TYPE x_bucket unknown\nx_bucket{le=\"1\"} 1\n# TYPE x_count unknown\nx_count 1\n# TYPE x_sum unknown\nx_sum 1\n",
        ),
        (
            "# TYPE x_total counter\nx_total -1\n",
            "# TYPE x_total counter\nx_total -1\n",
            "# TYPE x_total unknown\nx_total -1\n",
        ),
        (
            "# TYPE x summary\nx 1\nx_count 1\n",
            "# TYPE x untyped\nx 1\n# TYPE x_count untyped\nx_count 1\n",
            "# TYPE x unknown\nx 1\n# TYPE x_count unknown\nx_count 1\n",
        ),
        // The times of creation that Python's library writes as gauges.
        (
            "# TYPE x_total counter\nx_total{a=\"1\"} 1\nx_total{a=\"2\"} 2\n# TYPE x_created gauge\nx_created{a=\"1\"} 8\nx_created{a=\"2\"} 9\n",
            "# TYPE x_created gauge\nx_created{a=\"1\"} 8\nx_created{a=\"2\"} 9\n# TYPE x_total counter\nx_total{a=\"1\"} 1\nx_total{a=\"2\"} 2\n",
            "# TYPE x counter\nx_total{a=\"1\"} 1\nx_created{a=\"1\"} 8\nx_total{a=\"2\"} 2\nx_created{a=\"2\"} 9\n",
        ),
        // A gauge of the counter's OpenMetrics name.
        (
            "# TYPE x_total counter\nx_total 1\n# TYPE x gauge\nx 1\n",
            "# TYPE x gauge\nx 1\n# TYPE x_total counter\nx_total 1\n",
            "# TYPE x gauge\nx 1\n# TYPE x_total unknown\nx_total 1\n",
        ),
        // A name that is nothing but a suffix.
        ("# TYPE _total counter\n_total 1\n", "# TYPE _total untyped\n_total 1\n", "# TYPE _total unknown\n_total 1\n"),
        ("# TYPE x gauge\n# HELP y z\n", "", ""),
    ];
    for (page, text, open_metrics) in table {
        assert_eq!(both(page), (text.to_owned(), open_metrics.to_owned(), 0, 0), "{page}");
        strict::parse(text.as_bytes(), Format::Text).unwrap();
        strict::parse(format!("{open_metrics}# EOF\n").as_bytes(), Format::OpenMetrics).unwrap();
    }
}

#[test]
fn broken_pages_are_repaired_and_what_is_left_out_is_counted() {
    let table = [
        // Interleaved families, metadata late and twice.
        (
            "a{n=\"1\"} 1\nb 1\na{n=\"2\"} 2\n# TYPE a gauge\n# HELP a first\n# HELP a second\n# TYPE a counter\nb{n=\"2\"} 2\n",
            "# HELP a first\n# TYPE a gauge\na{n=\"1\"} 1\na{n=\"2\"} 2\n# TYPE b untyped\nb 1\nb{n=\"2\"} 2\n",
            0,
            0,
        ),
        // The same series: in another order of labels, with an empty label, with another time, as another spelling of `le`.
        (
            "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\",z=\"\"} 2\na{x=\"1\",y=\"2\"} 3 4\n",
            "# TYPE a untyped\na{x=\"1\",y=\"2\"} 1\n",
            0,
            2,
        ),
        (
            "# TYPE a histogram\na_bucket{le=\"+Inf\"} 2\na_bucket{le=\"1.0\"} 1\na_bucket{le=\"1\"} 1\na_count 2\na_sum 2\n",
            "# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"+Inf\"} 2\na_sum 2\na_count 2\n",
            0,
            1,
        ),
        // Lines that mean nothing, a type that does not exist, and half a line at the end.
        ("<html>\na 1\nb two\n# TYPE a thing\r\n\r\n# EOF\nc 1", "# TYPE a untyped\na 1\n", 4, 0),
        ("{\"error\": \"unauthorized\"}\n", "", 1, 0),
        ("", "", 0, 0),
        ("\n\n# just a remark\n# EOF", "", 0, 0),
    ];
    for (page, text, unparsable, duplicates) in table {
        let (found, _, found_unparsable, found_duplicates) = both(page);
        assert_eq!((found.as_str(), found_unparsable, found_duplicates), (text, unparsable, duplicates), "{page}");
    }
}

#[test]
fn names_of_ours_are_ours() {
    let page = "# TYPE scheduler_http_requests_total counter\nscheduler_http_requests_total 1\n\
                # TYPE scheduler_http_request_size_bytes histogram\nscheduler_http_request_size_bytes_bucket{le=\"+Inf\"} 1\n\
                scheduler_http_request_size_bytes_sum 1\nscheduler_http_request_size_bytes_count 1\n\
                # TYPE scheduler_http_exchanges gauge\nscheduler_http_exchanges 1\n\
                # TYPE process_open_fds gauge\nprocess_open_fds 1\n\
                # TYPE sockmeter_sockets_total counter\nsockmeter_sockets_total 1\n\
                # TYPE upstream_process_open_fds gauge\nupstream_process_open_fds 2\n\
                scheduler_http_response_size_bytes_count 1\nother_http_requests_total 1\n";
    let renamed = [
        ("scheduler_http_requests", "upstream_scheduler_http_requests"),
        ("scheduler_http_request_size_bytes", "upstream_scheduler_http_request_size_bytes"),
        ("scheduler_http_exchanges", "upstream_scheduler_http_exchanges"),
        ("process_open_fds", "upstream_process_open_fds"),
        ("upstream_process_open_fds", "upstream_upstream_process_open_fds"),
        ("scheduler_http_response_size_bytes_count", "upstream_scheduler_http_response_size_bytes_count"),
    ];
    for format in [Format::Text, Format::OpenMetrics] {
        let merged = merge(page.as_bytes(), &mut Taken::ours(["scheduler"], true, true), format);
        let found: Vec<(&str, &str)> = merged.renamed.iter().map(|(old, new)| (old.as_str(), new.as_str())).collect();
        assert_eq!(found, renamed);
        let names: Vec<&str> = merged.families.iter().map(|family| family.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "other_http_requests_total",
                "sockmeter_sockets_total",
                "upstream_process_open_fds",
                "upstream_scheduler_http_exchanges",
                "upstream_scheduler_http_request_size_bytes",
                "upstream_scheduler_http_requests_total",
                "upstream_scheduler_http_response_size_bytes_count",
                "upstream_upstream_process_open_fds",
            ]
        );
    }
}

#[test]
fn two_exporters_do_not_meet() {
    let mut taken = Taken::default();
    let page = b"# TYPE x_total counter\nx_total 1\n";
    let names = [(); 3].map(|()| merge(page, &mut taken, Format::OpenMetrics).families.remove(0).name);
    assert_eq!(names, ["x_total", "upstream_x_total", "upstream_upstream_x_total"]);
}

/// Samples of a page by name, and the types of its families.
fn inventory(page: &[u8], format: Format) -> (BTreeMap<String, usize>, BTreeMap<String, String>) {
    let mut samples = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for family in strict::parse(page, format).unwrap() {
        for sample in &family.samples {
            *samples.entry(sample.name.clone()).or_insert(0) += 1;
        }
        kinds.insert(family.name, family.kind);
    }
    (samples, kinds)
}

#[test]
fn a_real_page_keeps_every_sample_and_type() {
    let (samples, kinds) = inventory(NODE_EXPORTER.as_bytes(), Format::Text);
    let text = merge(NODE_EXPORTER.as_bytes(), &mut Taken::default(), Format::Text);
    assert_eq!((text.left_out(), text.renamed.len()), (0, 0));
    assert_eq!(inventory(text_of(&text).as_bytes(), Format::Text), (samples.clone(), kinds.clone()));

    let open = merge(NODE_EXPORTER.as_bytes(), &mut Taken::default(), Format::OpenMetrics);
    let open_page = format!("{}# EOF\n", text_of(&open));
    let (open_samples, open_kinds) = inventory(open_page.as_bytes(), Format::OpenMetrics);
    assert_eq!(open_samples, samples);
    let lost: Vec<&str> = kinds
        .iter()
        .filter(|(name, kind)| {
            let name = if *kind == "counter" { name.strip_suffix("_total").unwrap_or(name) } else { name };
            **kind != "untyped" && open_kinds.get(name) != Some(*kind)
        })
        .map(|(name, _)| name.as_str())
        .collect();
    // There is a gauge `go_memstats_alloc_bytes` too.
    assert_eq!(lost, ["go_memstats_alloc_bytes_total"]);

    // And back again: only that one has changed.
    let back = merge(open_page.as_bytes(), &mut Taken::default(), Format::Text);
    let (back_samples, back_kinds) = inventory(text_of(&back).as_bytes(), Format::Text);
    let changed: Vec<&str> =
        kinds.keys().filter(|name| back_kinds.get(*name) != kinds.get(*name)).map(String::as_str).collect();
    assert_eq!((back_samples, changed), (samples, vec!["go_memstats_alloc_bytes_total"]));
}

/// A page of ours with the merged families on it.
fn page_with(bytes: &[u8], format: Format) -> (Vec<u8>, Merged) {
    let merged = merge(bytes, &mut Taken::ours(["scheduler"], true, true), format);
    let mut page = Page::new(format);
    page.family(&catalog::REQUESTS, "scheduler", |samples| samples.counter(&[], 1_u64));
    page.family(&catalog::OPEN_BYTES, "", |samples| samples.gauge(&["scheduler", "inbound"], 1_u64));
    page.family(&catalog::SCRAPE_DURATION, "", |samples| samples.histogram(&["total"], &[1.0], &[1, 0], 0.5));
    merged.put_on(&mut page);
    (page.finish(), merged)
}

fn soup() -> impl Strategy<Value = String> {
    let name = "(a|b|upstream_a|scheduler_http_requests|sockmeter_scrape_duration_seconds|process_open_fds)?(_total|_created|_bucket|_sum|_count|_info|_gsum|_gcount|_bytes)?";
    let kind = "(counter|gauge|histogram|summary|untyped|unknown|info|stateset|gaugehistogram|thing)";
    let labels = "(\\{((a|b|le|quantile|upstream_a)=\"(1|1.0|0.5|\\+Inf|x|\\\\n|\\\\|)\",?){0,3}\\})?";
    let value = "(0|1|2|-1|0.5|NaN|Inf|1e9|x)( [0-9]{1,3}(\\.5)?)?( # \\{a=\"x\"\\} 1)?";
    let pattern = |pattern: String| proptest::string::string_regex(&pattern).unwrap();
    let line = prop_oneof![
        4 => pattern(format!("{name}{labels} {value}")),
        2 => pattern(format!("# TYPE {name} {kind}")),
        1 => pattern(format!("# (HELP|UNIT) {name} (bytes|a \\\\n \"b\\\\|)")),
        1 => pattern("# EOF|\\PC{0,20}|".to_owned()),
    ];
    proptest::collection::vec(line, 0..40).prop_map(|lines| lines.join("\n") + "\n")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_bytes_make_a_valid_page(
        bytes in prop_oneof![
            1 => proptest::collection::vec(any::<u8>(), 0..400),
            1 => "(([ -~\n]|\u{e9}){0,300})".prop_map(String::into_bytes),
            8 => soup().prop_map(String::into_bytes),
        ],
    ) {
        for format in [Format::Text, Format::OpenMetrics] {
            let (page, _) = page_with(&bytes, format);
            let read = strict::parse(&page, format);
            prop_assert!(read.is_ok(), "{:?}\n{}", read.err(), String::from_utf8_lossy(&page));
        }
    }

    #[test]
    fn every_sample_line_is_served_or_counted(page in soup()) {
        // The format knows blanks and tabs, not all that Unicode takes for white space.
        fn bare(line: &str) -> &str {
            line.trim_matches([' ', '\t', '\r'])
        }
        let is_sample = |line: &&str| !line.is_empty() && !bare(line).starts_with('#');
        for format in [Format::Text, Format::OpenMetrics] {
            let (out, merged) = page_with(page.as_bytes(), format);
            let given = page.lines().map(bare).filter(is_sample).count();
            let ours = page_with(b"", format).0;
            let count = |page: &[u8]| std::str::from_utf8(page).unwrap().lines().filter(is_sample).count();
            let served = count(&out) - count(&ours);
            let bad_comments = page.lines().filter(|line| {
                bare(line).starts_with('#') && super::line::read(line.as_bytes(), false).is_none()
            }).count();
            prop_assert_eq!(u64::try_from(given + bad_comments).unwrap(), u64::try_from(served).unwrap() + merged.left_out());
        }
    }
}
