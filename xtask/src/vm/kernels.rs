//! Kernels of other versions from Debian's packages, taken from the mirror that apt already uses: which are wanted, which
//! package is the newest, and what is kept of it. Running them is `boot`'s.

use std::cmp::Ordering;
use std::fs;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::steps::{output_of, run};
use crate::workspace::Workspace;

/// A kernel series, and the Debian suites that may have it. No suite has 5.15 or 6.6.
const SERIES: [(&str, &[&str]); 5] = [
    ("5.10", &["bullseye"]),
    ("6.1", &["bookworm"]),
    ("6.12", &["trixie"]),
    ("6.18", &["trixie-backports"]),
    ("7.2", &["sid", "trixie-backports"]),
];
/// The two that `cargo xtask test` boots: the oldest that is supported, and the newest.
pub(crate) const ENDS: [&str; 2] = ["6.1", "7.2"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// What the guest needs that Debian builds as modules: its root, then what tests make in it. Those that a kernel has built
/// in, or not at all, are left out; a test that misses one says so.
const MODULES: [&str; 16] = [
    "virtio_pci",
    "9pnet_virtio",
    "9p",
    "veth",
    "ifb",
    "dummy",
    "tun",
    "wireguard",
    "sch_ingress",
    "cls_bpf",
    "sch_netem",
    "nf_tables",
    "nft_numgen",
    "nft_dup_netdev",
    "tcp_diag",
    "udp_diag",
];

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// `uname -r`.
    pub(crate) release: String,
    /// Its image.
    pub(crate) image: PathBuf,
    /// Modules in the order in which they can be loaded.
    pub(crate) modules: Vec<PathBuf>,
}

/// The series that are asked for; all of them if none is.
pub(crate) fn chosen(wanted: &[String]) -> Result<Vec<&'static str>> {
    let all = SERIES.map(|(series, _)| series);
    for series in wanted {
        if !all.contains(&series.as_str()) {
            bail!("{series}: no kernel of that version is known, wanted some of {}", all.join(", "));
        }
    }
    Ok(all.into_iter().filter(|series| wanted.is_empty() || wanted.iter().any(|found| found == series)).collect())
}

/// A folder with what is kept of kernels, and a private apt.
#[derive(Debug)]
pub(crate) struct Kernels {
    folder: PathBuf,
}

impl Kernels {
    pub(crate) fn new(workspace: &Workspace) -> Self {
        Self { folder: workspace.root.join("target/vm") }
    }

    /// The newest kernel of a series that is kept here; the newest of the mirror if none is.
    pub(crate) fn get(&self, series: &str) -> Result<Kernel> {
        if let Some(release) = self.kept(series) {
            return self.open(&release);
        }
        let suites = SERIES.iter().find(|(known, _)| *known == series).map_or(&[][..], |(_, suites)| suites);
        let apt = Apt::open(&self.folder.join("apt"), suites)?;
        let release = apt
            .newest(series)?
            .with_context(|| format!("none of the suites {} has a package of kernel {series}", suites.join(", ")))?;
        self.fetch(&apt, &release)?;
        self.open(&release)
    }

    /// busybox, linked statically; it is not installed.
    pub(crate) fn busybox(&self) -> Result<PathBuf> {
        self.unpacked("busybox-static", "bookworm", &["bin/busybox", "usr/bin/busybox"])
    }

    /// One of these files of a package, which is not installed.
    pub(crate) fn unpacked(&self, package: &str, suite: &str, files: &[&str]) -> Result<PathBuf> {
        let folder = self.folder.join(package.trim_end_matches("-static"));
        let is_there = || files.iter().map(|file| folder.join(file)).find(|path| path.exists());
        if let Some(path) = is_there() {
            return Ok(path);
        }
        let apt = Apt::open(&self.folder.join("apt"), &[suite])?;
        extract(&apt.download(package, &self.folder.join("packages"))?, &folder)?;
        is_there().with_context(|| format!("the package {package} has none of {}", files.join(", ")))
    }

    fn kept(&self, series: &str) -> Option<String> {
        let entries = fs::read_dir(self.folder.join("kernels")).ok()?;
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let whole = |name: &String| fs::read_to_string(self.asked(name)).is_ok_and(|asked| asked == MODULES.join("\n"));
        names.filter(|name| is_of(name, series)).filter(whole).max_by(|a, b| by_number(a, b))
    }

