//! OpenAI's forms: chat completions, completions, responses, embeddings and moderations.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use keyspec::ModelRoute;
use serde_json::{Value, json};

use super::speech::{self, Speech};
use super::{Missing, Reply, unix_seconds};

pub(super) fn reply(
    route: ModelRoute,
    model_in_path: &str,
    asked: &Value,
    number: u64,
) -> Result<Reply, Missing> {
    // Moderations alone have a default model.
    let default = if route == ModelRoute::OpenAiModerations {
        "omni-moderation-latest"
    } else {
        model_in_path
    };
    let model = asked["model"].as_str().unwrap_or(default);
    if model.is_empty() {
        return Err(Missing("model"));
    }
    let streams = asked["stream"] == true;
    match route {
        ModelRoute::OpenAiChatCompletions if streams => chat_stream(model, asked, number),
        ModelRoute::OpenAiChatCompletions => chat(model, asked, number),
        ModelRoute::OpenAiCompletions => completion(model, asked, number),
        ModelRoute::OpenAiResponses => response(model, asked, number, streams),
        ModelRoute::OpenAiEmbeddings => embeddings(model, asked),
        _ => moderation(model, asked, number),
    }
}

/// `GET /v1/models`
pub(super) fn models() -> Value {
    let model = |id: &str| json!({"id": id, "object": "model", "owned_by": "simulated"});
    json!({"object": "list", "data": [model("gpt-4o-mini"), model("text-embedding-3-small")]})
}

fn speech(asked: &Value, must_have: &'static str) -> Result<Speech, Missing> {
    if !speech::says_something(&asked[must_have]) {
        return Err(Missing(must_have));
    }
    let limit = ["max_completion_tokens", "max_tokens", "max_output_tokens"]
        .iter()
        .find_map(|name| asked[*name].as_u64());
    Ok(Speech::about(asked, limit))
}

fn usage(said: &Speech) -> Value {
    json!({
        "prompt_tokens": said.input_tokens,
        "completion_tokens": said.output_tokens(),
        "total_tokens": said.input_tokens + said.output_tokens(),
    })
}

fn finish(said: &Speech) -> &'static str {
    if said.is_cut { "length" } else { "stop" }
}

fn chat(model: &str, asked: &Value, number: u64) -> Result<Reply, Missing> {
    let said = speech(asked, "messages")?;
    Ok(Reply::ok(json!({
        "id": speech::id("chatcmpl-", asked, number),
        "object": "chat.completion",
        "created": unix_seconds(),
        "model": model,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": said.text(), "refusal": null, "annotations": []},
            "logprobs": null,
            "finish_reason": finish(&said),
        }],
        "usage": usage(&said),
        "service_tier": "default",
        "system_fingerprint": "fp_simulated",
    })))
}

fn chat_stream(model: &str, asked: &Value, number: u64) -> Result<Reply, Missing> {
    let said = speech(asked, "messages")?;
    let with_usage = asked["stream_options"]["include_usage"] == true;
    let (id, created) = (speech::id("chatcmpl-", asked, number), unix_seconds());
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": id,
            "object": "chat.completion.chunk",
            "created": created,
            "model": model,
            "system_fingerprint": "fp_simulated",
            "choices": choices,
        });
        if with_usage {
            chunk["usage"] = usage;
        }
        chunk.to_string()
    };
    let delta = |delta: Value, finish: Value| json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]);
    let mut events = vec![chunk(
        delta(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null),
        Value::Null,
    )];
    events.extend(
        said.words
            .iter()
            .map(|word| chunk(delta(json!({"content": word}), Value::Null), Value::Null)),
    );
    events.push(chunk(delta(json!({}), json!(finish(&said))), Value::Null));
    if with_usage {
        events.push(chunk(json!([]), usage(&said)));
    }
    events.push("[DONE]".into());
    Ok(Reply::events(events.into_iter().map(|data| (None, data))))
}

fn completion(model: &str, asked: &Value, number: u64) -> Result<Reply, Missing> {
    let said = speech(asked, "prompt")?;
    let whole = |text: &str, finish: Value, usage: Value| {
        json!({
            "id": speech::id("cmpl-", asked, number),
            "object": "text_completion",
            "created": unix_seconds(),
            "model": model,
            "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish}],
            "usage": usage,
        })
    };
    if asked["stream"] != true {
        return Ok(Reply::ok(whole(&said.text(), json!(finish(&said)), usage(&said))));
    }
    let mut events: Vec<String> =
        said.words.iter().map(|word| whole(word, Value::Null, Value::Null).to_string()).collect();
    events.push(whole("", json!(finish(&said)), Value::Null).to_string());
    events.push("[DONE]".into());
    Ok(Reply::events(events.into_iter().map(|data| (None, data))))
}

