//! What a guest boots from: an initial file system with busybox, modules and the job. Everything else it needs is the
//! host's own root, which it has read-only.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::kernels::Kernel;

const INIT: &str = include_str!("init.sh");
const APPLETS: [&str; 7] = ["sh", "mount", "insmod", "switch_root", "poweroff", "echo", "cp"];

/// Makes it in `folder`, which is emptied before.
pub(crate) fn make(folder: &Path, kernel: &Kernel, busybox: &Path, job: &str) -> Result<PathBuf> {
    let _ = fs::remove_dir_all(folder);
    let root = folder.join("root");
    for below in ["bin", "proc", "dev", "new", "modules"] {
        fs::create_dir_all(root.join(below))?;
    }
    fs::copy(busybox, root.join("bin/busybox"))?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    for module in &kernel.modules {
        let name = module.file_name().context("a module without a name")?;
        fs::copy(module, root.join("modules").join(name))?;
    }
    fs::write(root.join("job"), job)?;
    let init = root.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let image = folder.join("initramfs");
    // Not compressed: unpacking would be slow in the guest.
    let mut cpio = Command::new("sh");
    cpio.args(["-c", "find . | cpio --quiet -o -H newc"]).current_dir(&root).stdout(fs::File::create(&image)?);
    let status = cpio.stdin(Stdio::null()).status().context("cannot run cpio")?;
    ensure!(status.success(), "cpio ended with {status}");
    Ok(image)
}
