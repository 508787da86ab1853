//! Lines of a head, wherever they lie in the words, blocks and segments in which they are looked for, and however short they are.
//! What lines mean is `rules`' subject.

use sockmeter_ebpf::posting::{INBOUND, OUTBOUND};

use super::connection::{Connection, Packet};
use super::outside::Bounds;
use super::rules::{OK, end, found, length, play};

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

#[test]
fn a_field_is_found_wherever_its_line_is_cut() {
    for (field, body) in [("cOnTeNt-LeNgTh:3", "abc"), ("TRANSFER-ENCODING:chunked", "3\r\nabc\r\n0\r\n\r\n")] {
        let request = format!("PUT / HTTP/1.1\r\nCookie: c\r\n{field}\r\nT: t\r\n\r\n{body}");
        for cut in 1..request.len() {
            let mut connection = Connection::accept(Bounds::AMPLE, [u32::MAX, 17]);
            let (first, rest) = request.split_at(cut);
            connection.receive(Packet { from: 0, bytes: first.as_bytes(), fin: false }, false);
            connection.streams[INBOUND] = length(first);
            connection.receive(Packet { from: length(first), bytes: rest.as_bytes(), fin: false }, false);
            connection.streams[INBOUND] = length(&request);
            connection.send(Packet { from: 0, bytes: OK.as_bytes(), fin: false });
            connection.streams[OUTBOUND] = length(OK);
            let exchange = ("PUT / HTTP/1.1".to_owned(), 200, [length(&request), length(OK)], [3, 0]);
            assert_eq!(found(&end(connection)), [exchange], "{field}, cut at {cut}");
        }
    }
}
