//! What became of a kernel's tests: read from the lines of its guest, and told as a table.

use std::fmt::Write as _;
use std::time::Duration;

/// What a guest said so far.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    passed: usize,
    failed: Vec<String>,
    /// With the reason.
    left_out: Vec<(String, String)>,
    /// The test that runs.
    running: Option<String>,
    /// Lines of the failed test's output so far.
    said: usize,
    /// It came to its end.
    ended: bool,
}

/// So much of a failed test's output is shown; all of it is in a file.
const SHOWN: usize = 25;

impl Outcome {
    /// Takes a line of `job.sh`; gives what a reader wants to see of it.
    pub(crate) fn take(&mut self, line: &str) -> Option<String> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (name, rest_of_it) = rest.split_once(' ').unwrap_or((rest, ""));
        let (seconds, reason) = rest_of_it.split_once(' ').unwrap_or((rest_of_it, ""));
        match kind {
            "READY" => return Some(format!("{rest} is up")),
            "BEGIN" => self.running = Some(name.to_owned()),
            "PASSED" => {
                self.passed += 1;
                return Some(format!("passed    {name} in {seconds} s"));
            }
            "LEFT" => {
                self.left_out.push((name.to_owned(), reason.to_owned()));
                return Some(format!("left out  {name}: {reason}"));
            }
            "FAILED" => {
                self.failed.push(name.to_owned());
                self.said = 0;
                return Some(format!("FAILED    {name} after {seconds} s"));
            }
            "SAID" => {
                self.said += 1;
                return (self.said <= SHOWN).then(|| format!("          {rest}"));
            }
            "EXIT" => {
                self.running = None;
                self.ended = true;
            }
            _ => {}
        }
        None
    }

    /// Whether the guest came to its end. If not, it is the machine that failed, not a test.
    pub(crate) fn is_whole(&self) -> bool {
        self.ended
    }

    /// The test that it was at when it ended; `None`: it had not begun.
    pub(crate) fn stopped_at(&self) -> Option<&str> {
        self.running.as_deref()
    }

    fn row(&self, series: &str, release: &str, took: Duration) -> String {
        let counts = format!("{:>6} {:>6} {:>8}", self.passed, self.failed.len(), self.left_out.len());
        let mut row =
            format!("{series:<5} {release:<24} {counts} {:>4} min {:02} s", took.as_secs() / 60, took.as_secs() % 60);
        for (name, reason) in &self.left_out {
            let _ = write!(row, "\n      left out {name}: {reason}");
        }
        for name in &self.failed {
            let _ = write!(row, "\n      FAILED {name}");
        }
        row
    }
}

/// What became of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its tests ran.
    Ran {
        /// `uname -r`.
        release: String,
        /// What they said.
        outcome: Outcome,
        /// From the first boot on.
        took: Duration,
    },
    /// It could not be had.
    Skipped(String),
    /// The guest ended before its tests did, twice at the same.
    Broken(String),
}

/// All kernels, in a table.
pub(crate) fn table(verdicts: &[(&str, Verdict)]) -> String {
    let mut table =
        format!("{:<5} {:<24} {:>6} {:>6} {:>8} {:>13}", "", "kernel", "passed", "failed", "left out", "time");
    for (series, verdict) in verdicts {
        let row = match verdict {
            Verdict::Ran { release, outcome, took } => outcome.row(series, release, *took),
            Verdict::Skipped(why) => format!("{series:<5} SKIPPED: {}", why.replace('\n', "; ")),
            Verdict::Broken(why) => format!("{series:<5} BROKEN: {}", why.replace('\n', "; ")),
        };
        let _ = write!(table, "\n{row}");
    }
    table
}

/// How all of it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Every kernel was there, and nothing failed.
    Good,
    /// Nothing failed, but a kernel could not be had.
    Incomplete,
    /// A test or a guest failed.
    Failed,
}

/// The worst of all kernels. One whose tests were none at all tells nothing, and failed.
pub(crate) fn end(verdicts: &[(&str, Verdict)]) -> End {
    let failed = |verdict: &Verdict| match verdict {
        Verdict::Ran { outcome, .. } => !outcome.failed.is_empty() || outcome.passed == 0,
        Verdict::Broken(_) => true,
        Verdict::Skipped(_) => false,
    };
    if verdicts.iter().any(|(_, verdict)| failed(verdict)) {
        End::Failed
    } else if verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Skipped(_))) {
        End::Incomplete
    } else {
        End::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(lines: &[&str]) -> Outcome {
        let mut outcome = Outcome::default();
        for line in lines {
            outcome.take(line);
        }
        outcome
    }

    #[test]
    fn a_guest_that_falls_silent_is_no_result() {
        let outcome = after(&["READY 6.1.0-50-amd64", "BEGIN a::b", "PASSED a::b 3", "BEGIN a::c"]);
        assert!(!outcome.is_whole());
        assert_eq!(outcome.stopped_at(), Some("a::c"));
        assert!(after(&["READY x", "EXIT 0"]).is_whole());
    }

    #[test]
    fn the_end_is_that_of_the_worst_kernel() {
        let ran =
            |lines: &[&str]| Verdict::Ran { release: "x".to_owned(), outcome: after(lines), took: Duration::ZERO };
        let (good, bad, none) = (ran(&["PASSED a 1", "EXIT 0"]), ran(&["PASSED a 1", "FAILED b 1"]), ran(&["EXIT 0"]));
        let skipped = Verdict::Skipped("gone".to_owned());
        let all = |verdicts: &[&Verdict]| {
            end(&verdicts.iter().map(|verdict| ("6.1", (*verdict).clone())).collect::<Vec<_>>())
        };
        assert_eq!(all(&[&good, &good]), End::Good);
        assert_eq!(all(&[&good, &skipped]), End::Incomplete);
        assert_eq!(all(&[&skipped, &bad]), End::Failed);
        assert_eq!(all(&[&good, &none]), End::Failed);
        assert_eq!(all(&[&good, &Verdict::Broken("twice".to_owned())]), End::Failed);
    }

    #[test]
    fn the_table_says_what_was_left_out_and_why() {
        let outcome = after(&["PASSED a 1", "LEFT b 0 no wireguard here", "FAILED c 9", "EXIT 1"]);
        let verdicts = [
            ("6.1", Verdict::Ran { release: "6.1.0-50-amd64".to_owned(), outcome, took: Duration::from_secs(605) }),
            ("7.2", Verdict::Skipped("the mirror has none".to_owned())),
        ];
        let expected = "      kernel                   passed failed left out          time\n\
                        6.1   6.1.0-50-amd64                1      1        1   10 min 05 s\n      \
                        left out b: no wireguard here\n      FAILED c\n\
                        7.2   SKIPPED: the mirror has none";
        assert_eq!(table(&verdicts), expected);
    }
}
