//! The text of a placed family, in either format. What it is called was decided in `place`.

use std::fmt::Write as _;

use super::gather::{Kind, Row};
use super::line::{Exemplar, Labels};
use super::place::Placed;
use crate::exposition::{Format, push_bound, push_help, push_label_value};

/// The most characters that the labels of an exemplar have together (OpenMetrics 1.0, "Exemplars").
const EXEMPLAR_LABELS: usize = 128;

/// A family of the page that is made of one of the merged page; some become several.
struct Piece {
    /// What its name has behind the base, in a `# TYPE` line.
    suffix: &'static str,
    kind: &'static str,
    /// The samples that are its own.
    samples: &'static [&'static str],
    /// Its type is kept, so bounds are written canonically, and unit and exemplars stay.
    is_kept: bool,
}

/// Writes all that became of the family: name (as the text format has it) and lines of each, none of them empty.
pub(super) fn write(placed: &Placed<'_>, format: Format) -> Vec<(String, String)> {
    let rows = || placed.family.groups.iter().flatten();
    let mut out = Vec::new();
    for piece in pieces(placed, format) {
        if rows().any(|row| piece.samples.contains(&row.suffix)) {
            let mut text = String::new();
            push_head(&mut text, placed, &piece, format);
            for row in rows().filter(|row| piece.samples.contains(&row.suffix)) {
                push_row(&mut text, placed, &piece, row, format);
            }
            let is_total = piece.is_kept && placed.family.kind == Kind::Counter && format == Format::OpenMetrics;
            let suffix = if is_total { "_total" } else { piece.suffix };
            out.push((format!("{}{suffix}", placed.base), text));
        }
    }
    out
}

fn pieces(placed: &Placed<'_>, format: Format) -> Vec<Piece> {
    let kept = |suffix, kind, samples| Piece { suffix, kind, samples, is_kept: true };
    // Only OpenMetrics has a sample for the time of creation; in text it is a gauge.
    let created = || Piece { suffix: "_created", kind: "gauge", samples: &["_created"], is_kept: false };
    let kind = placed.family.kind;
    match (format, kind) {
        (Format::Text, Kind::Counter) => vec![kept("_total", "counter", &["_total"]), created()],
        (Format::Text, Kind::BareCounter) => vec![kept("", "counter", &[""])],
        (_, Kind::Gauge) | (Format::Text, Kind::StateSet) => vec![kept("", "gauge", &[""])],
        (Format::Text, Kind::Info) => vec![kept("_info", "gauge", &["_info"])],
        (Format::Text, Kind::Histogram) if placed.fit.text => {
            vec![kept("", "histogram", &["_bucket", "_sum", "_count"]), created()]
        }
        (Format::Text, Kind::Summary) if placed.fit.text => {
            vec![kept("", "summary", &["", "_sum", "_count"]), created()]
        }
        (Format::OpenMetrics, kind) if placed.fit.open_metrics && kind != Kind::Unknown => {
            vec![kept("", open_metrics_word(kind), kind.suffixes())]
        }
        _ => {
            let word = if format == Format::Text { "untyped" } else { "unknown" };
            let alone = kind.suffixes().chunks(1).zip(kind.suffixes());
            alone.map(|(samples, suffix)| Piece { suffix, kind: word, samples, is_kept: false }).collect()
        }
    }
}

fn open_metrics_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
        Kind::GaugeHistogram => "gaugehistogram",
        Kind::Summary => "summary",
        Kind::StateSet => "stateset",
        Kind::Info => "info",
        Kind::BareCounter | Kind::Unknown => "unknown",
    }
}

fn push_head(out: &mut String, placed: &Placed<'_>, piece: &Piece, format: Format) {
    let name = [placed.base.as_str(), piece.suffix];
    if let Some(help) = &placed.family.help {
        push_all(out, &["# HELP ", name[0], name[1], " "]);
        push_help(out, help, format);
        out.push('\n');
    }
    push_all(out, &["# TYPE ", name[0], name[1], " ", piece.kind, "\n"]);
    if let Some(unit) = placed.family.unit
        && format == Format::OpenMetrics
        && piece.is_kept
        && !matches!(placed.family.kind, Kind::Info | Kind::StateSet)
        && placed.base.strip_suffix(unit).is_some_and(|before| before.ends_with('_'))
    {
        push_all(out, &["# UNIT ", name[0], name[1], " ", unit, "\n"]);
    }
}

fn push_row(out: &mut String, placed: &Placed<'_>, piece: &Piece, row: &Row<'_>, format: Format) {
    let canonical = if piece.is_kept { row.bound.zip(placed.family.kind.inner_label()) } else { None };
    push_all(out, &[&placed.base, row.suffix]);
    push_labels(out, &row.labels, canonical.map(|(bound, (label, _))| (label, bound)), format);
    push_all(out, &[" ", &row.value]);
    if let Some(time) = row.time {
        out.push(' ');
        push_time(out, time, format);
    }
    if let Some(exemplar) = &row.exemplar
        && format == Format::OpenMetrics
        && piece.is_kept
        && matches!(row.suffix, "_total" | "_bucket")
        && label_chars(&exemplar.labels) <= EXEMPLAR_LABELS
    {
        push_exemplar(out, exemplar);
    }
    out.push('\n');
}

fn push_labels(out: &mut String, labels: &Labels<'_>, canonical: Option<(&str, f64)>, format: Format) {
    if labels.is_empty() {
        return;
    }
    for (index, (name, value)) in labels.iter().enumerate() {
        push_all(out, &[if index == 0 { "{" } else { "," }, name, "=\""]);
        match canonical {
            Some((label, bound)) if label == *name => push_bound(out, bound, format == Format::OpenMetrics),
            _ => push_label_value(out, value),
        }
        out.push('"');
    }
    out.push('}');
}

fn push_time(out: &mut String, milliseconds: i64, format: Format) {
    match format {
        Format::Text => {
            let _ = write!(out, "{milliseconds}");
        }
        Format::OpenMetrics => {
            let sign = if milliseconds < 0 { "-" } else { "" };
            let (whole, rest) = (milliseconds.unsigned_abs() / 1000, milliseconds.unsigned_abs() % 1000);
            // Writing to a string does not fail.
            let _ = write!(out, "{sign}{whole}.{rest:03}");
        }
    }
}

fn push_exemplar(out: &mut String, exemplar: &Exemplar<'_>) {
    out.push_str(" # ");
    if exemplar.labels.is_empty() {
        out.push_str("{}");
    }
    push_labels(out, &exemplar.labels, None, Format::OpenMetrics);
    push_all(out, &[" ", &exemplar.value]);
    if let Some(time) = &exemplar.time {
        push_all(out, &[" ", time]);
    }
}

fn label_chars(labels: &Labels<'_>) -> usize {
    labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum()
}

fn push_all(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}
