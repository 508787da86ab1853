//! JSON as a reader can take it who keeps some of its strings and has no use for its numbers, made so while it is read: what
//! somebody else wrote costs bounded memory, and a text that is none is no reason to refuse what is around it. What the JSON
//! means is for those who ask.
//!
//! * Every string ends at a bound, between two characters.
//! * What is not UTF-8, or half of a pair of surrogates, is U+FFFD (RFC 8259 8.1 and 8.2).
//! * Every number is 0: one may be too large to be read, and nobody wants any.
//! * What is nested deeper than a bound is an error, since its reader has to remember each level.

use std::io::{self, Read};

/// Bytes of a string that are passed on, escapes as they are written.
const LONGEST: usize = 4_096;
/// Levels of lists and objects within each other. Those of Kubernetes' own lists have some ten, and what users write into them
/// some tens more.
const DEEPEST: u32 = 1_000;
/// Bytes that are read at once.
const PIECE: usize = 8 << 10;
/// What stands for what is no character.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Where in the text we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Between strings and numbers.
    Outside,
    /// In a number.
    Number,
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
    piece: Vec<u8>,
    /// What is made of the piece that was read last, and how much of that was handed on.
    made: Vec<u8>,
    handed: usize,
    place: Place,
    depth: u32,
    /// Bytes of this string so far.
    length: usize,
    /// The bytes of a character, or of an escape, that has not ended.
    begun: Vec<u8>,
    /// An escaped surrogate that wants a second one.
    first: Vec<u8>,
}

impl<R: Read> Cut<R> {
    /// Cuts what `from` gives.
    pub fn new(from: R) -> Self {
        Self {
            from,
            piece: vec![0; PIECE],
            // A byte may become three.
            made: Vec::with_capacity(3 * PIECE + 64),
            handed: 0,
            place: Place::Outside,
            depth: 0,
            length: 0,
            begun: Vec::with_capacity(16),
            first: Vec::with_capacity(16),
        }
    }

    fn take(&mut self, byte: u8) -> io::Result<()> {
        match self.place {
            Place::Number if matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') => {}
            Place::Outside | Place::Number => self.outside(byte)?,
            Place::Inside => self.inside(byte),
            Place::Escape => {
                self.begun.push(byte);
                if byte == b'u' {
                    self.place = Place::Digits(4);
                } else {
                    self.place = Place::Inside;
                    self.end_escape();
                }
            }
            Place::Digits(_) if !byte.is_ascii_hexdigit() => {
                // It is no JSON, which the reader says.
                self.place = Place::Inside;
                self.end_escape();
                self.inside(byte);
            }
            Place::Digits(left) => {
                self.begun.push(byte);
                self.place = if left == 1 { Place::Inside } else { Place::Digits(left - 1) };
                if left == 1 {
                    self.end_escape();
                }
            }
        }
        Ok(())
    }

    fn outside(&mut self, byte: u8) -> io::Result<()> {
        self.place = Place::Outside;
        match byte {
            b'"' => {
                self.place = Place::Inside;
                self.length = 0;
            }
            b'-' | b'0'..=b'9' => {
                self.place = Place::Number;
                self.made.push(b'0');
                return Ok(());
            }
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if self.depth > DEEPEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("more than {DEEPEST} levels deep")));
        }
        self.made.push(byte);
        Ok(())
    }

    fn inside(&mut self, byte: u8) {
        if !byte.is_ascii() {
            self.end_pair();
            self.begun.push(byte);
            self.end_character();
            return;
        }
        self.lose_character();
        match byte {
            b'\\' => {
                self.begun.push(byte);
                self.place = Place::Escape;
            }
            b'"' => {
                self.end_pair();
                self.place = Place::Outside;
                self.made.push(byte);
            }
            _ => {
                self.end_pair();
                self.pass(&[byte]);
            }
        }
    }

    /// Passes a character on that has ended, if it is one.
    fn end_character(&mut self) {
        let begun = std::mem::take(&mut self.begun);
        let mut rest: &[u8] = &begun;
        while !rest.is_empty() {
            let wrong = match std::str::from_utf8(rest) {
                Ok(_) => {
                    self.pass(rest);
                    break;
                }
                Err(error) => error.error_len(),
            };
            let Some(wrong) = wrong else {
                self.begun.extend_from_slice(rest);
                return;
            };
            self.pass(REPLACEMENT);
            rest = rest.get(wrong..).unwrap_or_default();
        }
        self.keep_room(begun);
    }

    /// No more of a character comes.
    fn lose_character(&mut self) {
        if !self.begun.is_empty() {
            self.begun.clear();
            self.pass(REPLACEMENT);
        }
    }

    /// Passes an escape on that has ended: a surrogate with its second one only.
    fn end_escape(&mut self) {
        let escape = std::mem::take(&mut self.begun);
        match (is_surrogate(&escape), self.first.is_empty()) {
            (Some(Half::First), _) => {
                self.end_pair();
                self.first.extend_from_slice(&escape);
            }
            (Some(Half::Second), false) => {
                let mut pair = std::mem::take(&mut self.first);
                pair.extend_from_slice(&escape);
                self.pass(&pair);
                pair.clear();
                self.first = pair;
            }
            (Some(Half::Second), true) => self.pass(REPLACEMENT),
            (None, _) => {
                self.end_pair();
                self.pass(&escape);
            }
        }
        self.keep_room(escape);
    }

    /// No second surrogate comes.
    fn end_pair(&mut self) {
        if !self.first.is_empty() {
            self.first.clear();
            self.pass(REPLACEMENT);
        }
    }

    /// A character of a string, if there is room for it and was for all before it.
    fn pass(&mut self, character: &[u8]) {
        if self.length.saturating_add(character.len()) > LONGEST {
            self.length = LONGEST;
        } else {
            self.length += character.len();
            self.made.extend_from_slice(character);
        }
    }

    fn keep_room(&mut self, mut begun: Vec<u8>) {
        begun.clear();
        self.begun = begun;
    }
}

