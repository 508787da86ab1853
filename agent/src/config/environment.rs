//! The environment as a layer: `SOCKMETER_` and the flag's name in capitals. Lists are separated by white space.
//!
//! Variables of that prefix that are no key of ours are left alone: Kubernetes itself sets `SOCKMETER_PORT` and its
//! kin in every pod beside a Service called `sockmeter`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::pieces::{named_path, named_ports, named_text};
use super::{ConfigError, Input};

/// What the variables say, and the configuration file that `SOCKMETER_CONFIG` names. An empty variable says nothing.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<(Option<PathBuf>, Input), ConfigError> {
    let mut values = BTreeMap::new();
    for (name, value) in variables {
        let Ok(name) = name.into_string() else {
            continue;
        };
        if name.starts_with("SOCKMETER_") && !value.is_empty() {
            values.insert(name, value);
        }
    }
    let mut variables = Variables(values);
    let mut input = Input {
        listen: variables.text("LISTEN")?,
        auth_token_file: variables.path("AUTH_TOKEN_FILE"),
        tls_cert: variables.path("TLS_CERT"),
        tls_key: variables.path("TLS_KEY"),
        tls_client_ca: variables.path("TLS_CLIENT_CA"),
        insecure: variables.switch("INSECURE")?,
        interface: variables.text("INTERFACE")?.map(|list| words(&list).map(ToOwned::to_owned).collect()),
        scope: variables.text("SCOPE")?,
        pin_dir: variables.path("PIN_DIR"),
        no_pin: variables.switch("NO_PIN")?,
        state_dir: variables.path("STATE_DIR"),
        scheduler_api: variables.text("SCHEDULER_API")?,
        scheduler_token_file: variables.path("SCHEDULER_TOKEN_FILE"),
        scheduler_ca: variables.path("SCHEDULER_CA"),
        kubernetes_pods: variables.text("KUBERNETES_PODS")?,
        kubernetes_node: variables.text("KUBERNETES_NODE")?,
        kubernetes_token_file: variables.path("KUBERNETES_TOKEN_FILE"),
        kubernetes_ca: variables.path("KUBERNETES_CA"),
        report_to: variables.text("REPORT_TO")?,
        report_as: variables.text("REPORT_AS")?,
        report_token_file: variables.path("REPORT_TOKEN_FILE"),
        remote_write: variables.text("REMOTE_WRITE")?,
        log_level: variables.text("LOG_LEVEL")?,
        log_format: variables.text("LOG_FORMAT")?,
        service: None,
        upstream: None,
        limits: None,
        observe: None,
        jobs: None,
        node: None,
        wireguard: None,
        kernel: None,
    };
    for word in words(&variables.text("SERVICE")?.unwrap_or_default()) {
        let (name, ports) = named_ports(word).map_err(|error| in_variable("SERVICE", word, &error))?;
        input.add_ports(name, ports);
    }
    for word in words(&variables.text("ROUTES")?.unwrap_or_default()) {
        let (name, file) = named_path(word).map_err(|error| in_variable("ROUTES", word, &error))?;
        input.add_routes(name, file);
    }
    for word in words(&variables.text("UPSTREAM")?.unwrap_or_default()) {
        let (name, url) = named_text(word).map_err(|error| in_variable("UPSTREAM", word, &error))?;
        input.add_upstream(name, url);
    }
    Ok((variables.path("CONFIG"), input))
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split_whitespace()
}

fn in_variable(key: &str, found: &str, wanted: &str) -> ConfigError {
    ConfigError::new(format!("SOCKMETER_{key} contains {found:?}, wanted {wanted}"))
}

/// The variables of our prefix that are not empty.
struct Variables(BTreeMap<String, OsString>);

impl Variables {
    fn take(&mut self, key: &str) -> Option<OsString> {
        self.0.remove(&format!("SOCKMETER_{key}"))
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, ConfigError> {
        self.take(key)
            .map(|value| {
                value.into_string().map_err(|found| {
                    ConfigError::new(format!("SOCKMETER_{key} is \"{}\", wanted text in UTF-8", found.display()))
                })
            })
            .transpose()
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.take(key).map(PathBuf::from)
    }

    fn switch(&mut self, key: &str) -> Result<Option<bool>, ConfigError> {
        match self.text(key)?.as_deref() {
            None => Ok(None),
            Some("1" | "true" | "yes") => Ok(Some(true)),
            Some("0" | "false" | "no") => Ok(Some(false)),
            Some(found) => Err(ConfigError::new(format!("SOCKMETER_{key} is {found:?}, wanted \"true\" or \"false\""))),
        }
    }
}
