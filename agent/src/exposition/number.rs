//! How a number is written. Which number it is, is the caller's.

use std::fmt::Write as _;

/// The value of a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// Bytes and events: every digit is written.
    Unsigned(u64),
    /// A difference: every digit is written.
    Signed(i64),
    /// Seconds, rates and means.
    Float(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Unsigned(value)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::Signed(value)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

/// Where a quotient is wanted: seconds, means and bounds. Counts themselves are written as what they are.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "a quotient, not an account: 53 bits are plenty"
)]
pub(super) fn float(value: u64) -> f64 {
    value as f64
}

impl Number {
    pub(super) fn push(self, out: &mut String) {
        // Writing to a string does not fail.
        let _ = match self {
            Self::Unsigned(value) => write!(out, "{value}"),
            Self::Signed(value) => write!(out, "{value}"),
            Self::Float(value) => {
                push_float(out, value);
                Ok(())
            }
        };
    }
}

/// Appends the shortest text that reads back as this value, in the style of Go's `strconv.FormatFloat(v, 'g', -1, 64)`:
/// an exponent of at least two digits below 1e-4 and from 1e6 on, no trailing `.0`.
pub(crate) fn push_float(out: &mut String, value: f64) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    }
    let start = out.len();
    let _ = write!(out, "{value:e}");
    let Some((mantissa, exponent)) = out.get(start..).and_then(|text| text.split_once('e')) else { return };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        out.truncate(start);
        let _ = write!(out, "{value}");
        return;
    }
    let mantissa_end = start + mantissa.len();
    out.truncate(mantissa_end);
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(out, "e{sign}{:02}", exponent.unsigned_abs());
}

/// The bound of a bucket as the value of `le`.
///
/// The text format has what Go writes. OpenMetrics wants the same canonical form everywhere, and there `100.0`, so
/// that a bound is always seen to be a float (OpenMetrics 1.0, "Considerations: Canonical Numbers").
pub(crate) fn push_bound(out: &mut String, bound: f64, always_float: bool) {
    let start = out.len();
    push_float(out, bound);
    let is_float = out.get(start..).is_some_and(|text| text.contains(['.', 'e', 'n', 'N']));
    if always_float && !is_float {
        out.push_str(".0");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Number, push_bound, push_float};

    fn float(value: f64) -> String {
        let mut out = String::from("x");
        push_float(&mut out, value);
        out.split_off(1)
    }

    fn bound(value: f64, always_float: bool) -> String {
        let mut out = String::new();
        push_bound(&mut out, value, always_float);
        out
    }

    #[test]
    fn as_go_writes_them() {
        let table = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.005, "0.005"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (0.000_012_5, "1.25e-05"),
            (100_000.0, "100000"),
            (999_999.5, "999999.5"),
            (1e6, "1e+06"),
            (123_456_789.0, "1.23456789e+08"),
            (-2.5e9, "-2.5e+09"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
            (f64::NAN, "NaN"),
        ];
        for (value, text) in table {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn integers_keep_every_digit() {
        let mut out = String::new();
        Number::from(u64::MAX).push(&mut out);
        out.push(' ');
        Number::from(i64::MIN).push(&mut out);
        assert_eq!(out, "18446744073709551615 -9223372036854775808");
    }

    #[test]
    fn canonical_bounds() {
        let table = [
            (100.0, "100", "100.0"),
            (100_000.0, "100000", "100000.0"),
            (1e6, "1e+06", "1e+06"),
            (0.005, "0.005", "0.005"),
            (1.0, "1", "1.0"),
            (f64::INFINITY, "+Inf", "+Inf"),
        ];
        for (value, text, open_metrics) in table {
            assert_eq!((bound(value, false).as_str(), bound(value, true).as_str()), (text, open_metrics));
        }
    }

    proptest! {
        #[test]
        fn reads_back_as_the_same_value(value in any::<f64>().prop_filter("a number", |value| !value.is_nan())) {
            prop_assert_eq!(float(value).parse::<f64>().map(f64::to_bits), Ok(value.to_bits()));
        }
    }
}
