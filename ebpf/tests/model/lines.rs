//! Lines of a head, wherever they lie in the words and blocks in which they are looked for, and however short they are. What lines
//! mean is `rules`' subject.

use super::rules::{OK, found, length, play};

#[test]
fn every_line_is_found_though_nothing_but_line_feeds_is_around_it() {
    for lines in 0..=200 {
        // RFC 9112 2.2: empty lines in front, and lines that end with a line feed alone.
        let feeds = "\n".repeat(lines);
        let short = "a\n".repeat(lines);
        for (field, body) in [("Content-Length: 3", "abc"), ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")] {
            let request = format!("{feeds}PUT / HTTP/1.1\n{short}{field}\nc\n\n{body}");
            let ledger = play(&request.repeat(2), &OK.repeat(2));
            let exchange = ("PUT / HTTP/1.1".to_owned(), 200, [length(&request), length(OK)], [3, 0]);
            assert_eq!(found(&ledger), [exchange.clone(), exchange], "{lines} lines, {field}");
        }
    }
}
