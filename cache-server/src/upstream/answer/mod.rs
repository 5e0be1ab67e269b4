//! Is an upstream's answer whole, and may it be stored?
//!
//! An HTTP message that ended cleanly with status 200 can still be no answer worth
//! keeping: cut at a token limit, blocked by a filter, a stream without its end, an
//! error in an answer's clothes. [`examine`] reads a complete body by the rules of its
//! route and says whether it may be stored, what it cost and which model gave it.
//! When in doubt it says no: a wrong no costs one more upstream call, a wrong yes is
//! served until it expires.
//!
//! In reading order: `sse` splits event streams, `members` reads JSON leniently and
//! within bounds, `tool_arguments` gathers what models pass to tools, and one file for
//! each form of answer follows: `openai_choices`, `openai_responses`, `anthropic`,
//! `gemini`, `figures` and `declared`. Everything here is pure: no I/O, no clock.
//!
//! **Bounds.** A body is untrusted. Nothing recurses into members that are not read, and
//! memory stays within a small multiple of the body: lists keep their first
//! [`PARTS_MAX`] members, and an answer with more choices, output items or tool calls
//! than that is not stored.

mod anthropic;
mod declared;
mod figures;
mod gemini;
mod members;
mod openai_choices;
mod openai_responses;
mod sse;
#[cfg(test)]
mod tests;
mod tool_arguments;

use keyspec::{ModelRoute, Route};

use crate::cache::entry::Usage;
use sse::Step;

pub use sse::EventFrames;

/// Longest model name reported, in bytes. A longer one is reported as unknown, since a
/// shortened name would be another model's.
pub const MODEL_NAME_BYTES_MAX: usize = 256;

/// How many members of one list are kept, and how many choices, content blocks or tool
/// calls of one stream are followed. No provider answers with as many.
pub const PARTS_MAX: usize = 1024;

/// What is known of the exchange besides the body.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// The route that was called: it decides which rules apply.
    pub route: Route,
    /// The answer's `Content-Type` is `text/event-stream`.
    pub event_stream: bool,
    /// The answer's `Content-Type` is JSON.
    pub json: bool,
    /// The request itself named a limit (`max_tokens` or the like), so an answer that
    /// ends there is what the caller asked for.
    pub names_token_limit: bool,
}

/// What an examination found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether the answer may be stored, and if not, the first reason met.
    pub verdict: Result<(), Unstorable>,
    /// Tokens the upstream counted, also where the answer may not be stored.
    pub usage: Usage,
    /// The model that answered, by the upstream's word; at most
    /// [`MODEL_NAME_BYTES_MAX`] bytes.
    pub model: Option<Box<str>>,
}

/// Why an answer may not be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// A filter ended or blocked it: OpenAI `content_filter`; Gemini `SAFETY`,
    /// `RECITATION` and kin, or a blocked prompt.
    #[error("a content filter ended the answer")]
    ContentFilter,
    /// The model declined: OpenAI `refusal` texts, Anthropic `stop_reason: refusal`. Such
    /// a decision is the provider's policy of the day and may be cut mid-sentence; callers
    /// who ask again should reach the model.
    #[error("the model refused")]
    Refusal,
    /// Cut at a token limit that the request did not name, or at the model's context
    /// window, which no request names.
    #[error("the answer was cut at a token limit")]
    Length,
    /// No choices, candidates, output, content, embeddings or results in it.
    #[error("the answer is empty")]
    NoChoices,
    /// Some choice never said why it ended.
    #[error("a choice has no finish reason")]
    NoFinish,
    /// It ended for a reason that is unknown here, or that the provider itself leaves open.
    #[error("a choice ended for an unknown reason")]
    UnknownFinish,
    /// A tool call whose arguments are not a JSON object.
    #[error("a tool call's arguments are not a JSON object")]
    BadToolArguments,
    /// Anthropic `pause_turn`: half a turn that the caller has to send back to continue.
    #[error("the turn is paused")]
    Paused,
    /// An OpenAI response whose status (or an item's) is not `completed`.
    #[error("the response is not completed")]
    NotCompleted,
    /// An event stream of a route whose streams have no end that we know.
    #[error("the event stream has no end that is known")]
    UnknownStream,
    /// An event stream without its end.
    #[error("the event stream has no end")]
    StreamIncomplete,
    /// An event stream that goes on after its end.
    #[error("the event stream goes on after its end")]
    DataAfterEnd,
    /// An error inside an event stream.
    #[error("the event stream holds an error")]
    ErrorEvent,
    /// An error object although the status said 200.
    #[error("the answer is an error")]
    ErrorAnswer,
    /// Not the JSON or the event stream that the route answers with.
    #[error("the answer is malformed")]
    Malformed,
    /// More than [`PARTS_MAX`] choices, items or tool calls.
    #[error("the answer has too many parts")]
    TooManyParts,
}

