//! The unit of `deploy/systemd` under a systemd of its own: one that is the first process of a container, in which there is
//! nothing but it, the static binary and the unit's files. So it is systemd itself that makes user, capabilities, mounts and
//! filters of what the unit says.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::container::Bundle;
use crate::image::{deployed, static_binary};
use crate::namespace::Namespace;
use crate::process::run;

/// The unit's name.
pub const NAME: &str = "sockmeter.service";
/// Where units are looked for, and nowhere else.
const UNITS: &str = "etc/systemd/system";
/// Programs that the unit starts, and what asks systemd.
const PROGRAMS: [&str; 4] = ["install", "kill", "cat", "systemctl"];
/// Targets that every service has to do with, which need nothing here (systemd.special(7)).
const TARGETS: [&str; 4] = ["sysinit", "basic", "shutdown", "network"];
/// What is added to the unit so that a test hears of it: its output in a file, and its end as the container's. Neither changes
/// what the service may do.
const HEARD: &str = "[Unit]\nFailureAction=exit-force\nSuccessAction=exit-force\n\
    [Service]\nRestart=no\nStandardOutput=append:/bundle/log\nStandardError=append:/bundle/log\n";

/// The unit and its configuration file, to be changed.
#[derive(Debug, Clone)]
pub struct Unit {
    /// The unit's file.
    pub text: String,
    /// `/etc/sockmeter/sockmeter.toml`.
    pub settings: String,
    /// Drop-ins.
    pub drop_ins: Vec<String>,
}

impl Unit {
    /// As they are in `deploy/systemd`.
    ///
    /// # Errors
    /// When a file is not there.
    pub fn ours() -> Result<Self> {
        let settings = fs::read_to_string(deployed("systemd/sockmeter.toml"))?;
        Ok(Self { text: fs::read_to_string(deployed("systemd").join(NAME))?, settings, drop_ins: Vec::new() })
    }

    /// Capabilities of the bounding set.
    ///
    /// # Errors
    /// When the unit has none.
    pub fn capabilities(&self) -> Result<Vec<String>> {
        let line = self.text.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
        Ok(line.context("no bounding set")?.split(' ').map(str::to_owned).collect())
    }

    /// The files of a system with this unit, for systemd and its tools to look at.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn install(&self, root: &Path) -> Result<()> {
        for folder in
            ["usr/bin", "usr/lib", "usr/lib64", "dev", "proc", "sys", "run", "tmp", "var/lib", "root", "home", "bundle"]
        {
            fs::create_dir_all(root.join(folder))?;
        }
        for folder in ["bin", "lib", "lib64"] {
            symlink(format!("usr/{folder}"), root.join(folder))?;
        }
        for program in PROGRAMS {
            let found = Path::new("/usr/bin").join(program);
            fs::copy(found, root.join("usr/bin").join(program)).with_context(|| program.to_owned())?;
        }
        fs::copy(static_binary(), root.join("usr/bin/sockmeter")).context("the static binary (cargo xtask dist)")?;
        let units = root.join(UNITS);
        let drop_ins = units.join(format!("{NAME}.d"));
        for folder in [drop_ins.clone(), root.join("etc/sockmeter"), root.join("etc/sysusers.d")] {
            fs::create_dir_all(folder)?;
        }
        fs::write(units.join(NAME), &self.text)?;
        for (number, text) in self.drop_ins.iter().enumerate() {
            fs::write(drop_ins.join(format!("{number}.conf")), text)?;
        }
        for target in TARGETS {
            fs::write(units.join(format!("{target}.target")), "[Unit]\nDefaultDependencies=no\n")?;
        }
        fs::write(root.join("etc/sockmeter/sockmeter.toml"), &self.settings)?;
        fs::write(root.join("etc/machine-id"), format!("{:032x}\n", 1))?;
        fs::write(root.join("etc/nsswitch.conf"), "passwd: files\ngroup: files\n")?;
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(root.join("etc/group"), "root:x:0:\n")?;
        fs::copy(deployed("systemd/sysusers.conf"), root.join("etc/sysusers.d/sockmeter.conf"))?;
        run(Command::new("systemd-sysusers").arg("--root").arg(root))?;
        Ok(())
    }

    /// Puts it into a bundle whose first process is systemd, with `bpffs` where its bpffs is.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn configuration(&self, bundle: &Bundle, namespace: &Namespace, bpffs: &Path) -> Result<Value> {
        let mut heard = self.clone();
        heard.drop_ins.push(HEARD.to_owned());
        heard.install(&bundle.root())?;
        let bind = |from: &Path, to: &str, access: &str| json!({"destination": to, "type": "bind", "source": from, "options": ["rbind", "rprivate", access]});
        let all = capabilities()?;
        Ok(json!({
            "ociVersion": "1.0.2",
            "hostname": "unit",
            "root": {"path": "rootfs", "readonly": false},
            "process": {
                "cwd": "/",
                "args": ["/usr/lib/systemd/systemd", "--system", format!("--unit={NAME}"), "--log-target=kmsg"],
                "env": ["container=runc", format!("SYSTEMD_UNIT_PATH=/{UNITS}"), "PATH=/usr/bin"],
                "user": {"uid": 0, "gid": 0},
                "capabilities": {"bounding": all, "effective": all, "permitted": all},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup2", "source": "cgroup2", "options": ["nosuid", "rw"]},
                bind(bpffs, "/sys/fs/bpf", "rw"),
                {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=1777"]},
                bind(Path::new("/usr/lib"), "/usr/lib", "ro"),
                bind(Path::new("/usr/lib64"), "/usr/lib64", "ro"),
                bind(bundle.folder(), "/bundle", "rw"),
                // What systemd itself says.
                bind(&bundle.messages()?, "/dev/kmsg", "rw"),
            ],
            "linux": {
                "namespaces": [
                    {"type": "network", "path": format!("/run/netns/{}", namespace.name())},
                    {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "pid"}, {"type": "cgroup"},
                ],
                "cgroupsPath": format!("/{}", bundle.name()),
                // systemd would set sysctls that are the machine's.
                "readonlyPaths": ["/proc/sys"],
            },
        }))
    }
}

/// All that can be had here, by name (setpriv(1)).
fn capabilities() -> Result<Vec<String>> {
    let said = run(Command::new("setpriv").arg("--dump"))?;
    let names =
        said.lines().find_map(|line| line.strip_prefix("Capability bounding set: ")).context("no bounding set")?;
    Ok(names.split(',').map(|name| format!("CAP_{}", name.trim().to_uppercase())).collect())
}

/// A place for pins that is the test's own.
#[derive(Debug)]
pub struct Bpffs(PathBuf);

impl Bpffs {
    /// Makes it.
    ///
    /// # Errors
    /// When there is no bpffs.
    pub fn new() -> Result<Self> {
        let path = crate::agent::pin_dir();
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// Its directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let pins = self.0.join("sockmeter");
        let _ = run(Command::new(static_binary()).arg("detach").arg("--pin-dir").arg(pins));
        let _ = fs::remove_dir(&self.0);
    }
}
