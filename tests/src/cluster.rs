//! A kubelet or an API server, as far as its list of pods goes: `PodList` of version v1, whole or page by page.

use std::ops::Deref;

use anyhow::Result;
use serde_json::{Value, json};

use crate::lists::{Content, Lists};
use crate::namespace::Namespace;

/// The pods.
#[derive(Debug, Default)]
pub struct Known {
    pods: Vec<Value>,
    /// Pods on a page; all if 0.
    on_a_page: usize,
    /// What was asked and answered.
    asked: Vec<String>,
}

/// What made a pod.
#[derive(Debug, Clone, Copy)]
pub enum Maker<'a> {
    /// A Job of that name.
    Job(&'a str),
    /// A ReplicaSet.
    ReplicaSet,
    /// Somebody who typed it.
    Nobody,
}

/// The running server.
#[derive(Debug)]
pub struct Cluster(Lists<Known>);

impl Deref for Cluster {
    type Target = Lists<Known>;

    fn deref(&self) -> &Lists<Known> {
        &self.0
    }
}

impl Cluster {
    /// Listens in `namespace` at `address`, without pods.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(namespace: &Namespace, address: &str) -> Result<Self> {
        Lists::start(namespace, address, Known::default()).map(Self)
    }

    /// Its base.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// From now on it gives so many pods on a page.
    pub fn set_page(&self, pods: usize) {
        self.with(|known| known.on_a_page = pods);
    }

    /// Puts a pod on the list, in the namespace `batch`.
    pub fn add(&self, uid: &str, name: &str, maker: Maker<'_>) {
        let node = json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1"});
        let owners = match maker {
            Maker::Job(job) => {
                json!([node, {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": "2", "controller": true}])
            }
            Maker::ReplicaSet => {
                json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "3", "controller": true}])
            }
            Maker::Nobody => Value::Null,
        };
        let metadata = json!({"name": name, "namespace": "batch", "uid": uid, "ownerReferences": owners,
            "creationTimestamp": "2026-11-21T18:00:00Z", "labels": {"uid": "not this"}});
        let pod = json!({"metadata": metadata, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        self.with(|known| known.pods.push(pod));
    }

    /// Puts something on the list.
    pub fn put(&self, item: Value) {
        self.with(|known| known.pods.push(item));
    }

    /// How often a list was given, pages counted each.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.with(|known| known.asked.clone())
    }
}

/// What `continue` is: nothing that could stand in a URL as it is.
const TOKEN: &str = "a+b/c=&d ";
const ENCODED: &str = "&continue=a%2Bb%2Fc%3D%26d+";

impl Content for Known {
    fn is_list(&self, asked: &str) -> bool {
        asked == "GET /pods" || asked.starts_with("GET /api/v1/pods?")
    }

    fn list(&mut self, asked: &str) -> Vec<u8> {
        self.asked.push(asked.to_owned());
        let from: usize = asked.split_once(ENCODED).and_then(|(_, from)| from.parse().ok()).unwrap_or(0);
        let count = if self.on_a_page == 0 { self.pods.len() } else { self.on_a_page };
        let page: Vec<Value> = self.pods.iter().skip(from).take(count).cloned().collect();
        let end = from + page.len();
        let next = if end < self.pods.len() { json!({"continue": format!("{TOKEN}{end}")}) } else { json!({}) };
        // Go writes a list that was never made as null.
        let items = if page.is_empty() { Value::Null } else { Value::Array(page) };
        format!("{}\n", json!({"kind": "PodList", "apiVersion": "v1", "metadata": next, "items": items})).into_bytes()
    }
}
