//! Lists of named values, compared name by name: pairs of a query, fields, parts and headers.

use std::cmp::Ordering;

use super::separating::Places;
use super::{How, Part, Separating};
use crate::looks;

/// A named value. Entries of one name keep their order, which counts.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) name_shown: String,
    /// What is compared.
    pub(super) value: Vec<u8>,
    pub(super) shown: String,
    /// The value as text, where it is one.
    pub(super) text: Option<String>,
}

/// What differs between two lists that are sorted by name.
pub(super) fn put(part: Part, first: &[Entry], second: &[Entry], places: &mut Places) {
    let (mut first, mut second) = (first, second);
    while let Some(name) = least_name(first, second) {
        let (one, other);
        (one, first) = split(first, name);
        (other, second) = split(second, name);
        put_values(part, one, other, places);
    }
}

fn least_name<'e>(first: &'e [Entry], second: &'e [Entry]) -> Option<&'e [u8]> {
    let name = |list: &'e [Entry]| list.first().map(|entry| &entry.name[..]);
    match (name(first), name(second)) {
        (Some(one), Some(other)) if one.cmp(other) == Ordering::Greater => Some(other),
        (one, other) => one.or(other),
    }
}

/// The entries of this name, and the rest.
fn split<'e>(list: &'e [Entry], name: &[u8]) -> (&'e [Entry], &'e [Entry]) {
    let end = list.iter().position(|entry| entry.name != name).unwrap_or(list.len());
    list.split_at(end)
}

/// The values of one name.
fn put_values(part: Part, first: &[Entry], second: &[Entry], places: &mut Places) {
    if is_other_order(first, second) {
        let shown = |list: &[Entry]| Some(list[0].shown.clone());
        let place = Separating::new(part, &*first[0].name_shown, shown(first), shown(second));
        return places.push(place.how(How::Order));
    }
    for index in 0..first.len().max(second.len()) {
        match (first.get(index), second.get(index)) {
            (Some(one), Some(other)) if one.value == other.value => {}
            (Some(one), Some(other)) => places.push(of_both(part, one, other)),
            (Some(one), None) => {
                let place = Separating::new(part, &*one.name_shown, Some(one.shown.clone()), None);
                places.push(place.apart(one.value.len()));
            }
            (None, other) => {
                let Some(other) = other else { continue };
                let shown = Some(other.shown.clone());
                let place = Separating::new(part, &*other.name_shown, None, shown);
                places.push(place.apart(other.value.len()));
            }
        }
    }
}

fn is_other_order(first: &[Entry], second: &[Entry]) -> bool {
    let values = |list: &[Entry]| list.iter().map(|entry| entry.value.clone()).collect::<Vec<_>>();
    let (mut one, mut other) = (values(first), values(second));
    if one.len() < 2 || one == other {
        return false;
    }
    one.sort_unstable();
    other.sort_unstable();
    one == other
}

fn of_both(part: Part, one: &Entry, other: &Entry) -> Separating {
    let shown = |entry: &Entry| Some(entry.shown.clone());
    let place = Separating::new(part, &*one.name_shown, shown(one), shown(other));
    match (&one.text, &other.text) {
        (Some(first), Some(second)) => place.of_texts(first, second),
        _ => place.apart(looks::bytes_apart(&one.value, &other.value)),
    }
}
