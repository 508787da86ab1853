//! How many records a conversation makes, and how often it takes the time: one record and as many times an exchange, whatever its
//! packets.

use sockmeter_ebpf::conn::Outside as _;
use sockmeter_ebpf::posting::{INBOUND, OUTBOUND};

use super::connection::{Connection, Packet};
use super::outside::{Bounds, Host};

/// One direction of a connection, in segments of so many bytes.
fn pass(connection: &mut Connection, direction: usize, bytes: &[u8], size: usize) {
    for segment in bytes.chunks(size) {
        let packet = Packet { from: connection.streams[direction], bytes: segment, fin: false };
        if direction == INBOUND {
            connection.receive(packet, false);
        } else {
            connection.send(packet);
        }
        connection.streams[direction] += u64::try_from(segment.len()).unwrap();
    }
}

/// A message whose head begins so, with a body of so many bytes.
fn with_body(start: &str, body: usize) -> Vec<u8> {
    let mut message = format!("{start}\r\nContent-Length: {body}\r\n\r\n").into_bytes();
    message.resize(message.len() + body, b'x');
    message
}

/// Records of so many exchanges, one after the other, with bodies of so many bytes both ways; and how often the clock was read.
fn records(exchanges: u32, body: usize, segment: usize) -> (usize, u64) {
    let mut connection = Connection::accept(Bounds::AMPLE, [5, 9]);
    let (request, answer) = (with_body("POST /jobs HTTP/1.1", body), with_body("HTTP/1.1 200 OK", body));
    for _ in 0..exchanges {
        pass(&mut connection, INBOUND, &request, segment);
        pass(&mut connection, OUTBOUND, &answer, segment);
    }
    connection.close();
    (Host::drain().len(), Host::clock_reads())
}

#[test]
fn an_exchange_makes_one_record_and_takes_the_time_as_often_however_many_packets_carry_it() {
    // When the request began, when its body was there, and when the answer was.
    for (body, segment, times) in [(0, 1460, 2), (0, 7, 2), (100_000, 1460, 3), (100_000, 101, 3)] {
        assert_eq!(records(50, body, segment), (50, 50 * times), "bodies of {body} bytes in segments of {segment}");
    }
}

type Later = fn(&mut Connection);

/// Who comes by at a connection: a pass, whoever sends the next answer, and its end.
const LATER: [Later; 3] = [
    Connection::positions,
    |connection| pass(connection, OUTBOUND, b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", 1460),
    Connection::close,
];

/// When the answers with status 200 ended that were posted.
fn ends() -> Vec<u64> {
    let postings = Host::drain().into_iter().map(|record| record.posting);
    postings.filter(|posting| posting.status == 200).map(|posting| posting.ended).collect()
}

#[test]
fn an_answer_ended_with_its_last_packet_whoever_comes_by_later() {
    for come_by in LATER {
        let mut connection = Connection::accept(Bounds::AMPLE, [5, 9]);
        pass(&mut connection, INBOUND, b"GET / HTTP/1.1\r\n\r\n", 1460);
        pass(&mut connection, OUTBOUND, &with_body("HTTP/1.1 200 OK", 100_000), 1460);
        let ended = Host::clock_reads();
        for _ in 0..10 {
            Host.now();
        }
        come_by(&mut connection);
        assert_eq!(ends(), [ended]);
    }
}

#[test]
fn an_answer_that_came_before_its_request_ended_when_that_began() {
    for come_by in LATER {
        let mut connection = Connection::accept(Bounds::AMPLE, [5, 9]);
        pass(&mut connection, OUTBOUND, &with_body("HTTP/1.1 200 OK", 100_000), 1460);
        pass(&mut connection, INBOUND, b"GET / HTTP/1.1\r\n\r\n", 1460);
        let began = Host::clock_reads();
        come_by(&mut connection);
        assert_eq!(ends(), [began]);
    }
}
