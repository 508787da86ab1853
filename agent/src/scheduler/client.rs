//! One poll: both lists asked on one connection, or the second one on another where the API closes the first.
//! How it is connected is `api`'s, how the lists are read is in `list`.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::timeout;

use super::list;
use crate::api::{self, Own, PollError, WHOLE};
use crate::config::{Api, ConfigError};
use crate::model::jobs::Job;

/// The lists.
const JOBS: &str = "/jobs";
const NODES: &str = "/nodes";

/// What takes jobs and nodes as they come.
pub trait Sink: Send + 'static {
    /// A job.
    fn job(&mut self, job: &Job);
    /// A node of that status.
    fn node(&mut self, status: Option<&str>);
}

/// How to reach the API.
#[derive(Debug, Clone)]
pub struct Access(api::Access);

impl Access {
    /// Reads the token and the certificates.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should, or the URL cannot be asked.
    pub fn new(settings: &Api) -> Result<Self, ConfigError> {
        api::Access::new(settings).map(Self)
    }

    /// The same with token and certificates as their files are now.
    ///
    /// # Errors
    /// As `new`.
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        self.0.read_again().map(Self)
    }

    /// Asks for both lists and hands on what is in them; says how many elements were not what they should be. On an error
    /// what came before was handed on.
    ///
    /// # Errors
    /// When one of them did not come whole, in time.
    pub async fn poll<S: Sink>(&self, own: &mut dyn Own, sink: &Arc<Mutex<S>>) -> Result<u64, PollError> {
        timeout(WHOLE, self.lists(own, sink)).await.unwrap_or(Err(PollError::Time))
    }

    async fn lists<S: Sink>(&self, own: &mut dyn Own, sink: &Arc<Mutex<S>>) -> Result<u64, PollError> {
        let mut conversation = self.0.connect(own).await?;
        let answer = conversation.ask(JOBS).await?;
        let to = Arc::clone(sink);
        let jobs = conversation.take(answer, move |from| list::jobs(from, |job| locked(&to, |sink| sink.job(job))));
        let wrong = jobs.await?;
        let answer = conversation.ask_next(NODES).await?;
        let to = Arc::clone(sink);
        let nodes =
            conversation.take(answer, move |from| list::nodes(from, |status| locked(&to, |sink| sink.node(status))));
        Ok(wrong + nodes.await?)
    }
}

fn locked<S>(sink: &Mutex<S>, work: impl FnOnce(&mut S)) {
    work(&mut sink.lock().unwrap_or_else(PoisonError::into_inner));
}
