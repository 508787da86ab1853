//! The configuration file: reading it, and saying in one sentence what is wrong with it and where.

use std::fs;
use std::path::Path;

use super::{ConfigError, Input, Secret, Settings};

/// Reads one layer from a TOML file.
pub(super) fn read(path: &Path) -> Result<Input, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| {
        ConfigError::new(format!("configuration file {}: {error}", path.display()))
            .hint("--config names the file; deploy/sockmeter.example.toml is one to start from")
    })?;
    parse(&text, &path.display().to_string())
}

/// Reads one layer from TOML text that is called `name` in messages.
pub(super) fn parse(text: &str, name: &str) -> Result<Input, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let (place, key) = match error.span() {
            Some(span) => {
                let before = text.get(..span.start).unwrap_or_default();
                let line = before.matches('\n').count();
                let key =
                    text.lines().nth(line).and_then(|line| line.split_once('=')).map_or("", |(key, _)| key.trim());
                (format!("{name}:{}", line.saturating_add(1)), key)
            }
            None => (name.to_owned(), ""),
        };
        explain(error.message(), &place, key)
    })
}

/// Turns serde's words into ours. They are fixed in serde's `de::Error` (`unknown_field`, `invalid_type`,
/// `invalid_value`); what is none of them is passed on as it is.
fn explain(message: &str, place: &str, key: &str) -> ConfigError {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let mut words = rest.split('`').skip(1).step_by(2);
        let unknown = words.next().unwrap_or_default();
        let known: Vec<&str> = words.filter(|word| !word.contains('-')).collect();
        let error = ConfigError::new(format!("{place}: unknown key {unknown}"));
        return match nearest(unknown, &known) {
            Some(suggestion) => error.hint(format!("did you mean {suggestion}?")),
            None => error.hint(format!("the keys here are {}", known.join(", "))),
        };
    }
    let wrong = ["invalid type: ", "invalid value: "].into_iter().find_map(|start| message.strip_prefix(start));
    match wrong.and_then(|rest| rest.rsplit_once(", expected ")) {
        Some((found, wanted)) => ConfigError::new(format!("{place}: {key} is {found}, wanted {wanted}")),
        None => ConfigError::new(format!("{place}: {}", message.replace('\n', ", "))),
    }
}

/// The known word that the unknown one is probably a slip of.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let unknown = unknown.replace('-', "_");
    known
        .iter()
        .map(|word| (strsim::jaro_winkler(&unknown, word), *word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| word)
}

/// Every file that the settings name can be read, now rather than at three in the morning.
pub(super) fn check_readable(settings: &Settings) -> Result<(), ConfigError> {
    let tls = settings.access.tls.iter();
    let tls = tls.flat_map(|files| [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()]).flatten();
    let routes = settings.services.iter().filter_map(|service| service.routes.as_ref());
    let apis = || settings.scheduler.iter().chain(settings.kubernetes.iter().map(|pods| &pods.api));
    let ca = apis().filter_map(|api| api.ca.as_ref());
    for path in tls.chain(routes).chain(ca) {
        let error = match fs::metadata(path) {
            Ok(found) if found.is_dir() => "is a directory, wanted a file".to_owned(),
            _ => match fs::File::open(path) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            },
        };
        return Err(ConfigError::new(format!("file {}: {error}", path.display())));
    }
    let own = [settings.access.token_file.as_ref(), settings.report.as_ref().map(|report| &report.token_file)];
    let tokens = own.into_iter().flatten().chain(apis().filter_map(|api| api.token_file.as_ref()));
    tokens.into_iter().try_for_each(|path| Secret::from_file(path).map(drop))
}
