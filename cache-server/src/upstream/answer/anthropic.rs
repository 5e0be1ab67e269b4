//! Answers of Anthropic messages. A stream opens with `message_start`, sends its content
//! block by block, says why it ended in `message_delta` and ends with `message_stop`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::members::{EventKind, Few, TokenCount, object};
use super::sse::{Ending, Event, Step, walk};
use super::tool_arguments::Gathered;
use super::{Exchange, PARTS_MAX, Report, Unstorable};
use crate::cache::entry::Usage;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Message {
    #[serde(rename = "type")]
    kind: Option<String>,
    error: Option<IgnoredAny>,
    model: Option<String>,
    content: Few<Block>,
    stop_reason: Option<String>,
    usage: Option<TokenUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Block {
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Of `tool_use`; JSON already, so that only its absence is a fault.
    input: Option<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenUsage {
    input_tokens: TokenCount,
    cache_creation_input_tokens: TokenCount,
    cache_read_input_tokens: TokenCount,
    output_tokens: TokenCount,
}

#[derive(Deserialize)]
struct MessageStart {
    message: Message,
}

#[derive(Deserialize)]
struct BlockStart {
    index: u64,
}

#[derive(Deserialize)]
struct BlockDelta {
    index: u64,
    delta: Delta,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    /// Of `input_json_delta` alone.
    partial_json: Option<String>,
}

#[derive(Deserialize)]
struct BlockStop {
    index: u64,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MessageDelta {
    delta: MessageChange,
    usage: Option<TokenUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct MessageChange {
    stop_reason: Option<String>,
}

impl TokenUsage {
    fn total(&self) -> Usage {
        let cached = self.cache_creation_input_tokens.or_zero();
        let cached = cached.saturating_add(self.cache_read_input_tokens.or_zero());
        Usage {
            input_tokens: self.input_tokens.or_zero().saturating_add(cached),
            output_tokens: self.output_tokens.or_zero(),
        }
    }

    /// Takes in a later event's figures. They are running totals that repeat earlier ones
    /// or leave them out, so of each the larger holds and nothing is added up.
    fn advance(&mut self, later: Option<&Self>) {
        let Some(later) = later else { return };
        let larger = |a: TokenCount, b: TokenCount| TokenCount(a.0.max(b.0));
        *self = Self {
            input_tokens: larger(self.input_tokens, later.input_tokens),
            cache_creation_input_tokens: larger(
                self.cache_creation_input_tokens,
                later.cache_creation_input_tokens,
            ),
            cache_read_input_tokens: larger(
                self.cache_read_input_tokens,
                later.cache_read_input_tokens,
            ),
            output_tokens: larger(self.output_tokens, later.output_tokens),
        };
    }
}

/// Examines a JSON answer.
pub(super) fn examine_whole(exchange: &Exchange, text: &str) -> Report {
    let Some(message) = object::<Message>(text) else {
        return Report::unstorable(Unstorable::Malformed);
    };
    let mut report = Report::faultless();
    report.note(whole_verdict(exchange, &message));
    report.usage = message.usage.as_ref().map(TokenUsage::total).unwrap_or_default();
    report.note_model(message.model);
    report
}

/// Examines an event stream.
pub(super) fn examine_stream(exchange: &Exchange, text: &str) -> Report {
    let mut stream = Stream::new(exchange);
    let ending = walk(text, |event| stream.read(event));
    stream.close(ending)
}

fn whole_verdict(exchange: &Exchange, message: &Message) -> Result<(), Unstorable> {
    if message.error.is_some() || message.kind.as_deref() == Some("error") {
        return Err(Unstorable::ErrorAnswer);
    }
    stop_verdict(exchange, message.stop_reason.as_deref().unwrap_or_default())?;
    if message.content.overflowed {
        return Err(Unstorable::TooManyParts);
    }
    if message.content.members.is_empty() {
        return Err(Unstorable::NoChoices);
    }
    let bad = |block: &Block| block.kind.as_deref() == Some("tool_use") && block.input.is_none();
    if message.content.members.iter().any(bad) {
        return Err(Unstorable::BadToolArguments);
    }
    Ok(())
}

/// The reasons of Anthropic's guide "Handling stop reasons".
fn stop_verdict(exchange: &Exchange, reason: &str) -> Result<(), Unstorable> {
    match reason {
        "end_turn" | "stop_sequence" | "tool_use" => Ok(()),
        "max_tokens" => exchange.length(),
        // The model's window is no limit that the request named.
        "model_context_window_exceeded" => Err(Unstorable::Length),
        "pause_turn" => Err(Unstorable::Paused),
        "refusal" => Err(Unstorable::Refusal),
        "" => Err(Unstorable::NoFinish),
        _ => Err(Unstorable::UnknownFinish),
    }
}

/// What has become of a content block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BlockState {
    Open,
    Stopped,
}

/// What a stream has said so far.
struct Stream<'a> {
    exchange: &'a Exchange,
    report: Report,
    usage: TokenUsage,
    started: bool,
    stopped_for_a_reason: bool,
    blocks: BTreeMap<u64, BlockState>,
    arguments: Gathered,
}

impl<'a> Stream<'a> {
    fn new(exchange: &'a Exchange) -> Self {
        Self {
            exchange,
            report: Report::faultless(),
            usage: TokenUsage::default(),
            started: false,
            stopped_for_a_reason: false,
            blocks: BTreeMap::new(),
            arguments: Gathered::default(),
        }
    }

    fn read(&mut self, event: &Event<'_>) -> Step {
        let read = self.read_event(event);
        self.report.note_step(read)
    }

    /// Event types that are not named here (`ping`, and what may come) are passed over, as
    /// Anthropic's versioning policy asks.
    fn read_event(&mut self, event: &Event<'_>) -> Result<Step, Unstorable> {
        if event.name == "error" {
            return Err(Unstorable::ErrorEvent);
        }
        let kind: EventKind = parse(event)?;
        match kind.name.as_str() {
            "message_start" => self.start(parse(event)?),
            "content_block_start" => self.start_block(&parse(event)?)?,
            "content_block_delta" => self.extend_block(&parse(event)?)?,
            "content_block_stop" => self.stop_block(&parse(event)?)?,
            "message_delta" => self.change(&parse(event)?)?,
            "message_stop" => return Ok(Step::Last),
            "error" => return Err(Unstorable::ErrorEvent),
            _ if kind.error.is_some() => return Err(Unstorable::ErrorEvent),
            _ => {}
        }
        Ok(Step::More)
    }

    fn start(&mut self, MessageStart { message }: MessageStart) {
        self.started = true;
        self.usage.advance(message.usage.as_ref());
        self.report.note_model(message.model);
    }

    fn start_block(&mut self, block: &BlockStart) -> Result<(), Unstorable> {
        if self.blocks.len() >= PARTS_MAX {
            return Err(Unstorable::TooManyParts);
        }
        let earlier = self.blocks.insert(block.index, BlockState::Open);
        if earlier.is_some() { Err(Unstorable::Malformed) } else { Ok(()) }
    }

    fn extend_block(&mut self, block: &BlockDelta) -> Result<(), Unstorable> {
        if self.blocks.get(&block.index) != Some(&BlockState::Open) {
            return Err(Unstorable::Malformed);
        }
        // A tool without arguments sends one empty piece, which stands for `{}`.
        match block.delta.partial_json.as_deref() {
            None | Some("") => Ok(()),
            Some(piece) => self.arguments.add((block.index, None), piece),
        }
    }

    fn stop_block(&mut self, block: &BlockStop) -> Result<(), Unstorable> {
        let state = self.blocks.get_mut(&block.index).ok_or(Unstorable::Malformed)?;
        *state = BlockState::Stopped;
        Ok(())
    }

    fn change(&mut self, change: &MessageDelta) -> Result<(), Unstorable> {
        self.usage.advance(change.usage.as_ref());
        let Some(reason) = change.delta.stop_reason.as_deref() else { return Ok(()) };
        self.stopped_for_a_reason = true;
        stop_verdict(self.exchange, reason)
    }

    fn close(mut self, ending: Ending) -> Report {
        self.report.usage = self.usage.total();
        self.report.note(ending.verdict());
        let blocks_open = self.blocks.values().any(|state| *state == BlockState::Open);
        if !self.started || blocks_open {
            self.report.note(Err(Unstorable::StreamIncomplete));
        }
        if !self.stopped_for_a_reason {
            self.report.note(Err(Unstorable::NoFinish));
        }
        if self.blocks.is_empty() {
            self.report.note(Err(Unstorable::NoChoices));
        }
        self.report.note(self.arguments.verdict());
        self.report
    }
}

fn parse<T: serde::de::DeserializeOwned>(event: &Event<'_>) -> Result<T, Unstorable> {
    object(&event.data).ok_or(Unstorable::Malformed)
}
