//! WireGuard's own counters of its peers against what `wg` says, with `wireguard-go`. With the kernel's WireGuard:
//! `only_in_guests`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::UdpSocket;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::{Agent, binary};
use sockmeter_tests::load::patience;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::ordinary::{CAPABILITIES, wrapper};
use sockmeter_tests::page::Page;
use sockmeter_tests::process::{output, run};
use sockmeter_tests::tally::whole;
use sockmeter_tests::tunnel::{Told, Tunnel, socket, told};
use sockmeter_tests::wait;

const WHY: &str = "the socket of wireguard-go is root's alone";

/// Names of interfaces that no other run of these tests has: the sockets of all are in one directory.
fn names() -> [String; 2] {
    ["a", "b"].map(|end| format!("wg{}{end}", std::process::id()))
}

/// What the page says of an interface's peers, as `wg` would; and what it calls them.
pub(crate) fn ours(page: &Page, interface: &str) -> Result<(BTreeMap<String, Told>, BTreeMap<String, String>)> {
    let (mut peers, mut names) = (BTreeMap::new(), BTreeMap::new());
    let mut column = |family: &str, place: fn(&mut Told) -> &mut u64| -> Result<()> {
        for (labels, value) in page.family(&format!("sockmeter_wireguard_peer_{family}")) {
            let label = |name: &str| labels.get(name).cloned().with_context(|| format!("no {name}"));
            assert_eq!(label("netns")?, "self");
            if label("interface")? == interface {
                let key = label("public_key")?;
                *place(peers.entry(key.clone()).or_insert(Told { transfer: [0; 2], handshake: 0 })) = whole(value);
                names.insert(key, label("peer")?);
            }
        }
        Ok(())
    };
    column("receive_bytes_total", |peer| &mut peer.transfer[0])?;
    column("transmit_bytes_total", |peer| &mut peer.transfer[1])?;
    column("last_handshake_timestamp_seconds", |peer| &mut peer.handshake)?;
    Ok((peers, names))
}

/// The page, and what `wg` says, at a moment when nothing crossed between the readings.
pub(crate) fn both(
    agent: &Agent<'_>,
    namespace: &Namespace,
    interface: &str,
) -> Result<(Page, BTreeMap<String, Told>)> {
    wait::until("a quiet moment", || {
        let before = told(namespace, interface)?;
        let page = agent.scrape()?;
        Ok((told(namespace, interface)? == before).then_some((page, before)))
    })
}

/// Sends `count` datagrams of `size` bytes through the tunnel, each answered by one of half the size.
pub(crate) fn echo(here: &Namespace, there: &Namespace, addresses: [&str; 2], count: usize, size: usize) -> Result<()> {
    let server = there.enter(|| Ok(UdpSocket::bind(addresses[1])?))?;
    let client = here.enter(|| Ok(UdpSocket::bind(addresses[0])?))?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(patience()))?;
    }
    let mut buffer = vec![7; size];
    for _ in 0..count {
        assert_eq!(client.send_to(&buffer, addresses[1])?, size);
        let (received, from) = server.recv_from(&mut buffer)?;
        assert_eq!(received, size);
        server.send_to(&buffer[..size / 2], from)?;
        assert_eq!(client.recv(&mut buffer)?, size / 2);
    }
    Ok(())
}

/// WireGuard's data message: the packet, padded to 16 bytes, and 32 bytes around it (`message_data_len` and
/// `calculate_skb_padding`, `drivers/net/wireguard/{messages.h,send.c}`).
pub(crate) fn message(packet: u64) -> u64 {
    packet.next_multiple_of(16) + 32
}

/// The states of an interface's peers: active, idle, never.
pub(crate) fn states(page: &Page, interface: &str) -> [Option<f64>; 3] {
    ["active", "idle", "never"].map(|state| {
        page.get(&format!("sockmeter_wireguard_peers{{interface=\"{interface}\",netns=\"self\",state=\"{state}\"}}"))
    })
}

/// A key that nobody has.
fn somebodys() -> Result<String> {
    Ok(run(Command::new("sh").args(["-c", "wg genkey | wg pubkey"]))?.trim().to_owned())
}

