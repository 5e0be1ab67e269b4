//! Two JSON bodies, compared value by value from the top. Values of one digest are not entered,
//! so that the walk sees little more than what differs.

use super::array::{self, Elements};
use super::separating::Places;
use super::{How, Part, Separating};
use crate::canonical;
use crate::digests::Digests;
use crate::json::{Object, Value, View};
use crate::looks;
use crate::paths::Place;
use crate::shown;
use crate::sink::Sink;
use crate::spec::KeySpec;
use crate::text::Text;
use crate::trail::Trail;

/// The places in two bodies that this spec has read as JSON.
pub(super) fn put(spec: &KeySpec, first: &[u8], second: &[u8], places: &mut Places) {
    let (Ok(one), Ok(other)) = (spec.scan(first), spec.scan(second)) else { return };
    let place = spec.paths.root();
    let digests = (Digests::of(&one, place), Digests::of(&other, place));
    let trail = Trail::default();
    let mut walk = Walk { first: digests.0, second: digests.1, places, trail, is_hidden: false };
    walk.values(one.root(), other.root(), place);
}

/// Counts canonical bytes and keeps none.
struct Count(usize);

impl Sink for Count {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

fn length(value: Value<'_>, place: Place<'_>) -> usize {
    let mut count = Count(0);
    canonical::put(value, place, &mut count);
    count.0
}

struct Walk<'w> {
    first: Digests,
    second: Digests,
    places: &'w mut Places,
    trail: Trail,
    /// Whether it is within what is a secret.
    is_hidden: bool,
}

