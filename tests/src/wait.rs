//! Waiting for a condition, with a bound. Nothing here waits for a time to pass.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::load::patience;

/// Asks `condition` again and again until it gives a value; an error names `what` when the [`patience`] that this machine
/// wants is over.
///
/// # Errors
/// When that is over, or `condition` fails for good.
pub fn until<T>(what: &str, condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    within(patience(), what, condition)
}

/// The same with a bound of its own, for what takes its time by design.
///
/// # Errors
/// As [`until`].
pub fn within<T>(bound: Duration, what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited {} seconds for {what}", bound.as_secs());
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
