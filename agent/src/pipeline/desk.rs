//! What the exporter's port serves: asks the accountant for its page, and puts other exporters' families and what the
//! agent knows of itself on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use hyper::body::Bytes;
use tokio::sync::{oneshot, watch};

use super::accountant::{Line, Message, Scraped};
use super::devices::Devices;
use crate::config::Upstream;
use crate::exposition::accounts::{Own, Phase, Phases, UpstreamState};
use crate::exposition::{Format, Page};
use crate::http::{self, MetricsWanted, Readiness, Source};
use crate::upstream::{Taken, fetch, merge};
use crate::{host, upstream};

/// Which commit was built, where the build says so.
const REVISION: Option<&str> = option_env!("SOCKMETER_REVISION");

/// The source of the exporter's port.
pub(super) struct Desk {
    line: Line,
    devices: Devices,
    readiness: watch::Receiver<Readiness>,
    upstreams: watch::Receiver<Vec<Upstream>>,
    own: Arc<Mutex<OwnTotals>>,
    started: Option<f64>,
}

/// What the agent counts about its own scrapes.
#[derive(Debug, Default)]
struct OwnTotals {
    phases: Phases,
    upstreams: Vec<UpstreamState>,
}

impl OwnTotals {
    fn upstream(&mut self, name: &str) -> Option<&mut UpstreamState> {
        if !self.upstreams.iter().any(|upstream| upstream.name == name) {
            self.upstreams.push(UpstreamState { name: name.to_owned(), up: false, left_out: [0; 2] });
        }
        self.upstreams.iter_mut().find(|upstream| upstream.name == name)
    }
}

impl Desk {
    pub(super) fn new(
        line: Line,
        devices: Devices,
        readiness: watch::Receiver<Readiness>,
        upstreams: watch::Receiver<Vec<Upstream>>,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
        Self { line, devices, readiness, upstreams, own: Arc::default(), started }
    }

    /// The accountant's page; `None` only if the agent is about to end.
    async fn scrape(&self, page: Page) -> Option<Scraped> {
        let devices = self.devices.all().await;
        let (reply, answer) = oneshot::channel();
        self.line.send(Message::Scrape { devices, page, reply });
        answer.await.ok()
    }

    /// The pages of the other exporters, in the order of the configuration.
    async fn fetched(&self) -> Vec<(String, Option<Bytes>)> {
        let upstreams = self.upstreams.borrow().clone();
        join_all(upstreams.into_iter().map(|upstream| async move {
            let page = fetch(&upstream.url).await;
            let page =
                page.inspect_err(|error| tracing::warn!(upstream = upstream.name, %error, "no page to merge")).ok();
            (upstream.name, page)
        }))
        .await
    }
}

impl Source for Desk {
    async fn metrics(&self, wanted: MetricsWanted) -> Vec<u8> {
        let began = Instant::now();
        let format = match wanted.format {
            http::Format::Text => Format::Text,
            http::Format::OpenMetrics => Format::OpenMetrics,
        };
        let page = Page::new(format).only(wanted.families.iter().map(String::as_str));
        let fetched = async { (self.fetched().await, began.elapsed()) };
        let (scraped, (pages, fetching)) = tokio::join!(self.scrape(page), fetched);
        let Some(scraped) = scraped else {
            return Vec::new();
        };
        let (own, started) = (Arc::clone(&self.own), self.started);
        let finished = tokio::task::spawn_blocking(move || {
            let Scraped { mut page, services, snapshot, attribution, encode } = scraped;
            let merging = Instant::now();
            let merged = merged(&pages, &services, format);
            for merged in merged.iter().flatten() {
                merged.put_on(&mut page);
            }
            let upstream = fetching + merging.elapsed();
            let encoding = Instant::now();
            let mut own = locked(&own);
            own.upstreams.retain(|known| pages.iter().any(|(name, _)| *name == known.name));
            for ((name, _), merged) in pages.iter().zip(&merged) {
                if let Some(state) = own.upstream(name) {
                    state.up = merged.is_some();
                    if let Some(merged) = merged {
                        state.left_out[0] += merged.unparsable;
                        state.left_out[1] += merged.duplicates;
                    }
                }
            }
            let process = host::process(started);
            let known =
                Own { revision: REVISION.unwrap_or(""), process, upstreams: &own.upstreams, phases: &own.phases };
            known.write(&mut page);
            let page = page.finish();
            // Each scrape shows how long those before it took.
            let encode = encode + encoding.elapsed();
            for (phase, took) in [
                (Phase::Snapshot, snapshot),
                (Phase::Attribution, attribution),
                (Phase::Upstream, upstream),
                (Phase::Encode, encode),
                (Phase::Total, began.elapsed()),
            ] {
                own.phases.note(phase, took);
            }
            page
        });
        finished.await.unwrap_or_default()
    }

    fn readiness(&self) -> Readiness {
        self.readiness.borrow().clone()
    }

    async fn stats(&self) -> serde_json::Value {
        let devices = self.devices.all().await;
        let (reply, answer) = oneshot::channel();
        self.line.send(Message::Stats { devices, reply });
        answer.await.unwrap_or_default()
    }
}

/// The families of the pages that came, under names that are free.
fn merged(pages: &[(String, Option<Bytes>)], services: &[String], format: Format) -> Vec<Option<upstream::Merged>> {
    let mut taken = Taken::ours(services.iter().map(String::as_str));
    pages.iter().map(|(_, page)| page.as_ref().map(|page| merge(page, &mut taken, format))).collect()
}

/// Counters are as good after a panic elsewhere as before.
fn locked(own: &Mutex<OwnTotals>) -> MutexGuard<'_, OwnTotals> {
    own.lock().unwrap_or_else(PoisonError::into_inner)
}
