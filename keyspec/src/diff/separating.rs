//! The places that give two requests different keys: all that a key is made of, compared.

use http::HeaderName;

use super::entries::{self, Entry};
use super::json;
use super::{DIFFERENCES_MAX, How, Keyable, Part, Separating, Side, Span};
use crate::explain::{form_words, part_words, query_value, short_hex, tenant_words};
use crate::form;
use crate::key::{KeyedRequest, keyed_pairs};
use crate::looks;
use crate::meaning::Meaning;
use crate::query::Component;
use crate::select::Selection;
use crate::shown;
use crate::spec::{BodyForm, KeySpec};

/// The places found so far.
#[derive(Default)]
pub(crate) struct Places {
    pub(crate) all: Vec<Separating>,
    pub(crate) more: usize,
    /// Bytes that differ, in all of them.
    pub(crate) apart: usize,
}

impl Places {
    pub(crate) fn push(&mut self, place: Separating) {
        self.apart += place.apart;
        if self.all.len() < DIFFERENCES_MAX {
            self.all.push(place);
        } else {
            self.more += 1;
        }
    }
}

impl Separating {
    /// A place where one of the two, or both, say something.
    pub(super) fn new(
        part: Part,
        at: impl Into<String>,
        first: Option<String>,
        second: Option<String>,
    ) -> Separating {
        let how = match (&first, &second) {
            (Some(_), None) => How::OnlyInFirst,
            (None, Some(_)) => How::OnlyInSecond,
            _ => How::Value,
        };
        Separating {
            part,
            at: at.into(),
            how,
            first,
            second,
            first_bytes: None,
            second_bytes: None,
            is_within: false,
            looks_like: None,
            apart: 0,
        }
    }

    pub(super) fn how(self, how: How) -> Separating {
        Separating { how, ..self }
    }

    pub(super) fn apart(self, apart: usize) -> Separating {
        Separating { apart, ..self }
    }

    /// Notes which bytes of two texts differ, and what they look like.
    pub(super) fn of_texts(self, first: &str, second: &str) -> Separating {
        let change = looks::change(first, second);
        Separating {
            first_bytes: Some(Span { start: change.first.start, end: change.first.end }),
            second_bytes: Some(Span { start: change.second.start, end: change.second.end }),
            is_within: change.first.len() < first.len() || change.second.len() < second.len(),
            looks_like: change.look,
            apart: change.apart,
            ..self
        }
    }
}

/// All places, in the order of the key.
pub(crate) fn find(spec: &KeySpec, a: &Side<'_>, b: &Side<'_>, keyable: &Keyable) -> Places {
    let mut places = Places::default();
    let (one, other) = (&a.request, &b.request);
    put_target(spec, one, other, &mut places);
    let pairs = |request: &KeyedRequest<'_>| query_entries(spec, request.query.unwrap_or_default());
    entries::put(Part::Query, &pairs(one), &pairs(other), &mut places);
    for name in spec.keyed_headers() {
        let values = |request| header_entries(name, request);
        entries::put(Part::Header, &values(one), &values(other), &mut places);
    }
    put_body(spec, a, b, (&keyable.first.0, &keyable.second.0), &mut places);
    places
}

fn put_target(
    spec: &KeySpec,
    one: &KeyedRequest<'_>,
    other: &KeyedRequest<'_>,
    places: &mut Places,
) {
    // Without `..`, so that a new field wants a decision here.
    let KeyedRequest { tenant, upstream, method, path, query: _, headers: _ } = *one;
    let mut put = |part, first: String, second: String, texts: Option<(&str, &str)>| {
        let place = Separating::new(part, "", Some(first), Some(second));
        places.push(match texts {
            Some((first, second)) => place.of_texts(first, second),
            None => place,
        });
    };
    if tenant != other.tenant {
        put(Part::Tenant, tenant_words(tenant), tenant_words(other.tenant), None);
    }
    if upstream != other.upstream {
        let texts = (upstream, other.upstream);
        put(Part::Upstream, shown::url(upstream), shown::url(other.upstream), Some(texts));
    }
    let methods = (spec.keyed_method(method), spec.keyed_method(other.method));
    if methods.0 != methods.1 {
        put(Part::Method, shown::text(methods.0), shown::text(methods.1), Some(methods));
    }
    let (path, other_path) = (spec.keyed_path(path), spec.keyed_path(other.path));
    if path != other_path {
        let at = looks::change(&path, &other_path).first.start;
        let (first, second) = (shown::text_around(&path, at), shown::text_around(&other_path, at));
        put(Part::Path, first, second, Some((&path, &other_path)));
    }
}

fn query_entries(spec: &KeySpec, query: &str) -> Vec<Entry> {
    let entry = |pair: crate::query::Pair<'_>| {
        let shown = query_value(&pair);
        let text = String::from_utf8_lossy(pair.written_value().as_bytes()).into_owned();
        Entry {
            name: tagged(&pair.name),
            name_shown: shown::bytes(&pair.name.bytes),
            value: pair.value.as_ref().map(tagged).unwrap_or_default(),
            shown,
            text: Some(text),
        }
    };
    let mut entries: Vec<_> = keyed_pairs(query, &spec.query).into_iter().map(entry).collect();
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    entries
}

