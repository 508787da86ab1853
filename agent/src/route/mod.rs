//! Names the endpoint of a request: a declared route, else a guess. No I/O here: the caller reads the files, and
//! `attribution` brings the requests.
//!
//! The rules, in order:
//!
//! 1. `CONNECT` is `connect`, `OPTIONS *` is `*`; query and fragment are dropped, and an absolute-form target loses its
//!    scheme and host. A target of no known form (RFC 9112 section 3.2) is `unmatched`.
//! 2. A declared route of the request's method; literal segments win over `report.{format}`, that over `{param}`, that
//!    over `{rest...}`, segment by segment from the left, and a choice that leads nowhere is taken back. Then a declared
//!    route of another method: the path *is* declared, and a `HEAD` or a 405 to it should stand beside its `GET`.
//! 3. An undeclared path that was answered with 404 or 405 is `unmatched`.
//! 4. The guess, which replaces identifiers by `{id}` and is at most [`MAX_GUESS`] bytes long.
//!
//! A trailing slash matters and so does an empty segment (`//`): they are other paths (RFC 3986 section 6.2.3), and
//! servers redirect or refuse them. `.` and `..` are segments like others. Percent-encoding is undone for comparing
//! with literals, except `%2F`, and kept in what is shown.
//!
//! Of a target that was cut off ([`Target::cut`]) the path is complete if a `?` or `#` came before the cut. If not, a
//! declared route matches only if it does however the path goes on: one that ends in `{rest...}`, with no other route
//! in question. When no declared route is in question, 404 and 405 make it `unmatched`; else the complete segments
//! are guessed and `/{...}` follows.

mod endpoint;
mod escape;
mod guess;
mod identifier;
mod lines;
mod method;
mod openapi;
mod segment;
mod target;
mod tree;

pub use self::endpoint::{Endpoint, EndpointCap};
pub use self::guess::MAX_GUESS;
pub use self::method::{OTHER, method_label};
pub use self::target::Target;

use self::segment::Segment;
use self::target::{Form, Path};
use self::tree::{Cut, Tree};

/// The declared routes of one service; without any, every endpoint is guessed.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    tree: Tree,
    declared: Vec<(&'static str, Endpoint)>,
}

impl Routes {
    /// Reads a list of lines or an OpenAPI document, whichever it is.
    ///
    /// A line of a list begins with a method, so the first line that is neither blank nor a comment tells: a document
    /// begins with a brace, a `---`, a `%YAML` or a key with its colon.
    ///
    /// # Errors
    ///
    /// Those of [`Routes::parse_lines`] or [`Routes::parse_openapi`].
    pub fn parse(text: &str) -> Result<Self, RouteError> {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
        let first = lines.into_iter().find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
        let first_word = first.split([' ', '\t']).next().unwrap_or_default();
        let is_key = first_word.contains(':') && !first_word.contains('/');
        if first.starts_with(['{', '%']) || first.starts_with("---") || is_key {
            Self::parse_openapi(text)
        } else {
            Self::parse_lines(text)
        }
    }

    /// The endpoint of a request, by the rules above.
    ///
    /// `method` as on the wire or as [`method_label`] gives it; `status` is the final one, `None` if none came. A
    /// declared route is found without allocation unless the path is percent-encoded.
    pub fn template(&self, method: &str, target: Target<'_>, status: Option<u16>) -> Endpoint {
        match target.form(method) {
            Form::Connect => Endpoint::CONNECT,
            Form::Asterisk => Endpoint::ASTERISK,
            Form::None => Endpoint::UNMATCHED,
            Form::Path(path) => self.template_of_path(method, path, status),
        }
    }

    /// How many routes are declared.
    pub fn len(&self) -> usize {
        self.declared.len()
    }

    /// Nothing is declared.
    pub fn is_empty(&self) -> bool {
        self.declared.is_empty()
    }

    /// The declared routes, method and template, in the order of declaration.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.declared.iter().map(|(method, template)| (*method, template.as_str()))
    }

    fn template_of_path(&self, method: &str, path: Path<'_>, status: Option<u16>) -> Endpoint {
        let is_refused = matches!(status, Some(404 | 405));
        let found = if path.cut {
            self.tree.find_cut(method, path)
        } else {
            self.tree.find(method, path.bytes).map_or(Cut::Undeclared, Cut::Surely)
        };
        match found {
            Cut::Surely(template) => template.clone(),
            Cut::Undeclared if is_refused => Endpoint::UNMATCHED,
            Cut::Undeclared | Cut::Unknown => guess::guess(path),
        }
    }

    /// Declares one route; the error does not yet say where.
    fn declare(&mut self, method: &'static str, path: &str) -> Result<(), RouteError> {
        let Some(rest) = path.strip_prefix('/') else {
            return Err(RouteError::new(path, "a path that begins with `/`", format!("write `/{path}`")));
        };
        if path.contains('?') {
            let hint = "leave out everything from the `?` on; queries never matter here";
            return Err(RouteError::new(path, "a path without query", hint));
        }
        if path.chars().any(|char| char.is_control() || char.is_whitespace()) {
            return Err(RouteError::new(path, "a path of printable characters", "write any other byte as `%XX`"));
        }
        let mut segments = Vec::new();
        for text in rest.split('/') {
            let segment =
                Segment::parse(text).map_err(|refused| RouteError::new(path, refused.wanted, refused.hint))?;
            if segments.last() == Some(&Segment::Tail) {
                let wanted = "`{name...}` only as the last segment";
                return Err(RouteError::new(path, wanted, "write `{name}` for one segment"));
            }
            segments.push(segment);
        }
        let template = Endpoint::template(path);
        self.tree.insert(method, &segments, template.clone()).map_err(|known| {
            let wanted = format!("paths that can be told apart; {method} {known:?} is declared already");
            RouteError::new(path, wanted, "remove one of the two")
        })?;
        if !self.declared.contains(&(method, template.clone())) {
            self.declared.push((method, template));
        }
        Ok(())
    }
}

/// Why a declaration of routes was refused: where, what is there, what is wanted, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("routes, {place}: found {found}, wanted {wanted}\nhint: {hint}")]
pub struct RouteError {
    place: String,
    found: String,
    wanted: String,
    hint: String,
}

impl RouteError {
    /// The most characters of what was found that a message repeats.
    const SHOWN: usize = 120;

    fn new(found: &str, wanted: impl Into<String>, hint: impl Into<String>) -> Self {
        let shown: String = found.chars().take(Self::SHOWN).collect();
        Self { place: String::new(), found: format!("{shown:?}"), wanted: wanted.into(), hint: hint.into() }
    }

    fn at(self, place: impl Into<String>) -> Self {
        Self { place: place.into(), ..self }
    }
}

#[cfg(test)]
mod tests;
