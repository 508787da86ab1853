//! What a result depends on: processor, kernel, programs that were driven, and what else ran.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;
use sockmeter_tests::process::run;

/// The machine and the moment.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// UTC.
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cpus: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    /// Whether the kernel says that it runs on a hypervisor.
    pub(crate) is_virtual: bool,
    pub(crate) commit: String,
    pub(crate) nginx: String,
    pub(crate) wrk: String,
    pub(crate) iperf3: String,
    /// Load average before anything was started: a quiet machine is below 0.1.
    pub(crate) load_before: String,
    /// Programs of others that were attached meanwhile.
    pub(crate) other_programs: usize,
}

impl Machine {
    /// The name of a folder for its results.
    pub(crate) fn folder(&self) -> String {
        let mut name = String::new();
        let processor = self.processor.replace("(R)", "").replace("(TM)", "");
        for word in processor.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            if word == "Processor" || word == "CPU" {
                break;
            }
            name.push_str(&word.to_ascii_lowercase());
            name.push('-');
        }
        format!("{}-{name}{}cpu", self.date, self.cpus)
    }
}

/// Looks at this machine.
pub(crate) fn describe() -> Result<Machine> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    Ok(Machine {
        date: run(Command::new("date").args(["-u", "+%Y-%m-%d"]))?.trim().to_owned(),
        processor: field(&processors, "model name"),
        cpus: std::thread::available_parallelism()?.get(),
        memory: field(&fs::read_to_string("/proc/meminfo")?, "MemTotal"),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
        is_virtual: field(&processors, "flags").split(' ').any(|flag| flag == "hypervisor"),
        commit: said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
        nginx: said("nginx", &["-v"]),
        wrk: said("wrk", &["-v"]),
        iperf3: said("iperf3", &["--version"]),
        load_before: fs::read_to_string("/proc/loadavg")?.trim().to_owned(),
        other_programs: aya::programs::loaded_programs().flatten().count(),
    })
}

/// The first line that a program says of its version, on whichever stream and with whichever exit code.
fn said(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else {
        return "not found".to_owned();
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
}
