//! The table of live sockets against what both ends know of theirs.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sockmeter_tests::agent::Agent;
use sockmeter_tests::cgroup::Cgroup;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::Process;

const REQUEST: &str =
    "POST /nodes/7f3a0c1e-2f6b-4a53-9d8e-3f2b1c0d9e8f/heartbeat?x=1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";

fn sockets(agent: &Agent<'_>, query: &str) -> Result<Value> {
    Ok(serde_json::from_str(&agent.get(&format!("/api/v1/sockets?{query}"))?)?)
}

/// What is compared of a row.
fn columns(row: &Value, names: &[&str]) -> Value {
    names.iter().map(|name| ((*name).to_owned(), row[*name].clone())).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn every_live_socket_is_told_with_its_owner_and_its_request() -> Result<()> {
    let namespace = Namespace::new()?;
    let cgroup = Cgroup::unified("listed")?;
    let agent = Agent::start(&namespace, &[])?;
    let listener = namespace.enter(|| Ok(TcpListener::bind("127.0.0.1:8080")?))?;
    let code = "import os, signal, socket, sys\n\
                open(sys.argv[1] + '/cgroup.procs', 'w').write('0')\n\
                open('/proc/self/comm', 'w').write('li\"sted')\n\
                u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); u.bind(('::1', 5330)); u.sendto(b'u' * 21, ('::1', 5331))\n\
                s = socket.create_connection(('127.0.0.1', 8080)); s.sendall(sys.argv[2].encode())\n\
                print(s.getsockname()[1], flush=True); s.recv(100); print(flush=True); signal.pause()";
    let mut command = namespace.command("python3");
    command.arg("-c").arg(code).arg(cgroup.make("ffrtmp/listed")?).arg(REQUEST).stdout(Stdio::piped());
    let mut process = Process::start(&mut command)?;
    let (mut accepted, _) = listener.accept()?;
    accepted.read_exact(&mut vec![0; REQUEST.len()])?;
    let mut says = BufReader::new(process.output().context("no output")?);
    let mut line = String::new();
    says.read_line(&mut line)?;
    let port: u16 = line.trim().parse()?;
    let pid = process.pid()?.as_raw();
    let len = REQUEST.len();

    let names = [
        "protocol",
        "role",
        "state",
        "local_address",
        "local_port",
        "remote_address",
        "remote_port",
        "process",
        "pid",
        "job",
        "service",
        "method",
        "endpoint",
        "received_bytes",
        "sent_bytes",
        "bytes",
    ];
    let of_job = sockets(&agent, "job=listed&sort=protocol")?;
    let rows = of_job["sockets"].as_array().context("no rows")?;
    let found: Vec<Value> = rows.iter().map(|row| columns(row, &names)).collect();
    let client = json!({
        "protocol": "tcp", "role": "client", "state": "established", "local_address": "127.0.0.1", "local_port": port,
        "remote_address": "127.0.0.1", "remote_port": 8080, "process": "li\"sted", "pid": pid, "job": "listed",
        "service": "", "method": "", "endpoint": "", "received_bytes": 0, "sent_bytes": len, "bytes": len,
    });
    let datagrams = json!({
        "protocol": "udp", "role": "server", "state": "unconnected", "local_address": "::1", "local_port": 5330,
        "remote_address": "::", "remote_port": 0, "process": "li\"sted", "pid": pid, "job": "listed",
        "service": "", "method": "", "endpoint": "", "received_bytes": 0, "sent_bytes": 21, "bytes": 21,
    });
    assert_eq!(found, [client, datagrams]);
    // When the process began, as the kernel tells it in its own file (proc(5), field 22, ticks of a hundredth).
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks: f64 = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(19)).context("no start")?.parse()?;
    let began = rows.iter().map(|row| row["process_start_seconds"].as_f64().map(|seconds| (seconds * 100.0).floor()));
    assert_eq!(began.collect::<Vec<_>>(), [Some(ticks), Some(ticks)]);

    // The other end is this process', whose name every thread of it has, and is the service's.
    let of_service = |names: &[&str]| -> Result<Value> {
        let all = sockets(&agent, "sort=service")?;
        let row = all["sockets"].get(0).context("no rows")?;
        Ok(columns(row, names))
    };
    let names = ["role", "remote_port", "pid", "service", "method", "endpoint", "received_bytes", "sent_bytes"];
    let busy = json!({
        "role": "server", "remote_port": port, "pid": std::process::id(), "service": "scheduler", "method": "POST",
        "endpoint": "/nodes/{id}/heartbeat", "received_bytes": len, "sent_bytes": 0,
    });
    assert_eq!(of_service(&names)?, busy);
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    accepted.write_all(answer)?;
    says.read_line(&mut line)?;
    let idle = json!({
        "role": "server", "remote_port": port, "pid": std::process::id(), "service": "scheduler", "method": "",
        "endpoint": "", "received_bytes": len, "sent_bytes": answer.len(),
    });
    assert_eq!(of_service(&names)?, idle);
    Ok(())
}

/// Live connections of other namespaces are listed too, and none that ended.
#[test]
fn sockets_of_other_namespaces_are_listed_while_they_live() -> Result<()> {
    let (here, there) = (Namespace::new()?, Namespace::new()?);
    let why = "CAP_SYS_ADMIN, to read live sockets of other namespaces";
    let agent = Agent::start_as_root(&here, &["--scope", "host"], why)?;
    let pair = there.enter(|| {
        let listener = TcpListener::bind("127.0.0.1:5340")?;
        let client = std::net::TcpStream::connect("127.0.0.1:5340")?;
        Ok((client, listener.accept()?.0))
    })?;
    let ports = |agent: &Agent<'_>| -> Result<Vec<u64>> {
        let all = sockets(agent, "limit=16384")?;
        let rows = all["sockets"].as_array().context("no rows")?;
        let of_test = rows.iter().filter(|row| row["local_port"] == 5340 || row["remote_port"] == 5340);
        let mut ports: Vec<u64> = of_test.filter_map(|row| row["remote_port"].as_u64()).collect();
        ports.sort_unstable();
        Ok(ports)
    };
    let mut wanted = [5340, u64::from(pair.0.local_addr()?.port())];
    wanted.sort_unstable();
    assert_eq!(ports(&agent)?, wanted);
    drop(pair);
    assert_eq!(ports(&agent)?, Vec::<u64>::new());
    Ok(())
}
