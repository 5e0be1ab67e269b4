//! Paths into a JSON body, and what a spec does at them.
//!
//! A path is written `tools[].function.parameters`: member names between points, `[]` for any
//! element of an array, `|` between names that mean the same member (`toolConfig|tool_config`).
//! A name with any of these characters in it is put in double quotes: `headers."x.y"`.

use std::borrow::Cow;
use std::fmt;

use crate::text::{Text, mark};

/// What a name without quotes may not hold.
const SPECIAL: [char; 5] = ['.', '[', ']', '|', '"'];

/// Deepest path, in steps. Deeper bodies are not keyable anyway.
pub(crate) const STEPS_MAX: usize = 32;

/// What a spec does with the value at a path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// Keyed, members sorted.
    #[default]
    Sorted,
    /// Not keyed, and why.
    LeftOut(Cow<'static, str>),
    /// Keyed, with the order of all members in it kept.
    OrderKept,
    /// Keyed; of an array the order and the repeats of its elements do not count.
    Set,
}

/// A set of paths as a tree, one step a level.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// Sorted by the marks of their names ([`mark`]).
    members: Vec<(Box<str>, Paths)>,
    /// Of the names of all members.
    marks: u64,
    elements: Option<Box<Paths>>,
    treatment: Treatment,
    /// What omission means here, in canonical form.
    default: Option<Box<[u8]>>,
    /// Members that are not listed are left out as well.
    is_closed: bool,
    /// A path of an allow-list leads through here.
    is_listed: bool,
    /// A path of an allow-list ends here.
    is_whole: bool,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// Names that mean the same member.
    names: Vec<String>,
    any_element: bool,
}

/// A path that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<Step>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            let point = if index > 0 { "." } else { "" };
            f.write_str(point)?;
            for (index, name) in step.names.iter().enumerate() {
                let before = if index > 0 { "|" } else { "" };
                match name.is_empty() || name.contains(SPECIAL) {
                    true => write!(f, "{before}\"{name}\"")?,
                    false => write!(f, "{before}{name}")?,
                }
            }
            f.write_str(if step.any_element { "[]" } else { "" })?;
        }
        Ok(())
    }
}

impl Path {
    /// Reads a path in the notation of this module; nothing if it is not one.
    pub(crate) fn parse(text: &str) -> Option<Path> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let step;
            (step, rest) = Step::parse(rest)?;
            steps.push(step);
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None => break,
            }
        }
        (rest.is_empty() && steps.len() <= STEPS_MAX).then_some(Path(steps))
    }

    /// The path of one top-level member, whatever characters are in its name.
    pub(crate) fn member(name: &str) -> Path {
        Path(vec![Step { names: vec![name.to_owned()], any_element: false }])
    }

    /// How many steps it has.
    pub(crate) fn steps(&self) -> usize {
        self.0.len()
    }

    /// Whether something can stand at both.
    pub(crate) fn meets(&self, other: &Path) -> bool {
        self.0.len() == other.0.len() && self.is_within(other)
    }

    /// Whether something can stand at this path and at or below the other.
    pub(crate) fn is_within(&self, other: &Path) -> bool {
        let share = |(one, other): (&Step, &Step)| {
            one.any_element == other.any_element
                && one.names.iter().any(|name| other.names.contains(name))
        };
        self.0.len() >= other.0.len() && self.0.iter().zip(&other.0).all(share)
    }

    /// The names of its last step; none if that is an element.
    pub(crate) fn last_names(&self) -> &[String] {
        match self.0.last() {
            Some(step) if !step.any_element => &step.names,
            _ => &[],
        }
    }

    /// The name of the one top-level member that it is, if it is one.
    pub(crate) fn top_level_name(&self) -> Option<&str> {
        match &self.0[..] {
            [Step { names, any_element: false }] if names.len() == 1 => Some(&names[0]),
            _ => None,
        }
    }
}

impl Step {
    fn parse(text: &str) -> Option<(Step, &str)> {
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let name;
            (name, rest) = parse_name(rest)?;
            names.push(name);
            match rest.strip_prefix('|') {
                Some(after) => rest = after,
                None => break,
            }
        }
        let (any_element, rest) = match rest.strip_prefix("[]") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        Some((Step { names, any_element }, rest))
    }
}

/// Whether a name is written in a path without quotes.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['.', '[', ']', '|', '"'])
}

fn parse_name(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let (name, rest) = quoted.split_once('"')?;
        return Some((name.to_owned(), rest));
    }
    let end = text.find(SPECIAL).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty()).then(|| (name.to_owned(), rest))
}

impl Paths {
    /// Treats what stands at `path` so.
    pub(crate) fn treat(&mut self, path: &Path, treatment: &Treatment) {
        self.at(path, &mut |end| end.treatment = treatment.clone());
    }

    /// What omission means at `path`: a value whose canonical form `form` is asked for, as it
    /// comes out there.
    pub(crate) fn set_default(&mut self, path: &Path, form: &dyn Fn(Place<'_>) -> Vec<u8>) {
        self.at(path, &mut |end| end.default = Some(form(Place::at(end)).into()));
    }

    /// Leaves out all that none of these paths leads to. What a path ends at is kept whole, but
    /// for what other paths leave out.
    pub(crate) fn allow_only(&mut self, paths: &[Path]) {
        self.is_closed = true;
        for path in paths {
            self.at(path, &mut |end| end.is_whole = true);
        }
        for path in paths {
            self.close_along(&path.0);
        }
    }

    /// The place of the request's top level.
    pub(crate) fn root(&self) -> Place<'_> {
        Place::On(self)
    }

