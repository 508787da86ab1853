//! One small conversation per rule of HTTP/1 that decides where a message ends, with the section that says so.

use sockmeter_ebpf::layout::LOSS_PIPELINE;
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND, Reason};

use super::connection::{Connection, Packet};
use super::delivery::{Script, deliver_bytes};
use super::ledger::Ledger;
use super::outside::{Bounds, Host};

/// Requests, answers, and for each exchange `(line, status, wire, body)`.
type Row<'a> = (&'a str, &'a str, &'a str, &'a [(&'a str, u16, [u64; 2], [u64; 2])]);

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Everything that was asked comes in one segment, then everything that was answered in another, then the end.
pub(super) fn play(requests: &str, answers: &str) -> Ledger {
    let mut connection = Connection::accept(Bounds::AMPLE, [u32::MAX, 17]);
    connection.receive(Packet { from: 0, bytes: requests.as_bytes(), fin: false }, false);
    connection.streams[INBOUND] = length(requests);
    connection.send(Packet { from: 0, bytes: answers.as_bytes(), fin: false });
    connection.streams[OUTBOUND] = length(answers);
    end(connection)
}

pub(super) fn end(mut connection: Connection) -> Ledger {
    connection.close();
    let mut ledger = Ledger::default();
    ledger.read_journal();
    ledger.is_complete(connection.streams);
    ledger
}

pub(super) fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap()
}

pub(super) fn found(ledger: &Ledger) -> Vec<(String, u16, [u64; 2], [u64; 2])> {
    let line = |line: &[u8]| String::from_utf8(line.to_vec()).unwrap();
    ledger
        .exchanges
        .iter()
        .map(|exchange| (line(&exchange.line), exchange.status, exchange.wire, exchange.body))
        .collect()
}

#[test]
fn where_messages_end() {
    let table: &[Row<'_>] = &[
        (
            "RFC 9112 6.3 rule 1: no body after HEAD, 204 and 304, whatever the fields say",
            "HEAD /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHTTP/1.1 204 x\r\n\r\nHTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n",
            &[
                ("HEAD /a HTTP/1.1", 200, [20, 38], [0, 0]),
                ("GET /b HTTP/1.1", 204, [19, 18], [0, 0]),
                ("GET /c HTTP/1.1", 304, [19, 37], [0, 0]),
            ],
        ),
        (
            "RFC 9112 6.3 rule 2: a refused CONNECT is an exchange like any other",
            "CONNECT a:1 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "HTTP/1.1 403 no\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            &[("CONNECT a:1 HTTP/1.1", 403, [24, 40], [0, 2]), ("GET / HTTP/1.1", 200, [18, 38], [0, 0])],
        ),
        (
            "RFC 9112 6.3 rule 3, 9110 8.6: chunked wins over Content-Length",
            "POST / HTTP/1.1\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            OK,
            &[("POST / HTTP/1.1", 200, [80, 38], [3, 0])],
        ),
        (
            "RFC 9112 7.1: sizes in either case with zeros in front, extensions, trailers",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
            OK,
            &[("POST / HTTP/1.1", 200, [81, 38], [10, 0])],
        ),
        (
            "RFC 9112 6.3 rule 6: a request without framing fields has no body",
            "POST / HTTP/1.1\r\n\r\nGET / HTTP/1.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n!",
            &[("POST / HTTP/1.1", 200, [19, 38], [0, 0]), ("GET / HTTP/1.0", 200, [18, 39], [0, 1])],
        ),
        (
            "RFC 9112 6.3 rule 8: an answer without framing fields ends with the connection",
            "GET / HTTP/1.0\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\nHTTP/1.0 500 No\r\n\r\n",
            &[("GET / HTTP/1.0", 200, [18, 38], [0, 19])],
        ),
        (
            "RFC 9110 15.2: interim answers belong to the exchange",
            "POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            &[("POST / HTTP/1.1", 200, [40, 90], [2, 0])],
        ),
        (
            "RFC 9112 2.2: empty lines in front belong to the request, and a line may end with a line feed alone",
            "\r\n\r\nHEAD / HTTP/1.1\n\n",
            "HTTP/1.1 200 OK\nContent-Length: 7\n\n",
            &[("HEAD / HTTP/1.1", 200, [21, 35], [0, 0])],
        ),
        (
            "RFC 9110 5.1, 5.5: names in any case, white space around values",
            "POST / HTTP/1.1\r\ncOnTeNt-LeNgTh:\t 0003\r\n\r\nabcPOST / HTTP/1.1\r\nTRANSFER-ENCODING:gzip, Chunked \t\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            &[("POST / HTTP/1.1", 200, [45, 38], [3, 0]), ("POST / HTTP/1.1", 200, [59, 38], [0, 0])],
        ),
        (
            "RFC 9112 5.2: a folded line is no field",
            "GET / HTTP/1.1\r\nX: a\r\n Content-Length: 9\r\nTransfer-Encodings: chunked\r\n\r\n",
            OK,
            &[("GET / HTTP/1.1", 200, [73, 38], [0, 0])],
        ),
        (
            "the client is gone in the middle of a body",
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc",
            "",
            &[("POST / HTTP/1.1", 0, [41, 0], [3, 0])],
        ),
        (
            "the service is gone in the middle of a body, and a second request waits",
            "GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            &[("GET /a HTTP/1.1", 200, [19, 41], [0, 3]), ("GET /b HTTP/1.1", 0, [19, 0], [0, 0])],
        ),
        (
            "RFC 9110 15.5.1: a head that was refused before it was complete",
            "GET / HTTP/1.1\r\nX: ",
            "HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno",
            &[("GET / HTTP/1.1", 400, [19, 40], [0, 2])],
        ),
    ];
    for (rule, requests, answers, expected) in table {
        let ledger = play(requests, answers);
        let expected: Vec<_> =
            expected.iter().map(|(line, status, wire, body)| ((*line).to_owned(), *status, *wire, *body)).collect();
        assert_eq!(found(&ledger), expected, "{rule}");
        assert_eq!(ledger.lost, [0, 0], "{rule}");
    }
}

