//! That books go on wherever the run that kept them was killed, with the same totals.
#![expect(clippy::unwrap_used, reason = "tests")]

use sockmeter_ebpf::posting::KIND_EXCHANGE;

use super::*;
use crate::model::shelf::Shelf;

fn scheduler(routes: &str) -> ServiceSettings {
    let routes = Routes::parse(routes).unwrap();
    ServiceSettings { name: "scheduler".to_owned(), routes, size_bounds: vec![100, 1_000], endpoint_limit: 200 }
}

/// Exchanges of three endpoints in turn, told by their sizes.
fn postings() -> Vec<(Posting, String)> {
    let exchange = |number: u32| {
        let size = 1_u64 << number;
        let bytes = [size, 3 * size];
        let posting = Posting {
            cookie: 7,
            number,
            kind: KIND_EXCHANGE,
            status: 200,
            stream: bytes,
            wire: bytes,
            requests: 1,
            began: 1,
            ended: 5_000_001,
            ..Posting::EMPTY
        };
        (posting, format!("GET /{} HTTP/1.1\r", ["a", "b", "c"][usize::try_from(number % 3).unwrap()]))
    };
    (1..=7).map(exchange).collect()
}

/// Takes the postings from where the books know that they were read to, and keeps them `each` at a time.
fn read_on(books: &mut Books<Shelf>, each: usize) {
    let from = usize::try_from(books.read().position).unwrap();
    let postings = postings();
    for (place, (posting, head)) in (1..).zip(&postings).skip(from) {
        assert!(!books.book(posting, head.as_bytes()), "a batch has room for three endpoints");
        if place % each == 0 || place == postings.len() {
            books.commit(Mark { journal: 1, position: u64::try_from(place).unwrap() });
        }
    }
}

#[test]
fn books_go_on_wherever_the_agent_was_killed() {
    const ROUTES: &str = "GET /a\nGET /b\nGET /c\n";
    for each in 1..=postings().len() {
        let mut books = Books::open(Shelf::new(1_000), vec![scheduler(ROUTES)]).unwrap();
        read_on(&mut books, each);
        let whole = books;
        let bytes: u64 = whole.cells().iter().map(|cell| cell.wire[0]).sum();
        assert_eq!((bytes, whole.cells().len()), (254, 3));
        // A new service takes two writes, and each commit takes a batch, three cells and a ledger at most.
        for writes in 2..=2 + 5 * postings().len() {
            let shelf = Shelf::new(1_000);
            let mut books = Books::open(shelf.killed_after(Some(writes)), vec![scheduler(ROUTES)]).unwrap();
            read_on(&mut books, each);
            // What was taken is not taken again under another name, if the routes have changed.
            let books = Books::open(shelf.killed_after(None), vec![scheduler("GET /{all}\n")]).unwrap();
            let (kept, read) = (books.cells().to_vec(), books.read());
            let mut books = Books::open(shelf.killed_after(None), vec![scheduler(ROUTES)]).unwrap();
            assert_eq!((books.cells(), books.read()), (kept.as_slice(), read));
            read_on(&mut books, each);
            let message = format!("killed after {writes} writes, {each} postings at a time");
            assert_eq!(books.cells(), whole.cells(), "{message}");
            let ledgers = [&books, &whole].map(|books| books.services()[0].ledger.clone());
            assert_eq!(ledgers[0], ledgers[1], "{message}");
        }
    }
}

#[test]
fn a_batch_is_full_before_it_cannot_hold_the_next_posting() {
    let mut books = Books::open(Shelf::new(1_000), vec![scheduler("GET /{one}\n")]).unwrap();
    let full = (0..100).find(|status| {
        let (posting, head) = &postings()[0];
        books.book(&Posting { status: 200 + status, number: u32::from(*status) + 1, ..*posting }, head.as_bytes())
    });
    // The ledger, and a cell for each status.
    assert_eq!(full.map(usize::from), Some(BATCH_RECORDS - MOST_CHANGED - 1));
}

#[test]
fn other_bounds_are_kept_with_the_sizes_that_they_make_unknown() {
    let body = Posting { body: [0, 50], ..postings()[0].0 };
    let shelf = Shelf::new(1_000);
    let mut books = Books::open(shelf.clone(), vec![scheduler("GET /{one}\n")]).unwrap();
    books.book(&body, b"GET /a HTTP/1.1\r");
    books.commit(Mark { journal: 1, position: 1 });
    assert_eq!(books.cells()[0].sizes[1][..3], [1, 0, 0]);
    let wider = ServiceSettings { size_bounds: vec![10], ..scheduler("GET /{one}\n") };
    drop(Books::open(shelf.clone(), vec![wider.clone()]).unwrap());
    // Opened once more with the same bounds, they are what the last run knew.
    let books = Books::open(shelf, vec![wider]).unwrap();
    assert_eq!(books.cells()[0].sizes[1][..3], [0, 1, 0]);
}
