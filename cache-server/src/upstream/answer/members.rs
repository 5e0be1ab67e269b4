//! JSON members as the examinations want them: lists within a bound, figures read
//! leniently, and objects that are really objects.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, Visitor};
use serde::de::{MapAccess, SeqAccess};

use super::PARTS_MAX;

/// Reads a JSON object that fills the whole text; `None` when it is anything else.
pub(super) fn object<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str::<Object<T>>(text).ok().map(|Object(members)| members)
}

/// A value that is written as an object: serde by itself would also take an array for a
/// struct, by position.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// The members of an event that say what it is.
#[derive(serde::Deserialize, Default)]
#[serde(default)]
pub(super) struct EventKind {
    #[serde(rename = "type")]
    pub(super) name: String,
    pub(super) error: Option<IgnoredAny>,
}

/// The first [`PARTS_MAX`] members of a list; `null` is an empty list.
pub(super) struct Few<T> {
    pub(super) members: Vec<T>,
    /// The list had more than were kept.
    pub(super) overflowed: bool,
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self { members: Vec::new(), overflowed: false }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Few<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FewVisitor(PhantomData))
    }
}

struct FewVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for FewVisitor<T> {
    type Value = Few<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list or null")
    }

    fn visit_unit<E>(self) -> Result<Few<T>, E> {
        Ok(Few::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Few<T>, A::Error> {
        let mut few = Few::default();
        while few.members.len() < PARTS_MAX {
            let Some(member) = list.next_element()? else { return Ok(few) };
            few.members.push(member);
        }
        // The rest is still read, so that its syntax counts, but not kept.
        while list.next_element::<IgnoredAny>()?.is_some() {
            few.overflowed = true;
        }
        Ok(few)
    }
}

/// A number of tokens. Whatever is no whole number from 0 to `u64::MAX` reads as `None`: a
/// strange figure alone does not make an answer unusable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TokenCount(pub(super) Option<u64>);

impl TokenCount {
    /// The figure, or zero where there is none.
    pub(super) fn or_zero(self) -> u64 {
        self.0.unwrap_or(0)
    }
}

impl<'de> Deserialize<'de> for TokenCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TokenCountVisitor)
    }
}

struct TokenCountVisitor;

impl<'de> Visitor<'de> for TokenCountVisitor {
    type Value = TokenCount;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_u64<E>(self, count: u64) -> Result<TokenCount, E> {
        Ok(TokenCount(Some(count)))
    }

    fn visit_i64<E>(self, _: i64) -> Result<TokenCount, E> {
        Ok(TokenCount(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<TokenCount, E> {
        Ok(TokenCount(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<TokenCount, E> {
        Ok(TokenCount(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<TokenCount, E> {
        Ok(TokenCount(None))
    }

    fn visit_unit<E>(self) -> Result<TokenCount, E> {
        Ok(TokenCount(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<TokenCount, A::Error> {
        IgnoredAny.visit_seq(list).map(|_| TokenCount(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TokenCount, A::Error> {
        IgnoredAny.visit_map(map).map(|_| TokenCount(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Few<u32> {
        serde_json::from_str(text).unwrap()
    }

    fn count(text: &str) -> Option<u64> {
        serde_json::from_str::<TokenCount>(text).unwrap().0
    }

    #[test]
    fn a_list_at_the_bound_is_kept_and_one_beyond_it_says_so() {
        let at_bound = format!("[{}0]", "0,".repeat(PARTS_MAX - 1));
        let beyond = format!("[{}0]", "0,".repeat(PARTS_MAX));
        assert_eq!((list(&at_bound).members.len(), list(&at_bound).overflowed), (PARTS_MAX, false));
        assert_eq!((list(&beyond).members.len(), list(&beyond).overflowed), (PARTS_MAX, true));
    }

    #[test]
    fn null_is_an_empty_list() {
        assert!(list("null").members.is_empty());
    }

    #[test]
    fn only_whole_numbers_count_as_token_counts() {
        assert_eq!(count("18446744073709551615"), Some(u64::MAX));
        for other in ["-1", "1.5", "18446744073709551616", "true", "\"7\"", "null", "[7]", "{}"] {
            assert_eq!(count(other), None, "{other}");
        }
    }

    #[test]
    fn an_array_does_not_pass_for_an_object() {
        assert!(object::<EventKind>(r#"["message_stop", null]"#).is_none());
        assert!(object::<EventKind>(r#" {"type": "message_stop"} "#).is_some());
        assert!(object::<EventKind>(r#"{"type": "message_stop"} {}"#).is_none());
    }
}
