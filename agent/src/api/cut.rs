//! JSON with every string cut to a bound, byte by byte while it is read, so that a reader that keeps strings keeps little.
//! What the JSON means is for those who ask.

use std::io::{self, Read};

/// Bytes of a string that are passed on, escapes as they are written.
const LONGEST: u32 = 4_096;

/// Where in the text we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between strings.
    Outside,
    /// In a string.
    Inside,
    /// Behind a backslash.
    Escape,
    /// In `\u`, with so many digits to come.
    Digits(u8),
}

/// Reads what another reader gives.
#[derive(Debug)]
pub struct Cut<R> {
    from: R,
    place: Place,
    /// Bytes of this string so far.
    length: u32,
}

impl<R: Read> Cut<R> {
    /// Cuts what `from` gives.
    pub fn new(from: R) -> Self {
        Self { from, place: Place::Outside, length: 0 }
    }

    /// Whether this byte is passed on. A string is cut between characters as they are written, never within an escape.
    fn keeps(&mut self, byte: u8) -> bool {
        match self.place {
            Place::Outside => {
                if byte == b'"' {
                    self.place = Place::Inside;
                    self.length = 0;
                }
                return true;
            }
            Place::Inside => match byte {
                b'"' => {
                    self.place = Place::Outside;
                    return true;
                }
                b'\\' => self.place = Place::Escape,
                _ => {}
            },
            Place::Escape => self.place = if byte == b'u' { Place::Digits(4) } else { Place::Inside },
            Place::Digits(1) => self.place = Place::Inside,
            Place::Digits(left) => self.place = Place::Digits(left - 1),
        }
        // What begins within the bound ends within it, whatever its length: an escape is seven bytes at most.
        if self.length == LONGEST {
            return false;
        }
        self.length += 1;
        // Not in the middle of an escape: the last ones stay out as a whole.
        if self.length > LONGEST - 6 && self.place == Place::Escape {
            self.length = LONGEST;
            return false;
        }
        true
    }
}

impl<R: Read> Read for Cut<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.from.read(into)?;
            if read == 0 {
                return Ok(0);
            }
            let mut kept = 0;
            for at in 0..read {
                let Some(byte) = into.get(at).copied() else {
                    break;
                };
                if self.keeps(byte)
                    && let Some(place) = into.get_mut(kept)
                {
                    *place = byte;
                    kept += 1;
                }
            }
            if kept > 0 {
                return Ok(kept);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Reads a few bytes at a time, so that every place is a beginning.
    fn cut(text: &str) -> String {
        let mut cut = Cut::new(text.as_bytes());
        let (mut all, mut piece) = (Vec::new(), [0; 7]);
        loop {
            let read = cut.read(&mut piece).unwrap();
            if read == 0 {
                return String::from_utf8(all).unwrap();
            }
            all.extend_from_slice(&piece[..read]);
        }
    }

    #[test]
    fn short_strings_pass_as_they_are() {
        let text = r#"{"a":"x\"y\\","b":[1,2.5,null,"\u00e4\n"],"":"é"}"#;
        assert_eq!(cut(text), text);
    }

    #[test]
    fn a_long_string_ends_at_the_bound_and_what_follows_is_there() {
        let text = format!("[\"{}\",\"next\"]", "x".repeat(1_000_000));
        assert_eq!(cut(&text), format!("[\"{}\",\"next\"]", "x".repeat(4_096)));
    }

    #[test]
    fn no_escape_is_cut_in_two() {
        for before in 4_080..4_110 {
            for escape in [r"\u00e4", r"\\", r#"\""#, r"\n"] {
                let text = format!("[\"{}{}\",\"{escape}\"]", "x".repeat(before), escape.repeat(300));
                let found: Vec<String> = serde_json::from_str(&cut(&text)).unwrap();
                let one: String = serde_json::from_str(&format!("\"{escape}\"")).unwrap();
                assert_eq!(found[1], one, "{before} {escape}");
                assert!(found[0].len() <= 4_096, "{before} {escape}");
            }
        }
    }
}