    /// Says which modules were wanted when a kernel was fetched: with others it is fetched again.
    fn asked(&self, release: &str) -> PathBuf {
        self.folder.join("kernels").join(release).join("asked")
    }

    fn open(&self, release: &str) -> Result<Kernel> {
        let folder = self.folder.join("kernels").join(release);
        let mut modules: Vec<PathBuf> =
            fs::read_dir(folder.join("modules"))?.filter_map(|entry| Some(entry.ok()?.path())).collect();
        modules.sort();
        Ok(Kernel { release: release.to_owned(), image: folder.join("vmlinuz"), modules })
    }

    /// Keeps the image and the modules of `MODULES`: a tenth of what the packages hold.
    fn fetch(&self, apt: &Apt, release: &str) -> Result<()> {
        let scratch = self.folder.join("scratch").join(release);
        let _ = fs::remove_dir_all(&scratch);
        // Since 7.0 the image is in one package, the modules in another, and linux-image is empty.
        let split = format!("linux-binary-{release}");
        let packages = if apt.has(&split) {
            vec![split, format!("linux-modules-{release}")]
        } else {
            vec![format!("linux-image-{release}")]
        };
        for package in packages {
            extract(&apt.download(&package, &self.folder.join("packages"))?, &scratch)?;
        }
        // Since trixie modules are below usr.
        let lib = scratch.join("lib");
        if !lib.join("modules").exists() {
            fs::create_dir_all(&lib)?;
            fs::rename(scratch.join("usr/lib/modules"), lib.join("modules"))?;
        }
        let images = [scratch.join(format!("boot/vmlinuz-{release}")), lib.join(format!("modules/{release}/vmlinuz"))];
        let image = images.iter().find(|path| path.exists()).context("the packages have no vmlinuz")?;
        let kept = scratch.join("kept");
        fs::create_dir_all(kept.join("modules"))?;
        fs::copy(image, kept.join("vmlinuz"))?;
        // It warns of lists that are in no package; what it writes is good.
        run(Command::new("depmod").arg("-b").arg(&scratch).arg(release).stderr(std::process::Stdio::null()))?;
        for (number, module) in load_order(&scratch, release).iter().enumerate() {
            keep_module(module, &kept.join("modules"), number)?;
        }
        let place = self.folder.join("kernels");
        fs::create_dir_all(&place)?;
        fs::write(kept.join("asked"), MODULES.join("\n"))?;
        let _ = fs::remove_dir_all(place.join(release));
        fs::rename(kept, place.join(release))?;
        fs::remove_dir_all(&scratch)?;
        Ok(())
    }
}

