//! The exporter's port under attack: a reader who asks properly is answered, accounting goes on, memory stays bounded.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context as _, Result, anyhow};
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left};
use sockmeter_tests::attack::{crowd, garbage, huge_heads, make_room_for, slow_loris, statuses, wrong_tokens};
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::process::run;
use sockmeter_tests::tally::Tally;
use sockmeter_tests::wait;

use crate::equal_books::balanced;

/// Connections at once.
const CROWD: usize = 10_000;
const TOKEN: &str = "the-one-and-only-token";
/// What the agent's resident memory stays below, attacked or not, as README.md says: KiB.
const MOST_MEMORY: u64 = 96 << 10;

/// A scrape of one who knows the token.
fn scrape(namespace: &Namespace, agent: &Agent<'_>) -> Result<Page> {
    let url = format!("{}/metrics", agent.url());
    let token = format!("Authorization: Bearer {TOKEN}");
    Page::parse(run(namespace.command("curl").args(["-sS", "--fail", "--max-time", "60", "-H", &token, &url]))?)
}

/// The most memory that the process ever had, in KiB (`VmHWM`, proc(5)).
fn most_memory(agent: &mut Agent<'_>) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.process().pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().next().context("no number")?.parse()?)
}

/// The page once nothing is open but the scrape itself.
fn until_all_is_over(namespace: &Namespace, agent: &Agent<'_>, clients: &Tally) -> Result<Page> {
    wait::until("the end of all connections", || {
        let page = scrape(namespace, agent)?;
        let all = Tally::of_page(&page, "scheduler").exchanges() == clients.exchanges();
        Ok((all && only_the_scrape_is_left(&page)).then_some(page))
    })
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread panicked"))?
}

#[test]
fn under_attack_readers_are_answered_and_the_books_are_right() -> Result<()> {
    make_room_for(CROWD)?;
    let namespace = Namespace::new()?;
    let _server = chunked_server(&namespace, 8080)?;
    let files = tempfile::tempdir()?;
    let token = files.path().join("token");
    std::fs::write(&token, TOKEN)?;
    let why = "the token's file is root's";
    let mut agent = Agent::start_as_root(&namespace, &["--auth-token-file", &token.to_string_lossy()], why)?;
    let port: SocketAddr = agent.url().trim_start_matches("http://").parse()?;
    let posts = Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat: 50, ..Step::default() };

    scrape(&namespace, &agent)?;
    let quiet = most_memory(&mut agent)?;
    let enough = AtomicBool::new(false);
    let (mut scrapes, mut clients) = (0, Tally::default());
    thread::scope(|scope| -> Result<()> {
        let (here, enough) = (&namespace, &enough);
        let loris = scope.spawn(move || here.enter(|| slow_loris(port, 200, enough)));
        let attack = scope.spawn(move || {
            here.enter(|| {
                assert_eq!(crowd(port, CROWD)?, CROWD);
                assert_eq!(statuses(port, huge_heads(30))?, BTreeSet::from(["431".to_owned()]));
                assert_eq!(statuses(port, garbage(60))?, BTreeSet::from(["400".to_owned()]));
                assert_eq!(statuses(port, wrong_tokens(60))?, BTreeSet::from(["401".to_owned()]));
                Ok(())
            })
        });
        let attack = Arc::new(attack);
        let goes_on = Arc::clone(&attack);
        let load = scope.spawn(move || -> Result<Tally> {
            let mut tally = Tally::default();
            while !goes_on.is_finished() {
                for count in play(here, "127.0.0.1", 8080, &vec![vec![posts.clone()]; 4])? {
                    count.tally(&mut tally, "/jobs");
                }
            }
            Ok(tally)
        });
        while !load.is_finished() {
            let page = scrape(here, &agent)?;
            for (labels, imbalance) in page.family("sockmeter_ledger_imbalance_bytes") {
                assert_eq!(imbalance, 0.0, "{labels:?} at scrape {scrapes}\n{}", page.text());
            }
            scrapes += 1;
        }
        enough.store(true, Ordering::Release);
        clients = joined(load)?;
        joined(Arc::into_inner(attack).context("somebody still watches the attack")?)?;
        assert!(joined(loris)? > 300, "the slow ones said nothing");
        Ok(())
    })?;
    assert!(scrapes > 10, "only {scrapes} scrapes within the attack");
    let page = until_all_is_over(&namespace, &agent, &clients)?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    balanced(&page);
    let memory = most_memory(&mut agent)?;
    eprintln!("{scrapes} scrapes, {} exchanges, {quiet} KiB before and {memory} KiB at most", clients.exchanges());
    assert!(memory < MOST_MEMORY, "{memory} KiB of memory");
    Ok(())
}
