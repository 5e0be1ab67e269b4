//! What spans and their attributes are called, in one place.
//!
//! Names follow OpenTelemetry's semantic conventions (HTTP spans, generative AI spans) where
//! they have one; ours begin with `cache.`. Texts that a caller chose, the path and the model,
//! are cut at [`TEXT_BYTES_MAX`]; all others are words of this program or of the config.

use std::borrow::Cow;

use http::{Method, StatusCode, Uri};
use keyspec::{Kind, ModelRoute, Provider, Route};
use opentelemetry::KeyValue;

use super::{Answered, Call};
use crate::telemetry::TierName;

/// `service.name`, and the name of the instrumentation scope.
pub(super) const SERVICE: &str = "cache-server";

/// The step that identifies the request, reads it and makes its key.
pub(super) const KEY: &str = "key";
/// The step that looks for an entry.
pub(super) const LOOKUP: &str = "lookup";
/// The step that joins or begins a flight, and waits for the head of its answer.
pub(super) const COALESCE: &str = "coalesce";
/// The step that stores a fetched answer.
pub(super) const STORE: &str = "store";

/// Bytes of a text that a caller chose.
const TEXT_BYTES_MAX: usize = 1024;

/// The name of the span of a request or a call: the method, and the model route if it is one.
pub(super) fn span(method: &Method, route: Option<Route>) -> Cow<'static, str> {
    let method = match known(method) {
        OTHER => "HTTP",
        known => known,
    };
    route.map_or(method.into(), |route| format!("{method} {}", route.name()).into())
}

const OTHER: &str = "_OTHER";

/// Callers may invent methods; their number is bounded here.
fn known(method: &Method) -> &'static str {
    const KNOWN: [&str; 9] =
        ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

pub(super) fn of_request(method: &Method, uri: &Uri) -> [KeyValue; 3] {
    let scheme = if uri.scheme_str() == Some("https") { "https" } else { "http" };
    [
        KeyValue::new("http.request.method", known(method)),
        KeyValue::new("url.path", bounded(uri.path())),
        KeyValue::new("url.scheme", scheme),
    ]
}

pub(super) fn of_route(route: Route) -> Vec<KeyValue> {
    let mut attributes = vec![KeyValue::new("cache.route", route.name())];
    if let Route::Model(route) = route {
        attributes.push(KeyValue::new("gen_ai.operation.name", operation(route)));
        attributes.push(KeyValue::new("gen_ai.provider.name", provider(route)));
    }
    attributes
}

pub(super) fn of_model(model: &str) -> KeyValue {
    KeyValue::new("gen_ai.request.model", bounded(model))
}

pub(super) fn of_call(call: &Call<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("http.request.method", known(call.method)),
        KeyValue::new("url.path", bounded(call.path)),
        KeyValue::new("cache.upstream", call.upstream.to_owned()),
    ];
    let host = call.base.host_str().map(|host| host.trim_matches(['[', ']']).to_owned());
    attributes.extend(host.map(|host| KeyValue::new("server.address", host)));
    let port = call.base.port_or_known_default().map(i64::from);
    attributes.extend(port.map(|port| KeyValue::new("server.port", port)));
    attributes.extend(call.route.into_iter().flat_map(of_route));
    attributes
}

pub(super) fn of_answer(answer: &Answered) -> impl Iterator<Item = KeyValue> {
    let outcome = KeyValue::new("cache.outcome", answer.outcome.name());
    let reason = Some(answer.reason).filter(|reason| !reason.is_empty()).map(reason);
    [Some(outcome), reason, answer.tier.map(tier)].into_iter().flatten()
}

pub(super) fn reason(reason: &'static str) -> KeyValue {
    KeyValue::new("cache.reason", reason)
}

pub(super) fn tier(tier: TierName) -> KeyValue {
    KeyValue::new("cache.tier", tier.name())
}

pub(super) fn role(role: &'static str) -> KeyValue {
    KeyValue::new("cache.role", role)
}

pub(super) fn status(status: StatusCode) -> KeyValue {
    KeyValue::new("http.response.status_code", i64::from(status.as_u16()))
}

/// A status or a word of this program.
pub(super) fn error(kind: &str) -> KeyValue {
    KeyValue::new("error.type", kind.to_owned())
}

fn operation(route: ModelRoute) -> &'static str {
    match (route, route.kind()) {
        (ModelRoute::OpenAiCompletions, _) => "text_completion",
        (ModelRoute::GeminiGenerateContent | ModelRoute::GeminiStreamGenerateContent, _) => {
            "generate_content"
        }
        (_, Kind::Generation) => "chat",
        (_, Kind::Embedding) => "embeddings",
        // The conventions have no word for these.
        (_, Kind::Moderation) => "moderation",
        (_, Kind::TokenCount | Kind::Listing | Kind::ToolCall | Kind::Resource) => "count_tokens",
    }
}

fn provider(route: ModelRoute) -> &'static str {
    match route.provider() {
        Provider::OpenAi => "openai",
        Provider::Anthropic => "anthropic",
        Provider::Gemini => "gcp.gemini",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_named_by_a_closed_set_of_words() {
        let invented = Method::from_bytes(b"SECRET-METHOD").unwrap();
        assert_eq!(span(&Method::GET, None), "GET");
        assert_eq!(span(&invented, None), "HTTP");
        let route = Some(Route::Model(ModelRoute::OpenAiEmbeddings));
        assert_eq!(span(&Method::POST, route), "POST openai.embeddings");
        let attributes = of_request(&invented, &Uri::from_static("/x?key=secret"));
        let said = format!("{attributes:?}").to_lowercase();
        assert!(said.contains("_other") && !said.contains("secret"), "{said}");
    }

    #[test]
    fn a_callers_text_is_cut_at_its_bound_and_never_within_a_character() {
        assert_eq!(bounded("gpt-4o"), "gpt-4o");
        assert_eq!(bounded(&"x".repeat(5000)).len(), TEXT_BYTES_MAX);
        // Three bytes each: the bound falls within one.
        assert_eq!(bounded(&"€".repeat(5000)).len(), 1023);
    }
}
