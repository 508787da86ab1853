//! Whether a pinned link still runs its program: anybody with the privileges may end it and leave the pin (`bpftool link
//! detach`), or remove the pin, and a cgroup that goes takes its links along. Attaching is in `programs` and `interfaces`.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use super::syscall;

/// What is to be done about it.
const AGAIN: &str = "start sockmeter again, which attaches it";

/// What keeps the program of this pinned link from being run, if it is known that something does.
pub(super) fn problem(pin: &Path) -> Option<String> {
    match syscall::open(pin) {
        Ok(link) => {
            let told = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", link.as_raw_fd())).ok()?;
            was_ended(&told).then(|| format!("somebody else detached it; {AGAIN}"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Some(format!("somebody else removed {}; {AGAIN}", pin.display()))
        }
        Err(_) => None,
    }
}

/// The cgroup or the interface of a link is 0 once it was ended (`kernel/bpf/cgroup.c`, `bpf_cgroup_link_show_fdinfo`;
/// `kernel/bpf/tcx.c`, `tcx_link_fdinfo`). Links of trace points cannot be ended, and have neither line.
fn was_ended(told: &str) -> bool {
    let is_none = |line: &str| {
        let target = line.strip_prefix("cgroup_id:").or_else(|| line.strip_prefix("ifindex:"));
        target.is_some_and(|id| id.trim() == "0")
    };
    told.lines().any(is_none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_without_its_target_was_ended() {
        let told = |target: &str| format!("link_type:\tcgroup\nprog_id:\t9\n{target}\nattach_type:\t0\n");
        let ended = ["cgroup_id:\t1", "cgroup_id:\t0", "ifindex:\t10", "ifindex:\t0", "target_obj_id:\t0"]
            .map(|target| was_ended(&told(target)));
        assert_eq!(ended, [false, true, false, true, false]);
    }
}
