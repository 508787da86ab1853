//! A page of the list of pods: of each pod its uid, name and namespace, and which Job owns it. Which fields there are is
//! Kubernetes' API (`PodList`, `ObjectMeta` and `OwnerReference`, version v1). How a part of it may be wrong is `api::Part`'s.

use std::io::{BufReader, Read};

use serde::Deserialize as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, SeqAccess};

use super::listed::MOST;
use crate::api::{Broken, Cut, Part, Shape, Wrong};
use crate::snapshot::PodName;

/// Bytes of a name: Kubernetes gives no longer one (`DNS1123SubdomainMaxLength` in its apimachinery's `validation.go`). Its
/// uids have 36.
const LONGEST: usize = 253;

/// A page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Pods by uid. Those that say something else than they should are not among them.
    pub pods: Vec<(String, PodName)>,
    /// How many those are.
    pub wrong: u64,
    /// Pods behind the most that are kept.
    pub beyond: u64,
    /// By what the next page is asked for; `None`: this is the last.
    pub next: Option<String>,
}

/// Reads a page.
///
/// # Errors
/// When it is none or breaks off.
pub fn page(from: impl Read) -> Result<Page, Broken> {
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(64 << 10, Cut::new(from)));
    let list: Part<List> = Part::deserialize(&mut json)?;
    json.end()?;
    let missing = || serde_json::Error::custom("no list of items");
    let Part::Is(List { items: Items { pods, wrong, beyond }, next }) = list else {
        return Err(missing().into());
    };
    Ok(Page { pods, wrong, beyond, next: next.filter(|next| !next.is_empty()) })
}

/// The whole of it.
struct List {
    items: Items,
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
                    items = found.get().ok().map(Option::unwrap_or_default);
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
struct Items {
    pods: Vec<(String, PodName)>,
    wrong: u64,
    beyond: u64,
}

impl Shape for Items {
    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let mut items = Self::default();
        while let Some(item) = list.next_element::<Part<Item>>()? {
            match item {
                Part::Is(Item(Some(pod))) if items.pods.len() < MOST => items.pods.push(pod),
                Part::Is(Item(Some(_))) => items.beyond += 1,
                _ => items.wrong += 1,
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
        let (uid, name, namespace) = (name(self.uid)?, name(self.name)?, name(self.namespace)?);
        let job = self.owners.get()?.and_then(|owners| owners.0);
        let (Some(uid), Some(name), Some(namespace)) = (uid, name, namespace) else {
            return Ok(None);
        };
        Ok(Some((uid, PodName { namespace, name, came: None, is_listed: true, job })))
    }
}

/// A name; `None` if it is empty. It is wrong if Kubernetes gives no such: every name of an object is part of a path
/// (`IsValidPathSegmentName` in its apimachinery), and of characters that can be seen.
fn name(part: Part<String>) -> Result<Option<String>, Wrong> {
    let Some(text) = part.get()?.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let is_of_names = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'%' | b'"' | b'\\');
    let is_name = text.len() <= LONGEST && text.bytes().all(is_of_names) && text != "." && text != "..";
    if is_name { Ok(Some(text)) } else { Err(Wrong) }
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
        let name = name(self.name)?;
        // Other APIs have things called Job too.
        Ok(name.filter(|_| controls && kind == "Job" && version.starts_with("batch/")))
    }
}

#[cfg(test)]
mod tests;
