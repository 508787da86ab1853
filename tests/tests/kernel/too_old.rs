//! A kernel that is too old is refused in a sentence, before anything is attached. Elsewhere this is left out.

use std::fs;

use anyhow::Result;
use sockmeter_tests::agent::{binary, pin_dir};
use sockmeter_tests::namespace::Namespace;
use sockmeter_tests::process::output;

const HELPER: &str = "BPF_FUNC_loop";

#[test]
fn a_kernel_without_what_the_programs_call_is_refused() -> Result<()> {
    let types = fs::read("/sys/kernel/btf/vmlinux")?;
    if types.split(|byte| *byte == 0).any(|name| name == HELPER.as_bytes()) {
        println!("left out: this kernel has {HELPER}");
        return Ok(());
    }
    let namespace = Namespace::new()?;
    let pins = pin_dir();
    let sentence = format!("this kernel has no {HELPER}, which the programs call");
    let run = output(namespace.command(&binary().to_string_lossy()).args(["run", "--pin-dir"]).arg(&pins))?;
    let said = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(3), "{said}");
    assert!(said.lines().any(|line| line == format!("error: {sentence}")), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("hint: Linux 5.17 and later have it")).count(), 1, "{said}");
    assert!(!pins.exists(), "a pin directory was left behind");
    let check = output(namespace.command(&binary().to_string_lossy()).arg("check"))?;
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(3), "{said}");
    assert!(said.lines().any(|line| line == format!("no   kernel types (BTF): {sentence}")), "{said}");
    Ok(())
}
