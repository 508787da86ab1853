//! The `endpoint` label and the cap on how many of them a service may have. How one is found is in `mod.rs`.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The value of the `endpoint` label: a route template, or one of the fixed names below.
///
/// Cloning costs at most a reference count. Equality, order and hash are those of the text.
#[derive(Clone)]
pub struct Endpoint(Text);

#[derive(Clone)]
enum Text {
    Fixed(&'static str),
    Shared(Arc<str>),
}

impl Endpoint {
    /// An undeclared path that the service answered with 404 or 405, or a target that is no path at all.
    pub const UNMATCHED: Self = Self(Text::Fixed("unmatched"));
    /// What a service's endpoints beyond its cap are booked under.
    pub const OTHER: Self = Self(Text::Fixed("other"));
    /// `OPTIONS *`, the server as a whole (RFC 9112 section 3.2.4).
    pub const ASTERISK: Self = Self(Text::Fixed("*"));
    /// Every `CONNECT`; its target is a host, not a path (RFC 9112 section 3.2.3).
    pub const CONNECT: Self = Self(Text::Fixed("connect"));

    /// A route template, as it was declared or guessed.
    pub fn template(text: impl Into<Arc<str>>) -> Self {
        Self(Text::Shared(text.into()))
    }

    /// The label value.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Fixed(text) => text,
            Text::Shared(text) => text,
        }
    }

    /// One of the four names that exist whatever the service serves; a template never equals one, since it begins with `/`.
    pub fn is_fixed(&self) -> bool {
        [Self::UNMATCHED, Self::OTHER, Self::ASTERISK, Self::CONNECT].contains(self)
    }
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Endpoint {}

impl PartialOrd for Endpoint {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Endpoint {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Endpoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl std::borrow::Borrow<str> for Endpoint {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// The cap on the distinct endpoints of one service: first come, first served, and who is in stays in.
///
/// Only templates take a place. The four fixed names are a closed set and are always let through. Memory: one entry of
/// about 60 bytes and the template's text (at most [`super::MAX_GUESS`] bytes if it was guessed) for each place.
#[derive(Debug, Clone)]
pub struct EndpointCap {
    limit: usize,
    admitted: HashSet<Endpoint>,
    in_order: Vec<Endpoint>,
    folded: u64,
}

impl EndpointCap {
    /// How many endpoints a service may have when nobody configured another number.
    pub const DEFAULT: usize = 200;

    /// A cap with all its `limit` places free.
    pub fn new(limit: usize) -> Self {
        Self { limit, admitted: HashSet::new(), in_order: Vec::new(), folded: 0 }
    }

    /// The cap of an earlier run, from the names that it had admitted, oldest first.
    ///
    /// All of them stay even if the limit has become smaller since: a series that exists is never folded later.
    pub fn restore<'a>(limit: usize, names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut cap = Self::new(limit);
        for name in names {
            let endpoint = Endpoint::template(name);
            if !endpoint.is_fixed() {
                cap.insert(&endpoint);
            }
        }
        cap
    }

    /// The endpoint to book under: the same one, or [`Endpoint::OTHER`] if it is new and no place is free.
    pub fn admit(&mut self, endpoint: &Endpoint) -> Endpoint {
        if endpoint.is_fixed() {
            return endpoint.clone();
        }
        // The one that is already kept is given back, so that the text of a guess does not live twice.
        if let Some(known) = self.admitted.get(endpoint) {
            return known.clone();
        }
        if self.in_order.len() >= self.limit {
            self.folded = self.folded.saturating_add(1);
            return Endpoint::OTHER;
        }
        self.insert(endpoint);
        endpoint.clone()
    }

    /// The templates that have a place, oldest first: what [`EndpointCap::restore`] wants back.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.in_order.iter().map(Endpoint::as_str)
    }

    /// How many times [`EndpointCap::admit`] answered [`Endpoint::OTHER`] for want of a place, since this value was made.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    fn insert(&mut self, endpoint: &Endpoint) {
        if self.admitted.insert(endpoint.clone()) {
            self.in_order.push(endpoint.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, EndpointCap};

    fn path(number: usize) -> Endpoint {
        Endpoint::template(format!("/word-{number}"))
    }

    #[test]
    fn the_first_come_stay_and_the_rest_is_other() {
        let mut cap = EndpointCap::new(3);
        let seen: Vec<String> = [0, 1, 0, 2, 3, 4, 2, 3].iter().map(|&n| cap.admit(&path(n)).to_string()).collect();
        assert_eq!(seen, ["/word-0", "/word-1", "/word-0", "/word-2", "other", "other", "/word-2", "other"]);
        assert_eq!(cap.folded(), 3);
        assert_eq!(cap.names().collect::<Vec<_>>(), ["/word-0", "/word-1", "/word-2"]);
    }

    #[test]
    fn fixed_names_take_no_place() {
        let mut cap = EndpointCap::new(0);
        for fixed in [Endpoint::UNMATCHED, Endpoint::OTHER, Endpoint::ASTERISK, Endpoint::CONNECT] {
            assert_eq!(cap.admit(&fixed), fixed);
        }
        assert_eq!((cap.folded(), cap.names().count()), (0, 0));
    }

    #[test]
    fn what_was_admitted_before_a_restart_stays_even_under_a_smaller_limit() {
        let mut cap = EndpointCap::restore(1, ["/a", "/b", "/a", "other"]);
        assert_eq!(cap.names().collect::<Vec<_>>(), ["/a", "/b"]);
        assert_eq!(cap.admit(&Endpoint::template("/b")).as_str(), "/b");
        assert_eq!(cap.admit(&Endpoint::template("/c")).as_str(), "other");
    }
}
