//! Questions and answers that many tests need.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Value, json};

/// Where embeddings are asked for.
pub const EMBEDDINGS: &str = "/v1/embeddings";

/// Where chat completions are asked for.
pub const CHAT: &str = "/v1/chat/completions";

/// A request for an embedding, which is reused by default.
#[must_use]
pub fn question(input: &str) -> Value {
    json!({"model": "text-embedding-3-small", "input": input})
}

/// A whole answer to it.
#[must_use]
pub fn embedding(value: f64) -> Value {
    json!({
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [value, -0.5]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    })
}

/// A chat that is reused because its temperature is 0, streamed or not.
#[must_use]
pub fn chat(stream: bool) -> Value {
    json!({
        "model": "gpt-4o-mini",
        "temperature": 0,
        "stream": stream,
        "messages": [{"role": "user", "content": "Say hello."}],
    })
}

/// A recorded answer, such as `openai-chat-completions/whole.sse`.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn recorded(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/answers").join(name);
    let body = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    body.into()
}

/// The events of a stream, each with the empty line that ends it.
///
/// # Panics
/// When the stream does not end with one.
#[must_use]
pub fn events(stream: &Bytes) -> Vec<Bytes> {
    let mark: &[u8] =
        if stream.windows(4).any(|four| four == b"\r\n\r\n") { b"\r\n\r\n" } else { b"\n\n" };
    let mut rest = stream.clone();
    let mut events = Vec::new();
    while !rest.is_empty() {
        let end = rest.windows(mark.len()).position(|window| window == mark);
        events.push(rest.split_to(end.expect("an event ends") + mark.len()));
    }
    events
}
