//! What `deploy/container/Dockerfile` makes: a root directory, and how its program is started. Only the instructions that it
//! uses are known; any other is an error, so that nothing of it is passed over.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

/// The binary that `cargo xtask test` built for images.
#[must_use]
pub fn static_binary() -> PathBuf {
    let target = format!("../target/{}-unknown-linux-musl/debug/sockmeter", std::env::consts::ARCH);
    let built = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(target);
    std::env::var_os("SOCKMETER_STATIC_BINARY").map_or_else(built, PathBuf::from)
}

/// A file of the folder `deploy`.
#[must_use]
pub fn deployed(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// An image's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// `USER`, as numbers.
    pub user: (u32, u32),
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub command: Vec<String>,
}

impl Image {
    /// Builds our Dockerfile into `root`, which is empty.
    ///
    /// # Errors
    /// When it has an instruction that is not known here, or the binary was not built.
    pub fn build(root: &Path) -> Result<Self> {
        let file = deployed("container/Dockerfile");
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let mut image = Self { user: (0, 0), entrypoint: Vec::new(), command: Vec::new() };
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            match line.split_once(' ').with_context(|| format!("no instruction: {line}"))? {
                ("FROM", base) => ensure!(base == "scratch", "the base is {base}, wanted none"),
                ("COPY", words) => {
                    let (from, to) = words.split_once(' ').context("COPY without a destination")?;
                    ensure!(from == "sockmeter", "{from} is not built by cargo xtask dist");
                    let to = root.join(to.trim_start_matches('/'));
                    fs::copy(static_binary(), &to).context("cannot copy the static binary (cargo xtask dist)")?;
                }
                ("USER", user) => {
                    let (user, group) = user.split_once(':').context("USER without a group")?;
                    image.user = (user.parse()?, group.parse()?);
                }
                ("EXPOSE", _) => {}
                ("ENTRYPOINT", words) => image.entrypoint = serde_json::from_str(words)?,
                ("CMD", words) => image.command = serde_json::from_str(words)?,
                _ => bail!("{}: {line}: not known to this test", file.display()),
            }
        }
        Ok(image)
    }
}
