//! Who may import whom in the agent: one direction, from the kernel's maps to the page. How imports are found is in
//! `imports`.

/// A module of the agent, and what it may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Module {
    pub(super) name: &'static str,
    /// Modules of the agent that it may import.
    pub(super) imports: &'static [&'static str],
    pub(super) kind: Kind,
}

/// Where a module stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Values in, values out: tested without privileges.
    Stage,
    /// Touches the outside world.
    Rim,
    /// Puts all of it together.
    Whole,
}

/// The modules, the stages in the order in which values pass through them.
pub(super) const MODULES: [Module; 17] = [
    stage("snapshot", &[]),
    stage("route", &[]),
    stage("owner", &[]),
    stage("attribution", &["snapshot", "route"]),
    stage("model", &["snapshot", "route", "owner", "attribution"]),
    stage("exposition", &["snapshot", "route", "owner", "attribution", "model"]),
    rim("config", &[]),
    rim("cli", &["config"]),
    rim("http", &["config"]),
    rim("kernel", &["snapshot", "model", "config"]),
    rim("host", &["snapshot", "attribution", "config"]),
    rim("node", &["snapshot"]),
    rim("upstream", &["exposition", "config"]),
    rim("api", &["config"]),
    rim("scheduler", &["api", "model", "config"]),
    rim("kubernetes", &["api", "snapshot", "config"]),
    Module { name: "pipeline", imports: &[], kind: Kind::Whole },
];

/// Outside crates that only some modules may know. What is not here is free for all.
pub(super) const CRATES: [(&str, &[&str]); 19] = [
    ("caps", &["host"]),
    ("rustix", &["kernel"]),
    ("aya", &["kernel"]),
    ("aya_log", &["kernel"]),
    ("aya_obj", &["kernel"]),
    ("nix", &["kernel", "host"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("hyper", &["http", "upstream", "api"]),
    ("hyper_util", &["http", "upstream", "api"]),
    ("http_body_util", &["http", "upstream", "api"]),
    ("rustls", &["http", "upstream", "api"]),
    ("tokio_rustls", &["http", "upstream", "api"]),
    ("toml", &["config"]),
    ("tokio", &["http", "upstream", "api", "scheduler", "kubernetes", "kernel", "host"]),
    ("nvml_wrapper", &["node"]),
    ("ring", &["http", "api", "scheduler"]),
    ("time", &["scheduler"]),
];

/// What no stage may touch in the standard library. Addresses are values and stay allowed.
pub(super) const OUTSIDE: [&str; 8] = [
    "std::fs",
    "std::process",
    "std::env",
    "std::os",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
];

/// Time is a value that comes in: no stage looks at a clock.
pub(super) const CLOCKS: [&str; 2] = ["Instant::now", "SystemTime::now"];

const fn stage(name: &'static str, imports: &'static [&'static str]) -> Module {
    Module { name, imports, kind: Kind::Stage }
}

const fn rim(name: &'static str, imports: &'static [&'static str]) -> Module {
    Module { name, imports, kind: Kind::Rim }
}
