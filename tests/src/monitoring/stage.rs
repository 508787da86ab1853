//! Everything that the proof stands on, started in the right order: two namespaces with a tunnel between them, the
//! scheduler, stand-ins, the agent, the back-ends and the load.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;

use super::stand_in::{Fleet, StandIn, llm_node, manager};
use crate::namespace::Namespace;
use crate::scheduler::Scheduler;
use crate::tunnel::Tunnel;

/// Where the fleet manager's stand-in listens.
pub const MANAGER: &str = "127.0.0.1:8000";
/// Where the LLM node's stand-in listens.
pub const LLM_NODE: &str = "127.0.0.1:9101";
/// What the agent is told of the scheduler, and of the exporter that it is to merge.
pub const AGENT: [&str; 4] =
    ["--scheduler-api", "http://127.0.0.1:8080", "--upstream", "llm=http://127.0.0.1:9101/metrics"];

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
    _manager: StandIn,
    _tunnel: Tunnel,
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
        Ok(Self { here, there, scheduler, fleet, _manager: manager, _tunnel: tunnel })
    }

    /// Starts the exporter that the agent merges.
    ///
    /// # Errors
    /// When its address is taken.
    pub fn llm_node(&self) -> Result<StandIn> {
        StandIn::start(&self.here, LLM_NODE, llm_node())
    }

    /// Changes what the fleet manager says.
    pub fn change_fleet(&self, change: impl FnOnce(&mut Fleet)) {
        change(&mut self.fleet.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
