//! What wants devices and queueing disciplines that few machines have: a lossy path, WireGuard in the kernel. In virtual
//! machines (`cargo xtask test vm`) they are there; elsewhere each test says what the kernel refused, and ends.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use sockmeter_tests::agent::{Agent, only_the_scrape_is_left};
use sockmeter_tests::client::{Step, play};
use sockmeter_tests::load::{load, patience};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::nginx::Nginx;
use sockmeter_tests::offer::taken;
use sockmeter_tests::process::run;
use sockmeter_tests::tally::{Tally, whole};
use sockmeter_tests::tunnel::Told;
use sockmeter_tests::wait;

use crate::equal_books::balanced;
use crate::wireguard::{both, echo, message, ours, states};

const BIG: usize = 20_000_000;

/// Makes a veth device lose, double and reorder what it sends; false if this kernel cannot.
fn spoil(namespace: &Namespace, device: &str) -> Result<bool> {
    let mut tc = namespace.command("tc");
    tc.args(["qdisc", "add", "dev", device, "root", "netem", "limit", "10000", "delay", "2ms", "1ms"]);
    tc.args(["loss", "random", "3%", "duplicate", "2%", "reorder", "25%", "50%"]);
    taken(&mut tc)
}

/// A service in the first namespace, clients in the other, and a path between them that is bad for answers, or for both.
fn bad_path(both_ways: bool) -> Result<Option<(Namespace, Namespace)>> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    Ok((spoil(&here, "va")? && (!both_ways || spoil(&there, "vb")?)).then_some((here, there)))
}

#[test]
fn loss_duplicates_and_reordering_of_answers_change_no_book() -> Result<()> {
    books_over_a_bad_path("10.77.0.1", false)?;
    books_over_a_bad_path("fd77::1", false)
}

#[test]
fn loss_duplicates_and_reordering_both_ways_change_no_book() -> Result<()> {
    books_over_a_bad_path("10.77.0.1", true)?;
    books_over_a_bad_path("fd77::1", true)
}

/// What came over a bad path is what the clients and nginx counted, to the byte.
fn books_over_a_bad_path(host: &str, both_ways: bool) -> Result<()> {
    let Some((here, there)) = bad_path(both_ways)? else {
        return Ok(());
    };
    let nginx = Nginx::start(&here, &[("small.txt", 612), ("big.bin", load(BIG))])?;
    let agent = Agent::start(&here, &[])?;
    let step = |method, target: &str| Step { method, target: target.to_owned(), ..Step::default() };
    let connection = vec![
        Step { repeat: load(400), ..step("GET", "/small.txt") },
        step("GET", "/big.bin"),
        Step { pipeline: 20, ..step("GET", "/small.txt") },
        Step { body: load(BIG / 4), ..step("POST", "/sink/big") },
        Step { body: load(BIG / 40), chunk: 333, repeat: 2, ..step("POST", "/sink/chunked") },
    ];
    let mut clients = Tally::default();
    // The second round gets what the first one gave back.
    for _ in 0..2 {
        for count in play(&there, host, 8080, &vec![connection.clone(); 4])? {
            count.tally(&mut clients, &count.target);
        }
    }
    let page = agent.scrape_until("all exchanges", |page| {
        Tally::of_page(page, "scheduler").exchanges() == clients.exchanges() && only_the_scrape_is_left(page)
    })?;
    let ours = Tally::of_page(&page, "scheduler");
    assert_eq!(ours.differences(&clients), Vec::<String>::new());
    let mut log = Tally::default();
    for line in nginx.log(usize::try_from(ours.exchanges())?)? {
        let body = if line.target.starts_with("/sink") { 6 } else { line.body_bytes_sent };
        line.tally(&mut log, &line.target, body);
    }
    // The log has no decoded length of what came in chunks.
    for target in ["/small.txt", "/big.bin", "/sink/big"] {
        let of = |tally: &Tally| -> Vec<_> {
            tally.sides.iter().filter(|((_, endpoint), _)| endpoint == target).map(|(_, sides)| *sides).collect()
        };
        assert_eq!(of(&ours), of(&log), "{target}");
    }
    balanced(&page);
    Ok(())
}

/// Sum of `bytes_retrans` (`struct tcp_info`) of the sockets on the service's port.
fn retransmitted(namespace: &Namespace) -> Result<u64> {
    let said = run(namespace.command("ss").args(["-Htin", "state", "established", "sport", "=", ":8080"]))?;
    let words = said.split_whitespace().filter_map(|word| word.strip_prefix("bytes_retrans:"));
    Ok(words.map(str::parse::<u64>).sum::<Result<u64, _>>()?)
}

