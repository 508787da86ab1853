//! Jobs as a poll shows them, and each of them observed once.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

const SECOND: i64 = 1_000_000_000;

fn job(id: u8, status: &str, times: [Option<i64>; 3]) -> Job {
    let [created, started, completed] = times.map(|time| time.map(|seconds| seconds * SECOND));
    Job {
        key: Some([id; 16]),
        status: Some(status.to_owned()),
        queue: Some("live".to_owned()),
        priority: Some("high".to_owned()),
        engine: Some("ffmpeg".to_owned()),
        created,
        started,
        completed,
    }
}

fn counts(names: &Names) -> Vec<(&str, u64)> {
    names.iter().filter(|(_, count)| *count > 0).collect()
}

fn observed(once: &Once) -> (u64, u64) {
    let sum = |histograms: &std::collections::BTreeMap<_, Histogram>| {
        histograms.values().flat_map(|histogram| histogram.counts).sum()
    };
    (sum(&once.durations().run), sum(&once.durations().queue))
}

#[test]
fn every_state_counts_where_it_belongs() {
    let mut tally = Tally::default();
    for status in STATES {
        tally.job(&job(1, status, [Some(0), None, None]));
    }
    assert_eq!((tally.active, tally.waiting, tally.states.total()), (3, 3, 12));
    assert_eq!(counts(&tally.priorities), [("high", 3)]);
    assert_eq!(counts(&tally.queues), [("live", 3)]);
    assert_eq!(counts(&tally.engines), [("ffmpeg", 12)]);
    assert_eq!((tally.mean_run(), tally.mean_queue()), (None, None));
}

#[test]
fn unknown_values_keep_their_names_within_a_bound() {
    let mut tally = Tally::default();
    for number in 0..15 {
        tally.node(Some(&format!("odd \"{number}\"\n")));
    }
    tally.node(None);
    tally.node(Some(&"x".repeat(4_096)));
    assert_eq!(tally.nodes.iter().count(), 3 + 10 + 1);
    assert_eq!(counts(&tally.nodes).last(), Some(&("other", 7)));
    let after = tally.after();
    assert_eq!((after.nodes.iter().count(), after.nodes.total()), (14, 0));
}

#[test]
fn a_job_is_observed_once_whatever_becomes_of_it() {
    let mut once = Once::default();
    assert!(!once.job(&job(1, "pending", [Some(10), None, None]), 0));
    assert!(once.job(&job(1, "running", [Some(10), Some(12), None]), 0));
    assert_eq!(observed(&once), (0, 1));
    assert!(once.job(&job(1, "failed", [Some(10), Some(12), Some(15)]), 0));
    // The retry goes back to the queue with its old id, and some with their old times.
    assert!(!once.job(&job(1, "pending", [Some(10), Some(12), Some(15)]), 0));
    assert!(!once.job(&job(1, "completed", [Some(10), Some(20), Some(30)]), 0));
    assert_eq!(observed(&once), (1, 1));
    let labels = ("live".to_owned(), "ffmpeg".to_owned());
    assert_eq!(
        (once.durations().run[&labels].sum.to_bits(), once.durations().queue[&labels].sum.to_bits()),
        (3f64.to_bits(), 2f64.to_bits())
    );
}

#[test]
fn times_that_contradict_each_other_are_no_observation() {
    let mut once = Once::default();
    assert!(!once.job(&job(1, "completed", [Some(10), Some(5), Some(4)]), 0));
    assert!(!once.job(&Job { key: None, ..job(1, "completed", [Some(1), Some(2), Some(3)]) }, 0));
    assert_eq!(observed(&once), (0, 0));
}

#[test]
fn what_was_observed_survives_bytes_and_back() {
    let mut once = Once::default();
    for id in 0..50 {
        once.job(&job(id, "completed", [Some(i64::from(id)), Some(100), Some(200)]), 7);
    }
    let mut again = Once::from_bytes(&once.to_bytes()).unwrap();
    assert_eq!(again, once);
    assert!(!again.job(&job(3, "completed", [Some(3), Some(100), Some(200)]), 8));
    let bytes = once.to_bytes();
    for cut in [0, 7, 8, 20, bytes.len() - 1] {
        assert_eq!(Once::from_bytes(&bytes[..cut]), Err(Damaged), "{cut}");
    }
    assert_eq!(Once::from_bytes(&[bytes.as_slice(), b"x"].concat()), Err(Damaged));
}

#[test]
fn what_there_is_no_room_for_is_not_observed_again() {
    let mut once = Once::with_room(10);
    for id in 0..30 {
        once.job(&job(id, "completed", [Some(i64::from(id)), Some(100), Some(200)]), 0);
    }
    assert!(once.settle(0, true));
    assert_eq!((once.remembered(), observed(&once)), (10, (30, 30)));
    for id in 0..30 {
        assert!(!once.job(&job(id, "completed", [Some(i64::from(id)), Some(100), Some(200)]), 0), "{id}");
    }
    assert_eq!(observed(&once), (30, 30));
}

#[test]
fn lists_that_break_off_take_no_more_room_than_whole_ones() {
    let mut once = Once::with_room(10);
    for id in 0..100 {
        once.job(&job(id, "completed", [Some(i64::from(id)), Some(100), Some(200)]), 0);
        assert!(once.remembered() <= 21, "{}", once.remembered());
    }
    once.settle(0, false);
    assert_eq!((once.remembered(), observed(&once)), (10, (100, 100)));
}

#[test]
fn a_job_that_is_gone_for_long_is_forgotten() {
    let mut once = Once::default();
    once.job(&job(1, "completed", [Some(1), Some(2), Some(3)]), 0);
    assert!(!once.settle(7 * 24 * 3_600 * SECOND, true));
    assert!(once.settle(9 * 24 * 3_600 * SECOND, true));
    assert_eq!(once.remembered(), 0);
}
