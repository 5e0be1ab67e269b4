//! A key spec: for one kind of request, what of it is its meaning.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::form;
use crate::json::Document;
use crate::key::{self, Identity, Key, KeyedRequest};
use crate::meaning::{BodyFacts, Meaning, OpenBody};
use crate::not_keyable::NotKeyable;
use crate::paths::{Path, Paths, Treatment};
use crate::pattern::PathPattern;
use crate::preset::{self, LeftOut};
use crate::reuse::{self, Because, NotReused, ReusePolicy};
use crate::route::{Kind, ModelRoute, Route};
use crate::select::Selection;
use crate::shapes::{self, Known};

/// The version of the presets. It grows when a preset or the canonical form changes what a
/// request's key is, and entries under older keys are then no longer found.
pub const PRESET_VERSION: u16 = 2;

/// What the requests of a spec speak, which decides what facts are read from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// A model operation.
    Model(ModelRoute),
    /// The Model Context Protocol.
    Mcp,
    /// Any HTTP.
    Http,
}

/// How a body is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BodyForm {
    /// One JSON value, whatever its media type.
    #[default]
    Json,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// `multipart/form-data`: parts by name, content by digest.
    Multipart,
    /// Bytes, by digest, with their media type.
    Raw,
    /// There is none.
    None,
    /// As its media type says; bytes of any other type count as they are.
    ByType,
}

/// What of some requests is keyed: a preset, a preset with changes, or a spec of one's own.
/// Cloning shares it.
#[derive(Clone, Debug)]
pub struct KeySpec {
    name: Cow<'static, str>,
    version: u16,
    dialect: Dialect,
    pub(crate) body: BodyForm,
    /// Sorted, without repeats.
    headers: Arc<[HeaderName]>,
    pub(crate) query: Selection,
    /// Of forms and parts, which are known by name alone.
    pub(crate) fields: Selection,
    /// Of JSON.
    pub(crate) paths: Arc<Paths>,
    /// Of a declared spec.
    pub(crate) pattern: Option<PathPattern>,
    pub(crate) ignored_parameters: Vec<Box<str>>,
    pub(crate) model_member: Box<str>,
    /// Tools whose calls may be reused.
    pub(crate) tools: Vec<Box<str>>,
    /// Whether the same request always gets the same answer.
    pub(crate) is_deterministic: bool,
    /// Changes of a preset. Sorted, without repeats.
    ignored: Arc<[Box<str>]>,
    /// Sorted, without repeats.
    kept: Arc<[Box<str>]>,
    /// A digest of what was declared.
    pub(crate) rules: Option<[u8; 32]>,
}

impl KeySpec {
    /// The spec that this crate brings for a model route.
    pub fn preset(route: ModelRoute) -> KeySpec {
        Self::new(route.name(), Dialect::Model(route), BodyForm::Json)
    }

    /// The spec for the Model Context Protocol over HTTP. Reusing an answer means giving it the
    /// `id` of the request that asks: that is left out of the key.
    pub fn mcp() -> KeySpec {
        Self::new("mcp", Dialect::Mcp, BodyForm::Json)
    }

    /// The spec for HTTP at large: method, URL and content. GET and HEAD have one key.
    pub fn http() -> KeySpec {
        Self::new("http", Dialect::Http, BodyForm::ByType)
    }

    /// The preset of this name: a model route's, `mcp` or `http`.
    pub fn named_preset(name: &str) -> Option<KeySpec> {
        match name {
            "mcp" => Some(Self::mcp()),
            "http" => Some(Self::http()),
            name => ModelRoute::from_name(name).map(Self::preset),
        }
    }

