//! Key specs as data: what a team writes down about requests of its own, and what it comes to.
//!
//! ```toml
//! version = 1
//!
//! [[key_spec]]
//! name = "acme.search"
//! version = 1
//! path = "/v1/indexes/{index}/search"
//! deterministic = true
//! headers = ["accept-language"]
//! ignore_members = ["trace_id", { path = "debug", why = "adds timings to the log alone" }]
//! set_members = ["filter.tags"]
//! defaults = { limit = 10 }
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use http::{HeaderName, Method};
use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::json::Document;
use crate::paths::{Path, Treatment};
use crate::pattern::PathPattern;
use crate::select::Selection;
use crate::spec::{BodyForm, KeySpec};

/// Most specs of one file.
pub const SPECS_MAX: usize = 256;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A file of specs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecFile {
    /// The version of this format: 1.
    pub version: u16,
    /// The specs.
    #[serde(default)]
    pub key_spec: Vec<DeclaredSpec>,
}

/// What of some requests is keyed, as it is written down.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct DeclaredSpec {
    /// Its name, part of every key: letters, digits, `.`, `-` and `_`.
    pub name: String,
    /// Its version, part of every key: raise it to let go of all entries at once.
    pub version: u16,
    /// What it begins with: a preset such as `openai.chat_completions`, `mcp` or `http`.
    pub preset: Option<String>,
    /// The methods that it is for.
    pub methods: Vec<String>,
    /// The paths that it is for, as they are forwarded: `{name}` stands for a segment or a part
    /// of one, `**` as the first or the last segment for any number of them.
    pub path: String,
    /// How the body is read: `json`, `form`, `multipart`, `raw`, `none`, or `by-type`.
    pub body: Option<BodyForm>,
    /// Whether the same request always gets the same answer, so that it may be reused without
    /// anyone's declaring it.
    pub deterministic: Option<bool>,
    /// The top-level member of a JSON body that names the model; `model` by default.
    pub model_member: Option<String>,
    /// Of an MCP spec: the tools whose calls may be reused.
    pub tools: Vec<String>,
    /// Header fields that count; no others do.
    pub headers: Vec<String>,
    /// Query parameters that do not count.
    pub ignore_query: Vec<Ignored>,
    /// The only query parameters that count.
    pub only_query: Option<Vec<String>>,
    /// Parameters of the path that do not count.
    pub ignore_parameters: Vec<String>,
    /// Members of a JSON body, or fields of a form, that do not count.
    pub ignore_members: Vec<Ignored>,
    /// The only members or fields that count.
    pub only_members: Option<Vec<String>>,
    /// Names of members that count although the preset leaves them out.
    pub keep_members: Vec<String>,
    /// Members of a JSON body under which the order of members counts.
    pub ordered_members: Vec<String>,
    /// Arrays of a JSON body of which order and repeats do not count.
    pub set_members: Vec<String>,
    /// Members and the values that their omission means.
    #[cfg_attr(feature = "schema", schemars(with = "BTreeMap<String, serde_json::Value>"))]
    pub defaults: BTreeMap<String, serde_json::Value>,
}

/// What does not count: a path, with or without a reason.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Ignored {
    /// The path alone.
    Path(String),
    /// The path, and why the answer does not depend on it.
    Because {
        /// The path.
        path: String,
        /// The reason, for explanations.
        why: String,
    },
}

impl Ignored {
    fn path(&self) -> &str {
        match self {
            Ignored::Path(path) | Ignored::Because { path, .. } => path,
        }
    }

    fn why(&self) -> Cow<'static, str> {
        match self {
            Ignored::Path(_) => Cow::Borrowed("the spec leaves it out"),
            Ignored::Because { why, .. } => Cow::Owned(why.clone()),
        }
    }
}

/// A spec that cannot be meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} — {allowed}")]
pub struct SpecError {
    /// The path of the field, such as `key_spec[0].path`.
    pub field: String,
    /// What it says.
    pub value: String,
    /// What is allowed.
    pub allowed: String,
}

impl SpecError {
    pub(crate) fn new(
        field: impl Into<String>,
        value: impl fmt::Display,
        allowed: impl Into<String>,
    ) -> SpecError {
        SpecError { field: field.into(), value: value.to_string(), allowed: allowed.into() }
    }

    /// The same for a spec that is the `index`th of a list.
    pub(crate) fn within(self, index: usize) -> SpecError {
        SpecError { field: format!("key_spec[{index}].{}", self.field), ..self }
    }
}