impl Walk<'_> {
    /// Two values that stand at one place and count.
    fn values(&mut self, one: Value<'_>, other: Value<'_>, place: Place<'_>) {
        if self.first.get(one) == self.second.get(other) {
            return;
        }
        match (one.view(), other.view()) {
            (View::Object(one), View::Object(other)) => self.objects(one, other, place),
            (View::Array(_), View::Array(_)) if place.is_set() => self.sets(one, other, place),
            (View::Array(_), View::Array(_)) => self.arrays(one, other, place),
            _ => self.differ(one, other, place),
        }
    }

    /// Two values that are told whole.
    fn differ(&mut self, one: Value<'_>, other: Value<'_>, place: Place<'_>) {
        let at = self.trail.at();
        let told = match (one.view(), other.view()) {
            (View::String(first), View::String(second)) => {
                let (first, second) = (first.unescaped(), second.unescaped());
                let start = looks::change(&first, &second).first.start;
                let shown = |text: &str, start: usize| match self.is_hidden {
                    true => Some(crate::secret::HIDDEN.to_owned()),
                    false => Some(format!("\"{}\"", shown::text_around(text, start))),
                };
                let told =
                    Separating::new(Part::Body, at, shown(&first, start), shown(&second, start));
                told.of_texts(&first, &second)
            }
            (View::Number(first), View::Number(second)) => {
                self.whole(one, other).of_texts(first, second)
            }
            _ => self.whole(one, other).apart(length(one, place).max(length(other, place))),
        };
        let is_one_kind = shown::kind(one) == shown::kind(other);
        self.places.push(if is_one_kind { told } else { told.how(How::Type) });
    }

    fn whole(&self, one: Value<'_>, other: Value<'_>) -> Separating {
        let shown = |value| Some(shown::value(value, self.is_hidden));
        Separating::new(Part::Body, self.trail.at(), shown(one), shown(other))
    }

    fn only_in_first(&mut self, value: Value<'_>, place: Place<'_>) {
        let shown = Some(shown::value(value, self.is_hidden));
        let told = Separating::new(Part::Body, self.trail.at(), shown, None);
        self.places.push(told.apart(length(value, place)));
    }

    fn only_in_second(&mut self, value: Value<'_>, place: Place<'_>) {
        let shown = Some(shown::value(value, self.is_hidden));
        let told = Separating::new(Part::Body, self.trail.at(), None, shown);
        self.places.push(told.apart(length(value, place)));
    }

    fn objects(&mut self, one: Object<'_>, other: Object<'_>, place: Place<'_>) {
        let mut first = one.sorted_members().peekable();
        let mut second = other.sorted_members().peekable();
        loop {
            let order = match (first.peek(), second.peek()) {
                (None, None) => break,
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some((name, _)), Some((other, _))) => name.cmp_utf16(*other),
            };
            let one = if order.is_le() { first.next() } else { None };
            let other = if order.is_ge() { second.next() } else { None };
            self.member(one, other, place);
        }
        if place.keeps_order() && !is_one_order(one, other) {
            let names = |object: Object<'_>| {
                let names: Vec<_> = object.members().take(8).map(|(n, _)| shown::name(n)).collect();
                Some(shown::text(&names.join(", ")))
            };
            let told = Separating::new(Part::Body, self.trail.at(), names(one), names(other));
            self.places.push(told.how(How::Order));
        }
    }

    /// A member of one object or both.
    fn member(
        &mut self,
        one: Option<(Text<'_>, Value<'_>)>,
        other: Option<(Text<'_>, Value<'_>)>,
        place: Place<'_>,
    ) {
        let Some((name, any)) = one.or(other) else { return };
        let place = place.member(name);
        let counts = |member: Option<(Text<'_>, Value<'_>)>| {
            member.is_some_and(|(_, value)| !canonical::is_omitted(value, place))
        };
        let (mark, was_hidden) = (self.trail.mark(), self.is_hidden);
        self.trail.member(name);
        self.is_hidden |= shown::hides(&name.unescaped(), any);
        match (one, other, counts(one), counts(other)) {
            (Some((_, one)), Some((_, other)), true, true) => self.values(one, other, place),
            // One of them says what leaving it out means, and has no digest.
            (Some((_, one)), Some((_, other)), true, false)
            | (Some((_, one)), Some((_, other)), false, true) => self.differ(one, other, place),
            (Some((_, one)), None, true, _) => self.only_in_first(one, place),
            (None, Some((_, other)), _, true) => self.only_in_second(other, place),
            _ => {}
        }
        self.is_hidden = was_hidden;
        self.trail.back_to(mark);
    }

    fn arrays(&mut self, one: Value<'_>, other: Value<'_>, place: Place<'_>) {
        let first = Elements::of(one, &self.first);
        let second = Elements::of(other, &self.second);
        let begin = array::alike(&first, &second);
        let (from, until) = (begin.before, begin.after);
        let (middle, other_middle) =
            (from..first.values.len() - until, from..second.values.len() - until);
        if first.is_reordered(&middle, &second, &other_middle) {
            let told = self.whole(one, other).how(How::Order);
            return self.places.push(told);
        }
        if middle.len() != other_middle.len() {
            let count =
                |elements: &Elements<'_>| Some(shown::count(elements.values.len(), "element"));
            let at = self.trail.at();
            let told = Separating::new(Part::Body, at, count(&first), count(&second));
            self.places.push(told.how(How::Count));
        }
        for offset in 0..middle.len().max(other_middle.len()) {
            let mark = self.trail.mark();
            self.trail.element(from + offset);
            let one = middle.clone().nth(offset).map(|index| first.values[index]);
            let other = other_middle.clone().nth(offset).map(|index| second.values[index]);
            match (one, other) {
                (Some(one), Some(other)) => self.values(one, other, place.element()),
                (Some(one), None) => self.only_in_first(one, place.element()),
                (None, Some(other)) => self.only_in_second(other, place.element()),
                (None, None) => {}
            }
            self.trail.back_to(mark);
        }
    }

    fn sets(&mut self, one: Value<'_>, other: Value<'_>, place: Place<'_>) {
        let first = Elements::of(one, &self.first);
        let second = Elements::of(other, &self.second);
        let mark = self.trail.mark();
        self.trail.any_element();
        for value in first.missing_in(&second) {
            self.only_in_first(value, place.element());
        }
        for value in second.missing_in(&first) {
            self.only_in_second(value, place.element());
        }
        self.trail.back_to(mark);
    }
}

/// Whether the members that both objects have stand in one order.
fn is_one_order(one: Object<'_>, other: Object<'_>) -> bool {
    let common = |object: Object<'_>, with: Object<'_>| {
        let names: Vec<String> = with.sorted_members().map(|(n, _)| n.unescaped().into()).collect();
        let known: std::collections::HashSet<String> = names.into_iter().collect();
        let names = object.members().map(|(name, _)| String::from(name.unescaped()));
        names.filter(|name| known.contains(name)).collect::<Vec<_>>()
    };
    common(one, other) == common(other, one)
}
