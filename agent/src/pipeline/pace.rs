//! How long nobody asks for the list of pods: by how the last poll ended, how long it took, and whether somebody waits for the
//! next one. Who asks is `pods`.

use std::time::Duration;

/// Time between two polls.
const USUAL: Duration = Duration::from_secs(10);
/// The least that lies between two of them, whoever waits; while they fail it is more.
const LEAST: Duration = Duration::from_secs(1);
const LEAST_OF_FAILING: Duration = Duration::from_secs(2);
/// Between two that fail it is twice as much each time, up to this, unless somebody waits.
const LONGEST: Duration = Duration::from_mins(1);
/// A poll takes at most one part in so many of the time, however long the list is, unless somebody waits.
const SHARE: u32 = 10;
/// How long a place waits at most (`model::holders::pods`), and a little more.
const WAITS: Duration = Duration::from_secs(16);

/// The polls of one API so far.
#[derive(Debug)]
pub(super) struct Pace {
    is_up: bool,
    pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { is_up: true, pause: USUAL }
    }
}

impl Pace {
    /// Notes how a poll ended and how long it took.
    pub(super) fn note(&mut self, is_good: bool, took: Duration) {
        self.pause = match (is_good, self.is_up) {
            (true, _) => USUAL.max(took * SHARE),
            (false, true) => LEAST_OF_FAILING,
            (false, false) => (self.pause * 2).min(LONGEST),
        };
        self.is_up = is_good;
    }

    /// From the beginning of one poll to that of the next. `waited`: for how long somebody has waited for a list that did not
    /// come. While he still does, the API may be there again at any moment.
    pub(super) fn pause(&self, waited: Option<Duration>) -> Duration {
        match waited {
            Some(waited) if waited < WAITS => self.pause.min(self.least()),
            _ => self.pause,
        }
    }

    /// The same where somebody begins to wait.
    pub(super) fn least(&self) -> Duration {
        if self.is_up { LEAST } else { LEAST_OF_FAILING }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_list_is_asked_for_less_often_the_longer_it_takes_or_fails() {
        let mut pace = Pace::default();
        for (is_good, took, wanted) in [
            (true, 0, 10),
            (true, 2, 20),
            (false, 0, 2),
            (false, 5, 4),
            (false, 0, 8),
            (false, 60, 16),
            (false, 0, 32),
            (false, 0, 60),
            (false, 0, 60),
            (true, 0, 10),
            (false, 0, 2),
        ] {
            pace.note(is_good, seconds(took));
            assert_eq!(pace.pause(None), seconds(wanted));
        }
    }

    #[test]
    fn while_somebody_waits_it_is_asked_for_again_and_again_however_long_it_has_failed() {
        let mut pace = Pace::default();
        for _ in 0..10 {
            pace.note(false, seconds(0));
        }
        for (waited, wanted) in [(None, 60), (Some(0), 2), (Some(14), 2), (Some(15), 2), (Some(16), 60), (None, 60)] {
            assert_eq!(pace.pause(waited.map(seconds)), seconds(wanted), "{waited:?}");
        }
        pace.note(true, seconds(3));
        assert_eq!([pace.pause(None), pace.pause(Some(seconds(1)))], [30, 1].map(seconds));
    }
}
