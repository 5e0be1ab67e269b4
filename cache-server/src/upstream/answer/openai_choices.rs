//! Answers made of choices: OpenAI chat/completions and completions, and the many servers
//! that speak the same form. A stream ends with `data: [DONE]`; with `n` above 1 its
//! choices arrive interleaved, told apart by their index.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::members::{Few, TokenCount, object};
use super::sse::{DONE, Ending, Event, Step, walk};
use super::tool_arguments::{self, Gathered};
use super::{Exchange, PARTS_MAX, Report, Unstorable};
use crate::cache::entry::Usage;

/// A whole answer, or one chunk of a stream.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Answer {
    object: Option<String>,
    error: Option<IgnoredAny>,
    model: Option<String>,
    choices: Few<Choice>,
    usage: Option<TokenUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice {
    index: Option<u64>,
    finish_reason: Option<String>,
    /// Of a whole chat answer.
    message: Option<Message>,
    /// Of a chat stream's chunk.
    delta: Option<Message>,
    /// Of completions.
    text: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Message {
    refusal: Option<String>,
    tool_calls: Few<ToolCall>,
    /// The form before `tool_calls`.
    function_call: Option<Function>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ToolCall {
    index: Option<u64>,
    /// A text; other things say nothing.
    id: Option<Value>,
    /// Absent in calls of custom tools, whose input is free text.
    function: Option<Function>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Function {
    arguments: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct TokenUsage {
    prompt_tokens: TokenCount,
    completion_tokens: TokenCount,
}

impl TokenUsage {
    pub(super) fn total(&self) -> Usage {
        Usage {
            input_tokens: self.prompt_tokens.or_zero(),
            output_tokens: self.completion_tokens.or_zero(),
        }
    }
}

/// Examines a JSON answer.
pub(super) fn examine_whole(exchange: &Exchange, text: &str) -> Report {
    let Some(answer) = object::<Answer>(text) else {
        return Report::unstorable(Unstorable::Malformed);
    };
    let mut report = Report::faultless();
    report.note(whole_verdict(exchange, &answer));
    report.usage = answer.usage.map(|usage| usage.total()).unwrap_or_default();
    report.note_model(answer.model);
    report
}

/// Examines an event stream.
pub(super) fn examine_stream(exchange: &Exchange, text: &str) -> Report {
    let mut stream = Stream::new(exchange);
    let ending = walk(text, |event| stream.read(event));
    stream.close(ending)
}

fn whole_verdict(exchange: &Exchange, answer: &Answer) -> Result<(), Unstorable> {
    if is_error(answer) {
        return Err(Unstorable::ErrorAnswer);
    }
    if answer.choices.overflowed {
        return Err(Unstorable::TooManyParts);
    }
    if answer.choices.members.is_empty() {
        return Err(Unstorable::NoChoices);
    }
    answer.choices.members.iter().try_for_each(|choice| choice_verdict(exchange, choice))
}

fn choice_verdict(exchange: &Exchange, choice: &Choice) -> Result<(), Unstorable> {
    let reason = choice.finish_reason.as_deref().unwrap_or_default();
    finish_verdict(exchange, reason)?;
    match &choice.message {
        Some(message) => message_verdict(message),
        None if choice.text.is_some() => Ok(()),
        None => Err(Unstorable::Malformed),
    }
}

fn message_verdict(message: &Message) -> Result<(), Unstorable> {
    refusal_verdict(message)?;
    if message.tool_calls.overflowed {
        return Err(Unstorable::TooManyParts);
    }
    let of_tools = message.tool_calls.members.iter().filter_map(|call| call.function.as_ref());
    of_tools
        .chain(&message.function_call)
        .try_for_each(|call| tool_arguments::verdict(call.arguments.as_deref().unwrap_or_default()))
}

fn refusal_verdict(message: &Message) -> Result<(), Unstorable> {
    match message.refusal.as_deref() {
        None | Some("") => Ok(()),
        Some(_) => Err(Unstorable::Refusal),
    }
}

/// The reasons of OpenAI's API reference ("The chat completion object", `finish_reason`).
fn finish_verdict(exchange: &Exchange, reason: &str) -> Result<(), Unstorable> {
    match reason {
        "stop" | "tool_calls" | "function_call" => Ok(()),
        "length" => exchange.length(),
        "content_filter" => Err(Unstorable::ContentFilter),
        "" => Err(Unstorable::NoFinish),
        _ => Err(Unstorable::UnknownFinish),
    }
}

/// OpenAI sends an `error` member; some servers of the same form send `object: "error"`.
fn is_error(answer: &Answer) -> bool {
    answer.error.is_some() || answer.object.as_deref() == Some("error")
}

/// What a stream has said so far.
struct Stream<'a> {
    exchange: &'a Exchange,
    report: Report,
    /// The choices met, and whether each has finished.
    choices: BTreeMap<u64, bool>,
    /// The last call without an index of each choice that has such.
    unnumbered: BTreeMap<u64, Unnumbered>,
    arguments: Gathered,
}

/// A tool call without an index: Gemini behind this form sends none, and several calls at once, whole.
#[derive(Default)]
struct Unnumbered {
    id: String,
    /// How many came before it.
    place: u64,
}

impl Unnumbered {
    /// Where a piece belongs: one with another id begins another call.
    fn place_of(&mut self, id: &str) -> u64 {
        if !id.is_empty() && id != self.id {
            self.place += u64::from(!self.id.is_empty());
            id.clone_into(&mut self.id);
        }
        self.place
    }
}

impl<'a> Stream<'a> {
    fn new(exchange: &'a Exchange) -> Self {
        Self {
            exchange,
            report: Report::faultless(),
            choices: BTreeMap::new(),
            unnumbered: BTreeMap::new(),
            arguments: Gathered::default(),
        }
    }

    fn read(&mut self, event: &Event<'_>) -> Step {
        if event.data.trim() == DONE {
            return Step::Last;
        }
        let finding = self.read_chunk(event);
        self.report.note(finding);
        Step::More
    }

    fn read_chunk(&mut self, event: &Event<'_>) -> Result<(), Unstorable> {
        if event.name == "error" {
            return Err(Unstorable::ErrorEvent);
        }
        let chunk = object::<Answer>(&event.data).ok_or(Unstorable::Malformed)?;
        if let Some(usage) = &chunk.usage {
            // Servers that count along send running totals: the last one holds.
            self.report.usage = usage.total();
        }
        if is_error(&chunk) {
            return Err(Unstorable::ErrorEvent);
        }
        self.report.note_model(chunk.model);
        if chunk.choices.overflowed {
            return Err(Unstorable::TooManyParts);
        }
        // Chunks without choices are normal: usage, or a filter's word on the prompt.
        chunk.choices.members.iter().try_for_each(|choice| self.read_choice(choice))
    }

    fn read_choice(&mut self, choice: &Choice) -> Result<(), Unstorable> {
        let index = choice.index.unwrap_or(0);
        if self.choices.len() >= PARTS_MAX && !self.choices.contains_key(&index) {
            return Err(Unstorable::TooManyParts);
        }
        let finished = self.choices.entry(index).or_insert(false);
        let reason = choice.finish_reason.as_deref().unwrap_or_default();
        if !reason.is_empty() {
            *finished = true;
            finish_verdict(self.exchange, reason)?;
        }
        choice.delta.iter().try_for_each(|delta| self.read_delta(index, delta))
    }

    fn read_delta(&mut self, choice: u64, delta: &Message) -> Result<(), Unstorable> {
        refusal_verdict(delta)?;
        if delta.tool_calls.overflowed {
            return Err(Unstorable::TooManyParts);
        }
        for call in &delta.tool_calls.members {
            if let Some(function) = &call.function {
                let id = call.id.as_ref().and_then(Value::as_str).unwrap_or_default();
                let unnumbered = || self.unnumbered.entry(choice).or_default().place_of(id);
                let place = (choice, Some(call.index.unwrap_or_else(unnumbered)));
                self.arguments.add(place, function.arguments.as_deref().unwrap_or_default())?;
            }
        }
        if let Some(function) = &delta.function_call {
            self.arguments
                .add((choice, None), function.arguments.as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    fn close(mut self, ending: Ending) -> Report {
        self.report.note(ending.verdict());
        if self.choices.is_empty() {
            self.report.note(Err(Unstorable::NoChoices));
        }
        if self.choices.values().any(|finished| !finished) {
            self.report.note(Err(Unstorable::NoFinish));
        }
        self.report.note(self.arguments.verdict());
        self.report
    }
}
