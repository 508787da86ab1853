//! One virtual machine, from its start to its end: QEMU with its own translator, because an accelerator that is there need
//! not run every kernel. What the guest says is read line by line; what the lines mean is `report`'s.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::kernels::Kernel;

/// Memory of a guest. Kernel 7.2 takes half of it while it verifies the packet programs.
const MEMORY: &str = "1536M";
/// A guest whose tests hang is ended.
const LIMIT: Duration = Duration::from_mins(40);

/// Several processors take turns in one thread of the host: code that changes itself, as the kernel's jump labels do, is not
/// safe in QEMU 7.2 where each has a thread of its own.
const TRANSLATOR: &str = "tcg,thread=single";

/// Boots `kernel` and calls `line` for each line that the job writes. The console goes to a file.
pub(crate) fn boot(
    kernel: &Kernel,
    image: &Path,
    console: &Path,
    processors: u32,
    mut line: impl FnMut(&str),
) -> Result<()> {
    // Ended with us, also when we are killed.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(["-accel", TRANSLATOR, "-machine", "q35", "-cpu", "max", "-m", MEMORY])
        .args(["-smp", &processors.to_string()])
        .args(["-display", "none", "-nodefaults", "-no-user-config", "-no-reboot", "-monitor", "none"])
        .args(["-virtfs", "local,path=/,mount_tag=root,security_model=none,readonly=on,multidevs=remap"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "stdio", "-append", "console=ttyS0 panic=-1 quiet"])
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(image)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(console.with_extension("qemu"))?);
    let mut machine = Machine(command.spawn().context("cannot run qemu-system-x86_64")?);
    let out = machine.0.stdout.take().context("no output")?;
    std::thread::scope(|scope| {
        // Ends the guest when its time is over, which ends the lines.
        let (done, over) = std::sync::mpsc::channel::<()>();
        let machine = &mut machine;
        scope.spawn(move || {
            let deadline = Instant::now() + LIMIT;
            let _ = over.recv_timeout(deadline.saturating_duration_since(Instant::now()));
            machine.end();
        });
        for said in BufReader::new(out).split(b'\n') {
            let Ok(said) = said else {
                break;
            };
            line(String::from_utf8_lossy(&said).trim_end());
        }
        drop(done);
    });
    Ok(())
}

/// A QEMU that does not outlive us.
struct Machine(Child);

impl Machine {
    fn end(&mut self) {
        // That it ended by itself is the usual case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}
