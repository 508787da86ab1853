//! What the exporter's port serves: asks the accountant for its page, and puts other exporters' families and what the
//! agent knows of itself on it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use hyper::body::Bytes;
use tokio::sync::{oneshot, watch};

use super::accountant::{Line, Message, Scraped};
use super::devices::Devices;
use super::jobs::{Shown, locked};
use crate::config::{PeerNames, Scope, Settings, Upstream};
use crate::exposition::accounts::{
    Own, Phase, Phases, Table, UpstreamState, Wanted, write_llm_node, write_node, write_wireguard,
};
use crate::exposition::{Format, Page};
use crate::host::wireguard::{Interfaces, Reader};
use crate::http::{self, MetricsWanted, Readiness, Source, TableWanted};
use crate::model::node::Load;
use crate::node::{self, Gpus, Listener};
use crate::snapshot::Tunnel;
use crate::upstream::{FetchError, Taken, fetch, merge};
use crate::{host, upstream};

/// Which commit was built, where the build says so.
const REVISION: Option<&str> = option_env!("SOCKMETER_REVISION");

/// The source of the exporter's port.
pub(super) struct Desk {
    line: Line,
    devices: Devices,
    readiness: watch::Receiver<Readiness>,
    shows: watch::Receiver<Shows>,
    own: Arc<Mutex<OwnTotals>>,
    jobs: Shown,
    node: Arc<NodeDesk>,
    wireguard: Reader,
    started: Option<f64>,
}

/// What of the settings is on its pages; a new configuration changes it.
#[derive(Debug, Clone)]
pub(super) struct Shows {
    upstreams: Vec<Upstream>,
    node_id: Option<String>,
    llm_ports: Vec<u16>,
    peers: PeerNames,
    /// Whether nothing that is observed is in another network namespace than the agent.
    is_alone: bool,
    in_haste: bool,
}

impl Shows {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            upstreams: settings.upstreams.clone(),
            node_id: settings.node_id.clone(),
            llm_ports: settings.llm_ports.clone(),
            peers: settings.peers.clone(),
            is_alone: settings.scope == Scope::Netns,
            in_haste: settings.jobs.look_at_processes() || settings.kubernetes.is_some(),
        }
    }

    /// Whether new sockets' jobs are to be known soon, since they are told by processes that may end, or asked for.
    pub(super) fn is_in_haste(&self) -> bool {
        self.in_haste
    }
}

/// An exporter's name, and its page or why there is none.
type Fetched = (String, Result<Bytes, FetchError>);

/// What the agent counts about its own scrapes.
#[derive(Debug, Default)]
struct OwnTotals {
    phases: Phases,
    upstreams: Vec<UpstreamState>,
}

/// The node, and its load since the scrape before.
struct NodeDesk {
    gpus: Gpus,
    load: Mutex<Load>,
    listener: Mutex<Listener>,
}

impl NodeDesk {
    fn open() -> Self {
        let gpus = Gpus::look();
        let mut load = Load::default();
        load.note(node::read(&gpus, None).cpu);
        Self { gpus, load: Mutex::new(load), listener: Mutex::default() }
    }

    fn write(&self, shows: &Shows, page: &mut Page) {
        let node = node::read(&self.gpus, shows.node_id.as_deref());
        let load = locked(&self.load).note(node.cpu);
        write_node(&node, load, page);
        if !shows.llm_ports.is_empty() {
            let node = locked(&self.listener).read(&shows.llm_ports, shows.is_alone);
            write_llm_node(&node, load, page);
        }
    }
}

impl OwnTotals {
    /// Notes what became of an exporter's page; a line is logged only when that changes.
    fn note_upstream(&mut self, name: &str, problem: Option<&FetchError>, merged: Option<&upstream::Merged>) {
        let place = self.upstreams.iter().position(|upstream| upstream.name == name).unwrap_or_else(|| {
            self.upstreams.push(UpstreamState { name: name.to_owned(), up: true, left_out: [0; 2] });
            self.upstreams.len() - 1
        });
        let Some(state) = self.upstreams.get_mut(place) else {
            return;
        };
        match problem {
            Some(error) if state.up => tracing::warn!(upstream = name, %error, "no page to merge"),
            None if !state.up => tracing::info!(upstream = name, "the page is merged again"),
            _ => {}
        }
        state.up = problem.is_none();
        if let Some(merged) = merged {
            state.left_out[0] += merged.unparsable;
            state.left_out[1] += merged.duplicates;
        }
    }
}

