//! The lists of jobs and nodes, read while they come: what is wanted of an element is handed on at once, and nothing of it
//! stays. Which fields an element has is the scheduler's API; what is missing or unknown here is no error.

use std::fmt;
use std::io::Read;

use ring::digest::{SHA256, digest};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::{Broken, Cut};
use crate::model::jobs::{Job, Key};

/// Reads `{"jobs":[...]}` and hands each job on.
///
/// # Errors
/// When it is none or breaks off; what came before was handed on.
pub fn jobs(from: impl Read, mut each: impl FnMut(&Job)) -> Result<(), Broken> {
    read(from, "jobs", &mut |element: &Element| each(&element.job()))
}

/// Reads `{"nodes":[...]}` and hands the status of each node on.
///
/// # Errors
/// As `jobs`.
pub fn nodes(from: impl Read, mut each: impl FnMut(Option<&str>)) -> Result<(), Broken> {
    read(from, "nodes", &mut |element: &Element| each(element.status.as_deref()))
}

fn read(from: impl Read, name: &'static str, each: &mut dyn FnMut(&Element)) -> Result<(), Broken> {
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::with_capacity(64 << 10, Cut::new(from)));
    Outer { name, each }.deserialize(&mut json)?;
    json.end()?;
    Ok(())
}

/// What an element says of itself.
#[derive(Debug, Default)]
struct Element {
    id: Option<String>,
    status: Option<String>,
    queue: Option<String>,
    priority: Option<String>,
    engine: Option<String>,
    created_at: Option<String>,
    started_at: Option<String>,
    completed_at: Option<String>,
}

impl Element {
    fn job(&self) -> Job {
        Job {
            key: self.id.as_deref().filter(|id| !id.is_empty()).map(key),
            status: self.status.clone(),
            queue: self.queue.clone(),
            priority: self.priority.clone(),
            engine: self.engine.clone(),
            created: moment(self.created_at.as_deref()),
            started: moment(self.started_at.as_deref()),
            completed: moment(self.completed_at.as_deref()),
        }
    }
}

fn key(id: &str) -> Key {
    let mut key = Key::default();
    for (to, from) in key.iter_mut().zip(digest(&SHA256, id.as_bytes()).as_ref()) {
        *to = *from;
    }
    key
}

/// RFC 3339. Go's zero time (the year 1) is no time.
fn moment(text: Option<&str>) -> Option<i64> {
    let moment = OffsetDateTime::parse(text?, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos()).ok().filter(|moment| *moment > 0)
}

/// `{"count":N,"jobs":[...]}`; the list may be `null`.
struct Outer<'a> {
    name: &'static str,
    each: &'a mut dyn FnMut(&Element),
}

impl<'de> DeserializeSeed<'de> for Outer<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Outer<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "an object with a list \"{}\"", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_there = false;
        while let Some(Text(Some(key))) = map.next_key()? {
            if key == self.name {
                is_there = true;
                map.next_value_seed(List(&mut *self.each))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if is_there { Ok(()) } else { Err(serde::de::Error::missing_field(self.name)) }
    }
}

struct List<'a>(&'a mut dyn FnMut(&Element));

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list or null")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(element) = list.next_element()? {
            (self.0)(&element);
        }
        Ok(())
    }
}

impl<'de> serde::Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(ElementVisitor)
    }
}

struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Element, A::Error> {
        let mut element = Element::default();
        while let Some(Text(key)) = map.next_key()? {
            let field = match key.as_deref().unwrap_or_default() {
                "id" => &mut element.id,
                "status" => &mut element.status,
                "queue" => &mut element.queue,
                "priority" => &mut element.priority,
                "engine" => &mut element.engine,
                "created_at" => &mut element.created_at,
                "started_at" => &mut element.started_at,
                "completed_at" => &mut element.completed_at,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let Text(text) = map.next_value()?;
            *field = text;
        }
        Ok(element)
    }
}