#[test]
fn retransmitted_bytes_are_counted_apart() -> Result<()> {
    let Some((here, there)) = bad_path(false)? else {
        return Ok(());
    };
    let _nginx = Nginx::start(&here, &[("big.bin", load(BIG))])?;
    let agent = Agent::start(&here, &[])?;
    let mut stream = there.enter(|| Ok(TcpStream::connect("10.77.0.1:8080")?))?;
    stream.set_read_timeout(Some(patience()))?;
    let mut heard = 0;
    let mut buffer = vec![0; 1 << 16];
    // Until enough was lost to tell the difference; 3 % of a megabyte is some twenty segments.
    for round in 1_u64.. {
        ensure!(round <= 20, "twenty answers, and nothing was retransmitted");
        stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\n\r\n")?;
        let mut until = None;
        let mut head = Vec::new();
        while until.is_none_or(|until| heard < until) {
            let count = stream.read(&mut buffer)?;
            ensure!(count > 0, "nginx closed");
            if until.is_none() {
                head.extend_from_slice(&buffer[..count]);
                let end = head.windows(4).position(|bytes| bytes == b"\r\n\r\n");
                until = end.map(|end| heard - (head.len() - count) + end + 4 + load(BIG));
            }
            heard += count;
        }
        if retransmitted(&here)? > 0 {
            break;
        }
    }
    // The connection is open, and what it will ever retransmit is known when all of it is acknowledged.
    let (theirs, page) = wait::until("a quiet moment", || {
        let before = retransmitted(&here)?;
        let page = agent.scrape()?;
        Ok((retransmitted(&here)? == before).then_some((before, page)))
    })?;
    let labels = [("role", "server"), ("port", "8080")];
    assert_eq!(whole(page.sum("sockmeter_socket_retransmit_bytes_total", &labels)), theirs);
    assert_eq!(whole(page.sum("sockmeter_socket_transmit_bytes_total", &labels)), u64::try_from(heard)?);
    let stream = page.sum("sockmeter_service_stream_bytes_total", &[("direction", "outbound")]);
    assert_eq!(whole(stream), u64::try_from(heard)?);
    assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    Ok(())
}

/// What a WireGuard device counted: `[received, sent]`, each bytes and packets.
fn device(namespace: &Namespace) -> Result<[[u64; 2]; 2]> {
    let said: Value = serde_json::from_str(&namespace.ip(&["-s", "-s", "-j", "link", "show", "wg0"])?)?;
    let field = |direction: &str, field: &str| said[0]["stats64"][direction][field].as_u64().context("no counter");
    Ok([[field("rx", "bytes")?, field("rx", "packets")?], [field("tx", "bytes")?, field("tx", "packets")?]])
}

/// A tunnel from `10.9.0.1` to `10.9.0.2` over the veth pair of two namespaces; false if this kernel has no WireGuard.
fn tunnel(here: &Namespace, there: &Namespace) -> Result<bool> {
    let keys = tempfile::tempdir()?;
    let mut public = Vec::new();
    for (namespace, name) in [(here, "here"), (there, "there")] {
        if !taken(namespace.command("ip").args(["link", "add", "wg0", "type", "wireguard"]))? {
            return Ok(false);
        }
        let file = keys.path().join(name);
        std::fs::write(&file, run(Command::new("wg").arg("genkey"))?)?;
        let derive = format!("wg pubkey < {}", file.display());
        public.push(run(Command::new("sh").arg("-c").arg(derive))?.trim().to_owned());
    }
    for (namespace, name, peer, host, far) in [(here, "here", &public[1], 1, 2), (there, "there", &public[0], 2, 1)] {
        let endpoint = format!("10.77.0.{far}:51820");
        run(namespace
            .command("wg")
            .args(["set", "wg0", "listen-port", "51820", "private-key"])
            .arg(keys.path().join(name))
            .args(["peer", peer, "allowed-ips", "10.9.0.0/24,fd09::/64", "endpoint", &endpoint]))?;
        namespace.ip(&["addr", "add", &format!("10.9.0.{host}/24"), "dev", "wg0"])?;
        namespace.ip(&["addr", "add", &format!("fd09::{host}/64"), "dev", "wg0", "nodad"])?;
        namespace.ip(&["link", "set", "wg0", "up"])?;
    }
    Ok(true)
}

