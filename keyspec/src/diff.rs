//! What tells two requests apart: the places that give them different keys, or, where they have
//! one key, what of them differs and does not count.
//!
//! Whether the keys differ is seen from the keys. The places are found by comparing all that a
//! key is made of, field by field, and JSON value by value.

use serde::Serialize;

use crate::explain::Refusal;
use crate::key::{Key, KeyedRequest};
use crate::looks::Look;
use crate::meaning::Meaning;
use crate::not_keyable::NotKeyable;
use crate::spec::KeySpec;

mod array;
mod entries;
mod joined;
mod json;
mod separating;
mod spelling;
mod words;

pub(crate) use separating::{Places, find as find_places};

/// Most differences that are told one by one.
pub const DIFFERENCES_MAX: usize = 50;

/// One of two requests.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// All beside the body.
    pub request: KeyedRequest<'a>,
    /// The body's media type.
    pub content_type: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// What [`KeySpec::diff`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Whether the two have one key.
    pub verdict: Verdict,
    /// The key of the first, if it has one.
    pub first_key: Option<String>,
    /// The key of the second, if it has one.
    pub second_key: Option<String>,
    /// Why keys are missing.
    pub refused: Refused,
    /// The places that give the two different keys; none if they have one.
    pub separating: Vec<Separating>,
    /// How many there are beyond [`DIFFERENCES_MAX`].
    pub more_separating: usize,
    /// What differs and does not count; only where the two have one key.
    pub joined: Vec<Joined>,
    /// How many there are beyond [`DIFFERENCES_MAX`].
    pub more_joined: usize,
}

/// Why one of two requests, or both, have no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Why the first has none.
    pub first: Option<Refusal>,
    /// Why the second has none.
    pub second: Option<Refusal>,
}

/// Whether two requests have one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// They are the same in every byte.
    Identical,
    /// They have one key.
    SameKey,
    /// They have different keys.
    DifferentKeys,
    /// One at least has no key.
    NotKeyable,
}

/// The part of a request in which two differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Whose entries it may see.
    Tenant,
    /// The upstream.
    Upstream,
    /// The method.
    Method,
    /// The path.
    Path,
    /// A parameter of the query.
    Query,
    /// A header field.
    Header,
    /// Whether the answer is a stream.
    Stream,
    /// The body: a value in it, a field, a part, or all of it.
    Body,
}

/// How two differ in a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// The values are of one kind and differ.
    Value,
    /// Only the first has it.
    OnlyInFirst,
    /// Only the second has it.
    OnlyInSecond,
    /// The same things in another order, which counts there.
    Order,
    /// The values are of different kinds.
    Type,
    /// One array has more elements than the other.
    Count,
}

/// A place that gives two requests different keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Separating {
    /// The part of the request.
    pub part: Part,
    /// The name or path there, such as `messages[0].content`; empty where the part has none.
    pub at: String,
    /// How the two differ.
    pub how: How,
    /// What the first says, shortened and without secrets.
    pub first: Option<String>,
    /// What the second says, shortened and without secrets.
    pub second: Option<String>,
    /// Of two strings, the bytes of the first that differ; those of the whole word where they
    /// look like something.
    pub first_bytes: Option<Span>,
    /// The same of the second.
    pub second_bytes: Option<Span>,
    /// Whether what differs is less than the whole value.
    pub is_within: bool,
    /// What the differing pieces look like.
    pub looks_like: Option<Look>,
    /// How many bytes differ.
    pub apart: usize,
}

/// Bytes of a string with its escapes undone: from `start` up to `end`, that one not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Span {
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

/// Something that differs between two requests of one key, and does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// What it is.
    pub why: Why,
    /// The first place of it, where it has one.
    pub at: Option<String>,
    /// The spec's reason, of what it leaves out.
    pub reason: Option<String>,
}

/// Why a difference does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// White space between JSON values.
    WhiteSpace,
    /// The order of an object's members.
    MemberOrder,
    /// How a JSON string is escaped.
    Escapes,
    /// How a number is spelled.
    NumberSpelling,
    /// A member, field, part or parameter that the spec leaves out.
    LeftOut,
    /// One that says what leaving it out means.
    SaysDefault,
    /// The order of a set's elements.
    SetOrder,
    /// An element that a set has twice.
    SetRepeats,
    /// The boundary between the parts of a body.
    Boundary,
    /// The order of parts of different names.
    PartOrder,
    /// How the head or the end of a part is written.
    PartSpelling,
    /// The order of a form's fields of different names.
    FieldOrder,
    /// How a form is escaped, or an empty piece between two `&`.
    FormSpelling,
    /// The order of the query's parameters of different names.
    QueryOrder,
    /// How the query is escaped, or an empty piece between two `&`.
    QuerySpelling,
    /// A header field that is not keyed.
    Header,
    /// The media type, or how it is written.
    MediaType,
    /// A parameter of the path that the spec leaves out.
    PathParameter,
    /// HEAD is answered from what GET has stored.
    HeadIsGet,
}

/// Two requests that have keys.
pub(crate) struct Keyable {
    pub(crate) first: (Meaning, Key),
    pub(crate) second: (Meaning, Key),
}

impl KeySpec {
    /// Compares two requests: the places that give them different keys, or, if they have one
    /// key, what of them differs and does not count.
    ///
    /// Keys differ exactly if a place is told, and requests of one key differ in some byte
    /// exactly if it is told what does not count. At most [`DIFFERENCES_MAX`] of either are told
    /// and the rest is counted. Values are shortened, secrets never shown. Time is linear in the
    /// requests but for sorting.
    pub fn diff(&self, a: &Side<'_>, b: &Side<'_>) -> Difference {
        let (first, second) = (self.keyed(a), self.keyed(b));
        let (first, second) = match (first, second) {
            (Ok(first), Ok(second)) => (first, second),
            (first, second) => return not_keyable(first, second),
        };
        let keyable = Keyable { first, second };
        let is_one = keyable.first.1 == keyable.second.1;
        let places =
            if is_one { Places::default() } else { separating::find(self, a, b, &keyable) };
        let joined = if is_one { joined::find(self, a, b) } else { joined::Found::default() };
        let verdict = match is_one {
            true if joined.all.is_empty() => Verdict::Identical,
            true => Verdict::SameKey,
            false => Verdict::DifferentKeys,
        };
        Difference {
            verdict,
            first_key: Some(keyable.first.1.to_string()),
            second_key: Some(keyable.second.1.to_string()),
            refused: Refused::default(),
            separating: places.all,
            more_separating: places.more,
            joined: joined.all,
            more_joined: joined.more,
        }
    }

    pub(crate) fn keyed(&self, side: &Side<'_>) -> Result<(Meaning, Key), NotKeyable> {
        let meaning = self.read_as(side.content_type, side.body)?;
        let key = self.key(&side.request, &meaning);
        Ok((meaning, key))
    }
}

fn not_keyable(
    first: Result<(Meaning, Key), NotKeyable>,
    second: Result<(Meaning, Key), NotKeyable>,
) -> Difference {
    let text = |side: &Result<(Meaning, Key), NotKeyable>| Some(side.as_ref().ok()?.1.to_string());
    let (first_key, second_key) = (text(&first), text(&second));
    let refused =
        Refused { first: first.err().map(Refusal::of), second: second.err().map(Refusal::of) };
    Difference {
        verdict: Verdict::NotKeyable,
        first_key,
        second_key,
        refused,
        separating: Vec::new(),
        more_separating: 0,
        joined: Vec::new(),
        more_joined: 0,
    }
}