impl SpecFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it is not TOML of this format; fields that are unknown are named.
    pub fn parse(text: &str) -> Result<SpecFile, SpecError> {
        let file: SpecFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(0, |span| 1 + text[..span.start].matches('\n').count());
            SpecError::new(format!("line {line}"), error.message(), "a file of key specs")
        })?;
        if file.version != 1 {
            return Err(SpecError::new("version", file.version, "1"));
        }
        Ok(file)
    }
}

/// A spec that was checked: which requests it is for, and what of them counts.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) methods: Vec<Method>,
    pub(crate) pattern: PathPattern,
    pub(crate) spec: KeySpec,
}

impl DeclaredSpec {
    /// Checks the spec by itself.
    pub(crate) fn check(&self) -> Result<Checked, SpecError> {
        // Without `..`, so that a new field wants a decision here.
        let DeclaredSpec {
            name,
            version,
            preset,
            methods,
            path,
            body,
            deterministic,
            model_member,
            tools,
            headers,
            ignore_query,
            only_query,
            ignore_parameters,
            ignore_members,
            only_members,
            keep_members,
            ordered_members,
            set_members,
            defaults,
        } = self;
        check_name(name)?;
        let base = check_preset(preset.as_deref())?;
        let pattern =
            PathPattern::parse(path).map_err(|allowed| SpecError::new("path", path, allowed))?;
        let members = Members {
            ignored: ignored(ignore_members, "ignore_members")?,
            only: only_members.as_deref().map(|only| paths(only, "only_members")).transpose()?,
            kept: keep_members,
            ordered: paths(ordered_members, "ordered_members")?,
            sets: paths(set_members, "set_members")?,
            defaults: check_defaults(defaults)?,
        };
        members.check_once()?;
        if *version == 0 {
            return Err(SpecError::new("version", version, "1 or more"));
        }
        let mut spec = base.declared(name, *version);
        spec.body = check_body(*body, &spec)?;
        spec.is_deterministic = deterministic.unwrap_or(spec.is_deterministic);
        spec.model_member = model_member.as_deref().unwrap_or("model").into();
        spec.tools = check_tools(tools, &spec)?;
        spec.add_headers(&check_headers(headers)?);
        spec.query = check_query(ignore_query, only_query.as_deref())?;
        spec.ignored_parameters = check_parameters(ignore_parameters, &pattern)?;
        members.apply(&mut spec)?;
        spec.pattern = Some(pattern.clone());
        spec.rules = Some(self.rules_digest());
        Ok(Checked { methods: check_methods(methods)?, pattern, spec })
    }

    /// A digest of all that decides what a request's key is: a changed spec never finds the
    /// entries of the old one, whether or not its version was raised. Reasons are not in it, and
    /// nor is what only decides on reuse.
    fn rules_digest(&self) -> [u8; 32] {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list
        };
        let plain = |list: &[Ignored]| {
            sorted(&list.iter().map(|ignored| ignored.path().to_owned()).collect::<Vec<_>>())
        };
        let path = if self.ignore_parameters.is_empty() { "" } else { &self.path };
        let rules = (
            (&self.preset, &self.body, path, sorted(&self.ignore_parameters)),
            (sorted(&self.headers), plain(&self.ignore_query)),
            self.only_query.as_deref().map(sorted),
            (plain(&self.ignore_members), self.only_members.as_deref().map(sorted)),
            (sorted(&self.keep_members), sorted(&self.ordered_members), sorted(&self.set_members)),
            &self.defaults,
        );
        let bytes = serde_json::to_vec(&rules).expect("lists and maps of text are JSON");
        *blake3::hash(&bytes).as_bytes()
    }
}

/// What a spec says of members, checked.
struct Members<'s> {
    ignored: Vec<(Path, Cow<'static, str>)>,
    only: Option<Vec<Path>>,
    kept: &'s [String],
    ordered: Vec<Path>,
    sets: Vec<Path>,
    defaults: Vec<Omission>,
}

/// What the omission of a member means.
struct Omission {
    path: Path,
    json: Vec<u8>,
    /// How a form would say it.
    text: Option<Box<str>>,
}

impl Members<'_> {
    /// No path is said to be two things.
    fn check_once(&self) -> Result<(), SpecError> {
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
        Ok(())
    }

    fn apply(mut self, spec: &mut KeySpec) -> Result<(), SpecError> {
        let deep = match spec.body {
            BodyForm::Form | BodyForm::Multipart => self.deep_path(),
            // Of a form nothing at all would count. Other paths only make it count for more.
            BodyForm::ByType => self.only.iter().flatten().find(|path| is_deep(path)),
            BodyForm::Json | BodyForm::Raw | BodyForm::None => None,
        };
        if let Some(path) = deep {
            return Err(SpecError::new("body", path, "forms have names and no paths"));
        }
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

fn check_name(name: &str) -> Result<(), SpecError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(SpecError::new("name", name, "1 to 64 letters, digits, points, - and _"))
}

