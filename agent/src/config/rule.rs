//! A rule of what is a job, as it is written in the configuration and as it is used. What it is matched with is `owner`'s.

use std::fmt;

use regex_lite::Regex;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

/// A rule as it is written: a text, or a table with one of the keys and perhaps a pattern.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleInput {
    /// Pattern of the paths of cgroups.
    Text(String),
    /// Anything else.
    Table(RuleTable),
}

/// A rule that is a table.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleTable {
    /// Name of an environment variable.
    pub environment: Option<String>,
    /// Pattern of its value.
    pub pattern: Option<String>,
    /// Pattern of command lines.
    #[serde(alias = "command-line")]
    pub command_line: Option<String>,
    /// Pattern of the names of systemd units.
    pub unit: Option<String>,
    /// Pattern of `NAMESPACE/NAME` of pods.
    pub pod: Option<String>,
}

/// A rule that can be used: every pattern is one, and has a group `job`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobRule {
    /// Pattern of the paths of cgroups.
    Cgroup(String),
    /// An environment variable of a process.
    Environment {
        /// Its name.
        name: String,
        /// Pattern of its value; without one the value is the job's id.
        pattern: Option<String>,
    },
    /// Pattern of the command line of a process.
    CommandLine(String),
    /// Pattern of the name of a systemd unit.
    Unit(String),
    /// Pattern of `NAMESPACE/NAME` of a pod.
    Pod(String),
}

impl JobRule {
    /// Takes what is written; the error says what was wanted instead.
    pub(super) fn new(written: &RuleInput) -> Result<Self, &'static str> {
        let rule = match written {
            RuleInput::Text(text) => Self::Cgroup(text.clone()),
            RuleInput::Table(table) => Self::of_table(table.clone())?,
        };
        let pattern = match &rule {
            Self::Cgroup(pattern) | Self::CommandLine(pattern) | Self::Unit(pattern) | Self::Pod(pattern) => {
                Some(pattern)
            }
            Self::Environment { name, pattern } => {
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err("the name of an environment variable");
                }
                pattern.as_ref()
            }
        };
        let has_group = |pattern: &String| {
            Regex::new(pattern).is_ok_and(|rule| rule.capture_names().flatten().any(|name| name == "job"))
        };
        if pattern.is_none_or(has_group) { Ok(rule) } else { Err("a regular expression with a group named job") }
    }

    fn of_table(table: RuleTable) -> Result<Self, &'static str> {
        match table {
            RuleTable { environment: Some(name), pattern, command_line: None, unit: None, pod: None } => {
                Ok(Self::Environment { name, pattern })
            }
            RuleTable { environment: None, pattern: None, command_line: Some(pattern), unit: None, pod: None } => {
                Ok(Self::CommandLine(pattern))
            }
            RuleTable { environment: None, pattern: None, command_line: None, unit: Some(pattern), pod: None } => {
                Ok(Self::Unit(pattern))
            }
            RuleTable { environment: None, pattern: None, command_line: None, unit: None, pod: Some(pattern) } => {
                Ok(Self::Pod(pattern))
            }
            _ => Err("one of environment, command_line, unit and pod, and pattern with environment only"),
        }
    }

    /// As it would be written.
    pub(super) fn value(&self) -> Value {
        let table = |entries: &[(&str, &String)]| {
            let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), Value::from((*value).clone())));
            Value::Table(entries.collect::<Table>())
        };
        match self {
            Self::Cgroup(pattern) => pattern.clone().into(),
            Self::Environment { name, pattern: None } => table(&[("environment", name)]),
            Self::Environment { name, pattern: Some(pattern) } => table(&[("environment", name), ("pattern", pattern)]),
            Self::CommandLine(pattern) => table(&[("command_line", pattern)]),
            Self::Unit(pattern) => table(&[("unit", pattern)]),
            Self::Pod(pattern) => table(&[("pod", pattern)]),
        }
    }
}

impl fmt::Display for RuleInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = match self {
            Self::Text(text) => return write!(f, "{text:?}"),
            Self::Table(table) => table,
        };
        let RuleTable { environment, pattern, command_line, unit, pod } = table;
        let entries = [
            ("environment", environment),
            ("pattern", pattern),
            ("command_line", command_line),
            ("unit", unit),
            ("pod", pod),
        ];
        let entries = entries.into_iter().filter_map(|(key, value)| Some(format!("{key} = {:?}", value.as_ref()?)));
        let entries: Vec<String> = entries.collect();
        if entries.is_empty() { f.write_str("{}") } else { write!(f, "{{ {} }}", entries.join(", ")) }
    }
}

/// By hand, because what serde says of an untagged enum names neither the key nor the place.
impl<'de> Deserialize<'de> for RuleInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RuleInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of patterns and tables")
            }

            fn visit_str<E>(self, text: &str) -> Result<RuleInput, E> {
                Ok(RuleInput::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RuleInput, A::Error> {
                RuleTable::deserialize(MapAccessDeserializer::new(map)).map(RuleInput::Table)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
