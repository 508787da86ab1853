//! A container of our manifests as a kubelet would have it run: what the manifest, the image and containerd's defaults say, as
//! a configuration of runc. A key that is not known here is an error, so that nothing in a manifest is passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::container::Bundle;
use crate::image::{Image, deployed};
use crate::namespace::Namespace;

/// The token that the secret holds.
pub const TOKEN: &str = "a-token-of-the-tests";

/// The pod of a manifest, and the folder that its kustomization is in.
#[derive(Debug, Clone)]
pub struct Pod {
    folder: PathBuf,
    /// The pod's specification.
    pub spec: Value,
    /// Paths of the host that are others here.
    pub instead: BTreeMap<String, PathBuf>,
}

impl Pod {
    /// Reads `file` below `deploy/kubernetes`.
    ///
    /// # Errors
    /// When it is no workload.
    pub fn of(file: &str) -> Result<Self> {
        let path = deployed("kubernetes").join(file);
        let manifest: Value = yaml(&path)?;
        let spec = manifest.pointer("/spec/template/spec").context("the manifest has no pod")?.clone();
        let folder = path.parent().context("no folder")?.to_owned();
        Ok(Self { folder, spec, instead: BTreeMap::new() })
    }

    /// The container called `sockmeter`, to be changed.
    ///
    /// # Errors
    /// When there is none.
    pub fn container(&mut self) -> Result<&mut Value> {
        let containers = self.spec["containers"].as_array_mut().context("no containers")?;
        containers.iter_mut().find(|container| container["name"] == "sockmeter").context("no container sockmeter")
    }

    /// The names of a list in the container.
    ///
    /// # Errors
    /// When it is no list.
    pub fn list(&mut self, pointer: &str) -> Result<Vec<Value>> {
        let found = self.container()?.pointer(pointer).and_then(Value::as_array).context("no list")?;
        Ok(found.clone())
    }

    /// Takes one element out of a list in the container.
    ///
    /// # Errors
    /// When it is not there.
    pub fn without(&self, pointer: &str, element: &Value) -> Result<Self> {
        let mut pod = self.clone();
        let list = pod.container()?.pointer_mut(pointer).and_then(Value::as_array_mut).context("no list")?;
        let before = list.len();
        list.retain(|found| found != element);
        ensure!(list.len() + 1 == before, "{element} is not once in {pointer}");
        Ok(pod)
    }

