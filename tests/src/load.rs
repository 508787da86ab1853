//! How much load a machine can carry, and how patient to be with it: a kernel in a virtual machine without an accelerator
//! is some twenty times slower.

use std::time::Duration;

/// Per cent of the load that a test has on a real machine.
const VARIABLE: &str = "SOCKMETER_TEST_LOAD";

fn percent() -> usize {
    std::env::var(VARIABLE).ok().and_then(|percent| percent.parse().ok()).unwrap_or(100)
}

/// `full` on a real machine, less on a slow one, but not 0: for how often, how long and how much, never for what a test
/// expects.
#[must_use]
pub fn load(full: usize) -> usize {
    scaled(full, percent())
}

fn scaled(full: usize, percent: usize) -> usize {
    if full == 0 { 0 } else { (full.saturating_mul(percent) / 100).max(1) }
}

/// How long to wait for what must come.
#[must_use]
pub fn patience() -> Duration {
    if percent() < 100 { Duration::from_mins(2) } else { Duration::from_secs(20) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_is_never_nothing() {
        assert_eq!(scaled(200, 100), 200);
        assert_eq!(scaled(200, 5), 10);
        assert_eq!(scaled(4, 5), 1);
        assert_eq!(scaled(0, 5), 0);
    }
}