#[test]
fn what_is_no_http_has_a_reason() {
    let table = [
        ("\x16\x03\x01\x02", "\x15\x03", Reason::Tls),
        ("\x01\x02\x03", "\x04", Reason::NotHttp),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\0\0\0", Reason::NotHttp),
        ("GET / HTT", "", Reason::NotHttp),
        ("GET /\r\n", "hello", Reason::NotHttp),
    ];
    for (requests, answers, reason) in table {
        let ledger = play(requests, answers);
        assert_eq!(ledger.unattributed[reason as usize], [length(requests), length(answers)], "{requests:?}");
        assert_eq!(ledger.requests, 0, "{requests:?}");
    }
}

/// RFC 9110 7.8 and 9.3.6: both directions are another protocol's from the end of the exchange on, also what came before
/// the answer.
#[test]
fn an_upgrade_ends_http() {
    let request = "GET /chat HTTP/1.1\r\nUpgrade: x\r\n\r\n";
    let answer = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
    let ledger = play(&format!("{request}\u{1}frame"), &format!("{answer}GET / HTTP/1.1\r\n\r\n"));
    let wire = [length(request), length(answer)];
    assert_eq!(found(&ledger), [("GET /chat HTTP/1.1".to_owned(), 101, wire, [0, 0])]);
    assert_eq!(ledger.unattributed[Reason::Upgraded as usize], [6, 18]);
    assert_eq!(ledger.requests, 1);
}

/// A head that was refused is no complete head, and a line longer than what is kept is still an exchange (414).
#[test]
fn a_line_that_is_too_long_can_be_refused() {
    let request = format!("GET /{}", "a".repeat(9_000));
    let answer = "HTTP/1.1 414 Long\r\nContent-Length: 0\r\n\r\n";
    let ledger = play(&request, answer);
    assert_eq!(found(&ledger), [(request[..256].to_owned(), 414, [9_005, 40], [0, 0])]);
    assert_eq!(ledger.requests, 0);
}

