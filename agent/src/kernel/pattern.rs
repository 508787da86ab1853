//! Patterns for the names of interfaces, as for file names. Which interfaces there are is `device`'s.

/// A file-name pattern: `*` any characters, `?` one.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if matches(rest, name) => true,
        (Some((b'*', _)), Some((_, behind))) => matches(pattern, behind),
        (Some((b'?', rest)), Some((_, behind))) => matches(rest, behind),
        (Some((wanted, rest)), Some((found, behind))) if wanted == found => matches(rest, behind),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_patterns() {
        for (pattern, name, expected) in [
            ("*", "wg0", true),
            ("wg*", "wg0", true),
            ("wg*", "eth0", false),
            ("eth?", "eth0", true),
            ("eth?", "eth10", false),
            ("*0", "eth0", true),
            ("*0", "eth1", false),
            ("lo", "lo", true),
            ("lo", "lo0", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
