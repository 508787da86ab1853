//! A path that drops packets and sends some twice: what is sent again is counted apart, and nothing else changes.
//! Delays and reordering of every kind want netem, which is in `only_in_guests`.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::connection::{Request, counted, exchange, open};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::process::run;
use sockmeter_tests::server::{ANSWER, Counted, Server};
use sockmeter_tests::tally::{Tally, whole};
use sockmeter_tests::wait;

use crate::equal_books::balanced;
use crate::exact::ended;

const CONNECTIONS: usize = 4;
const EACH: u64 = 40;
/// Answers of 40 segments, and requests of 14.
const REQUEST: u64 = 20_000;
const TARGET: &str = "/bytes/57000";
const BIG: u64 = 57_000;

/// Loads a ruleset in a namespace's own tables.
fn rules(namespace: &Namespace, text: &str) -> Result<()> {
    let mut command: Command = namespace.command("nft");
    let mut child = command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        std::io::Write::write_all(&mut input, text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "nft refused:\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// The sum of a field of all connections to port 8080, as the kernel tells it to `ss`, once nothing is in flight.
fn kernels(namespace: &Namespace) -> Result<u64> {
    let field = |line: &str, name: &str| -> u64 {
        line.split_whitespace().find_map(|word| word.strip_prefix(name)?.parse().ok()).unwrap_or(0)
    };
    wait::until("everything to be acknowledged", || {
        let said = run(namespace.command("ss").args(["-tinOH", "state", "established", "sport", "=", ":8080"]))?;
        let quiet = |line: &str| line.split_whitespace().all(|word| !word.starts_with("unacked:"));
        let all = said.lines().count() == CONNECTIONS && said.lines().all(quiet);
        Ok(all.then(|| said.lines().map(|line| field(line, "bytes_retrans:")).sum()))
    })
}

fn retransmitted(page: &Page) -> u64 {
    let labels = [("role", "server"), ("port", "8080"), ("protocol", "tcp")];
    whole(page.sum("sockmeter_socket_retransmit_bytes_total", &labels))
}

/// Drives exchanges over a path with these rules, and compares. Gives the retransmitted bytes of the service.
fn over(rules_there: &str, rules_here: &str) -> Result<u64> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    // Packets as on a real wire, not the kernel's merged ones.
    here.ip(&["link", "set", "va", "gso_max_segs", "1"])?;
    there.ip(&["link", "set", "vb", "gso_max_segs", "1"])?;
    rules(&there, rules_there)?;
    rules(&here, rules_here)?;
    let agent = Agent::start(&there, &[])?;
    let server = Server::start(&there, "10.77.0.2:8080", 2 * CONNECTIONS)?;
    let (small, big) = (Request::post("/small", REQUEST), Request::get(TARGET));
    let (mut clients, mut all) = (Tally::default(), Counted::default());
    let mut connections = open(&here, server.address(), CONNECTIONS)?;
    exchange(&mut connections, &small, EACH)?;
    let first = counted(&connections);
    small.tally(&mut clients, "/small", first, ANSWER);
    exchange(&mut connections, &big, EACH)?;
    let both = counted(&connections);
    let second = Counted {
        connections: 0,
        exchanges: both.exchanges - first.exchanges,
        inbound: both.inbound - first.inbound,
        outbound: both.outbound - first.outbound,
    };
    big.tally(&mut clients, "/bytes/{id}", second, BIG);
    all += both;
    for namespace in [&here, &there] {
        let ruleset = run(namespace.command("nft").args(["list", "ruleset"]))?;
        assert!(!ruleset.contains("counter packets 0 "), "a rule did nothing:\n{ruleset}");
    }
    let again = kernels(&there)?;
    let page = agent.scrape()?;
    assert_eq!(retransmitted(&page), again, "retransmitted bytes, ours and the kernel's own");
    drop(connections);
    assert_eq!(server.finish()?, all);
    let page = ended(&agent, all)?;
    assert_eq!(Tally::of_page(&page, "scheduler").differences(&clients), Vec::<String>::new());
    balanced(&page);
    Ok(again)
}

/// A table with a chain for each of these hooks and what it does.
fn table(family: &str, chains: &[(&str, &str)]) -> String {
    let chain = |(hook, rule): &(&str, &str)| {
        let name = hook.split(' ').next().unwrap_or_default();
        format!("chain {name} {{\n type filter hook {hook} priority 0\n {rule}\n }}\n")
    };
    format!("table {family} path {{\n{}}}\n", chains.iter().map(chain).collect::<String>())
}

const LOSS: &str = "numgen random mod 100 < 3 counter drop";

/// Drops three of a hundred packets that arrive.
fn loss(device: &str) -> String {
    table("netdev", &[(&format!("ingress device \"{device}\""), LOSS)])
}

/// Sends ten of a hundred packets twice.
fn twice(device: &str) -> String {
    let rule = format!("numgen random mod 100 < 10 counter dup to \"{device}\"");
    table("netdev", &[(&format!("egress device \"{device}\""), &rule)])
}

#[test]
fn loss_changes_nothing_but_what_is_sent_again() -> Result<()> {
    assert!(over(&loss("vb"), &loss("va"))? > 0, "nothing was lost");
    Ok(())
}

#[test]
fn loss_on_the_way_out_of_the_service_changes_nothing() -> Result<()> {
    // The local stack drops it: the kernel sends again, and may not count that as a retransmission.
    let out = table("inet", &[("output", &format!("oifname \"vb\" {LOSS}"))]);
    over(&out, &loss("va"))?;
    Ok(())
}

#[test]
fn duplicates_change_nothing() -> Result<()> {
    over(&twice("vb"), &twice("va"))?;
    Ok(())
}

#[test]
fn loss_and_duplicates_together_change_nothing() -> Result<()> {
    let both = |device: &str| format!("{}{}", loss(device), twice(device).replace("path", "other"));
    assert!(over(&both("vb"), &both("va"))? > 0, "nothing was lost");
    Ok(())
}
