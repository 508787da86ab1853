//! Not a subject of its own: waits until all connections to port 8080 ended, and compares exchanges, sockets and ledger
//! with what the clients counted.

use anyhow::Result;
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left};
use sockmeter_tests::page::Page;
use sockmeter_tests::server::Counted;
use sockmeter_tests::tally::{Tally, whole};

use crate::equal_books::balanced;

/// `[received, transmitted]` bytes of all sockets at port 8080 with a role.
pub(crate) fn sockets(page: &Page, role: &str) -> [u64; 2] {
    ["sockmeter_socket_receive_bytes_total", "sockmeter_socket_transmit_bytes_total"]
        .map(|family| whole(page.sum(family, &[("protocol", "tcp"), ("port", "8080"), ("role", role)])))
}

/// `[inbound, outbound]` bytes that belong to no exchange, for a reason.
pub(crate) fn unattributed(page: &Page, reason: &str) -> [u64; 2] {
    ["inbound", "outbound"].map(|direction| {
        let labels = [("direction", direction), ("reason", reason)];
        whole(page.sum("scheduler_http_unattributed_bytes_total", &labels))
    })
}

/// The page after the end of all connections, which carried `all`.
pub(crate) fn ended(agent: &Agent<'_>, all: Counted) -> Result<Page> {
    agent.scrape_until("the end of all connections", |page| {
        only_the_scrape_is_left(page) && sockets(page, "server") == [all.inbound, all.outbound]
    })
}

/// Everything is booked as the clients counted it, and nothing was lost.
pub(crate) fn exact(agent: &Agent<'_>, clients: &Tally, all: Counted) -> Result<Page> {
    let page = ended(agent, all)?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(clients), Vec::<String>::new());
    assert_eq!(page.get("scheduler_http_requests_total").map(whole), Some(all.exchanges));
    assert_eq!(sockets(&page, "client"), [all.outbound, all.inbound]);
    balanced(&page);
    Ok(page)
}
