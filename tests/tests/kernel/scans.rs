//! What a scrape finds out about sockets without holding their locks, and without entering their namespaces: which are live, and
//! their bytes, while they carry more. What takes the lock is `equal_books`' and `under_load`'s.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::load::load;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::page::Page;
use sockmeter_tests::process::{Process, run};
use sockmeter_tests::wait;

/// Live sockets of one protocol, role and state.
fn live(page: &Page, protocol: &str, role: &str, state: &str) -> f64 {
    page.sum("sockmeter_sockets", &[("protocol", protocol), ("role", role), ("state", state)])
}

/// Bytes `[received, transmitted]` of the sockets with this port and role.
fn carried(page: &Page, protocol: &str, port: &str, role: &str) -> [f64; 2] {
    let labels = [("protocol", protocol), ("port", port), ("role", role)];
    ["receive", "transmit"].map(|way| page.sum(&format!("sockmeter_socket_{way}_bytes_total"), &labels))
}

#[test]
fn a_socket_is_live_from_its_connecting_on() -> Result<()> {
    let (namespace, other) = (Namespace::new()?, Namespace::new()?);
    namespace.connect(&other)?;
    // Nobody has this address, nor the card of this number: whoever connects there goes on connecting.
    namespace.ip(&["neigh", "add", "10.77.0.9", "lladdr", "02:00:00:00:00:09", "dev", "va", "nud", "permanent"])?;
    for scope in ["host", "netns"] {
        let agent = Agent::start(&namespace, &["--scope", scope])?;
        let connecting = |page: &Page| live(page, "tcp", "client", "syn_sent");
        let before = connecting(&agent.scrape()?);
        let code = "import signal, socket\n\
                    s = socket.socket(); s.setblocking(False); s.connect_ex(('10.77.0.9', 80))\n\
                    print(flush=True); signal.pause()";
        let mut command = namespace.command("python3");
        let mut process = Process::start(command.args(["-c", code]).stdout(Stdio::piped()))?;
        BufReader::new(process.output().context("no output")?).read_line(&mut String::new())?;
        let found = connecting(&agent.scrape()?) - before;
        drop(process);
        // In host scope other tests connect too, but never for longer than a moment.
        agent.scrape_until(&format!("{found} to be 1, and none when it is gone, {scope}"), |page| {
            found == 1.0 && connecting(page) == before
        })?;
    }
    Ok(())
}

/// The other end takes nothing more, so the FIN waits behind what is unsent, and no sequence number moves when the state does.
#[test]
fn a_socket_whose_fin_has_to_wait_is_in_its_new_state() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &["--scope", "netns"])?;
    let (mut client, _server) = namespace.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:5343")?;
        Ok((TcpStream::connect("127.0.0.1:5343")?, listener.accept()?.0))
    })?;
    client.set_nonblocking(true)?;
    let states = |page: &Page| ["established", "fin_wait1"].map(|state| live(page, "tcp", "client", state));
    // Until nothing more fits; what did is acknowledged at the latest when it was sent again.
    wait::until("a connection that is full and acknowledged", || {
        let mut written = 0;
        while let Ok(bytes) = client.write(&[7; 8_192]) {
            written += bytes;
        }
        let said = run(namespace.command("ss").args(["-Htin", "dport = 5343"]))?;
        Ok((written == 0 && said.contains("notsent:") && !said.contains("unacked:")).then_some(()))
    })?;
    // One scrape finds that it moved, and one that it rests. The scrape's own is established too.
    for _ in 0..2 {
        assert_eq!(states(&agent.scrape()?), [2.0, 0.0]);
    }
    client.shutdown(Shutdown::Write)?;
    assert_eq!(states(&agent.scrape()?), [1.0, 1.0]);
    Ok(())
}

