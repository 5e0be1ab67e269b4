//! Paths into a request, and what a spec does at them.
//!
//! A path is written `tools[].function.parameters`: member names between points, `[]` for any
//! element of an array, `|` between names that mean the same member (`toolConfig|tool_config`).

use crate::text::Text;

/// What a spec does with the value at a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Keyed, members sorted.
    #[default]
    Sorted,
    /// Not keyed.
    LeftOut,
    /// Keyed, with the order of all members in it kept.
    OrderKept,
}

/// A set of paths as a tree, one step a level.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    members: Vec<(Box<str>, Paths)>,
    elements: Option<Box<Paths>>,
    treatment: Treatment,
}

impl Paths {
    /// Adds a path in the notation of this module.
    pub(crate) fn add(&mut self, path: &str, treatment: Treatment) {
        let (step, rest) = match path.split_once('.') {
            Some((step, rest)) => (step, Some(rest)),
            None => (path, None),
        };
        let (names, any_element) = match step.strip_suffix("[]") {
            Some(names) => (names, true),
            None => (step, false),
        };
        for name in names.split('|') {
            let member = self.member_mut(name);
            let end = if any_element { member.elements.get_or_insert_default() } else { member };
            match rest {
                Some(rest) => end.add(rest, treatment),
                None => end.treatment = treatment,
            }
        }
    }

    /// Adds one top-level member, whatever characters are in its name.
    pub(crate) fn add_member(&mut self, name: &str, treatment: Treatment) {
        self.member_mut(name).treatment = treatment;
    }

    /// The place of the request's top level.
    pub(crate) fn root(&self) -> Place<'_> {
        Place::On(self)
    }

    fn member_mut(&mut self, name: &str) -> &mut Paths {
        let index = match self.members.iter().position(|(known, _)| **known == *name) {
            Some(index) => index,
            None => {
                self.members.push((name.into(), Paths::default()));
                self.members.len() - 1
            }
        };
        &mut self.members[index].1
    }
}

/// Where a value stands relative to the paths of a spec.
#[derive(Clone, Copy)]
pub(crate) enum Place<'s> {
    /// On the way to a path, or at its end.
    On(&'s Paths),
    /// No path leads through here.
    Off,
    /// At or below a path whose order is kept. Nothing is left out in here: what looks like a
    /// left-out member is a name of the user's.
    InSchema,
}

impl<'s> Place<'s> {
    pub(crate) fn member(self, name: Text<'_>) -> Self {
        match self {
            Place::On(paths) => paths
                .members
                .iter()
                .find(|(known, _)| name.is(known))
                .map_or(Place::Off, |(_, below)| Place::at(below)),
            Place::Off | Place::InSchema => self,
        }
    }

    pub(crate) fn element(self) -> Self {
        match self {
            Place::On(paths) => paths.elements.as_deref().map_or(Place::Off, Place::at),
            Place::Off | Place::InSchema => self,
        }
    }

    pub(crate) fn is_left_out(self) -> bool {
        matches!(self, Place::On(paths) if paths.treatment == Treatment::LeftOut)
    }

    pub(crate) fn keeps_order(self) -> bool {
        matches!(self, Place::InSchema)
    }

    fn at(paths: &'s Paths) -> Self {
        match paths.treatment {
            Treatment::OrderKept => Place::InSchema,
            Treatment::Sorted | Treatment::LeftOut => Place::On(paths),
        }
    }
}
