//! What of two requests of one key differs and does not count.

use http::HeaderMap;

use super::{DIFFERENCES_MAX, Joined, Side, Why, spelling};
use crate::explain::header_why;
use crate::form;
use crate::key::left_out_of_query;
use crate::query;
use crate::select::{Omitted, Selection};
use crate::shown;
use crate::spec::{BodyForm, KeySpec};
use crate::trail::Trail;

/// What was found so far.
#[derive(Default)]
pub(super) struct Found {
    pub(super) all: Vec<Joined>,
    pub(super) more: usize,
}

impl Found {
    /// Notes what is told once, with its first place.
    pub(super) fn once(&mut self, why: Why, trail: Option<&Trail>) {
        if !self.all.iter().any(|known| known.why == why) {
            self.every(why, trail.map(Trail::at), None);
        }
    }

    /// Notes what is told for each place.
    pub(super) fn every(&mut self, why: Why, at: Option<String>, reason: Option<String>) {
        if self.all.len() < DIFFERENCES_MAX {
            self.all.push(Joined { why, at, reason });
        } else {
            self.more += 1;
        }
    }
}

/// All that differs. The two have one key.
pub(super) fn find(spec: &KeySpec, a: &Side<'_>, b: &Side<'_>) -> Found {
    let mut found = Found::default();
    if a.request.method != b.request.method {
        found.once(Why::HeadIsGet, None);
    }
    if a.request.path != b.request.path {
        let names = spec.ignored_parameters.join(", ");
        found.every(Why::PathParameter, Some(names), None);
    }
    put_query(spec, a, b, &mut found);
    put_headers(spec, a.request.headers, b.request.headers, &mut found);
    put_body(spec, a, b, &mut found);
    found
}

fn put_headers(spec: &KeySpec, one: &HeaderMap, other: &HeaderMap, found: &mut Found) {
    let mut names: Vec<_> = one.keys().chain(other.keys()).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    names.dedup();
    for name in names.into_iter().filter(|name| !spec.keyed_headers().contains(name)) {
        if !one.get_all(name).iter().eq(other.get_all(name)) {
            found.every(Why::Header, Some(name.to_string()), Some(header_why(name).to_owned()));
        }
    }
}

/// A named value of a query, a form or a multipart body, as it stands.
struct Item<'r> {
    name: Vec<u8>,
    value: Vec<u8>,
    written: &'r [u8],
    /// What does not count, and why; without a reason it says what leaving it out means.
    not_counted: Option<(Why, Option<String>)>,
}

impl Item<'_> {
    fn says(&self) -> (&[u8], &[u8]) {
        (&self.name, &self.value)
    }
}

fn put_query(spec: &KeySpec, a: &Side<'_>, b: &Side<'_>, found: &mut Found) {
    let (one, other) = (a.request.query, b.request.query);
    if one == other {
        return;
    }
    let (one, other) = (one.unwrap_or_default(), other.unwrap_or_default());
    let before = found.all.len() + found.more;
    put_items(&query_items(spec, one), &query_items(spec, other), Why::QueryOrder, found);
    let is_written_alike = is_written_alike(&query_items(spec, one), &query_items(spec, other));
    if !is_written_alike || found.all.len() + found.more == before {
        found.once(Why::QuerySpelling, None);
    }
}

fn query_items<'r>(spec: &KeySpec, query: &'r str) -> Vec<Item<'r>> {
    let written = query.split('&').filter(|piece| !piece.is_empty());
    let item = |(pair, written): (query::Pair<'_>, &'r str)| Item {
        value: match &pair.value {
            None => Vec::new(),
            Some(value) => [b"=", &value.bytes[..], &[u8::from(value.verbatim)]].concat(),
        },
        written: written.as_bytes(),
        not_counted: left_out_of_query(&pair.name.bytes, &spec.query)
            .map(|why| (Why::LeftOut, Some(why.to_owned()))),
        name: pair.name.bytes.into_owned(),
    };
    query::pairs(query).zip(written).map(item).collect()
}

/// Whether all that counts is written alike, in whatever order.
fn is_written_alike(one: &[Item<'_>], other: &[Item<'_>]) -> bool {
    let written = |items: &[Item<'_>]| {
        let counted = items.iter().filter(|item| item.not_counted.is_none());
        let mut written: Vec<_> = counted.map(|item| item.written.to_vec()).collect();
        written.sort_unstable();
        written
    };
    written(one) == written(other)
}

/// What only one list has, or has with another value; and whether the rest stands in another
/// order.
fn put_items(one: &[Item<'_>], other: &[Item<'_>], order: Why, found: &mut Found) {
    let sorted = |items: &[Item<'_>]| {
        let mut says: Vec<_> =
            items.iter().map(|item| (item.name.clone(), item.value.clone())).collect();
        says.sort_unstable();
        says
    };
    let (one_sorted, other_sorted) = (sorted(one), sorted(other));
    let mut told: Vec<&[u8]> = Vec::new();
    for (items, others) in [(one, &other_sorted), (other, &one_sorted)] {
        for item in items.iter().filter(|item| item.not_counted.is_some()) {
            let key = (item.name.clone(), item.value.clone());
            let is_in_both = others.binary_search(&key).is_ok();
            if is_in_both || told.contains(&&item.name[..]) || told.len() > DIFFERENCES_MAX {
                continue;
            }
            told.push(&item.name);
            if let Some((why, reason)) = &item.not_counted {
                found.every(*why, Some(shown::bytes(&item.name)), reason.clone());
            }
        }
    }
    if told.is_empty() && one_sorted != other_sorted {
        put_repeats(one, other, found);
    }
    let counted = |items: &[Item<'_>]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let counted = items.iter().filter(|item| item.not_counted.is_none());
        counted.map(|item| (item.name.clone(), item.value.clone())).collect()
    };
    let is_one_order = one.iter().map(Item::says).eq(other.iter().map(Item::says));
    if counted(one) != counted(other) || (one_sorted == other_sorted && !is_one_order) {
        found.once(order, None);
    }
}

