//! The APIs that the agent asks by itself: where each is, with which token, and whose certificate is believed. Who asks them
//! is `scheduler` and `kubernetes`.

use std::path::PathBuf;

use http::Uri;

use super::resolve::{Resolver, needs};
use super::{ConfigError, Input};

/// Access to an API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// The key of its URL, for messages.
    pub key: &'static str,
    /// Base of the API.
    pub url: Uri,
    /// Bearer token for it.
    pub token_file: Option<PathBuf>,
    /// Authorities that sign its certificate, or that itself.
    pub ca: Option<PathBuf>,
}

/// Where the pods of this node are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kubernetes {
    /// The API server's URL, or the kubelet's.
    pub api: Api,
    /// This node's name: the API server is asked for its pods. `None`: the kubelet is asked, which has no others.
    pub node: Option<String>,
}

/// Keys of one API, and how to get at them.
struct Keys {
    url: (&'static str, fn(&Input) -> Option<String>),
    token_file: (&'static str, fn(&Input) -> Option<PathBuf>),
    ca: (&'static str, fn(&Input) -> Option<PathBuf>),
    /// Who it is, in a hint.
    who: &'static str,
}

/// The scheduler's API.
pub(super) fn scheduler(resolver: &mut Resolver) -> Result<Option<Api>, ConfigError> {
    let keys = Keys {
        url: ("scheduler_api", |input| input.scheduler_api.clone()),
        token_file: ("scheduler_token_file", |input| input.scheduler_token_file.clone()),
        ca: ("scheduler_ca", |input| input.scheduler_ca.clone()),
        who: "the scheduler's",
    };
    api(resolver, &keys)
}

/// The list of pods.
pub(super) fn kubernetes(resolver: &mut Resolver) -> Result<Option<Kubernetes>, ConfigError> {
    let keys = Keys {
        url: ("kubernetes_pods", |input| input.kubernetes_pods.clone()),
        token_file: ("kubernetes_token_file", |input| input.kubernetes_token_file.clone()),
        ca: ("kubernetes_ca", |input| input.kubernetes_ca.clone()),
        who: "the kubelet's or the API server's",
    };
    let node = resolver.take("kubernetes_node", |input| input.kubernetes_node.clone());
    let api = api(resolver, &keys)?;
    let is_name = |name: &str| {
        let is_of_names = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
        (1..=253).contains(&name.len()) && name.bytes().all(is_of_names)
    };
    match (api, node) {
        (None, Some(given)) => Err(needs(&given, "kubernetes_pods")),
        // RFC 1123, as Kubernetes has it for names of nodes.
        (_, Some(given)) if !is_name(&given.value) => {
            Err(given.wrong("the name of a node: 1 to 253 of lower-case letters, digits, - and ."))
        }
        (None, None) => Ok(None),
        (Some(api), node) => Ok(Some(Kubernetes { api, node: node.map(|found| found.value) })),
    }
}

fn api(resolver: &mut Resolver, keys: &Keys) -> Result<Option<Api>, ConfigError> {
    let (key, get) = keys.url;
    let found = resolver.take(key, get);
    if let Some(found) = found.filter(|found| found.value.contains('?')) {
        return Err(found.wrong("a URL without a query, for the lists' paths to stand behind it"));
    }
    let url = resolver.url(key, get)?;
    let token = resolver.take(keys.token_file.0, keys.token_file.1);
    let ca = resolver.take(keys.ca.0, keys.ca.1);
    match (url, token, ca) {
        // Nobody is believed unasked: certificates of such APIs are mostly self-signed.
        (Some(url), _, None) if url.scheme_str() == Some("https") => {
            let place = resolver.take(key, get).map(|found| found.place).unwrap_or_default();
            Err(ConfigError::new(format!("{place} is an https URL without {}, wanted both", keys.ca.0)).hint(format!(
                "{} is {} own certificate, or its authority's; \
                 /etc/ssl/certs/ca-certificates.crt believes whom the system believes",
                keys.ca.0, keys.who
            )))
        }
        (Some(url), token, ca) => {
            let (token_file, ca) = (token.map(|found| found.value), ca.map(|found| found.value));
            Ok(Some(Api { key, url, token_file, ca }))
        }
        (None, Some(given), _) | (None, None, Some(given)) => Err(needs(&given, key)),
        (None, None, None) => Ok(None),
    }
}
