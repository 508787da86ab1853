//! Escaping of label values and HELP texts. Bytes that are not text were made text before (`route`, `upstream`).

use super::Format;

/// Appends a label value; both formats escape the same three characters.
pub(crate) fn push_label_value(out: &mut String, value: &str) {
    push_escaped(out, value, true);
}

/// Appends a HELP text; only OpenMetrics escapes its quotes.
pub(crate) fn push_help(out: &mut String, text: &str, format: Format) {
    push_escaped(out, text, format == Format::OpenMetrics);
}

fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    let mut rest = text;
    while let Some(at) = rest.find(|char| matches!(char, '\\' | '\n') || (quotes && char == '"')) {
        let (plain, special) = rest.split_at(at);
        out.push_str(plain);
        out.push_str(match special.as_bytes().first() {
            Some(b'\n') => "\\n",
            Some(b'"') => "\\\"",
            _ => "\\\\",
        });
        rest = special.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::{push_help, push_label_value};
    use crate::exposition::Format;

    #[test]
    fn each_format_has_its_rules() {
        let text = "a\"b\\c\nd\u{e9}\\";
        let (mut label, mut plain, mut open) = (String::new(), String::new(), String::new());
        push_label_value(&mut label, text);
        push_help(&mut plain, text, Format::Text);
        push_help(&mut open, text, Format::OpenMetrics);
        assert_eq!(label, "a\\\"b\\\\c\\nd\u{e9}\\\\");
        assert_eq!(plain, "a\"b\\\\c\\nd\u{e9}\\\\");
        assert_eq!(open, label);
    }
}
