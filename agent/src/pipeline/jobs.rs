//! When the scheduler's API is asked, and what is done with its answers: the state goes on the page, what was observed is
//! kept before it is shown. How it is asked is `scheduler`'s.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::api::Own;
use crate::config::{ConfigError, Settings};
use crate::exposition::accounts::Derived;
use crate::model::jobs::{Job, Once, Tally};
use crate::scheduler::{Access, Kept, Sink};

/// Time between two polls; after failures twice as much each time, up to `LONGEST`.
const USUAL: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(1);
/// A poll takes at most one part in so many of the time, however long the list is.
const SHARE: u32 = 10;

/// What the page shows of the scheduler; `None` where its API is not asked.
pub(super) type Shown = Arc<Mutex<Option<Derived>>>;

/// What is asked, as the configuration says; `None` if nothing is.
pub(super) type Asked = Option<Access>;

/// Reads token and certificates.
///
/// # Errors
/// When one of them is not good.
pub(super) fn asked(settings: &Settings) -> Result<Asked, ConfigError> {
    settings.scheduler.as_ref().map(Access::new).transpose()
}

/// Polls until the runtime ends.
pub(super) struct Poller {
    state_dir: PathBuf,
    /// `kept` was looked for, which is when there is first something to ask.
    is_open: bool,
    kept: Option<Kept>,
    /// Something was observed that is not in the file yet.
    unsaved: bool,
    /// Elements of the last lists that were not what they should be.
    wrong: u64,
    once: Once,
    asked: watch::Receiver<Asked>,
    shown: Shown,
    own: Box<dyn Own>,
}

/// What a poll fills in.
struct Filling {
    tally: Tally,
    once: Once,
    now: i64,
    changed: bool,
}

/// A filling that comes back when nobody has it any more: a thread that still reads an answer which was given up has it
/// too, and ends as soon as it wants more of it.
struct Lent {
    filling: Option<Filling>,
    back: Option<oneshot::Sender<Filling>>,
}

impl Sink for Lent {
    fn job(&mut self, job: &Job) {
        if let Some(filling) = &mut self.filling {
            filling.tally.job(job);
            filling.changed |= filling.once.job(job, filling.now);
        }
    }

    fn node(&mut self, status: Option<&str>) {
        if let Some(filling) = &mut self.filling {
            filling.tally.node(status);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(filling), Some(back)) = (self.filling.take(), self.back.take()) {
            // The agent may be about to end.
            let _ = back.send(filling);
        }
    }
}

impl Poller {
    /// Nothing is asked yet.
    pub(super) fn new(settings: &Settings, asked: watch::Receiver<Asked>, own: Box<dyn Own>) -> Self {
        let shown = Arc::new(Mutex::new(asked.borrow().as_ref().map(|_| Derived::default())));
        let state_dir = settings.state_dir.clone();
        let (is_open, kept, unsaved, wrong, once) = (false, None, false, 0, Once::default());
        Self { state_dir, is_open, kept, unsaved, wrong, once, asked, shown, own }
    }

    /// Opens what was kept. Without a place to keep it in, jobs are observed anew by the next agent, whose counters
    /// begin anew with them. What cannot be read stays as it is.
    fn open(&mut self) {
        let dir = self.state_dir.display();
        let kept = Kept::below(&self.state_dir).and_then(|kept| {
            let failed = |error| std::io::Error::other(format!("{}: {error}", kept.path().display()));
            self.once = kept.load().map_err(failed)?;
            Ok(kept)
        });
        let kept = kept.inspect_err(|error| tracing::warn!(%dir, %error, "what is observed of jobs is not kept"));
        self.kept = kept.ok();
        self.is_open = true;
    }

    /// What the page shows.
    pub(super) fn shown(&self) -> Shown {
        Arc::clone(&self.shown)
    }

    /// Asks again and again.
    pub(super) async fn run(mut self) {
        let (mut last, mut polls, mut pause) = (Tally::default(), [0, 0], USUAL);
        let (mut renewed, mut has_failed): (Option<Access>, bool) = (None, false);
        loop {
            let access = self.asked.borrow_and_update().clone();
            let Some(access) = access else {
                *locked(&self.shown) = None;
                if self.asked.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if !self.is_open {
                self.open();
            }
            let began = std::time::Instant::now();
            let mut access = renewed.take().unwrap_or(access);
            // Tokens and certificates get replaced in their files, and then the old ones are refused. A file that cannot be
            // read any more changes nothing.
            if has_failed && let Ok(again) = access.read_again() {
                access = again;
            }
            let tally = self.poll(&access, &last, &mut polls).await;
            has_failed = tally.is_none();
            renewed = Some(access);
            pause = match &tally {
                Some(_) => USUAL.max(began.elapsed() * SHARE),
                None => (pause * 2).min(LONGEST),
            };
            if let Some(tally) = &tally {
                last.clone_from(tally);
            }
            *locked(&self.shown) = Some(Derived { tally, durations: self.once.durations().clone(), polls });
            // A new configuration is asked at once.
            match timeout(pause, self.asked.changed()).await {
                Ok(Ok(())) => renewed = None,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
        }
    }

    async fn poll(&mut self, access: &Access, last: &Tally, polls: &mut [u64; 2]) -> Option<Tally> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
        let now = now.and_then(|now| i64::try_from(now.as_nanos()).ok()).unwrap_or(i64::MAX);
        let once = std::mem::take(&mut self.once);
        let filling = Filling { tally: last.after(), once, now, changed: false };
        let (back, returned) = oneshot::channel();
        let lent = Arc::new(Mutex::new(Lent { filling: Some(filling), back: Some(back) }));
        let polled = access.poll(&mut *self.own, &lent).await;
        let was_up = polls[1] == 0 || locked(&self.shown).as_ref().is_none_or(|shown| shown.tally.is_some());
        drop(lent);
        // It always comes back: only its return takes it out of what was lent.
        let filling = returned.await.ok()?;
        let is_whole = polled.is_ok();
        let (tally, changed) = self.take(filling, is_whole, now);
        match polled {
            Ok(wrong) => {
                polls[0] += 1;
                if wrong > 0 && self.wrong == 0 {
                    tracing::warn!(
                        count = wrong,
                        "on the scheduler's lists are elements that are none, which are left out, or with fields of a wrong type, which count as missing"
                    );
                }
                self.wrong = wrong;
            }
            Err(error) => {
                polls[1] += 1;
                if was_up {
                    tracing::warn!(%error, "the scheduler's API gives no state");
                }
            }
        }
        if is_whole && !was_up {
            tracing::info!("the scheduler's API gives its state again");
        }
        self.unsaved |= changed;
        if self.unsaved {
            self.keep().await;
        }
        tally
    }

    /// What a poll filled in; the counts only of one that came to its end.
    fn take(&mut self, filling: Filling, is_whole: bool, now: i64) -> (Option<Tally>, bool) {
        self.once = filling.once;
        let forgot = self.once.settle(now, is_whole);
        (is_whole.then_some(filling.tally), filling.changed || forgot)
    }

    /// Before it is shown: what was shown is never taken back.
    async fn keep(&mut self) {
        let Some(kept) = self.kept.clone() else {
            return;
        };
        let once = std::mem::take(&mut self.once);
        let saved = spawn_blocking(move || {
            let saved = kept.save(&once);
            (once, saved)
        });
        if let Ok((once, saved)) = saved.await {
            self.once = once;
            self.unsaved = saved.is_err();
            if let Err(error) = saved {
                tracing::warn!(%error, "what was observed of jobs is not kept this time");
            }
        }
    }
}

/// Values are as good after a panic elsewhere as before.
pub(super) fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
