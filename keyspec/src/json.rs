//! A body as scanned: spans of its text, and the ways to walk them.
//!
//! The scan leaves a flat list of spans in the order of the body, without a copy of any value.
//! Views on it are a reference and an index, made while walking.

use std::ops::Range;

use crate::not_keyable::NotKeyable;
use crate::text::{Spelling, Text};

mod scan;
mod specials;

pub use scan::{BODY_BYTES_MAX, DEPTH_MAX, VALUES_MAX};

/// What a node is.
#[derive(Clone, Copy)]
enum Shape {
    Null,
    Bool(bool),
    Number,
    String(Spelling),
    Array,
    Object,
}

/// How far a value's text is its canonical form already: then it is copied, and not walked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    /// Wholly.
    Canonical,
    /// But for the order of members.
    Unsorted,
    /// Not, or it is not known.
    Other,
}

/// One value, or one member's name, in the order of the body.
#[derive(Clone, Copy)]
struct Node {
    shape: Shape,
    form: Form,
    /// Where its text begins.
    start: u32,
    /// Where its text ends.
    end: u32,
    /// The node after it and all that is in it.
    next: u32,
    /// Of an object: where its names begin in `Document::order`.
    names: u32,
}

impl Node {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// A body that has been scanned: one value, and all in it well-formed.
pub(crate) struct Document<'b> {
    text: &'b str,
    nodes: Vec<Node>,
    /// For each object how many names it has, and their nodes, sorted.
    order: Vec<u32>,
}

impl Document<'_> {
    /// How many bytes it has.
    pub(crate) fn length(&self) -> usize {
        self.text.len()
    }

    /// The top-level value.
    pub(crate) fn root(&self) -> Value<'_> {
        Value { document: self, index: 0 }
    }

    /// The top-level value, if it is an object.
    pub(crate) fn object(&self) -> Option<Object<'_>> {
        match self.root().view() {
            View::Object(object) => Some(object),
            _ => None,
        }
    }

    /// How many nodes there are; every value's [`Value::index`] is below it.
    pub(crate) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    fn string(&self, index: u32) -> Text<'_> {
        let node = self.nodes[index as usize];
        let spelling = match node.shape {
            Shape::String(spelling) => spelling,
            _ => Spelling::Escaped,
        };
        Text::new(self.text, node.range(), spelling)
    }

    fn span(&self, node: Node) -> &str {
        &self.text[node.range()]
    }

    /// Notes the sorted names of the object that has just ended, and finds duplicates. Says
    /// whether they were sorted.
    fn sort_members(&mut self, object: usize, first: &Names) -> Result<bool, NotKeyable> {
        let count = self.order.len();
        self.nodes[object].names = narrow(count);
        if let Some(names) = first.all_sorted() {
            self.order.push(narrow(names.len()));
            self.order.extend_from_slice(names);
            return Ok(first.were_sorted);
        }
        let mut order = std::mem::take(&mut self.order);
        order.push(0);
        let mut name = object + 1;
        while name < self.nodes.len() {
            order.push(narrow(name));
            name = self.nodes[name + 1].next as usize;
        }
        order[count] = narrow(order.len() - count - 1);
        let sorted = self.sort_by_text(&mut order[count + 1..]);
        self.order = order;
        sorted
    }

    /// The first eight bytes of a name as a number that sorts as they do. There is none for names
    /// with escapes or with bytes that UTF-16 may sort in another way.
    #[inline]
    fn beginning(&self, name: Range<usize>, spelling: Spelling) -> Option<u64> {
        let bytes = self.text.as_bytes().get(name.start..)?.first_chunk()?;
        let after_name = match name.len() {
            length @ 0..8 => u64::MAX >> (8 * length),
            _ => 0,
        };
        let beginning = u64::from_be_bytes(*bytes) & !after_name;
        let is_ascii = beginning & (u64::MAX / 255 * 0x80) == 0;
        (spelling == Spelling::Plain && is_ascii).then_some(beginning)
    }

    /// Many names with escapes are unescaped once each, and not at every comparison.
    fn sort_by_text(&self, names: &mut [u32]) -> Result<bool, NotKeyable> {
        let few = names.len() <= FEW_MEMBERS;
        if few || names.iter().all(|name| self.string(*name).is_plain()) {
            names.sort_unstable_by(|a, b| self.string(*a).cmp_utf16(self.string(*b)));
        } else {
            names.sort_by_cached_key(|name| self.string(*name).sort_key());
        }
        let are_twins = |a, b| self.string(a).cmp_utf16(self.string(b)).is_eq();
        if let Some(twins) = names.windows(2).find(|pair| are_twins(pair[0], pair[1])) {
            let at = self.nodes[twins[0].max(twins[1]) as usize].start as usize;
            return Err(NotKeyable::DuplicateMember { at });
        }
        Ok(names.is_sorted())
    }
}

