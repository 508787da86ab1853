//! Reads one line of a page in either format, leniently. What lines make together is in `gather`.

use std::borrow::Cow;

use crate::exposition::push_float;

/// A line that could be read.
#[derive(Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// Blank, or a comment without meaning.
    Nothing,
    /// `# HELP`; the text is unescaped.
    Help(&'a str, Cow<'a, str>),
    /// `# TYPE`.
    Type(&'a str, Declared),
    /// `# UNIT`.
    Unit(&'a str, &'a str),
    /// A value.
    Sample(Sample<'a>),
}

/// The type of a `# TYPE` line; `untyped` is the text format's word for `unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Declared {
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    StateSet,
    Info,
    Unknown,
}

/// A sample as it stands; texts are valid in both formats.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Labels<'a>,
    pub(super) value: Cow<'a, str>,
    /// Milliseconds since 1970.
    pub(super) time: Option<i64>,
    pub(super) exemplar: Option<Exemplar<'a>>,
}

/// Label names and unescaped values, in the order of the line; no name comes twice.
pub(super) type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// An example of what was counted (OpenMetrics 1.0, "Exemplars"); the time is in seconds.
#[derive(Debug, PartialEq)]
pub(super) struct Exemplar<'a> {
    pub(super) labels: Labels<'a>,
    pub(super) value: Cow<'a, str>,
    pub(super) time: Option<Cow<'a, str>>,
}

/// Reads a line without its line feed; `None` if it cannot be understood.
///
/// `seconds` says that time stamps are seconds, as in OpenMetrics, and not milliseconds.
pub(super) fn read(line: &[u8], seconds: bool) -> Option<Line<'_>> {
    let line = std::str::from_utf8(line).ok()?.trim_matches([' ', '\t', '\r']);
    match line.strip_prefix('#') {
        Some(comment) => read_comment(comment.trim_start()),
        None if line.is_empty() => Some(Line::Nothing),
        None => read_sample(line, seconds).map(Line::Sample),
    }
}

fn read_comment(comment: &str) -> Option<Line<'_>> {
    let (word, rest) = comment.split_once([' ', '\t']).unwrap_or((comment, ""));
    if !matches!(word, "HELP" | "TYPE" | "UNIT") {
        return Some(Line::Nothing);
    }
    let rest = rest.trim_start();
    let (name, text) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    if !is_metric_name(name) {
        return None;
    }
    match word {
        "HELP" => Some(Line::Help(name, unescape(text))),
        "UNIT" => is_label_name(text.trim()).then_some(Line::Unit(name, text.trim())),
        _ => Some(Line::Type(name, declared(text.trim())?)),
    }
}

fn declared(word: &str) -> Option<Declared> {
    Some(match word {
        "counter" => Declared::Counter,
        "gauge" => Declared::Gauge,
        "histogram" => Declared::Histogram,
        "gaugehistogram" => Declared::GaugeHistogram,
        "summary" => Declared::Summary,
        "stateset" => Declared::StateSet,
        "info" => Declared::Info,
        "unknown" | "untyped" => Declared::Unknown,
        _ => return None,
    })
}

fn read_sample(line: &str, seconds: bool) -> Option<Sample<'_>> {
    let end = line.find(['{', ' ', '\t'])?;
    let (name, rest) = line.split_at(end);
    if !is_metric_name(name) {
        return None;
    }
    let rest = rest.trim_start();
    let (labels, rest) = if rest.starts_with('{') { read_labels(rest)? } else { (Vec::new(), rest) };
    let (values, exemplar) = match rest.split_once('#') {
        Some((values, exemplar)) => (values, Some(read_exemplar(exemplar.trim_start())?)),
        None => (rest, None),
    };
    let mut words = values.split_ascii_whitespace();
    let value = number(words.next()?)?;
    let time = match words.next() {
        Some(text) => Some(if seconds { milliseconds(text)? } else { text.parse().ok()? }),
        None => None,
    };
    words.next().is_none().then_some(Sample { name, labels, value, time, exemplar })
}

fn read_exemplar(text: &str) -> Option<Exemplar<'_>> {
    let (labels, rest) = read_labels(text)?;
    let mut words = rest.split_ascii_whitespace();
    let value = number(words.next()?)?;
    let time = match words.next() {
        Some(text) => Some(number(text).filter(|text| !text.contains(['N', 'I']))?),
        None => None,
    };
    words.next().is_none().then_some(Exemplar { labels, value, time })
}

