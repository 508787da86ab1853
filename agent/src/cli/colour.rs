//! Whether to colour: `--color`, else `NO_COLOR` and whether the output is a terminal, which anstream decides.

use std::ffi::OsString;

use anstream::ColorChoice;

/// What `--color` says, found before parsing so that parse errors and help obey it too.
pub(super) fn choice_in(arguments: &[OsString]) -> ColorChoice {
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    let value = words.find_map(|word| match word.strip_prefix("--color") {
        Some("") => Some(None),
        Some(rest) => rest.strip_prefix('=').map(Some),
        None => None,
    });
    let value = match value {
        Some(None) => words.next(),
        Some(given) => given,
        None => None,
    };
    match value {
        Some("always") => ColorChoice::AlwaysAnsi,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

/// The same choice in clap's words.
pub(super) fn for_clap(choice: ColorChoice) -> clap::ColorChoice {
    match choice {
        ColorChoice::Auto => clap::ColorChoice::Auto,
        ColorChoice::Always | ColorChoice::AlwaysAnsi => clap::ColorChoice::Always,
        ColorChoice::Never => clap::ColorChoice::Never,
    }
}
