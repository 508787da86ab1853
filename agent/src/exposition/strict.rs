//! A parser for tests that refuses whatever a strict reader of either format may refuse. Nothing is repaired here.
//!
//! Rules: Prometheus "Exposition formats" (text 0.0.4) and OpenMetrics 1.0, with the checks on types, clashing names and
//! grouping that the reference parsers make.
#![expect(clippy::float_cmp, reason = "equality is what is tested")]

use std::collections::{BTreeMap, BTreeSet};

use super::Format;

/// One family as it was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Family {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) help: Option<String>,
    pub(crate) unit: Option<String>,
    pub(crate) samples: Vec<Sample>,
}

/// One sample as it was read, without its time stamp and exemplar.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

type Outcome<T> = Result<T, String>;

/// Reads a page; the error names the line.
pub(crate) fn parse(page: &[u8], format: Format) -> Outcome<Vec<Family>> {
    let text = std::str::from_utf8(page).map_err(|error| error.to_string())?;
    let open = format == Format::OpenMetrics;
    let body = if open { text.strip_suffix("# EOF\n").ok_or("no # EOF at the end")? } else { text };
    if !body.is_empty() && !body.ends_with('\n') {
        return Err("no line feed at the end".into());
    }
    let mut families: Vec<Family> = Vec::new();
    for line in body.lines() {
        read_line(line, open, &mut families).map_err(|problem| format!("{problem}: {line}"))?;
    }
    let mut names = BTreeSet::new();
    let mut series = BTreeSet::new();
    for family in &families {
        check(family, open, &mut series).map_err(|problem| format!("{problem}: family {}", family.name))?;
        let mut own: BTreeSet<String> =
            suffixes(&family.kind, open).iter().map(|s| format!("{}{s}", family.name)).collect();
        own.insert(family.name.clone());
        for name in own {
            if !names.insert(name.clone()) {
                return Err(format!("clashing name: {name}"));
            }
        }
    }
    Ok(families)
}

fn suffixes(kind: &str, open: bool) -> &'static [&'static str] {
    match (kind, open) {
        ("counter", true) => &["_total", "_created"],
        ("histogram", true) => &["_bucket", "_sum", "_count", "_created"],
        ("histogram", false) => &["_bucket", "_sum", "_count"],
        ("summary", true) => &["", "_sum", "_count", "_created"],
        ("summary", false) => &["", "_sum", "_count"],
        ("gaugehistogram", true) => &["_bucket", "_gsum", "_gcount"],
        ("info", true) => &["_info"],
        _ => &[""],
    }
}

fn read_line(line: &str, open: bool, families: &mut Vec<Family>) -> Outcome<()> {
    if line.is_empty() {
        return Err("blank line".into());
    }
    let Some(comment) = line.strip_prefix('#') else { return read_sample(line, open, families) };
    let mut words = comment.strip_prefix(' ').ok_or("comment without blank")?.splitn(3, ' ');
    let (word, name) = (words.next().unwrap_or_default(), words.next().ok_or("comment without name")?);
    let rest = words.next().unwrap_or_default();
    check_name(name, true)?;
    if families.last().is_none_or(|family| family.name != name) {
        if families.iter().any(|family| family.name == name) {
            return Err("family in two places".into());
        }
        families.push(Family { name: name.into(), ..Family::default() });
    }
    let family = families.last_mut().ok_or("unreachable")?;
    if !family.samples.is_empty() {
        return Err("metadata after samples".into());
    }
    let is_first = match word {
        "HELP" => family.help.replace(unescape(rest, open)?).is_none(),
        "UNIT" if open => family.unit.replace(rest.into()).is_none(),
        "TYPE" => std::mem::replace(&mut family.kind, rest.into()).is_empty(),
        _ => return Err("unknown comment".into()),
    };
    let text = ["counter", "gauge", "histogram", "summary", "untyped"];
    let open_metrics = ["counter", "gauge", "histogram", "summary", "unknown", "gaugehistogram", "stateset", "info"];
    if word == "TYPE" && !(if open { open_metrics.contains(&rest) } else { text.contains(&rest) }) {
        return Err("unknown type".into());
    }
    if is_first { Ok(()) } else { Err("metadata twice".into()) }
}

