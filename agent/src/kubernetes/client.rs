//! One poll: all pages of the list, one after the other. How it is connected is `api`'s, how a page is read is in `list`.

use std::collections::BTreeSet;

use tokio::time::timeout;

use super::list;
use super::listed::{Gathered, Listed};
use crate::api::{self, Own, PollError, WHOLE};
use crate::config::{ConfigError, Kubernetes};

/// The kubelet's list (`pkg/kubelet/server/server.go`, `getPods`), and the API server's.
const OF_KUBELET: &str = "/pods";
const OF_SERVER: &str = "/api/v1/pods";
/// Pods on a page, as kubectl asks for them.
const ON_A_PAGE: u32 = 500;
/// Pages of a list, so that an API which goes on for ever is given up.
const MOST_PAGES: usize = 100;

/// How to reach the list.
#[derive(Debug, Clone)]
pub struct Access {
    api: api::Access,
    node: Option<String>,
}

impl Access {
    /// Reads the token and the certificates.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it should, or the URL cannot be asked.
    pub fn new(settings: &Kubernetes) -> Result<Self, ConfigError> {
        Ok(Self { api: api::Access::new(&settings.api)?, node: settings.node.clone() })
    }

    /// The same with token and certificates as their files are now.
    ///
    /// # Errors
    /// As `new`.
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        Ok(Self { api: self.api.read_again()?, node: self.node.clone() })
    }

    /// Asks for all pods.
    ///
    /// # Errors
    /// When one page did not come whole, in time: half a list says nothing of those that are not on it.
    pub async fn poll(&self, own: &mut dyn Own) -> Result<Listed, PollError> {
        timeout(WHOLE, self.pages(own)).await.unwrap_or(Err(PollError::Time))
    }

    async fn pages(&self, own: &mut dyn Own) -> Result<Listed, PollError> {
        let mut conversation = self.api.connect(own).await?;
        let mut answer = conversation.ask(&self.target(None)).await?;
        let (mut all, mut pages) = (Gathered::default(), BTreeSet::new());
        while pages.len() < MOST_PAGES {
            let mut page = conversation.take(answer, list::page).await?;
            let next = page.next.take();
            all.add(page);
            let Some(next) = next else {
                return Ok(all.end());
            };
            // The kubelet has one page: asked again it would give the same. So would a server that goes round in circles.
            if self.node.is_none() || !pages.insert(next.clone()) {
                break;
            }
            answer = conversation.ask_next(&self.target(Some(&next))).await?;
        }
        let path = if self.node.is_some() { OF_SERVER } else { OF_KUBELET };
        Err(PollError::Endless(path.to_owned()))
    }

    fn target(&self, next: Option<&str>) -> String {
        let Some(node) = &self.node else {
            return OF_KUBELET.to_owned();
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("fieldSelector", &format!("spec.nodeName={node}"));
        query.append_pair("limit", &ON_A_PAGE.to_string());
        if let Some(next) = next {
            query.append_pair("continue", next);
        }
        format!("{OF_SERVER}?{}", query.finish())
    }
}
