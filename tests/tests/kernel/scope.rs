//! Network namespaces other than the agent's own: in scope by default, out of it with `--scope netns`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::client::{Step, chunked_server, play};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::Process;

/// A port that no other test uses: in host scope the agent sees them all.
const PORT: u16 = 18_471;

#[test]
fn a_service_in_another_namespace_is_observed_in_host_scope_only() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let _server = chunked_server(&there, PORT)?;
    let service = format!("elsewhere={PORT}");
    let all = Agent::start(&here, &["--scope", "host", "--service", &service])?;
    let own = Agent::start(&here, &["--scope", "netns", "--service", &service])?;
    let posts = Step { method: "POST", target: "/jobs".to_owned(), body: 512, repeat: 5, ..Step::default() };
    play(&there, "127.0.0.1", PORT, &[vec![posts]])?;
    let page = all.scrape_until("the exchanges", |page| page.get("elsewhere_http_requests_total") == Some(5.0))?;
    assert_eq!(page.get(r#"elsewhere_http_request_bytes_total{endpoint="/jobs",method="POST"}"#), Some(2560.0));
    assert_eq!(own.scrape()?.get("elsewhere_http_requests_total"), Some(0.0));
    Ok(())
}

#[test]
fn a_live_connection_in_another_namespace_is_read_at_every_scrape() -> Result<()> {
    const PORT: u16 = 18_472;
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let _server = chunked_server(&there, PORT)?;
    let service = format!("elsewhere={PORT}");
    let why = "CAP_SYS_ADMIN, to read live sockets of other namespaces";
    let agent = Agent::start_as_root(&here, &["--scope", "host", "--service", &service], why)?;
    let request = b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    let mut connection = there.enter(|| Ok(TcpStream::connect(("127.0.0.1", PORT))?))?;
    let mut sent = 0.0;
    for exchanges in [1.0, 2.0, 3.0] {
        connection.write_all(request)?;
        sent += f64::from(u32::try_from(request.len())?);
        let mut head = [0; 17];
        connection.read_exact(&mut head)?;
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\n");
        let mut rest = Vec::new();
        let mut byte = [0];
        while !rest.ends_with(&[b'a'; 256]) {
            connection.read_exact(&mut byte)?;
            rest.push(byte[0]);
        }
        // Open all the while: nothing but the scrape itself can have told.
        let page = agent.scrape()?;
        assert_eq!(page.sum("elsewhere_http_exchanges_total", &[("endpoint", "/jobs")]), exchanges);
        let stream =
            page.sum("sockmeter_service_stream_bytes_total", &[("service", "elsewhere"), ("direction", "inbound")]);
        assert_eq!(stream, sent);
        assert_eq!(page.sum("sockmeter_ledger_imbalance_bytes", &[]), 0.0);
    }
    Ok(())
}

/// Sends `count` datagrams of 100 bytes from one socket to another in a namespace, both open until the end of `watch`.
fn datagrams(namespace: &Namespace, port: u16, count: usize, watch: impl FnOnce() -> Result<()> + Send) -> Result<()> {
    namespace.enter(|| {
        let server = UdpSocket::bind(("127.0.0.1", port))?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.connect(("127.0.0.1", port))?;
        let mut buffer = [7; 100];
        for _ in 0..count {
            client.send(&buffer)?;
            server.recv(&mut buffer)?;
        }
        watch()
    })
}

fn udp(agent: &Agent<'_>, port: &str) -> Result<[f64; 2]> {
    let page = agent.scrape()?;
    let of = |role| {
        let labels = [("protocol", "udp"), ("port", port), ("role", role)];
        page.sum(
            &format!("sockmeter_socket_{}_bytes_total", if role == "server" { "receive" } else { "transmit" }),
            &labels,
        )
    };
    Ok([of("server"), of("client")])
}

#[test]
fn udp_of_another_namespace_is_out_of_scope_with_netns() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let agent = Agent::start(&here, &["--scope", "netns"])?;
    datagrams(&there, 5401, 3, || {
        assert_eq!(udp(&agent, "5401")?, [0.0, 0.0]);
        Ok(())
    })?;
    datagrams(&here, 5402, 3, || {
        assert_eq!(udp(&agent, "5402")?, [300.0, 300.0]);
        Ok(())
    })?;
    assert_eq!((udp(&agent, "5401")?, udp(&agent, "5402")?), ([0.0, 0.0], [300.0, 300.0]));
    Ok(())
}