/// A response object, with its output item if there is one yet.
fn response_object(
    model: &str,
    asked: &Value,
    id: &str,
    created: u64,
    (status, item, usage): (&str, Option<&Value>, Value),
) -> Value {
    let incomplete = status == "incomplete";
    let details = if incomplete { json!({"reason": "max_output_tokens"}) } else { Value::Null };
    json!({
        "id": id,
        "object": "response",
        "created_at": created,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": details,
        "instructions": asked["instructions"],
        "max_output_tokens": asked["max_output_tokens"],
        "model": model,
        "output": item.map_or_else(|| json!([]), |item| json!([item])),
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "service_tier": "default",
        "store": asked["store"] != false,
        "temperature": asked["temperature"].as_f64().unwrap_or(1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage,
        "user": asked["user"],
        "metadata": if asked["metadata"].is_null() { json!({}) } else { asked["metadata"].clone() },
    })
}

fn output_item(id: &str, status: &str, content: &Value) -> Value {
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": content})
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn response(model: &str, asked: &Value, number: u64, streams: bool) -> Result<Reply, Missing> {
    let said = speech(asked, "input")?;
    let (id, created) = (speech::id("resp_", asked, number), unix_seconds());
    let item_id = speech::id("msg_", asked, number);
    let status = if said.is_cut { "incomplete" } else { "completed" };
    let item = output_item(&item_id, status, &json!([text_part(&said.text())]));
    let usage = json!({
        "input_tokens": said.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": said.output_tokens(),
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": said.input_tokens + said.output_tokens(),
    });
    let done = response_object(model, asked, &id, created, (status, Some(&item), usage));
    if !streams {
        return Ok(Reply::ok(done));
    }
    let begun = response_object(model, asked, &id, created, ("in_progress", None, Value::Null));
    Ok(Reply::events(response_events(&said, &begun, &item, &item_id, &done)))
}

/// The events of a streamed response, numbered in order.
fn response_events(
    said: &Speech,
    begun: &Value,
    item: &Value,
    item_id: &str,
    done: &Value,
) -> Vec<(Option<&'static str>, String)> {
    let text = said.text();
    let place = json!({"item_id": item_id, "output_index": 0, "content_index": 0});
    let with = |more: Value| {
        let mut members = place.clone();
        for (name, value) in more.as_object().into_iter().flatten() {
            members[name] = value.clone();
        }
        members
    };
    let empty = output_item(item_id, "in_progress", &json!([]));
    let last = if said.is_cut { "response.incomplete" } else { "response.completed" };
    let mut events = vec![
        ("response.created", json!({"response": begun})),
        ("response.in_progress", json!({"response": begun})),
        ("response.output_item.added", json!({"output_index": 0, "item": empty})),
        ("response.content_part.added", with(json!({"part": text_part("")}))),
    ];
    events.extend(
        said.words.iter().map(|word| {
            ("response.output_text.delta", with(json!({"delta": word, "logprobs": []})))
        }),
    );
    events.extend([
        ("response.output_text.done", with(json!({"text": text, "logprobs": []}))),
        ("response.content_part.done", with(json!({"part": text_part(&text)}))),
        ("response.output_item.done", json!({"output_index": 0, "item": item})),
        (last, json!({"response": done})),
    ]);
    events
        .into_iter()
        .enumerate()
        .map(|(sequence, (name, mut data))| {
            data["type"] = json!(name);
            data["sequence_number"] = json!(sequence);
            (Some(name), data.to_string())
        })
        .collect()
}

fn embeddings(model: &str, asked: &Value) -> Result<Reply, Missing> {
    /// As many as OpenAI takes at once.
    const INPUTS_MAX: usize = 2048;
    if !speech::says_something(&asked["input"]) {
        return Err(Missing("input"));
    }
    let inputs = match &asked["input"] {
        Value::String(_) => vec![asked["input"].clone()],
        Value::Array(tokens) if tokens.iter().all(Value::is_number) => vec![asked["input"].clone()],
        Value::Array(inputs) if inputs.len() <= INPUTS_MAX => inputs.clone(),
        _ => return Err(Missing("input")),
    };
    let in_base64 = asked["encoding_format"] == "base64";
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let numbers = speech::embedding(input, &asked["dimensions"]);
            let embedding = if in_base64 { json!(base64(&numbers)) } else { json!(numbers) };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens = speech::tokens_in(&asked["input"]);
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    Ok(Reply::ok(json!({"object": "list", "data": data, "model": model, "usage": usage})))
}

/// Little-endian single-precision numbers, as OpenAI's SDKs ask for them.
fn base64(numbers: &[f32]) -> String {
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

fn moderation(model: &str, asked: &Value, number: u64) -> Result<Reply, Missing> {
    const CATEGORIES: [&str; 13] = [
        "harassment",
        "harassment/threatening",
        "hate",
        "hate/threatening",
        "illicit",
        "illicit/violent",
        "self-harm",
        "self-harm/instructions",
        "self-harm/intent",
        "sexual",
        "sexual/minors",
        "violence",
        "violence/graphic",
    ];
    if !speech::says_something(&asked["input"]) {
        return Err(Missing("input"));
    }
    let each = |value: Value| {
        Value::Object(CATEGORIES.iter().map(|name| ((*name).to_owned(), value.clone())).collect())
    };
    let result = json!({
        "flagged": false,
        "categories": each(json!(false)),
        "category_scores": each(json!(0.0001)),
        "category_applied_input_types": each(json!(["text"])),
    });
    // One result for each text of a list, one for a list of parts.
    let texts = asked["input"].as_array().filter(|inputs| inputs.iter().all(Value::is_string));
    let results = vec![result; texts.map_or(1, Vec::len)];
    let id = speech::id("modr-", asked, number);
    Ok(Reply::ok(json!({"id": id, "model": model, "results": results})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_embeddings_hold_the_same_numbers() {
        let numbers = [0.5_f32, -1.25, 3.0];
        let bytes = BASE64_STANDARD.decode(base64(&numbers)).unwrap();
        let read: Vec<f32> =
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(read, numbers);
    }
}
