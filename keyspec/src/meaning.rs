//! What a body says, beyond its digest: the facts that decide on reuse and storing.

use crate::deciding::Deciding;
use crate::json::{Object, Value, View};
use crate::mcp;
use crate::never::{self, NeverReason};
use crate::number;
use crate::route::{Kind, ModelRoute, Provider};
use crate::spec::{BodyForm, Dialect, KeySpec};

/// Longest model name that is reported, in bytes as spelled in the body. A longer one is keyed
/// all the same and counts as absent here.
pub const MODEL_BYTES_MAX: usize = 256;

/// What a spec read from a body. Small, without the body's content but for the model's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// BLAKE3 of the canonical form.
    pub digest: [u8; 32],
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
    /// Whether a `seed` is given that is a number.
    pub has_seed: bool,
    /// Whether the upstream stores the answer because the request does not forbid it: an OpenAI
    /// response without `store: false`.
    pub stores_by_default: bool,
    /// Why answers to this are never reused, whatever is declared.
    pub never: Option<NeverReason>,
}

impl Meaning {
    /// What a JSON body says; `top` is its top level, if that is an object.
    pub(crate) fn of_json(spec: &KeySpec, top: Option<Object<'_>>, digest: [u8; 32]) -> Self {
        let said = Self::of_other(spec, BodyForm::Json, digest);
        match (spec.dialect(), top) {
            (Dialect::Model(route), Some(top)) => said.of_model(route, top),
            (Dialect::Mcp, Some(top)) => {
                let mcp::Call { kind, tool, never } = mcp::call(top);
                Self { kind, tool, never, ..said }
            }
            (Dialect::Http, Some(top)) => {
                Self { model: top.get(&spec.model_member).and_then(short_text), ..said }
            }
            (_, None) => said,
        }
    }

    /// Of a body that says nothing we understand.
    pub(crate) fn of_other(spec: &KeySpec, body: BodyForm, digest: [u8; 32]) -> Self {
        Self {
            digest,
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
            has_seed: settings.seed.is_some_and(is_number),
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

fn is_number(value: Value<'_>) -> bool {
    matches!(value.view(), View::Number(_))
}

fn is_zero(value: Value<'_>) -> bool {
    matches!(value.view(), View::Number(spelled) if number::is_zero(spelled))
}
