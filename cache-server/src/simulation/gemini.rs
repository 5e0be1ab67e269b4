//! Gemini's forms: generation (whole, as events, as one JSON array), token counts, embeddings.

use bytes::Bytes;
use keyspec::ModelRoute;
use serde_json::{Value, json};

use super::speech::{self, Speech};
use super::{Missing, Reply};

pub(super) fn reply(
    route: ModelRoute,
    model: &str,
    query: &str,
    asked: &Value,
) -> Result<Reply, Missing> {
    match route {
        ModelRoute::GeminiCountTokens => {
            Ok(Reply::ok(json!({"totalTokens": speech::tokens_in(asked)})))
        }
        ModelRoute::GeminiEmbedContent => Ok(Reply::ok(json!({"embedding": embedding(asked)?}))),
        ModelRoute::GeminiBatchEmbedContents => {
            /// As many as Gemini takes at once.
            const REQUESTS_MAX: usize = 100;
            let requests = asked["requests"].as_array();
            let Some(requests) = requests.filter(|requests| requests.len() <= REQUESTS_MAX) else {
                return Err(Missing("requests"));
            };
            let embeddings = requests.iter().map(embedding).collect::<Result<Vec<_>, _>>()?;
            Ok(Reply::ok(json!({"embeddings": embeddings})))
        }
        ModelRoute::GeminiStreamGenerateContent => stream(model, query, asked),
        _ => {
            let said = said(asked)?;
            Ok(Reply::ok(content(model, &said, &said.text(), true)))
        }
    }
}

fn said(asked: &Value) -> Result<Speech, Missing> {
    if !speech::says_something(&asked["contents"]) {
        return Err(Missing("contents"));
    }
    Ok(Speech::about(asked, asked["generationConfig"]["maxOutputTokens"].as_u64()))
}

fn embedding(asked: &Value) -> Result<Value, Missing> {
    if asked["content"].is_null() {
        return Err(Missing("content"));
    }
    let values = speech::embedding(&asked["content"], &asked["outputDimensionality"]);
    Ok(json!({"values": values}))
}

fn content(model: &str, said: &Speech, text: &str, is_last: bool) -> Value {
    let mut candidate =
        json!({"content": {"parts": [{"text": text}], "role": "model"}, "index": 0});
    if is_last {
        candidate["finishReason"] = json!(if said.is_cut { "MAX_TOKENS" } else { "STOP" });
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": {
            "promptTokenCount": said.input_tokens,
            "candidatesTokenCount": said.output_tokens(),
            "totalTokenCount": said.input_tokens + said.output_tokens(),
        },
        "modelVersion": model,
        "responseId": "simulated",
    })
}

fn stream(model: &str, query: &str, asked: &Value) -> Result<Reply, Missing> {
    /// Gemini sends several words at a time.
    const WORDS_A_PIECE: usize = 8;
    let said = said(asked)?;
    let pieces: Vec<String> = said.words.chunks(WORDS_A_PIECE).map(<[String]>::concat).collect();
    let last = pieces.len().saturating_sub(1);
    let answers = pieces
        .iter()
        .enumerate()
        .map(|(index, text)| content(model, &said, text, index == last).to_string());
    if query.split('&').any(|pair| pair == "alt=sse") {
        return Ok(Reply::events(answers.map(|data| (None, data))));
    }
    // Without it, the answers are the members of one array, sent one by one.
    let mut array: Vec<Bytes> = answers
        .enumerate()
        .map(|(index, answer)| {
            Bytes::from(format!("{}{answer}", if index == 0 { "[" } else { ",\n" }))
        })
        .collect();
    array.push(Bytes::from_static(b"]"));
    Ok(Reply::Stream("application/json; charset=UTF-8", array))
}
