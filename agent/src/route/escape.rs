//! Bytes from the network as text that a label may hold. Escaping for the page itself is `exposition`'s.

use std::fmt::Write as _;

/// Appends a segment so that only printable text comes out; any other byte becomes `%XX` as in RFC 3986 section 2.1.
///
/// What is percent-encoded already stays so. Visible ASCII stays; of the rest letters and digits in valid UTF-8 stay,
/// which leaves out control, formatting and bidirectional characters that make one label look like another.
pub(super) fn push_printable(out: &mut String, segment: &[u8]) {
    for chunk in segment.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_ascii_graphic() || (!char.is_ascii() && char.is_alphanumeric()) {
                out.push(char);
            } else {
                push_percent(out, char.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        push_percent(out, chunk.invalid());
    }
}

fn push_percent(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(out, "%{byte:02X}");
    }
}

/// The byte that the escape at the start of these bytes stands for, if there is one.
pub(super) fn percent_value(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::push_printable;

    #[test]
    fn only_printable_text_comes_out() {
        let table: [(&[u8], &str); 8] = [
            (b"plain-1.css", "plain-1.css"),
            (b"a%20b", "a%20b"),
            (b"a b\0\n\x7f", "a%20b%00%0A%7F"),
            (b"\"\\'", "\"\\'"),
            ("\u{e9}t\u{e9}".as_bytes(), "\u{e9}t\u{e9}"),
            (b"\xff\xc3", "%FF%C3"),
            ("\u{202e}x".as_bytes(), "%E2%80%AEx"),
            (b"", ""),
        ];
        for (bytes, text) in table {
            let mut out = String::new();
            push_printable(&mut out, bytes);
            assert_eq!(out, text);
        }
    }
}
