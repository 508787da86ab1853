//! `cargo xtask setup`: the programs that the kernel tests and their virtual machines drive, from Debian's packages. Nothing is started: neither
//! now, nor at the next boot.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use nix::unistd::geteuid;

use crate::steps::{Steps, output_of, run};

const ALONE: &str = "cargo xtask setup";

/// Each program that a test or a virtual machine may run, and the package that has it. A package without a program is known
/// by a path.
const PROGRAMS: [(&str, &str); 27] = [
    ("nginx", "nginx-light"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("python3", "python3-minimal"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("victoria-metrics", "victoria-metrics"),
    ("vmalert", "victoria-metrics"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
    ("wireguard-go", "wireguard-go"),
    ("wg", "wireguard-tools"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("faketime", "faketime"),
    ("iperf3", "iperf3"),
    ("nethogs", "nethogs"),
    ("tc", "iproute2"),
    ("bpftool", "bpftool"),
    // What the agent is deployed with, and how.
    ("runc", "runc"),
    ("systemd-analyze", "systemd"),
    ("musl-gcc", "musl-tools"),
    ("/usr/share/doc/python3-venv", "python3-venv"),
    // What boots other kernels.
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
    ("modprobe", "kmod"),
];

/// What the static binary is built with.
pub(crate) const MUSL: &[&str] = &["musl-gcc"];
/// What a validator from PyPI is installed with.
pub(crate) const PYTHON: &[&str] = &["/usr/share/doc/python3-venv"];
/// What a person looks at metrics with.
pub(crate) const BACKENDS: &[&str] = &["prometheus", "victoria-metrics"];
/// What reads rules.
pub(crate) const RULES: &[&str] = &["promtool", "vmalert"];

/// Debian's packages start their services when they are installed, unless policy-rc.d forbids it (invoke-rc.d(8)), and
/// enable them for the next boot. A policy that is there already is left alone.
const INSTALL: &str = r#"
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\n# Made by cargo xtask setup, which removes it when it is done.\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
apt-get update -qq
apt-get install -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@"
if command -v systemctl > /dev/null; then
    for package in "$@"; do
        systemctl disable --quiet "${package%-light}.service" 2> /dev/null || true
    done
fi
"#;

/// Installs what is missing of all that tests drive.
pub(crate) fn packages(steps: &Steps) -> Result<()> {
    install(steps, &missing(is_installed))
}

/// Installs what is missing of these programs: whoever wants one binary, or to look at a page, wants no virtual machines.
pub(crate) fn only(steps: &Steps, programs: &[&str]) -> Result<()> {
    install(steps, &missing(|program| !programs.contains(&program) || is_installed(program)))
}

fn install(steps: &Steps, missing: &[&str]) -> Result<()> {
    steps.step("setup", ALONE, || {
        if missing.is_empty() {
            return Ok(());
        }
        let list = missing.join(" ");
        if !on_path("apt-get") {
            bail!(
                "{list}: missing, and there is no apt-get\nhint: install what your system calls them, then try again"
            );
        }
        steps.say(format_args!("installing {list}; no service is started"));
        let Some(mut shell) = as_root("sh") else {
            bail!("{list}: missing, and installing them needs root\nhint: sudo apt-get install {list}");
        };
        run(shell.args(["-c", INSTALL, "setup"]).args(missing).stdin(Stdio::null()))
    })
}

/// A program as root: directly, or by sudo if that asks for no password; `None` if neither is possible.
pub(crate) fn as_root(program: &str) -> Option<Command> {
    if geteuid().is_root() {
        return Some(Command::new(program));
    }
    output_of(Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()))?;
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "-E", program]);
    Some(sudo)
}

fn missing(installed: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !installed(program)).map(|(_, package)| *package).collect();
    packages.dedup();
    packages
}

/// Also where only root looks, because a user's PATH often leaves that out.
fn is_installed(program: &str) -> bool {
    on_path(program) || ["/usr/sbin", "/sbin"].iter().any(|folder| Path::new(folder).join(program).exists())
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

#[cfg(test)]
mod tests {
    use super::{BACKENDS, MUSL, PROGRAMS, PYTHON, RULES, missing};

    #[test]
    fn a_package_is_missing_once_for_all_its_programs() {
        assert_eq!(missing(|program| !program.starts_with("prom")), ["prometheus", "prometheus-node-exporter"]);
        assert_eq!(missing(|_| true), Vec::<&str>::new());
    }

    #[test]
    fn what_a_command_asks_for_alone_is_on_the_list() {
        for program in [MUSL, PYTHON, BACKENDS, RULES].concat() {
            assert_eq!(PROGRAMS.iter().filter(|(known, _)| *known == program).count(), 1, "{program}");
        }
    }
}
