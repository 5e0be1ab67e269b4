//! The lines of a body: each top-level member, field or part, and further in only what a spec
//! treats in a way of its own.

use super::{Bounded, Line, Place, Treatment};
use crate::canonical;
use crate::form;
use crate::json::{Object, Value, View};
use crate::paths;
use crate::select::Omitted;
use crate::shown;
use crate::spec::{BodyForm, KeySpec};
use crate::text::Text;
use crate::trail::Trail;

const DEFAULT_WHY: &str = "it says what leaving it out means";

/// The lines of a body that was read as `form`.
pub(super) fn put_lines(
    spec: &KeySpec,
    form: BodyForm,
    content_type: Option<&str>,
    body: &[u8],
    lines: &mut Bounded<Line>,
) {
    match form {
        BodyForm::Json | BodyForm::ByType => put_json(spec, body, lines),
        BodyForm::Form => {
            let fields = form::fields(body).unwrap_or_default();
            for (field, omitted) in form::judged_fields(&fields, &spec.fields) {
                lines.push(|| field_line(field, omitted));
            }
        }
        BodyForm::Multipart => {
            let parts = form::parts(content_type.unwrap_or_default(), body).unwrap_or_default();
            for (part, omitted) in form::judged_parts(&parts, &spec.fields) {
                lines.push(|| part_line(part, omitted));
            }
        }
        BodyForm::Raw | BodyForm::None => {}
    }
}

fn field_line(field: &form::Field<'_>, omitted: Option<Omitted<'_>>) -> Line {
    let name = String::from_utf8_lossy(&field.name);
    let (treatment, why) = selected(omitted);
    let value = Some(shown::named(&name, &field.value));
    Line { place: Place::Field, at: shown::text(&name), value, treatment, why }
}

fn part_line(part: &form::Part<'_>, omitted: Option<Omitted<'_>>) -> Line {
    let (treatment, why) = selected(omitted);
    let value = Some(part_words(part));
    Line { place: Place::Part, at: shown::text(&part.name), value, treatment, why }
}

/// A part in words: the content of files is not text to show.
pub(crate) fn part_words(part: &form::Part<'_>) -> String {
    let length = shown::count(part.content.len(), "byte");
    let media_type = shown::text(&part.media_type);
    match &part.file_name {
        Some(name) => format!("file {}, {media_type}, {length}", shown::text(name)),
        None if part.media_type == "text/plain" => shown::named(&part.name, part.content),
        None => format!("{media_type}, {length}"),
    }
}

fn selected(omitted: Option<Omitted<'_>>) -> (Treatment, Option<String>) {
    match omitted {
        Some(Omitted::LeftOut(why)) => (Treatment::LeftOut, Some(why.to_owned())),
        Some(Omitted::Default) => (Treatment::SaysDefault, Some(DEFAULT_WHY.to_owned())),
        None => (Treatment::Keyed, None),
    }
}

fn put_json(spec: &KeySpec, body: &[u8], lines: &mut Bounded<Line>) {
    let Ok(document) = spec.scan(body) else { return };
    let mut walk = Walk { lines, trail: Trail::default(), is_hidden: false };
    match document.object() {
        Some(top) => walk.top_level(spec, top),
        None => walk.further(document.root(), spec.paths.root()),
    }
}

/// How a value is treated at its place, and why if it is left out.
fn treated(value: Value<'_>, place: paths::Place<'_>) -> (Treatment, Option<String>) {
    if let Some(why) = place.left_out() {
        (Treatment::LeftOut, Some(why.to_owned()))
    } else if canonical::is_omitted(value, place) {
        (Treatment::SaysDefault, Some(DEFAULT_WHY.to_owned()))
    } else if place.keeps_order() {
        (Treatment::KeyedInOrder, None)
    } else if place.is_set() {
        (Treatment::KeyedAsSet, None)
    } else {
        (Treatment::Keyed, None)
    }
}

struct Walk<'w> {
    lines: &'w mut Bounded<Line>,
    trail: Trail,
    /// Whether it is within what is a secret.
    is_hidden: bool,
}

impl Walk<'_> {
    fn top_level(&mut self, spec: &KeySpec, top: Object<'_>) {
        for (name, value) in top.members() {
            let place = spec.paths.root().member(name);
            self.member(name, value, |walk| {
                let (mut treatment, why) = treated(value, place);
                if treatment == Treatment::Keyed && is_unknown(spec, name) {
                    treatment = Treatment::KeyedUnknown;
                }
                walk.line(value, treatment, why);
                walk.further_if_sorted(treatment, value, place);
            });
        }
    }

    /// Below the top level only what is not simply keyed has a line.
    fn further(&mut self, value: Value<'_>, place: paths::Place<'_>) {
        if !place.leads_on() {
            return;
        }
        match value.view() {
            View::Object(object) => {
                for (name, value) in object.members() {
                    self.member(name, value, |walk| walk.special(value, place.member(name)));
                }
            }
            View::Array(array) => {
                for (index, element) in array.elements().enumerate() {
                    let mark = self.trail.mark();
                    self.trail.element(index);
                    self.special(element, place.element());
                    self.trail.back_to(mark);
                }
            }
            _ => {}
        }
    }

    fn special(&mut self, value: Value<'_>, place: paths::Place<'_>) {
        let (treatment, why) = treated(value, place);
        if treatment != Treatment::Keyed {
            self.line(value, treatment, why);
        }
        self.further_if_sorted(treatment, value, place);
    }

    /// Within what is left out or in order nothing has a treatment of its own.
    fn further_if_sorted(
        &mut self,
        treatment: Treatment,
        value: Value<'_>,
        place: paths::Place<'_>,
    ) {
        if matches!(treatment, Treatment::Keyed | Treatment::KeyedAsSet) {
            self.further(value, place);
        }
    }

    fn member(&mut self, name: Text<'_>, value: Value<'_>, enter: impl FnOnce(&mut Self)) {
        let (mark, was_hidden) = (self.trail.mark(), self.is_hidden);
        self.trail.member(name);
        self.is_hidden |= shown::hides(&name.unescaped(), value);
        enter(self);
        self.is_hidden = was_hidden;
        self.trail.back_to(mark);
    }

    fn line(&mut self, value: Value<'_>, treatment: Treatment, why: Option<String>) {
        let (at, is_hidden) = (self.trail.at(), self.is_hidden);
        self.lines.push(|| {
            let value = Some(shown::value(value, is_hidden));
            Line { place: Place::Member, at, value, treatment, why }
        });
    }
}

/// Whether a member that no path leads to is one that the preset has never heard of. It is keyed
/// all the same. Of HTTP at large nothing is known, so that nothing is unknown.
fn is_unknown(spec: &KeySpec, name: Text<'_>) -> bool {
    let has_a_table = spec.model_route().is_some() || spec.is_mcp();
    has_a_table && spec.known_member(&name.unescaped()).is_none()
}