    /// The names of all presets.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        ModelRoute::ALL.into_iter().map(ModelRoute::name).chain(["mcp", "http"])
    }

    /// Leaves more top-level members out of the key of a preset; a declared spec stands as it is. Names are taken as they are: case counts,
    /// and a point is a point.
    ///
    /// A spec with changes has other keys than the preset, whatever the changes come to.
    /// Leaving out a member that the answer depends on makes wrong answers; whether the answer
    /// is a stream is keyed even so.
    #[must_use]
    pub fn ignoring(self, members: &[String]) -> KeySpec {
        let (ignored, kept) = (merged(&self.ignored, members), Arc::clone(&self.kept));
        self.changed(ignored, kept)
    }

    /// Keeps members in the key that a preset leaves out, by their name, wherever the preset
    /// leaves a member of that name out. A member both ignored and kept is kept.
    #[must_use]
    pub fn keeping(self, members: &[String]) -> KeySpec {
        let (ignored, kept) = (Arc::clone(&self.ignored), merged(&self.kept, members));
        self.changed(ignored, kept)
    }

    /// Its name, which is part of every key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model route whose requests it reads, if it is one.
    pub fn model_route(&self) -> Option<ModelRoute> {
        match self.dialect {
            Dialect::Model(route) => Some(route),
            Dialect::Mcp | Dialect::Http => None,
        }
    }

    /// What its requests are counted under.
    pub fn route(&self) -> Route {
        match self.model_route() {
            Some(route) => Route::Model(route),
            None if self.dialect == Dialect::Http && !self.is_declared() => Route::Generic,
            None => Route::Declared,
        }
    }

    /// Whether it is that of HTTP at large.
    pub fn is_generic(&self) -> bool {
        self.route() == Route::Generic
    }

    /// Whether it reads as HTTP at large does: that itself, or what was declared on top of it.
    pub fn is_http(&self) -> bool {
        self.dialect == Dialect::Http
    }

    /// Whether its requests are calls of the Model Context Protocol.
    pub fn is_mcp(&self) -> bool {
        self.dialect == Dialect::Mcp
    }

    /// Whether somebody declared it, so that it is no preset.
    pub fn is_declared(&self) -> bool {
        self.rules.is_some()
    }

    /// Its version, which is part of every key.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// How bodies are read.
    pub fn body_form(&self) -> BodyForm {
        self.body
    }

    /// The header fields that are part of every key.
    pub fn keyed_headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// What the preset that it begins with leaves out, and why. Changes are not in it.
    pub fn left_out_by_preset(&self) -> impl Iterator<Item = LeftOut> {
        preset::left_out_of(self.dialect)
    }

    /// The documented top-level members of the preset that it begins with, each with the
    /// decision on it; none of HTTP at large. Changes are not in it.
    pub fn known_members(&self) -> impl Iterator<Item = (&'static str, Known)> {
        shapes::members(self.dialect).iter().copied()
    }

    /// What the preset that it begins with does with a top-level member. One that it does not
    /// know is keyed to be safe.
    pub fn known_member(&self, name: &str) -> Option<Known> {
        self.known_members().find(|(known, _)| *known == name).map(|(_, decision)| decision)
    }

    /// What of a request's header [`read_as`](Self::read_as) is told of its body: the media type,
    /// where the spec reads it.
    ///
    /// # Errors
    /// When it is said twice or is no text, so that readers may differ on it.
    pub fn content_type<'h>(&self, headers: &'h HeaderMap) -> Result<Option<&'h str>, NotKeyable> {
        if matches!(self.body, BodyForm::Json | BodyForm::None) {
            return Ok(None);
        }
        let mut values = headers.get_all(CONTENT_TYPE).iter();
        let Some(value) = values.next() else { return Ok(None) };
        match (value.to_str(), values.next()) {
            (Ok(text), None) => Ok(Some(text)),
            _ => Err(NotKeyable::OtherMediaType),
        }
    }

    /// Reads a JSON body, or one without a media type. A chat of a few KB takes four allocations,
    /// however many members it has: two lists of its values, the hash's buffer, the model's name.
    ///
    /// # Errors
    /// As [`read_as`](Self::read_as).
    pub fn read(&self, body: &[u8]) -> Result<Meaning, NotKeyable> {
        self.read_as(None, body)
    }

    /// Reads a body of this `Content-Type`: the digest of its canonical form, and what it says.
    ///
    /// A function of the spec, the media type and the body alone, so that a caller may remember
    /// the result; where the spec reads JSON, the media type does not matter. Time is linear in
    /// the body but for sorting; memory is bounded by [`VALUES_MAX`](crate::VALUES_MAX), and
    /// where a spec has sets or defaults by the body.
    ///
    /// # Errors
    /// When the body has no one meaning, or is beyond a bound. Such a request is forwarded
    /// and not cached.
    pub fn read_as(&self, content_type: Option<&str>, body: &[u8]) -> Result<Meaning, NotKeyable> {
        self.open(content_type, body).map(OpenBody::into_meaning)
    }

    /// Reads a body as [`read_as`](Self::read_as) does, but for its digest, which is taken when it is asked
    /// for.
    ///
    /// # Errors
    /// As [`read_as`](Self::read_as).
    pub fn open<'b>(
        &'b self,
        content_type: Option<&str>,
        body: &'b [u8],
    ) -> Result<OpenBody<'b>, NotKeyable> {
        match self.form_of(content_type, body)? {
            BodyForm::Json | BodyForm::ByType => {
                Ok(OpenBody::json(self, self.scan(body)?, self.paths.root()))
            }
            form => {
                let canonical = self.canonical_of(form, content_type, body)?;
                Ok(OpenBody::other(self, form, canonical))
            }
        }
    }

    /// The canonical form itself, for tests and tools. [`Meaning::digest`] is the BLAKE3 hash
    /// of exactly these bytes. It holds the caller's content: never log or store it.
    ///
    /// # Errors
    /// As [`read_as`](Self::read_as).
    pub fn canonical(
        &self,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Vec<u8>, NotKeyable> {
        let form = self.form_of(content_type, body)?;
        self.canonical_of(form, content_type, body)
    }

    /// The key of a request. `meaning` must be what this spec read from the request's body.
    pub fn key(&self, request: &KeyedRequest<'_>, meaning: &Meaning) -> Key {
        let identity = Identity {
            name: &self.name,
            version: self.version,
            ignored: &self.ignored,
            kept: &self.kept,
            rules: self.rules.as_ref(),
            headers: &self.headers,
            query: &self.query,
        };
        let path = self.keyed_path(request.path);
        let method = self.keyed_method(request.method);
        key::derive(&identity, &KeyedRequest { method, path: &path, ..*request }, meaning)
    }

    /// Decides whether answers to a request are reused. `declared` says that the request carries
    /// `Cache-Server-Reuse: yes` or `new`.
    ///
    /// # Errors
    /// When they are not, with the reason and what would change it.
    pub fn reusable(
        &self,
        method: &str,
        facts: &BodyFacts,
        policy: ReusePolicy,
        declared: bool,
    ) -> Result<Because, NotReused> {
        reuse::decide(self, method, facts, policy, declared)
    }

    /// The method as it is keyed: a HEAD is answered from what a GET has stored.
    pub(crate) fn keyed_method<'m>(&self, method: &'m str) -> &'m str {
        if self.dialect == Dialect::Http && method == "HEAD" { "GET" } else { method }
    }

    /// The path as it is keyed: without the parameters that do not count.
    pub(crate) fn keyed_path<'p>(&self, path: &'p str) -> Cow<'p, str> {
        match &self.pattern {
            Some(pattern) if !self.ignored_parameters.is_empty() => pattern
                .without(path, &self.ignored_parameters)
                .map_or(Cow::Borrowed(path), Cow::Owned),
            _ => Cow::Borrowed(path),
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// How this body is read.
    pub(crate) fn form_of(
        &self,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<BodyForm, NotKeyable> {
        let essence = content_type.map(form::essence);
        let is_type = |wanted: &str| essence.as_deref() == Some(wanted);
        let is_utf8 = content_type.is_none_or(form::is_utf8);
        // A parameter that nobody knows may change what the body means. Who declares a spec says
        // what counts.
        let is_of_unknown_meaning =
            !self.is_declared() && content_type.is_some_and(form::has_unknown_parameters);
        let by_type = match essence.as_deref() {
            _ if body.is_empty() => BodyForm::None,
            Some(_) if is_of_unknown_meaning => BodyForm::Raw,
            Some("application/x-www-form-urlencoded") => BodyForm::Form,
            Some("multipart/form-data") => BodyForm::Multipart,
            // In another charset the bytes are other text, and need not be JSON at all.
            Some("application/json") if is_utf8 => BodyForm::Json,
            // The same members mean another thing in `application/json-patch+json`, so the type
            // of all else counts.
            _ => BodyForm::Raw,
        };
        let form = if self.body == BodyForm::ByType { by_type } else { self.body };
        match form {
            BodyForm::None if !body.is_empty() => Err(NotKeyable::UnexpectedBody),
            BodyForm::Form if !is_type("application/x-www-form-urlencoded") || !is_utf8 => {
                Err(NotKeyable::OtherMediaType)
            }
            BodyForm::Multipart if !is_type("multipart/form-data") || !is_utf8 => {
                Err(NotKeyable::OtherMediaType)
            }
            form => Ok(form),
        }
    }

    pub(crate) fn scan<'b>(&self, body: &'b [u8]) -> Result<Document<'b>, NotKeyable> {
        match self.dialect {
            Dialect::Model(_) | Dialect::Mcp => Document::scan_object(body),
            Dialect::Http => Document::scan(body),
        }
    }

    /// Members that a change of the preset leaves out, and that it keeps.
    pub(crate) fn changes(&self) -> (&[Box<str>], &[Box<str>]) {
        (&self.ignored, &self.kept)
    }

    fn canonical_of(
        &self,
        form: BodyForm,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Result<Vec<u8>, NotKeyable> {
        match form {
            BodyForm::Json | BodyForm::ByType => {
                Ok(canonical::of(self.scan(body)?.root(), self.paths.root()))
            }
            BodyForm::Form => Ok(form::put_fields(&form::fields(body)?, &self.fields)),
            BodyForm::Multipart => {
                let parts = form::parts(content_type.unwrap_or_default(), body)?;
                Ok(form::put_parts(&parts, &self.fields))
            }
            BodyForm::Raw => Ok(form::put_raw(content_type, body)),
            BodyForm::None => Ok(Vec::new()),
        }
    }

    fn new(name: &'static str, dialect: Dialect, body: BodyForm) -> KeySpec {
        let mut spec = KeySpec {
            name: Cow::Borrowed(name),
            version: PRESET_VERSION,
            dialect,
            body,
            headers: preset::keyed_headers(dialect)
                .iter()
                .copied()
                .map(HeaderName::from_static)
                .collect(),
            query: Selection::default(),
            fields: Selection::default(),
            paths: Arc::default(),
            pattern: None,
            ignored_parameters: Vec::new(),
            model_member: "model".into(),
            tools: Vec::new(),
            is_deterministic: false,
            ignored: Arc::default(),
            kept: Arc::default(),
            rules: None,
        };
        spec.paths = spec.preset_paths(&|_| false).into();
        spec
    }

    /// The beginning of a declared spec: this preset under another name.
    pub(crate) fn declared(self, name: &str, version: u16) -> KeySpec {
        let body = match self.dialect {
            Dialect::Model(_) | Dialect::Mcp => self.body,
            // Who declares a spec mostly means a JSON API.
            Dialect::Http => BodyForm::Json,
        };
        KeySpec { name: Cow::Owned(name.to_owned()), version, body, ..self }
    }

    pub(crate) fn add_headers(&mut self, more: &[HeaderName]) {
        let mut all = [&self.headers[..], more].concat();
        all.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        all.dedup();
        self.headers = all.into();
    }

    /// What the preset does at paths, but for what is kept.
    pub(crate) fn preset_paths(&self, is_kept: &dyn Fn(&Path) -> bool) -> Paths {
        let mut paths = Paths::default();
        let parse = |path: &str| Path::parse(path).expect("presets are tested");
        for path in preset::schema_paths(self.dialect) {
            paths.treat(&parse(path), &Treatment::OrderKept);
        }
        for left_out in preset::left_out_of(self.dialect) {
            let path = parse(left_out.path);
            if !is_kept(&path) {
                paths.treat(&path, &Treatment::LeftOut(Cow::Borrowed(left_out.why)));
            }
        }
        paths
    }

    fn changed(self, ignored: Arc<[Box<str>]>, kept: Arc<[Box<str>]>) -> KeySpec {
        if self.is_declared() {
            return self;
        }
        let is_kept = |name: &str| kept.iter().any(|kept| **kept == *name);
        let mut paths =
            self.preset_paths(&|path| path.last_names().iter().any(|name| is_kept(name)));
        for name in ignored.iter().filter(|name| !is_kept(name)) {
            let why = Cow::Borrowed("the config leaves it out (ignore_members)");
            paths.treat(&Path::member(name), &Treatment::LeftOut(why));
        }
        KeySpec { ignored, kept, paths: paths.into(), ..self }
    }

    /// What its requests ask for, where they do not say otherwise ([`BodyFacts::kind`]).
    pub fn kind(&self) -> Kind {
        match self.dialect {
            Dialect::Model(route) => route.kind(),
            Dialect::Mcp => Kind::ToolCall,
            Dialect::Http => Kind::Resource,
        }
    }
}

fn merged(known: &[Box<str>], more: &[String]) -> Arc<[Box<str>]> {
    let mut all: Vec<Box<str>> = known.to_vec();
    all.extend(more.iter().map(|name| name.as_str().into()));
    all.sort_unstable();
    all.dedup();
    all.into()
}
