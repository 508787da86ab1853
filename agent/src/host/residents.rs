//! The processes that are in some cgroups, and how they were started: environment and command line. Which cgroups a place
//! has is `kernel`'s, what is looked for in them `owner`'s.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::time::{ClockId, clock_gettime};

/// Processes whose age is looked at: those that came first, as far as the kernel lists them so.
const MOST_LISTED: usize = 1_024;
/// Of those the oldest, which are read.
const MOST_READ: usize = 64;
/// Bytes of a cgroup's list of processes that are read: 130,000 processes.
const LONGEST_LIST: u64 = 1 << 20;
/// Bytes of an environment, or of a command line, that are read.
const LONGEST_ENVIRONMENT: u64 = 64 << 10;
const LONGEST_COMMAND_LINE: u64 = 16 << 10;
/// A start is told in hundredths of a second (`USER_HZ`, 100 on every machine that there is a build for).
const TICK: u128 = 10_000_000;

/// A process that began so few ticks ago may be in a cgroup in passing only: a worker forks, and then moves the child to
/// the cgroup of its job.
const FRESH: u64 = 10;

/// A process as it was started; empty where that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Whether it began just now, in cgroups where somebody older is.
    pub is_fresh: bool,
    /// `/proc/PID/environ` (proc(5)).
    pub environment: Vec<u8>,
    /// `/proc/PID/cmdline`.
    pub command_line: Vec<u8>,
}

/// What is read of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Environments.
    pub environment: bool,
    /// Command lines.
    pub command_line: bool,
}

/// The processes that are in all of these cgroups, oldest first, each read when it is asked for. There are none if a cgroup
/// does not tell who is in it, or none is given. A process that ends meanwhile is left out, and so is one that got its number only then.
pub fn residents(cgroups: &[PathBuf], parts: Parts) -> impl Iterator<Item = Resident> + use<> {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(std::time::Duration::from);
    let now = now.map_or(0, |now| u64::try_from(now.as_nanos() / TICK).unwrap_or(u64::MAX));
    of(Path::new("/proc").to_owned(), cgroups, parts, now)
}

/// `now` in ticks since the host was started.
fn of(proc: PathBuf, cgroups: &[PathBuf], parts: Parts, now: u64) -> impl Iterator<Item = Resident> + use<> {
    // One whose threads have cgroups of their own does not (`EOPNOTSUPP`, cgroups(7)).
    let lists: Option<Vec<Vec<u32>>> = cgroups.iter().map(|cgroup| listed(cgroup)).collect();
    let lists = lists.unwrap_or_default();
    let (first, others) = lists.split_first().map_or((&[][..], &[][..]), |(first, others)| (first.as_slice(), others));
    let others: Vec<BTreeSet<u32>> = others.iter().map(|list| list.iter().copied().collect()).collect();
    let in_all = first.iter().filter(|pid| others.iter().all(|list| list.contains(pid)));
    let aged = in_all.take(MOST_LISTED).filter_map(|pid| Some((started(&proc, *pid)?, *pid)));
    // What began after the lists were asked for is somebody else with the number of one that ended.
    let mut aged: Vec<(u64, u32)> = aged.filter(|(start, _)| *start <= now).collect();
    aged.sort_unstable();
    aged.into_iter().take(MOST_READ).enumerate().filter_map(move |(before, (start, pid))| {
        let is_fresh = before > 0 && now.saturating_sub(start) < FRESH;
        let directory = proc.join(pid.to_string());
        let environment = if parts.environment { environment(&directory) } else { Vec::new() };
        let command_line =
            if parts.command_line { bounded(&directory.join("cmdline"), LONGEST_COMMAND_LINE) } else { Vec::new() };
        (started(&proc, pid) == Some(start)).then_some(Resident { is_fresh, environment, command_line })
    })
}

/// The processes of a cgroup, of either version. Those that this process cannot see have no number.
fn listed(cgroup: &Path) -> Option<Vec<u32>> {
    let mut text = String::new();
    File::open(cgroup.join("cgroup.procs")).ok()?.take(LONGEST_LIST).read_to_string(&mut text).ok()?;
    // The last number may be cut.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    Some(whole.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid != 0).collect())
}