    /// Puts the container into a bundle and gives its configuration.
    ///
    /// # Errors
    /// When the manifest has a key that is not known here.
    pub fn configuration(&self, bundle: &Bundle, namespace: &Namespace) -> Result<Value> {
        let spec = &self.spec;
        known(
            spec,
            "serviceAccountName automountServiceAccountToken containers volumes hostNetwork hostPID nodeSelector tolerations",
        )?;
        let container = self.clone().container()?.clone();
        // Resources are not bounded here; ports and probes are the caller's to look at.
        known(&container, "name image args ports securityContext livenessProbe resources volumeMounts")?;
        let image = Image::build(&bundle.root())?;
        let context = &container["securityContext"];
        known(
            context,
            "runAsUser runAsGroup allowPrivilegeEscalation readOnlyRootFilesystem seccompProfile capabilities",
        )?;
        let mut arguments = image.entrypoint.clone();
        match container["args"].as_array() {
            Some(words) => arguments.extend(words.iter().filter_map(Value::as_str).map(str::to_owned)),
            None => arguments.extend(image.command.clone()),
        }
        let number = |key: &str, image: u32| context[key].as_u64().unwrap_or(u64::from(image));
        let user = (number("runAsUser", image.user.0), number("runAsGroup", image.user.1));
        let capabilities = capabilities(&context["capabilities"])?;
        let mut namespaces = vec![
            json!({"type": "network", "path": format!("/run/netns/{}", namespace.name())}),
            json!({"type": "mount"}),
            json!({"type": "ipc"}),
            json!({"type": "uts"}),
            json!({"type": "cgroup"}),
        ];
        if spec["hostPID"] != true {
            namespaces.push(json!({"type": "pid"}));
        }
        Ok(json!({
            "ociVersion": "1.0.2",
            "hostname": "pod",
            "root": {"path": "rootfs", "readonly": context["readOnlyRootFilesystem"] == true},
            "process": {
                "cwd": "/",
                "args": arguments,
                "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
                "user": {"uid": user.0, "gid": user.1},
                "noNewPrivileges": context["allowPrivilegeEscalation"] == false,
                // containerd: neither inheritable nor ambient ones (`oci.WithAddedCapabilities`).
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            },
            "mounts": self.mounts(&container, bundle)?,
            "linux": {
                "namespaces": namespaces,
                "cgroupsPath": format!("/{}", bundle.name()),
                "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
                "readonlyPaths": ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                    "/proc/sysrq-trigger"],
            },
        }))
    }

    /// containerd's own mounts, but for those in whose place the pod has another, and the pod's.
    fn mounts(&self, container: &Value, bundle: &Bundle) -> Result<Vec<Value>> {
        let mut pods = Vec::new();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            known(mount, "name mountPath readOnly")?;
            let volumes = self.spec["volumes"].as_array().context("no volumes")?;
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]);
            let source = self.source(volume.with_context(|| format!("{mount}: no such volume"))?, bundle)?;
            let access = if mount["readOnly"] == true { "ro" } else { "rw" };
            let options = ["rbind", "rprivate", access];
            pods.push(json!({"destination": mount["mountPath"], "type": "bind", "source": source, "options": options}));
        }
        let own = [
            json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
            json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}),
            json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]}),
            json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}),
        ];
        let is_free = |mount: &Value| pods.iter().all(|pod| pod["destination"] != mount["destination"]);
        Ok(own.into_iter().filter(is_free).chain(pods.clone()).collect())
    }

    /// What of the host a volume is.
    fn source(&self, volume: &Value, bundle: &Bundle) -> Result<PathBuf> {
        known(volume, "name configMap secret hostPath")?;
        let name = volume["name"].as_str().context("a volume without a name")?;
        let folder = bundle.folder().join(name);
        if let Some(host) = volume.get("hostPath") {
            known(host, "path type")?;
            let path = host["path"].as_str().context("a hostPath without a path")?;
            let real = self.instead.get(path).cloned().unwrap_or_else(|| PathBuf::from(path));
            ensure!(host["type"] == "Directory" && real.is_dir(), "{} is no directory", real.display());
            return Ok(real);
        }
        fs::create_dir(&folder)?;
        if let Some(map) = volume.get("configMap") {
            let kustomization: Value = yaml(&self.folder.join("kustomization.yaml"))?;
            let maps = kustomization["configMapGenerator"].as_array().context("no generator")?;
            let files = maps.iter().find(|found| found["name"] == map["name"]).context("no such configMap")?;
            for file in files["files"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                fs::copy(self.folder.join(file), folder.join(file))?;
            }
        } else if volume.get("secret").is_some() {
            fs::write(folder.join("token"), TOKEN)?;
        } else {
            bail!("{volume}: not known to this test");
        }
        Ok(folder)
    }
}

/// Those that are added, after all were dropped.
fn capabilities(wanted: &Value) -> Result<Vec<String>> {
    known(wanted, "drop add")?;
    ensure!(wanted["drop"] == json!(["ALL"]), "not all capabilities are dropped");
    let added = wanted["add"].as_array().context("no list of capabilities")?;
    Ok(added.iter().filter_map(Value::as_str).map(|name| format!("CAP_{name}")).collect())
}

/// Refuses keys that are not in a list.
fn known(object: &Value, keys: &str) -> Result<()> {
    for key in object.as_object().with_context(|| format!("no object: {object}"))?.keys() {
        ensure!(keys.split(' ').any(|known| known == key), "{key}: not known to this test");
    }
    Ok(())
}

fn yaml(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}
