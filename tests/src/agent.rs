//! The agent under test: the real binary, in a namespace, with a pin directory of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::load::patience;
use crate::namespace::Namespace;
use crate::ordinary;
use crate::page::Page;
use crate::process::{Process, run};
use crate::wait;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The binary that `cargo xtask test` built.
#[must_use]
pub fn binary() -> PathBuf {
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/debug/sockmeter");
    std::env::var_os("SOCKMETER_BINARY").map_or_else(built, PathBuf::from)
}

/// A pin directory's name that nobody else has.
#[must_use]
pub fn pin_dir() -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    PathBuf::from(format!("/sys/fs/bpf/sockmeter-test-{}-{number}", std::process::id()))
}

/// A running agent.
#[derive(Debug)]
pub struct Agent<'a> {
    namespace: &'a Namespace,
    process: Process,
    url: String,
    pins: PathBuf,
    files: TempDir,
}

impl<'a> Agent<'a> {
    /// Starts it in `namespace`, observing only that, and waits until it serves.
    ///
    /// # Errors
    /// When it ends before, with what it said.
    pub fn start(namespace: &'a Namespace, arguments: &[&str]) -> Result<Self> {
        Self::start_pinned(namespace, arguments, pin_dir())
    }

    /// The same with a given pin directory.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_pinned(namespace: &'a Namespace, arguments: &[&str], pins: PathBuf) -> Result<Self> {
        Self::start_with(namespace, arguments, pins, &[])
    }

    /// The same with variables in its environment.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with(
        namespace: &'a Namespace,
        arguments: &[&str],
        pins: PathBuf,
        variables: &[(&str, &OsStr)],
    ) -> Result<Self> {
        if ordinary::wanted() {
            ordinary::directory(&pins)?;
            return Self::start_behind(
                &ordinary::wrapper(&ordinary::CAPABILITIES),
                namespace,
                arguments,
                pins,
                variables,
            );
        }
        Self::start_behind(&[], namespace, arguments, pins, variables)
    }

    /// Starts it as root also where all others are an ordinary user's, because the test is of something that takes more:
    /// `why` says what.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_as_root(namespace: &'a Namespace, arguments: &[&str], why: &str) -> Result<Self> {
        Self::start_pinned_as_root(namespace, arguments, pin_dir(), why)
    }

    /// The same with a given pin directory.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_pinned_as_root(
        namespace: &'a Namespace,
        arguments: &[&str],
        pins: PathBuf,
        why: &str,
    ) -> Result<Self> {
        if ordinary::wanted() {
            eprintln!("this agent runs as root: {why}");
        }
        Self::start_behind(&[], namespace, arguments, pins, &[])
    }

    /// Starts it as an ordinary user who has no more than counting takes.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_as_ordinary_user(namespace: &'a Namespace, arguments: &[&str], pins: PathBuf) -> Result<Self> {
        ordinary::directory(&pins)?;
        Self::start_behind(&ordinary::wrapper(&ordinary::CAPABILITIES), namespace, arguments, pins, &[])
    }

    fn start_behind(
        wrapper: &[String],
        namespace: &'a Namespace,
        arguments: &[&str],
        pins: PathBuf,
        variables: &[(&str, &OsStr)],
    ) -> Result<Self> {
        let files = tempfile::tempdir()?;
        let log = files.path().join("log");
        // `env` runs what it gets, also if that is nothing but the agent. The variables are the agent's alone.
        let mut command = namespace.command("env");
        let variables = variables.iter().map(|(name, value)| [OsStr::new(name), value].join(OsStr::new("=")));
        command
            .args(wrapper)
            .arg("env")
            .args(variables)
            .arg(binary())
            .args(["run", "--pin-dir"])
            .arg(&pins)
            .args(if arguments.contains(&"--listen") { &[][..] } else { &["--listen", "127.0.0.1:0"] })
            // Tests that run at the same time must not see each other's traffic.
            .args(if arguments.contains(&"--scope") { &[][..] } else { &["--scope", "netns"] })
            .args(arguments);
        if !arguments.contains(&"--state-dir") {
            command.arg("--state-dir").arg(files.path().join("state"));
        }
        let out = fs::File::create(&log)?;
        let err = out.try_clone()?;
        let were_there = pins.exists();
        let mut process = Process::start(command.stdout(Stdio::from(out)).stderr(Stdio::from(err)))?;
        let serves = wait::until("the agent to serve", || {
            let said = fs::read_to_string(&log)?;
            if let Some(line) = said.lines().find_map(|line| line.split_once("listening on ")) {
                return Ok(Some(line.1.trim().to_owned()));
            }
            if let Some(status) = process.ended()? {
                bail!("the agent ended with {status}:\n{said}");
            }
            Ok(None)
        });
        match serves {
            Ok(url) => Ok(Self { namespace, process, url, pins, files }),
            Err(error) => {
                // Its end first; what it pinned until then is nobody's.
                drop(process);
                if !were_there {
                    let _ = detach(&pins);
                }
                Err(error)
            }
        }
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// What it wrote so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.files.path().join("log"))?)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its pin directory.
    #[must_use]
    pub fn pins(&self) -> &PathBuf {
        &self.pins
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// When it does not answer with 200.
    pub fn get(&self, path: &str) -> Result<String> {
        let url = format!("{}{path}", self.url);
        let bound = patience().as_secs().to_string();
        run(self.namespace.command("curl").args(["-sS", "--fail", "--max-time", &bound, &url]))
            .with_context(|| format!("cannot get {path}:\n{}", self.log().unwrap_or_default()))
    }

    /// Scrapes.
    ///
    /// # Errors
    /// When it does not answer, or not with an exposition.
    pub fn scrape(&self) -> Result<Page> {
        Page::parse(self.get("/metrics")?)
    }

    /// See `Page::until`.
    ///
    /// # Errors
    /// As there.
    pub fn scrape_until(&self, what: &str, condition: impl FnMut(&Page) -> bool) -> Result<Page> {
        Page::until(what, || self.scrape(), condition)
    }

    /// Asks it to stop and gives its exit code.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Result<Option<i32>> {
        self.process.signal(Signal::SIGTERM)?;
        Ok(self.process.wait()?.code())
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.process.signal(Signal::SIGKILL);
        let _ = self.process.wait();
        let _ = detach(&self.pins);
    }
}

fn detach(pins: &Path) -> Result<String> {
    run(Command::new(binary()).arg("detach").arg("--pin-dir").arg(pins))
}

/// Whether all accepted connections ended but the one that this page came through.
#[must_use]
pub fn only_the_scrape_is_left(page: &Page) -> bool {
    page.sum("sockmeter_sockets", &[("role", "server")]) <= 1.0
}
