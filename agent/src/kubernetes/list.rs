//! A page of the list of pods: of each pod its uid, name and namespace, and which Job owns it. Which fields there are is
//! Kubernetes' API (`PodList`, `ObjectMeta` and `OwnerReference`, version v1). How a part of it may be wrong is `shape`'s.

use std::io::{BufReader, Read};

use serde::Deserialize as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess};

use super::shape::{Part, Shape, Wrong};
use crate::api::{Broken, Cut};
use crate::snapshot::PodName;

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Pods by uid. Those that say something else than they should are not among them.
    pub pods: Vec<(String, PodName)>,
    /// By what the next page is asked for; `None`: this is the last.
    pub next: Option<String>,
}

/// Reads a page; of its pods no more than `most`.
///
/// # Errors
/// When it is none or breaks off.
pub fn page(from: impl Read, most: usize) -> Result<Page, Broken> {
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(64 << 10, Cut::new(from)));
    let list: Part<List> = Part::deserialize(&mut json)?;
    json.end()?;
    let missing = || serde_json::Error::custom("no list of items");
    let Part::Is(List { mut items, next }) = list else {
        return Err(missing().into());
    };
    items.truncate(most);
    Ok(Page { pods: items, next: next.filter(|next| !next.is_empty()) })
}

/// The whole of it.
struct List {
    items: Vec<(String, PodName)>,
    next: Option<String>,
}

impl Shape for List {
    fn object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let (mut items, mut next) = (None, None);
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                // Go writes a list that was never made as null.
                "items" => {
                    let found: Part<Items> = object.next_value()?;
                    items = found.get().ok().map(|found| found.unwrap_or_default().0);
                }
                "metadata" => match object.next_value::<Part<Continue>>()? {
                    Part::Is(Continue(found)) => next = found,
                    Part::Absent => {}
                    // There may be more, and nobody can ask for it.
                    Part::Wrong => return Ok(None),
                },
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(items.map(|items| Self { items, next }))
    }
}

/// `metadata` of the list.
struct Continue(Option<String>);

impl Shape for Continue {
    fn object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut next = Part::Absent;
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "continue" => next = object.next_value()?,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(next.get().ok().map(Self))
    }
}

/// `items`.
#[derive(Default)]
struct Items(Vec<(String, PodName)>);

impl Shape for Items {
    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut items = Self::default();
        while let Some(item) = list.next_element::<Part<Item>>()? {
            if let Part::Is(Item(Some(pod))) = item {
                items.0.push(pod);
            }
        }
        Ok(Some(items))
    }
}

/// A pod, if it says what it should.
struct Item(Option<(String, PodName)>);

impl Shape for Item {
    fn object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut metadata: Part<Metadata> = Part::Absent;
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "metadata" => metadata = object.next_value()?,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        let pod = metadata.get().ok().flatten().and_then(|metadata| metadata.pod().ok().flatten());
        Ok(Some(Self(pod)))
    }
}

/// `metadata` of a pod.
#[derive(Default)]
struct Metadata {
    uid: Part<String>,
    name: Part<String>,
    namespace: Part<String>,
    owners: Part<Owners>,
}

impl Shape for Metadata {
    fn object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut found = Self::default();
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "uid" => found.uid = object.next_value()?,
                "name" => found.name = object.next_value()?,
                "namespace" => found.namespace = object.next_value()?,
                "ownerReferences" => found.owners = object.next_value()?,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(found))
    }
}

impl Metadata {
    /// `None` if something is missing that a pod has.
    fn pod(self) -> Result<Option<(String, PodName)>, Wrong> {
        let text = |part: Part<String>| Ok(part.get()?.filter(|text| !text.is_empty()));
        let (uid, name, namespace) = (text(self.uid)?, text(self.name)?, text(self.namespace)?);
        let job = self.owners.get()?.and_then(|owners| owners.0);
        let (Some(uid), Some(name), Some(namespace)) = (uid, name, namespace) else {
            return Ok(None);
        };
        Ok(Some((uid, PodName { namespace, name, came: None, is_listed: true, job })))
    }
}

/// `ownerReferences`, of which at most one is the controller's: the name of the Job, if that is one.
struct Owners(Option<String>);

impl Shape for Owners {
    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let (mut job, mut is_wrong) = (None, false);
        while let Some(owner) = list.next_element::<Part<Reference>>()? {
            match owner.get().and_then(|owner| owner.map_or(Ok(None), Reference::job)) {
                Ok(found) => job = job.or(found),
                Err(Wrong) => is_wrong = true,
            }
        }
        Ok((!is_wrong).then_some(Self(job)))
    }
}

/// One of them.
#[derive(Default)]
struct Reference {
    api_version: Part<String>,
    kind: Part<String>,
    name: Part<String>,
    controller: Part<bool>,
}

impl Shape for Reference {
    fn object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        let mut found = Self::default();
        while let Some(key) = object.next_key::<String>()? {
            match key.as_str() {
                "apiVersion" => found.api_version = object.next_value()?,
                "kind" => found.kind = object.next_value()?,
                "name" => found.name = object.next_value()?,
                "controller" => found.controller = object.next_value()?,
                _ => drop(object.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(found))
    }
}

impl Reference {
    fn job(self) -> Result<Option<String>, Wrong> {
        let controls = self.controller.get()?.unwrap_or(false);
        let (version, kind) = (self.api_version.get()?.unwrap_or_default(), self.kind.get()?.unwrap_or_default());
        let name = self.name.get()?.filter(|name| !name.is_empty());
        // Other APIs have things called Job too.
        Ok(name.filter(|_| controls && kind == "Job" && version.starts_with("batch/")))
    }
}

#[cfg(test)]
mod tests;
