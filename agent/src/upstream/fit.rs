//! Whether the samples of a family keep the promises of its type. One that does not is served as untyped in `write`.

use super::gather::{Family, Kind, Row};

/// The formats in which a family can keep its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fit {
    pub(super) text: bool,
    pub(super) open_metrics: bool,
}

/// Text asks only that buckets and quantiles can be told apart; OpenMetrics asks for much more (section "Metric Types").
pub(super) fn fit(family: &Family<'_>) -> Fit {
    let rows = || family.groups.iter().flatten();
    let inner = family.kind.inner_label();
    let is_told_apart = inner.is_none_or(|(label, suffix)| {
        rows().all(|row| row.bound.is_some() == (row.suffix == suffix) && (row.suffix == suffix || !has(row, label)))
    });
    let text = is_told_apart && family.kind != Kind::GaugeHistogram;
    let open_metrics = is_told_apart && family.groups.iter().all(|rows| is_strict(family, rows));
    Fit { text, open_metrics }
}

fn has(row: &Row<'_>, label: &str) -> bool {
    row.labels.iter().any(|(name, _)| *name == label)
}

fn is_strict(family: &Family<'_>, rows: &[Row<'_>]) -> bool {
    let same_time = rows.windows(2).all(|pair| matches!(pair, [a, b] if a.time == b.time));
    let of = |suffix: &str| rows.iter().filter(|row| row.suffix == suffix).map(value).collect::<Vec<f64>>();
    let counts = |suffix: &str| of(suffix).iter().all(|value| is_count(*value));
    let created = of("_created").iter().all(|value| value.is_finite() && *value >= 0.0);
    let of_kind = match family.kind {
        Kind::BareCounter => false,
        Kind::Gauge | Kind::Unknown => true,
        Kind::Counter => matches!(of("_total").as_slice(), [total] if *total >= 0.0),
        Kind::Info => of("_info").iter().all(|value| is(*value, 1.0)),
        Kind::StateSet => rows.iter().all(|row| has(row, family.base) && (is(value(row), 0.0) || is(value(row), 1.0))),
        Kind::Summary => {
            let quantiles = rows.iter().filter(|row| row.suffix.is_empty());
            let in_range = quantiles.filter_map(|row| row.bound).all(|bound| (0.0..=1.0).contains(&bound));
            in_range
                && of("").iter().all(|value| !is_below_zero(*value))
                && counts("_count")
                && of("_sum").iter().all(|sum| *sum >= 0.0)
        }
        Kind::Histogram => {
            let total = of("_count");
            is_cumulative(rows)
                && total.len() == of("_sum").len()
                && total.iter().all(|count| of("_bucket").last().is_some_and(|last| is(*last, *count)))
                && of("_sum").iter().all(|sum| *sum >= 0.0 && !has_negative_bound(rows))
        }
        Kind::GaugeHistogram => {
            let total = of("_gcount");
            is_cumulative(rows)
                && total.len() == of("_gsum").len()
                && total.iter().all(|count| of("_bucket").last().is_some_and(|last| is(*last, *count)))
                && of("_gsum").iter().all(|sum| !sum.is_nan() && (!is_below_zero(*sum) || has_negative_bound(rows)))
        }
    };
    same_time && created && of_kind
}

/// Whole counts that do not fall from bucket to bucket, the last of which is `+Inf`.
fn is_cumulative(rows: &[Row<'_>]) -> bool {
    let buckets: Vec<&Row<'_>> = rows.iter().filter(|row| row.suffix == "_bucket").collect();
    buckets.last().is_some_and(|row| row.bound == Some(f64::INFINITY))
        && buckets.iter().all(|row| is_count(value(row)))
        && buckets.windows(2).all(|pair| matches!(pair, [a, b] if value(a) <= value(b)))
}

fn has_negative_bound(rows: &[Row<'_>]) -> bool {
    rows.iter().any(|row| row.bound.is_some_and(is_below_zero))
}

fn is_count(value: f64) -> bool {
    value >= 0.0 && is(value.fract(), 0.0)
}

fn is_below_zero(value: f64) -> bool {
    value < 0.0
}

/// Equality of two numbers that were read, not computed; adding 0 makes the negative zero a zero.
fn is(value: f64, expected: f64) -> bool {
    (value + 0.0).total_cmp(&(expected + 0.0)).is_eq()
}

fn value(row: &Row<'_>) -> f64 {
    row.value.parse().unwrap_or(f64::NAN)
}
