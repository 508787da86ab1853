//! The request target and the path in it (RFC 9112 section 3.2). What the path is called is decided in `mod.rs`.

/// A request target as it was captured, complete or cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    bytes: &'a [u8],
    cut: bool,
}

impl<'a> Target<'a> {
    /// A target of which every byte is here.
    pub fn whole(bytes: &'a [u8]) -> Self {
        Self { bytes, cut: false }
    }

    /// The first bytes of a target that went on; where it ended is not known.
    pub fn cut(bytes: &'a [u8]) -> Self {
        Self { bytes, cut: true }
    }

    /// The path as it came, without query; `None` if there is none, or not all of it is here.
    #[must_use]
    pub fn path(self) -> Option<&'a [u8]> {
        match self.form("") {
            Form::Path(path) if !path.cut => Some(path.bytes),
            _ => None,
        }
    }

    /// Tells the four forms apart and takes off what is not the path: scheme, authority, query and fragment.
    pub(super) fn form(self, method: &str) -> Form<'a> {
        if method == "CONNECT" {
            return Form::Connect;
        }
        let end = self.bytes.iter().position(|byte| matches!(byte, b'?' | b'#'));
        let (before, cut) = match end {
            // The cut is in the query, which is dropped anyway: the path is all there.
            Some(end) => (self.bytes.get(..end).unwrap_or_default(), false),
            None => (self.bytes, self.cut),
        };
        if before.first() == Some(&b'/') {
            return Form::Path(Path { bytes: before, cut });
        }
        if before == b"*" && method == "OPTIONS" && end.is_none() {
            return Form::Asterisk;
        }
        match after_scheme(before) {
            Some(rest) => match rest.iter().position(|&byte| byte == b'/') {
                Some(start) => Form::Path(Path { bytes: rest.get(start..).unwrap_or_default(), cut }),
                // An absolute-form `OPTIONS` without path means `*` (RFC 9112 section 3.2.4).
                None if method == "OPTIONS" && end.is_none() && !cut => Form::Asterisk,
                None => Form::Path(Path { bytes: b"/", cut }),
            },
            // An absolute-form target that was cut off within its scheme looks like this too.
            None if cut => Form::Path(Path { bytes: b"/", cut }),
            None => Form::None,
        }
    }
}

/// What a request target turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form<'a> {
    /// Origin-form or absolute-form.
    Path(Path<'a>),
    /// `OPTIONS *`.
    Asterisk,
    /// The authority-form of `CONNECT`.
    Connect,
    /// None of the four forms, so no route of any service.
    None,
}

/// An absolute path; the first byte is `/`. Percent-encoding and empty segments are as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path<'a> {
    pub(super) bytes: &'a [u8],
    /// More bytes of it may have followed.
    pub(super) cut: bool,
}

/// What follows `scheme://`, if this begins so (RFC 3986 section 3.1).
fn after_scheme(bytes: &[u8]) -> Option<&[u8]> {
    let colon = bytes.iter().position(|&byte| byte == b':')?;
    let scheme = bytes.get(..colon)?;
    let rest = bytes.get(colon..)?.strip_prefix(b"://")?;
    let is_scheme = scheme.first()?.is_ascii_alphabetic()
        && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    is_scheme.then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::{Form, Path, Target};

    fn path(text: &str, cut: bool) -> Form<'_> {
        Form::Path(Path { bytes: text.as_bytes(), cut })
    }

    #[test]
    fn whole_targets() {
        let table = [
            ("GET", "/", path("/", false)),
            ("GET", "/jobs?limit=1#x", path("/jobs", false)),
            ("GET", "/jobs#top?no", path("/jobs", false)),
            ("GET", "//jobs", path("//jobs", false)),
            ("GET", "http://host:80/jobs?a=/b", path("/jobs", false)),
            ("GET", "HTTPS://[::1]/a//b", path("/a//b", false)),
            ("GET", "http://host", path("/", false)),
            ("GET", "http://host?q", path("/", false)),
            ("OPTIONS", "*", Form::Asterisk),
            ("OPTIONS", "http://host:8080", Form::Asterisk),
            ("OPTIONS", "http://host:8080/", path("/", false)),
            ("OPTIONS", "/jobs", path("/jobs", false)),
            ("GET", "*", Form::None),
            ("GET", "", Form::None),
            ("GET", "?q", Form::None),
            ("GET", "jobs", Form::None),
            ("GET", "1http://host/", Form::None),
            ("GET", "://host/", Form::None),
            ("CONNECT", "host:443", Form::Connect),
            ("CONNECT", "/path", Form::Connect),
        ];
        for (method, text, form) in table {
            assert_eq!(Target::whole(text.as_bytes()).form(method), form, "{method} {text}");
        }
    }

    #[test]
    fn cut_targets() {
        let table = [
            ("GET", "/jobs", path("/jobs", true)),
            ("GET", "/jobs?lim", path("/jobs", false)),
            ("GET", "", path("/", true)),
            ("GET", "htt", path("/", true)),
            ("GET", "http://ho", path("/", true)),
            ("GET", "http://host/jo", path("/jo", true)),
            ("OPTIONS", "http://ho", path("/", true)),
        ];
        for (method, text, form) in table {
            assert_eq!(Target::cut(text.as_bytes()).form(method), form, "{method} {text}");
        }
    }
}