/// Neither bound nor connected it is nobody's; connected it is live though no datagram ever passed.
#[test]
fn a_udp_socket_is_live_from_when_it_has_a_port() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &["--scope", "netns"])?;
    let states = || -> Result<[f64; 3]> {
        let page = agent.scrape()?;
        let of = |role, state| live(&page, "udp", role, state);
        Ok([
            of("server", "unconnected"),
            of("client", "established"),
            page.sum("sockmeter_sockets", &[("protocol", "udp")]),
        ])
    };
    namespace.enter(|| {
        let make = || socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None);
        let (one, other, never) = (make()?, make()?, make()?);
        assert_eq!(states()?, [0.0, 0.0, 0.0]);
        connect(one.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 5341))?;
        assert_eq!(states()?, [0.0, 1.0, 1.0]);
        bind(other.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 5341))?;
        assert_eq!(states()?, [1.0, 1.0, 2.0]);
        drop(one);
        assert_eq!(states()?, [1.0, 0.0, 1.0]);
        drop((other, never));
        assert_eq!(states()?, [0.0, 0.0, 0.0]);
        Ok(())
    })?;
    let page = agent.scrape()?;
    let ever =
        ["opened", "closed"].map(|what| page.sum(&format!("sockmeter_sockets_{what}_total"), &[("protocol", "udp")]));
    assert_eq!(ever, [2.0, 2.0]);
    Ok(())
}

/// Whether the kernel has what makes scans unsafe; then the agent makes none.
fn is_scanned() -> Result<bool> {
    let symbols = fs::read_to_string("/proc/kallsyms")?;
    Ok(!symbols.split_whitespace().any(|word| word == "bpf_selem_unlink_nofail"))
}

/// Such a namespace has neither a name nor a process, so nobody can enter it; its sockets are what keeps it. Where sockets are
/// not scanned they count when they end.
#[test]
fn sockets_of_a_namespace_that_only_they_keep_count_while_they_are_open() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let agent = Agent::start(&here, &["--scope", "host"])?;
    let (mut client, mut server, datagrams) = there.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:18473")?;
        let client = TcpStream::connect("127.0.0.1:18473")?;
        let datagrams = UdpSocket::bind("127.0.0.1:18474")?;
        Ok((client, listener.accept()?.0, datagrams))
    })?;
    run(Command::new("ip").args(["netns", "delete", there.name()]))?;
    let sums = |page: &Page| {
        let tcp = ["client", "server"].map(|role| carried(page, "tcp", "18473", role));
        [tcp[0], tcp[1], carried(page, "udp", "18474", "server")]
    };
    let wanted = |rounds: u32| [[90, 700], [700, 90], [30, 30]].map(|pair| pair.map(|each| f64::from(each * rounds)));
    let is_scanned = is_scanned()?;
    for round in 1..=3 {
        client.write_all(&[7; 700])?;
        server.read_exact(&mut [0; 700])?;
        server.write_all(&[7; 90])?;
        client.read_exact(&mut [0; 90])?;
        assert_eq!(datagrams.send_to(&[7; 30], "127.0.0.1:18474")?, 30);
        assert_eq!(datagrams.recv(&mut [0; 40])?, 30);
        let page = agent.scrape()?;
        if is_scanned {
            assert_eq!(sums(&page), wanted(round));
        }
    }
    drop((client, server, datagrams));
    agent.scrape_until("sockets that ended", |page| sums(page) == wanted(3))?;
    Ok(())
}

/// connect(2) to no address (`AF_UNSPEC`) ends a connection, and the same socket makes another one: it is booked for the first
/// until there, and for the next from there on.
#[test]
fn a_socket_that_connects_again_and_again_counts_every_time() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &["--scope", "netns"])?;
    let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:5344")?))?;
    let rounds = load(60);
    let code = "import ctypes, signal, socket, sys\n\
                s = socket.socket()\n\
                for i in range(int(sys.argv[1])):\n\
                \x20ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16)\n\
                \x20s.connect(('127.0.0.1', 5344)); s.sendall(b'x' * (1000 + i)); s.recv(1)\n\
                signal.pause()";
    let mut command = namespace.command("python3");
    let _process = Process::start(command.args(["-c", code, &rounds.to_string()]))?;
    let mut sent = 0;
    let mut last = None;
    for round in 0..rounds {
        let (mut stream, _) = listener.accept()?;
        stream.read_exact(&mut vec![0; 1000 + round])?;
        sent += 1000 + round;
        stream.write_all(b"y")?;
        agent.scrape()?;
        last = Some(stream);
    }
    let all = [f64::from(u32::try_from(rounds)?), f64::from(u32::try_from(sent)?)];
    agent.scrape_until("what was sent and taken", |page| carried(page, "tcp", "5344", "client") == all)?;
    drop(last);
    Ok(())
}