    /// What is said of the member with this name.
    #[inline]
    fn find(&self, name: Text<'_>) -> Option<&Paths> {
        let its_marks = name.marks();
        if self.marks & its_marks == 0 {
            return None;
        }
        // For each lesser mark there is one member or more.
        let lesser = self.marks & ((its_marks & its_marks.wrapping_neg()) - 1);
        let members = &self.members[lesser.count_ones() as usize..];
        members.iter().find(|(known, _)| name.is(known)).map(|(_, below)| below)
    }

    fn at(&mut self, path: &Path, change: &mut impl FnMut(&mut Paths)) {
        self.along(&path.0, change);
    }

    fn along(&mut self, steps: &[Step], change: &mut impl FnMut(&mut Paths)) {
        let Some((step, rest)) = steps.split_first() else { return change(self) };
        for name in &step.names {
            let member = self.member_mut(name);
            let end =
                if step.any_element { member.elements.get_or_insert_default() } else { member };
            end.along(rest, change);
        }
    }

    fn close_along(&mut self, steps: &[Step]) {
        let Some((step, rest)) = steps.split_first() else { return };
        self.is_closed = true;
        for name in &step.names {
            let member = self.member_mut(name);
            member.is_listed = true;
            let is_whole = member.is_whole;
            let end =
                if step.any_element { member.elements.get_or_insert_default() } else { member };
            if !is_whole && !end.is_whole {
                end.close_along(rest);
            }
        }
    }

    fn member_mut(&mut self, name: &str) -> &mut Paths {
        let index = match self.members.iter().position(|(known, _)| **known == *name) {
            Some(index) => index,
            None => {
                let its_mark = mark(name.as_bytes());
                let place = |(known, _): &(Box<str>, Paths)| mark(known.as_bytes()) < its_mark;
                let index = self.members.partition_point(place);
                self.marks |= its_mark;
                self.members.insert(index, (name.into(), Paths::default()));
                index
            }
        };
        &mut self.members[index].1
    }
}

/// Why a member is left out that no path of an allow-list leads to.
const NOT_ALLOWED: &str = "the spec keys only what it lists";

/// Where a value stands relative to the paths of a spec.
#[derive(Clone, Copy)]
pub(crate) enum Place<'s> {
    /// On the way to a path, or at its end.
    On(&'s Paths),
    /// No path leads through here.
    Off,
    /// No path leads here, and only what paths lead to is keyed.
    Unlisted,
    /// At or below a path whose order is kept. Nothing is left out in here: what looks like a
    /// left-out member is a name of the user's.
    InSchema,
}

impl<'s> Place<'s> {
    pub(crate) fn member(self, name: Text<'_>) -> Self {
        match self {
            Place::On(paths) => paths
                .find(name)
                .filter(|below| below.is_listed || !paths.is_closed)
                .map_or_else(|| Place::beside(paths), Place::at),
            Place::Off | Place::Unlisted | Place::InSchema => self,
        }
    }

    #[inline]
    pub(crate) fn element(self) -> Self {
        match self {
            Place::On(paths) => paths.elements.as_deref().map_or(Place::Off, Place::at),
            Place::Off | Place::Unlisted | Place::InSchema => self,
        }
    }

    /// Whether a spec does something of its own with what is further in.
    pub(crate) fn leads_on(self) -> bool {
        match self {
            Place::On(paths) => {
                !paths.members.is_empty() || paths.elements.is_some() || paths.is_closed
            }
            Place::Off | Place::Unlisted | Place::InSchema => false,
        }
    }

    #[inline]
    pub(crate) fn is_left_out(self) -> bool {
        self.left_out().is_some()
    }

    /// Why it is left out, if it is.
    #[inline]
    pub(crate) fn left_out(self) -> Option<&'s str> {
        match self {
            Place::On(Paths { treatment: Treatment::LeftOut(why), .. }) => Some(why),
            Place::Unlisted => Some(NOT_ALLOWED),
            Place::On(_) | Place::Off | Place::InSchema => None,
        }
    }

    #[inline]
    pub(crate) fn keeps_order(self) -> bool {
        matches!(self, Place::InSchema)
    }

    #[inline]
    pub(crate) fn is_set(self) -> bool {
        matches!(self, Place::On(Paths { treatment: Treatment::Set, .. }))
    }

    /// What omission means here, in canonical form.
    #[inline]
    pub(crate) fn default(self) -> Option<&'s [u8]> {
        match self {
            Place::On(paths) => paths.default.as_deref(),
            Place::Off | Place::Unlisted | Place::InSchema => None,
        }
    }

    #[inline]
    fn beside(paths: &'s Paths) -> Self {
        if paths.is_closed { Place::Unlisted } else { Place::Off }
    }

    #[inline]
    fn at(paths: &'s Paths) -> Self {
        match paths.treatment {
            Treatment::OrderKept => Place::InSchema,
            Treatment::Sorted | Treatment::LeftOut(_) | Treatment::Set => Place::On(paths),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_step_by_step() {
        let path = Path::parse("a.b|c[].\"d.e\"").unwrap();
        let step = |names: &[&str], any_element| Step {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            any_element,
        };
        assert_eq!(path.0, [step(&["a"], false), step(&["b", "c"], true), step(&["d.e"], false)]);
        assert_eq!(path.last_names(), ["d.e"]);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for bad in
            ["", ".", "a.", ".a", "a..b", "a[", "a[0]", "a[]b", "|a", "a|", "\"a", "a]", "[]"]
        {
            assert_eq!(Path::parse(bad), None, "{bad}");
        }
        let deep = vec!["a"; STEPS_MAX + 1].join(".");
        assert_eq!(Path::parse(&deep), None);
    }
}