/// What does not count may also be there twice.
fn put_repeats(one: &[Item<'_>], other: &[Item<'_>], found: &mut Found) {
    let longer = if one.len() > other.len() { one } else { other };
    if let Some(item) = longer.iter().find(|item| item.not_counted.is_some())
        && let Some((why, reason)) = &item.not_counted
    {
        found.every(*why, Some(shown::bytes(&item.name)), reason.clone());
    }
}

fn put_body(spec: &KeySpec, a: &Side<'_>, b: &Side<'_>, found: &mut Found) {
    let form = spec.form_of(a.content_type, a.body).unwrap_or_default();
    let boundary = |side: &Side<'_>| side.content_type.and_then(form::boundary);
    let is_other_boundary = form == BodyForm::Multipart && boundary(a) != boundary(b);
    if a.content_type != b.content_type && !is_other_boundary {
        found.once(Why::MediaType, None);
    }
    if a.body == b.body {
        return;
    }
    match form {
        BodyForm::Json | BodyForm::ByType => spelling::put(spec, a, b, found),
        BodyForm::Form => put_form(spec, a, b, found),
        BodyForm::Multipart => put_multipart(spec, a, b, is_other_boundary, found),
        BodyForm::Raw | BodyForm::None => {}
    }
}

fn put_form(spec: &KeySpec, a: &Side<'_>, b: &Side<'_>, found: &mut Found) {
    let (one, other) = (form_items(spec, a.body), form_items(spec, b.body));
    let before = found.all.len() + found.more;
    put_items(&one, &other, Why::FieldOrder, found);
    if !is_written_alike(&one, &other) || found.all.len() + found.more == before {
        found.once(Why::FormSpelling, None);
    }
}

fn form_items<'r>(spec: &KeySpec, body: &'r [u8]) -> Vec<Item<'r>> {
    let pieces = body.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty());
    let item = |written: &'r [u8]| {
        let field = form::fields(written).ok()?.pop()?;
        let not_counted = not_counted(&spec.fields, &field.name, &field.value);
        let (name, value) = (field.name.into_owned(), field.value.into_owned());
        Some(Item { name, value, written, not_counted })
    };
    let mut items: Vec<Item<'r>> = pieces.filter_map(item).collect();
    count_repeats(&mut items);
    items
}

fn not_counted(selection: &Selection, name: &[u8], value: &[u8]) -> Option<(Why, Option<String>)> {
    Some(match selection.omitted(name, value, true)? {
        Omitted::LeftOut(why) => (Why::LeftOut, Some(why.to_owned())),
        Omitted::Default => (Why::SaysDefault, None),
    })
}

/// What says its default counts all the same if another has its name.
fn count_repeats(items: &mut [Item<'_>]) {
    let mut names: Vec<Vec<u8>> = items.iter().map(|item| item.name.clone()).collect();
    names.sort_unstable();
    let names: Vec<&Vec<u8>> =
        names.chunk_by(PartialEq::eq).filter(|same| same.len() > 1).map(|same| &same[0]).collect();
    for item in items {
        let says_default = matches!(item.not_counted, Some((Why::SaysDefault, _)));
        if says_default && names.binary_search(&&item.name).is_ok() {
            item.not_counted = None;
        }
    }
}

fn put_multipart(
    spec: &KeySpec,
    a: &Side<'_>,
    b: &Side<'_>,
    is_other_boundary: bool,
    found: &mut Found,
) {
    let before = found.all.len() + found.more;
    if is_other_boundary {
        found.once(Why::Boundary, None);
    }
    put_items(&part_items(spec, a), &part_items(spec, b), Why::PartOrder, found);
    if found.all.len() + found.more == before {
        found.once(Why::PartSpelling, None);
    }
}

/// Parts are alike when their lines in the canonical form are.
fn part_items<'r>(spec: &KeySpec, side: &Side<'r>) -> Vec<Item<'r>> {
    let content_type = side.content_type.unwrap_or_default();
    let parts = form::parts_in_order(content_type, side.body).unwrap_or_default();
    let item = |part: form::Part<'r>| Item {
        value: form::put_parts(std::slice::from_ref(&part), &Selection::default()),
        written: part.content,
        not_counted: not_counted(&spec.fields, part.name.as_bytes(), part.content)
            .filter(|(why, _)| *why != Why::SaysDefault || part.is_plain()),
        name: part.name.into_bytes(),
    };
    let mut items: Vec<Item<'r>> = parts.into_iter().map(item).collect();
    count_repeats(&mut items);
    items
}