/// The modules' files, each behind those that it needs.
fn load_order(scratch: &Path, release: &str) -> Vec<PathBuf> {
    let mut order = Vec::new();
    for module in MODULES {
        let mut modprobe = Command::new("modprobe");
        modprobe.args(["--show-depends", "-S", release, "-d"]).arg(scratch).arg(module);
        let said = output_of(modprobe.stderr(std::process::Stdio::null())).unwrap_or_default();
        for path in said.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            // Options of the module may follow.
            let name = path.rfind('/').unwrap_or(0);
            let end = path.get(name..).and_then(|name_on| name_on.find(' ')).map_or(path.len(), |at| name + at);
            let path = PathBuf::from(path.get(..end).unwrap_or(path));
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    order
}

/// Uncompressed, because busybox' insmod wants it so.
fn keep_module(module: &Path, folder: &Path, number: usize) -> Result<()> {
    let name = module.file_name().context("a module without a name")?.to_string_lossy().into_owned();
    for (ending, program) in [(".xz", "xz"), (".zst", "zstd")] {
        if let Some(stem) = name.strip_suffix(ending) {
            let kept = fs::File::create(folder.join(format!("{number:03}-{stem}")))?;
            return run(Command::new(program).args(["-q", "-d", "-c"]).arg(module).stdout(kept));
        }
    }
    fs::copy(module, folder.join(format!("{number:03}-{name}"))).map(drop).context("cannot copy a module")
}

fn extract(package: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    run(Command::new("dpkg-deb").arg("-x").arg(package).arg(folder))
}

/// apt with lists of its own. Its list of sources is in memory: nothing under `/etc` changes.
struct Apt {
    folder: PathBuf,
    sources: OwnedFd,
}

impl Apt {
    fn open(folder: &Path, suites: &[&str]) -> Result<Self> {
        for below in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(below))?;
        }
        let mirror = mirror()?;
        // Inherited by apt, hence not closed on exec.
        let sources = memfd_create(c"sources", MFdFlags::empty()).context("cannot make a list of sources")?;
        let mut file = fs::File::from(sources.try_clone()?);
        for suite in suites {
            writeln!(file, "deb [signed-by={KEYRING}] {mirror} {suite} main")?;
        }
        let apt = Self { folder: folder.to_owned(), sources };
        // A suite that is gone must not keep the others away: what is missing shows when it is looked for.
        let _ = output_of(&mut apt.command("apt-get", &["update", "-qq"]));
        Ok(apt)
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.display();
        for option in [
            format!("Dir::Etc::sourcelist=/proc/self/fd/{}", self.sources.as_raw_fd()),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            // What is installed here is no candidate: another source than Debian may have it.
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            // Who downloads must be able to write here.
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.args(arguments);
        command
    }

    /// The newest release of a series, without the flavours cloud and rt: those lack 9p.
    fn newest(&self, series: &str) -> Result<Option<String>> {
        let pattern = format!("^linux-(image|binary)-{}\\.[^ ]*-amd64$", series.replace('.', "\\."));
        let found = output_of(&mut self.command("apt-cache", &["search", "--names-only", &pattern]))
            .context("apt-cache does not run")?;
        Ok(newest_of(&found))
    }

    fn has(&self, package: &str) -> bool {
        output_of(&mut self.command("apt-cache", &["show", package])).is_some_and(|found| !found.is_empty())
    }

    /// Fetches a package, if it is not there, to a file with the name that the mirror gives it.
    fn download(&self, package: &str, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder)?;
        run(self.command("apt-get", &["download", "-qq", package]).current_dir(folder))?;
        let start = format!("{package}_");
        let entries = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&start));
        entries.filter(named).max().with_context(|| format!("apt fetched no {package}"))
    }
}

/// The Debian mirror that apt is configured with.
fn mirror() -> Result<String> {
    let format = "$(REPO_URI) $(COMPONENT)";
    let targets = output_of(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]));
    let targets = targets.context("apt-get does not run\nhint: kernels come from Debian packages")?;
    let mut of_main = targets.lines().filter_map(|line| line.strip_suffix(" main"));
    of_main.find(|uri| !uri.contains("security")).map(str::to_owned).context("apt has no Debian mirror")
}

fn newest_of(found: &str) -> Option<String> {
    let packages = found.lines().filter_map(|line| line.split(' ').next());
    let releases = packages.filter_map(|package| package.splitn(3, '-').nth(2));
    let plain = releases.filter(|release| !["-cloud-", "-rt-", "-dbg"].iter().any(|flavour| release.contains(flavour)));
    plain.max_by(|a, b| by_number(a, b)).map(str::to_owned)
}

fn is_of(release: &str, series: &str) -> bool {
    release.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'))
}

/// By their numbers, one after the other.
fn by_number(a: &str, b: &str) -> Ordering {
    let numbers = |release: &str| -> Vec<u32> {
        release.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    numbers(a).cmp(&numbers(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_so_by_number_and_has_no_flavour() {
        let found = "linux-image-6.12.94+deb13-amd64 - Linux 6.12 for 64-bit PCs\n\
                     linux-image-6.12.107+deb13-amd64 - Linux 6.12 for 64-bit PCs\n\
                     linux-image-6.12.107+deb13-cloud-amd64 - Linux 6.12 for x86-64 cloud\n\
                     linux-image-6.12.99+deb13-rt-amd64 - Linux 6.12 for 64-bit PCs\n";
        assert_eq!(newest_of(found).as_deref(), Some("6.12.107+deb13-amd64"));
        assert_eq!(newest_of(""), None);
    }

    #[test]
    fn a_series_is_not_the_beginning_of_another() {
        assert!(is_of("6.1.0-50-amd64", "6.1"));
        assert!(!is_of("6.12.107+deb13-amd64", "6.1"));
        assert_eq!(chosen(&["6.1".to_owned()]).ok(), Some(vec!["6.1"]));
        assert_eq!(chosen(&[]).map(|all| all.len()).ok(), Some(5));
        assert_eq!(
            chosen(&["6.6".to_owned()]).map_err(|error| error.to_string()),
            Err("6.6: no kernel of that version is known, wanted some of 5.10, 6.1, 6.12, 6.18, 7.2".to_owned())
        );
    }
}
