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

mod fields;
mod members;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use http::Method;
use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::json::Document;
use crate::paths::Place;
use crate::pattern::PathPattern;
use crate::spec::{BodyForm, KeySpec, PRESET_VERSION};
use fields::{
    check_body, check_headers, check_methods, check_model_member, check_name, check_parameters,
    check_preset, check_query, check_tools,
};
use members::{Members, check_defaults, ignored, paths};

/// Most specs of one file.
pub const SPECS_MAX: usize = 256;

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
    Because(Reason),
}

/// A path, and why the answer does not depend on it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// The path.
    pub path: String,
    /// The reason, for explanations.
    pub why: String,
}

impl Ignored {
    fn path(&self) -> &str {
        match self {
            Ignored::Path(path) | Ignored::Because(Reason { path, .. }) => path,
        }
    }

    fn why(&self) -> Cow<'static, str> {
        match self {
            Ignored::Path(_) => Cow::Borrowed("the spec leaves it out"),
            Ignored::Because(Reason { why, .. }) => Cow::Owned(why.clone()),
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
        let methods = check_methods(methods)?;
        spec.body = check_body(*body, &methods, &spec)?;
        spec.is_deterministic = deterministic.unwrap_or(spec.is_deterministic);
        spec.model_member = check_model_member(model_member.as_deref(), &spec)?.into();
        spec.tools = check_tools(tools, &spec)?;
        spec.add_headers(&check_headers(headers)?);
        spec.query = check_query(ignore_query, only_query.as_deref())?;
        spec.ignored_parameters = check_parameters(ignore_parameters, &pattern)?;
        members.apply(&mut spec)?;
        spec.pattern = Some(pattern.clone());
        spec.rules = Some(self.rules_digest());
        Ok(Checked { methods, pattern, spec })
    }

    /// A digest of all that decides what a request's key is: a changed spec never finds the
    /// entries of the old one, whether or not its version was raised. Reasons are not in it, and
    /// nor is what only decides on reuse.
    fn rules_digest(&self) -> [u8; 32] {
        let sorted = |list: &[String]| {
            let mut list = list.to_vec();
            list.sort_unstable();
            list.dedup();
            list
        };
        let headers: Vec<String> =
            self.headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        let plain = |list: &[Ignored]| {
            sorted(&list.iter().map(|ignored| ignored.path().to_owned()).collect::<Vec<_>>())
        };
        let path = if self.ignore_parameters.is_empty() { "" } else { &self.path };
        let rules = (
            PRESET_VERSION,
            (&self.preset, &self.body, path, sorted(&self.ignore_parameters)),
            (sorted(&headers), plain(&self.ignore_query)),
            self.only_query.as_deref().map(sorted),
            (plain(&self.ignore_members), self.only_members.as_deref().map(sorted)),
            (sorted(&self.keep_members), sorted(&self.ordered_members), sorted(&self.set_members)),
            &self.defaults,
        );
        let json = serde_json::to_vec(&rules).expect("lists and maps of text are JSON");
        // Numbers in defaults have one spelling whoever writes them.
        let document = Document::scan(&json).expect("it is JSON, and a few KB of it");
        *blake3::hash(&canonical::of(document.root(), Place::Off)).as_bytes()
    }
}