/// A string or `null`. What is not UTF-8 in it is replaced, instead of being an error as serde's own strings have it.
struct Text(Option<String>);

impl<'de> serde::Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_option(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a string or null")
    }

    fn visit_none<E>(self) -> Result<Text, E> {
        Ok(Text(None))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Text, D::Error> {
        from.deserialize_bytes(self)
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
        Ok(Text(Some(String::from_utf8_lossy(bytes).into_owned())))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn all(text: &[u8]) -> Vec<Job> {
        let mut found = Vec::new();
        jobs(text, |job| found.push(job.clone())).unwrap();
        found
    }

    #[test]
    fn a_job_with_all_its_fields() {
        let text = br#"{"count":1,"jobs":[{"id":"1","sequence_number":7,"parameters":{"a":[{"id":"no"}]},"status":"completed",
            "queue":"live","priority":"high","engine":"ffmpeg","created_at":"2026-01-02T03:04:05.123456789+01:00",
            "started_at":"2026-01-02T02:04:06Z","completed_at":null,"logs":"line\nline","state_transitions":[{"from":"x"}]}]}
"#;
        let found = all(text);
        assert_eq!(
            found,
            [Job {
                key: Some(key("1")),
                status: Some("completed".to_owned()),
                queue: Some("live".to_owned()),
                priority: Some("high".to_owned()),
                engine: Some("ffmpeg".to_owned()),
                created: Some(1_767_319_445_123_456_789),
                started: Some(1_767_319_446_000_000_000),
                completed: None,
            }]
        );
    }

    #[test]
    fn what_is_missing_null_or_odd_is_no_error() {
        assert_eq!(all(br#"{"count":0,"jobs":null}"#), []);
        assert_eq!(all(br#"{"jobs":[],"more":{"jobs":[{}]}}"#), []);
        assert_eq!(all(br#"{"jobs":[{}]}"#), [Job::default()]);
        let odd = br#"{"jobs":[{"id":"","status":null,"created_at":"0001-01-01T00:00:00Z","started_at":"soon"}]}"#;
        assert_eq!(all(odd), [Job::default()]);
    }

    #[test]
    fn text_that_is_no_utf_8_is_taken_with_replacements() {
        let found = all(b"{\"jobs\":[{\"status\":\"a\xff\\ud800\\n\\\"\"}],\"\xfe\":1}");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].status.as_deref().unwrap().trim_end_matches("\n\"").chars().next(), Some('a'));
    }

    #[test]
    fn what_is_no_list_is_refused_and_so_is_half_of_one() {
        for text in ["", "{}", "[]", "{\"jobs\":7}", "{\"jobs\":[{\"id\":5}]}", "{\"jobs\":[{}]", "{\"jobs\":[]}x"] {
            assert!(jobs(text.as_bytes(), |_| ()).is_err(), "{text}");
        }
    }

    #[test]
    fn eighty_thousand_jobs_with_their_logs_are_read_as_they_come() {
        /// A list that is made while it is read.
        struct Made {
            left: u32,
            piece: std::io::Cursor<Vec<u8>>,
        }
        impl Read for Made {
            fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
                loop {
                    let read = self.piece.read(into)?;
                    if read > 0 || self.left == 0 {
                        return Ok(read);
                    }
                    self.left -= 1;
                    let end = if self.left == 0 { "]}" } else { "," };
                    let job = format!(
                        "{{\"id\":\"{}\",\"status\":\"queued\",\"logs\":\"{}\"}}{end}",
                        self.left,
                        "x".repeat(5_000)
                    );
                    self.piece = std::io::Cursor::new(job.into_bytes());
                }
            }
        }
        let made = Made { left: 80_000, piece: std::io::Cursor::new(b"{\"count\":80000,\"jobs\":[".to_vec()) };
        let mut count = 0;
        let used = allocation_counter::measure(|| jobs(made, |_| count += 1).unwrap());
        assert_eq!(count, 80_000);
        assert!(used.bytes_max < 200_000, "{} bytes were in use at once", used.bytes_max);
    }
}
