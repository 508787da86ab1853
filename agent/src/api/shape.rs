//! JSON of which a part may be something else than it should: that part is then wrong, and what is around it is still read.
//! What the parts mean is for those who ask.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// What a part is.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Part<T> {
    /// Not there, or `null`.
    #[default]
    Absent,
    /// What it should be.
    Is(T),
    /// Something else.
    Wrong,
}

impl<T> Part<T> {
    /// The value; `None` if it is not there.
    ///
    /// # Errors
    /// When it is something else.
    pub fn get(self) -> Result<Option<T>, Wrong> {
        match self {
            Self::Absent => Ok(None),
            Self::Is(value) => Ok(Some(value)),
            Self::Wrong => Err(Wrong),
        }
    }
}

/// A part is not what it should be.
#[derive(Debug)]
pub struct Wrong;

/// What a part should be; each of these is refused unless it is taken.
pub trait Shape: Sized {
    /// Takes a text.
    #[must_use]
    fn text(_: &str) -> Option<Self> {
        None
    }

    /// Takes `true` or `false`.
    #[must_use]
    fn truth(_: bool) -> Option<Self> {
        None
    }

    /// Takes a list, to its end.
    ///
    /// # Errors
    /// When the text breaks off or is no JSON.
    fn list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// Takes an object, to its end.
    ///
    /// # Errors
    /// When the text breaks off or is no JSON.
    fn object<'de, A: MapAccess<'de>>(mut object: A) -> Result<Option<Self>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

impl Shape for String {
    fn text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Shape for bool {
    fn truth(truth: bool) -> Option<Self> {
        Some(truth)
    }
}

impl<'de, T: Shape> Deserialize<'de> for Part<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Shaped(PhantomData))
    }
}

struct Shaped<T>(PhantomData<T>);

fn part<T>(found: Option<T>) -> Part<T> {
    found.map_or(Part::Wrong, Part::Is)
}

impl<'de, T: Shape> Visitor<'de> for Shaped<T> {
    type Value = Part<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Part<T>, E> {
        Ok(Part::Absent)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Part<T>, E> {
        Ok(part(T::truth(truth)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Part<T>, E> {
        Ok(Part::Wrong)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Part<T>, E> {
        Ok(Part::Wrong)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Part<T>, E> {
        Ok(Part::Wrong)
    }

    fn visit_str<E>(self, text: &str) -> Result<Part<T>, E> {
        Ok(part(T::text(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Part<T>, A::Error> {
        T::list(list).map(part)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Part<T>, A::Error> {
        T::object(object).map(part)
    }
}
