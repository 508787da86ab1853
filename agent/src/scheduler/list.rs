//! The lists of jobs and nodes, read while they come: what is wanted of an element is handed on at once, and nothing of it
//! stays. Which fields an element has is the scheduler's API; what is missing, unknown or of a wrong type here is no error.

use std::fmt;
use std::io::Read;

use ring::digest::{SHA256, digest};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::api::{Broken, Cut, Part, Shape};
use crate::model::jobs::{Job, Key};

/// Reads `{"jobs":[...]}` and hands each job on; says how many elements were none, or had a field that was not what it should
/// be. Such a field is missing.
///
/// # Errors
/// When it is none or breaks off; what came before was handed on.
pub fn jobs(from: impl Read, mut each: impl FnMut(&Job)) -> Result<u64, Broken> {
    read(from, "jobs", &mut |element: &Element| each(&element.job()))
}

/// Reads `{"nodes":[...]}` and hands the status of each node on; says what `jobs` says.
///
/// # Errors
/// As `jobs`.
pub fn nodes(from: impl Read, mut each: impl FnMut(Option<&str>)) -> Result<u64, Broken> {
    read(from, "nodes", &mut |element: &Element| each(element.status.as_deref()))
}

fn read(from: impl Read, name: &'static str, each: &mut dyn FnMut(&Element)) -> Result<u64, Broken> {
    let mut json = serde_json::Deserializer::from_reader(std::io::BufReader::with_capacity(64 << 10, Cut::new(from)));
    let wrong = Outer { name, each }.deserialize(&mut json)?;
    json.end()?;
    Ok(wrong)
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
    /// One of them was not what it should be.
    is_wrong: bool,
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

impl Shape for Element {
    fn object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut element = Self::default();
        while let Some(key) = object.next_key::<String>()? {
            let field = match key.as_str() {
                "id" => &mut element.id,
                "status" => &mut element.status,
                "queue" => &mut element.queue,
                "priority" => &mut element.priority,
                "engine" => &mut element.engine,
                "created_at" => &mut element.created_at,
                "started_at" => &mut element.started_at,
                "completed_at" => &mut element.completed_at,
                _ => {
                    object.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let found = object.next_value::<Part<String>>()?.get();
            element.is_wrong |= found.is_err();
            *field = found.unwrap_or_default();
        }
        Ok(Some(element))
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
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<u64, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Outer<'_> {
    type Value = u64;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "an object with a list \"{}\"", self.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<u64, A::Error> {
        let mut wrong = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.name {
                wrong = Some(map.next_value_seed(List(&mut *self.each))?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        wrong.ok_or_else(|| serde::de::Error::missing_field(self.name))
    }
}

struct List<'a>(&'a mut dyn FnMut(&Element));

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = u64;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<u64, D::Error> {
        from.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = u64;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list or null")
    }

    fn visit_none<E>(self) -> Result<u64, E> {
        Ok(0)
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<u64, D::Error> {
        from.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<u64, A::Error> {
        let mut wrong = 0;
        while let Some(element) = list.next_element::<Part<Element>>()? {
            if let Part::Is(element) = element {
                wrong += u64::from(element.is_wrong);
                (self.0)(&element);
            } else {
                wrong += 1;
            }
        }
        Ok(wrong)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn all(text: &[u8]) -> Vec<Job> {
        let (found, wrong) = all_and_wrong(text);
        assert_eq!(wrong, 0);
        found
    }

    fn all_and_wrong(text: &[u8]) -> (Vec<Job>, u64) {
        let mut found = Vec::new();
        let wrong = jobs(text, |job| found.push(job.clone())).unwrap();
        (found, wrong)
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
        for text in ["", "{}", "[]", "{\"jobs\":7}", "{\"jobs\":[{}]", "{\"jobs\":[]}x"] {
            assert!(jobs(text.as_bytes(), |_| ()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_field_is_missing_and_what_is_no_job_is_left_out() {
        for wrong in ["7", "-1.5", "1e999", "true", "[]", "[{\"id\":\"x\"}]", "{\"id\":{}}", "{}"] {
            for field in ["id", "queue", "priority", "created_at", "started_at", "completed_at"] {
                let text = format!(
                    "{{\"jobs\":[{{\"id\":\"1\",\"status\":\"running\"}},{{\"status\":\"queued\",\"{field}\":{wrong},\
                     \"engine\":\"ffmpeg\"}},{{\"id\":\"3\"}}]}}"
                );
                let (found, count) = all_and_wrong(text.as_bytes());
                let (status, engine) = (Some("queued".to_owned()), Some("ffmpeg".to_owned()));
                let second = Job { status, engine, ..Job::default() };
                assert_eq!((found.len(), &found[1], found[2].key), (3, &second, Some(key("3"))), "{field} {wrong}");
                assert_eq!(count, 1, "{field} {wrong}");
            }
            if !wrong.starts_with('{') {
                let (found, count) = all_and_wrong(format!("{{\"jobs\":[{wrong},null,{{\"id\":\"3\"}}]}}").as_bytes());
                assert_eq!(found.iter().map(|job| job.key).collect::<Vec<_>>(), [Some(key("3"))], "{wrong}");
                assert_eq!(count, 2, "{wrong}");
            }
        }
        let mut statuses = Vec::new();
        let list = br#"{"nodes":[{"status":7},7,{"status":"busy","id":[]},{}]}"#.as_slice();
        let wrong = nodes(list, |status| statuses.push(status.map(str::to_owned))).unwrap();
        assert_eq!((statuses, wrong), (vec![None, Some("busy".to_owned()), None], 3));
    }

    #[test]
    fn a_list_that_is_nested_without_end_is_refused_in_bounded_memory() {
        let text = format!("{{\"jobs\":[{{\"parameters\":{}", "[".repeat(20_000_000));
        let mut refused = None;
        let used = allocation_counter::measure(|| refused = jobs(text.as_bytes(), |_| ()).err());
        let wanted = "the answer is not the list that is wanted: more than 1000 levels deep";
        assert_eq!(refused.map(|error| error.to_string()).as_deref(), Some(wanted));
        assert!(used.bytes_max < 200_000, "{} bytes were in use at once", used.bytes_max);
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
        let used = allocation_counter::measure(|| assert_eq!(jobs(made, |_| count += 1).unwrap(), 0));
        assert_eq!(count, 80_000);
        assert!(used.bytes_max < 200_000, "{} bytes were in use at once", used.bytes_max);
    }
}
