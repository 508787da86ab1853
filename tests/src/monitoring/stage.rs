//! Everything that the proof stands on, started in the right order: two namespaces with a tunnel between them, the
//! scheduler, stand-ins, the agent, the back-ends and the load.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tempfile::TempDir;

use super::stand_in::{Fleet, StandIn, llm_node, manager};
use crate::namespace::Namespace;
use crate::scheduler::Scheduler;
use crate::tunnel::Tunnel;

/// Where the fleet manager's stand-in listens.
pub const MANAGER: &str = "127.0.0.1:8000";
/// Where the LLM node's stand-in listens.
pub const LLM_NODE: &str = "127.0.0.1:9101";
/// What the agent is told of the two services: routes, so that no id is an endpoint; and that one is an LLM node, of which the
/// agent says what the host knows and merges what only the process does.
const SERVICES: &str = r#"scheduler_api = "http://127.0.0.1:8080"

[service.scheduler]
ports = [8080]
routes = "scheduler.routes"

[service.llm]
ports = [9101]
distributed_llm = true
upstream = "http://127.0.0.1:9101/metrics"
"#;
/// The scheduler's.
const ROUTES: &str = "GET /jobs
POST /jobs
GET /jobs/next
GET /jobs/{id}
GET /nodes
POST /nodes/{id}/heartbeat
POST /results
";

/// Namespaces, services and stand-ins. Agent, back-ends and load are the test's, because they borrow this.
#[derive(Debug)]
pub struct Stage {
    /// Where everything runs.
    pub here: Arc<Namespace>,
    /// The other end of the tunnel.
    pub there: Arc<Namespace>,
    /// The observed service, which has an API.
    pub scheduler: Arc<Scheduler>,
    /// What the fleet manager says.
    pub fleet: Arc<Mutex<Fleet>>,
    manager: Mutex<Option<StandIn>>,
    tunnel: Tunnel,
    files: TempDir,
}

impl Stage {
    /// Sets it up.
    ///
    /// # Errors
    /// When something does not start.
    pub fn new() -> Result<Self> {
        let (here, there) = (Arc::new(Namespace::new()?), Arc::new(Namespace::new()?));
        here.connect(&there)?;
        let tunnel = Tunnel::start(&here, &there)?;
        let scheduler = Arc::new(Scheduler::start(&here, "127.0.0.1:8080")?);
        let fleet = Arc::<Mutex<Fleet>>::default();
        let manager = StandIn::start(&here, MANAGER, manager(Arc::clone(&fleet)))?;
        Ok(Self {
            here,
            there,
            scheduler,
            fleet,
            manager: Mutex::new(Some(manager)),
            tunnel,
            files: tempfile::tempdir()?,
        })
    }

    /// The agent's configuration, with these tables besides.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configuration(&self, besides: &str) -> Result<String> {
        let (file, routes) = (self.files.path().join("sockmeter.toml"), self.files.path().join("scheduler.routes"));
        fs::write(&routes, ROUTES)?;
        let services = SERVICES.replace("scheduler.routes", &routes.to_string_lossy());
        let peers = format!("[wireguard.peers]\n{:?} = \"far\"\n", self.tunnel.public_key(1));
        fs::write(&file, [services.as_str(), &peers, besides].join("\n"))?;
        Ok(file.to_string_lossy().into_owned())
    }

    /// Starts the exporter that the agent merges.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn llm_node(&self) -> Result<StandIn> {
        StandIn::start(&self.here, LLM_NODE, llm_node())
    }

    /// Ends the fleet manager.
    pub fn stop_manager(&self) {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Starts it again.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn start_manager(&self) -> Result<()> {
        let manager = StandIn::start(&self.here, MANAGER, manager(Arc::clone(&self.fleet)))?;
        *self.manager.lock().unwrap_or_else(PoisonError::into_inner) = Some(manager);
        Ok(())
    }

    /// Changes what the fleet manager says.
    pub fn change_fleet(&self, change: impl FnOnce(&mut Fleet)) {
        change(&mut self.fleet.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
