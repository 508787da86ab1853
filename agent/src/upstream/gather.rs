//! Brings the lines of a page together, family by family, wherever they stood. What becomes of them is in `place`.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::line::{self, Declared, Exemplar, Labels, Line, Sample};

/// Everything that a page said.
#[derive(Debug, Default)]
pub(super) struct Gathered<'a> {
    /// In the order in which their first samples came; each has at least one.
    pub(super) families: Vec<Family<'a>>,
    pub(super) unparsable: u64,
    pub(super) duplicates: u64,
}

/// One family in the terms of OpenMetrics, which can tell more apart than the text format.
#[derive(Debug)]
pub(super) struct Family<'a> {
    /// The name without any suffix.
    pub(super) base: &'a str,
    pub(super) kind: Kind,
    pub(super) help: Option<Cow<'a, str>>,
    pub(super) unit: Option<&'a str>,
    /// The samples by their labels without `le` and `quantile`.
    pub(super) groups: Vec<Vec<Row<'a>>>,
    places: HashMap<String, usize>,
    seen: HashSet<String>,
}

/// What a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Counter,
    /// A counter of the text format whose name does not end in `_total`, which OpenMetrics does not allow.
    BareCounter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    StateSet,
    Info,
    Unknown,
}

/// One sample; its name is the family's base and this suffix.
#[derive(Debug)]
pub(super) struct Row<'a> {
    pub(super) suffix: &'static str,
    pub(super) labels: Labels<'a>,
    /// The value of `le` or `quantile`, where the kind has one.
    pub(super) bound: Option<f64>,
    pub(super) value: Cow<'a, str>,
    pub(super) time: Option<i64>,
    pub(super) exemplar: Option<Exemplar<'a>>,
}

impl Kind {
    /// The suffixes of its samples, in the order in which they are written.
    pub(super) fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["_total", "_created"],
            Self::Histogram => &["_bucket", "_sum", "_count", "_created"],
            Self::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
            Self::Summary => &["", "_sum", "_count", "_created"],
            Self::Info => &["_info"],
            Self::BareCounter | Self::Gauge | Self::StateSet | Self::Unknown => &[""],
        }
    }

    /// The label that tells the samples of one group apart, and the suffix of the samples that have it.
    pub(super) fn inner_label(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Histogram | Self::GaugeHistogram => Some(("le", "_bucket")),
            Self::Summary => Some(("quantile", "")),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Meta<'a> {
    declared: Option<Declared>,
    help: Option<Cow<'a, str>>,
    unit: Option<&'a str>,
}

type Metas<'a> = HashMap<&'a str, Meta<'a>>;

/// Reads a page in either format; `# EOF` tells which.
///
/// A last line without line feed may be half a line, so it is left out.
pub(super) fn gather(page: &[u8]) -> Gathered<'_> {
    let is_open_metrics = page.split(|&byte| byte == b'\n').any(|line| line.trim_ascii() == b"# EOF");
    let mut gathered = Gathered::default();
    let mut metas = Metas::new();
    let mut samples = Vec::new();
    for raw in page.split_inclusive(|&byte| byte == b'\n') {
        let line = match raw.strip_suffix(b"\n") {
            Some(raw) => line::read(raw, is_open_metrics),
            None if raw.trim_ascii() == b"# EOF" => Some(Line::Nothing),
            None => None,
        };
        match line {
            Some(Line::Nothing) => {}
            Some(Line::Sample(sample)) => samples.push(sample),
            Some(Line::Help(name, text)) => set_once(&mut metas.entry(name).or_default().help, text),
            Some(Line::Type(name, declared)) => set_once(&mut metas.entry(name).or_default().declared, declared),
            Some(Line::Unit(name, unit)) => set_once(&mut metas.entry(name).or_default().unit, unit),
            None => gathered.unparsable += 1,
        }
    }
    let mut places = HashMap::new();
    for sample in samples {
        let (base, kind, suffix) = belongs_to(sample.name, &metas);
        let place = *places.entry((base, kind)).or_insert_with(|| {
            gathered.families.push(Family::new(base, kind, &metas));
            gathered.families.len() - 1
        });
        if let Some(family) = gathered.families.get_mut(place) {
            gathered.duplicates += u64::from(!family.add(suffix, sample));
        }
    }
    for family in &mut gathered.families {
        family.sort();
    }
    gathered
}

fn set_once<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

/// The kinds whose samples have other names than the family.
const SUFFIXED: [(Declared, Kind); 5] = [
    (Declared::Counter, Kind::Counter),
    (Declared::Histogram, Kind::Histogram),
    (Declared::GaugeHistogram, Kind::GaugeHistogram),
    (Declared::Summary, Kind::Summary),
    (Declared::Info, Kind::Info),
];