const PORT: u16 = 5342;

/// What clients sent and received, over how many connections.
#[derive(Default)]
struct Crossed {
    up: usize,
    down: usize,
    connections: u32,
}

/// A connection that sends so much and takes what comes.
fn ask(to: Ipv4Addr, up: usize, crossed: &mut Crossed) -> Result<()> {
    let mut stream = TcpStream::connect((to, PORT))?;
    let bytes = vec![7; up];
    for part in bytes.chunks(up / 3 + 1) {
        stream.write_all(part)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    crossed.up += up;
    crossed.down += answer.len();
    crossed.connections += 1;
    Ok(())
}

/// Answers with half of what was asked and a byte, until somebody asks nothing.
fn serve(listener: &TcpListener) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept()?;
        let mut request = Vec::new();
        stream.read_to_end(&mut request)?;
        stream.write_all(&vec![7; request.len() / 2 + 1])?;
        if request.is_empty() {
            return Ok(());
        }
    }
}

/// Connections of all sizes, one after the other, until it is `over`.
fn load_until(over: &AtomicBool, to: Ipv4Addr) -> Result<Crossed> {
    let listener = TcpListener::bind((to, PORT))?;
    let mut crossed = Crossed::default();
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(&listener));
        for number in 0.. {
            let is_over = over.load(Ordering::Relaxed);
            ask(to, if is_over { 0 } else { number % 97 * 331 + 1 }, &mut crossed)?;
            if is_over {
                break;
            }
        }
        server.join().map_err(|_| anyhow!("the server panicked"))?
    })?;
    Ok(crossed)
}

/// Thousands of connections begin, carry something and end while they are looked at all the time: FINs, which are sequence numbers
/// and no bytes, and ends, which book what is left, fall into the middle of looks.
#[test]
fn every_byte_is_booked_once_while_scrapes_race_with_it() -> Result<()> {
    let namespace = Namespace::new()?;
    let agent = Agent::start(&namespace, &["--scope", "netns"])?;
    let over = AtomicBool::new(false);
    let all = thread::scope(|scope| -> Result<Crossed> {
        let loads: Vec<_> = (1..=4)
            .map(|host| (&namespace, &over, Ipv4Addr::new(127, 0, 0, host)))
            .map(|(namespace, over, to)| scope.spawn(move || namespace.enter(|| load_until(over, to))))
            .collect();
        let scraped = (0..load(150)).try_fold([0.0; 2], |last, _| -> Result<_> {
            let now = carried(&agent.scrape()?, "tcp", "5342", "client");
            assert!(now[0] >= last[0] && now[1] >= last[1], "{now:?} after {last:?}");
            Ok(now)
        });
        over.store(true, Ordering::Relaxed);
        let mut all = Crossed::default();
        for one in loads {
            let one = one.join().map_err(|_| anyhow!("a load panicked"))??;
            all.up += one.up;
            all.down += one.down;
            all.connections += one.connections;
        }
        scraped.map(|_| all)
    })?;
    let [up, down] = [f64::from(u32::try_from(all.up)?), f64::from(u32::try_from(all.down)?)];
    let ended = f64::from(2 * all.connections);
    let page = agent.scrape_until("every connection to have ended", |page| {
        page.sum("sockmeter_sockets_closed_total", &[("protocol", "tcp")]) >= ended
    })?;
    assert_eq!(carried(&page, "tcp", "5342", "client"), [down, up]);
    assert_eq!(carried(&page, "tcp", "5342", "server"), [up, down]);
    Ok(())
}
