//! Settings that are understood and checked, but that nothing in this build acts on. This is the only place that says so.

use super::{ConfigError, Settings};

/// Refuses to start with a setting that would silently do nothing.
///
/// # Errors
/// When one is set; the sentence names it.
pub fn refuse_unavailable(settings: &Settings) -> Result<(), ConfigError> {
    let unavailable = [
        ("report_to", "reporting to a fleet manager", settings.report.is_some()),
        ("remote_write", "remote write", settings.remote_write.is_some()),
        (
            "upstream",
            "merging an exporter over https",
            settings.upstreams.iter().any(|upstream| upstream.url.scheme_str() == Some("https")),
        ),
    ];
    match unavailable.into_iter().find(|(_, _, set)| *set) {
        Some((key, what, _)) => {
            Err(ConfigError::new(format!("{key} is set, but {what} is not available in this build"))
                .hint(format!("take {key} and what belongs to it out of the configuration")))
        }
        None => Ok(()),
    }
}
