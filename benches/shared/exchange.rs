//! What is asked and what is answered: a chat completion, as a whole and as a stream.
//!
//! Prompts differ in a number of fixed width, so that a caller patches digits into one buffer
//! instead of building requests while it measures. All prompts have the same answer.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Bytes of a request's body.
pub(crate) const QUESTION_BYTES: usize = 2048;
/// Bytes of an answer's body, about.
pub(crate) const ANSWER_BYTES: usize = 2800;
/// The last event of a stream.
pub(crate) const DONE: &[u8] = b"data: [DONE]\n\n";
/// Where a request asks the upstream to think first. The cache forwards it and keys nothing by
/// it.
pub(crate) const DELAY_FIELD: &str = "x-bench-delay-ms";
/// Where chat completions are.
pub(crate) const PATH: &str = "/v1/chat/completions";
/// A credential, invented.
pub(crate) const CREDENTIAL: &str = "Bearer sk-bench-0123456789abcdef0123456789abcdef";
/// An answer of fewer bytes is small.
const SMALL_BYTES: usize = 1024;

/// Prose with the escapes that real prompts have.
const PROSE: &str = "You review a change to a storage engine. Say what it does, what it \
    breaks, and what you would \"leave out\".\nBe brief: three sentences, no lists.\n\n";
/// Digits of a prompt's number.
pub(crate) const NUMBER_DIGITS: usize = 16;
/// Where the number goes.
pub(crate) const NUMBER_SLOT: &str = "0000000000000000";

/// What a question is like.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Whether it names temperature 0, so that its answer is reused.
    pub(crate) reusable: bool,
    /// Whether it wants a stream.
    pub(crate) stream: bool,
    /// How long the upstream thinks.
    pub(crate) delay_ms: u64,
}

/// A request whose prompt's number can be set.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    /// Where the number stands.
    slots: Vec<usize>,
}

impl Request {
    /// The request of this question to `address`, with more header fields: lines with their ends.
    pub(crate) fn with_fields(
        question: Question,
        address: SocketAddr,
        fields: &str,
    ) -> anyhow::Result<Request> {
        let body = question_body(question)?;
        let text = format!(
            "POST {PATH} HTTP/1.1\r\n\
             host: {address}\r\n\
             authorization: {CREDENTIAL}\r\n\
             content-type: application/json\r\n\
             accept: application/json\r\n\
             user-agent: side-by-side\r\n\
             {DELAY_FIELD}: {}\r\n\
             {fields}content-length: {}\r\n\r\n{body}",
            question.delay_ms,
            body.len(),
        );
        Request::of(text)
    }

    /// This request, which has a [`NUMBER_SLOT`], or some.
    pub(crate) fn of(text: String) -> anyhow::Result<Request> {
        let slots: Vec<usize> = text.match_indices(NUMBER_SLOT).map(|(at, _)| at).collect();
        ensure!(!slots.is_empty(), "the request has no place for its number");
        Ok(Request { bytes: text.into_bytes(), slots })
    }

    /// The bytes to send for the prompt of this number.
    pub(crate) fn numbered(&mut self, number: u64) -> &[u8] {
        for slot in &self.slots {
            let mut left = number;
            for digit in self.bytes[*slot..slot + NUMBER_DIGITS].iter_mut().rev() {
                *digit = b"0123456789"[usize::try_from(left % 10).unwrap_or(0)];
                left /= 10;
            }
        }
        &self.bytes
    }
}

/// The body of a question, with a [`NUMBER_SLOT`]: members in the order in which SDKs write them,
/// which is not the canonical one.
pub(crate) fn question_body(question: Question) -> anyhow::Result<String> {
    let temperature = if question.reusable { ",\"temperature\":0" } else { "" };
    let stream = if question.stream { ",\"stream\":true" } else { "" };
    let body = |system: &str| -> anyhow::Result<String> {
        let system = serde_json::to_string(system)?;
        Ok(format!(
            "{{\"messages\":[{{\"role\":\"system\",\"content\":{system}}},\
             {{\"role\":\"user\",\"content\":\"Review change {NUMBER_SLOT}.\"}}],\
             \"model\":\"gpt-4o-mini\"{temperature}{stream}}}"
        ))
    };
    let room = QUESTION_BYTES.saturating_sub(body("")?.len());
    body(&prose(room))
}

