//! The template of a path that nobody declared. What makes a segment an identifier is in `identifier`.

use super::Endpoint;
use super::escape::push_printable;
use super::identifier::is_identifier;
use super::segment::decode;
use super::target::Path;

/// The most bytes that a guessed template has.
pub const MAX_GUESS: usize = 128;

/// The most bytes of a segment that stays as it is; no router's fixed words are longer.
const MAX_WORD: usize = 64;

/// Stands for the rest of a path that was cut off, or is too long to be a label.
const REST: &str = "/{...}";

/// Guesses the template: identifiers become `{id}`, everything else stays.
///
/// Runs of slashes count as one, so that nobody can make a new label with one more. Of a path that was cut off only the
/// complete segments stay, followed by `/{...}`; so it is with one whose template would pass [`MAX_GUESS`].
pub(super) fn guess(path: Path<'_>) -> Endpoint {
    let mut out = String::with_capacity(MAX_GUESS.min(path.bytes.len() + REST.len()));
    let mut word = String::new();
    let mut segments = path.bytes.split(|&byte| byte == b'/').skip(1).peekable();
    let mut ends_in_slash = false;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        if is_last && path.cut {
            out.push_str(REST);
            return Endpoint::template(out);
        }
        ends_in_slash = segment.is_empty();
        if segment.is_empty() {
            continue;
        }
        word.clear();
        if segment.len() > MAX_WORD || is_identifier(&decode(segment)) {
            word.push_str("{id}");
        } else {
            push_printable(&mut word, segment);
            if word.len() > MAX_WORD {
                word.replace_range(.., "{id}");
            }
        }
        if out.len() + 1 + word.len() + REST.len() > MAX_GUESS {
            out.push_str(REST);
            return Endpoint::template(out);
        }
        out.push('/');
        out.push_str(&word);
    }
    if ends_in_slash {
        out.push('/');
    }
    Endpoint::template(out)
}

#[cfg(test)]
mod tests {
    use super::{MAX_GUESS, guess};
    use crate::route::target::Path;

    fn guessed(path: &[u8], cut: bool) -> String {
        guess(Path { bytes: path, cut }).to_string()
    }

    #[test]
    fn whole_paths() {
        let table = [
            ("/", "/"),
            ("//", "/"),
            ("/jobs", "/jobs"),
            ("/jobs/", "/jobs/"),
            ("//jobs///42//", "/jobs/{id}/"),
            ("/jobs/550e8400-e29b-41d4-a716-446655440000/logs", "/jobs/{id}/logs"),
            ("/api/v1/users/12/posts/34", "/api/v1/users/{id}/posts/{id}"),
            ("/static/style.css", "/static/style.css"),
            ("/../../etc/passwd", "/../../etc/passwd"),
            ("/a%20b/c", "/a%20b/c"),
            ("/users/a%40example.org", "/users/{id}"),
            ("/n/%31%32%33", "/n/{id}"),
            ("/x\0y\"", "/x%00y\""),
        ];
        for (path, template) in table {
            assert_eq!(guessed(path.as_bytes(), false), template, "{path:?}");
        }
    }

    #[test]
    fn cut_paths_keep_their_complete_segments() {
        for (path, template) in
            [("/", "/{...}"), ("/jo", "/{...}"), ("/jobs/", "/jobs/{...}"), ("/a/77/x", "/a/{id}/{...}")]
        {
            assert_eq!(guessed(path.as_bytes(), true), template, "{path:?}");
        }
    }

    #[test]
    fn long_paths_are_bounded() {
        assert_eq!(guessed(&[b"/".as_slice(), &[b'a'; 8192]].concat(), false), "/{id}");
        assert_eq!(guessed(&b"/ab".repeat(4096), false), format!("{}/{{...}}", "/ab".repeat((MAX_GUESS - 6) / 3)));
        assert_eq!(guessed(&[b"/x".as_slice(), &[0xff; 60]].concat(), false), "/{id}");
    }
}
