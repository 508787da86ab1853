//! Stand-ins for exporters that are not ours: the fleet manager, and the process of a distributed LLM node. Their pages
//! are what the contract says of them, with counters that go on from scrape to scrape.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use nix::sys::socket::{Shutdown, shutdown};

use crate::namespace::Namespace;

/// A page that is made anew for each scrape, from the number of the scrape.
type Page = Box<dyn Fn(u64) -> String + Send>;

/// A running exporter; it answers every request with its page, and ends when this is dropped.
#[derive(Debug)]
pub struct StandIn {
    listener: Arc<TcpListener>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl StandIn {
    /// Listens in `namespace` at `address`.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(namespace: &Namespace, address: &str, page: Page) -> Result<Self> {
        let listener = Arc::new(namespace.enter(|| Ok(TcpListener::bind(address)?))?);
        let stopping = Arc::<AtomicBool>::default();
        let (ours, end) = (Arc::clone(&listener), Arc::clone(&stopping));
        let thread = std::thread::spawn(move || {
            for number in 1.. {
                let Ok((mut stream, _)) = ours.accept() else { break };
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 4096]);
                let body = page(number);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
                let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            }
        });
        Ok(Self { listener, stopping, thread: Some(thread) })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the fleet manager says of its fleet.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Seconds since the client `laptop` checked in.
    pub client_silent: u32,
    /// Seconds since the headend `fra-1` checked in.
    pub headend_silent: u32,
    /// Percent of the headend's processors.
    pub headend_busy: u32,
}

impl Default for Fleet {
    fn default() -> Self {
        Self { client_silent: 5, headend_silent: 5, headend_busy: 20 }
    }
}

/// The manager's page, of a fleet that the test changes.
#[must_use]
pub fn manager(fleet: Arc<Mutex<Fleet>>) -> Page {
    Box::new(move |number| {
        let fleet = fleet.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut page = String::new();
        let laptop = r#"client_id="c-17",name="laptop",type="client_native",headless="false""#;
        let docker = r#"client_id="c-18",name="runner",type="client_docker",headless="true""#;
        let headend = r#"headend_id="h-1",name="fra-1",region="eu",datacenter="fra""#;
        for (family, step) in
            [("bytes_sent", 9_000), ("bytes_received", 70_000), ("packets_sent", 40), ("packets_received", 60)]
        {
            for labels in [laptop, docker] {
                let _ = writeln!(page, "tobogganing_client_{family}{{{labels}}} {}", number * step);
            }
        }
        for (labels, silent) in [(laptop, fleet.client_silent), (docker, 3)] {
            let then = now.saturating_sub(u64::from(silent));
            let _ = writeln!(page, "tobogganing_client_last_check_in_timestamp{{{labels}}} {then}");
        }
        let then = now.saturating_sub(u64::from(fleet.headend_silent));
        for (family, value) in [
            ("active_connections", 2),
            ("bandwidth_in_bytes", number * 79_000),
            ("bandwidth_out_bytes", number * 18_000),
            ("cpu_usage_percent", u64::from(fleet.headend_busy)),
            ("memory_usage_bytes", 734_003_200),
            ("last_check_in_timestamp", then),
        ] {
            let _ = writeln!(page, "tobogganing_headend_{family}{{{headend}}} {value}");
        }
        page.push_str("tobogganing_manager_clusters_total 1\ntobogganing_manager_clients_total 2\n");
        page
    })
}

/// The page of an LLM node's own exporter, but for what the agent says of the node itself.
#[must_use]
pub fn llm_node() -> Page {
    Box::new(|number| {
        let mut page = String::new();
        for (series, value) in [
            ("health_checks_total{status=\"ok\"}", number),
            ("network_messages_total{direction=\"sent\",message_type=\"forward\"}", number * 12),
            ("network_messages_total{direction=\"received\",message_type=\"forward\"}", number * 11),
            ("inference_requests_total{status=\"success\"}", number * 2),
            ("layers_allocated", 24),
            ("inference_tokens_total", number * 90),
        ] {
            let _ = writeln!(page, "distributed_llm_{series} {value}");
        }
        for (family, step) in [("network_latency", 3), ("inference_latency", 2)] {
            let _ = writeln!(page, "# TYPE distributed_llm_{family}_seconds histogram");
            for (le, share) in [("0.01", 1), ("0.1", 2), ("1", step), ("+Inf", step)] {
                let count = number * share.min(step);
                let _ = writeln!(page, "distributed_llm_{family}_seconds_bucket{{le=\"{le}\"}} {count}");
            }
            let count = number * step;
            let _ = writeln!(page, "distributed_llm_{family}_seconds_sum {count}");
            let _ = writeln!(page, "distributed_llm_{family}_seconds_count {count}");
        }
        page
    })
}
