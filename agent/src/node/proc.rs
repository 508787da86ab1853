//! Load, memory and uptime of the host (proc(5)). Cgroups are in `cgroups`.

use std::fs;
use std::path::Path;

use crate::snapshot::CpuTimes;

/// The host's name; `unknown` if it has none.
pub(super) fn host_name(proc: &Path) -> String {
    let name = fs::read_to_string(proc.join("sys/kernel/hostname")).unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}

/// The line of all CPUs: user, nice, system, idle, iowait, irq, softirq, steal; guests are in user and nice already.
pub(super) fn cpu(proc: &Path) -> Option<CpuTimes> {
    let text = fs::read_to_string(proc.join("stat")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let times: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let [_, _, _, idle, iowait, ..] = times.as_slice() else {
        return None;
    };
    let total: u64 = times.iter().sum();
    Some(CpuTimes { busy: total.saturating_sub(idle + iowait), total })
}

/// What is not available to new programs, in bytes.
pub(super) fn memory_used(proc: &Path) -> Option<u64> {
    let [total, available] = memory(proc, ["MemTotal:", "MemAvailable:"]);
    total?.checked_sub(available?)
}

/// Lines of `/proc/meminfo`, in bytes.
pub(super) fn memory<const N: usize>(proc: &Path, keys: [&str; N]) -> [Option<u64>; N] {
    let text = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
    keys.map(|key| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    })
}

/// CPUs that are in use: the lines `cpuN` of `/proc/stat`.
pub(super) fn cores(proc: &Path) -> Option<u64> {
    let text = fs::read_to_string(proc.join("stat")).ok()?;
    let lines = text.lines().filter_map(|line| line.strip_prefix("cpu"));
    u64::try_from(lines.filter(|line| line.starts_with(|first: char| first.is_ascii_digit())).count()).ok()
}

/// When a process began, in ticks since the host was started: field 22 of `/proc/PID/stat`, whose name in parentheses may have
/// anything in it.
pub(super) fn started(proc: &Path, pid: u32) -> Option<u64> {
    let stat = fs::read(proc.join(pid.to_string()).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Seconds since the host was started.
pub(super) fn uptime(proc: &Path) -> Option<f64> {
    fs::read_to_string(proc.join("uptime")).ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn values_of_a_host_that_is_known() {
        let proc = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(proc.path().join(name), text).unwrap();
        write("stat", "cpu  100 20 30 400 50 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 5\n");
        write("meminfo", "MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    6384 kB\n");
        write("uptime", "12345.67 99.00\n");
        fs::create_dir_all(proc.path().join("sys/kernel")).unwrap();
        write("sys/kernel/hostname", "node \"7\"\n");
        assert_eq!(cpu(proc.path()), Some(CpuTimes { busy: 171, total: 621 }));
        assert_eq!(memory_used(proc.path()), Some(10_240_000));
        assert_eq!(uptime(proc.path()).map(f64::to_bits), Some(12_345.67_f64.to_bits()));
        assert_eq!(host_name(proc.path()), "node \"7\"");
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let proc = tempfile::tempdir().unwrap();
        let read = (cpu(proc.path()), memory_used(proc.path()), uptime(proc.path()), host_name(proc.path()));
        assert_eq!(read, (None, None, None, "unknown".to_owned()));
    }
}