impl Desk {
    pub(super) fn new(
        line: Line,
        devices: Devices,
        readiness: watch::Receiver<Readiness>,
        shows: watch::Receiver<Shows>,
        jobs: Shown,
    ) -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
        let (node, wireguard) = (Arc::new(NodeDesk::open()), Reader::default());
        Self { line, devices, readiness, shows, own: Arc::default(), jobs, node, wireguard, started }
    }

    /// The accountant's page, and what WireGuard says meanwhile; `None` only if the agent is about to end.
    async fn scrape(&self, page: Page) -> Option<(Scraped, Vec<Tunnel>)> {
        let devices = self.devices.all().await;
        let all = devices.iter().flatten();
        let tunnels = Interfaces::of(all.map(|device| (device.name(), device.is_wireguard())));
        let (reply, answer) = oneshot::channel();
        self.line.send(Message::Scrape { devices, page, reply });
        let (scraped, tunnels) = tokio::join!(answer, self.wireguard.read(tunnels));
        Some((scraped.ok()?, tunnels))
    }

    /// The pages of the other exporters, in the order of the configuration.
    async fn fetched(&self) -> Vec<Fetched> {
        let upstreams = self.shows.borrow().upstreams.clone();
        join_all(upstreams.into_iter().map(|upstream| async move { (upstream.name, fetch(&upstream.url).await) })).await
    }
}

impl Source for Desk {
    fn has_dropped(&self) {
        host::memory::give_back();
    }

    async fn metrics(&self, wanted: MetricsWanted) -> Vec<u8> {
        let began = Instant::now();
        let format = match wanted.format {
            http::Format::Text => Format::Text,
            http::Format::OpenMetrics => Format::OpenMetrics,
        };
        let page = Page::new(format).only(wanted.families.iter().map(String::as_str));
        let fetched = async { (self.fetched().await, began.elapsed()) };
        let (scraped, (pages, fetching)) = tokio::join!(self.scrape(page), fetched);
        let Some((scraped, tunnels)) = scraped else {
            return Vec::new();
        };
        let (own, jobs, started) = (Arc::clone(&self.own), Arc::clone(&self.jobs), self.started);
        let (node, shows, now) = (Arc::clone(&self.node), self.shows.borrow().clone(), unix_time());
        let finished = tokio::task::spawn_blocking(move || {
            let Scraped { mut page, services, snapshot, attribution, encode } = scraped;
            let merging = Instant::now();
            let jobs = locked(&jobs).clone();
            let merged = merged(&pages, &services, [jobs.is_some(), !shows.llm_ports.is_empty()], format);
            for merged in merged.iter().flatten() {
                merged.put_on(&mut page);
            }
            let upstream = fetching + merging.elapsed();
            let encoding = Instant::now();
            node.write(&shows, &mut page);
            write_wireguard(&tunnels, &shows.peers, now.as_secs(), &mut page);
            if let Some(jobs) = jobs {
                jobs.write(&mut page);
            }
            let mut own = locked(&own);
            own.upstreams.retain(|known| pages.iter().any(|(name, _)| *name == known.name));
            for ((name, page), merged) in pages.iter().zip(&merged) {
                own.note_upstream(name, page.as_ref().err(), merged.as_ref());
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

    async fn table(&self, wanted: TableWanted) -> Result<serde_json::Value, String> {
        let (reply, answer) = oneshot::channel();
        let TableWanted { table, sort, limit, process, job } = wanted;
        let wanted = Wanted { sort, limit, process, job };
        let message = match table_of(table) {
            Some(table) => Message::Table { devices: self.devices.all().await, table, wanted, reply },
            None => Message::Sockets { wanted, reply },
        };
        self.line.send(message);
        answer.await.unwrap_or(Ok(serde_json::Value::Null))
    }
}

/// 0 while the clock is before 1970.
fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The stage's name of a table; `None` is the one of live sockets.
fn table_of(table: http::Table) -> Option<Table> {
    match table {
        http::Table::Sockets => None,
        http::Table::Endpoints => Some(Table::Endpoints),
        http::Table::Jobs => Some(Table::Jobs),
        http::Table::Interfaces => Some(Table::Interfaces),
    }
}

/// The families of the pages that came, under names that are free.
fn merged(
    pages: &[Fetched],
    services: &[String],
    [derives, is_llm_node]: [bool; 2],
    format: Format,
) -> Vec<Option<upstream::Merged>> {
    let mut taken = Taken::ours(services.iter().map(String::as_str), derives, is_llm_node);
    pages.iter().map(|(_, page)| page.as_ref().ok().map(|page| merge(page, &mut taken, format))).collect()
}