/// Which of a pair of surrogates.
enum Half {
    First,
    Second,
}

/// Whether an escape is a surrogate (RFC 8259 7).
fn is_surrogate(escape: &[u8]) -> Option<Half> {
    let digits = std::str::from_utf8(escape.strip_prefix(b"\\u")?).ok()?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xd800..=0xdbff => Some(Half::First),
        0xdc00..=0xdfff => Some(Half::Second),
        _ => None,
    }
}

impl<R: Read> Read for Cut<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.handed == self.made.len() {
            self.handed = 0;
            self.made.clear();
            let read = self.from.read(&mut self.piece)?;
            if read == 0 {
                return Ok(0);
            }
            for at in 0..read {
                if let Some(byte) = self.piece.get(at).copied() {
                    self.take(byte)?;
                }
            }
        }
        let mut left = self.made.get(self.handed..).unwrap_or_default();
        let read = left.read(into)?;
        self.handed += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Gives a byte at a time and is asked for a few, so that every place is a beginning.
    struct ByteByByte<'a>(&'a [u8]);

    impl Read for ByteByByte<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into.get_mut(..1).unwrap_or_default())
        }
    }

    fn drained(mut cut: impl Read) -> Vec<u8> {
        let (mut all, mut piece) = (Vec::new(), [0; 7]);
        loop {
            let read = cut.read(&mut piece).unwrap();
            if read == 0 {
                return all;
            }
            all.extend_from_slice(&piece[..read]);
        }
    }

    fn cut(text: impl AsRef<[u8]>) -> String {
        let text = text.as_ref();
        let whole = drained(Cut::new(text));
        assert_eq!(whole, drained(Cut::new(ByteByByte(text))));
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn short_strings_pass_as_they_are() {
        let text = r#"{"a":"x\"y\\","b":[0,true,null,"\u00e4\n\ud83d\ude00\uD83D\uDE00"],"":"é€😀","-1":"2e9"}"#;
        assert_eq!(cut(text), text);
    }

    #[test]
    fn numbers_are_read_as_0() {
        let text = format!("[-1,2.5e-7,1E+999,{},-,[3],{{\"4\":5}}]", "9".repeat(100_000));
        assert_eq!(cut(text), "[0,0,0,0,0,[0],{\"4\":0}]");
    }

    #[test]
    fn a_long_string_ends_at_the_bound_and_what_follows_is_there() {
        let text = format!("[\"{}\",\"next\"]", "x".repeat(1_000_000));
        assert_eq!(cut(&text), format!("[\"{}\",\"next\"]", "x".repeat(4_096)));
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for before in 4_080..4_110 {
            for one in [r"\u00e4", r"\\", r#"\""#, r"\n", r"\ud83d\ude00", "é", "€", "😀"] {
                let text = format!("[\"{}{}y\",\"{one}\"]", "x".repeat(before), one.repeat(300));
                let found: Vec<String> = serde_json::from_str(&cut(&text)).unwrap();
                let wanted: String = serde_json::from_str(&format!("\"{one}\"")).unwrap();
                assert_eq!(found[1], wanted, "{before} {one}");
                let kept = found[0].trim_start_matches('x');
                assert_eq!(kept, wanted.repeat(kept.chars().count()), "{before} {one}");
                assert!(found[0].len() <= 4_096, "{before} {one}");
            }
        }
    }

    #[test]
    fn what_is_no_character_is_replaced_and_nothing_else() {
        for (text, wanted) in [
            (b"a\xffb".as_slice(), "a\u{fffd}b"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xe2\x82\xe2\x82\xac", "\u{fffd}\u{20ac}"),
            (b"\xf0\x9f\x98n\xc3", "\u{fffd}n\u{fffd}"),
            (b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xc3\\n\xc3\\\\", "\u{fffd}\\n\u{fffd}\\\\"),
            (br"\ud83dx", "\u{fffd}x"),
            (br"\ud83d\n", "\u{fffd}\\n"),
            (br"\ud83d\ud83d\ude00", "\u{fffd}\\ud83d\\ude00"),
            (br"\ude00\ud83d", "\u{fffd}\u{fffd}"),
            (b"\\ud83d\xc3\xa4", "\u{fffd}\u{e4}"),
        ] {
            let text = [b"[\"".as_slice(), text, b"\",1]"].concat();
            assert_eq!(cut(&text), format!("[\"{wanted}\",0]"), "{}", String::from_utf8_lossy(&text));
        }
        // What is no JSON stays none.
        for text in [r#"["\u12"]"#, r#"["\x"]"#, r#"["\ud8zz"]"#, "[\"\n\"]", "[tru\u{e9}]"] {
            assert!(serde_json::from_str::<serde_json::Value>(&cut(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_an_error() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels)).repeat(2);
        assert_eq!(cut(nested(1_000)), nested(1_000));
        let error = Cut::new(nested(1_001).as_bytes()).read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.to_string(), "more than 1000 levels deep");
        // Brackets in strings are text.
        let text = format!("[\"{}\"]", "[".repeat(2_000));
        assert_eq!(cut(&text), text);
    }
}
