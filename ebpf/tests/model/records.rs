//! How many records a conversation makes: one an exchange, whatever its packets.

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

/// Records of so many exchanges, one after the other, with bodies of so many bytes both ways.
fn records(exchanges: u32, body: usize, segment: usize) -> usize {
    let mut connection = Connection::accept(Bounds::AMPLE, [5, 9]);
    let with_body = |start: &str| {
        let mut message = format!("{start}\r\nContent-Length: {body}\r\n\r\n").into_bytes();
        message.resize(message.len() + body, b'x');
        message
    };
    let (request, answer) = (with_body("POST /jobs HTTP/1.1"), with_body("HTTP/1.1 200 OK"));
    for _ in 0..exchanges {
        pass(&mut connection, INBOUND, &request, segment);
        pass(&mut connection, OUTBOUND, &answer, segment);
    }
    connection.close();
    Host::drain().len()
}

#[test]
fn an_exchange_makes_one_record_however_many_packets_carry_it() {
    assert_eq!(records(50, 0, 1460), 50);
    assert_eq!(records(50, 0, 7), 50);
    assert_eq!(records(50, 100_000, 1460), 50);
}
