//! When the list of pods is asked for: now and then, and at once when there are bytes of a pod that nobody knows. How it is
//! asked is `kubernetes`', what becomes of it `model::holders`'.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::accountant::{Line, Message};
use crate::api::Own;
use crate::config::{ConfigError, Settings};
use crate::kubernetes::Access;

/// Time between two polls.
const USUAL: Duration = Duration::from_secs(10);
/// The least that lies between two of them, whoever waits; while they fail it is more.
const LEAST: Duration = Duration::from_secs(1);
const LEAST_OF_FAILING: Duration = Duration::from_secs(2);
/// Between two that fail it is twice as much each time, up to this.
const LONGEST: Duration = Duration::from_mins(1);
/// A poll takes at most one part in so many of the time, however long the list is, unless somebody waits.
const SHARE: u32 = 10;
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
}

impl PodPoller {
    /// Nothing is asked yet.
    pub(super) fn new(asked: watch::Receiver<AskedForPods>, wanted: watch::Receiver<u64>, own: Box<dyn Own>) -> Self {
        Self { asked, wanted, own }
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
        let (mut first, mut is_up, mut pause) = (Some(first), true, LEAST);
        loop {
            let access = self.asked.borrow_and_update().clone();
            let Some(access) = access else {
                if self.asked.changed().await.is_err() {
                    return;
                }
                continue;
            };
            // A service account's token gets replaced in its file. One that cannot be read any more changes nothing.
            let access = access.read_again().unwrap_or(access);
            let wanted = *self.wanted.borrow_and_update();
            let began = Instant::now();
            let polled = access.poll(&mut *self.own).await;
            let was_up = is_up;
            is_up = polled.is_ok();
            match polled {
                Ok(pods) => {
                    if !line.send(Message::Pods { pods, asked: wanted }) {
                        return;
                    }
                    pause = USUAL.max(began.elapsed() * SHARE);
                    if !was_up {
                        tracing::info!("the list of pods can be had again");
                    }
                }
                Err(error) => {
                    pause = if was_up { LEAST_OF_FAILING } else { (pause * 2).min(LONGEST) };
                    if was_up {
                        tracing::warn!(%error, "there is no list of pods: those that it would name are shown by their uids, and no job's");
                    }
                }
            }
            if let Some(first) = first.take() {
                // Who waited may have had enough.
                let _ = first.send(());
            }
            let least = if is_up { LEAST } else { LEAST_OF_FAILING };
            let wanted = async {
                if self.wanted.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                sleep_until(began + least).await;
            };
            tokio::select! {
                () = sleep_until(began + pause) => {}
                () = wanted => {}
                // A new configuration is asked at once.
                changed = self.asked.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }
}