#[test]
fn transfer_and_handshakes_equal_wireguards_own_at_both_ends() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    let [near, far] = names();
    let tunnel = Tunnel::start_named(&here, &there, [&near, &far])?;
    // Two that never came.
    let mut absent = [somebodys()?, somebodys()?];
    absent.sort();
    for key in &absent {
        run(here.command("wg").args(["set", &near, "peer", key, "allowed-ips", "10.9.1.0/24"]))?;
    }
    let files = tempfile::tempdir()?;
    let config = files.path().join("sockmeter.toml");
    fs::write(&config, format!("[wireguard.peers]\n{:?} = \"the far end\"\n", tunnel.public_key(1)))?;
    let agent = Agent::start_as_root(&here, &["--config", &config.to_string_lossy()], WHY)?;
    let agent_there = Agent::start_as_root(&there, &[], WHY)?;

    // Nobody had a handshake yet, unless the kernel had something to say on the new interface.
    let (page, before) = both(&agent, &here, &near)?;
    assert_eq!(ours(&page, &near)?.0, before);
    echo(&here, &there, ["10.9.0.1:5300", "10.9.0.2:5300"], 1, 100)?;
    let (page, before) = both(&agent, &here, &near)?;
    assert_eq!(ours(&page, &near)?.0, before);

    echo(&here, &there, ["10.9.0.1:5300", "10.9.0.2:5300"], 50, 1_000)?;
    echo(&here, &there, ["[fd09::1]:5301", "[fd09::2]:5301"], 20, 600)?;
    let (page, after) = both(&agent, &here, &near)?;
    let (peers, called) = ours(&page, &near)?;
    assert_eq!(peers, after);
    assert_eq!(peers.len(), 3);
    // IPv4 and UDP make 28 bytes, IPv6 and UDP 48. Empty messages, of 32 bytes, keep the tunnel open.
    let sent = [50 * message(28 + 500) + 20 * message(48 + 300), 50 * message(28 + 1_000) + 20 * message(48 + 600)];
    let key = tunnel.public_key(1);
    for (direction, sent) in sent.into_iter().enumerate() {
        let grown = peers[key].transfer[direction] - before[key].transfer[direction];
        assert_eq!(grown.checked_sub(sent).map(|empty| empty % message(0)), Some(0), "{grown} for {sent}");
    }
    for key in &absent {
        assert_eq!(peers[key], Told { transfer: [0; 2], handshake: 0 });
        assert_eq!(called[key], key[..8]);
    }
    assert_eq!(called[key], "the far end");
    assert_eq!(states(&page, &near), [Some(1.0), Some(0.0), Some(2.0)]);

    let (page, after) = both(&agent_there, &there, &far)?;
    let (peers, called) = ours(&page, &far)?;
    assert_eq!(peers, after);
    assert_eq!(called, [(tunnel.public_key(0).to_owned(), tunnel.public_key(0)[..8].to_owned())].into());
    assert_eq!(states(&page, &far), [Some(1.0), Some(0.0), Some(0.0)]);
    // Nor does one tell of the other's.
    assert_eq!(ours(&page, &near)?.0, BTreeMap::new());

    fs::write(&config, format!("[wireguard.peers]\n{:?} = \"renamed\"\n", absent[0]))?;
    agent.signal(Signal::SIGHUP)?;
    let called_now = |page: &Page| ours(page, &near).map(|(_, called)| called).unwrap_or_default();
    let page = agent.scrape_until("the new name", |page| called_now(page)[&absent[0]] == "renamed")?;
    assert_eq!(called_now(&page)[key], key[..8]);

    // No interface, no samples: not zeros.
    drop(tunnel);
    let page = agent.scrape_until("the interface to go", |page| states(page, &near) == [None; 3])?;
    assert_eq!(ours(&page, &near)?.0, BTreeMap::new());
    assert_eq!(agent.log()?.matches("WireGuard peers are not told").count(), 0, "{}", agent.log()?);
    Ok(())
}

