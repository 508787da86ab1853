//! Where the loads run: two network namespaces joined by a veth pair, and nginx in a cgroup of its own, so that its
//! sockets alone can be looked at. All of it goes with the stage.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use sockmeter_tests::agent::Agent;
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::Process;
use sockmeter_tests::wait;
use tempfile::TempDir;

use crate::meter::{children, cpu_time};

/// nginx' port that is the observed service's.
pub(crate) const OBSERVED: u16 = 8080;
/// nginx' port that is not.
pub(crate) const UNOBSERVED: u16 = 8081;

/// The stage. Fields are dropped in this order: what runs in something goes before it.
#[derive(Debug)]
pub(crate) struct Stage {
    nginx: Process,
    pub(crate) group: Group,
    /// Agent, nginx, and whatever goes over loopback.
    pub(crate) here: Namespace,
    /// The other end of the veth pair.
    pub(crate) there: Namespace,
    files: TempDir,
}

impl Stage {
    /// Sets it.
    pub(crate) fn set() -> Result<Self> {
        let files = tempfile::tempdir()?;
        let Place { group, here, there } = Place::new("nginx")?;
        let nginx = nginx(&here, &group, files.path())?;
        Ok(Self { nginx, group, here, there, files })
    }

    /// Processor time of nginx' worker so far.
    pub(crate) fn nginx_time(&self) -> Result<Duration> {
        children(self.nginx.pid()?)?.into_iter().map(cpu_time).sum()
    }

    /// The agent as it is by default: every namespace in scope, the service on `OBSERVED`.
    pub(crate) fn agent(&self) -> Result<Agent<'_>> {
        Agent::start(&self.here, &["--scope", "host"])
    }

    /// The agent with nginx' sockets alone in scope.
    pub(crate) fn agent_of_nginx(&self) -> Result<Agent<'_>> {
        Agent::start(&self.here, &["--scope", &self.scope_of_nginx()])
    }

    /// The same, with neither services nor UDP looked at.
    pub(crate) fn agent_without_packets(&self) -> Result<Agent<'_>> {
        let file = self.files.path().join("without_packets.toml");
        fs::write(&file, "[observe]\nhttp = false\nudp = false\n")?;
        Agent::start(&self.here, &["--scope", &self.scope_of_nginx(), "--config", &file.to_string_lossy()])
    }

    fn scope_of_nginx(&self) -> String {
        format!("cgroup:{}", self.group.path.display())
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // Killed, it would leave its worker behind.
        let _ = self.nginx.signal(Signal::SIGTERM);
        let _ = self.nginx.wait();
    }
}

fn nginx(namespace: &Namespace, group: &Group, root: &Path) -> Result<Process> {
    fs::create_dir(root.join("www"))?;
    fs::write(root.join("www/small.txt"), [b'a'; 612])?;
    fs::write(root.join("www/big.bin"), vec![b'b'; 1 << 20])?;
    // So long that hardly a packet of it has a head.
    fs::File::create(root.join("www/long.bin"))?.set_len(64 << 20)?;
    fs::write(root.join("nginx.conf"), configuration(root))?;
    let mut command = group.command(namespace, "nginx");
    let err = fs::File::create(root.join("stderr"))?;
    command.arg("-p").arg(root).arg("-c").arg(root.join("nginx.conf")).stdout(Stdio::null()).stderr(err);
    let mut process = Process::start(&mut command)?;
    wait::until("nginx to listen", || {
        if let Some(status) = process.ended()? {
            anyhow::bail!("nginx ended with {status}:\n{}", fs::read_to_string(root.join("stderr"))?);
        }
        let connected = namespace.enter(|| Ok(std::net::TcpStream::connect(("127.0.0.1", OBSERVED)).is_ok()))?;
        Ok(connected.then_some(()))
    })?;
    Ok(process)
}

fn configuration(root: &Path) -> String {
    let root = root.display();
    format!(
        "daemon off; user root; worker_processes 1; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 16384; }}
http {{
    access_log off; keepalive_requests 1000000000; sendfile on; tcp_nopush on;
    client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
    server {{
        listen {OBSERVED} backlog=4096; listen {UNOBSERVED} backlog=4096; root {root}/www;
        location /series {{ return 200 \"ok\\n\"; }}
    }}
}}
"
    )
}

/// Where something runs: a cgroup, and two namespaces that a veth pair joins (`Namespace::connect`).
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) group: Group,
    pub(crate) here: Namespace,
    pub(crate) there: Namespace,
}

impl Place {
    /// Makes one, whose cgroup has `name` in its own.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let (here, there) = (Namespace::new()?, Namespace::new()?);
        here.connect(&there)?;
        Ok(Self { group: Group::new(name)?, here, there })
    }
}

/// A cgroup of the benchmark's own.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) path: PathBuf,
}

impl Group {
    fn new(name: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        // proc(5): the mount point is field 5, the type follows ` - `.
        let root = mounts.lines().find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(PathBuf::from))?
        });
        let path = root.context("no cgroup v2 hierarchy is mounted")?.join(format!("smb{}-{name}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(Self { path })
    }

    /// A command whose process is in this cgroup and in that network namespace.
    pub(crate) fn command(&self, namespace: &Namespace, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]).arg(self.path.join("cgroup.procs")).args([
            "nsenter",
            &format!("--net=/run/netns/{}", namespace.name()),
            "--",
            program,
        ]);
        command
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process leaves its cgroup a moment after its parent saw the end of it.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            thread::park_timeout(Duration::from_millis(20));
        }
    }
}
