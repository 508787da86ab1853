//! The agent's own process (proc(5)). Which families show it is `exposition`'s.

use std::fs;

use nix::time::{ClockId, clock_gettime};

use crate::snapshot::AgentProcess;

/// Reads what there is to know; what cannot be read is `None`. `start_seconds` (Unix time) is passed on.
pub fn process(start_seconds: Option<f64>) -> AgentProcess {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let cpu = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).ok();
    AgentProcess {
        cpu_seconds: cpu.map(|time| std::time::Duration::from(time).as_secs_f64()),
        start_seconds,
        // The directory is open itself while it is read.
        open_fds: fs::read_dir("/proc/self/fd")
            .ok()
            .and_then(|list| u64::try_from(list.count().saturating_sub(1)).ok()),
        max_fds: max_fds(&limits),
        virtual_bytes: kibibytes(&status, "VmSize:"),
        resident_bytes: kibibytes(&status, "VmRSS:"),
        threads: number(&status, "Threads:"),
    }
}

fn number(status: &str, key: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, key: &str) -> Option<u64> {
    number(status, key)?.checked_mul(1024)
}

/// The soft limit, which is the one that counts.
fn max_fds(limits: &str) -> Option<u64> {
    limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_process_that_is_known() {
        let status = "Name:\tsockmeter\nVmSize:\t  123456 kB\nVmRSS:\t     789 kB\nThreads:\t7\n";
        assert_eq!(kibibytes(status, "VmSize:"), Some(126_418_944));
        assert_eq!(kibibytes(status, "VmRSS:"), Some(807_936));
        assert_eq!(number(status, "Threads:"), Some(7));
        assert_eq!(number(status, "VmSwap:"), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        assert_eq!(max_fds(limits), Some(1024));
    }
}
