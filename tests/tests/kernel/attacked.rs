//! The exporter's port under attack: a reader who asks properly is answered, accounting goes on, memory stays bounded.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context as _, Result, anyhow};
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left};
use sockmeter_tests::attack::{
    ask_and_do_not_read, crowd, garbage, huge_heads, make_room_for, read_slowly, slow_loris, statuses, wrong_tokens,
};
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::load::load;
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

/// Endpoints for a page of several megabytes.
const ENDPOINTS: usize = 2_000;
/// Connections that ask and do not read.
const DEAF: usize = 200;

/// A name in which nobody sees a number or an identifier.
fn path(number: usize) -> String {
    let digits = format!("{number:04}");
    format!("/{}", digits.bytes().map(|digit| char::from(digit + (b'k' - b'0'))).collect::<String>())
}

/// Every path once more, into the tally.
fn play_all(namespace: &Namespace, clients: &mut Tally) -> Result<()> {
    let steps: Vec<_> = (0..ENDPOINTS)
        .map(|number| Step { method: "POST", target: path(number), body: 9, ..Step::default() })
        .collect();
    let connections: Vec<_> = steps.chunks(ENDPOINTS / 4).map(<[Step]>::to_vec).collect();
    for count in play(namespace, "127.0.0.1", 8080, &connections)? {
        count.tally(clients, &count.target);
    }
    Ok(())
}

/// Scrapes from this address until the page is the books; none of the scrapes may fail.
fn scrape_from(namespace: &Namespace, agent: &Agent<'_>, address: &str, clients: &Tally) -> Result<Page> {
    let url = format!("{}/metrics", agent.url());
    let curl = ["-sS", "--fail", "--max-time", "60", "--interface", address, &url];
    wait::until("the page to be the books", || {
        let page = Page::parse(run(namespace.command("curl").args(curl))?)?;
        Ok(Tally::of_page(&page, "scheduler").differences(clients).is_empty().then_some(page))
    })
}

#[test]
fn clients_that_do_not_read_cost_little_memory_and_nobody_an_answer() -> Result<()> {
    if load(100) < 100 {
        println!("left out: pages of megabytes, made while hundreds ask, are more than this machine carries in time");
        return Ok(());
    }
    make_room_for(DEAF)?;
    let namespace = Namespace::new()?;
    let _server = chunked_server(&namespace, 8080)?;
    let files = tempfile::tempdir()?;
    let file = files.path().join("sockmeter.toml");
    std::fs::write(&file, format!("[service.scheduler]\nports = [8080]\nendpoint_limit = {ENDPOINTS}\n"))?;
    let mut agent = Agent::start(&namespace, &["--config", &file.to_string_lossy()])?;
    let port: SocketAddr = agent.url().trim_start_matches("http://").parse()?;

    let mut clients = Tally::default();
    play_all(&namespace, &mut clients)?;
    let page = scrape_from(&namespace, &agent, "127.0.0.1", &clients)?;
    assert!(page.text().len() > 4 << 20, "a page of {} bytes", page.text().len());
    let quiet = most_memory(&mut agent)?;
    // The whole page, asked for in a way of its own each time: these have no page in common.
    let families: Vec<_> =
        page.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let all: Vec<String> = families.iter().map(|family| format!("name[]={family}")).collect();
    let all = all.join("&");
    let whole = |number: usize| format!("/metrics?{all}&name[]={number}");
    let enough = AtomicBool::new(false);
    let closed = thread::scope(|scope| -> Result<usize> {
        let (here, whole, enough) = (&namespace, &whole, &enough);
        let same = scope
            .spawn(move || here.enter(|| ask_and_do_not_read(port, DEAF / 2, 9, |_| "/metrics".to_owned(), enough)));
        let different = scope.spawn(move || here.enter(|| ask_and_do_not_read(port, DEAF / 2, 9, whole, enough)));
        let answered = (|| {
            for _ in 0..3 {
                play_all(here, &mut clients)?;
                for address in ["127.0.0.1", "127.0.0.99"] {
                    scrape_from(here, &agent, address, &clients)?;
                }
                let [came, announced] = here.enter(|| read_slowly(port, "/metrics", 256 << 10))?;
                assert_eq!(came, announced, "bytes of a page that is read slowly");
            }
            Ok(())
        })();
        enough.store(true, Ordering::Release);
        let closed = joined(same)? + joined(different)?;
        answered.map(|()| closed)
    })?;
    let page = until_all_is_over(&namespace, &agent, &clients)?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    balanced(&page);
    let memory = most_memory(&mut agent)?;
    let size = page.text().len();
    eprintln!("a page of {size} bytes, {closed} lost their places, {quiet} KiB before and {memory} KiB at most");
    assert!(memory < MOST_MEMORY, "{memory} KiB of memory");
    assert!(closed > DEAF, "only {closed} of those who do not read lost their places");
    Ok(())
}
