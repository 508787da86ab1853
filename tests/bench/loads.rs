//! The loads under which programs are measured, and what is aimed at there. Whose programs, `programs` and `floor` say.

use std::time::Duration;

use anyhow::Result;

use crate::http::{Connections, wrk};
use crate::load;
use crate::stage::{OBSERVED, Stage, UNOBSERVED};

/// What runs while programs are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Load {
    KeptUnobserved,
    KeptObserved,
    BodiesObserved,
    LongBodiesObserved,
    FreshUnobserved,
    FreshObserved,
    Clients,
    Datagrams,
    NothingWanted,
}

impl Load {
    pub(crate) const ALL: [Self; 9] = [
        Self::KeptUnobserved,
        Self::KeptObserved,
        Self::BodiesObserved,
        Self::LongBodiesObserved,
        Self::FreshUnobserved,
        Self::FreshObserved,
        Self::Clients,
        Self::Datagrams,
        Self::NothingWanted,
    ];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::KeptUnobserved => "not observed: keep-alive, 612-byte answers",
            Self::KeptObserved => "observed: keep-alive, 612-byte answers",
            Self::BodiesObserved => "observed: keep-alive, 1 MiB answers",
            Self::LongBodiesObserved => "observed: keep-alive, 64 MiB answers",
            Self::FreshUnobserved => "not observed: a connection per request",
            Self::FreshObserved => "observed: a connection per request",
            Self::Clients => "not observed: a connection per request, clients in scope too",
            Self::Datagrams => "UDP: datagrams of 1,400 bytes, sender in scope",
            Self::NothingWanted => "neither services nor UDP wanted: keep-alive, 612-byte answers",
        }
    }

    /// Nanoseconds that are aimed at, of a packet of a socket.
    pub(crate) fn wanted_of_packets(self) -> Option<f64> {
        match self {
            Self::KeptUnobserved | Self::FreshUnobserved | Self::Clients => Some(50.0),
            Self::KeptObserved | Self::BodiesObserved | Self::LongBodiesObserved | Self::FreshObserved => Some(100.0),
            Self::Datagrams | Self::NothingWanted => None,
        }
    }

    /// The same of a packet of an interface.
    pub(crate) fn wanted_of_interfaces(self) -> Option<f64> {
        match self {
            Self::KeptUnobserved | Self::LongBodiesObserved | Self::FreshUnobserved | Self::Datagrams => Some(20.0),
            Self::KeptObserved | Self::BodiesObserved | Self::FreshObserved | Self::Clients | Self::NothingWanted => {
                None
            }
        }
    }

    /// Lets it run; how many requests were answered, where wrk counts them.
    pub(crate) fn run(self, stage: &Stage, seconds: u32) -> Result<u64> {
        let wrk = |connections, port, path| wrk(stage, connections, port, path, seconds).map(|counted| counted.answers);
        match self {
            Self::KeptUnobserved | Self::NothingWanted => wrk(Connections::Kept, UNOBSERVED, "/small.txt"),
            Self::KeptObserved => wrk(Connections::Kept, OBSERVED, "/small.txt"),
            Self::BodiesObserved => wrk(Connections::Kept, OBSERVED, "/big.bin"),
            Self::LongBodiesObserved => wrk(Connections::Kept, OBSERVED, "/long.bin"),
            Self::FreshUnobserved => wrk(Connections::Fresh, UNOBSERVED, "/small.txt"),
            Self::FreshObserved => wrk(Connections::Fresh, OBSERVED, "/small.txt"),
            Self::Clients => {
                let mut command = stage.group.command(&stage.here, "wrk");
                command.args(["-t1", "-c64", &format!("-d{seconds}s"), "-H", "Connection: close"]);
                command.arg(format!("http://127.0.0.1:{UNOBSERVED}/small.txt"));
                load::output(&mut command, Duration::from_secs(u64::from(seconds) + 20)).map(|_| 0)
            }
            Self::Datagrams => {
                let mut command = stage.group.command(&stage.here, &std::env::current_exe()?.to_string_lossy());
                command.args(["send", &seconds.to_string(), "1400"]);
                load::output(&mut command, Duration::from_secs(u64::from(seconds) + 20)).map(|_| 0)
            }
        }
    }
}
