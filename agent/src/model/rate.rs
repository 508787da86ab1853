//! Bytes per second over the last ten seconds. Time comes in as a value.

use std::collections::VecDeque;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(10);

/// Readings of a pair of counters.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    readings: VecDeque<(Duration, [u64; 2])>,
}

impl Rate {
    /// Notes a reading at `now` (any clock that does not go back).
    pub fn note(&mut self, now: Duration, counters: [u64; 2]) {
        // One reading from before the window is kept: the rate is over at least the whole of it.
        while self.readings.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= WINDOW) {
            self.readings.pop_front();
        }
        self.readings.push_back((now, counters));
    }

    /// Growth per second over the window, or since the first reading if that is longer ago; 0 before there are two.
    #[must_use]
    pub fn per_second(&self) -> [f64; 2] {
        let (Some((from, first)), Some((to, last))) = (self.readings.front(), self.readings.back()) else {
            return [0.0; 2];
        };
        // Just after the start less than the window is known: nothing was seen in the rest of it.
        let seconds = to.saturating_sub(*from).max(WINDOW).as_secs_f64();
        [0, 1].map(|direction: usize| as_f64(last[direction].saturating_sub(first[direction])) / seconds)
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a rate, not an account: 53 bits are plenty")]
pub(super) fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    #![expect(clippy::float_cmp, reason = "these quotients are exact")]
    use super::*;

    #[test]
    fn growth_over_the_window_and_nothing_older() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(), [0.0, 0.0]);
        rate.note(Duration::from_secs(0), [1_000, 0]);
        assert_eq!(rate.per_second(), [0.0, 0.0]);
        rate.note(Duration::from_secs(5), [2_000, 500]);
        assert_eq!(rate.per_second(), [100.0, 50.0]);
        rate.note(Duration::from_secs(10), [2_000, 500]);
        rate.note(Duration::from_secs(15), [2_000, 500]);
        rate.note(Duration::from_secs(20), [2_000, 500]);
        assert_eq!(rate.per_second(), [0.0, 0.0]);
    }
}
