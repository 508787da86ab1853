//! Container, pod and unit of a cgroup path, as Docker, containerd, CRI-O, Podman, the kubelet and systemd make them.

use super::{bare, cut, is_unit, parts};

/// Container and unit. What is not known is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Container {
    /// Id of the container.
    pub container: String,
    /// Name of the Kubernetes pod where it is known, else its uid.
    pub pod: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// systemd unit: the innermost service or scope that is not a container's own.
    pub unit: String,
}

impl Container {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes from a path what is not known yet.
    pub(super) fn learn(&mut self, path: &str) {
        let mut found = Self::default();
        for part in parts(path) {
            if let Some(uid) = pod(part) {
                found.pod = uid;
            }
            if let Some(id) = container(part) {
                id.clone_into(&mut found.container);
                continue;
            }
            let is_unit = is_unit(part);
            // A runtime's monitor is in a scope of its own, which is no unit that somebody wrote.
            let is_monitor = part.starts_with("libpod-conmon-") || part.starts_with("crio-conmon-");
            if is_unit && !is_monitor {
                found.unit = cut(part);
            }
        }
        let both = [(&mut self.container, found.container), (&mut self.pod, found.pod), (&mut self.unit, found.unit)];
        for (known, found) in both {
            if known.is_empty() {
                *known = found;
            }
        }
    }
}

/// The container's id: a part that is one, behind the prefix that a runtime gives it: `docker-ID.scope`,
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, `libpod-payload-ID` (`podman run --cgroups=split`, as
/// Quadlet has it), `SLICE:cri-containerd:ID`, or nothing but the id.
fn container(part: &str) -> Option<&str> {
    let part = bare(part);
    if let Some((_, id)) = part.rsplit_once(':') {
        return Some(id).filter(|id| is_container(id));
    }
    let prefixes = ["docker-", "cri-containerd-", "crio-", "libpod-payload-", "libpod-", "nerdctl-"];
    let id = prefixes.into_iter().find_map(|prefix| part.strip_prefix(prefix)).unwrap_or(part);
    Some(id).filter(|id| is_container(id))
}

/// Container ids of all these runtimes are 32 bytes in hexadecimal.
fn is_container(id: &str) -> bool {
    id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The pod's uid: `podUID`, `kubepods-burstable-podUID.slice` with `_` for `-`. A static pod's is 32 digits without hyphens.
fn pod(part: &str) -> Option<String> {
    let part = part.split(':').next().unwrap_or_default();
    let part = bare(part);
    let uid = if part.starts_with("kubepods") { part.split_once("-pod")?.1 } else { part.strip_prefix("pod")? };
    let uid = uid.replace('_', "-");
    let digits = uid.bytes().filter(u8::is_ascii_hexdigit).count();
    let hyphens = uid.bytes().filter(|byte| *byte == b'-').count();
    (digits == 32 && digits + hyphens == uid.len() && (hyphens == 0 || hyphens == 4)).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f1c9a0de2b47586a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718";
    const UID: &str = "8dbc6c2e-5a1f-4a53-9d8e-3f2b1c0d9e8f";

    fn of(path: &str) -> [String; 4] {
        let mut found = Container::default();
        found.learn(path);
        [found.container, found.pod, found.namespace, found.unit]
    }

    #[test]
    fn paths_of_runtimes_of_both_versions() {
        let under = UID.replace('-', "_");
        let static_uid = UID.replace('-', "");
        let table = [
            // Docker: cgroupfs driver, systemd driver.
            (format!("/docker/{ID}"), ID, "", ""),
            (format!("/system.slice/docker-{ID}.scope"), ID, "", ""),
            (format!("/system.slice/docker-{ID}.scope/init/ffrtmp/7"), ID, "", ""),
            // Podman: root, rootless, with cgroupfs.
            (format!("/machine.slice/libpod-{ID}.scope/container"), ID, "", ""),
            (
                format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
                ID,
                "",
                "user@1000.service",
            ),
            (format!("/libpod_parent/libpod-{ID}"), ID, "", ""),
            (format!("/machine.slice/libpod-conmon-{ID}.scope"), "", "", ""),
            (format!("/system.slice/nginx.service/libpod-payload-{ID}"), ID, "", "nginx.service"),
            ("/system.slice/nginx.service/runtime".to_owned(), "", "", "nginx.service"),
            // Kubernetes: containerd and CRI-O, cgroupfs and systemd drivers, and the two mixed up.
            (format!("/kubepods/burstable/pod{UID}/{ID}"), ID, UID, ""),
            (format!("/kubepods/pod{UID}/{ID}"), ID, UID, ""),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope"
                ),
                ID,
                UID,
                "",
            ),
            (format!("/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope/container"), ID, UID, ""),
            (format!("/kubepods.slice/kubepods-pod{under}.slice/crio-conmon-{ID}.scope"), "", UID, ""),
            (
                format!("/system.slice/containerd.service/kubepods-besteffort-pod{under}.slice:cri-containerd:{ID}"),
                ID,
                UID,
                "containerd.service",
            ),
            (format!("/kubepods/besteffort/pod{static_uid}/{ID}"), ID, &static_uid, ""),
            // systemd.
            ("/system.slice/nginx.service".to_owned(), "", "", "nginx.service"),
            ("/system.slice/system-getty.slice/getty@tty1.service".to_owned(), "", "", "getty@tty1.service"),
            ("/user.slice/user-1000.slice/session-2.scope".to_owned(), "", "", "session-2.scope"),
            ("/user.slice/user-0.slice/user@0.service/app.slice/a.service".to_owned(), "", "", "a.service"),
            ("/init.scope".to_owned(), "", "", "init.scope"),
            // Nobody's.
            (String::new(), "", "", ""),
            ("/user.slice".to_owned(), "", "", ""),
            (format!("/docker/{}", &ID[1..]), "", "", ""),
            (format!("/docker/{}", ID.to_uppercase()), "", "", ""),
            ("/podracer/x".to_owned(), "", "", ""),
        ];
        for (path, container, pod, unit) in table {
            assert_eq!(of(&path), [container, pod, "", unit].map(str::to_owned), "{path}");
        }
    }

    #[test]
    fn what_one_hierarchy_does_not_say_the_next_one_may() {
        let mut found = Container::default();
        found.learn("/system.slice/a.service");
        found.learn(&format!("/system.slice/b.service/docker/{ID}"));
        assert_eq!((found.container.as_str(), found.unit.as_str()), (ID, "a.service"));
    }
}
