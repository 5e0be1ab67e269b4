//! Why a request has the key that it has: every field of the key, what of the request is in it
//! and what is not, and whether its answer may be given again. For people, and as JSON for tools.
//!
//! Secrets are never in an explanation; values are shortened, and lines are bounded.

use http::HeaderName;
use serde::Serialize;

use crate::KEY_SCHEMA_VERSION;
use crate::key::{KeyedRequest, keyed_pairs, left_out_of_query};
use crate::meaning::Meaning;
use crate::not_keyable::NotKeyable;
use crate::reuse::{Because, NotReused, ReusePolicy};
use crate::shown;
use crate::spec::{BodyForm, KeySpec};
use crate::tenant::{TenantScope, is_credential};
use crate::{query, secret};

mod body;
mod words;

pub(crate) use body::part_words;

/// Most lines, and most fields, of one explanation.
pub const LINES_MAX: usize = 200;

/// Most values of one header field that are shown.
const HEADER_VALUES_MAX: usize = 8;

/// What [`KeySpec::explain`] tells of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The name of the spec.
    pub spec: String,
    /// Its version.
    pub spec_version: u16,
    /// Whether somebody declared it, so that it is no preset.
    pub declared_spec: bool,
    /// The key, if the request has one.
    pub key: Option<String>,
    /// Why it has none, if so.
    pub not_keyable: Option<Refusal>,
    /// What the key is made of, in order. Of a request without a key, all but the body.
    pub fields: Vec<Field>,
    /// How many fields there are beyond [`LINES_MAX`].
    pub more_fields: usize,
    /// The pieces of the request and how each is treated.
    pub lines: Vec<Line>,
    /// How many lines there are beyond [`LINES_MAX`].
    pub more_lines: usize,
    /// Whether the answer may be given again.
    pub reuse: Reuse,
}

/// Why a request has no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// A short stable token: [`NotKeyable::code`].
    pub code: &'static str,
    /// A sentence.
    pub message: String,
}

impl Refusal {
    pub(crate) fn of(reason: NotKeyable) -> Refusal {
        Refusal { code: reason.code(), message: reason.to_string() }
    }
}

/// One field of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Field {
    /// What it is, such as `upstream` or `header openai-beta`.
    pub name: String,
    /// What it says, shortened; `(hidden)` for a secret.
    pub value: String,
}

/// A piece of the request and how it is treated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What kind of piece it is.
    pub place: Place,
    /// Its name or path, such as `messages[0].content`.
    pub at: String,
    /// What it says, shortened; `(hidden)` for a secret. Of headers that do not count, nothing.
    pub value: Option<String>,
    /// Whether and how it counts.
    pub treatment: Treatment,
    /// Why it does not count, if it does not.
    pub why: Option<String>,
}

/// Where a piece of a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A member of a JSON body.
    Member,
    /// A field of a form.
    Field,
    /// A part of a multipart body.
    Part,
    /// A parameter of the query.
    Query,
    /// A header field.
    Header,
    /// A parameter of the path.
    Path,
}

/// Whether and how a piece of a request counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// It is in the key.
    Keyed,
    /// It is in the key, with the order of all members in it.
    KeyedInOrder,
    /// It is in the key; order and repeats of its elements do not count.
    KeyedAsSet,
    /// The preset does not know it, so it is in the key to be safe.
    KeyedUnknown,
    /// It is not in the key.
    LeftOut,
    /// It is not in the key, because it says what leaving it out means.
    SaysDefault,
}

/// Whether an answer may be given again, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reuse {
    /// Whether it may.
    pub may: bool,
    /// A short stable token: [`Because::code`], [`NotReused::code`] or [`NotKeyable::code`].
    pub code: &'static str,
    /// The reason in a sentence, or what to change.
    pub sentence: String,
}

