//! What a spec says of members: which do not count, which do, and what their omission means.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Ignored, SpecError};
use crate::canonical;
use crate::json::Document;
use crate::paths::{Path, Treatment};
use crate::select::Selection;
use crate::spec::{BodyForm, KeySpec};

/// What a spec says of members, checked.
pub(super) struct Members<'s> {
    pub(super) ignored: Vec<(Path, Cow<'static, str>)>,
    pub(super) only: Option<Vec<Path>>,
    pub(super) kept: &'s [String],
    pub(super) ordered: Vec<Path>,
    pub(super) sets: Vec<Path>,
    pub(super) defaults: Vec<Omission>,
}

/// What the omission of a member means.
pub(super) struct Omission {
    path: Path,
    json: Vec<u8>,
    /// How a form would say it.
    text: Option<Box<str>>,
}

impl Members<'_> {
    /// No path is said to be two things.
    pub(super) fn check_once(&self) -> Result<(), SpecError> {
        let lists = [
            ("ignore_members", self.ignored.iter().map(|(path, _)| path).collect::<Vec<_>>()),
            ("ordered_members", self.ordered.iter().collect()),
            ("set_members", self.sets.iter().collect()),
        ];
        let mut seen: Vec<(&str, &Path)> = Vec::new();
        for (list, paths) in lists {
            for path in paths {
                if let Some((other, _)) = seen.iter().find(|(_, known)| known.meets(path)) {
                    return Err(SpecError::new(list, path, format!("it is in {other} already")));
                }
                seen.push((list, path));
            }
        }
        let kept = |path: &&Path| path.last_names().iter().any(|name| self.kept.contains(name));
        if let Some(path) = self.ignored.iter().map(|(path, _)| path).find(kept) {
            return Err(SpecError::new("keep_members", path, "it is in ignore_members already"));
        }
        for (index, Omission { path, .. }) in self.defaults.iter().enumerate() {
            let list = if self.ignored.iter().any(|(ignored, _)| ignored.meets(path)) {
                "ignore_members"
            } else if self.defaults[..index].iter().any(|other| other.path.meets(path)) {
                "defaults"
            } else {
                continue;
            };
            return Err(SpecError::new("defaults", path, format!("it is in {list} already")));
        }
        self.check_ordered()
    }

    /// Where the order of members counts, all in there counts.
    fn check_ordered(&self) -> Result<(), SpecError> {
        let defaults = self.defaults.iter().map(|default| ("defaults", &default.path));
        let ignored = self.ignored.iter().map(|(path, _)| ("ignore_members", path));
        let sets = self.sets.iter().map(|path| ("set_members", path));
        for (field, path) in defaults.chain(ignored).chain(sets) {
            if let Some(ordered) = self.ordered.iter().find(|ordered| path.is_within(ordered)) {
                let allowed = format!("nothing in {ordered}, where the order of members counts");
                return Err(SpecError::new(field, path, allowed));
            }
        }
        Ok(())
    }

    pub(super) fn apply(mut self, spec: &mut KeySpec) -> Result<(), SpecError> {
        let deep = match spec.body {
            BodyForm::Form | BodyForm::Multipart => self.deep_path(),
            // Of a form nothing at all would count. Other paths only make it count for more.
            BodyForm::ByType => self.only.iter().flatten().find(|path| is_deep(path)),
            BodyForm::Json | BodyForm::Raw | BodyForm::None => None,
        };
        if let Some(path) = deep {
            return Err(SpecError::new("body", path, "forms have names and no paths"));
        }
        self.check_body(spec.body)?;
        let mut fields = Selection::default();
        let top = |path: &Path| path.top_level_name().map(Box::<str>::from);
        let named = |(path, why): &(Path, Cow<'static, str>)| Some((top(path)?, why.clone()));
        fields.ignored = self.ignored.iter().filter_map(named).collect();
        fields.only = self.only.as_ref().map(|only| only.iter().filter_map(top).collect());
        let text = |default: &Omission| Some((top(&default.path)?, default.text.clone()?));
        fields.defaults = self.defaults.iter().filter_map(text).collect();
        spec.fields = fields;

        let kept = |path: &Path| path.last_names().iter().any(|name| self.kept.contains(name));
        let mut paths = spec.preset_paths(&kept);
        for (path, why) in &self.ignored {
            paths.treat(path, &Treatment::LeftOut(why.clone()));
        }
        for path in &self.ordered {
            paths.treat(path, &Treatment::OrderKept);
        }
        for path in &self.sets {
            paths.treat(path, &Treatment::Set);
        }
        if let Some(only) = &self.only {
            paths.allow_only(only);
        }
        // The deepest first: what a default says may itself be said by omission.
        self.defaults.sort_by_key(|default| std::cmp::Reverse(default.path.steps()));
        for Omission { path, json, .. } in &self.defaults {
            let document = Document::scan(json).expect("defaults are checked as they are read");
            paths.set_default(path, &|place| canonical::of(document.root(), place));
        }
        spec.paths = paths.into();
        Ok(())
    }

    /// Nothing is said that does nothing to such a body.
    fn check_body(&self, body: BodyForm) -> Result<(), SpecError> {
        let is_json = matches!(body, BodyForm::Json | BodyForm::ByType);
        for (field, paths) in [("ordered_members", &self.ordered), ("set_members", &self.sets)] {
            if let Some(path) = paths.first().filter(|_| !is_json) {
                return Err(SpecError::new(field, path, "only where JSON is read"));
            }
        }
        Ok(())
    }

    /// A path that is more than a name, if there is one.
    fn deep_path(&self) -> Option<&Path> {
        let all = self.ignored.iter().map(|(path, _)| path);
        let all = all.chain(self.only.iter().flatten()).chain(&self.ordered).chain(&self.sets);
        all.chain(self.defaults.iter().map(|default| &default.path)).find(|path| is_deep(path))
    }
}

