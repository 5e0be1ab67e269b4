//! What a body means: the facts that decide on reuse and storing, and its digest.

use std::fmt;

use crate::canonical;
use crate::deciding::Deciding;
use crate::json::{Document, Object, Value, View};
use crate::mcp;
use crate::never::{self, NeverReason};
use crate::number;
use crate::paths::Place;
use crate::route::{Kind, ModelRoute, Provider};
use crate::sink::HashSink;
use crate::spec::{BodyForm, Dialect, KeySpec};

/// Longest model name that is reported, in bytes as spelled in the body. A longer one is keyed
/// all the same and counts as absent here.
pub const MODEL_BYTES_MAX: usize = 256;

/// What a spec read from a body: all that a key has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// BLAKE3 of the canonical form.
    pub digest: [u8; 32],
    /// What it says.
    pub facts: BodyFacts,
}

/// What a body says, as far as something depends on it. Small, without the body's content but for the
/// names of the model and of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyFacts {
    /// How the body was read; never [`BodyForm::ByType`].
    pub body: BodyForm,
    /// What is asked for.
    pub kind: Kind,
    /// The top-level `model`, if it is a string of at most [`MODEL_BYTES_MAX`] bytes. Azure
    /// and Gemini name the model in the path instead.
    pub model: Option<Box<str>>,
    /// The tool that is called (MCP), if its name is no longer than a model's may be.
    pub tool: Option<Box<str>>,
    /// Whether the answer is a stream of events.
    pub stream: bool,
    /// Whether the request itself limits the tokens of the answer: then an answer that ends at
    /// the limit is the one asked for.
    pub names_token_limit: bool,
    /// Whether the temperature is given and exactly 0. Omitted it is not: providers default
    /// to 1.
    pub temperature_is_zero: bool,
    /// Whether a `seed` is given that is a number, and not negative.
    pub has_seed: bool,
    /// Whether the upstream stores the answer because the request does not forbid it: an OpenAI
    /// response without `store: false`.
    pub stores_by_default: bool,
    /// Why answers to this are never reused, whatever is declared.
    pub never: Option<NeverReason>,
}

/// A body that was read, and whose digest was not taken yet. Of a chat of a few KB the digest is two thirds
/// of the work, and for nothing where no key is wanted.
pub struct OpenBody<'b> {
    facts: BodyFacts,
    undigested: Undigested<'b>,
}

/// What the digest is of.
enum Undigested<'b> {
    Json { document: Document<'b>, root: Place<'b> },
    Canonical(Vec<u8>),
}

impl<'b> OpenBody<'b> {
    /// A JSON body, and what of it counts.
    pub(crate) fn json(spec: &KeySpec, document: Document<'b>, root: Place<'b>) -> Self {
        let facts = BodyFacts::of_json(spec, document.object());
        OpenBody { facts, undigested: Undigested::Json { document, root } }
    }

    /// One of another form, by its canonical form.
    pub(crate) fn other(spec: &KeySpec, form: BodyForm, canonical: Vec<u8>) -> Self {
        let facts = BodyFacts::of_other(spec, form);
        OpenBody { facts, undigested: Undigested::Canonical(canonical) }
    }

    /// What it says.
    pub fn facts(&self) -> &BodyFacts {
        &self.facts
    }

    /// What it says, for one who wants no more.
    pub fn into_facts(self) -> BodyFacts {
        self.facts
    }

    /// Takes the digest.
    pub fn into_meaning(self) -> Meaning {
        let digest = match self.undigested {
            Undigested::Json { document, root } => {
                let mut sink = HashSink::new(document.length());
                canonical::put(document.root(), root, &mut sink);
                sink.finish()
            }
            Undigested::Canonical(canonical) => *blake3::hash(&canonical).as_bytes(),
        };
        Meaning { digest, facts: self.facts }
    }
}

impl fmt::Debug for OpenBody<'_> {
    /// Shows what it says, and nothing of its content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenBody").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl BodyFacts {
    /// What a JSON body says; `top` is its top level, if that is an object.
    fn of_json(spec: &KeySpec, top: Option<Object<'_>>) -> Self {
        let facts = Self::of_other(spec, BodyForm::Json);
        match (spec.dialect(), top) {
            (Dialect::Model(route), Some(top)) => facts.of_model(route, top),
            (Dialect::Mcp, Some(top)) => {
                let mcp::Call { kind, tool, never } = mcp::call(top);
                Self { kind, tool, never, ..facts }
            }
            (Dialect::Http, Some(top)) => {
                Self { model: top.get(&spec.model_member).and_then(short_text), ..facts }
            }
            (_, None) => facts,
        }
    }

    /// Of a body that says nothing we understand.
    fn of_other(spec: &KeySpec, body: BodyForm) -> Self {
        Self {
            body,
            kind: spec.kind(),
            model: None,
            tool: None,
            stream: false,
            names_token_limit: false,
            temperature_is_zero: false,
            has_seed: false,
            stores_by_default: false,
            never: None,
        }
    }

    fn of_model(self, route: ModelRoute, top: Object<'_>) -> Self {
        let top = Deciding::of(top);
        let settings = settings(route.provider(), &top);
        Self {
            model: top.model.and_then(short_text),
            stream: route == ModelRoute::GeminiStreamGenerateContent
                || top.stream.is_some_and(is_true),
            names_token_limit: names_token_limit(route.provider(), &settings),
            temperature_is_zero: settings.temperature.is_some_and(is_zero),
            has_seed: settings.seed.is_some_and(is_seed),
            stores_by_default: route == ModelRoute::OpenAiResponses
                && !top.store.is_some_and(is_false),
            never: never::reason(route, &top),
            ..self
        }
    }
}

/// Of the object that temperature, seed and token limit stand in. Gemini's may be spelled in two
/// ways; a request with both says nothing certain.
fn settings<'d>(provider: Provider, top: &Deciding<'d>) -> Deciding<'d> {
    if provider != Provider::Gemini {
        return *top;
    }
    match (top.generation_config, top.generation_config_snake) {
        (Some(config), None) | (None, Some(config)) => {
            as_object(config).map(Deciding::of).unwrap_or_default()
        }
        _ => Deciding::default(),
    }
}

fn names_token_limit(provider: Provider, settings: &Deciding<'_>) -> bool {
    match provider {
        Provider::OpenAi => {
            settings.max_tokens.is_some()
                || settings.max_completion_tokens.is_some()
                || settings.max_output_tokens.is_some()
        }
        Provider::Anthropic => settings.max_tokens.is_some(),
        Provider::Gemini => {
            settings.max_output_tokens_camel.is_some() || settings.max_output_tokens.is_some()
        }
    }
}

fn short_text(value: Value<'_>) -> Option<Box<str>> {
    match value.view() {
        View::String(text) if text.raw_len() <= MODEL_BYTES_MAX => Some(text.unescaped().into()),
        _ => None,
    }
}

fn as_object(value: Value<'_>) -> Option<Object<'_>> {
    match value.view() {
        View::Object(object) => Some(object),
        _ => None,
    }
}

fn is_true(value: Value<'_>) -> bool {
    matches!(value.view(), View::Bool(true))
}

fn is_false(value: Value<'_>) -> bool {
    matches!(value.view(), View::Bool(false))
}

/// To some servers a negative one asks for a seed drawn by chance.
fn is_seed(value: Value<'_>) -> bool {
    matches!(value.view(), View::Number(spelled) if !spelled.starts_with('-'))
}

fn is_zero(value: Value<'_>) -> bool {
    matches!(value.view(), View::Number(spelled) if number::is_zero(spelled))
}
