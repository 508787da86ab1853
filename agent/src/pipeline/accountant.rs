//! The thread that owns the kernel side, the journal and the books. Everybody else sends it messages.
//!
//! A scrape reads the kernel side first, which books what live sockets carried, then takes the journal into the books,
//! then writes the page: so it shows everything that was finished before.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::{observed, rules};
use crate::config::{Limits, Settings};
use crate::exposition::Page;
use crate::exposition::accounts::{Accounts, Table, Wanted, live_sockets};
use crate::host::PodLogs;
use crate::http::{Missing, Readiness};
use crate::kernel::{Device, Journal, Kernel};
use crate::model::live::Listings;
use crate::model::sockets::Bounds;
use crate::model::{Books, Held, HolderBounds, HolderStore, Holders, Rate, ServiceSettings, Store};
use crate::snapshot::{Journal as _, PlaceBytes, Pods, Snapshot};

/// What can be asked of the accountant. Devices are `None` when netlink did not answer: the last known count then.
pub(super) enum Message {
    /// Take everything into the books and write them on the page.
    Scrape { devices: Option<Vec<Device>>, page: Page, reply: oneshot::Sender<Scraped> },
    /// The same, as JSON.
    Stats { devices: Option<Vec<Device>>, reply: oneshot::Sender<serde_json::Value> },
    /// One table, as JSON.
    Table { devices: Option<Vec<Device>>, table: Table, wanted: Wanted, reply: oneshot::Sender<TableAnswer> },
    /// The live sockets, as JSON.
    Sockets { wanted: Wanted, reply: oneshot::Sender<TableAnswer> },
    /// Take everything into the books.
    Tick { devices: Option<Vec<Device>> },
    /// See whose new sockets are.
    Look { reply: oneshot::Sender<()> },
    /// Interfaces came, went, or changed their names.
    Devices { devices: Vec<Device> },
    /// The journal fills.
    Journal { reply: oneshot::Sender<()> },
    /// A list of pods, asked for when so many places had waited for one.
    Pods { pods: Pods, asked: u64 },
    /// From now on there are pages: whose the places are that are older than the agent is decided.
    Begin,
    /// The configuration was read again.
    Reconfigure { settings: Box<Settings>, services: Vec<ServiceSettings> },
    /// End.
    Stop,
}

/// A table, or what is wrong with the question.
pub(super) type TableAnswer = Result<serde_json::Value, String>;

/// A page with the accounts on it.
pub(super) struct Scraped {
    pub(super) page: Page,
    /// Names of all services, whose families are ours.
    pub(super) services: Vec<String>,
    pub(super) snapshot: Duration,
    pub(super) attribution: Duration,
    pub(super) encode: Duration,
}

/// What the accountant owns.
pub(super) struct Accountant<S, H> {
    pub(super) kernel: Kernel,
    pub(super) journal: Journal,
    pub(super) books: Books<S>,
    pub(super) holders: Holders<H>,
    pub(super) bounds: Bounds,
    pub(super) devices: Vec<Device>,
    pub(super) readiness: watch::Sender<Readiness>,
    /// How many places have waited for a list of pods.
    pub(super) wanted: watch::Sender<u64>,
}

/// How to reach the accountant.
#[derive(Clone)]
pub(super) struct Line(Sender<Message>);

impl Line {
    #[cfg(test)]
    pub(super) fn to(sender: Sender<Message>) -> Self {
        Self(sender)
    }

    /// Sends; false if the accountant is gone.
    pub(super) fn send(&self, message: Message) -> bool {
        self.0.send(message).is_ok()
    }
}

/// The running thread.
pub(super) struct Working {
    pub(super) line: Line,
    /// Ends with the thread.
    pub(super) alive: oneshot::Receiver<()>,
}

impl<S: Store + Send + 'static, H: HolderStore + Send + 'static> Accountant<S, H> {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(self) -> std::io::Result<Working> {
        let (sender, receiver) = channel();
        let (ended, alive) = oneshot::channel();
        // Not joined: `alive` tells when it ended.
        std::thread::Builder::new().name("accountant".to_owned()).spawn(move || {
            let _ended: oneshot::Sender<()> = ended;
            Desk::new(self).work(&receiver);
        })?;
        Ok(Working { line: Line(sender), alive })
    }
}

/// The accountant at work, with what accrues meanwhile.
struct Desk<S, H> {
    own: Accountant<S, H>,
    rates: BTreeMap<u16, Rate>,
    /// The last that the kernel gave: shown again when it refuses a read, because counters do not go down.
    snapshot: Snapshot,
    listings: Listings,
    pods: PodLogs,
    held: Held,
    /// How many places waited for a list of pods when the agent began.
    older: u64,
    began: Instant,
}

