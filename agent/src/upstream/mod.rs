//! Families of another exporter for our page. All but `fetch` is pure, from its bytes to our text.
//!
//! `fetch` gets the page, `line` reads lines, `gather` brings those of a family together, `fit` looks whether they are
//! what the type promises, `place` finds names that are free, `write` makes the text.
//!
//! What a strict reader would refuse is repaired where nothing is lost by it (order, escapes, spelling of numbers), else
//! left out and counted (what cannot be read, a series that came before). A family whose samples break the promise of
//! its type is served sample name by sample name without a type, in the format whose rules they break.

mod fetch;
mod fit;
mod gather;
mod line;
mod place;
mod taken;
mod write;

pub use self::fetch::{FetchError, fetch};
pub use self::taken::Taken;

use crate::exposition::{Format, Page};

/// What became of another exporter's page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The families, sorted by name; no name comes twice.
    pub families: Vec<MergedFamily>,
    /// Lines left out because they cannot be read.
    pub unparsable: u64,
    /// Lines left out because the same series came before.
    pub duplicates: u64,
    /// Names (as in OpenMetrics, without a suffix) that were taken, with what is used instead.
    pub renamed: Vec<(String, String)>,
}

/// One family, ready for [`Page::foreign`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedFamily {
    /// The name that the text format has for it.
    pub name: String,
    /// Its metadata and samples.
    pub text: String,
}

impl Merged {
    /// All lines that were left out.
    pub fn left_out(&self) -> u64 {
        self.unparsable.saturating_add(self.duplicates)
    }

    /// Puts the families on a page of the format that they were merged for.
    pub fn put_on(&self, page: &mut Page) {
        for family in &self.families {
            page.foreign(&family.name, &family.text);
        }
    }
}

/// Reads another exporter's page, in either format and however broken, and gives its families for a page in `format`.
///
/// Names in `taken` are not given to anything here: a family that collides gets the prefix `upstream_`, with all its
/// samples. The names that are used are added to `taken`, so that the next exporter's page cannot collide with this one's.
/// The caller limits the size of `page`; memory is a small multiple of it.
pub fn merge(page: &[u8], taken: &mut Taken, format: Format) -> Merged {
    let gathered = gather::gather(page);
    let placed = place::place(gathered.families, taken);
    let renamed = placed.iter().filter(|placed| placed.base != placed.family.base);
    let renamed = renamed.map(|placed| (placed.family.base.to_owned(), placed.base.clone())).collect();
    let pieces = placed.iter().flat_map(|placed| write::write(placed, format));
    let mut families: Vec<MergedFamily> = pieces.map(|(name, text)| MergedFamily { name, text }).collect();
    families.sort_by(|a, b| a.name.cmp(&b.name));
    Merged { families, unparsable: gathered.unparsable, duplicates: gathered.duplicates, renamed }
}

#[cfg(test)]
mod tests;
