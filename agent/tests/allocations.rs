//! How many allocations the ways take that every exchange and every scrape goes: a count that repeats exactly, where a time
//! would not. Times are `cargo xtask bench`'s.
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use std::collections::BTreeMap;

use allocation_counter::measure;
use sockmeter::exposition::accounts::Accounts;
use sockmeter::exposition::{Format, Page};
use sockmeter::model::sockets::Bounds;
use sockmeter::model::{Books, Forgetful, ServiceSettings, Sums};
use sockmeter::route::Routes;
use sockmeter::snapshot::{Booking as _, Mark, Posting, Snapshot};
use sockmeter_ebpf::posting::KIND_EXCHANGE;

/// Books with exchanges of so many declared endpoints.
fn books(endpoints: u32) -> Books<Forgetful> {
    let routes = (0..endpoints).map(|number| format!("GET /series/{number}")).collect::<Vec<_>>().join("\n");
    let service = ServiceSettings {
        name: "scheduler".to_owned(),
        routes: Routes::parse(&routes).unwrap(),
        size_bounds: vec![100, 1_000, 10_000],
        endpoint_limit: 2_000,
    };
    let mut books = Books::open(Forgetful, vec![service]).unwrap();
    for number in 0..endpoints {
        if books.book(&exchange(number), head(number).as_bytes()) {
            books.commit(Mark::default());
        }
    }
    books.commit(Mark::default());
    books
}

fn exchange(number: u32) -> Posting {
    let wire = [120, 300];
    Posting {
        cookie: 7,
        number,
        kind: KIND_EXCHANGE,
        status: 200,
        stream: wire,
        wire,
        body: [0, 100],
        requests: 1,
        began: 1_000_000_000,
        ended: 1_007_500_000,
        ..Posting::EMPTY
    }
}

fn head(number: u32) -> String {
    format!("GET /series/{number} HTTP/1.1\r")
}

/// Allocations of writing the page of these books.
fn page(books: &Books<Forgetful>) -> u64 {
    let (rates, snapshot) = (BTreeMap::new(), Snapshot::default());
    let accounts = Accounts {
        services: books.services(),
        cells: books.cells(),
        rates: &rates,
        snapshot: &snapshot,
        holders: Sums::default(),
        bounds: Bounds { ports: 100, processes: 200 },
        refused: 0,
        damaged: 0,
        folded: 0,
        derives: false,
    };
    let mut length = 0;
    let counted = measure(|| {
        let mut page = Page::new(Format::Text);
        accounts.write(&mut page);
        length = page.finish().len();
    });
    assert!(length > 1_000, "a page of {length} bytes");
    counted.count_total
}

#[test]
fn an_exchange_of_a_known_endpoint_is_booked_without_growing() {
    let mut books = books(100);
    let (posting, head) = (exchange(100), head(50));
    let counted = measure(|| {
        books.book(&posting, head.as_bytes());
    });
    assert_eq!((counted.count_total, counted.count_current), (0, 0));
}

#[test]
fn the_page_takes_two_allocations_an_endpoint() {
    let [few, some, many] = [500, 1_000, 1_500].map(|endpoints| page(&books(endpoints)));
    // Whole ones: what is left over is the page itself, which doubles a few times.
    assert_eq!([(some - few) / 500, (many - some) / 500], [2, 2]);
}
