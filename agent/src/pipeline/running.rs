//! `sockmeter run`: serves until a signal ends it. What is opened for that is in `start`.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::accountant::{Line, Message};
use super::desk::{Desk, Shows};
use super::devices::Devices;
use super::jobs::{self, Asked};
use super::observed;
use super::pods::{self, AskedForPods};
use super::start::{KernelSide, Started, start};
use crate::cli::{Exit, Failure};
use crate::config::{self, Configuration, Settings};
use crate::host::privileges::private_files;
use crate::snapshot::ProgramState;

/// How often everything is taken into the books when nobody scrapes: rates are over ten seconds.
const TICK: Duration = Duration::from_secs(5);
/// How often it is looked whose new sockets are, where processes tell: they may end soon.
const LOOK: Duration = Duration::from_secs(1);
/// What is left of the two seconds that a stop may take when the port is closed.
const LAST: Duration = Duration::from_millis(300);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start; nothing stays attached then that was not before.
#[expect(clippy::needless_pass_by_value, reason = "the command line hands it over")]
pub fn run(settings: Settings, configuration: Configuration) -> Result<Exit, Failure> {
    private_files();
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let result = runtime.block_on(serve(settings, &configuration));
    // A merge that is still at work has nobody left who waits for it.
    runtime.shutdown_timeout(LAST / 3);
    result
}

async fn serve(settings: Settings, configuration: &Configuration) -> Result<Exit, Failure> {
    // First, so that a signal during the start is not missed.
    let take = |kind| signal(kind).context("cannot take signals");
    let (mut hangup, mut terminate) = (take(SignalKind::hangup())?, take(SignalKind::terminate())?);
    let mut interrupt = take(SignalKind::interrupt())?;

    let Started { server, kernel_side } = start(&settings).await?;
    let KernelSide { working, devices, journal, programs, readiness, poller, asked, pods, asked_for_pods } =
        kernel_side;
    let line = working.line.clone();
    // Interfaces are looked at with every tick and scrape: without the watch, new ones are only counted later.
    if let Err(error) = devices.watch(line.clone()) {
        tracing::warn!(%error, "interfaces that appear are noticed up to {} s later", TICK.as_secs());
    }
    tokio::spawn(tick(line.clone(), devices.clone()));
    tokio::spawn(drain(line.clone(), journal));
    let (shows, shown) = watch::channel(Shows::of(&settings));
    tokio::spawn(look(line.clone(), shown.clone()));
    // Older sockets count from the first pass over them: whoever is told that we are here may rely on that. The accountant
    // makes it before it takes any message.
    let (reply, passed) = oneshot::channel();
    if line.send(Message::Journal { reply }) {
        let _ = passed.await;
    }
    say(&programs, &server.url());

    let stop = CancellationToken::new();
    let desk = Arc::new(Desk::new(line.clone(), devices, readiness, shown, poller.shown()));
    tokio::spawn(poller.run());
    let begun = pods.begin(line.clone());
    let stopped = stop.clone();
    let serving = tokio::spawn(async move {
        // Whoever connects before waits.
        tokio::select! {
            () = stopped.cancelled() => {}
            () = begun => server.serve(desk, stopped.clone()).await,
        }
    });
    // Without a service manager there is nobody to tell.
    let _ = sd_notify::notify(&[NotifyState::Ready]);

    let mut alive = working.alive;
    let mut settings = settings;
    let result = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(Exit::Stopped),
            _ = interrupt.recv() => break Ok(Exit::Stopped),
            () = reload_wanted(&mut hangup) => reload(&mut settings, configuration, &line, &shows, (&asked, &asked_for_pods)),
            _ = &mut alive => return Err(anyhow::anyhow!("the thread that counts has ended").into()),
        }
    };
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    stop.cancel();
    if serving.await.is_err() {
        tracing::error!("the exporter's port ended before it was asked to");
    }
    line.send(Message::Stop);
    // Whatever it is at: the books are good at every moment, and the journal is read on by the next run.
    let _ = timeout(LAST, alive).await;
    result
}

/// One line for each program, then where the page is.
fn say(programs: &[ProgramState], url: &str) {
    let mut out = anstream::stdout().lock();
    for program in programs {
        // Serving goes on without anybody to read this.
        let _ = match &program.problem {
            None => writeln!(out, "{} on {}: attached", program.program, program.target),
            Some(problem) => writeln!(out, "{} on {}: not attached: {problem}", program.program, program.target),
        };
    }
    let _ = writeln!(out, "listening on {url}");
    let _ = out.flush();
}

async fn tick(line: Line, devices: Devices) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let devices = devices.all().await;
        if !line.send(Message::Tick { devices }) {
            return;
        }
    }
}

/// While rules look at processes; one look after the other, however long it takes.
async fn look(line: Line, mut shown: watch::Receiver<Shows>) {
    while shown.wait_for(Shows::is_in_haste).await.is_ok() {
        sleep(LOOK).await;
        let (reply, done) = oneshot::channel();
        if !line.send(Message::Look { reply }) || done.await.is_err() {
            return;
        }
    }
}

/// The kernel wakes us when some part of the journal is full.
async fn drain(line: Line, journal: AsyncFd<std::os::fd::OwnedFd>) {
    while let Ok(mut readable) = journal.readable().await {
        readable.clear_ready();
        let (reply, done) = oneshot::channel();
        if !line.send(Message::Journal { reply }) || done.await.is_err() {
            return;
        }
    }
}

/// Never, once signals have ended.
async fn reload_wanted(hangup: &mut Signal) {
    if hangup.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// Takes a new configuration; a wrong one changes nothing.
fn reload(
    settings: &mut Settings,
    configuration: &Configuration,
    line: &Line,
    shows: &watch::Sender<Shows>,
    (asked, asked_for_pods): (&watch::Sender<Asked>, &watch::Sender<AskedForPods>),
) {
    let loaded = configuration.load().map(|effective| effective.settings).and_then(|fresh| {
        config::refuse_unavailable(&fresh)?;
        Ok((observed::services(&fresh)?, (jobs::asked(&fresh)?, pods::asked(&fresh)?), fresh))
    });
    let (services, (asks, asks_for_pods), fresh) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("the configuration stays as it was: {}", error.to_string().replace('\n', "; "));
            return;
        }
    };
    for (key, same) in [
        ("listen", fresh.listen == settings.listen),
        ("access", fresh.access == settings.access),
        ("scope", fresh.scope == settings.scope),
        ("pin_dir", fresh.pin_dir == settings.pin_dir),
        ("state_dir", fresh.state_dir == settings.state_dir),
        ("observe", fresh.observe == settings.observe),
        ("kernel", fresh.kernel == settings.kernel),
        ("log", fresh.log == settings.log),
    ] {
        if !same {
            tracing::warn!(key, "changed, but it takes a restart");
        }
    }
    shows.send_replace(Shows::of(&fresh));
    asked.send_replace(asks);
    asked_for_pods.send_replace(asks_for_pods);
    line.send(Message::Reconfigure { settings: Box::new(fresh.clone()), services });
    *settings = fresh;
    tracing::info!("took the new configuration");
}