fn check_preset(preset: Option<&str>) -> Result<KeySpec, SpecError> {
    let name = preset.unwrap_or("http");
    KeySpec::named_preset(name).ok_or_else(|| {
        let names = KeySpec::preset_names().collect::<Vec<_>>().join(", ");
        SpecError::new("preset", name, format!("one of {names}"))
    })
}

fn check_body(body: Option<BodyForm>, spec: &KeySpec) -> Result<BodyForm, SpecError> {
    match body {
        None => Ok(spec.body),
        Some(body) if body != BodyForm::Json && (spec.is_mcp() || spec.model_route().is_some()) => {
            Err(SpecError::new("body", format!("{body:?}"), "json, which the preset reads"))
        }
        Some(body) => Ok(body),
    }
}

fn check_methods(methods: &[String]) -> Result<Vec<Method>, SpecError> {
    if methods.is_empty() {
        return Ok(vec![Method::POST]);
    }
    let check = |(index, name): (usize, &String)| match Method::from_bytes(name.as_bytes()) {
        Ok(method) if *name == name.to_ascii_uppercase() => Ok(method),
        _ => {
            let field = format!("methods[{index}]");
            Err(SpecError::new(field, name, "a method in capitals, such as POST or QUERY"))
        }
    };
    methods.iter().enumerate().map(check).collect()
}

fn check_headers(headers: &[String]) -> Result<Vec<HeaderName>, SpecError> {
    /// They stand for themselves in a tenant's scope, or are never forwarded as they came.
    const NEVER_KEYED: [&str; 7] = [
        "authorization",
        "x-api-key",
        "api-key",
        "x-goog-api-key",
        "cookie",
        "connection",
        "cache-server-reuse",
    ];
    let check = |(index, name): (usize, &String)| {
        let refuse =
            |allowed: &str| Err(SpecError::new(format!("headers[{index}]"), name, allowed));
        match HeaderName::from_bytes(name.as_bytes()) {
            Ok(header) if NEVER_KEYED.contains(&header.as_str()) => {
                refuse("not a credential or a field for the cache alone")
            }
            Ok(header) => Ok(header),
            Err(_) => refuse("the name of a header field"),
        }
    };
    headers.iter().enumerate().map(check).collect()
}

fn check_query(ignored: &[Ignored], only: Option<&[String]>) -> Result<Selection, SpecError> {
    if !ignored.is_empty() && only.is_some() {
        return Err(SpecError::new("only_query", "set", "not together with ignore_query"));
    }
    Ok(Selection {
        ignored: ignored.iter().map(|one| (one.path().into(), one.why())).collect(),
        only: only.map(|only| only.iter().map(|name| name.as_str().into()).collect()),
        defaults: Vec::new(),
    })
}

fn check_parameters(names: &[String], pattern: &PathPattern) -> Result<Vec<Box<str>>, SpecError> {
    let check = |(index, name): (usize, &String)| {
        if pattern.parameters().any(|known| known == name) {
            return Ok(name.as_str().into());
        }
        let field = format!("ignore_parameters[{index}]");
        Err(SpecError::new(field, name, format!("a parameter of {}", pattern.as_str())))
    };
    names.iter().enumerate().map(check).collect()
}

fn check_tools(tools: &[String], spec: &KeySpec) -> Result<Vec<Box<str>>, SpecError> {
    match tools.first() {
        Some(tool) if !spec.is_mcp() => {
            Err(SpecError::new("tools[0]", tool, "only with preset = \"mcp\""))
        }
        _ => Ok(tools.iter().map(|tool| tool.as_str().into()).collect()),
    }
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

fn paths(list: &[String], field: &str) -> Result<Vec<Path>, SpecError> {
    let one = |(index, text): (usize, &String)| path(text, || format!("{field}[{index}]"));
    list.iter().enumerate().map(one).collect()
}

fn ignored(list: &[Ignored], field: &str) -> Result<Vec<(Path, Cow<'static, str>)>, SpecError> {
    let one = |(index, ignored): (usize, &Ignored)| {
        Ok((member_path(ignored.path(), || format!("{field}[{index}]"))?, ignored.why()))
    };
    list.iter().enumerate().map(one).collect()
}

fn check_defaults(
    defaults: &BTreeMap<String, serde_json::Value>,
) -> Result<Vec<Omission>, SpecError> {
    let one = |(name, value): (&String, &serde_json::Value)| {
        let path = member_path(name, || format!("defaults.{name}"))?;
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