/// Objects of so many members are sorted, and searched, in the simplest way.
const FEW_MEMBERS: usize = 16;

/// The names of an object that is being scanned, sorted by how they begin. Most objects have few
/// members, whose names begin differently.
struct Names {
    count: usize,
    nodes: [u32; FEW_MEMBERS],
    beginnings: [u64; FEW_MEMBERS],
    /// Whether they came in this order.
    were_sorted: bool,
    /// Whether there are more, or some whose order their beginnings do not tell.
    are_in_doubt: bool,
}

impl Names {
    fn new() -> Self {
        Self {
            count: 0,
            nodes: [0; FEW_MEMBERS],
            beginnings: [0; FEW_MEMBERS],
            were_sorted: true,
            are_in_doubt: false,
        }
    }

    /// Adds the name at a node.
    #[inline]
    fn add(&mut self, node: u32, beginning: Option<u64>) {
        let (Some(beginning), true) = (beginning, self.count < FEW_MEMBERS) else {
            self.are_in_doubt = true;
            return;
        };
        let mut place = self.count;
        while place > 0 && self.beginnings[place - 1] >= beginning {
            self.are_in_doubt |= self.beginnings[place - 1] == beginning;
            self.were_sorted = false;
            self.beginnings[place] = self.beginnings[place - 1];
            self.nodes[place] = self.nodes[place - 1];
            place -= 1;
        }
        self.beginnings[place] = beginning;
        self.nodes[place] = node;
        self.count += 1;
    }

    /// The nodes of all names in their order, if it is certain.
    fn all_sorted(&self) -> Option<&[u32]> {
        (!self.are_in_doubt).then_some(&self.nodes[..self.count])
    }
}

/// An offset or an index: [`BODY_BYTES_MAX`] and [`VALUES_MAX`] are far below 2^32.
#[expect(clippy::cast_possible_truncation, reason = "a check at each would take time")]
#[inline]
fn narrow(offset: usize) -> u32 {
    debug_assert!(u32::try_from(offset).is_ok(), "{offset} is beyond what is scanned");
    offset as u32
}

/// A value of a scanned body.
#[derive(Clone, Copy)]
pub(crate) struct Value<'d> {
    document: &'d Document<'d>,
    index: u32,
}