fn is_deep(path: &Path) -> bool {
    path.top_level_name().is_none()
}

const PATH_ALLOWED: &str =
    "names between points, [] for any element, | between names of one member";

fn path(text: &str, field: impl FnOnce() -> String) -> Result<Path, SpecError> {
    Path::parse(text).ok_or_else(|| SpecError::new(field(), text, PATH_ALLOWED))
}

/// A path whose end can be omitted.
fn member_path(text: &str, field: impl Fn() -> String) -> Result<Path, SpecError> {
    let path = path(text, &field)?;
    if path.last_names().is_empty() {
        return Err(SpecError::new(field(), text, "a path that ends in a member, not in []"));
    }
    Ok(path)
}

pub(super) fn paths(list: &[String], field: &str) -> Result<Vec<Path>, SpecError> {
    let one = |(index, text): (usize, &String)| path(text, || format!("{field}[{index}]"));
    list.iter().enumerate().map(one).collect()
}

pub(super) fn ignored(
    list: &[Ignored],
    field: &str,
) -> Result<Vec<(Path, Cow<'static, str>)>, SpecError> {
    let one = |(index, ignored): (usize, &Ignored)| {
        Ok((member_path(ignored.path(), || format!("{field}[{index}]"))?, ignored.why()))
    };
    list.iter().enumerate().map(one).collect()
}

/// TOML has numbers and dates that JSON has not: they come as null and as an object of one member.
fn is_of_json(value: &serde_json::Value) -> bool {
    match value {
        serde_json::Value::Null => false,
        serde_json::Value::Array(elements) => elements.iter().all(is_of_json),
        serde_json::Value::Object(members) => {
            members.iter().all(|(name, value)| !name.starts_with("$__toml") && is_of_json(value))
        }
        _ => true,
    }
}

pub(super) fn check_defaults(
    defaults: &BTreeMap<String, serde_json::Value>,
) -> Result<Vec<Omission>, SpecError> {
    let one = |(name, value): (&String, &serde_json::Value)| {
        let path = member_path(name, || format!("defaults.{name}"))?;
        if !is_of_json(value) {
            return Err(SpecError::new(format!("defaults.{name}"), value, "a value that JSON has"));
        }
        // A value is read as a body would be, so that its canonical form is the same.
        let json = serde_json::to_vec(value).unwrap_or_default();
        Document::scan(&json).map_err(|error| {
            SpecError::new(format!("defaults.{name}"), value, error.to_string())
        })?;
        let text = match value {
            serde_json::Value::String(text) => Some(text.as_str().into()),
            serde_json::Value::Number(_) | serde_json::Value::Bool(_) => {
                Some(value.to_string().into())
            }
            _ => None,
        };
        Ok(Omission { path, json, text })
    };
    defaults.iter().map(one).collect()
}
