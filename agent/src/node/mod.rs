//! The host that the agent runs on, as a worker node of the scheduler: load, memory, job cgroups, NVIDIA devices; and as a
//! node of a distributed LLM. What is
//! made of the readings is `model::node`'s; the agent's own process is in `host`.

mod cgroups;
mod gpu;
mod llm;
mod proc;

use std::path::Path;

pub use self::gpu::Gpus;
pub use self::llm::Listener;
use crate::snapshot::Node;

/// Reads what there is to know now; what cannot be read is `None`. `id`: what the node is called, if not by its host's name.
#[must_use]
pub fn read(gpus: &Gpus, id: Option<&str>) -> Node {
    let proc = Path::new("/proc");
    Node {
        name: id.map_or_else(|| proc::host_name(proc), str::to_owned),
        cpu: proc::cpu(proc),
        memory_used: proc::memory_used(proc),
        uptime: proc::uptime(proc),
        jobs: cgroups::jobs(proc),
        gpus: gpus.read(),
    }
}
