//! When the list of pods is asked for: now and then, and at once when there are bytes of a pod that nobody knows. How it is
//! asked is `kubernetes`', what becomes of it `model::holders`'.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::accountant::{Line, Message};
use super::pace::Pace;
use crate::api::{Own, PollError};
use crate::config::{ConfigError, Settings};
use crate::kubernetes::{Access, Listed};

/// How long the first page waits for the first list.
const FIRST: Duration = Duration::from_secs(3);

/// Who is asked, as the configuration says; `None` if nobody is.
pub(super) type AskedForPods = Option<Access>;

/// Reads token and certificates.
///
/// # Errors
/// When one of them is not good.
pub(super) fn asked(settings: &Settings) -> Result<AskedForPods, ConfigError> {
    settings.kubernetes.as_ref().map(Access::new).transpose()
}

/// Polls until the runtime ends.
pub(super) struct PodPoller {
    asked: watch::Receiver<AskedForPods>,
    /// How many places have waited for a list.
    wanted: watch::Receiver<u64>,
    own: Box<dyn Own>,
    said: Said,
}

/// What was said in the log, and is not said again while it stays so.
#[derive(Debug, Default)]
struct Said {
    /// There is no list.
    is_down: bool,
    /// Token or certificates cannot be read again.
    is_old: bool,
    /// So many of the list are no pods, and for so many there is no room.
    odd: [u64; 2],
}

impl PodPoller {
    /// Nothing is asked yet.
    pub(super) fn new(asked: watch::Receiver<AskedForPods>, wanted: watch::Receiver<u64>, own: Box<dyn Own>) -> Self {
        Self { asked, wanted, own, said: Said::default() }
    }

    /// Starts to ask, and waits a while for the first answer: places that were there before the agent have been on its
    /// predecessor's pages, and are decided before there is a page.
    pub(super) async fn begin(self, line: Line) {
        let is_asked = self.asked.borrow().is_some();
        let (first, answered) = oneshot::channel();
        tokio::spawn(self.run(line.clone(), first));
        if is_asked {
            let _ = timeout(FIRST, answered).await;
            line.send(Message::Begin);
        }
    }

    async fn run(mut self, line: Line, first: oneshot::Sender<()>) {
        let mut first = Some(first);
        while let Some(access) = self.next().await {
            if !self.ask_until_another(access, &line, &mut first).await {
                return;
            }
        }
    }

    /// Whom to ask, once that is configured; `None` when it never will be.
    async fn next(&mut self) -> AskedForPods {
        loop {
            if let Some(access) = self.asked.borrow_and_update().clone() {
                return Some(access);
            }
            self.asked.changed().await.ok()?;
        }
    }

    /// Asks one again and again until somebody else is to be asked, at once, whatever this one is at; false if nobody is
    /// any more.
    async fn ask_until_another(
        &mut self,
        mut access: Access,
        line: &Line,
        first: &mut Option<oneshot::Sender<()>>,
    ) -> bool {
        let (mut pace, mut waits) = (Pace::default(), Waits::default());
        loop {
            access = self.said.again(access);
            let wanted = *self.wanted.borrow_and_update();
            let began = Instant::now();
            waits.begin(wanted, began);
            let polled = tokio::select! {
                polled = access.poll(&mut *self.own) => polled,
                changed = self.asked.changed() => return changed.is_ok(),
            };
            self.said.outcome(&polled);
            pace.note(polled.is_ok(), began.elapsed());
            if let Ok(Listed { pods, .. }) = polled {
                waits.answered(wanted);
                if !line.send(Message::Pods { pods, asked: wanted }) {
                    return false;
                }
            }
            if let Some(first) = first.take() {
                // Who waited may have had enough.
                let _ = first.send(());
            }
            let pause = pace.pause(waits.since(Instant::now()));
            let least = pace.least();
            let wanted = async {
                if self.wanted.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                sleep_until(began + least).await;
            };
            tokio::select! {
                () = sleep_until(began + pause) => {}
                () = wanted => {}
                changed = self.asked.changed() => return changed.is_ok(),
            }
        }
    }
}

impl Said {
    /// Token and certificates as they are in their files now: a service account's token gets replaced. Where they cannot be read
    /// any more, those that were read last.
    fn again(&mut self, access: Access) -> Access {
        let again = access.read_again();
        let was_old = std::mem::replace(&mut self.is_old, again.is_err());
        match again {
            Ok(again) => again,
            Err(error) => {
                if !was_old {
                    let error = error.to_string().replace('\n', "; ");
                    tracing::warn!(
                        error,
                        "the list of pods is asked for with the token and certificates that were read last"
                    );
                }
                access
            }
        }
    }

    fn outcome(&mut self, polled: &Result<Listed, PollError>) {
        let was_down = std::mem::replace(&mut self.is_down, polled.is_err());
        match polled {
            Ok(Listed { wrong, beyond, .. }) => {
                if was_down {
                    tracing::info!("the list of pods can be had again");
                }
                let odd = [*wrong, *beyond];
                if odd != [0; 2] && odd != self.odd {
                    tracing::warn!(
                        wrong,
                        beyond,
                        "on the list of pods are such as are none, or too many: they are shown by their uids, and no job's"
                    );
                }
                self.odd = odd;
            }
            Err(error) if !was_down => {
                tracing::warn!(%error, "there is no list of pods: those that it would name are shown by their uids, and no job's");
            }
            Err(_) => {}
        }
    }
}

/// Since when places wait that no list was asked for behind.
#[derive(Debug, Default)]
struct Waits {
    /// How many places had waited when that was last looked at, and when a list last came.
    wanted: u64,
    answered: u64,
    since: Option<Instant>,
}

impl Waits {
    fn begin(&mut self, wanted: u64, now: Instant) {
        if wanted > self.wanted {
            self.since = Some(now);
        }
        self.wanted = wanted;
    }

    fn answered(&mut self, wanted: u64) {
        self.answered = wanted;
    }

    /// How long the last one has waited.
    fn since(&self, now: Instant) -> Option<Duration> {
        self.since.filter(|_| self.answered < self.wanted).map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests;
