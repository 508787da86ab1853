//! How many instructions the verifier goes through: it refuses a program past a million, and most of a start is spent on
//! it. The number depends on kernel and compiler, so it is bounded here, not compared.

use std::process::Command;

use anyhow::{Context as _, Result};
use sockmeter_tests::agent::binary;
use sockmeter_tests::process::run;

/// A third of what the verifier allows (`BPF_COMPLEXITY_LIMIT_INSNS`): other kernels take other ways through a program.
const MOST: u64 = 333_333;

#[test]
fn every_program_is_far_from_the_verifiers_limit() -> Result<()> {
    let said = run(Command::new(binary()).arg("check"))?;
    let programs: Vec<&str> = said.lines().filter(|line| line.contains("  program ")).collect();
    let counts = programs.iter().map(|line| instructions(line).with_context(|| format!("no count in {line:?}")));
    let counts = counts.collect::<Result<Vec<(&str, u64)>>>()?;
    let above: Vec<_> = counts.iter().filter(|(_, count)| *count > MOST).collect();
    assert_eq!(above, Vec::<&(&str, u64)>::new());
    // The longest of them is there, so what was looked at were the programs.
    assert_eq!(counts.iter().filter(|(name, _)| *name == "packet_received").count(), 1, "{said}");
    Ok(())
}

/// Name and count of a line such as `yes  program NAME: verified in 3 ms, 805 instructions looked at`.
fn instructions(line: &str) -> Option<(&str, u64)> {
    let (_, rest) = line.split_once("program ")?;
    let (name, said) = rest.split_once(": verified in ")?;
    let (_, count) = said.strip_suffix(" instructions looked at")?.split_once(" ms, ")?;
    Some((name, count.parse().ok()?))
}
