//! What the operator wants: file, environment and flags on one side, one validated [`Settings`] on the other.
//!
//! How a flag is spelled and explained is in `cli`; what the settings do is in the modules that take them.
//! Precedence is the same for every key: flag, then environment, then file, then default.

mod api;
mod environment;
mod error;
mod file;
mod input;
mod later;
mod layers;
mod pieces;
mod resolve;
mod rule;
mod secret;
mod service;
mod settings;
mod show;
mod wireguard;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use api::{Api, Kubernetes};
pub use error::ConfigError;
pub use input::{Input, JobsInput, KernelInput, LimitsInput, NodeInput, ObserveInput, ServiceInput, WireguardInput};
pub use later::refuse_unavailable;
pub use layers::{Layers, Origin};
pub(crate) use pieces::{named_path, named_ports, named_text};
pub use rule::{JobRule, RuleInput, RuleTable};
pub use secret::Secret;
pub use service::Service;
pub use settings::{
    Access, Effective, Kernel, Limits, Log, LogFormat, LogLevel, Observe, Report, ReportAs, Scope, Settings, TlsFiles,
    Upstream,
};
pub use show::show;
pub use wireguard::PeerNames;

/// Where this run's configuration comes from. Kept by the running agent, so that a reload asks the same places again.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// The configuration file, if one was named.
    pub file: Option<PathBuf>,
    /// What the environment says.
    pub environment: Input,
    /// What the flags say.
    pub flags: Input,
}

impl Configuration {
    /// Takes flags and the process's environment; `SOCKMETER_CONFIG` names the file when no flag does.
    ///
    /// # Errors
    /// When a `SOCKMETER_*` variable that is a key of ours holds a value of the wrong shape.
    pub fn new(
        file: Option<PathBuf>,
        flags: Input,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let (named, environment) = environment::read(variables)?;
        Ok(Self { file: file.or(named), environment, flags })
    }

    /// A configuration that is one file and nothing else, for `config check`.
    pub fn of_file(file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..Self::default() }
    }

    /// Reads the file afresh and puts the layers together, with the origin of every value.
    ///
    /// # Errors
    /// The first thing that is wrong, as one sentence with a hint: an unreadable file, an unknown key, a value that
    /// cannot be used, two values that contradict each other.
    pub fn load(&self) -> Result<Effective, ConfigError> {
        let file = self.file.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let layers = Layers {
            flags: self.flags.clone(),
            environment: self.environment.clone(),
            file,
            file_name: self.file.clone(),
        };
        let effective = resolve::resolve(layers)?;
        file::check_readable(&effective.settings)?;
        Ok(effective)
    }
}

#[cfg(test)]
mod tests;
