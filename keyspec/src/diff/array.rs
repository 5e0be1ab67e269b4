//! Arrays by the digests of their elements: what is alike at both ends, what is the same in
//! another order, and what a set lacks.

use std::collections::HashSet;
use std::ops::Range;

use crate::digests::{Digest, Digests};
use crate::json::{Value, View};

/// The elements of an array and their digests.
pub(super) struct Elements<'d> {
    pub(super) values: Vec<Value<'d>>,
    pub(super) digests: Vec<Digest>,
}

/// How many elements two arrays have in common at their ends.
pub(super) struct Alike {
    pub(super) before: usize,
    pub(super) after: usize,
}

impl<'d> Elements<'d> {
    /// None of what is no array.
    pub(super) fn of(value: Value<'d>, digests: &Digests) -> Elements<'d> {
        let values: Vec<_> = match value.view() {
            View::Array(array) => array.elements().collect(),
            _ => Vec::new(),
        };
        let digests = values.iter().map(|value| digests.get(*value)).collect();
        Elements { values, digests }
    }

    /// Whether these ranges hold the same elements, each as often.
    pub(super) fn is_reordered(
        &self,
        range: &Range<usize>,
        other: &Elements<'_>,
        other_range: &Range<usize>,
    ) -> bool {
        let mut one = self.digests[range.clone()].to_vec();
        let mut other = other.digests[other_range.clone()].to_vec();
        one.sort_unstable();
        other.sort_unstable();
        one == other
    }

    /// The elements that another set has not, each once.
    pub(super) fn missing_in(&self, other: &Elements<'_>) -> Vec<Value<'d>> {
        let mut known: HashSet<Digest> = other.digests.iter().copied().collect();
        let missing =
            |(value, digest): (&Value<'d>, &Digest)| known.insert(*digest).then_some(*value);
        self.values.iter().zip(&self.digests).filter_map(missing).collect()
    }
}

pub(super) fn alike(first: &Elements<'_>, second: &Elements<'_>) -> Alike {
    let (one, other) = (&first.digests, &second.digests);
    let before = one.iter().zip(other).take_while(|(one, other)| one == other).count();
    let rest = one.len().min(other.len()) - before;
    let ends = one.iter().rev().zip(other.iter().rev()).take(rest);
    Alike { before, after: ends.take_while(|(one, other)| one == other).count() }
}
