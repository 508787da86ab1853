//! When the pass may leave a connection out until one of TCP's counters moves. That it then leaves nothing out is asserted wherever
//! a connection is passed over: `Connection::positions`.

use sockmeter_ebpf::posting::{INBOUND, OUTBOUND};

use super::connection::{Connection, Packet};
use super::outside::{Bounds, Host};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn at(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap()
}

fn receive(connection: &mut Connection, bytes: &[u8]) {
    connection.receive(Packet { from: 0, bytes, fin: false }, false);
    connection.streams[INBOUND] = at(bytes);
}

#[test]
fn a_connection_rests_once_what_tcp_took_is_posted() {
    let mut connection = Connection::accept(Bounds::AMPLE, [7, 9]);
    connection.positions();
    assert!(connection.rests());
    // Half a head, and all of it.
    for part in [&REQUEST[..9], REQUEST] {
        receive(&mut connection, part);
        assert!(!connection.rests());
        connection.positions();
        assert!(connection.rests());
    }
    connection.send(Packet { from: 0, bytes: ANSWER, fin: false });
    connection.streams[OUTBOUND] = at(ANSWER);
    assert!(!connection.rests());
    connection.positions();
    assert!(connection.rests());
}

#[test]
fn a_connection_whose_answer_tcp_did_not_take_yet_does_not_rest() {
    let mut connection = Connection::accept(Bounds::AMPLE, [7, 9]);
    receive(&mut connection, REQUEST);
    connection.send(Packet { from: 0, bytes: ANSWER, fin: false });
    connection.positions();
    assert!(!connection.rests());
}

#[test]
fn a_connection_that_found_no_room_in_the_journal_does_not_rest_until_it_does() {
    let mut connection = Connection::accept(Bounds { journal: 1, ..Bounds::AMPLE }, [7, 9]);
    receive(&mut connection, &REQUEST[..9]);
    connection.positions();
    receive(&mut connection, REQUEST);
    connection.positions();
    assert!(!connection.rests());
    assert_eq!(Host::drain().len(), 1);
    connection.positions();
    assert!(connection.rests());
}

#[test]
fn a_connection_with_bytes_that_no_hook_saw_does_not_rest() {
    let mut connection = Connection::accept(Bounds::AMPLE, [7, 9]);
    receive(&mut connection, REQUEST);
    connection.streams[OUTBOUND] = 1;
    connection.positions();
    assert!(!connection.rests());
}