/// RFC 9112 9.3.2: more requests than fit into the connection wait in the overflow map; where that is full they are lost.
#[test]
fn pipelined_requests_wait_for_their_answers() {
    let requests = "GET / HTTP/1.1\r\n\r\n".repeat(50);
    let answers = OK.repeat(50);
    let ledger = play(&requests, &answers);
    assert_eq!(found(&ledger), vec![("GET / HTTP/1.1".to_owned(), 200, [18, 38], [0, 0]); 50]);
    assert_eq!((ledger.requests, Host::losses(LOSS_PIPELINE)), (50, 0));

    let mut connection = Connection::accept(Bounds { deep: 3, ..Bounds::AMPLE }, [0, 0]);
    connection.receive(Packet { from: 0, bytes: requests.as_bytes(), fin: false }, false);
    connection.streams[INBOUND] = length(&requests);
    connection.send(Packet { from: 0, bytes: answers.as_bytes(), fin: false });
    connection.streams[OUTBOUND] = length(&answers);
    let ledger = end(connection);
    assert_eq!(ledger.exchanges.len(), 5);
    assert_eq!([ledger.given_up(INBOUND), ledger.given_up(OUTBOUND)], [45 * 18, 45 * 38]);
    assert_eq!((Host::losses(LOSS_PIPELINE), Host::deep_entries()), (1, 0));
}

/// A FIN that passed in front of the head of what it ends (RFC 9112 6.3 rule 8) ends it when the head is read.
#[test]
fn a_fin_may_come_early() {
    let answer = b"HTTP/1.0 200 OK\r\n\r\nbody";
    let request = b"GET / HTTP/1.0\r\n\r\n";
    let mut connection = Connection::accept(Bounds::AMPLE, [0, 0]);
    connection.receive(Packet { from: 0, bytes: request, fin: false }, false);
    connection.streams[INBOUND] = 18;
    connection.send(Packet { from: 19, bytes: &answer[19..], fin: true });
    connection.send(Packet { from: 0, bytes: &answer[..19], fin: false });
    connection.streams[OUTBOUND] = 23;
    connection.exchanges();
    let mut ledger = Ledger::default();
    ledger.read_journal();
    assert_eq!(found(&ledger), [("GET / HTTP/1.0".to_owned(), 200, [18, 23], [0, 4])]);
}

/// The hook saw three requests, TCP took one: the others never happened.
#[test]
fn requests_that_tcp_refused_are_not_counted() {
    let requests = "GET / HTTP/1.1\r\n\r\n".repeat(3);
    let mut connection = Connection::accept(Bounds::AMPLE, [0, 0]);
    connection.receive(Packet { from: 0, bytes: requests.as_bytes(), fin: false }, false);
    connection.streams[INBOUND] = 18;
    connection.positions();
    let ledger = end(connection);
    assert_eq!((ledger.requests, ledger.exchanges.len(), ledger.stream), (1, 1, [18, 0]));
    assert_eq!(Host::deep_entries(), 0);
}

/// A connection that is older than its observation is read from the first request after both directions were quiet; what
/// was set aside before keeps its reason when the next thing is set aside.
#[test]
fn reading_begins_in_the_middle_of_a_connection() {
    let mut connection = Connection::mid_stream(Bounds::AMPLE, [u32::MAX - 7, 9], [1_000, 2_000], false);
    let request = b"GET / HTTP/1.1\r\n\r\n";
    let answer = b"HTTP/1.1 101 Go\r\n\r\nopaque";
    connection.receive(Packet { from: 1_000, bytes: b"tail", fin: false }, true);
    connection.streams[INBOUND] = 1_004;
    connection.send(Packet { from: 2_000, bytes: b"answer", fin: false });
    connection.streams[OUTBOUND] = 2_006;
    connection.receive(Packet { from: 1_004, bytes: request, fin: false }, true);
    connection.streams[INBOUND] = 1_022;
    connection.send(Packet { from: 2_006, bytes: answer, fin: false });
    connection.streams[OUTBOUND] = 2_031;
    connection.close();
    let mut ledger = Ledger::default();
    ledger.read_journal();
    assert_eq!(found(&ledger), [("GET / HTTP/1.1".to_owned(), 101, [18, 19], [0, 0])]);
    assert_eq!(ledger.unattributed[Reason::MidStream as usize], [4, 6]);
    assert_eq!(ledger.unattributed[Reason::Upgraded as usize], [0, 6]);
    assert_eq!((ledger.lost, ledger.open), ([0, 0], [0, 0]));
}

