//! Writes the samples of one family. Metadata, order of the families and the filter are in `page`.

use super::Format;
use super::escape::push_label_value;
use super::family::{Family, Kind};
use super::number::{Number, push_bound};

/// Takes the samples of one family, in any order; they come out sorted by their labels.
///
/// Label values are given in the order of the catalogue's label names. A method that is not the family's kind, another
/// number of values than labels, and two samples with the same labels are mistakes in the program: debug builds stop,
/// release builds leave the wrong sample out, so that the page stays valid.
#[derive(Debug)]
pub struct Samples<'a> {
    pub(super) family: &'a Family,
    pub(super) name: &'a str,
    pub(super) format: Format,
    pub(super) text: &'a mut String,
    pub(super) scratch: &'a mut Scratch,
    pub(super) lines: u64,
}

/// Memory that one family after the other uses, so that a sample needs none of its own.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    records: Vec<Record>,
    labels: String,
    sorted: String,
    bounds: Vec<f64>,
    bound_texts: Vec<String>,
}

/// Where the lines of one sample are in the text; `key_end` is where their common labels end.
#[derive(Debug, Clone, Copy)]
struct Record {
    start: usize,
    key_end: usize,
    end: usize,
}

impl Samples<'_> {
    /// One sample of a counter.
    pub fn counter(&mut self, labels: &[&str], value: impl Into<Number>) {
        self.plain(Kind::Counter, labels, value.into());
    }

    /// One sample of a gauge.
    pub fn gauge(&mut self, labels: &[&str], value: impl Into<Number>) {
        self.plain(Kind::Gauge, labels, value.into());
    }

    /// One histogram: `counts` has the observations of each bucket alone (not cumulated), one more than `bounds`; the
    /// last one is `+Inf`. `bounds` are the upper ones, inclusive, rising.
    pub fn histogram(&mut self, labels: &[&str], bounds: &[f64], counts: &[u64], sum: impl Into<Number>) {
        debug_assert_eq!(counts.len(), bounds.len() + 1, "{}: one count for each bound and one for +Inf", self.name);
        if !self.begin(Kind::Histogram, labels) || counts.len() != bounds.len() + 1 {
            return;
        }
        self.scratch.learn_bounds(bounds, self.format);
        let start = self.text.len();
        let mut key_end = start;
        let mut total: u64 = 0;
        for (count, bound) in counts.iter().zip(&self.scratch.bound_texts) {
            total = total.saturating_add(*count);
            self.text.push_str(self.name);
            self.text.push_str("_bucket{");
            self.text.push_str(&self.scratch.labels);
            if key_end == start {
                key_end = self.text.len();
            }
            if !self.scratch.labels.is_empty() {
                self.text.push(',');
            }
            self.text.push_str("le=\"");
            self.text.push_str(bound);
            self.text.push_str("\"} ");
            Number::Unsigned(total).push(self.text);
            self.text.push('\n');
            self.lines += 1;
        }
        self.line("_sum", sum.into());
        self.line("_count", Number::Unsigned(total));
        self.scratch.records.push(Record { start, key_end, end: self.text.len() });
    }

    fn plain(&mut self, kind: Kind, labels: &[&str], value: Number) {
        if !self.begin(kind, labels) {
            return;
        }
        let start = self.text.len();
        let key_len = self.name.len() + usize::from(!labels.is_empty()) + self.scratch.labels.len();
        self.line("", value);
        self.scratch.records.push(Record { start, key_end: start + key_len, end: self.text.len() });
    }

    /// Checks the sample against the catalogue and writes its labels to the scratch text.
    fn begin(&mut self, kind: Kind, labels: &[&str]) -> bool {
        debug_assert_eq!(kind, self.family.kind, "{}: the kind of the catalogue", self.name);
        debug_assert_eq!(labels.len(), self.family.labels.len(), "{}: the labels of the catalogue", self.name);
        self.scratch.labels.clear();
        for (label, value) in self.family.labels.iter().zip(labels) {
            if !self.scratch.labels.is_empty() {
                self.scratch.labels.push(',');
            }
            self.scratch.labels.push_str(label);
            self.scratch.labels.push_str("=\"");
            push_label_value(&mut self.scratch.labels, value);
            self.scratch.labels.push('"');
        }
        kind == self.family.kind && labels.len() == self.family.labels.len()
    }

    fn line(&mut self, suffix: &str, value: Number) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        if !self.scratch.labels.is_empty() {
            self.text.push('{');
            self.text.push_str(&self.scratch.labels);
            self.text.push('}');
        }
        self.text.push(' ');
        value.push(self.text);
        self.text.push('\n');
        self.lines += 1;
    }

    /// Brings the samples into order; gives the number of lines.
    pub(super) fn finish(mut self) -> u64 {
        let begin = self.scratch.records.first().map_or(self.text.len(), |record| record.start);
        let text = &*self.text;
        let key = |record: &Record| text.get(record.start..record.key_end).unwrap_or_default();
        if !self.scratch.records.is_sorted_by(|a, b| key(a) < key(b)) {
            self.scratch.records.sort_by(|a, b| key(a).cmp(key(b)));
            let written = self.scratch.records.len();
            self.scratch.records.dedup_by(|later, first| key(later) == key(first));
            debug_assert_eq!(written, self.scratch.records.len(), "{}: every sample has its own labels", self.name);
            self.scratch.sorted.clear();
            for record in &self.scratch.records {
                self.scratch.sorted.push_str(text.get(record.start..record.end).unwrap_or_default());
            }
            self.text.truncate(begin);
            self.text.push_str(&self.scratch.sorted);
            if written != self.scratch.records.len() {
                self.lines = u64::try_from(self.scratch.sorted.lines().count()).unwrap_or(u64::MAX);
            }
        }
        self.scratch.records.clear();
        self.lines
    }
}

impl Scratch {
    /// The bounds as text, made again only when they change, which within a family they rarely do.
    fn learn_bounds(&mut self, bounds: &[f64], format: Format) {
        if self.bounds == bounds && self.bound_texts.len() == bounds.len() + 1 {
            return;
        }
        self.bounds.clear();
        self.bounds.extend_from_slice(bounds);
        self.bound_texts.clear();
        for bound in bounds.iter().copied().chain([f64::INFINITY]) {
            let mut text = String::new();
            push_bound(&mut text, bound, format == Format::OpenMetrics);
            self.bound_texts.push(text);
        }
    }
}