impl<S: Store, H: HolderStore> Desk<S, H> {
    fn new(own: Accountant<S, H>) -> Self {
        Self {
            own,
            rates: BTreeMap::new(),
            snapshot: Snapshot::default(),
            listings: Listings::default(),
            pods: PodLogs::default(),
            held: Held::default(),
            older: 0,
            began: Instant::now(),
        }
    }

    fn work(mut self, messages: &Receiver<Message>) {
        self.take_orphans();
        self.read(None);
        // All this may have been on the pages of the agent before.
        self.held.show_all(&self.snapshot.totals);
        self.older = self.own.holders.asked();
        while let Some(message) = self.next(messages) {
            match message {
                Message::Scrape { devices, page, reply } => {
                    // Who asked may have gone away: then the work is still good for the books.
                    let _ = reply.send(self.scrape(devices, page));
                }
                Message::Stats { devices, reply } => {
                    self.read(devices);
                    let _ = reply.send(self.accounts().stats());
                }
                Message::Table { devices, table, wanted, reply } => {
                    self.read(devices);
                    let _ = reply.send(self.accounts().table(table, &wanted));
                }
                Message::Sockets { wanted, reply } => {
                    let _ = reply.send(self.sockets(&wanted));
                }
                Message::Tick { devices } => {
                    // Messages of changes can get lost when there are many.
                    if let Some(devices) = devices {
                        self.follow(devices, true);
                    }
                    self.progress();
                    self.give_back();
                }
                Message::Look { reply } => {
                    self.progress();
                    self.give_back();
                    let _ = reply.send(());
                }
                Message::Devices { devices } => self.follow(devices, true),
                Message::Journal { reply } => {
                    self.drain();
                    let _ = reply.send(());
                }
                Message::Pods { pods, asked } => self.own.holders.list_pods(pods, asked),
                Message::Begin => self.own.holders.give_up(self.older),
                Message::Reconfigure { settings, services } => self.reconfigure(&settings, services),
                Message::Stop => break,
            }
        }
    }

