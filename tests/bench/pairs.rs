//! Alternating measurements, and what is said of a handful of numbers: the median and how far they spread.

use anyhow::Result;
use serde_json::{Value, json};

use crate::interrupt;

/// The median, the quartiles and the ends of some numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) lower: f64,
    pub(crate) median: f64,
    pub(crate) upper: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// All zero of nothing.
    pub(crate) fn of(numbers: &[f64]) -> Self {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |quarter: usize| quantile(&sorted, quarter);
        Self { least: at(0), lower: at(1), median: at(2), upper: at(3), most: at(4) }
    }

    /// `median (lower to upper)`.
    pub(crate) fn words(&self, digits: usize) -> String {
        format!("{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.lower, self.upper)
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "least": self.least, "lower": self.lower, "median": self.median, "upper": self.upper, "most": self.most })
    }
}

/// The value at a number of quarters of a sorted list, between two neighbours where it falls between them.
fn quantile(sorted: &[f64], quarters: usize) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return 0.0;
    };
    let (place, rest) = (last * quarters / 4, last * quarters % 4);
    let value = |at: usize| sorted.get(at.min(last)).copied().unwrap_or(0.0);
    let share = [0.0, 0.25, 0.5, 0.75].get(rest).copied().unwrap_or(0.0);
    value(place) + (value(place + 1) - value(place)) * share
}

/// Measures `without` and `with` in turns: what drifts on the machine drifts for both.
pub(crate) fn alternate<T>(
    pairs: usize,
    mut without: impl FnMut() -> Result<T>,
    mut with: impl FnMut() -> Result<T>,
) -> Result<Vec<[T; 2]>> {
    let mut found = Vec::new();
    for _ in 0..pairs {
        interrupt::check()?;
        found.push([without()?, with()?]);
    }
    Ok(found)
}

/// One quantity of alternating measurements.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    pub(crate) without: Spread,
    pub(crate) with: Spread,
    /// With by without, pair by pair.
    pub(crate) ratio: Spread,
    raw: Vec<[f64; 2]>,
}

impl Pairs {
    pub(crate) fn of<T>(found: &[[T; 2]], quantity: impl Fn(&T) -> f64) -> Self {
        let raw: Vec<[f64; 2]> = found.iter().map(|[without, with]| [quantity(without), quantity(with)]).collect();
        let column = |which: fn(&[f64; 2]) -> f64| Spread::of(&raw.iter().map(which).collect::<Vec<_>>());
        Self { without: column(|pair| pair[0]), with: column(|pair| pair[1]), ratio: column(ratio), raw }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "without": self.without.json(), "with": self.with.json(), "ratio": self.ratio.json(),
            "pairs": self.raw,
        })
    }
}

fn ratio(pair: &[f64; 2]) -> f64 {
    if pair[0] == 0.0 { 0.0 } else { pair[1] / pair[0] }
}

/// A whole number as one that can be divided.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts here are far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::float_cmp, reason = "tests of whole numbers")]
    use super::*;

    #[test]
    fn quartiles_fall_between_neighbours() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0, 5.0]);
        assert_eq!(spread, Spread { least: 1.0, lower: 2.0, median: 3.0, upper: 4.0, most: 5.0 });
        let spread = Spread::of(&[0.0, 10.0]);
        assert_eq!(spread, Spread { least: 0.0, lower: 2.5, median: 5.0, upper: 7.5, most: 10.0 });
        assert_eq!(Spread::of(&[]).median, 0.0);
        assert_eq!(spread.words(1), "5.0 (2.5 to 7.5)");
    }

    #[test]
    fn measurements_take_turns_and_are_compared_pair_by_pair() {
        let order = std::cell::RefCell::new(Vec::new());
        let say = |word: &'static str, value: f64| {
            order.borrow_mut().push(word);
            Ok(value)
        };
        let found = alternate(2, || say("a", 4.0), || say("b", 2.0)).unwrap();
        assert_eq!(*order.borrow(), ["a", "b", "a", "b"]);
        let pairs = Pairs::of(&found, |value| *value);
        assert_eq!((pairs.without.median, pairs.with.median, pairs.ratio.median), (4.0, 2.0, 0.5));
    }
}
