//! What one client may have, and that taking more harms nobody else. No test here measures time: each waits for what
//! must happen.

use std::io::{Read, Write};
use std::time::Duration;

use sockmeter::config::Access;
use sockmeter::http::Bounds;
use tokio::sync::{Semaphore, mpsc};

use crate::serving::{Answer, Given, Serving, is_closed, write_request};

/// A head of exactly that many bytes.
fn head_of(bytes: usize) -> Vec<u8> {
    let start = "GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx: ";
    let end = "\r\n\r\n";
    format!("{start}{}{end}", "x".repeat(bytes - start.len() - end.len())).into_bytes()
}

#[test]
fn a_head_of_16_kib_is_taken_and_a_larger_one_is_not() {
    let serving = Serving::open(Given::default());
    for (bytes, wanted) in [(16 << 10, 200), ((16 << 10) + 1, 431), (17 << 10, 431)] {
        let mut stream = serving.connect();
        stream.write_all(&head_of(bytes)).unwrap();
        assert_eq!(Answer::read(&mut stream).status, wanted, "{bytes} bytes");
    }
}

#[test]
fn a_body_of_1_mib_is_taken_and_a_larger_one_is_not() {
    let serving = Serving::open(Given::default());
    let announced = format!("content-length: {}", (1 << 20) + 1);
    assert_eq!(serving.ask("GET /healthz", &[&announced]).status, 413);
    for (bytes, wanted) in [(1 << 20, 200), ((1 << 20) + 1, 413)] {
        let mut stream = serving.connect();
        write_request(&mut stream, "GET /healthz", &["transfer-encoding: chunked"]);
        write!(stream, "{bytes:x}\r\n").unwrap();
        stream.write_all(&vec![b'x'; bytes]).unwrap();
        if wanted == 200 {
            stream.write_all(b"\r\n0\r\n\r\n").unwrap();
        }
        assert_eq!(Answer::read(&mut stream).status, wanted, "{bytes} bytes");
    }
}

#[test]
fn a_head_that_does_not_come_to_its_end_loses_its_connection() {
    let bounds = Bounds { head_time: Duration::from_millis(50), ..Bounds::default() };
    let serving = Serving::with(Given::default(), &Access::default(), bounds);
    let mut slow = serving.connect();
    slow.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    assert!(is_closed(&mut slow));
    assert_eq!(serving.ask("GET /metrics", &[]).text(), "text page\n");
}

#[test]
fn when_every_place_is_taken_the_oldest_without_a_complete_head_goes() {
    let serving = Serving::open(Given::default());
    let mut waiting = Vec::new();
    for number in 0..256_u16 {
        let mut stream = serving.connect_from(u8::try_from(number / 32).unwrap() + 2);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n").unwrap();
        waiting.push(stream);
    }
    // From an address that has no other connection.
    assert_eq!(serving.ask("GET /metrics", &[]).text(), "text page\n");
    assert!(is_closed(waiting.first_mut().unwrap()));
    for stream in waiting.iter_mut().skip(1) {
        stream.write_all(b"\r\n").unwrap();
        assert_eq!(Answer::read(stream).text(), "text page\n");
    }
}

#[test]
fn a_peer_that_has_its_share_gives_up_its_own_oldest() {
    let serving = Serving::open(Given::default());
    let mut other = serving.connect_from(2);
    other.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n").unwrap();
    let mut waiting: Vec<_> = (0..32).map(|_| serving.connect()).collect();
    assert_eq!(serving.ask("GET /metrics", &[]).text(), "text page\n");
    assert!(is_closed(waiting.first_mut().unwrap()));
    other.write_all(b"\r\n").unwrap();
    assert_eq!(Answer::read(&mut other).text(), "text page\n");
    for stream in waiting.iter_mut().skip(1) {
        write_request(stream, "GET /metrics", &[]);
        assert_eq!(Answer::read(stream).text(), "text page\n");
    }
}

#[test]
fn the_33rd_connection_of_a_peer_is_refused_while_32_are_being_answered() {
    let (asked, mut heard) = mpsc::unbounded_channel();
    let serving = Serving::open(Given { permits: Semaphore::new(0), asked: Some(asked), ..Given::default() });
    let mut served: Vec<_> = (0..32)
        .map(|number| {
            let mut stream = serving.connect();
            write_request(&mut stream, &format!("GET /metrics?name[]={number}"), &[]);
            stream
        })
        .collect();
    // One is made at a time, the others wait for that.
    assert_eq!(heard.blocking_recv().unwrap().families, ["0"]);
    assert!(is_closed(&mut serving.connect()));
    let mut other = serving.connect_from(2);
    write_request(&mut other, "GET /healthz", &[]);
    assert_eq!(Answer::read(&mut other).status, 200);
    serving.source.permits.add_permits(32);
    for stream in &mut served {
        assert_eq!(Answer::read(stream).text(), "text page\n");
    }
}

#[test]
fn a_reader_that_does_not_read_loses_its_place() {
    // Nobody takes the only place from it: its own time ends it.
    let grace = Duration::from_hours(1);
    let bounds = Bounds { connections: 1, grace, answer_time: Duration::from_millis(50), ..Bounds::default() };
    let page = vec![b'x'; 64 << 20];
    let serving = Serving::with(Given { page, ..Given::default() }, &Access::default(), bounds);
    let mut slow = serving.connect();
    write_request(&mut slow, "GET /metrics", &[]);
    // Its first byte shows that it is being answered; until it is given up nobody else gets the only place.
    slow.read_exact(&mut [0; 1]).unwrap();
    let status = loop {
        let mut stream = serving.connect();
        let request = b"GET /healthz HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
        let mut answer = Vec::new();
        // A refused connection fails in any of these places.
        if stream.write_all(request).is_ok()
            && stream.read_to_end(&mut answer).is_ok()
            && let Some(answer) = Answer::parse(&answer)
        {
            break answer.status;
        }
    };
    assert_eq!(status, 200);
    let mut rest = Vec::new();
    let ended = slow.read_to_end(&mut rest);
    assert!(rest.len() < 64 << 20, "{ended:?}");
}

