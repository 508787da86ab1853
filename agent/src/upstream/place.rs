//! Gives every family a name that is free, and says where it can keep its type. The text is made in `write`.

use std::collections::{HashMap, HashSet};

use super::fit::{Fit, fit};
use super::gather::{Family, Kind};
use super::taken::Taken;

/// What stands before the name of a family that collides.
const PREFIX: &str = "upstream_";

/// A family with its final name.
#[derive(Debug)]
pub(super) struct Placed<'a> {
    pub(super) family: Family<'a>,
    /// The base with as many prefixes as were needed.
    pub(super) base: String,
    pub(super) fit: Fit,
}

/// Places families in their order and takes their names.
///
/// A name is the same in both formats. A sample name that is ours, or another family's of this page, costs the later
/// family its name. Names that only OpenMetrics sets aside (it wants `x` for the counter `x_total`, and `x` may be a
/// gauge) cost it its type there and nothing else.
pub(super) fn place<'a>(families: Vec<Family<'a>>, taken: &mut Taken) -> Vec<Placed<'a>> {
    let mut owners: HashMap<String, usize> = HashMap::new();
    let mut placed: Vec<Placed<'a>> = Vec::with_capacity(families.len());
    for family in families {
        let mut base = family.base.to_owned();
        while sample_names(&family, &base).any(|name| taken.contains(&name) || owners.contains_key(&name)) {
            base.insert_str(0, PREFIX);
        }
        owners.extend(sample_names(&family, &base).map(|name| (name, placed.len())));
        let mut fit = fit(&family);
        // The label of a state set is named after it.
        fit.open_metrics &= family.kind != Kind::StateSet || base == family.base;
        placed.push(Placed { family, base, fit });
    }
    let mut beside: HashSet<String> = HashSet::new();
    for (own, placed) in placed.iter_mut().enumerate() {
        let set_aside: Vec<String> = names_beside(&placed.family, &placed.base).collect();
        let is_foreign = |name: &String| owners.get(name).is_some_and(|owner| *owner != own);
        if set_aside.iter().any(|name| is_foreign(name) || beside.contains(name) || taken.contains(name)) {
            placed.fit.open_metrics = false;
        }
        if placed.fit.open_metrics {
            beside.extend(set_aside);
        }
    }
    taken.samples.extend(owners.into_keys());
    taken.beside.extend(beside);
    placed
}

/// The names that its samples have, and its own in the text format.
fn sample_names<'b>(family: &Family<'_>, base: &'b str) -> impl Iterator<Item = String> + use<'b> {
    let has_created = family.groups.iter().flatten().any(|row| row.suffix == "_created");
    let suffixes = family.kind.suffixes().iter().filter(move |suffix| has_created || **suffix != "_created");
    let own: &[&str] = match family.kind {
        Kind::Histogram | Kind::GaugeHistogram => &[""],
        _ => &[],
    };
    suffixes.chain(own).map(move |suffix| format!("{base}{suffix}"))
}

/// What a strict OpenMetrics reader sets aside for its type beside them.
fn names_beside<'b>(family: &Family<'_>, base: &'b str) -> impl Iterator<Item = String> + use<'b> {
    let suffixes: &[&str] = match family.kind {
        Kind::Counter => &["", "_created"],
        Kind::Histogram | Kind::Summary => &["_created"],
        Kind::Info => &[""],
        _ => &[],
    };
    suffixes.iter().map(move |suffix| format!("{base}{suffix}"))
}