/// What a value is, and the way into it.
pub(crate) enum View<'d> {
    Null,
    Bool(bool),
    /// As spelled in the body.
    Number(&'d str),
    String(Text<'d>),
    Array(Array<'d>),
    Object(Object<'d>),
}

impl<'d> Value<'d> {
    #[inline]
    pub(crate) fn view(self) -> View<'d> {
        let node = self.document.nodes[self.index as usize];
        match node.shape {
            Shape::Null => View::Null,
            Shape::Bool(value) => View::Bool(value),
            Shape::Number => View::Number(self.document.span(node)),
            Shape::String(spelling) => {
                View::String(Text::new(self.document.text, node.range(), spelling))
            }
            Shape::Array => View::Array(Array { document: self.document, index: self.index }),
            Shape::Object => View::Object(Object { document: self.document, index: self.index }),
        }
    }

    /// A number that no other value of the document has.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

    /// The body that it is a value of.
    pub(crate) fn body(self) -> &'d [u8] {
        self.document.text.as_bytes()
    }

    /// Where it stands in the body, if it stands there in canonical form.
    #[inline]
    pub(crate) fn canonical_span(self) -> Option<Range<usize>> {
        let node = self.document.nodes[self.index as usize];
        (node.form == Form::Canonical).then(|| node.range())
    }

    /// The same of a value with nothing in it.
    #[inline]
    pub(crate) fn canonical_scalar_span(self) -> Option<Range<usize>> {
        let node = self.document.nodes[self.index as usize];
        let is_scalar = !matches!(node.shape, Shape::Array | Shape::Object);
        (is_scalar && node.form == Form::Canonical).then(|| node.range())
    }

    /// Where it stands in the body, if that is its canonical form but for the order of members.
    #[inline]
    pub(crate) fn unsorted_span(self) -> Option<Range<usize>> {
        let node = self.document.nodes[self.index as usize];
        (node.form <= Form::Unsorted).then(|| node.range())
    }

    /// Where the name of a member's value stands in the body, if in canonical form.
    #[inline]
    pub(crate) fn canonical_name_span(self) -> Option<Range<usize>> {
        Value { index: self.index - 1, ..self }.canonical_span()
    }

    /// The name of a member's value.
    pub(crate) fn name(self) -> Text<'d> {
        self.document.string(self.index - 1)
    }

    fn with_name(self) -> (Text<'d>, Self) {
        (self.name(), self)
    }

    #[inline]
    fn next(self) -> u32 {
        self.document.nodes[self.index as usize].next
    }
}

/// An array of a scanned body.
#[derive(Clone, Copy)]
pub(crate) struct Array<'d> {
    document: &'d Document<'d>,
    index: u32,
}

impl<'d> Array<'d> {
    pub(crate) fn elements(self) -> impl Iterator<Item = Value<'d>> {
        let end = self.document.nodes[self.index as usize].next;
        let mut index = self.index + 1;
        std::iter::from_fn(move || {
            let element = (index < end).then_some(Value { document: self.document, index })?;
            index = element.next();
            Some(element)
        })
    }
}

/// An object of a scanned body. No two of its members have one name.
#[derive(Clone, Copy)]
pub(crate) struct Object<'d> {
    document: &'d Document<'d>,
    index: u32,
}

impl<'d> Object<'d> {
    /// The members in the order of the body.
    pub(crate) fn members(self) -> impl Iterator<Item = (Text<'d>, Value<'d>)> {
        self.values().map(Value::with_name)
    }

    /// The members sorted by the UTF-16 code units of their names.
    pub(crate) fn sorted_members(self) -> impl Iterator<Item = (Text<'d>, Value<'d>)> {
        self.sorted_values().map(Value::with_name)
    }

    /// The values of the members in the order of [`members`](Self::members).
    pub(crate) fn values(self) -> impl Iterator<Item = Value<'d>> {
        let end = self.document.nodes[self.index as usize].next;
        let mut name = self.index + 1;
        std::iter::from_fn(move || {
            let value = (name < end).then(|| self.value(name))?;
            name = value.next();
            Some(value)
        })
    }

    /// The values of the members in the order of [`sorted_members`](Self::sorted_members).
    pub(crate) fn sorted_values(self) -> impl Iterator<Item = Value<'d>> {
        self.sorted_names().iter().map(move |name| self.value(*name))
    }

    /// The value of the member with this name, unless it is absent or null: to every provider
    /// the two mean the same.
    pub(crate) fn get(self, name: &str) -> Option<Value<'d>> {
        let (document, names) = (self.document, self.sorted_names());
        let found = if names.len() <= FEW_MEMBERS {
            names.iter().position(|node| document.string(*node).is(name))
        } else {
            names.binary_search_by(|node| document.string(*node).cmp_name(name)).ok()
        };
        let value = self.value(names[found?]);
        (!matches!(value.view(), View::Null)).then_some(value)
    }

    /// The nodes of the names.
    #[inline]
    fn sorted_names(self) -> &'d [u32] {
        let node = self.document.nodes[self.index as usize];
        match &self.document.order[node.names as usize..] {
            [count, names @ ..] => &names[..*count as usize],
            _ => unreachable!("the scan has noted the names of every object"),
        }
    }

    fn value(self, name: u32) -> Value<'d> {
        Value { document: self.document, index: name + 1 }
    }
}

#[cfg(test)]
mod tests;
