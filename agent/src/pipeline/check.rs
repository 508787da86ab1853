//! `sockmeter check`: what this kernel and these privileges allow, line by line. It is tried out in `kernel::examine`.

use std::io::Write;

use super::tunnels;
use crate::cli::{Exit, Failure};
use crate::config::{Scope, Settings};
use crate::kernel::{Refusal, examine};

/// Prints a line for everything that `run` needs; exit code 3 if something of it is missing.
///
/// # Errors
/// When the lines cannot be written.
pub fn check(settings: &Settings, out: &mut dyn Write) -> Result<Exit, Failure> {
    let mut lines = Lines { out, missing: false };
    let capabilities = examine::capabilities();
    let has = |wanted: &str| capabilities.iter().any(|(name, has)| *name == wanted && *has);
    lines.note("kernel", &examine::version())?;
    for (name, why) in examine::NEEDED {
        let missing = || Refusal::new("not in effect").hint(format!("run as root, or grant {name}, which {why}"));
        lines.line(name, has(name).then(|| "in effect".to_owned()).ok_or_else(missing))?;
    }
    let types = examine::types().map(|count| format!("{count} offsets found"));
    lines.line("kernel types (BTF)", types)?;
    lines.line("cgroup v2", examine::cgroup(settings).map(|()| "can be attached to".to_owned()))?;
    match &settings.pin_dir {
        Some(directory) => {
            lines.line(
                "pins",
                examine::bpffs(directory).map(|()| format!("{} can be on a bpffs", directory.display())),
            )?;
        }
        None => lines.note("pins", "none wanted: the kernel side ends with the agent")?,
    }
    programs(&mut lines)?;
    if settings.scope == Scope::Netns {
        lines.note("other network namespaces", "none wanted: CAP_SYS_ADMIN and CAP_SYS_PTRACE are of no use")?;
    } else {
        other_namespaces(&mut lines, has("CAP_SYS_ADMIN"))?;
        let missing = || {
            Refusal::new("not in effect").hint(
                "grant it to find the network namespaces that only other users' processes are in, or choose --scope netns",
            )
        };
        lines.line("CAP_SYS_PTRACE", has("CAP_SYS_PTRACE").then(|| "in effect".to_owned()).ok_or_else(missing))?;
    }
    if settings.jobs.look_at_environments() {
        for (name, why) in [("CAP_DAC_READ_SEARCH", "opens"), ("CAP_SYS_PTRACE", "reads")] {
            let missing = || {
                Refusal::new("not in effect").hint(format!(
                    "grant {name}, which {why} other users' environments, or take the rules with environment out of jobs.rules"
                ))
            };
            lines.line(
                "environments of processes",
                has(name).then(|| format!("{name} in effect")).ok_or_else(missing),
            )?;
        }
    }
    wireguard(&mut lines)?;
    let exit = if lines.missing { Exit::Kernel } else { Exit::Stopped };
    Ok(exit)
}

fn programs(lines: &mut Lines<'_>) -> std::io::Result<()> {
    match examine::programs() {
        Err(refusal) => lines.line("programs", Err(refusal))?,
        Ok(results) => {
            for (name, loaded) in results {
                let loaded = loaded.map(|loaded| {
                    let instructions = loaded
                        .instructions
                        .map_or_else(String::new, |count| format!(", {count} instructions looked at"));
                    format!("verified in {} ms{instructions}", loaded.took.as_millis())
                });
                lines.line(&format!("program {name}"), loaded)?;
            }
        }
    }
    let interfaces = examine::has_tcx().map(|tcx| {
        if tcx { "by tcx links".to_owned() } else { "by clsact filters (tcx came with kernel 6.6)".to_owned() }
    });
    lines.line("interfaces", interfaces)
}

/// Where there is none, nothing is missing.
fn wireguard(lines: &mut Lines<'_>) -> std::io::Result<()> {
    match tunnels::lines() {
        Err(refusal) => lines.line("WireGuard", Err(refusal)),
        Ok(found) if found.is_empty() => lines.note("WireGuard", "no interface in this network namespace"),
        Ok(found) => found.into_iter().try_for_each(|(what, found)| lines.line(&what, found)),
    }
}

fn other_namespaces(lines: &mut Lines<'_>, allowed: bool) -> std::io::Result<()> {
    let found = examine::other_namespaces().and_then(|count| {
        if allowed || count == 0 {
            return Ok(format!("{count} found"));
        }
        Err(Refusal::new(format!("{count} found, but CAP_SYS_ADMIN is not in effect"))
            .hint("grant it to read their live sockets too, or choose --scope netns"))
    });
    lines.line("other network namespaces", found)
}

/// Writes the lines, and remembers whether one was a no.
struct Lines<'a> {
    out: &'a mut dyn Write,
    missing: bool,
}

impl Lines<'_> {
    /// A yes or a no.
    fn line(&mut self, what: &str, found: Result<String, Refusal>) -> std::io::Result<()> {
        match found {
            Ok(how) => writeln!(self.out, "yes  {what}: {how}"),
            Err(refusal) => {
                self.missing = true;
                writeln!(self.out, "no   {what}: {}", refusal.to_string().replace('\n', "\n     "))
            }
        }
    }

    /// Neither.
    fn note(&mut self, what: &str, found: &str) -> std::io::Result<()> {
        writeln!(self.out, "     {what}: {found}")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_no_has_its_hint_below_and_is_remembered() {
        let mut out = Vec::new();
        let mut lines = Lines { out: &mut out, missing: false };
        lines.line("a", Ok("here".to_owned())).unwrap();
        assert!(!lines.missing);
        lines.line("b", Err(Refusal::new("not here").hint("bring it"))).unwrap();
        assert!(lines.missing);
        assert_eq!(String::from_utf8(out).unwrap(), "yes  a: here\nno   b: not here\n     hint: bring it\n");
    }
}
