//! The closed set of `method` label values. Paths are in `target`, what is declared for them in `tree`.

/// The label of a method that nobody registered.
pub const OTHER: &str = "OTHER";

/// The IANA "Hypertext Transfer Protocol (HTTP) Method Registry", sorted, so that a look-up can halve it.
///
/// `*` is left out: it is reserved there so that nobody uses it (RFC 9110 section 18.2).
const REGISTERED: [&str; 40] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// The `method` label of a request: the registered method, else [`OTHER`].
///
/// Methods are case-sensitive (RFC 9110 section 9.1), so `get` is not `GET`; it is [`OTHER`].
///
/// # Examples
///
/// ```
/// use sockmeter::route::method_label;
/// assert_eq!(method_label(b"POST"), "POST");
/// assert_eq!(method_label(b"post"), "OTHER");
/// ```
pub fn method_label(token: &[u8]) -> &'static str {
    // Nearly every request is one of these two; the rest may search.
    match token {
        b"GET" => "GET",
        b"POST" => "POST",
        _ => registered(token).unwrap_or(OTHER),
    }
}

/// The registered method of this spelling, if there is one.
pub(super) fn registered(token: &[u8]) -> Option<&'static str> {
    let place = REGISTERED.binary_search_by(|name| name.as_bytes().cmp(token)).ok()?;
    REGISTERED.get(place).copied()
}

#[cfg(test)]
mod tests {
    use super::{OTHER, REGISTERED, method_label};

    #[test]
    fn the_list_is_sorted_so_that_every_entry_is_found() {
        for name in REGISTERED {
            assert_eq!(method_label(name.as_bytes()), name);
        }
    }

    #[test]
    fn what_is_not_registered_is_other() {
        for token in ["", "get", "Get", "BREW", "GETX", "GE", "*", "OTHER", "G\0ET", "\u{e9}"] {
            assert_eq!(method_label(token.as_bytes()), OTHER, "{token:?}");
        }
        assert_eq!(method_label(&[0xff; 8192]), OTHER);
    }
}
