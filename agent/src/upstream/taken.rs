//! The names that nobody else may use. Who gets another name is decided in `place`.

use std::collections::HashSet;

use crate::exposition::{Family, Kind, catalog};

/// Names of samples and families that are on the page already, or may be at another time.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// What samples are called.
    pub(super) samples: HashSet<String>,
    /// What a strict OpenMetrics reader sets aside beside them: a counter's name without `_total`, and `_created`.
    pub(super) beside: HashSet<String>,
}

impl Taken {
    /// The names of the whole catalogue for these services, whether or not they have samples now: what a merged family
    /// is called must not depend on that.
    /// `derives`: the scheduler's API is asked, so its families are ours too. `is_llm_node`: and so are those of a node of a
    /// distributed LLM.
    pub fn ours<'a>(services: impl IntoIterator<Item = &'a str>, derives: bool, is_llm_node: bool) -> Self {
        let mut taken = Self::default();
        let is_of = |family: &Family, list: &[&Family]| list.iter().any(|listed| listed.name == family.name);
        let of_others = |family: &Family| {
            (!derives && is_of(family, &catalog::DERIVED)) || (!is_llm_node && is_of(family, &catalog::OF_LLM_NODE))
        };
        for family in catalog::ALL.iter().filter(|family| !family.is_per_service() && !of_others(family)) {
            taken.reserve(family.name, family.kind);
        }
        for service in services {
            for family in catalog::ALL.iter().filter(|family| family.is_per_service()) {
                taken.reserve(&family.full_name(service), family.kind);
            }
        }
        taken
    }

    /// Takes the names of one more family, called as in the text format.
    pub fn reserve(&mut self, name: &str, kind: Kind) {
        let base = name.strip_suffix("_total").unwrap_or(name);
        self.samples.insert(name.to_owned());
        match kind {
            Kind::Counter => self.beside.extend([base.to_owned(), format!("{base}_created")]),
            Kind::Gauge => {}
            Kind::Histogram => {
                self.samples.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
                self.beside.insert(format!("{name}_created"));
            }
        }
    }

    /// Whether a sample or a family may not have this name.
    pub fn contains(&self, name: &str) -> bool {
        self.samples.contains(name) || self.beside.contains(name)
    }
}