/// Prose that takes `bytes` as a JSON text, give or take one escape.
fn prose(bytes: usize) -> String {
    let mut taken = 0;
    let escaped = |letter: char| if matches!(letter, '"' | '\n') { 2 } else { 1 };
    let fits = |letter: &char| {
        taken += escaped(*letter);
        taken <= bytes
    };
    PROSE.chars().cycle().take_while(fits).collect()
}

/// Whether a request's body asks for a stream.
pub(crate) fn asks_for_stream(body: &[u8]) -> bool {
    memmem::find(body, b"\"stream\":true").is_some()
}

/// How long a request asks the upstream to think.
pub(crate) fn delay(headers: &HeaderMap) -> Option<Duration> {
    let millis = headers.get(DELAY_FIELD)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(millis)).filter(|delay| !delay.is_zero())
}

/// The body of a whole answer of the usual size.
pub(crate) fn answer_body() -> anyhow::Result<Bytes> {
    answer_of(ANSWER_BYTES)
}

/// The body of a whole answer of this size, indented as the provider does; a small one is not, as the
/// indents alone would fill it.
pub(crate) fn answer_of(bytes: usize) -> anyhow::Result<Bytes> {
    let is_small = bytes < SMALL_BYTES;
    let written = if is_small { serde_json::to_string } else { serde_json::to_string_pretty };
    let body = |content: &str| -> anyhow::Result<String> {
        let message =
            json!({"role": "assistant", "content": content, "refusal": null, "annotations": []});
        let choice =
            json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"});
        Ok(written(&json!({
            "id": "chatcmpl-InventedForTheBenchmark00001",
            "object": "chat.completion",
            "created": 1_763_923_456,
            "model": "gpt-4o-mini-2024-07-18",
            "choices": [choice],
            "usage": {"prompt_tokens": 450, "completion_tokens": 550, "total_tokens": 1000},
            "service_tier": "default",
            "system_fingerprint": "fp_51db84afab",
        }))?)
    };
    let room = bytes.saturating_sub(body("")?.len());
    Ok(body(&prose(room))?.into())
}

/// An event of a streamed answer.
pub(crate) fn event(delta: &Value, finish_reason: Option<&str>) -> Bytes {
    let choice =
        json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
    let chunk = json!({
        "id": "chatcmpl-InventedForTheBenchmark00002",
        "object": "chat.completion.chunk",
        "created": 1_763_923_456,
        "model": "gpt-4o-mini-2024-07-18",
        "system_fingerprint": "fp_51db84afab",
        "choices": [choice],
    });
    Bytes::from(format!("data: {chunk}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_json_of_its_size_and_carries_its_number() {
        for (reusable, stream) in [(true, false), (false, true)] {
            let question = Question { reusable, stream, delay_ms: 0 };
            let body = question_body(question).unwrap();
            assert!(body.len().abs_diff(QUESTION_BYTES) <= 1, "{}", body.len());
            assert_eq!(asks_for_stream(body.as_bytes()), stream);
            let address = "127.0.0.1:1".parse().unwrap();
            let mut request = Request::with_fields(question, address, "").unwrap();
            let text = String::from_utf8(request.numbered(90_210).to_vec()).unwrap();
            let (_, body) = text.split_once("\r\n\r\n").unwrap();
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["messages"][1]["content"], "Review change 0000000000090210.");
            assert_eq!(body.get("temperature").is_some(), reusable);
        }
    }

    #[test]
    fn an_answer_has_its_size() {
        for bytes in [512, ANSWER_BYTES, 64 << 10] {
            let answered = answer_of(bytes).unwrap().len();
            assert!(answered.abs_diff(bytes) <= 1, "{answered} instead of {bytes}");
        }
    }
}
