//! A WireGuard tunnel in user space between two namespaces that are connected already, and what WireGuard says of it.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::process::{Process, run};
use crate::wait;

/// Both ends; the tunnel goes with it.
#[derive(Debug)]
pub struct Tunnel {
    ends: [End; 2],
    _keys: TempDir,
}

/// One end of a tunnel.
#[derive(Debug)]
struct End {
    name: String,
    public_key: String,
    _process: Process,
}

impl Tunnel {
    /// Makes it on top of [`Namespace::connect`], `wg0` here and `wgfar` there: `10.9.0.1` and `fd09::1` here, `.2` there.
    ///
    /// # Errors
    /// When `wireguard-go`, `wg` or `ip` fails.
    pub fn start(here: &Namespace, there: &Namespace) -> Result<Self> {
        Self::start_named(here, there, ["wg0", "wgfar"])
    }

    /// The same with interfaces of these names, which no other process on this machine may use.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_named(here: &Namespace, there: &Namespace, names: [&str; 2]) -> Result<Self> {
        let keys = tempfile::tempdir()?;
        let end = |namespace, name: &str| -> Result<End> {
            let process = process(namespace, name)?;
            let file = keys.path().join(name);
            std::fs::write(&file, run(Command::new("wg").arg("genkey"))?)?;
            let line = format!("wg pubkey < {}", file.display());
            let public_key = run(Command::new("sh").arg("-c").arg(line))?.trim().to_owned();
            Ok(End { name: name.to_owned(), public_key, _process: process })
        };
        let ends = [end(here, names[0])?, end(there, names[1])?];
        for (namespace, name, peer, host, endpoint) in [
            (here, names[0], &ends[1].public_key, 1, "10.77.0.2:51820"),
            (there, names[1], &ends[0].public_key, 2, "10.77.0.1:51820"),
        ] {
            run(namespace
                .command("wg")
                .args(["set", name, "listen-port", "51820", "private-key"])
                .arg(keys.path().join(name))
                .args(["peer", peer, "allowed-ips", "10.9.0.0/24,fd09::/64", "endpoint", endpoint]))?;
            namespace.ip(&["addr", "add", &format!("10.9.0.{host}/24"), "dev", name])?;
            namespace.ip(&["addr", "add", &format!("fd09::{host}/64"), "dev", name, "nodad"])?;
            // Drops in the device's queue come after our hook: room for all that is sent before the process takes it.
            namespace.ip(&["link", "set", name, "mtu", "1420", "txqueuelen", "20000", "up"])?;
        }
        Ok(Self { ends, _keys: keys })
    }

    /// The public key of an end, 0 is here and 1 there: what the other end knows it by.
    #[must_use]
    pub fn public_key(&self, end: usize) -> &str {
        self.ends.get(end).map_or("", |end| end.public_key.as_str())
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        for end in &self.ends {
            let _ = std::fs::remove_file(socket(&end.name));
        }
    }
}

/// What WireGuard says of a peer of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Bytes `[received, sent]`.
    pub transfer: [u64; 2],
    /// The last handshake in Unix time, 0 if there was none.
    pub handshake: u64,
}

/// What `wg show` says of an interface's peers, by their keys.
///
/// # Errors
/// When `wg` fails, or says something else.
pub fn told(namespace: &Namespace, name: &str) -> Result<BTreeMap<String, Told>> {
    let show = |what: &str| run(namespace.command("wg").args(["show", name, what]));
    let mut all = BTreeMap::new();
    for line in show("transfer")?.lines() {
        let mut words = line.split_whitespace();
        let key = words.next().context("no key")?.to_owned();
        let mut number = || -> Result<u64> { Ok(words.next().context("no transfer")?.parse()?) };
        all.insert(key, Told { transfer: [number()?, number()?], handshake: 0 });
    }
    for line in show("latest-handshakes")?.lines() {
        let (key, time) = line.split_once('\t').context("no handshake")?;
        all.get_mut(key).context("an unknown peer")?.handshake = time.trim().parse()?;
    }
    Ok(all)
}

/// Where the process of an interface has its socket.
#[must_use]
pub fn socket(name: &str) -> PathBuf {
    PathBuf::from(format!("/var/run/wireguard/{name}.sock"))
}

fn process(namespace: &Namespace, name: &str) -> Result<Process> {
    // One that was killed leaves its socket behind.
    let _ = std::fs::remove_file(socket(name));
    let mut command = namespace.command("wireguard-go");
    command.args(["-f", name]).env("WG_PROCESS_FOREGROUND", "1").stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::start(&mut command)?;
    // Not by wg(8): a socket that was bound and does not listen yet it takes for one left behind, and removes it.
    wait::until("wireguard-go", || Ok(UnixStream::connect(socket(name)).is_ok().then_some(())))?;
    Ok(process)
}
