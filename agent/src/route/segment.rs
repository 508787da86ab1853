//! One segment of a declared path and what it matches. How segments make a tree is in `tree`.

use std::borrow::Cow;

use super::escape;

/// A declared segment, from the most to the least particular.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// These bytes (percent-decoded, see [`decode`]).
    Literal(Box<[u8]>),
    /// Fixed text with parameters in it: `report.{format}`, `{name}:cancel`.
    Pattern(Pattern),
    /// `{name}`: any segment of at least one byte.
    Param,
    /// `{name...}` or `{*name}`, last in its path: whatever follows the slash, even nothing.
    Tail,
}

/// The fixed text before, between and after the parameters of a segment; each parameter takes at least one byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Box<[u8]>>);

/// Why a segment cannot be declared, with what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) wanted: &'static str,
    pub(super) hint: &'static str,
}

const BRACES: Refused = Refused {
    wanted: "every `{` closed by a `}` in the same segment, with a name between them",
    hint: "write a parameter as `{name}`",
};
const EXPRESSION: Refused = Refused {
    wanted: "a parameter of letters, digits, `_`, `-` and `.`",
    hint: "leave the pattern out: `{id}` instead of `{id:[0-9]+}`",
};
const SIGIL: Refused =
    Refused { wanted: "a parameter in braces", hint: "write `{id}` instead of `:id`, `{rest...}` instead of `*`" };

impl Segment {
    /// Reads one declared segment (the text between two slashes).
    pub(super) fn parse(text: &str) -> Result<Self, Refused> {
        if text.starts_with(':') || text == "*" || text == "**" {
            return Err(SIGIL);
        }
        let mut fixed = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(BRACES)?;
            if before.contains('}') || name.is_empty() {
                return Err(BRACES);
            }
            let plain = name.strip_suffix("...").or_else(|| name.strip_prefix('*'));
            if plain.is_some() {
                let alone = fixed.is_empty() && before.is_empty() && after.is_empty();
                return if alone { Ok(Self::Tail) } else { Err(BRACES) };
            }
            if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '$')) {
                return Err(EXPRESSION);
            }
            fixed.push(decode(before.as_bytes()).into());
            rest = after;
        }
        if rest.contains('}') {
            return Err(BRACES);
        }
        let last: Box<[u8]> = decode(rest.as_bytes()).into();
        if fixed.is_empty() {
            return Ok(Self::Literal(last));
        }
        fixed.push(last);
        let only_a_name = fixed.len() == 2 && fixed.iter().all(|part| part.is_empty());
        Ok(if only_a_name { Self::Param } else { Self::Pattern(Pattern(fixed)) })
    }
}

impl Pattern {
    /// Whether this percent-decoded segment can be read so.
    pub(super) fn matches(&self, segment: &[u8]) -> bool {
        let [first, between @ .., last] = self.0.as_slice() else { return false };
        let Some(mut rest) = segment.strip_prefix(&**first).and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        for part in between {
            // One byte at least for the parameter before it; the earliest place leaves the most for the others.
            let found = rest.get(1..).and_then(|from| {
                if part.is_empty() { Some(0) } else { from.windows(part.len()).position(|window| window == &**part) }
            });
            let Some(found) = found else { return false };
            rest = rest.get(1 + found + part.len()..).unwrap_or_default();
        }
        !rest.is_empty()
    }

    /// How many bytes are fixed: among patterns the one that fixes more is tried first.
    pub(super) fn fixed_len(&self) -> usize {
        self.0.iter().map(|part| part.len()).sum()
    }
}

/// A segment as servers compare it: `%6e` is `n` (RFC 3986 section 6.2.2.2).
///
/// `%2F` stays as it is, since it is not a separator of segments, and so does a `%` without two hex digits.
pub(super) fn decode(segment: &[u8]) -> Cow<'_, [u8]> {
    if !segment.contains(&b'%') {
        return Cow::Borrowed(segment);
    }
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some((&byte, after)) = rest.split_first() {
        match escape::percent_value(rest) {
            Some(value) if value != b'/' => {
                out.push(value);
                rest = rest.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = after;
            }
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::panic, reason = "tests")]

    use super::{BRACES, EXPRESSION, SIGIL, Segment, decode};

    #[test]
    fn kinds() {
        let literal = |text: &str| Ok(Segment::Literal(text.as_bytes().into()));
        assert_eq!(Segment::parse(""), literal(""));
        assert_eq!(Segment::parse("jobs"), literal("jobs"));
        assert_eq!(Segment::parse("jobs:batch"), literal("jobs:batch"));
        assert_eq!(Segment::parse("a%20b"), literal("a b"));
        assert_eq!(Segment::parse("{id}"), Ok(Segment::Param));
        assert_eq!(Segment::parse("{rest...}"), Ok(Segment::Tail));
        assert_eq!(Segment::parse("{*rest}"), Ok(Segment::Tail));
        for text in ["{", "}", "{}", "a{", "a}b{c}", "{a}}", "{{a}}", "x{rest...}", "{a}{rest...}"] {
            let refused = Segment::parse(text).err();
            assert!(refused == Some(BRACES) || refused == Some(EXPRESSION), "{text}: {refused:?}");
        }
        assert_eq!(Segment::parse("{id:[0-9]+}"), Err(EXPRESSION));
        assert_eq!(Segment::parse(":id"), Err(SIGIL));
        assert_eq!(Segment::parse("*"), Err(SIGIL));
    }

    #[test]
    fn patterns() {
        let table = [
            ("report.{format}", "report.pdf", true),
            ("report.{format}", "report.", false),
            ("{name}:cancel", "x:cancel", true),
            ("{name}:cancel", ":cancel", false),
            ("{a}-{b}", "1-2", true),
            ("{a}-{b}", "1--", true),
            ("{a}-{b}", "--", false),
            ("{a}-{b}", "12", false),
            ("{a}{b}", "12", true),
            ("{a}{b}", "1", false),
            ("aa{x}aa", "aaa", false),
            ("aa{x}aa", "aabaa", true),
        ];
        for (declared, segment, expected) in table {
            let Ok(Segment::Pattern(pattern)) = Segment::parse(declared) else { panic!("{declared}") };
            assert_eq!(pattern.matches(segment.as_bytes()), expected, "{declared} {segment}");
        }
    }

    #[test]
    fn decoding_keeps_slashes_and_broken_escapes() {
        for (from, to) in [("a%6eb", "anb"), ("%2f%2F", "%2f%2F"), ("%", "%"), ("%4", "%4"), ("%zz%41", "%zzA")] {
            assert_eq!(&*decode(from.as_bytes()), to.as_bytes(), "{from}");
        }
    }
}
