//! Reading an exposition: one sample by its name and labels. Not a parser of everything (`promtool` is the judge of
//! form).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};

use crate::wait;

/// A scraped page.
#[derive(Debug, Clone)]
pub struct Page {
    text: String,
    samples: BTreeMap<String, f64>,
}

impl Page {
    /// Scrapes until `condition` holds: connections end a moment after their client saw the end.
    ///
    /// # Errors
    /// When it does not hold in time, with the last page.
    pub fn until(
        what: &str,
        scrape: impl Fn() -> Result<Self>,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Result<Self> {
        let mut last = String::new();
        wait::until(what, || {
            let page = scrape()?;
            page.text.clone_into(&mut last);
            Ok(condition(&page).then_some(page))
        })
        .with_context(|| format!("the last page was:\n{last}"))
    }

    /// Reads a page of text format 0.0.4.
    ///
    /// # Errors
    /// When a sample line has no number at its end.
    pub fn parse(text: String) -> Result<Self> {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (series, value) = line.rsplit_once(' ').ok_or_else(|| anyhow!("no value in {line:?}"))?;
            let value = value.parse().map_err(|_| anyhow!("no number in {line:?}"))?;
            samples.insert(canonical(series), value);
        }
        Ok(Self { text, samples })
    }

    /// The page as it came.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The value of a series written like `name{label="value"}`, labels in any order.
    #[must_use]
    pub fn get(&self, series: &str) -> Option<f64> {
        self.samples.get(&canonical(series)).copied()
    }

    /// All series of a family, with their labels.
    pub fn family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (BTreeMap<String, String>, f64)> + 'a {
        self.samples.iter().filter_map(move |(series, value)| {
            let rest = series.strip_prefix(name)?;
            match rest.chars().next() {
                None => Some((BTreeMap::new(), *value)),
                Some('{') => Some((labels(rest), *value)),
                Some(_) => None,
            }
        })
    }

    /// The sum of a family's samples that have all of these labels.
    pub fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        let has = |labels: &BTreeMap<String, String>| {
            wanted.iter().all(|(label, value)| labels.get(*label).is_some_and(|found| found == value))
        };
        self.family(name).filter(|(labels, _)| has(labels)).map(|(_, value)| value).sum()
    }
}

fn labels(braces: &str) -> BTreeMap<String, String> {
    let inner = braces.trim_start_matches('{').trim_end_matches('}');
    let mut found = BTreeMap::new();
    let mut rest = inner;
    while let Some((name, behind)) = rest.split_once("=\"") {
        let end = end_of_value(behind);
        found.insert(name.trim_start_matches(',').trim().to_owned(), behind.get(..end).unwrap_or_default().to_owned());
        rest = behind.get(end + 1..).unwrap_or_default();
    }
    found
}

/// Where the quotation mark is that ends a value; one behind a backslash is part of it. Values stay as they are written.
fn end_of_value(text: &str) -> usize {
    let mut escaped = false;
    let is_end = |byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    };
    text.bytes().position(is_end).unwrap_or(text.len())
}

fn canonical(series: &str) -> String {
    let Some(brace) = series.find('{') else {
        return series.to_owned();
    };
    let (name, braces) = series.split_at(brace);
    let labels = labels(braces);
    if labels.is_empty() {
        return name.to_owned();
    }
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    format!("{name}{{{}}}", labels.join(","))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::float_cmp, reason = "tests of whole numbers")]
    use super::*;

    #[test]
    fn a_value_may_have_quotation_marks_and_ends_behind_them() {
        let page = Page::parse("a{b=\"x\\\"y\",c=\"z\\\\\"} 1\n".to_owned()).unwrap();
        let labels: Vec<_> = page.family("a").map(|(labels, _)| labels.into_values().collect::<Vec<_>>()).collect();
        assert_eq!(labels, [["x\\\"y", "z\\\\"]]);
        assert_eq!(page.get("a{c=\"z\\\\\",b=\"x\\\"y\"}"), Some(1.0));
    }

    #[test]
    fn finds_samples_whatever_the_order_of_their_labels() {
        let page =
            Page::parse("# HELP x y\nx{b=\"2\",a=\"/jobs/{id}\"} 7\nx{a=\"1\"} 8\ny 1e+06\n".to_owned()).unwrap();
        assert_eq!(page.get("x{a=\"/jobs/{id}\",b=\"2\"}"), Some(7.0));
        assert_eq!(page.get("y"), Some(1_000_000.0));
        assert_eq!(page.get("z"), None);
        assert_eq!(page.sum("x", &[]), 15.0);
        assert_eq!(page.sum("x", &[("b", "2")]), 7.0);
    }
}
