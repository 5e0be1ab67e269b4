//! The canonical form of a JSON body, written out piece by piece.
//!
//! RFC 8785 with two departures, both so that different requests keep different keys: members
//! keep their order under a spec's schema paths, and numbers that a double cannot hold stay
//! exact (`number`). What a spec leaves out is not written: members, members with the value that
//! their omission means, and of a set the order and the repeats of its elements.
//!
//! The form is for hashing. It is never sent anywhere.

use std::ops::Range;

use crate::json::{Array, Value, View};
use crate::number;
use crate::paths::Place;
use crate::sink::{Joined, Sink};

/// Writes `value`, which stands at `place` in the request.
pub(crate) fn put(value: Value<'_>, place: Place<'_>, out: &mut impl Sink) {
    let mut joined = Joined::new(value.body(), out);
    put_value(value, place, &mut joined);
    joined.finish();
}

/// The canonical form of a value by itself.
pub(crate) fn of(value: Value<'_>, place: Place<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(value, place, &mut bytes);
    bytes
}

/// Whether a member at `place` counts for nothing: it is left out, or says what its omission
/// means.
#[inline]
pub(crate) fn is_omitted(value: Value<'_>, place: Place<'_>) -> bool {
    place.is_left_out() || place.default().is_some_and(|default| is_default(value, place, default))
}

/// Apart, because few members have a default.
#[inline(never)]
fn is_default(value: Value<'_>, place: Place<'_>, default: &[u8]) -> bool {
    *of(value, place) == *default
}

/// A member, whose name and value mostly stand in the body just so.
#[inline]
fn put_member<S: Sink>(value: Value<'_>, place: Place<'_>, out: &mut Joined<'_, S>) {
    let (name, span) = (value.canonical_name_span(), span_to_copy(value, place));
    if let (Some(name), Some(span)) = (&name, &span)
        && name.end + 1 == span.start
    {
        return out.copy(name.start..span.end);
    }
    match name {
        Some(name) => out.copy(name),
        None => value.name().put(out),
    }
    out.put_byte(b':');
    put_value(value, place, out);
}

/// The scan bounds the recursion.
fn put_value<S: Sink>(value: Value<'_>, place: Place<'_>, out: &mut Joined<'_, S>) {
    if let Some(span) = span_to_copy(value, place) {
        return out.copy(span);
    }
    match value.view() {
        View::Null => out.put(b"null"),
        View::Bool(true) => out.put(b"true"),
        View::Bool(false) => out.put(b"false"),
        View::Number(spelled) => number::put(spelled, out),
        View::String(text) => text.put(out),
        View::Array(array) if place.is_set() => put_set(array, place, out),
        View::Array(array) => put_array(array, place, out),
        View::Object(object) if place.keeps_order() => put_members(object.values(), place, out),
        View::Object(object) => put_members(object.sorted_values(), place, out),
    }
}

/// Where the canonical form of a value stands in the body, if it does.
#[inline]
fn span_to_copy(value: Value<'_>, place: Place<'_>) -> Option<Range<usize>> {
    match place {
        Place::InSchema => value.unsorted_span(),
        Place::Off => value.canonical_span(),
        // Something in it may be left out.
        Place::On(_) | Place::Unlisted => value.canonical_scalar_span(),
    }
}

fn put_array<S: Sink>(array: Array<'_>, place: Place<'_>, out: &mut Joined<'_, S>) {
    out.put_byte(b'[');
    let element_place = place.element();
    for (index, element) in array.elements().enumerate() {
        if index > 0 {
            out.put_byte(b',');
        }
        put_value(element, element_place, out);
    }
    out.put_byte(b']');
}

/// The elements in the order of their canonical bytes, each once. They are held meanwhile, which
/// the body's size bounds.
fn put_set<S: Sink>(array: Array<'_>, place: Place<'_>, out: &mut Joined<'_, S>) {
    let element_place = place.element();
    let mut elements: Vec<_> = array.elements().map(|element| of(element, element_place)).collect();
    elements.sort_unstable();
    elements.dedup();
    out.put_byte(b'[');
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            out.put_byte(b',');
        }
        out.put(element);
    }
    out.put_byte(b']');
}

fn put_members<'d, S: Sink>(
    values: impl Iterator<Item = Value<'d>>,
    place: Place<'_>,
    out: &mut Joined<'_, S>,
) {
    out.put_byte(b'{');
    let mut is_first = true;
    for value in values {
        let member_place = match place {
            Place::On(_) => place.member(value.name()),
            // The same whatever the name, which is not looked at.
            Place::Off | Place::Unlisted | Place::InSchema => place,
        };
        if is_omitted(value, member_place) {
            continue;
        }
        if !is_first {
            out.put_byte(b',');
        }
        is_first = false;
        put_member(value, member_place, out);
    }
    out.put_byte(b'}');
}