/// Which family a sample is of: its base name, its kind, and the sample's suffix.
fn belongs_to<'a>(name: &'a str, metas: &Metas<'_>) -> (&'a str, Kind, &'static str) {
    let declared = |name: &str| metas.get(name).and_then(|meta| meta.declared);
    let own = declared(name);
    // Python's library writes these as gauges of their own in the text format.
    if matches!(own, None | Some(Declared::Gauge | Declared::Unknown))
        && let Some(base) = base_of(name, "_created")
    {
        let kind = match declared(base) {
            Some(Declared::Counter) => Some(Kind::Counter),
            Some(Declared::Histogram) => Some(Kind::Histogram),
            Some(Declared::Summary) => Some(Kind::Summary),
            _ => (declared(&format!("{base}_total")) == Some(Declared::Counter)).then_some(Kind::Counter),
        };
        if let Some(kind) = kind {
            return (base, kind, "_created");
        }
    }
    match own {
        Some(Declared::Counter) => match base_of(name, "_total") {
            Some(base) => return (base, Kind::Counter, "_total"),
            // Readers that cut `_total` off would find no name here.
            None if name == "_total" => return (name, Kind::Unknown, ""),
            None => return (name, Kind::BareCounter, ""),
        },
        Some(Declared::Gauge) => return (name, Kind::Gauge, ""),
        Some(Declared::Summary) => return (name, Kind::Summary, ""),
        Some(Declared::StateSet) => return (name, Kind::StateSet, ""),
        Some(Declared::Unknown | Declared::Histogram | Declared::GaugeHistogram | Declared::Info) => {
            return (name, Kind::Unknown, "");
        }
        None => {}
    }
    for (wanted, kind) in SUFFIXED {
        for suffix in kind.suffixes().iter().filter(|suffix| !suffix.is_empty()) {
            if let Some(base) = base_of(name, suffix)
                && declared(base) == Some(wanted)
            {
                return (base, kind, suffix);
            }
        }
    }
    (name, Kind::Unknown, "")
}

impl<'a> Family<'a> {
    fn new(base: &'a str, kind: Kind, metas: &Metas<'a>) -> Self {
        let total = if kind == Kind::Counter { metas.get(format!("{base}_total").as_str()) } else { None };
        let meta = total.or_else(|| metas.get(base));
        Self {
            base,
            kind,
            help: meta.and_then(|meta| meta.help.clone()),
            unit: meta.and_then(|meta| meta.unit),
            groups: Vec::new(),
            places: HashMap::new(),
            seen: HashSet::new(),
        }
    }

    /// Adds a sample unless the same series is there already.
    fn add(&mut self, suffix: &'static str, sample: Sample<'a>) -> bool {
        let inner = self.kind.inner_label().filter(|(_, of)| *of == suffix).map(|(label, _)| label);
        let text = inner.and_then(|inner| sample.labels.iter().find(|(name, _)| *name == inner));
        let bound = text.and_then(|(_, value)| value.parse().ok()).filter(|bound: &f64| !bound.is_nan());
        // The states of a set are one group, told apart by a label of the set's own name.
        let state = if self.kind == Kind::StateSet { Some(self.base) } else { None };
        let mut labels: Vec<(&str, &str)> = sample.labels.iter().map(|(name, value)| (*name, &**value)).collect();
        // An empty label is no label to Prometheus.
        labels.retain(|(_, value)| !value.is_empty());
        labels.sort_unstable();
        let mut group = String::new();
        let mut series = suffix.to_owned();
        for (name, value) in labels {
            if Some(name) == inner || Some(name) == state {
                // `1` and `1.0` are the same bucket.
                let value = bound.map_or_else(|| value.to_owned(), |bound| bound.to_string());
                push_label(&mut series, name, &value);
            } else {
                push_label(&mut series, name, value);
                push_label(&mut group, name, value);
            }
        }
        if !self.seen.insert(series) {
            return false;
        }
        let Sample { labels, value, time, exemplar, .. } = sample;
        let row = Row { suffix, labels, bound, value, time, exemplar };
        let fresh = self.groups.len();
        let place = *self.places.entry(group).or_insert(fresh);
        match self.groups.get_mut(place) {
            Some(rows) => rows.push(row),
            None => self.groups.push(vec![row]),
        }
        true
    }

    /// Within a group: buckets or quantiles rising, then the other suffixes.
    fn sort(&mut self) {
        let rank = |suffix| self.kind.suffixes().iter().position(|known| *known == suffix);
        for rows in &mut self.groups {
            rows.sort_by(|a, b| {
                let by_bound = a.bound.unwrap_or(f64::NAN).total_cmp(&b.bound.unwrap_or(f64::NAN));
                rank(a.suffix).cmp(&rank(b.suffix)).then(by_bound)
            });
        }
    }
}

/// Appends a label to a key, so that no two lists of labels make the same one.
fn push_label(key: &mut String, name: &str, value: &str) {
    for part in [name, "=", value, "\u{0}"] {
        key.push_str(part);
    }
}

/// What stands before the suffix, if that is a name at all.
fn base_of<'a>(name: &'a str, suffix: &str) -> Option<&'a str> {
    name.strip_suffix(suffix).filter(|base| !base.is_empty())
}
