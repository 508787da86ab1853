//! The layers in order of precedence, and where a value came from. What a value must look like is in `resolve`.

use std::fmt;
use std::path::PathBuf;

use super::{ConfigError, Input};

/// Where the value in force came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Environment,
    /// A flag of this command line.
    Flag,
}

/// Everything that was said, by who said it.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// What the flags say.
    pub flags: Input,
    /// What the environment says.
    pub environment: Input,
    /// What the file says.
    pub file: Input,
    /// The name of that file, for messages.
    pub file_name: Option<PathBuf>,
}

/// A value that somebody gave, with who that was.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
    /// How its giver calls it: `--listen`, `SOCKMETER_LISTEN` or `sockmeter.toml: listen`.
    pub(super) place: String,
}

impl<T: fmt::Debug> Found<T> {
    /// The error for a value that cannot be used.
    pub(super) fn wrong(&self, wanted: impl fmt::Display) -> ConfigError {
        ConfigError::new(format!("{} is {:?}, wanted {wanted}", self.place, self.value))
    }
}

impl Layers {
    /// The layers, the strongest first.
    pub(super) fn strongest_first(&self) -> [(Origin, &Input); 3] {
        [(Origin::Flag, &self.flags), (Origin::Environment, &self.environment), (Origin::File, &self.file)]
    }

    /// The strongest layer's value of a key.
    pub(super) fn pick<T>(&self, key: &str, get: impl Fn(&Input) -> Option<T>) -> Option<Found<T>> {
        self.strongest_first()
            .into_iter()
            .find_map(|(origin, input)| get(input).map(|value| Found { value, origin, place: self.place(origin, key) }))
    }

    /// How the giver of a value calls its key.
    pub(super) fn place(&self, origin: Origin, key: &str) -> String {
        match origin {
            Origin::Flag => format!("--{}", flag_of(key)),
            Origin::Environment => format!("SOCKMETER_{}", flag_of(key).replace('-', "_").to_uppercase()),
            Origin::File => match &self.file_name {
                Some(name) => format!("{}: {key}", name.display()),
                None => key.to_owned(),
            },
            Origin::Default => format!("the default of {key}"),
        }
    }
}

/// The flag that sets a key: the keys of a service are set by `--service`, `--routes` and `--upstream`.
fn flag_of(key: &str) -> String {
    let last = key.rsplit_once('.').map_or(key, |(_, last)| last);
    match (key.split_once('.'), last) {
        (Some(("service", _)), "ports") => "service".to_owned(),
        (Some(("upstream", _)), _) => "upstream".to_owned(),
        _ => last.replace('_', "-"),
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}