impl Unstorable {
    /// A short token (RFC 9110, section 5.6.2) for `Cache-Status`'s `detail`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ContentFilter => "content-filter",
            Self::Refusal => "refusal",
            Self::Length => "length",
            Self::NoChoices => "no-choices",
            Self::NoFinish => "no-finish",
            Self::UnknownFinish => "unknown-finish",
            Self::BadToolArguments => "bad-tool-arguments",
            Self::Paused => "paused",
            Self::NotCompleted => "not-completed",
            Self::UnknownStream => "unknown-stream",
            Self::StreamIncomplete => "stream-incomplete",
            Self::DataAfterEnd => "data-after-end",
            Self::ErrorEvent => "error-event",
            Self::ErrorAnswer => "error-answer",
            Self::Malformed => "malformed-answer",
            Self::TooManyParts => "too-many-parts",
        }
    }
}

/// Examines a complete body: the HTTP message has ended cleanly and its status was 200.
///
/// Never panics, whatever the body. Time is linear in the body's length.
#[must_use]
pub fn examine(exchange: &Exchange, body: &[u8]) -> Report {
    match exchange.route {
        Route::Model(route) => examine_model(route, exchange, body),
        Route::Declared => declared::examine(exchange, body),
        // Whole when its HTTP message is.
        Route::Generic => Report::faultless(),
    }
}

fn examine_model(route: ModelRoute, exchange: &Exchange, body: &[u8]) -> Report {
    // JSON (RFC 8259, section 8.1) and event streams are UTF-8; checked once, here.
    let Ok(text) = std::str::from_utf8(body) else {
        return Report::unstorable(Unstorable::Malformed);
    };
    match (route, exchange.event_stream) {
        (ModelRoute::OpenAiChatCompletions | ModelRoute::OpenAiCompletions, false) => {
            openai_choices::examine_whole(exchange, text)
        }
        (ModelRoute::OpenAiChatCompletions | ModelRoute::OpenAiCompletions, true) => {
            openai_choices::examine_stream(exchange, text)
        }
        (ModelRoute::OpenAiResponses, false) => openai_responses::examine_whole(exchange, text),
        (ModelRoute::OpenAiResponses, true) => openai_responses::examine_stream(exchange, text),
        (ModelRoute::AnthropicMessages, false) => anthropic::examine_whole(exchange, text),
        (ModelRoute::AnthropicMessages, true) => anthropic::examine_stream(exchange, text),
        (ModelRoute::GeminiGenerateContent, false) => gemini::examine_whole(exchange, text),
        (ModelRoute::GeminiStreamGenerateContent, false) => gemini::examine_array(exchange, text),
        (ModelRoute::GeminiGenerateContent | ModelRoute::GeminiStreamGenerateContent, true) => {
            gemini::examine_stream(exchange, text)
        }
        // These never stream: an event stream is not their JSON, and so malformed.
        (ModelRoute::OpenAiEmbeddings | ModelRoute::OpenAiModerations, _)
        | (ModelRoute::AnthropicCountTokens | ModelRoute::GeminiCountTokens, _)
        | (ModelRoute::GeminiEmbedContent | ModelRoute::GeminiBatchEmbedContents, _) => {
            figures::examine(route, text)
        }
    }
}

impl Exchange {
    /// The verdict on an ending at the token limit.
    fn length(&self) -> Result<(), Unstorable> {
        if self.names_token_limit { Ok(()) } else { Err(Unstorable::Length) }
    }
}

impl Report {
    /// A report that has found no fault yet; also that on an answer of which nothing is examined.
    #[must_use]
    pub fn faultless() -> Self {
        Self { verdict: Ok(()), usage: Usage::default(), model: None }
    }

    /// The report on a body of which nothing could be read.
    fn unstorable(reason: Unstorable) -> Self {
        Self { verdict: Err(reason), ..Self::faultless() }
    }

    /// Notes one more finding. The first fault stays: it is nearest to the cause.
    fn note(&mut self, finding: Result<(), Unstorable>) {
        if self.verdict.is_ok() {
            self.verdict = finding;
        }
    }

    /// Notes what reading one event found; after a fault the stream is read on, since its
    /// usage may still come.
    fn note_step(&mut self, read: Result<Step, Unstorable>) -> Step {
        self.note(read.map(|_| ()));
        read.unwrap_or(Step::More)
    }

    /// Notes the model that answered. The first name stays.
    fn note_model(&mut self, name: Option<String>) {
        let usable = |name: &String| !name.is_empty() && name.len() <= MODEL_NAME_BYTES_MAX;
        if self.model.is_none() {
            self.model = name.filter(usable).map(String::into_boxed_str);
        }
    }
}
