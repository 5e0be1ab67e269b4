//! Answers of Gemini generateContent and streamGenerateContent. A stream has no terminal
//! event: it is whole when the last chunk of every candidate carries a `finishReason`. It
//! comes as an event stream (`alt=sse`) or, by default, as one JSON array of chunks.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, SeqAccess, Visitor};

use super::members::{Few, Object, TokenCount, object};
use super::sse::{Ending, Step, walk};
use super::{Exchange, PARTS_MAX, Report, Unstorable};
use crate::cache::entry::Usage;

/// A whole answer, or one chunk of a stream: they have the same form.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Chunk {
    error: Option<IgnoredAny>,
    candidates: Few<Candidate>,
    prompt_feedback: Option<PromptFeedback>,
    usage_metadata: Option<UsageMetadata>,
    model_version: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Candidate {
    index: Option<u64>,
    finish_reason: Option<String>,
    content: Option<Content>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Content {
    parts: Few<IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct PromptFeedback {
    block_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct UsageMetadata {
    prompt_token_count: TokenCount,
    candidates_token_count: TokenCount,
    thoughts_token_count: TokenCount,
}

impl UsageMetadata {
    pub(super) fn total(&self) -> Usage {
        let written = self.candidates_token_count.or_zero();
        Usage {
            input_tokens: self.prompt_token_count.or_zero(),
            output_tokens: written.saturating_add(self.thoughts_token_count.or_zero()),
        }
    }
}

/// Examines a JSON answer.
pub(super) fn examine_whole(exchange: &Exchange, text: &str) -> Report {
    let Some(answer) = object::<Chunk>(text) else {
        return Report::unstorable(Unstorable::Malformed);
    };
    if answer.error.is_some() {
        return Report::unstorable(Unstorable::ErrorAnswer);
    }
    let mut chunks = Chunks::new(exchange);
    chunks.read(answer);
    chunks.close(Unstorable::NoFinish)
}

/// Examines a stream sent as an event stream.
pub(super) fn examine_stream(exchange: &Exchange, text: &str) -> Report {
    let mut chunks = Chunks::new(exchange);
    let ending = walk(text, |event| {
        match object(&event.data) {
            _ if event.name == "error" => chunks.report.note(Err(Unstorable::ErrorEvent)),
            Some(chunk) => chunks.read(chunk),
            None => chunks.report.note(Err(Unstorable::Malformed)),
        }
        Step::More
    });
    if ending == Ending::Cut {
        chunks.report.note(Err(Unstorable::StreamIncomplete));
    }
    chunks.close(Unstorable::StreamIncomplete)
}

/// Examines a stream sent as one JSON array.
pub(super) fn examine_array(exchange: &Exchange, text: &str) -> Report {
    // An error may come alone, without an array around it.
    if object::<Chunk>(text).is_some_and(|answer| answer.error.is_some()) {
        return Report::unstorable(Unstorable::ErrorAnswer);
    }
    let mut chunks = Chunks::new(exchange);
    let mut json = serde_json::Deserializer::from_str(text);
    let read = ChunkArray(&mut chunks).deserialize(&mut json).and_then(|()| json.end());
    if let Err(error) = read {
        let cut = error.is_eof();
        let reason = if cut { Unstorable::StreamIncomplete } else { Unstorable::Malformed };
        chunks.report.note(Err(reason));
    }
    chunks.close(Unstorable::StreamIncomplete)
}

/// The reasons of the Gemini API reference (`FinishReason`).
fn finish_verdict(exchange: &Exchange, reason: &str) -> Result<(), Unstorable> {
    match reason {
        "STOP" => Ok(()),
        "MAX_TOKENS" => exchange.length(),
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => Err(Unstorable::ContentFilter),
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
            Err(Unstorable::BadToolArguments)
        }
        // LANGUAGE, OTHER, FINISH_REASON_UNSPECIFIED, and what may come.
        _ => Err(Unstorable::UnknownFinish),
    }
}

/// What is known of a candidate.
#[derive(Clone, Copy, Default)]
struct CandidateState {
    /// Its last chunk carried a finish reason. Some models send one with every chunk, so
    /// an earlier one proves nothing.
    finished: bool,
    /// It has content. Gemini at times ends with `STOP` and none; asked again, it answers.
    spoke: bool,
}

/// What the chunks have said so far.
struct Chunks<'a> {
    exchange: &'a Exchange,
    report: Report,
    candidates: BTreeMap<u64, CandidateState>,
}

impl<'a> Chunks<'a> {
    fn new(exchange: &'a Exchange) -> Self {
        Self { exchange, report: Report::faultless(), candidates: BTreeMap::new() }
    }

    fn read(&mut self, chunk: Chunk) {
        let finding = self.chunk_verdict(&chunk);
        self.report.note(finding);
        if let Some(usage) = &chunk.usage_metadata {
            // Running totals: the last one holds.
            self.report.usage = usage.total();
        }
        self.report.note_model(chunk.model_version);
    }

    fn chunk_verdict(&mut self, chunk: &Chunk) -> Result<(), Unstorable> {
        if chunk.error.is_some() {
            return Err(Unstorable::ErrorEvent);
        }
        let feedback = chunk.prompt_feedback.as_ref();
        if feedback.is_some_and(|feedback| feedback.block_reason.is_some()) {
            return Err(Unstorable::ContentFilter);
        }
        if chunk.candidates.overflowed {
            return Err(Unstorable::TooManyParts);
        }
        chunk.candidates.members.iter().try_for_each(|candidate| self.read_candidate(candidate))
    }

    fn read_candidate(&mut self, candidate: &Candidate) -> Result<(), Unstorable> {
        let index = candidate.index.unwrap_or(0);
        if self.candidates.len() >= PARTS_MAX && !self.candidates.contains_key(&index) {
            return Err(Unstorable::TooManyParts);
        }
        let state = self.candidates.entry(index).or_default();
        state.finished = candidate.finish_reason.is_some();
        state.spoke |=
            candidate.content.as_ref().is_some_and(|content| !content.parts.members.is_empty());
        match &candidate.finish_reason {
            Some(reason) => finish_verdict(self.exchange, reason),
            None => Ok(()),
        }
    }

    /// Closes the account; a candidate that has not finished is `unfinished`.
    fn close(mut self, unfinished: Unstorable) -> Report {
        if self.candidates.values().any(|candidate| !candidate.finished) {
            self.report.note(Err(unfinished));
        }
        if self.candidates.is_empty() || self.candidates.values().any(|candidate| !candidate.spoke)
        {
            self.report.note(Err(Unstorable::NoChoices));
        }
        self.report
    }
}

/// Reads an array chunk by chunk, so that only one is in memory.
struct ChunkArray<'a, 'b>(&'a mut Chunks<'b>);

impl<'de> DeserializeSeed<'de> for ChunkArray<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ChunkArray<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of chunks")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(Object(chunk)) = array.next_element()? {
            self.0.read(chunk);
        }
        Ok(())
    }
}