/// When a process began, in ticks since the host was started (proc(5), field 22 of `/proc/PID/stat`). Its name, which may
/// have anything in it, stands between the first and the last parenthesis.
fn started(proc: &Path, pid: u32) -> Option<u64> {
    let stat = fs::read(proc.join(pid.to_string()).join("stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_whitespace().nth(19)?.parse().ok()
}

/// Without a last variable of which a part only was read.
fn environment(directory: &Path) -> Vec<u8> {
    let mut bytes = bounded(&directory.join("environ"), LONGEST_ENVIRONMENT);
    if u64::try_from(bytes.len()).is_ok_and(|len| len == LONGEST_ENVIRONMENT) {
        bytes.truncate(bytes.iter().rposition(|byte| *byte == 0).unwrap_or(0));
    }
    bytes
}

fn bounded(path: &Path, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    if read.is_ok() { bytes } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const BOTH: Parts = Parts { environment: true, command_line: true };

    /// A host with processes of these numbers, starts and environments.
    fn host(processes: &[(u32, u64, &str)]) -> tempfile::TempDir {
        let host = tempfile::tempdir().unwrap();
        for (pid, start, environment) in processes {
            let directory = host.path().join("proc").join(pid.to_string());
            fs::create_dir_all(&directory).unwrap();
            let before = "S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0";
            fs::write(directory.join("stat"), format!("{pid} (a) b (c\n) {before} {start} 9 9 9\n")).unwrap();
            fs::write(directory.join("environ"), environment).unwrap();
            fs::write(directory.join("cmdline"), format!("run\0{pid}\0")).unwrap();
        }
        host
    }

    fn cgroup(host: &tempfile::TempDir, name: &str, list: &str) -> PathBuf {
        let path = host.path().join(name);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("cgroup.procs"), list).unwrap();
        path
    }

    fn found(host: &tempfile::TempDir, cgroups: &[PathBuf], now: u64) -> Vec<String> {
        let all = of(host.path().join("proc"), cgroups, BOTH, now);
        all.map(|one| String::from_utf8(one.environment).unwrap()).collect()
    }

    #[test]
    fn the_oldest_comes_first_and_what_began_later_is_somebody_else() {
        let host = host(&[(9, 100, "A=1\0"), (8, 300, "A=2\0"), (7, 200, "A=3\0"), (6, 401, "A=4\0")]);
        let all = cgroup(&host, "all", "6\n7\n8\n9\n0\n5\n");
        assert_eq!(found(&host, std::slice::from_ref(&all), 400), ["A=1\0", "A=3\0", "A=2\0"]);
        let read = of(host.path().join("proc"), &[all], Parts { environment: false, command_line: true }, 100);
        let expected = Resident { is_fresh: false, environment: Vec::new(), command_line: b"run\x009\0".to_vec() };
        assert_eq!(read.collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn only_those_that_are_in_all_cgroups_are_there() {
        let host = host(&[(7, 1, "A=7\0"), (8, 1, "A=8\0"), (9, 1, "A=9\0")]);
        let (one, other) = (cgroup(&host, "one", "7\n8\n"), cgroup(&host, "other", "8\n9\n"));
        assert_eq!(found(&host, &[one.clone(), other], 1), ["A=8\0"]);
        assert_eq!(found(&host, &[one, host.path().join("none")], 1), [""; 0]);
        assert_eq!(found(&host, &[host.path().join("none")], 1), [""; 0]);
        assert_eq!(found(&host, &[], 1), [""; 0]);
    }

    #[test]
    fn who_began_just_now_is_fresh_where_somebody_older_is() {
        let host = host(&[(7, 100, "A=7\0"), (8, 390, "A=8\0"), (9, 391, "A=9\0"), (10, 400, "A=10\0")]);
        let fresh = |list: &str| -> Vec<bool> {
            let all = of(host.path().join("proc"), &[cgroup(&host, "all", list)], BOTH, 400);
            all.map(|one| one.is_fresh).collect()
        };
        assert_eq!(fresh("7\n8\n9\n10\n"), [false, false, true, true]);
        assert_eq!(fresh("10\n"), [false]);
        assert_eq!(fresh("10\n9\n"), [false, true]);
    }

    #[test]
    fn so_many_are_read_and_so_much_of_each() {
        let long = format!("A={}\0B=2\0C=3", "x".repeat(65_536 - 6));
        let mut all = vec![(1, 0, long.as_str())];
        all.extend((2..=100).map(|pid| (pid, u64::from(pid), "")));
        let host = host(&all);
        let list = (1..=100).fold(String::new(), |list, pid| format!("{list}{pid}\n"));
        let found = found(&host, &[cgroup(&host, "all", &list)], 1_000);
        assert_eq!((found.len(), found[0].len()), (64, 65_536 - 4));
        // A list that ends in the middle of a number.
        assert_eq!(listed(&cgroup(&host, "cut", "12\n34")).unwrap(), [12]);
    }

    #[test]
    fn this_process_is_one() {
        let host = tempfile::tempdir().unwrap();
        let own = cgroup(&host, "own", &format!("{}\n", std::process::id()));
        let found: Vec<Resident> = residents(&[own], BOTH).collect();
        let environment = fs::read("/proc/self/environ").unwrap();
        let command_line = fs::read("/proc/self/cmdline").unwrap();
        assert_eq!(found, [Resident { is_fresh: false, environment, command_line }]);
    }
}