#[test]
fn wireguard_in_the_kernel_counts_messages_where_we_count_packets() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    if !tunnel(&here, &there)? {
        return Ok(());
    }
    let agent = Agent::start(&here, &[])?;
    let page = || -> Result<[u64; 2]> {
        let page = agent.scrape()?;
        Ok(["sockmeter_interface_receive_bytes_total", "sockmeter_interface_transmit_bytes_total"]
            .map(|family| whole(page.sum(family, &[("interface", "wg0"), ("netns", "self")]))))
    };
    // The handshake is not what is compared.
    echo(&here, &there, ["10.9.0.1:5300", "10.9.0.2:5300"], 1, 100)?;
    let (ours_before, device_before) = (page()?, device(&here)?);
    echo(&here, &there, ["10.9.0.1:5300", "10.9.0.2:5300"], 50, 1000)?;
    echo(&here, &there, ["[fd09::1]:5301", "[fd09::2]:5301"], 20, 600)?;
    let (ours_after, device_after) = (page()?, device(&here)?);
    // IPv4 and UDP make 28 bytes, IPv6 and UDP 48; there is no link header.
    let packets = [[(50, 28 + 500), (20, 48 + 300)], [(50, 28 + 1000), (20, 48 + 600)]];
    for direction in [0, 1] {
        let inner: u64 = packets[direction].iter().map(|(count, length)| count * length).sum();
        assert_eq!(ours_after[direction] - ours_before[direction], inner);
        // Empty messages keep the tunnel open: 32 bytes, and a packet in the device's eyes.
        let messages: u64 = packets[direction].iter().map(|(count, length)| count * message(*length)).sum();
        let [bytes, count] = [0, 1].map(|field| device_after[direction][field] - device_before[direction][field]);
        assert_eq!(bytes, messages + message(0) * (count - 70));
    }
    let said = agent.scrape()?;
    let kernel = said.sum("sockmeter_interface_kernel_bytes_total", &[("interface", "wg0"), ("direction", "transmit")]);
    assert_eq!(whole(kernel), device(&here)?[1][0]);
    Ok(())
}

#[test]
fn wireguard_in_the_kernel_tells_what_it_counts_of_each_peer() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    if !tunnel(&here, &there)? {
        return Ok(());
    }
    // More than the kernel puts into one message; and one with more addresses than one message holds.
    let mut others = here.command("wg");
    others.args(["set", "wg0"]);
    for number in 0..200 {
        let key = format!("{number:04}{}=", "A".repeat(39));
        let most = if number == 100 { 2_000 } else { 1 };
        let addresses: Vec<String> =
            (0..most).map(|at| format!("10.{}.{}.{}/32", 20 + number, at / 250, at % 250)).collect();
        others.args(["peer", &key, "allowed-ips", &addresses.join(",")]);
    }
    run(&mut others)?;
    let (agent, agent_there) = (Agent::start(&here, &[])?, Agent::start(&there, &[])?);
    echo(&here, &there, ["10.9.0.1:5300", "10.9.0.2:5300"], 1, 100)?;
    let (page, before) = both(&agent, &here, "wg0")?;
    assert_eq!(ours(&page, "wg0")?.0, before);
    echo(&here, &there, ["10.9.0.1:5300", "10.9.0.2:5300"], 50, 1_000)?;
    let (page, after) = both(&agent, &here, "wg0")?;
    assert_eq!(ours(&page, "wg0")?.0, after);
    assert_eq!(after.len(), 201);
    assert_eq!(states(&page, "wg0"), [Some(1.0), Some(0.0), Some(200.0)]);
    let sum = |peers: &BTreeMap<String, Told>| {
        [0, 1].map(|direction| peers.values().map(|peer| peer.transfer[direction]).sum::<u64>())
    };
    let sent = [50 * message(28 + 500), 50 * message(28 + 1_000)];
    for direction in [0, 1] {
        let grown = sum(&after)[direction] - sum(&before)[direction];
        assert_eq!(grown.checked_sub(sent[direction]).map(|empty| empty % message(0)), Some(0));
    }
    let (page, there_now) = both(&agent_there, &there, "wg0")?;
    assert_eq!(ours(&page, "wg0")?.0, there_now);
    assert_eq!(there_now.len(), 1);
    assert_eq!(states(&page, "wg0"), [Some(1.0), Some(0.0), Some(0.0)]);

    // An interface that is made anew begins anew, and one without peers has none.
    here.ip(&["link", "delete", "wg0"])?;
    let page = agent.scrape_until("the interface to go", |page| states(page, "wg0") == [None; 3])?;
    assert_eq!(ours(&page, "wg0")?.0, BTreeMap::new());
    here.ip(&["link", "add", "wg0", "type", "wireguard"])?;
    let page = agent.scrape_until("the interface", |page| states(page, "wg0") == [Some(0.0); 3])?;
    assert_eq!(ours(&page, "wg0")?.0, BTreeMap::new());
    Ok(())
}
