//! Anthropic's forms: messages and token counts.

use keyspec::ModelRoute;
use serde_json::{Value, json};

use super::speech::{self, Speech};
use super::{Missing, Reply};

pub(super) fn reply(route: ModelRoute, asked: &Value, number: u64) -> Result<Reply, Missing> {
    let Some(model) = asked["model"].as_str() else { return Err(Missing("model")) };
    if !speech::says_something(&asked["messages"]) {
        return Err(Missing("messages"));
    }
    if route == ModelRoute::AnthropicCountTokens {
        return Ok(Reply::ok(json!({"input_tokens": speech::tokens_in(asked)})));
    }
    let Some(limit) = asked["max_tokens"].as_u64().filter(|limit| *limit > 0) else {
        return Err(Missing("max_tokens"));
    };
    let said = Speech::about(asked, Some(limit));
    let message = |content: Value, stop: Value, output_tokens: u64| {
        json!({
            "id": speech::id("msg_", asked, number),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": null,
            "usage": {
                "input_tokens": said.input_tokens,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": output_tokens,
                "service_tier": "standard",
            },
        })
    };
    let stop = if said.is_cut { "max_tokens" } else { "end_turn" };
    if asked["stream"] != true {
        let content = json!([{"type": "text", "text": said.text()}]);
        return Ok(Reply::ok(message(content, json!(stop), said.output_tokens())));
    }
    Ok(Reply::events(events(&said, &message(json!([]), Value::Null, 1), stop)))
}

fn events(
    said: &Speech,
    begun: &Value,
    stop: &'static str,
) -> impl Iterator<Item = (Option<&'static str>, String)> {
    let mut events = vec![
        ("message_start", json!({"message": begun})),
        ("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})),
        ("ping", json!({})),
    ];
    events.extend(said.words.iter().map(|word| {
        let delta = json!({"type": "text_delta", "text": word});
        ("content_block_delta", json!({"index": 0, "delta": delta}))
    }));
    events.extend([
        ("content_block_stop", json!({"index": 0})),
        (
            "message_delta",
            json!({
                "delta": {"stop_reason": stop, "stop_sequence": null},
                "usage": {"output_tokens": said.output_tokens()},
            }),
        ),
        ("message_stop", json!({})),
    ]);
    events.into_iter().map(|(name, mut data)| {
        data["type"] = json!(name);
        (Some(name), data.to_string())
    })
}