/// Something that listens where a process of WireGuard would, until it is dropped.
struct Listener {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// For the interface `name`, in `namespace`; each connection gets `answer`, again and again if it is `endless`.
    fn start(namespace: &Namespace, name: &str, answer: Vec<u8>, endless: bool) -> Result<Self> {
        let path = socket(name);
        fs::create_dir_all(path.parent().context("no directory")?)?;
        let _ = fs::remove_file(&path);
        let listener = namespace.enter(|| Ok(UnixListener::bind(&path)?))?;
        let stopping = Arc::<AtomicBool>::default();
        let end = Arc::clone(&stopping);
        let thread = std::thread::spawn(move || {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept() {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let _ = stream.read(&mut [0; 64]);
                while stream.write_all(&answer).is_ok() && endless {}
                // Without an answer's end it goes on to be open.
                open.push(stream);
            }
        });
        Ok(Self { path, stopping, thread: Some(thread) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.path);
    }
}

const SECRET: &str = "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

/// One peer, whose key is `pair` again and again.
fn peer(pair: &str) -> String {
    let key = pair.repeat(32);
    format!("private_key={SECRET}\npublic_key={key}\npreshared_key={SECRET}\nrx_bytes=5\ntx_bytes=6\nerrno=0\n\n")
}

#[test]
fn hostile_sockets_cost_their_own_samples_only_and_no_secret_is_told() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let name = |letter: char| format!("wg{}{letter}", std::process::id());
    let listeners = [
        // Good; silent; a line without an end; a broken number; one that breaks a secret off; another namespace's.
        (&here, 'p', peer("07"), false, ""),
        (&here, 'q', String::new(), false, "no answer within 2 s"),
        (&here, 'r', "x".repeat(1 << 16), true, "the answer has a line of more than 4096 bytes"),
        (&here, 's', peer("08").replace("rx_bytes=5", "rx_bytes=5\""), false, "rx_bytes is \"5\\\"\""),
        (&here, 't', format!("private_key={SECRET}\nprivate_key {SECRET}\n"), false, "a line of 76 bytes has no ="),
        (&there, 'u', peer("09"), false, "is not of this network namespace"),
    ];
    let mut open = Vec::new();
    let mut problems = Vec::new();
    for (namespace, letter, answer, endless, problem) in listeners {
        here.ip(&["link", "add", &name(letter), "type", "ifb"])?;
        open.push(Listener::start(namespace, &name(letter), answer.into_bytes(), endless)?);
        problems.push((name(letter), problem));
    }
    let agent = Agent::start_as_root(&here, &["--log-level", "trace"], WHY)?;
    for round in 0..2 {
        let page = agent.scrape()?;
        let (key, told) = ("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", Told { transfer: [5, 6], handshake: 0 });
        assert_eq!(ours(&page, &name('p'))?.0, [(key.to_owned(), told)].into(), "{round}");
        let interfaces: Vec<String> = page
            .family("sockmeter_wireguard_peers")
            .filter_map(|(labels, _)| labels.get("interface").cloned())
            .collect();
        assert_eq!(interfaces, vec![name('p'); 3]);
        assert!(page.get("process_start_time_seconds").is_some(), "the rest of the page is not there");
    }
    let log = agent.log()?;
    for (name, problem) in problems {
        let lines = log.lines().filter(|line| line.contains(&format!("interface=\"{name}\"")));
        let said: Vec<&str> = lines.filter(|line| line.contains("WireGuard peers are not told")).collect();
        // Once, however often it is scraped.
        assert_eq!(said.len(), usize::from(!problem.is_empty()), "{name}: {said:?}");
        assert!(said.iter().all(|line| line.contains(problem)), "{said:?}");
    }
    assert_eq!(log.matches("5e5e").count(), 0, "a secret is in the log");
    Ok(())
}

/// What `sockmeter check` says of WireGuard in a namespace, hints included; `user` are words that make it somebody's.
fn checked(namespace: &Namespace, user: &[String]) -> Result<Vec<String>> {
    let mut command = namespace.command("env");
    command.args(user).arg(binary()).args(["check", "--scope", "netns", "--no-pin"]);
    let said = String::from_utf8(output(&mut command)?.stdout)?;
    let mut is_of_it = false;
    let of_it = said.lines().filter(|line| {
        is_of_it = if line.starts_with("     hint:") { is_of_it } else { line.contains("WireGuard") };
        is_of_it
    });
    Ok(of_it.map(str::to_owned).collect())
}

#[test]
fn check_says_of_each_interface_whether_its_peers_can_be_read() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    here.connect(&there)?;
    assert_eq!(checked(&here, &[])?, ["     WireGuard: no interface in this network namespace"]);
    let [near, far] = names();
    let _tunnel = Tunnel::start_named(&here, &there, [&near, &far])?;
    run(here.command("wg").args(["set", &near, "peer", &somebodys()?, "allowed-ips", "10.9.1.0/24"]))?;
    // One whose process is another interface's, of the same name and another namespace.
    let stray = format!("wg{}z", std::process::id());
    here.ip(&["link", "add", &stray, "type", "ifb"])?;
    let _listener = Listener::start(&there, &stray, peer("09").into_bytes(), false)?;
    let path = |name: &str| socket(name).display().to_string();
    let elsewhere = [
        format!("no   WireGuard {stray}: {} is not of this network namespace, or nobody listens there", path(&stray)),
        "     hint: start the interface's process in the interface's network namespace".to_owned(),
    ];
    let mut wanted = vec![format!("yes  WireGuard {near}: its process tells 2 peers")];
    wanted.extend(elsewhere.clone());
    assert_eq!(checked(&here, &[])?, wanted);
    assert_eq!(checked(&there, &[])?, [format!("yes  WireGuard {far}: its process tells 1 peer")]);
    let mut wanted = vec![
        format!("no   WireGuard {near}: {} is closed to this user", path(&near)),
        format!("     hint: run as root, or let this user write to {}", path(&near)),
    ];
    wanted.extend(elsewhere);
    assert_eq!(checked(&here, &wrapper(&CAPABILITIES))?, wanted);
    Ok(())
}