impl KeySpec {
    /// Explains what this spec makes of a request: its key, what is in it and what is not, and
    /// whether its answer may be reused. `declared` is as for [`reusable`](Self::reusable).
    ///
    /// It has at most [`LINES_MAX`] fields and lines, each shortened and without secrets. Time is
    /// linear in the request but for sorting. It does not fail: a request without a key is
    /// explained too.
    pub fn explain(
        &self,
        request: &KeyedRequest<'_>,
        content_type: Option<&str>,
        body: &[u8],
        policy: ReusePolicy,
        declared: bool,
    ) -> Explanation {
        let meaning = self.read_as(content_type, body);
        let mut fields = Bounded::default();
        put_fields(self, request, &mut fields);
        let mut lines = Bounded::default();
        let refusal = match &meaning {
            Ok(meaning) => {
                let length = self.canonical(content_type, body).map_or(0, |form| form.len());
                put_body_fields(meaning, length, &mut fields);
                body::put_lines(self, meaning.facts.body, content_type, body, &mut lines);
                None
            }
            Err(reason) => Some(Refusal::of(*reason)),
        };
        put_left_out(self, request, &mut lines);
        Explanation {
            spec: self.name().to_owned(),
            spec_version: self.version(),
            declared_spec: self.is_declared(),
            key: meaning.as_ref().ok().map(|meaning| self.key(request, meaning).to_string()),
            not_keyable: refusal,
            fields: fields.all,
            more_fields: fields.more,
            lines: lines.all,
            more_lines: lines.more,
            reuse: reuse(self, request.method, meaning, policy, declared),
        }
    }
}

/// A list of at most [`LINES_MAX`], and how many there are beyond.
pub(crate) struct Bounded<T> {
    all: Vec<T>,
    more: usize,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Bounded { all: Vec::new(), more: 0 }
    }
}

impl<T> Bounded<T> {
    /// What is beyond the bound is counted, and not made.
    pub(crate) fn push(&mut self, make: impl FnOnce() -> T) {
        if self.all.len() < LINES_MAX {
            self.all.push(make());
        } else {
            self.more += 1;
        }
    }
}

/// The fields in the order of the key, up to what the body says.
fn put_fields(spec: &KeySpec, request: &KeyedRequest<'_>, fields: &mut Bounded<Field>) {
    // Without `..`, so that a new field wants a line here.
    let KeyedRequest { tenant, upstream, method, path, query, headers } = *request;
    let mut put =
        |name: &str, value: String| fields.push(|| Field { name: name.to_owned(), value });
    put("key schema version", KEY_SCHEMA_VERSION.to_string());
    put("spec", format!("{}, version {}", spec.name(), spec.version()));
    let (ignored, kept) = spec.changes();
    for (name, members) in [("ignored members", ignored), ("kept members", kept)] {
        if !members.is_empty() {
            put(name, shown::text(&members.join(", ")));
        }
    }
    if let Some(rules) = &spec.rules {
        put("declared rules", format!("digest {}", short_hex(rules)));
    }
    put("tenant", tenant_words(tenant));
    put("upstream", shown::url(upstream));
    put("method", method_words(spec, method));
    put("path", shown::text(&spec.keyed_path(path)));
    for pair in keyed_pairs(query.unwrap_or_default(), &spec.query) {
        let name = String::from_utf8_lossy(&pair.name.bytes);
        put(&format!("query {}", shown::text(&name)), query_value(&pair));
    }
    for name in spec.keyed_headers() {
        let values = headers.get_all(name).iter().take(HEADER_VALUES_MAX);
        let values: Vec<_> =
            values.map(|value| shown::named(name.as_str(), value.as_bytes())).collect();
        let said = if values.is_empty() { "absent".to_owned() } else { values.join(", ") };
        put(&format!("header {name}"), said);
    }
}

fn put_body_fields(meaning: &Meaning, length: usize, fields: &mut Bounded<Field>) {
    let answer =
        if meaning.facts.stream { "the answer is a stream" } else { "the answer is one piece" };
    fields.push(|| Field { name: "stream".to_owned(), value: answer.to_owned() });
    let length = shown::count(length, "canonical byte");
    let digest = short_hex(&meaning.digest);
    let value = format!("{}, {length}, digest {digest}", form_words(meaning.facts.body));
    fields.push(|| Field { name: "body".to_owned(), value });
}

/// A tenant without the secret that it comes from.
pub(crate) fn tenant_words(tenant: &TenantScope) -> String {
    match tenant {
        TenantScope::Anonymous => "no credential".to_owned(),
        TenantScope::Named(name) => format!("named {}", shown::text(name)),
        TenantScope::Credential(digest) => {
            format!("a credential, scope digest {}", short_hex(digest))
        }
        TenantScope::Shared => "shared by all callers".to_owned(),
    }
}

