//! A WireGuard tunnel in user space between two namespaces that are connected already: `wg0` here, `wgfar` there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::Result;
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::process::{Process, output, run};
use crate::wait;

/// Both ends; the tunnel goes with it.
#[derive(Debug)]
pub struct Tunnel {
    _ends: [Process; 2],
    _keys: TempDir,
}

impl Tunnel {
    /// Makes it on top of [`Namespace::connect`]: `10.9.0.1` and `fd09::1` here, `.2` there.
    ///
    /// # Errors
    /// When `wireguard-go`, `wg` or `ip` fails.
    pub fn start(here: &Namespace, there: &Namespace) -> Result<Self> {
        let ends = [end(here, "wg0")?, end(there, "wgfar")?];
        let keys = tempfile::tempdir()?;
        let mut public = Vec::new();
        for name in ["wg0", "wgfar"] {
            let file = keys.path().join(name);
            std::fs::write(&file, run(Command::new("wg").arg("genkey"))?)?;
            let line = format!("wg pubkey < {}", file.display());
            public.push(run(Command::new("sh").arg("-c").arg(line))?.trim().to_owned());
        }
        for (namespace, name, peer, host, endpoint) in
            [(here, "wg0", &public[1], 1, "10.77.0.2:51820"), (there, "wgfar", &public[0], 2, "10.77.0.1:51820")]
        {
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
        Ok(Self { _ends: ends, _keys: keys })
    }
}

fn end(namespace: &Namespace, name: &str) -> Result<Process> {
    let socket = PathBuf::from(format!("/var/run/wireguard/{name}.sock"));
    // One that was killed leaves its socket behind.
    let _ = std::fs::remove_file(&socket);
    let mut command = namespace.command("wireguard-go");
    command.args(["-f", name]).env("WG_PROCESS_FOREGROUND", "1").stdout(Stdio::null()).stderr(Stdio::null());
    let process = Process::start(&mut command)?;
    wait::until("wireguard-go", || {
        Ok(output(Command::new("wg").args(["show", name]))?.status.success().then_some(()))
    })?;
    Ok(process)
}