fn read_sample(line: &str, open: bool, families: &mut Vec<Family>) -> Outcome<()> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    check_name(name, true)?;
    let (labels, rest) = if rest.starts_with('{') { read_labels(rest)? } else { (Vec::new(), rest) };
    let (values, exemplar) = match rest.split_once(" # ") {
        Some((values, exemplar)) if open => (values, Some(exemplar)),
        _ => (rest, None),
    };
    let mut words = values.strip_prefix(' ').ok_or("no blank before the value")?.split(' ');
    let value = number(words.next().unwrap_or_default())?;
    if let Some(time) = words.next() {
        if open { number(time).map(drop)? } else { time.parse::<i64>().map(drop).map_err(|error| error.to_string())? }
    }
    if words.next().is_some() {
        return Err("too many words".into());
    }
    let belongs = |family: &Family| {
        suffixes(&family.kind, open).iter().any(|suffix| name.strip_suffix(suffix) == Some(&family.name))
    };
    if !families.last().is_some_and(belongs) {
        if families.iter().any(|family| family.name == name) {
            return Err("family in two places".into());
        }
        families.push(Family { name: name.into(), ..Family::default() });
    }
    let family = families.last_mut().ok_or("unreachable")?;
    if let Some(exemplar) = exemplar {
        let (pairs, rest) = read_labels(exemplar)?;
        let mut numbers = rest.trim_start().split(' ');
        number(numbers.next().unwrap_or_default())?;
        numbers.next().map_or(Ok(0.0), number)?;
        let length: usize = pairs.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        if length > 128 || !(name.ends_with("_total") || name.ends_with("_bucket")) {
            return Err("wrong exemplar".into());
        }
    }
    family.samples.push(Sample { name: name.into(), labels, value });
    Ok(())
}

fn read_labels(text: &str) -> Outcome<(Vec<(String, String)>, &str)> {
    let mut rest = text.strip_prefix('{').ok_or("no brace")?;
    let mut labels: Vec<(String, String)> = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        if !labels.is_empty() {
            rest = rest.strip_prefix(',').ok_or("no comma")?;
        }
        let (name, after) = rest.split_once("=\"").ok_or("no label value")?;
        check_name(name, false)?;
        let mut escaped = false;
        let end = after.find(|char| {
            let ends = char == '"' && !escaped;
            escaped = char == '\\' && !escaped;
            ends
        });
        let (raw, _) = after.split_at(end.ok_or("no closing quote")?);
        // Quotes are escaped in values in both formats.
        labels.push((name.into(), unescape(raw, true)?));
        rest = &after[raw.len() + 1..];
    }
}

fn unescape(raw: &str, quotes: bool) -> Outcome<String> {
    let mut out = String::new();
    let mut chars = raw.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some('n') => out.push('\n'),
                Some('"') if quotes => out.push('"'),
                other => return Err(format!("escape of {other:?}")),
            },
            '"' if quotes => return Err("bare quote".into()),
            _ => out.push(char),
        }
    }
    Ok(out)
}

fn check_name(name: &str, colon: bool) -> Outcome<()> {
    let fits = |char: char| char.is_ascii_alphanumeric() || char == '_' || (colon && char == ':');
    let valid = name.chars().all(fits) && !name.starts_with(|char: char| char.is_ascii_digit()) && !name.is_empty();
    if valid { Ok(()) } else { Err(format!("name {name:?}")) }
}

fn number(text: &str) -> Outcome<f64> {
    let plain = text.chars().all(|char| char.is_ascii_digit() || matches!(char, '+' | '-' | '.' | 'e' | 'E'));
    if !plain && !["+Inf", "-Inf", "NaN"].contains(&text) {
        return Err(format!("number {text:?}"));
    }
    text.parse().map_err(|_| format!("number {text:?}"))
}

