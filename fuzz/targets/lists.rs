//! Lists of pods, jobs and nodes as somebody's API gives them: each is read or refused, in pieces as in one, and what is cut of
//! JSON is the same JSON with its numbers 0 and its long strings shorter. What the lists mean is tested beside their readers.
#![no_main]

use std::io::{self, Read};

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sockmeter::api::Cut;
use sockmeter::{kubernetes, scheduler};

/// Gives so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(self.1);
        self.0.read(&mut into[..most])
    }
}

/// What of a value is passed on.
fn passed(value: Value) -> Value {
    match value {
        Value::Number(_) => Value::from(0),
        Value::Array(list) => list.into_iter().map(passed).collect(),
        Value::Object(object) => object.into_iter().map(|(key, value)| (key, passed(value))).collect(),
        other => other,
    }
}

/// A string may be longer as it is written than as it is read, by what escapes take.
fn has_long_strings(value: &Value) -> bool {
    let is_long = |text: &str| text.len() > 4_096 / 12;
    match value {
        Value::String(text) => is_long(text),
        Value::Array(list) => list.iter().any(has_long_strings),
        Value::Object(object) => object.iter().any(|(key, value)| is_long(key) || has_long_strings(value)),
        _ => false,
    }
}

fn jobs(from: impl Read) -> Option<(Vec<String>, u64)> {
    let mut found = Vec::new();
    let wrong = scheduler::jobs(from, |job| found.push(format!("{job:?}"))).ok()?;
    Some((found, wrong))
}

fn nodes(from: impl Read) -> Option<(Vec<Option<String>>, u64)> {
    let mut found = Vec::new();
    let wrong = scheduler::nodes(from, |status| found.push(status.map(str::to_owned))).ok()?;
    Some((found, wrong))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, text) = (usize::from(input.0) + 1, input.1);
    let mut cut = Vec::new();
    let is_cut = Cut::new(text).read_to_end(&mut cut).is_ok();
    let value: Option<Value> = serde_json::from_slice(text).ok();
    if let Some(value) = value.clone().filter(|value| !has_long_strings(value)) {
        assert!(is_cut);
        assert_eq!(serde_json::from_slice::<Value>(&cut).ok(), Some(passed(value)));
    }
    let page = kubernetes::page(text).ok();
    assert_eq!(page, kubernetes::page(Pieces(text, piece)).ok());
    assert_eq!(jobs(text), jobs(Pieces(text, piece)));
    assert_eq!(nodes(text), nodes(Pieces(text, piece)));
    let Some(page) = page else {
        return;
    };
    // Every element is accounted for.
    let items = value.as_ref().and_then(|value| value.get("items"));
    if let Some(items) = items {
        let count = items.as_array().map_or(0, Vec::len);
        assert_eq!(Ok(count), usize::try_from(page.wrong + page.beyond).map(|others| page.pods.len() + others));
    }
    for (uid, pod) in &page.pods {
        for name in [Some(uid), Some(&pod.name), Some(&pod.namespace), pod.job.as_ref()].into_iter().flatten() {
            assert!(
                (1..=253).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
            );
        }
    }
});
