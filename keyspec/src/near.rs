//! Near misses: two requests that nearly have one key, how far apart they are, and what would
//! bring them together.

use std::fmt;

use serde::Serialize;

use crate::diff::{How, Part, Places, Separating, Side};
use crate::diff::{Keyable, find_places};
use crate::looks::Look;
use crate::not_keyable::NotKeyable;
use crate::secret::words_of;
use crate::spec::KeySpec;

/// Most places that are told one by one.
const PLACES_MAX: usize = 3;

/// How far two requests are apart. The nearer sort first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Distance {
    /// Places that give them different keys; none if they have one key.
    pub places: usize,
    /// Bytes that differ in all of them.
    pub bytes: usize,
}

/// What [`near_miss`] says of two requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NearMiss {
    /// How far apart they are.
    pub distance: Distance,
    /// The first few places.
    pub places: Vec<Separating>,
    /// In one sentence where they differ.
    pub sentence: String,
    /// What would bring them together, if something sensible would.
    pub suggestion: Option<String>,
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.sentence)?;
        self.suggestion.iter().try_for_each(|suggestion| writeln!(f, "{suggestion}"))
    }
}

/// How far two requests of one spec are apart, in words that help. Time is linear in the
/// requests but for sorting.
///
/// # Errors
/// When one of the two has no key.
pub fn near_miss(spec: &KeySpec, a: &Side<'_>, b: &Side<'_>) -> Result<NearMiss, NotKeyable> {
    let keyable = Keyable { first: spec.keyed(a)?, second: spec.keyed(b)? };
    if keyable.first.1 == keyable.second.1 {
        return Ok(NearMiss {
            distance: Distance { places: 0, bytes: 0 },
            places: Vec::new(),
            sentence: "They have one key.".to_owned(),
            suggestion: None,
        });
    }
    let Places { mut all, more, apart } = find_places(spec, a, b, &keyable);
    let distance = Distance { places: all.len() + more, bytes: apart };
    let sentence = sentence(&all, distance.places);
    let suggestion = match &all[..] {
        [only] => suggestion(spec, only),
        _ => None,
    };
    all.truncate(PLACES_MAX);
    Ok(NearMiss { distance, places: all, sentence, suggestion })
}

fn sentence(all: &[Separating], count: usize) -> String {
    match all {
        [only] => format!("They differ only in {}.", phrase(only)),
        [first, others @ ..] if count <= PLACES_MAX => {
            let others: Vec<_> = others.iter().map(phrase).collect();
            format!("They differ in {count} places: {}; {}.", phrase(first), others.join("; "))
        }
        [first, ..] => {
            format!("They differ in {count} places, the first of them {}.", phrase(first))
        }
        [] => "They differ.".to_owned(),
    }
}

/// A place and how they differ there.
fn phrase(place: &Separating) -> String {
    let at = place.place();
    let at = if is_model(place) { format!("the model ({at})") } else { at };
    match place.how {
        How::OnlyInFirst => format!("{at}, which only the first has"),
        How::OnlyInSecond => format!("{at}, which only the second has"),
        How::Order => format!("the order of what is in {at}"),
        How::Type => format!("the kind of value of {at}"),
        How::Count => format!("the number of elements of {at}"),
        How::Value => value_phrase(place, &at),
    }
}

fn value_phrase(place: &Separating, at: &str) -> String {
    let span = place.first_bytes.filter(|_| place.is_within && place.part == Part::Body);
    let span = span.map(|span| format!(", {span}")).unwrap_or_default();
    match place.looks_like {
        Some(look @ (Look::WhiteSpace | Look::LetterCase)) => format!("{at}{span}, by {look}"),
        Some(look) if span.is_empty() => format!("{at}, which looks like {look}"),
        Some(look) => format!("{at}{span}, which look like {look}"),
        None => format!("{at}{span}"),
    }
}

fn is_model(place: &Separating) -> bool {
    place.part == Part::Body && place.at == "model"
}

/// What would bring two together that differ only here.
fn suggestion(spec: &KeySpec, place: &Separating) -> Option<String> {
    match place.part {
        Part::Tenant => Some(
            "Callers share entries if the config maps their credentials to one tenant, or with \
             scope = \"shared\" on the route."
                .to_owned(),
        ),
        Part::Query => Some(format!(
            "Leave it out with ignore_query = [\"{}\"] if the answer does not depend on it.",
            place.at
        )),
        Part::Header => Some("Send the same value of this header, which is keyed.".to_owned()),
        Part::Path => Some(
            "Where the path holds what the answer does not depend on, name it as a parameter of \
             the path in a [[key_spec]] and list it in ignore_parameters."
                .to_owned(),
        ),
        Part::Upstream | Part::Method | Part::Stream => None,
        Part::Body => body_suggestion(spec, place),
    }
}

fn body_suggestion(spec: &KeySpec, place: &Separating) -> Option<String> {
    match (place.how, place.looks_like) {
        _ if place.at.is_empty() || is_model(place) => None,
        (How::Order, _) if place.first.as_deref().is_some_and(is_of_elements) => Some(format!(
            "If the order does not matter, list it: set_members = [\"{}\"].",
            spec_path(&place.at)
        )),
        (How::Order, _) => Some("Send the members of a schema in one order.".to_owned()),
        (_, Some(Look::WhiteSpace | Look::LetterCase)) => {
            Some("Write the text one way at the caller, before it is sent.".to_owned())
        }
        (_, Some(look)) if place.is_within && look.is_fleeting() => Some(moved(spec)),
        (_, look) if look.is_some_and(Look::is_fleeting) || is_label(&place.at) => Some(format!(
            "Leave it out with ignore_members = [\"{}\"] if the answer does not depend on it.",
            spec_path(&place.at)
        )),
        _ => None,
    }
}

/// Advice on what changes within a text that counts.
fn moved(spec: &KeySpec) -> String {
    let metadata = spec.left_out_by_preset().find(|left_out| left_out.path == "metadata");
    let elsewhere = match metadata {
        Some(_) => "send it in metadata, which is not keyed",
        None => "send it in a member that the spec leaves out (ignore_members)",
    };
    format!(
        "Take the changing part out of the text if the answer does not depend on it, or {elsewhere}."
    )
}

/// An array is shown with brackets or counted.
fn is_of_elements(shown: &str) -> bool {
    shown.starts_with('[') || shown.starts_with("an array")
}

/// The place as a spec writes it: any element for each.
fn spec_path(at: &str) -> String {
    let mut path = String::new();
    let mut is_index = false;
    for character in at.chars() {
        is_index = match character {
            '[' => true,
            ']' => false,
            _ => is_index,
        };
        if !is_index || character == '[' {
            path.push(character);
        }
    }
    path
}

/// Whether the name of a member says that it labels a request more than it asks something.
fn is_label(at: &str) -> bool {
    const LABELS: [&str; 20] = [
        "id",
        "ids",
        "uuid",
        "guid",
        "trace",
        "span",
        "correlation",
        "request",
        "session",
        "nonce",
        "timestamp",
        "time",
        "date",
        "created",
        "sent",
        "client",
        "user",
        "tag",
        "label",
        "metadata",
    ];
    let name = at.rsplit_once('.').map_or(at, |(_, name)| name);
    words_of(name).iter().any(|word| LABELS.contains(&word.as_str()))
}
