//! Opens everything that a running agent needs, in an order in which a failure leaves nothing attached or pinned that
//! was not before: first what can be refused without touching the kernel, the port among it.

use std::os::fd::OwnedFd;

use anyhow::Context as _;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::accountant::{self, Accountant, Working};
use super::devices::Devices;
use super::jobs::{self, Asked, Poller};
use super::own::Shared;
use super::pods::{self, AskedForPods, PodPoller};
use super::{observed, rules};
use crate::cli::Failure;
use crate::config::{Scope, Settings};
use crate::host;
use crate::host::privileges::{Capability, drop_all_but};
use crate::http::{Bounds, Gate, Readiness, Server};
use crate::kernel::{self, Kernel, PinnedBefore, examine};
use crate::model::{Books, Forgetful, HolderStore, Holders, ServiceSettings, Store};
use crate::snapshot::ProgramState;

/// An agent that is ready to serve.
pub(super) struct Started {
    pub(super) server: Server,
    pub(super) kernel_side: KernelSide,
}

/// The part of it that counts.
pub(super) struct KernelSide {
    pub(super) working: Working,
    pub(super) devices: Devices,
    /// Readable when the journal has filled so far that it should be read.
    pub(super) journal: AsyncFd<OwnedFd>,
    pub(super) programs: Vec<ProgramState>,
    pub(super) readiness: watch::Receiver<Readiness>,
    pub(super) poller: Poller,
    /// What the poller is to ask.
    pub(super) asked: watch::Sender<Asked>,
    pub(super) pods: PodPoller,
    /// Whom that one is to ask.
    pub(super) asked_for_pods: watch::Sender<AskedForPods>,
}

/// What is asked of others.
struct Asks {
    jobs: Asked,
    pods: AskedForPods,
}

/// Opens it.
///
/// # Errors
/// When the port is taken, a file that the settings name is not good, or this kernel or these privileges refuse.
pub(super) async fn start(settings: &Settings) -> Result<Started, Failure> {
    let server = Server::bind(settings.listen, Gate::new(&settings.access)?, Bounds::default()).await?;
    let services = observed::services(settings)?;
    let asks = Asks { jobs: jobs::asked(settings)?, pods: pods::asked(settings)? };
    let before = settings.pin_dir.as_deref().map(PinnedBefore::look);
    match kernel_side(settings, services, asks).await {
        Ok(kernel_side) => Ok(Started { server, kernel_side }),
        Err(failure) => {
            if let Some(before) = before {
                before.restore();
            }
            Err(failure)
        }
    }
}

async fn kernel_side(settings: &Settings, services: Vec<ServiceSettings>, asks: Asks) -> Result<KernelSide, Failure> {
    examine::privileges().map_err(Failure::kernel)?;
    let mut kernel = Kernel::open(settings).map_err(Failure::kernel)?;
    if settings.pin_dir.is_some() {
        let store = kernel.books().map_err(Failure::kernel)?;
        let holders = kernel.holders().map_err(Failure::kernel)?;
        count(kernel, (store, holders), settings, services, asks).await
    } else {
        count(kernel, (Forgetful, Forgetful), settings, services, asks).await
    }
}

async fn count<S: Store + Send + 'static, H: HolderStore + Send + 'static>(
    mut kernel: Kernel,
    (store, holders): (S, H),
    settings: &Settings,
    services: Vec<ServiceSettings>,
    asks: Asks,
) -> Result<KernelSide, Failure> {
    let mut journal = kernel.journal().map_err(Failure::kernel)?;
    let wakes = journal.descriptor().try_clone_to_owned().context("cannot watch the journal")?;
    let wakes = watched(wakes).context("cannot watch the journal")?;
    let mut books = Books::open(store, services).map_err(anyhow::Error::from)?;
    journal.go_on_from(books.read());
    books.derive(settings.scheduler.is_some());
    let rules = rules::rules(settings).map_err(anyhow::Error::from)?;
    let mut holders = Holders::open(holders, rules, accountant::holder_bounds(settings));
    holders.ask(Box::new(rules::OfHost(kernel.cgroups())));
    holders.ask_for_pods(settings.kubernetes.is_some());
    kernel.observe(&observed::ports(settings, &books)?).map_err(Failure::kernel)?;
    let devices = Devices::open().context("cannot ask for the interfaces")?;
    let found = devices.all().await.context("the kernel does not list the interfaces")?;
    kernel.follow(&found, true);
    kernel.seal().map_err(Failure::kernel)?;
    let programs = kernel.programs();
    let (sender, readiness) = watch::channel(accountant::readiness(&kernel));
    let bounds = accountant::bounds(settings);
    let own = Shared::new(kernel.own_connections().map_err(Failure::kernel)?);
    let (asked, jobs) = watch::channel(asks.jobs);
    // Its directory may be one that only a privileged user can make.
    let poller = Poller::new(settings, jobs, Box::new(own.clone()));
    let (asked_for_pods, pods) = watch::channel(asks.pods);
    let (wanted, wants) = watch::channel(0);
    let pods = PodPoller::new(pods, wants, Box::new(own));
    give_up_privileges(settings)?;
    let accountant = Accountant { kernel, journal, books, holders, bounds, devices: found, readiness: sender, wanted };
    host::memory::give_back();
    let working = accountant.start().context("cannot start the thread that counts")?;
    Ok(KernelSide { working, devices, journal: wakes, programs, readiness, poller, asked, pods, asked_for_pods })
}

/// Before the thread that counts begins: it inherits what this one still has. Reading maps, running iterators and
/// attaching by links goes by file descriptors that are open by now, and asks for nothing more.
fn give_up_privileges(settings: &Settings) -> anyhow::Result<()> {
    let mut needed = Vec::new();
    if settings.scope != Scope::Netns {
        // To enter other namespaces (setns(2)), and to find those that only other users' processes are in
        // (`__ptrace_may_access`, kernel/ptrace.c).
        needed.extend([Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_PTRACE]);
    }
    if settings.jobs.look_at_environments() {
        // Other users' environments (`/proc/PID/environ` in proc(5)): to open them, and to read them.
        needed.extend([Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE]);
    }
    if !settings.llm_ports.is_empty() {
        // Other users' open files, to find the process that listens (`proc_fd_permission`, fs/proc/fd.c).
        needed.extend([Capability::CAP_DAC_READ_SEARCH, Capability::CAP_SYS_PTRACE]);
    }
    if !kernel::has_tcx() {
        // Filters on interfaces that appear later go by rtnetlink.
        needed.push(Capability::CAP_NET_ADMIN);
    }
    if host::wireguard::is_in_kernel() {
        // It tells its peers to nobody else.
        needed.push(Capability::CAP_NET_ADMIN);
    }
    let kept = drop_all_but(&needed).context("cannot give up privileges")?;
    if kept.other_threads > 0 {
        tracing::warn!(threads = kept.other_threads, "threads that began before keep their privileges");
    }
    tracing::debug!(kept = kept.capabilities.join(" "), "gave up all other capabilities");
    Ok(())
}

#[expect(
    deprecated,
    reason = "the successor is an unsafe function, for types that could close the descriptor while it is watched; an owned one cannot"
)]
fn watched(descriptor: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}
