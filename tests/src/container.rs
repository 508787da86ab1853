//! A container as runc runs it, from a bundle: a root directory and a `config.json` (OCI runtime specification). What the
//! configuration says comes from elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::load::patience;
use crate::namespace::Namespace;
use crate::page::Page;
use crate::process::{Process, output, run};
use crate::wait;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory that becomes a container; the container ends with it.
#[derive(Debug)]
pub struct Bundle {
    folder: TempDir,
    name: String,
}

impl Bundle {
    /// An empty one.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn new() -> Result<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let bundle = Self { folder: tempfile::tempdir()?, name: format!("sockmeter-{}-{number}", std::process::id()) };
        for folder in [bundle.root(), bundle.state()] {
            fs::create_dir(folder)?;
        }
        Ok(bundle)
    }

    /// What becomes `/`.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("rootfs")
    }

    /// A place for what is mounted into it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its name, which is also its cgroup's, in every hierarchy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A file for what the container would say to the kernel's log.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn messages(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("messages");
        fs::write(&path, "")?;
        Ok(path)
    }

    /// All that it said that can be read.
    fn said(&self) -> String {
        let text = |name: &str| fs::read(self.folder.path().join(name)).unwrap_or_default();
        String::from_utf8_lossy(&[text("messages"), b"\n".to_vec(), text("log")].concat()).into_owned()
    }

    /// What a container says that does not say it to its standard output.
    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn runc(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.state()).args(arguments);
        command
    }

    fn run(&self, config: &Value) -> Result<Command> {
        fs::write(self.folder.path().join("config.json"), serde_json::to_vec(config)?)?;
        let mut command = self.runc(&["run", "--bundle"]);
        command.arg(self.folder.path()).arg(&self.name);
        Ok(command)
    }

    /// Runs it to its end: exit code, and all that it said.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn to_its_end(self, config: &Value) -> Result<(Option<i32>, String)> {
        let bound = patience().as_secs().to_string();
        let mut bounded = Command::new("timeout");
        let command = self.run(config)?;
        // What should end may not.
        bounded.arg("--signal=TERM").arg(bound).arg(command.get_program()).args(command.get_args());
        let output = output(&mut bounded)?;
        let said = [output.stdout, output.stderr, self.said().into_bytes()].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
    }

    /// Starts it and waits until it says where it serves.
    ///
    /// # Errors
    /// When it ends before, with what it said.
    pub fn start<'a>(self, config: &Value, namespace: &'a Namespace, token: Option<&str>) -> Result<Container<'a>> {
        let log = self.log();
        // What runs in it may write there too.
        let out = fs::File::options().create(true).append(true).open(&log)?;
        let mut command = self.run(config)?;
        let mut process = Process::start(command.stdout(out.try_clone()?).stderr(Stdio::from(out)))?;
        wait::until("the container to serve", || {
            let said = self.said();
            if let Some(status) = process.ended()? {
                bail!("the container ended with {status}:\n{said}");
            }
            Ok(said.contains("listening on ").then_some(()))
        })?;
        Ok(Container { bundle: self, process, namespace, token: token.map(str::to_owned) })
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = output(&mut self.runc(&["delete", "--force", &self.name]));
    }
}

/// A running agent in a container.
#[derive(Debug)]
pub struct Container<'a> {
    bundle: Bundle,
    process: Process,
    namespace: &'a Namespace,
    token: Option<String>,
}

impl Container<'_> {
    /// Asks port 9464 for a path, with the token if there is one, and gives the status and the body.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn get(&self, path: &str, with_token: bool) -> Result<(String, String)> {
        let mut command = self.namespace.command("curl");
        command.args(["-sS", "--max-time", "60", "-w", "\n%{http_code}"]);
        if let Some(token) = self.token.as_ref().filter(|_| with_token) {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let said = run(command.arg(format!("http://127.0.0.1:9464{path}"))).with_context(|| self.log())?;
        let (body, status) = said.rsplit_once('\n').context("no status")?;
        Ok((status.to_owned(), body.to_owned()))
    }

    /// What it said so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.bundle.said()
    }

    /// Its name, which is also its cgroup's.
    #[must_use]
    pub fn name(&self) -> &str {
        self.bundle.name()
    }

    /// Runs a program in it, as root, and gives what that says.
    ///
    /// # Errors
    /// When it fails.
    pub fn says(&self, words: &[&str]) -> Result<String> {
        run(self.bundle.runc(&["exec", self.bundle.name()]).args(words)).with_context(|| self.log())
    }

    /// Runs a program in it again and again until it says `wanted`.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn until_it_says(&self, words: &[&str], wanted: &str) -> Result<()> {
        wait::until(wanted, || Ok(self.says(words).is_ok_and(|said| said.trim() == wanted).then_some(())))
    }

    /// A page, asked for with the token.
    ///
    /// # Errors
    /// When it does not answer, or not with a page.
    pub fn scrape(&self) -> Result<Page> {
        Page::parse(self.get("/metrics", true)?.1)
    }

    /// See `Page::until`.
    ///
    /// # Errors
    /// As there.
    pub fn scrape_until(&self, what: &str, condition: impl FnMut(&Page) -> bool) -> Result<Page> {
        Page::until(what, || self.scrape(), condition)
    }

    /// Asks it to stop as a runtime does, and gives its exit code.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(mut self) -> Result<Option<i32>> {
        self.process.signal(Signal::SIGTERM)?;
        Ok(self.process.wait()?.code())
    }
}
