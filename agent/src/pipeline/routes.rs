//! `sockmeter routes`: what paths would be called under declared routes.

use std::io::Write;

use crate::cli::{Exit, Failure, RoutesQuestion};
use crate::config::ConfigError;
use crate::route::{Routes, Target, method_label};

/// Prints the endpoint of each path, one a line.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn routes(question: &RoutesQuestion, out: &mut dyn Write) -> Result<Exit, Failure> {
    let file = question.file.display();
    let text = std::fs::read_to_string(&question.file)
        .map_err(|error| ConfigError::new(format!("cannot read the routes in {file}: {error}")))?;
    let routes = Routes::parse(&text).map_err(|error| ConfigError::new(format!("{file}: {error}")))?;
    let method = method_label(question.method.as_bytes());
    for path in &question.paths {
        writeln!(out, "{}", routes.template(method, Target::whole(path.as_bytes()), None))?;
    }
    Ok(Exit::Stopped)
}