fn method_words(spec: &KeySpec, method: &str) -> String {
    match spec.keyed_method(method) {
        keyed if keyed == method => shown::text(method),
        keyed => format!("{keyed}, which answers {method} as well"),
    }
}

/// How a body is read, in words.
pub(crate) fn form_words(form: BodyForm) -> &'static str {
    match form {
        BodyForm::Json | BodyForm::ByType => "JSON",
        BodyForm::Form => "form",
        BodyForm::Multipart => "multipart",
        BodyForm::Raw => "bytes",
        BodyForm::None => "none",
    }
}

/// The value of a pair as it is written, unless it is a secret.
pub(crate) fn query_value(pair: &query::Pair<'_>) -> String {
    let decoded = pair.decoded_value();
    let name = String::from_utf8_lossy(&pair.name.bytes);
    let is_key = secret::hidden_in(&String::from_utf8_lossy(&decoded)).next().is_some();
    match &pair.value {
        None => "without a value".to_owned(),
        Some(_) if is_key => secret::HIDDEN.to_owned(),
        Some(_) => shown::named(&name, pair.written_value().as_bytes()),
    }
}

/// The first 8 hex digits: enough to tell two apart.
pub(crate) fn short_hex(digest: &[u8; 32]) -> String {
    let mut hex = blake3::Hash::from_bytes(*digest).to_hex().to_string();
    hex.truncate(8);
    hex
}

/// What beside the body does not count.
fn put_left_out(spec: &KeySpec, request: &KeyedRequest<'_>, lines: &mut Bounded<Line>) {
    if spec.keyed_path(request.path) != request.path {
        for name in &spec.ignored_parameters {
            lines.push(|| left_out(Place::Path, name, None, "the spec leaves it out"));
        }
    }
    for pair in query::pairs(request.query.unwrap_or_default()) {
        if let Some(why) = left_out_of_query(&pair.name.bytes, &spec.query) {
            let name = shown::bytes(&pair.name.bytes);
            let is_secret = *pair.name.bytes == *b"key";
            let value = if is_secret { secret::HIDDEN.to_owned() } else { query_value(&pair) };
            lines.push(|| left_out(Place::Query, &name, Some(value), why));
        }
    }
    for name in request.headers.keys().filter(|name| !spec.keyed_headers().contains(name)) {
        lines.push(|| left_out(Place::Header, name.as_str(), None, header_why(name)));
    }
}

/// Why a header that the spec does not list does not count.
pub(crate) fn header_why(name: &HeaderName) -> &'static str {
    if is_credential(name) {
        "a credential, which counts as the tenant"
    } else {
        "only the headers that the spec lists are keyed"
    }
}

fn left_out(place: Place, at: &str, value: Option<String>, why: &str) -> Line {
    let treatment = Treatment::LeftOut;
    Line { place, at: at.to_owned(), value, treatment, why: Some(why.to_owned()) }
}

fn reuse(
    spec: &KeySpec,
    method: &str,
    meaning: Result<Meaning, NotKeyable>,
    policy: ReusePolicy,
    declared: bool,
) -> Reuse {
    let meaning = match meaning {
        Ok(meaning) => meaning,
        Err(reason) => {
            let sentence = format!("The request has no key: {reason}. It is forwarded.");
            return Reuse { may: false, code: reason.code(), sentence };
        }
    };
    match spec.reusable(method, &meaning.facts, policy, declared) {
        Ok(because) => {
            Reuse { may: true, code: because.code(), sentence: because_words(because).to_owned() }
        }
        Err(reason) => not_reused(reason),
    }
}

fn not_reused(reason: NotReused) -> Reuse {
    Reuse { may: false, code: reason.code(), sentence: reason.advice().to_owned() }
}

const fn because_words(because: Because) -> &'static str {
    match because {
        Because::Declared => "The request declares it with the header Cache-Server-Reuse.",
        Because::PolicyAny => "The route reuses all answers that have a key (reuse = \"any\").",
        Because::NotSampled => "The operation samples nothing: the same input has the same answer.",
        Because::TemperatureZero => "The temperature is 0.",
        Because::Seed => "The request has a seed.",
        Because::SpecDeterministic => {
            "The spec says that the same request has the same answer (deterministic = true)."
        }
        Because::ToolListed => "The spec lists the tool as one whose calls may be reused.",
        Because::SafeMethod => {
            "The method asks for nothing but an answer; the rules of HTTP decide what is stored."
        }
    }
}
