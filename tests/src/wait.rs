//! Waiting for a condition, with a bound. Nothing here waits for a time to pass.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Asks `condition` again and again until it gives a value; an error names `what` after 20 seconds.
///
/// # Errors
/// When that is over, or `condition` fails for good.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("waited 20 seconds for {what}");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