fn check(family: &Family, open: bool, series: &mut BTreeSet<(String, Vec<(String, String)>)>) -> Outcome<()> {
    if let Some(unit) = &family.unit
        && (!family.name.ends_with(&format!("_{unit}")) || ["info", "stateset"].contains(&family.kind.as_str()))
    {
        return Err(format!("unit {unit}"));
    }
    let mut groups: BTreeMap<Vec<(String, String)>, Vec<&Sample>> = BTreeMap::new();
    let mut previous = None;
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.sort();
        if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err("label twice".into());
        }
        if !series.insert((sample.name.clone(), labels.clone())) {
            return Err(format!("series twice: {sample:?}"));
        }
        check_value(family, sample, open)?;
        let inner = match family.kind.as_str() {
            "stateset" => family.name.as_str(),
            "summary" if sample.name == family.name => "quantile",
            "histogram" | "gaugehistogram" if sample.name.ends_with("_bucket") => "le",
            _ => "",
        };
        labels.retain(|(name, _)| name != inner);
        if open && previous.as_ref() != Some(&labels) && groups.contains_key(&labels) {
            return Err("samples of one group apart".into());
        }
        groups.entry(labels.clone()).or_default().push(sample);
        previous = Some(labels);
    }
    if family.kind == "histogram" { groups.values().try_for_each(|group| check_histogram(group, open)) } else { Ok(()) }
}

fn label<'a>(sample: &'a Sample, name: &str) -> Option<&'a str> {
    sample.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn check_value(family: &Family, sample: &Sample, open: bool) -> Outcome<()> {
    let suffix = sample.name.strip_prefix(&family.name).unwrap_or_default();
    let counts = ["_total", "_sum", "_count", "_bucket", "_gcount"].contains(&suffix);
    if open && counts && (sample.value.is_nan() || sample.value < 0.0) {
        return Err(format!("value of a counting sample: {sample:?}"));
    }
    if open && ["_bucket", "_count", "_gcount"].contains(&suffix) && sample.value % 1.0 != 0.0 {
        return Err(format!("not an integer: {sample:?}"));
    }
    let is_right = match (family.kind.as_str(), suffix) {
        ("info", _) => sample.value == 1.0,
        ("stateset", _) => label(sample, &family.name).is_some() && (sample.value == 0.0 || sample.value == 1.0),
        ("summary", "") => {
            let quantile = number(label(sample, "quantile").ok_or("no quantile")?)?;
            !open || ((0.0..=1.0).contains(&quantile) && (sample.value.is_nan() || sample.value >= 0.0))
        }
        (_, "_bucket") if family.kind.ends_with("histogram") => {
            number(label(sample, "le").ok_or("no le")?).is_ok_and(|bound| !bound.is_nan())
        }
        _ => true,
    };
    if is_right { Ok(()) } else { Err(format!("value or label of {sample:?}")) }
}

fn check_histogram(group: &[&Sample], open: bool) -> Outcome<()> {
    if !open {
        return Ok(());
    }
    let of = |suffix: &str| group.iter().filter(|sample| sample.name.ends_with(suffix)).collect::<Vec<_>>();
    let buckets = of("_bucket");
    let bounds: Vec<f64> = buckets.iter().filter_map(|sample| number(label(sample, "le")?).ok()).collect();
    let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let cumulated = buckets.windows(2).all(|pair| pair[0].value <= pair[1].value);
    let canonical = buckets.iter().all(|sample| label(sample, "le").is_some_and(|le| le.contains(['.', 'e', 'n'])));
    let (sums, counts) = (of("_sum"), of("_count"));
    let complete = bounds.last() == Some(&f64::INFINITY) && sums.len() == counts.len();
    let counted = counts.iter().all(|count| buckets.last().is_some_and(|last| last.value == count.value));
    let negative = bounds.first().is_some_and(|bound| *bound < 0.0) && !sums.is_empty();
    if rising && cumulated && canonical && complete && counted && !negative { Ok(()) } else { Err("histogram".into()) }
}
