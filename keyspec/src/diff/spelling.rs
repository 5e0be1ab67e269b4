//! What of two JSON bodies of one key differs and does not count: how they are spelled, and
//! what the spec leaves out.

use std::collections::{BTreeSet, HashMap};

use super::joined::Found;
use super::{Side, Why};
use crate::canonical;
use crate::digests::{Digest, Digests};
use crate::json::{Object, Value, View};
use crate::paths::Place;
use crate::spec::KeySpec;
use crate::text::Text;
use crate::trail::Trail;

/// Compares two bodies of one canonical form.
pub(super) fn put(spec: &KeySpec, a: &Side<'_>, b: &Side<'_>, found: &mut Found) {
    let (Ok(one), Ok(other)) = (spec.scan(a.body), spec.scan(b.body)) else { return };
    let place = spec.paths.root();
    let (first, second) = (Digests::of(&one, place), Digests::of(&other, place));
    if is_spaced_otherwise(a.body, b.body) {
        found.once(Why::WhiteSpace, None);
    }
    let mut walk = Walk { first, second, found, trail: Trail::default() };
    walk.values(one.root(), other.root(), place);
}

/// Whether the white space between values differs: all else is one, or it is of another kind
/// than the other's. White space around something that only one body has is no difference.
fn is_spaced_otherwise(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return false;
    }
    let written = |body| pieces(body).filter(|piece| !piece.is_space).map(|piece| piece.bytes);
    if written(one).flatten().eq(written(other).flatten()) {
        return true;
    }
    let kinds = |body| {
        let mut before = b' ';
        let mut kinds = BTreeSet::new();
        for piece in pieces(body) {
            if piece.is_space {
                kinds.insert((before, piece.bytes));
            }
            before = piece.bytes[piece.bytes.len() - 1];
        }
        kinds
    };
    kinds(one) != kinds(other)
}

/// A run of white space between values, or of anything else.
struct Piece<'b> {
    bytes: &'b [u8],
    is_space: bool,
}

fn pieces(body: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let is_space = is_space(rest.first()?);
        let mut is_in_string = false;
        let mut is_escaped = false;
        let ends = |byte: &u8| {
            if is_space {
                return !self::is_space(byte);
            }
            if !is_in_string && self::is_space(byte) {
                return true;
            }
            is_in_string ^= *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            false
        };
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        let (bytes, after) = rest.split_at(length);
        rest = after;
        Some(Piece { bytes, is_space })
    })
}

fn is_space(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

struct Walk<'w> {
    first: Digests,
    second: Digests,
    found: &'w mut Found,
    trail: Trail,
}

impl Walk<'_> {
    /// Two values of one canonical form.
    fn values(&mut self, one: Value<'_>, other: Value<'_>, place: Place<'_>) {
        match (one.view(), other.view()) {
            (View::String(one), View::String(other)) => self.strings(one, other),
            (View::Number(one), View::Number(other)) if one != other => {
                self.found.once(Why::NumberSpelling, Some(&self.trail));
            }
            (View::Array(one), View::Array(other)) => {
                let pairs: Vec<_> = one.elements().zip(other.elements()).collect();
                let (one, other): (Vec<_>, Vec<_>) =
                    (one.elements().collect(), other.elements().collect());
                if place.is_set() && self.sets(&one, &other) {
                    return;
                }
                for (index, (one, other)) in pairs.into_iter().enumerate() {
                    let mark = self.trail.mark();
                    self.trail.element(index);
                    self.values(one, other, place.element());
                    self.trail.back_to(mark);
                }
            }
            (View::Object(one), View::Object(other)) => self.objects(one, other, place),
            _ => {}
        }
    }

    fn strings(&mut self, one: Text<'_>, other: Text<'_>) {
        if one.spelled() != other.spelled() {
            self.found.once(Why::Escapes, Some(&self.trail));
        }
    }

    /// Whether two sets of the same elements list them in different ways.
    fn sets(&mut self, one: &[Value<'_>], other: &[Value<'_>]) -> bool {
        let list = |digests: &Digests, values: &[Value<'_>]| -> Vec<Digest> {
            values.iter().map(|value| digests.get(*value)).collect()
        };
        let (mut one, mut other) = (list(&self.first, one), list(&self.second, other));
        if one == other {
            return false;
        }
        if firsts(&one) != firsts(&other) {
            self.found.once(Why::SetOrder, Some(&self.trail));
        }
        let lists = (one.clone(), other.clone());
        one.sort_unstable();
        other.sort_unstable();
        if one != other {
            self.found.once(Why::SetRepeats, Some(&self.trail));
        } else if firsts(&lists.0) == firsts(&lists.1) {
            self.found.once(Why::SetOrder, Some(&self.trail));
        }
        true
    }

    fn objects(&mut self, one: Object<'_>, other: Object<'_>, place: Place<'_>) {
        let mut second: HashMap<_, _> =
            other.members().map(|(name, value)| (name.unescaped(), (name, value))).collect();
        let mut common = Vec::new();
        for (name, value) in one.members() {
            let place = place.member(name);
            let mark = self.trail.mark();
            self.trail.member(name);
            match second.remove(&name.unescaped()) {
                None => self.not_counted(place),
                Some((other_name, other)) => {
                    self.strings(name, other_name);
                    self.members(value, other, place);
                    common.push(name.unescaped());
                }
            }
            self.trail.back_to(mark);
        }
        let is_missing = |name: &Text<'_>| second.contains_key(&name.unescaped());
        let (missing, in_both): (Vec<_>, Vec<_>) =
            other.members().map(|(name, _)| name).partition(is_missing);
        if !in_both.into_iter().map(Text::unescaped).eq(common) {
            self.found.once(Why::MemberOrder, Some(&self.trail));
        }
        for name in missing {
            let mark = self.trail.mark();
            self.trail.member(name);
            self.not_counted(place.member(name));
            self.trail.back_to(mark);
        }
    }

    /// Two members of one name. What is left out has no digests and may differ in any way.
    fn members(&mut self, one: Value<'_>, other: Value<'_>, place: Place<'_>) {
        if !canonical::is_omitted(one, place) {
            return self.values(one, other, place);
        }
        if canonical::of(one, Place::Off) == canonical::of(other, Place::Off) {
            return self.values(one, other, Place::Off);
        }
        self.not_counted(place);
    }

    fn not_counted(&mut self, place: Place<'_>) {
        match place.left_out() {
            Some(why) => {
                self.found.every(Why::LeftOut, Some(self.trail.at()), Some(why.to_owned()));
            }
            None => self.found.every(Why::SaysDefault, Some(self.trail.at()), None),
        }
    }
}

/// Each element where it stands first.
fn firsts(list: &[Digest]) -> Vec<Digest> {
    let mut seen = std::collections::HashSet::new();
    list.iter().copied().filter(|digest| seen.insert(*digest)).collect()
}
