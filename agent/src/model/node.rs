//! The load of the host between two readings of it. Everything else of a reading is shown as it is read.

use crate::snapshot::CpuTimes;

/// The last reading, and the load up to it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    last: Option<CpuTimes>,
    percent: Option<f64>,
}

impl Load {
    /// Notes a reading. Percent of all CPUs since the one before; while no time has passed what it was before, and `None`
    /// at first.
    #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a share of two times between readings")]
    pub fn note(&mut self, now: Option<CpuTimes>) -> Option<f64> {
        let now = now?;
        let Some(last) = self.last else {
            self.last = Some(now);
            return None;
        };
        // Waiting for disks can be taken back, so that both may fall by a little.
        let (total, busy) = (now.total.saturating_sub(last.total), now.busy.saturating_sub(last.busy));
        if total > 0 {
            self.percent = Some((busy.min(total) as f64) * 100.0 / (total as f64));
            self.last = Some(now);
        }
        self.percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_the_busy_share_since_the_last_reading() {
        let mut load = Load::default();
        let mut note = |busy, total| load.note(Some(CpuTimes { busy, total }));
        assert_eq!(note(100, 1_000), None);
        assert_eq!(note(100, 1_000), None);
        assert_eq!(note(125, 1_100), Some(25.0));
        assert_eq!(note(125, 1_100), Some(25.0));
        assert_eq!(note(120, 1_200), Some(0.0));
        assert_eq!(load.note(None), None);
    }
}