/// An older connection on which nothing is on its way may begin a request with its next bytes: if they do, it is read.
#[test]
fn reading_begins_at_once_in_an_idle_connection() {
    let mut connection = Connection::mid_stream(Bounds::AMPLE, [7, 9], [1_000, 2_000], true);
    connection.receive(Packet { from: 1_000, bytes: b"GET / HTTP/1.1\r\n\r\n", fin: false }, true);
    connection.streams[INBOUND] = 1_018;
    connection.send(Packet { from: 2_000, bytes: OK.as_bytes(), fin: false });
    connection.streams[OUTBOUND] = 2_038;
    connection.close();
    let mut ledger = Ledger::default();
    ledger.read_journal();
    assert_eq!(found(&ledger), [("GET / HTTP/1.1".to_owned(), 200, [18, 38], [0, 0])]);
    assert_eq!(ledger.unattributed[Reason::MidStream as usize], [0, 0]);
    assert_eq!((ledger.lost, ledger.open), ([0, 0], [0, 0]));
}

/// ... if they do not, they belong to what was there before, and so does the answer; the next request is read.
#[test]
fn what_goes_on_in_an_idle_connection_is_not_a_request() {
    for rest in [
        "rest of a body",
        "\r\n\r\n",
        "Accept: */*\r\n\r\n",
        "{\"a\": 1}\r\n",
        // Halves of a request line: of the target, and of the method.
        "lves HTTP/1.1\r\nHost: x\r\n\r\n",
        "JOBS HTTP/1.1\r\n\r\n",
        "a/b/c/d?e=f HTTP/1.1\r\n\r\n",
        "et /jobs HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = Connection::mid_stream(Bounds::AMPLE, [7, 9], [1_000, 2_000], true);
        let tail = length(rest);
        connection.receive(Packet { from: 1_000, bytes: rest.as_bytes(), fin: false }, true);
        connection.streams[INBOUND] = 1_000 + tail;
        connection.positions();
        connection.send(Packet { from: 2_000, bytes: OK.as_bytes(), fin: false });
        connection.streams[OUTBOUND] = 2_038;
        connection.positions();
        let next = 1_000 + tail;
        connection.receive(Packet { from: next, bytes: b"GET / HTTP/1.1\r\n\r\n", fin: false }, true);
        connection.streams[INBOUND] = next + 18;
        connection.send(Packet { from: 2_038, bytes: OK.as_bytes(), fin: false });
        connection.streams[OUTBOUND] = 2_076;
        connection.close();
        let mut ledger = Ledger::default();
        ledger.read_journal();
        assert_eq!(found(&ledger), [("GET / HTTP/1.1".to_owned(), 200, [18, 38], [0, 0])], "{rest}");
        assert_eq!(ledger.unattributed[Reason::MidStream as usize], [tail, 38], "{rest}");
        assert_eq!((ledger.lost, ledger.open), ([0, 0], [0, 0]), "{rest}");
    }
}