/// An older socket counts from its first sight on, which is the agent's start.
#[test]
fn an_older_udp_socket_counts_from_the_agents_start() -> Result<()> {
    let here = Namespace::new()?;
    let (server, client) = here.enter(|| {
        let server = UdpSocket::bind("127.0.0.1:5403")?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.connect("127.0.0.1:5403")?;
        Ok((server, client))
    })?;
    let mut buffer = [7; 100];
    let mut exchange = || -> Result<()> {
        client.send(&buffer)?;
        server.recv(&mut buffer)?;
        Ok(())
    };
    exchange()?;
    let agent = Agent::start(&here, &["--scope", "netns"])?;
    exchange()?;
    exchange()?;
    assert_eq!(udp(&agent, "5403")?, [200.0, 200.0]);
    Ok(())
}

/// A cgroup of the test's own; this process's threads can be moved there.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let root = mounts
            .lines()
            .find_map(|line| line.split_once(" - cgroup2 ").and_then(|(left, _)| left.split(' ').nth(4)))
            .context("no cgroup v2 is mounted")?;
        let path = PathBuf::from(root).join(format!("sockmeter-{name}-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// A command that begins in this cgroup.
    fn command(&self, namespace: &Namespace, program: &str, arguments: &[&str]) -> Command {
        let mut command = namespace.command("sh");
        let join = r#"echo $$ > "$0/cgroup.procs" && exec "$@""#;
        command.args(["-c", join]).arg(&self.0).arg(program).args(arguments);
        command
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// What is outside the cgroup stays outside: in connections from their beginning, older ones, and UDP.
#[test]
fn a_cgroup_bounds_the_scope() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::new("scope")?;
    let scope = format!("cgroup:{}", cgroup.0.display());
    // Older than the agent and outside: the pass over live sockets sees it.
    let (mut outside, mut accepted) = namespace.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:7001")?;
        let client = TcpStream::connect("127.0.0.1:7001")?;
        Ok((client, listener.accept()?.0))
    })?;
    let agent = Agent::start(&namespace, &["--scope", &scope])?;
    let mut pass = |bytes: &[u8]| -> Result<()> {
        outside.write_all(bytes)?;
        accepted.read_exact(&mut vec![0; bytes.len()])?;
        Ok(())
    };
    pass(&[1; 5_000])?;
    datagrams(&namespace, 7002, 2, || Ok(()))?;
    // The same from inside: a client in the cgroup, its server outside.
    let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:7003")?))?;
    let script = "import socket; s = socket.create_connection(('127.0.0.1', 7003)); s.sendall(b'x' * 3000); s.recv(1)\n\
                  u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.connect(('127.0.0.1', 7004)); u.send(b'y' * 70)";
    let mut inside = Process::start(&mut cgroup.command(&namespace, "python3", &["-c", script]))?;
    let (mut server, _) = listener.accept()?;
    server.read_exact(&mut [0; 3_000])?;
    pass(&[1; 5_000])?;
    agent.scrape()?;
    server.write_all(b"!")?;
    inside.wait()?;
    drop(server);
    let page = agent.scrape_until("the inner sockets' end", |page| {
        page.sum("sockmeter_sockets_closed_total", &[("role", "client")]) == 2.0
    })?;
    let transmitted: Vec<_> = page
        .family("sockmeter_socket_transmit_bytes_total")
        .filter(|(_, bytes)| *bytes != 0.0)
        .map(|(labels, bytes)| (labels.get("protocol").cloned(), labels.get("port").cloned(), bytes))
        .collect();
    let expected = [("tcp", "7003", 3_000.0), ("udp", "7004", 70.0)]
        .map(|(protocol, port, bytes)| (Some(protocol.to_owned()), Some(port.to_owned()), bytes));
    assert_eq!(transmitted, expected);
    assert_eq!(page.sum("sockmeter_socket_receive_bytes_total", &[]), 1.0);
    Ok(())
}
