//! A path between two namespaces that loses, repeats and reorders packets (`load/lossy_path.py`), where the kernel has no
//! netem.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::client::script;
use crate::namespace::Namespace;
use crate::process::Process;

/// Seconds after which it ends, whatever happens to the test.
const LIFE: &str = "120";

/// The path; it ends with this.
#[derive(Debug)]
pub struct LossyPath {
    _relay: Process,
}

impl LossyPath {
    /// Makes a device `path` in both namespaces, `10.88.0.1` and `10.88.0.2`, and connects them. The same `seed` throws the
    /// same dice.
    ///
    /// # Errors
    /// When the devices cannot be made.
    pub fn between(here: &Namespace, there: &Namespace, seed: u32) -> Result<Self> {
        let mut command = Command::new("python3");
        command.arg(script("lossy_path.py")).args([here.name(), there.name(), &seed.to_string(), LIFE]);
        let mut relay = Process::start(command.stdout(Stdio::piped()))?;
        let mut line = String::new();
        BufReader::new(relay.output().context("no output")?).read_line(&mut line)?;
        ensure!(line == "ready\n", "the path said {line:?}");
        for (namespace, host) in [(here, 1), (there, 2)] {
            namespace.ip(&["addr", "add", &format!("10.88.0.{host}/24"), "dev", "path"])?;
            namespace.ip(&["link", "set", "path", "up", "mtu", "1500"])?;
        }
        Ok(Self { _relay: relay })
    }
}
