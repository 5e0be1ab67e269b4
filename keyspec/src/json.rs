//! A body as scanned: spans of its text, and the ways to walk them.
//!
//! The scan leaves a flat list of spans in the order of the body, without a copy of any value.
//! Views on it are a reference and an index, made while walking.

use crate::not_keyable::NotKeyable;
use crate::text::{Spelling, Text};

mod scan;

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

/// One value, or one member's name, in the order of the body.
#[derive(Clone, Copy)]
struct Node {
    shape: Shape,
    /// Where its text begins. For an object: where its names begin in `Document::order`.
    start: u32,
    /// Where its text ends. For an object: where its names end in `Document::order`.
    end: u32,
    /// The node after it and all that is in it.
    next: u32,
}

/// A body that has been scanned: one value, and all in it well-formed.
pub(crate) struct Document<'b> {
    text: &'b str,
    nodes: Vec<Node>,
    /// For each object a run of its names' nodes, sorted.
    order: Vec<u32>,
}

impl Document<'_> {
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
        Text::new(self.span(node), spelling)
    }

    fn span(&self, node: Node) -> &str {
        &self.text[node.start as usize..node.end as usize]
    }

    /// Notes the sorted names of the object that has just ended, and finds duplicates.
    fn sort_members(&mut self, object: usize) -> Result<(), NotKeyable> {
        let mut order = std::mem::take(&mut self.order);
        let first = order.len();
        let mut name = object + 1;
        while name < self.nodes.len() {
            order.push(narrow(name));
            name = self.nodes[name + 1].next as usize;
        }
        let names = &mut order[first..];
        self.sort_names(names);
        let twins =
            names.windows(2).find(|w| self.string(w[0]).cmp_utf16(self.string(w[1])).is_eq());
        if let Some(twins) = twins {
            let at = self.nodes[twins[0].max(twins[1]) as usize].start as usize;
            return Err(NotKeyable::DuplicateMember { at });
        }
        self.nodes[object].start = narrow(first);
        self.nodes[object].end = narrow(order.len());
        self.order = order;
        Ok(())
    }

    /// Many names with escapes are unescaped once each, and not at every comparison.
    fn sort_names(&self, names: &mut [u32]) {
        let cheap = names.len() <= 16 || names.iter().all(|name| self.string(*name).is_plain());
        if cheap {
            names.sort_unstable_by(|a, b| self.string(*a).cmp_utf16(self.string(*b)));
        } else {
            names.sort_by_cached_key(|name| self.string(*name).sort_key());
        }
    }
}

fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).expect("BODY_BYTES_MAX is below 2^32")
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
    pub(crate) fn view(self) -> View<'d> {
        let node = self.document.nodes[self.index as usize];
        match node.shape {
            Shape::Null => View::Null,
            Shape::Bool(value) => View::Bool(value),
            Shape::Number => View::Number(self.document.span(node)),
            Shape::String(spelling) => View::String(Text::new(self.document.span(node), spelling)),
            Shape::Array => View::Array(Array { document: self.document, index: self.index }),
            Shape::Object => View::Object(Object { document: self.document, index: self.index }),
        }
    }

    /// A number that no other value of the document has.
    pub(crate) fn index(self) -> usize {
        self.index as usize
    }

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
        let end = self.document.nodes[self.index as usize].next;
        let mut name = self.index + 1;
        std::iter::from_fn(move || {
            let member = (name < end).then(|| self.member(name))?;
            name = member.1.next();
            Some(member)
        })
    }

    /// The members sorted by the UTF-16 code units of their names.
    pub(crate) fn sorted_members(self) -> impl Iterator<Item = (Text<'d>, Value<'d>)> {
        self.sorted_names().iter().map(move |name| self.member(*name))
    }

    /// The value of the member with this name, unless it is absent or null: to every provider
    /// the two mean the same.
    pub(crate) fn get(self, name: &str) -> Option<Value<'d>> {
        let names = self.sorted_names();
        let found = names.binary_search_by(|node| self.document.string(*node).cmp_name(name));
        let (_, value) = self.member(names[found.ok()?]);
        (!matches!(value.view(), View::Null)).then_some(value)
    }

    fn sorted_names(self) -> &'d [u32] {
        let node = self.document.nodes[self.index as usize];
        &self.document.order[node.start as usize..node.end as usize]
    }

    fn member(self, name: u32) -> (Text<'d>, Value<'d>) {
        (self.document.string(name), Value { document: self.document, index: name + 1 })
    }
}

#[cfg(test)]
mod tests;