#[test]
fn a_stop_closes_idle_connections_and_finishes_answers() {
    let (asked, mut heard) = mpsc::unbounded_channel();
    let given = Given { permits: Semaphore::new(0), asked: Some(asked), ..Given::default() };
    let mut serving = Serving::with(given, &Access::default(), Bounds::default());
    let mut idle = serving.connect();
    let mut asking = serving.connect();
    write_request(&mut asking, "GET /metrics", &[]);
    assert_eq!(heard.blocking_recv().unwrap().families, Vec::<String>::new());
    let source = std::sync::Arc::clone(&serving.source);
    std::thread::scope(|scope| {
        scope.spawn(|| serving.stop());
        assert!(is_closed(&mut idle));
        source.permits.add_permits(1);
        assert_eq!(Answer::read(&mut asking).text(), "text page\n");
    });
    assert_eq!(
        std::net::TcpStream::connect(serving.address).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
}

#[test]
fn a_stop_does_not_wait_for_an_answer_that_never_comes() {
    let (asked, mut heard) = mpsc::unbounded_channel();
    let given = Given { permits: Semaphore::new(0), asked: Some(asked), ..Given::default() };
    let bounds = Bounds { stop_time: Duration::from_millis(10), ..Bounds::default() };
    let mut serving = Serving::with(given, &Access::default(), bounds);
    let mut asking = serving.connect();
    write_request(&mut asking, "GET /metrics", &[]);
    assert_eq!(heard.blocking_recv().unwrap().families, Vec::<String>::new());
    serving.stop();
    assert!(is_closed(&mut asking));
}

#[test]
fn all_who_ask_before_a_page_is_begun_get_the_same_one() {
    let (asked, mut heard) = mpsc::unbounded_channel();
    let serving = Serving::open(Given { permits: Semaphore::new(0), asked: Some(asked), ..Given::default() });
    let ask = |number: usize| {
        let mut stream = serving.connect();
        write_request(&mut stream, &format!("GET /metrics?name[]={number}"), &[]);
        stream
    };
    let mut first = ask(0);
    assert_eq!(heard.blocking_recv().unwrap().families, ["0"]);
    // The page that is being made may be older than these questions.
    let mut others: Vec<_> = [0, 1, 0, 1, 0].map(ask).into();
    // Those have been read when this one is answered, which came after them.
    assert_eq!(serving.ask("GET /healthz", &[]).status, 200);
    serving.source.permits.add_permits(3);
    assert_eq!(Answer::read(&mut first).text(), "text page\n");
    for stream in &mut others {
        assert_eq!(Answer::read(stream).text(), "text page\n");
    }
    let mut made = [heard.blocking_recv().unwrap().families, heard.blocking_recv().unwrap().families].concat();
    made.sort();
    assert_eq!(made, ["0", "1"]);
    assert_eq!(heard.try_recv(), Err(mpsc::error::TryRecvError::Empty));
}

#[test]
fn of_what_is_asked_in_advance_nothing_is_made_before_the_answer_is_taken() {
    let (asked, mut heard) = mpsc::unbounded_channel();
    let serving = Serving::open(Given {
        page: vec![b'x'; 64 << 20],
        permits: Semaphore::new(4),
        asked: Some(asked),
        ..Given::default()
    });
    let mut greedy = serving.connect();
    greedy.write_all(&b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n".repeat(3)).unwrap();
    heard.blocking_recv().unwrap();
    greedy.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(serving.ask("GET /metrics", &[]).body.len(), (64 << 20) + 5);
    heard.blocking_recv().unwrap();
    assert_eq!(heard.try_recv(), Err(mpsc::error::TryRecvError::Empty));
}

#[test]
fn a_reader_is_answered_while_others_ask_and_do_not_read() {
    let (asked, mut heard) = mpsc::unbounded_channel();
    let page = vec![b'x'; 20 << 20];
    let bounds = Bounds { answer_bytes: 32 << 20, ..Bounds::default() };
    let serving = Serving::with(Given { page, asked: Some(asked), ..Given::default() }, &Access::default(), bounds);
    let mut greedy: Vec<_> = (0..200)
        .map(|number| {
            let mut stream = serving.connect_from(u8::try_from(number % 10).unwrap() + 1);
            // Different questions have different pages.
            write_request(&mut stream, &format!("GET /metrics?name[]={number}"), &[]);
            stream
        })
        .collect();
    for last in [1, 99] {
        let mut reader = serving.connect_from(last);
        write_request(&mut reader, "GET /metrics", &[]);
        assert_eq!(Answer::read(&mut reader).body.len(), (20 << 20) + 5, "from 127.0.0.{last}");
    }
    // Two fill the budget: whoever was answered before these has lost its page.
    let mut whole = 0;
    for stream in &mut greedy {
        let mut bytes = Vec::new();
        // Cut off, or reset: both mean that it lost its place.
        let _ = stream.read_to_end(&mut bytes);
        whole += usize::from(bytes.len() > 20 << 20);
    }
    let made = std::iter::from_fn(|| heard.try_recv().ok()).count();
    assert_eq!((made, whole <= 2), (202, true), "{whole} whole pages");
}