/// Reads from the opening brace; gives the rest behind the closing one. A comma before it is allowed.
fn read_labels(text: &str) -> Option<(Labels<'_>, &str)> {
    let mut rest = text.strip_prefix('{')?.trim_start();
    let mut labels = Labels::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end();
        let after = after.trim_start().strip_prefix('"')?;
        let end = closing_quote(after)?;
        // Two bytes of underscore are Prometheus's own; `__name__` would replace the name.
        if !is_label_name(name) || name.starts_with("__") || labels.iter().any(|(known, _)| *known == name) {
            return None;
        }
        labels.push((name, unescape(after.get(..end)?)));
        rest = after.get(end + 1..)?.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return None,
        }
    }
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        closes
    })
}

/// Undoes the three escapes. Any other backslash stands for itself, as Prometheus reads it: some exporters write paths so.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escape)) = rest.split_once('\\') {
        out.push_str(plain);
        let (char, skipped) = match escape.as_bytes().first() {
            Some(b'n') => ('\n', 1),
            Some(b'"') => ('"', 1),
            Some(b'\\') => ('\\', 1),
            _ => ('\\', 0),
        };
        out.push(char);
        rest = escape.get(skipped..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

/// A number in a spelling that both formats know, with all its digits.
fn number(text: &str) -> Option<Cow<'_, str>> {
    let value: f64 = text.parse().ok()?;
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    match (is_decimal, value.is_finite()) {
        (true, true) => Some(Cow::Borrowed(text)),
        // Prometheus refuses what is out of a float's range, and the page with it.
        (true, false) => None,
        (false, _) => {
            let mut out = String::new();
            push_float(&mut out, value);
            Some(Cow::Owned(out))
        }
    }
}

fn milliseconds(seconds: &str) -> Option<i64> {
    let seconds: f64 = seconds.parse().ok()?;
    format!("{:.0}", seconds * 1000.0).parse().ok()
}

fn is_metric_name(name: &str) -> bool {
    is_name(name, |byte| byte == b':')
}

fn is_label_name(name: &str) -> bool {
    is_name(name, |_| false)
}

fn is_name(name: &str, also: impl Fn(u8) -> bool) -> bool {
    !name.starts_with(|char: char| char.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || also(byte))
}

#[cfg(test)]
mod tests {
    use super::{Declared, Line, Sample, read};

    fn sample<'a>(name: &'a str, labels: &[(&'a str, &'a str)], value: &'a str, time: Option<i64>) -> Line<'a> {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).into())).collect();
        Line::Sample(Sample { name, labels, value: value.into(), time, exemplar: None })
    }

    #[test]
    fn lines_that_can_be_read() {
        let table = [
            ("", Line::Nothing),
            ("   \t\r", Line::Nothing),
            ("# a remark", Line::Nothing),
            ("#", Line::Nothing),
            ("# EOF", Line::Nothing),
            ("# HELP x a\\\\b\\nc", Line::Help("x", "a\\b\nc".into())),
            ("# HELP x", Line::Help("x", "".into())),
            ("#TYPE  x   untyped ", Line::Type("x", Declared::Unknown)),
            ("# UNIT x_bytes bytes", Line::Unit("x_bytes", "bytes")),
            ("x 1", sample("x", &[], "1", None)),
            ("a:b{}1", sample("a:b", &[], "1", None)),
            (
                "\tx { a = \"1\" , b=\"} \\\" #\", } 1e+06 1700000000123",
                sample("x", &[("a", "1"), ("b", "} \" #")], "1e+06", Some(1_700_000_000_123)),
            ),
            ("x{a=\"C:\\dir\"} inf", sample("x", &[("a", "C:\\dir")], "+Inf", None)),
            ("x nan", sample("x", &[], "NaN", None)),
            ("x 18446744073709551615", sample("x", &[], "18446744073709551615", None)),
        ];
        for (text, expected) in table {
            assert_eq!(read(text.as_bytes(), false), Some(expected), "{text:?}");
        }
        assert_eq!(read(b"x 1 1.5", true), Some(sample("x", &[], "1", Some(1500))));
    }

    #[test]
    fn lines_that_cannot() {
        let list = [
            "x",
            "1x 1",
            "x{ 1",
            "x{a} 1",
            "x{a=1} 1",
            "x{a=\"1} 1",
            "x{a=\"1\" b=\"2\"} 1",
            "x{a=\"1\",a=\"2\"} 1",
            "x{,} 1",
            "x{__name__=\"y\"} 1",
            "x{\"utf.8\"} 1",
            "x 1 1.5",
            "x 1 2 3",
            "x 0x10",
            "x 1_000",
            "x 1e999",
            "x one",
            "x-y 1",
            "# TYPE x",
            "# TYPE x thing",
            "# TYPE 1x counter",
            "# UNIT x",
            "# HELP",
            "x 1 # {a=\"1\"}",
            "x 1 # nothing",
            "<html>",
            "{\"error\":\"not found\"}",
        ];
        for text in list {
            assert_eq!(read(text.as_bytes(), false), None, "{text:?}");
        }
        assert_eq!(read(b"x{a=\"\xff\"} 1", false), None);
    }
}