/// Of a chunk size some digits are looked at; where they are not all, no more is read.
#[test]
fn a_chunk_size_of_too_many_digits_is_no_chunk_size() {
    for (zeros, size) in
        [120, 134, 140, 300, 1_100].into_iter().flat_map(|zeros| [1, 64, 5_000].map(|size| (zeros, size)))
    {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let request = format!("{head}{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(zeros));
        let mut connection = Connection::accept(Bounds::AMPLE, [7, 9]);
        for (from, bytes) in (0..).step_by(size).zip(request.as_bytes().chunks(size)) {
            connection.receive(Packet { from, bytes, fin: false }, false);
        }
        connection.send(Packet { from: 0, bytes: OK.as_bytes(), fin: false });
        let all = [length(&request), length(OK)];
        connection.streams = all;
        let ledger = end(connection);
        let booked = found(&ledger);
        if booked.is_empty() {
            assert!(zeros > 120, "{zeros} zeros in pieces of {size}");
            assert_eq!(ledger.unattributed[Reason::NotHttp as usize], all, "{zeros} zeros in pieces of {size}");
        } else {
            assert_eq!(booked, [("POST / HTTP/1.1".to_owned(), 200, all, [5, 0])], "{zeros} zeros in pieces of {size}");
        }
    }
}

/// What TCP passed on and the hook never saw will not come: the request is lost, and does not take what follows for its
/// body.
#[test]
fn what_the_hook_never_saw_is_not_waited_for() {
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let unseen = "5\r\nhello\r\n0\r\n\r\n";
    let mut connection = Connection::accept(Bounds::AMPLE, [7, 9]);
    connection.receive(Packet { from: 0, bytes: head.as_bytes(), fin: false }, false);
    connection.streams[INBOUND] = length(head) + length(unseen);
    connection.positions();
    connection.send(Packet { from: 0, bytes: OK.as_bytes(), fin: false });
    connection.streams[OUTBOUND] = length(OK);
    connection.positions();
    let next = length(head) + length(unseen);
    connection.receive(Packet { from: next, bytes: b"GET / HTTP/1.1\r\n\r\n", fin: false }, true);
    connection.streams[INBOUND] = next + 18;
    connection.send(Packet { from: length(OK), bytes: OK.as_bytes(), fin: false });
    connection.streams[OUTBOUND] = 2 * length(OK);
    let ledger = end(connection);
    assert_eq!(found(&ledger), [("GET / HTTP/1.1".to_owned(), 200, [18, 38], [0, 0])]);
}

/// Positions have 64 bits: sequence numbers wrap every 4 GiB.
#[test]
fn a_body_may_be_longer_than_4_gib() {
    const LENGTH: u64 = 5 << 30;
    const STEP: usize = 1 << 20;
    let head = format!("PUT / HTTP/1.1\r\nContent-Length: {LENGTH}\r\n\r\n");
    let mut connection = Connection::accept(Bounds::AMPLE, [u32::MAX - 3, 0]);
    connection.receive(Packet { from: 0, bytes: head.as_bytes(), fin: false }, false);
    let megabyte = vec![b'x'; STEP];
    let mut from = length(&head);
    let end_of_body = from + LENGTH;
    while from < end_of_body {
        connection.receive(Packet { from, bytes: &megabyte, fin: false }, false);
        from += u64::try_from(STEP).unwrap();
        connection.streams[INBOUND] = from;
    }
    connection.send(Packet { from: 0, bytes: OK.as_bytes(), fin: false });
    connection.streams[OUTBOUND] = length(OK);
    let ledger = end(connection);
    assert_eq!(found(&ledger), [("PUT / HTTP/1.1".to_owned(), 200, [end_of_body, 38], [LENGTH, 0])]);
}

/// RFC 9112 2.2: empty lines in front of a request line are to be ignored, also in judging what follows them.
#[test]
fn what_follows_empty_lines_is_judged_alike_however_it_is_cut() {
    for (requests, reason) in
        [("\r\n5 / HTTP/1.1\r\n\r\n", Reason::NotHttp), ("\r\n\x16 / HTTP/1.1\r\n\r\n", Reason::Tls)]
    {
        let streams = [requests.as_bytes().to_vec(), Vec::new()];
        let bytes = deliver_bytes(&Script { streams, fins: [false; 2], gates: Vec::new(), bases: [u32::MAX, 17] });
        for ledger in [play(requests, ""), bytes] {
            assert_eq!(found(&ledger), Vec::new(), "{requests:?}");
            assert_eq!(ledger.unattributed[reason as usize], [length(requests), 0], "{requests:?}");
        }
    }
}

#[test]
fn a_status_line_is_judged_without_what_an_earlier_one_left() {
    let request = "GET / HTTP/1.1\r\n\r\n";
    let (first, broken) = (OK, "HTTP/1.\nX: y\r\n\r\n");
    let ledger = play(&request.repeat(2), &[first, broken].concat());
    assert_eq!(found(&ledger), [("GET / HTTP/1.1".to_owned(), 200, [18, length(first)], [0, 0])]);
    assert_eq!(ledger.unattributed[usize::from(Reason::NotHttp as u8)], [18, length(broken)]);
}
