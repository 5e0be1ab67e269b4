//! Answers of OpenAI responses. The response object says by its `status` whether it is
//! whole; a stream ends with an event that carries this object once more, complete.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::members::{EventKind, Few, TokenCount, object};
use super::sse::{Event, Step, walk};
use super::tool_arguments::{self, Gathered};
use super::{Exchange, Report, Unstorable};
use crate::cache::entry::Usage;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Response {
    status: Option<String>,
    error: Option<IgnoredAny>,
    incomplete_details: Option<IncompleteDetails>,
    model: Option<String>,
    output: Few<Item>,
    usage: Option<TokenUsage>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct IncompleteDetails {
    reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    status: Option<String>,
    /// A text, but for items whose arguments are no function's.
    arguments: Option<Value>,
    content: Few<Part>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Part {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenUsage {
    input_tokens: TokenCount,
    output_tokens: TokenCount,
}

/// `response.completed` and the other events that end a stream.
#[derive(Deserialize)]
struct Terminal {
    response: Response,
}

/// `response.output_item.done`.
#[derive(Deserialize)]
struct ItemDone {
    item: Item,
}

/// `response.function_call_arguments.delta`.
#[derive(Deserialize)]
struct ArgumentsDelta {
    #[serde(default)]
    output_index: u64,
    delta: String,
}

/// Examines a JSON answer.
pub(super) fn examine_whole(exchange: &Exchange, text: &str) -> Report {
    let Some(response) = object::<Response>(text) else {
        return Report::unstorable(Unstorable::Malformed);
    };
    let mut report = Report::faultless();
    read_response(&mut report, exchange, response);
    report
}

/// Examines an event stream.
pub(super) fn examine_stream(exchange: &Exchange, text: &str) -> Report {
    let mut stream =
        Stream { exchange, report: Report::faultless(), arguments: Gathered::default() };
    let ending = walk(text, |event| stream.read(event));
    stream.report.note(ending.verdict());
    stream.report.note(stream.arguments.verdict());
    stream.report
}

fn read_response(report: &mut Report, exchange: &Exchange, response: Response) {
    report.note(response_verdict(exchange, &response));
    if let Some(usage) = &response.usage {
        report.usage = Usage {
            input_tokens: usage.input_tokens.or_zero(),
            output_tokens: usage.output_tokens.or_zero(),
        };
    }
    report.note_model(response.model);
}

fn response_verdict(exchange: &Exchange, response: &Response) -> Result<(), Unstorable> {
    if response.error.is_some() {
        return Err(Unstorable::ErrorAnswer);
    }
    let whole = status_verdict(exchange, response)?;
    if response.output.overflowed {
        return Err(Unstorable::TooManyParts);
    }
    if response.output.members.is_empty() {
        return Err(Unstorable::NoChoices);
    }
    for item in &response.output.members {
        item_verdict(item)?;
        let item_whole = item.status.as_deref().is_none_or(|status| status == "completed");
        if whole && !item_whole {
            return Err(Unstorable::NotCompleted);
        }
    }
    Ok(())
}

/// Whether the response is whole (`true`) or cut where the request wanted it (`false`).
/// The states are those of OpenAI's API reference ("The response object", `status`).
fn status_verdict(exchange: &Exchange, response: &Response) -> Result<bool, Unstorable> {
    match response.status.as_deref().unwrap_or_default() {
        "completed" => Ok(true),
        "incomplete" => incomplete_verdict(exchange, response).map(|()| false),
        "" => Err(Unstorable::NoFinish),
        // failed, in_progress, cancelled, queued, and what may come.
        _ => Err(Unstorable::NotCompleted),
    }
}

fn incomplete_verdict(exchange: &Exchange, response: &Response) -> Result<(), Unstorable> {
    let details = response.incomplete_details.as_ref();
    match details.and_then(|details| details.reason.as_deref()).unwrap_or_default() {
        "max_output_tokens" => exchange.length(),
        "content_filter" => Err(Unstorable::ContentFilter),
        "" => Err(Unstorable::NoFinish),
        _ => Err(Unstorable::UnknownFinish),
    }
}

fn item_verdict(item: &Item) -> Result<(), Unstorable> {
    if item.kind.as_deref() == Some("function_call") {
        let arguments = item.arguments.as_ref().and_then(Value::as_str);
        tool_arguments::verdict(arguments.unwrap_or_default())?;
    }
    if item.content.overflowed {
        return Err(Unstorable::TooManyParts);
    }
    let refuses = |part: &Part| part.kind.as_deref() == Some("refusal");
    if item.content.members.iter().any(refuses) { Err(Unstorable::Refusal) } else { Ok(()) }
}

/// What a stream has said so far.
struct Stream<'a> {
    exchange: &'a Exchange,
    report: Report,
    arguments: Gathered,
}

impl Stream<'_> {
    fn read(&mut self, event: &Event<'_>) -> Step {
        let read = self.read_event(event);
        self.report.note_step(read)
    }

    /// Event types that are not named here only repeat what the terminal one says.
    fn read_event(&mut self, event: &Event<'_>) -> Result<Step, Unstorable> {
        if event.name == "error" {
            return Err(Unstorable::ErrorEvent);
        }
        let kind: EventKind = object(&event.data).ok_or(Unstorable::Malformed)?;
        match kind.name.as_str() {
            "response.completed" | "response.incomplete" => self.read_terminal(&event.data),
            "response.failed" | "response.cancelled" => {
                self.report.note(Err(Unstorable::ErrorEvent));
                self.read_terminal(&event.data)
            }
            "response.output_item.done" => self.read_item(&event.data),
            "response.function_call_arguments.delta" => self.read_arguments(&event.data),
            "error" => Err(Unstorable::ErrorEvent),
            _ if kind.error.is_some() => Err(Unstorable::ErrorEvent),
            _ => Ok(Step::More),
        }
    }

    fn read_terminal(&mut self, data: &str) -> Result<Step, Unstorable> {
        let Terminal { response } = object(data).ok_or(Unstorable::Malformed)?;
        read_response(&mut self.report, self.exchange, response);
        Ok(Step::Last)
    }

    fn read_item(&mut self, data: &str) -> Result<Step, Unstorable> {
        let ItemDone { item } = object(data).ok_or(Unstorable::Malformed)?;
        item_verdict(&item).map(|()| Step::More)
    }

    /// The pieces are replayed too, so they have to add up as well as the whole does.
    fn read_arguments(&mut self, data: &str) -> Result<Step, Unstorable> {
        let piece: ArgumentsDelta = object(data).ok_or(Unstorable::Malformed)?;
        self.arguments.add((piece.output_index, None), &piece.delta)?;
        Ok(Step::More)
    }
}
