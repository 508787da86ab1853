//! What is fixed about a metric family. The list of them is in `catalog`; values get their text in `samples`.

/// The type of a family, as far as we produce them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts per bucket, with sum and count.
    Histogram,
}

impl Kind {
    /// The word of a `# TYPE` line, the same in both formats.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One family of the catalogue.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// The name in the text format; begins with `{service}` if every service has its own.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The unit of its values in OpenMetrics spelling, empty if they have none.
    pub unit: &'static str,
    /// The label names, in the order in which values are given and written.
    pub labels: &'static [&'static str],
    /// The HELP text; for bytes it says which ones.
    pub help: &'static str,
}

impl Family {
    /// What stands in a name for the service's own name.
    pub const PLACEHOLDER: &'static str = "{service}";

    /// Whether every service has its own family of this sort.
    pub fn is_per_service(&self) -> bool {
        self.name.starts_with(Self::PLACEHOLDER)
    }

    /// The name in the text format; `service` is looked at only if the family is per service.
    pub fn full_name(&self, service: &str) -> String {
        match self.name.strip_prefix(Self::PLACEHOLDER) {
            Some(rest) => format!("{service}{rest}"),
            None => self.name.to_owned(),
        }
    }

    /// The unit, if the name of the metric family in OpenMetrics ends in it, which a `# UNIT` line presupposes
    /// (OpenMetrics 1.0, "Metric Family", "Unit").
    pub(super) fn unit_in_name(&self) -> Option<&'static str> {
        let base = self.name.strip_suffix("_total").unwrap_or(self.name);
        let before = base.strip_suffix(self.unit)?;
        (!self.unit.is_empty() && before.ends_with('_')).then_some(self.unit)
    }
}
