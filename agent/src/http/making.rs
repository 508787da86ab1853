//! One answer in the making at a time, and one for all who asked for the same before it was begun: what is asked and never
//! read costs neither more memory nor more work the more ask. What answers say is in `answers`.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use http::Response;
use http_body_util::Full;
use hyper::body::{Body as _, Bytes};
use tokio::sync::{Mutex as Turn, OnceCell};
use tokio::task::yield_now;

use super::admission::Admission;
use super::{MetricsWanted, TableWanted};

/// What is asked for: equal questions have one answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    /// A page, compressed or not.
    Metrics(MetricsWanted, bool),
    /// The totals.
    Stats,
    /// A table.
    Table(TableWanted),
}

type Answer = Response<Full<Bytes>>;

/// The answers that are to be made.
pub(super) struct Making {
    admission: Arc<Admission>,
    turn: Arc<Turn<()>>,
    /// What is done when pages were dropped.
    dropped: Box<dyn Fn() + Send + Sync>,
    /// Those that are not begun. Those that wait for one own it: nothing is left of a question that nobody asks any more.
    next: Mutex<HashMap<Asked, Weak<OnceCell<Option<Answer>>>>>,
}

impl Making {
    pub(super) fn new(admission: Arc<Admission>, dropped: impl Fn() + Send + Sync + 'static) -> Self {
        Self { admission, turn: Arc::default(), dropped: Box::new(dropped), next: Mutex::default() }
    }

    /// The answer, made after this was called, with its [`Share`](super::budget::Share) of the budget among its extensions;
    /// `None` if making it failed.
    pub(super) async fn answer(
        &self,
        asked: Asked,
        make: impl Future<Output = Answer> + Send + 'static,
    ) -> Option<Answer> {
        let answer = self.next(asked);
        let made = answer.get_or_init(async || {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            self.room().await;
            if self.admission.has_freed() {
                // Those who lost a page drop it now.
                yield_now().await;
                (self.dropped)();
            }
            // Who asks from here on gets a later one: an answer is never older than its question.
            self.forget(&answer);
            let admission = Arc::clone(&self.admission);
            // It goes on when nobody waits any more: else those who ask and go away would have many made at once.
            let made = tokio::spawn(async move {
                let mut answer = make.await;
                let bytes = answer.body().size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok());
                let share = admission.budget().take(bytes.unwrap_or_default());
                answer.extensions_mut().insert(share);
                drop(turn);
                answer
            });
            made.await.ok()
        });
        made.await.clone()
    }

    /// The answer to this that is not begun yet.
    fn next(&self, asked: Asked) -> Arc<OnceCell<Option<Answer>>> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.retain(|_, answer| answer.strong_count() > 0);
        if let Some(answer) = next.get(&asked).and_then(Weak::upgrade) {
            return answer;
        }
        let answer = Arc::default();
        next.insert(asked, Arc::downgrade(&answer));
        answer
    }

    fn forget(&self, begun: &Arc<OnceCell<Option<Answer>>>) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.retain(|_, answer| !std::ptr::eq(answer.as_ptr(), Arc::as_ptr(begun)));
    }

    /// Waits until the budget has room for a further page.
    async fn room(&self) {
        loop {
            let changed = self.admission.changed();
            match self.admission.make_room(Instant::now()) {
                None => return,
                Some(time) => changed.within(time).await,
            }
        }
    }
}
