//! One page for one scrape: which families are on it and in which order. Their lines are written in `samples`.

use std::ops::Range;

use super::Format;
use super::escape::push_help;
use super::family::{Family, Kind};
use super::samples::{Samples, Scratch};

/// Collects families and gives the bytes of the page.
///
/// Families come out sorted by name and each at most once, however they were written; one without samples is left out.
#[derive(Debug)]
pub struct Page {
    format: Format,
    only: Option<Vec<String>>,
    text: String,
    parts: Vec<Part>,
    scratch: Scratch,
}

/// One family's place in the text.
#[derive(Debug)]
struct Part {
    name: String,
    head: Range<usize>,
    samples: Range<usize>,
    lines: u64,
}

impl Page {
    /// An empty page.
    pub fn new(format: Format) -> Self {
        Self { format, only: None, text: String::new(), parts: Vec::new(), scratch: Scratch::default() }
    }

    /// Limits the page to families of these names (`?name[]=`).
    ///
    /// A name may be that of the family in either format or that of one of its samples, so `x`, `x_total`, `x_bucket`,
    /// `x_sum` and `x_count` all mean the family `x`. No name at all means no limit.
    #[must_use]
    pub fn only<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        Self { only: (!names.is_empty()).then_some(names), ..self }
    }

    /// The format that was asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Writes a family of the catalogue. `service` is the prefix of a family that is per service, else not looked at.
    ///
    /// All samples of a family belong in one call. What a second call brings is put behind the first one's, unsorted.
    pub fn family(&mut self, family: &Family, service: &str, write: impl FnOnce(&mut Samples<'_>)) {
        let name = family.full_name(service);
        if !self.wants(&name, family.kind) {
            return;
        }
        let start = self.text.len();
        self.push_head(family, &name);
        let head = start..self.text.len();
        let mut samples = Samples {
            family,
            name: &name,
            format: self.format,
            text: &mut self.text,
            scratch: &mut self.scratch,
            lines: 0,
        };
        write(&mut samples);
        let lines = samples.finish();
        if lines == 0 {
            self.text.truncate(start);
        } else {
            let samples = head.end..self.text.len();
            self.parts.push(Part { name, head, samples, lines });
        }
    }

    /// Adds a family that is text already, metadata and all, such as `upstream` makes. Its name must not be one of ours.
    pub fn foreign(&mut self, name: &str, text: &str) {
        if self.wants(name, Kind::Histogram) || self.wants(name, Kind::Counter) {
            let start = self.text.len();
            self.text.push_str(text);
            let lines = text.lines().filter(|line| !line.starts_with('#')).count();
            let lines = u64::try_from(lines).unwrap_or(u64::MAX);
            self.parts.push(Part { name: name.to_owned(), head: start..start, samples: start..self.text.len(), lines });
        }
    }

    /// The families written so far with the number of their lines, each of which is a series to Prometheus.
    pub fn series(&self) -> impl Iterator<Item = (&str, u64)> {
        self.parts.iter().map(|part| (part.name.as_str(), part.lines))
    }

    /// The whole page.
    pub fn finish(mut self) -> Vec<u8> {
        self.parts.sort_by(|a, b| a.name.cmp(&b.name));
        let mut page = String::with_capacity(self.text.len() + 8);
        let mut previous = "";
        for part in &self.parts {
            if part.name != previous {
                page.push_str(self.text.get(part.head.clone()).unwrap_or_default());
            }
            page.push_str(self.text.get(part.samples.clone()).unwrap_or_default());
            previous = &part.name;
        }
        if self.format == Format::OpenMetrics {
            page.push_str("# EOF\n");
        }
        page.into_bytes()
    }

    fn wants(&self, name: &str, kind: Kind) -> bool {
        let Some(only) = &self.only else { return true };
        let base = name.strip_suffix("_total").unwrap_or(name);
        let suffixes: &[&str] = match kind {
            Kind::Histogram => &["_bucket", "_sum", "_count"],
            Kind::Counter => &["_total"],
            Kind::Gauge => &[],
        };
        only.iter().any(|wanted| {
            let rest = wanted.strip_prefix(base);
            wanted == name
                || rest.is_some_and(|rest| suffixes.contains(&rest))
                || (kind == Kind::Counter && wanted == base)
        })
    }

    fn push_head(&mut self, family: &Family, name: &str) {
        let name = match self.format {
            // The metric family there is what the samples have before their suffix (OpenMetrics 1.0, "Counter").
            Format::OpenMetrics if family.kind == Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let out = &mut self.text;
        for part in ["# HELP ", name, " "] {
            out.push_str(part);
        }
        push_help(out, family.help, self.format);
        for part in ["\n# TYPE ", name, " ", family.kind.word(), "\n"] {
            out.push_str(part);
        }
        if let (Format::OpenMetrics, Some(unit)) = (self.format, family.unit_in_name()) {
            for part in ["# UNIT ", name, " ", unit, "\n"] {
                out.push_str(part);
            }
        }
    }
}