    /// The next message; reads the journal until there is one, if it fills faster than it wakes us.
    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        while self.own.journal.is_late() {
            match messages.try_recv() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if self.drain() => (),
                // It cannot be read now.
                Err(TryRecvError::Empty) => break,
            }
        }
        messages.recv().ok()
    }

    fn scrape(&mut self, devices: Option<Vec<Device>>, mut page: Page) -> Scraped {
        let [snapshot, attribution] = self.read(devices);
        let began = Instant::now();
        self.accounts().write(&mut page);
        let services = self.own.books.services().iter().map(|service| service.ledger.service.clone()).collect();
        Scraped { page, services, snapshot, attribution, encode: began.elapsed() }
    }

    /// The live sockets; those that began just now are noted first, so that they have a role.
    fn sockets(&mut self, wanted: &Wanted) -> TableAnswer {
        self.read(None);
        let listing = self.own.kernel.sockets().map_err(|error| error.to_string())?;
        let left_out = listing.left_out;
        let sockets = self.listings.take(listing, self.began.elapsed(), &self.own.books, &mut self.own.holders);
        live_sockets(&sockets, left_out, wanted)
    }

    /// Takes everything into the books; says how long reading and booking took.
    fn read(&mut self, devices: Option<Vec<Device>>) -> [Duration; 2] {
        if let Some(devices) = devices {
            self.follow(devices, false);
        }
        let began = Instant::now();
        match self.own.kernel.snapshot(&self.own.devices) {
            Ok(mut snapshot) => {
                self.name_pods();
                self.own.holders.note(&snapshot);
                self.ask_for_pods();
                let waiting = self.own.holders.waiting(&snapshot);
                self.held.hold(&mut snapshot.totals, waiting);
                self.snapshot = snapshot;
            }
            Err(error) => tracing::warn!(%error, "the totals of sockets and interfaces are those of the last reading"),
        }
        let read = began.elapsed();
        let began = Instant::now();
        self.drain();
        self.note_rates();
        [read, began.elapsed()]
    }

    /// Takes into the books what happened, for nobody who waits.
    fn progress(&mut self) {
        match self.own.kernel.progress() {
            Ok(spills) => self.snapshot.spills = spills,
            Err(error) => tracing::warn!(%error, "what live sockets carried is booked later"),
        }
        self.drain();
        self.note_rates();
    }

    fn note_rates(&mut self) {
        let now = self.began.elapsed();
        for service in self.own.books.services() {
            let mut stream = service.ledger.stream;
            if let Some((_, spill)) = self.snapshot.spills.iter().find(|(number, _)| *number == service.number) {
                stream = service.ledger.with(spill).stream;
            }
            self.rates.entry(service.number).or_default().note(now, stream);
        }
    }

    /// Before places are learned, which are called once.
    fn name_pods(&mut self) {
        if let Some(pods) = self.pods.news() {
            self.own.holders.name_pods(pods);
        }
    }

    /// Has pods asked for that nobody knows.
    fn ask_for_pods(&self) {
        let asked = self.own.holders.asked();
        self.own.wanted.send_if_modified(|wanted| std::mem::replace(wanted, asked) != asked);
    }

    /// What an earlier run took from places and did not give back.
    fn take_orphans(&mut self) {
        match self.own.kernel.orphans() {
            Ok(orphans) => self.take(&orphans),
            Err(error) => tracing::warn!(%error, "bytes of ended jobs may be missing until the next start"),
        }
    }

    /// Takes the bytes of places that are gone into the records, so that others have room.
    fn give_back(&mut self) {
        if let Err(error) = self.own.kernel.places(&mut self.snapshot, self.own.holders.is_in_haste()) {
            tracing::warn!(%error, "slots of ended jobs are given back later");
            return;
        }
        self.name_pods();
        self.own.holders.look(&self.snapshot);
        self.ask_for_pods();
        let over = self.own.holders.over(&self.snapshot);
        if !over.is_empty() {
            match self.own.kernel.take_places(&over) {
                Ok(taken) => {
                    self.snapshot.places.retain(|place| !taken.iter().any(|taken| taken.slot == place.slot));
                    self.take(&taken);
                }
                Err(error) => tracing::warn!(%error, "bytes of ended jobs may be missing until the next start"),
            }
        }
        self.own.holders.expire(&self.snapshot);
    }

    fn take(&mut self, places: &[PlaceBytes]) {
        for place in self.own.holders.in_order(places) {
            self.own.holders.take(place);
            if let Err(error) = self.own.kernel.free_place(place.slot) {
                tracing::warn!(%error, "a slot for a place is lost until `sockmeter detach`");
            }
        }
    }

    fn drain(&mut self) -> bool {
        self.own.journal.drain(&mut self.own.books)
    }

    /// `changed`: an index may belong to another device than the last time.
    fn follow(&mut self, devices: Vec<Device>, changed: bool) {
        self.own.kernel.follow(&devices, changed);
        self.own.devices = devices;
        let readiness = readiness(&self.own.kernel);
        self.own.readiness.send_if_modified(|known| {
            let is_other = *known != readiness;
            *known = readiness;
            is_other
        });
    }

    fn reconfigure(&mut self, settings: &Settings, services: Vec<ServiceSettings>) {
        self.own.bounds = bounds(settings);
        match rules::rules(settings) {
            Ok(rules) => self.own.holders.configure(rules, holder_bounds(settings)),
            Err(error) => tracing::error!(%error, "the rules of jobs stay as they were"),
        }
        self.own.holders.ask_for_pods(settings.kubernetes.is_some());
        self.held.show_all(&self.snapshot.totals);
        self.own.books.derive(settings.scheduler.is_some());
        let observed = self.own.books.configure(services).map_err(anyhow::Error::from);
        let observed = observed.and_then(|()| observed::ports(settings, &self.own.books));
        let observed = observed.and_then(|ports| Ok(self.own.kernel.observe(&ports)?));
        if let Err(error) = observed {
            tracing::error!(error = format!("{error:#}"), "the new services are not observed");
        }
        self.own.kernel.choose_interfaces(&settings.interfaces);
        self.follow(self.own.devices.clone(), false);
    }

    fn accounts(&self) -> Accounts<'_> {
        Accounts {
            services: self.own.books.services(),
            cells: self.own.books.cells(),
            rates: &self.rates,
            snapshot: &self.snapshot,
            holders: self.own.holders.sums(&self.snapshot),
            bounds: self.own.bounds,
            refused: self.own.books.refused() + self.own.holders.refused(),
            folded: self.own.books.folded(),
            derives: self.own.books.derives(),
            damaged: self.own.journal.damaged(),
        }
    }
}

/// Bounds of the labels of sockets.
pub(super) fn bounds(settings: &Settings) -> Bounds {
    Bounds { ports: settings.limits.ports, processes: settings.limits.processes }
}

/// Bounds of the series of jobs and containers.
pub(super) fn holder_bounds(settings: &Settings) -> HolderBounds {
    let Limits { jobs, containers, .. } = settings.limits;
    HolderBounds { jobs, containers, keep: settings.jobs.keep }
}

/// What should be attached and is not.
pub(super) fn readiness(kernel: &Kernel) -> Readiness {
    let missing = kernel.programs().into_iter().filter_map(|program| {
        Some(Missing { program: program.program, target: program.target, reason: program.problem? })
    });
    Readiness { missing: missing.collect() }
}