/// A component that was not decoded is never one that was.
fn tagged(component: &Component<'_>) -> Vec<u8> {
    [&component.bytes[..], &[1 + u8::from(component.verbatim)]].concat()
}

fn header_entries(name: &HeaderName, request: &KeyedRequest<'_>) -> Vec<Entry> {
    let entry = |value: &http::HeaderValue| Entry {
        name: name.as_str().into(),
        name_shown: name.to_string(),
        value: value.as_bytes().to_vec(),
        shown: shown::named(name.as_str(), value.as_bytes()),
        text: Some(String::from_utf8_lossy(value.as_bytes()).into_owned()),
    };
    request.headers.get_all(name).iter().map(entry).collect()
}

fn put_body(
    spec: &KeySpec,
    a: &Side<'_>,
    b: &Side<'_>,
    (first, second): (&Meaning, &Meaning),
    places: &mut Places,
) {
    if first.facts.stream != second.facts.stream {
        let words = |meaning: &Meaning| {
            Some(if meaning.facts.stream { "a stream" } else { "one piece" }.to_owned())
        };
        places.push(Separating::new(Part::Stream, "", words(first), words(second)));
    }
    if first.facts.body != second.facts.body {
        let words = |meaning: &Meaning| Some(form_words(meaning.facts.body).to_owned());
        let place = Separating::new(Part::Body, "", words(first), words(second));
        return places.push(place.how(How::Type).apart(a.body.len().max(b.body.len())));
    }
    if first.digest == second.digest {
        return;
    }
    match first.facts.body {
        BodyForm::Json | BodyForm::ByType => json::put(spec, a.body, b.body, places),
        BodyForm::Form => {
            let fields = |side: &Side<'_>| field_entries(spec, side.body);
            entries::put(Part::Body, &fields(a), &fields(b), places);
        }
        BodyForm::Multipart => {
            let parts = |side: &Side<'_>| part_entries(spec, side);
            entries::put(Part::Body, &parts(a), &parts(b), places);
        }
        BodyForm::Raw | BodyForm::None => put_raw(a, b, places),
    }
}

fn field_entries(spec: &KeySpec, body: &[u8]) -> Vec<Entry> {
    let entry = |field: &form::Field<'_>| {
        let name = String::from_utf8_lossy(&field.name);
        Entry {
            name: field.name.to_vec(),
            name_shown: shown::text(&name),
            value: field.value.to_vec(),
            shown: shown::named(&name, &field.value),
            text: Some(String::from_utf8_lossy(&field.value).into_owned()),
        }
    };
    let fields = form::fields(body).unwrap_or_default();
    let counted = form::judged_fields(&fields, &spec.fields).filter(|(_, why)| why.is_none());
    counted.map(|(field, _)| entry(field)).collect()
}

/// Parts are alike when their lines in the canonical form are.
fn part_entries(spec: &KeySpec, side: &Side<'_>) -> Vec<Entry> {
    let entry = |part: &form::Part<'_>| {
        let text = std::str::from_utf8(part.content).ok().filter(|_| part.is_plain());
        Entry {
            name: part.name.clone().into_bytes(),
            name_shown: shown::text(&part.name),
            value: form::put_parts(std::slice::from_ref(part), &Selection::default()),
            shown: match text {
                Some(_) => part_words(part),
                None => format!("{}, digest {}", part_words(part), digest(part.content)),
            },
            text: text.map(str::to_owned),
        }
    };
    let parts = form::parts(side.content_type.unwrap_or_default(), side.body).unwrap_or_default();
    let counted = form::judged_parts(&parts, &spec.fields).filter(|(_, why)| why.is_none());
    counted.map(|(part, _)| entry(part)).collect()
}

fn put_raw(a: &Side<'_>, b: &Side<'_>, places: &mut Places) {
    let media_type =
        |side: &Side<'_>| side.content_type.map(form::normal_media_type).unwrap_or_default();
    let (first, second) = (media_type(a), media_type(b));
    if first != second {
        let shown = |text: &str| Some(shown::text(text));
        let place = Separating::new(Part::Body, "media type", shown(&first), shown(&second));
        places.push(place.of_texts(&first, &second));
    }
    if a.body != b.body {
        let words = |side: &Side<'_>| {
            let length = shown::count(side.body.len(), "byte");
            Some(format!("{length}, digest {}", digest(side.body)))
        };
        let place = Separating::new(Part::Body, "", words(a), words(b));
        places.push(place.apart(looks::bytes_apart(a.body, b.body)));
    }
}

fn digest(bytes: &[u8]) -> String {
    short_hex(blake3::hash(bytes).as_bytes())
}
