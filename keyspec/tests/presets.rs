//! What each preset leaves out, and where it keeps order, on requests as the SDKs send them.

use keyspec::{KeySpec, ModelRoute};
use serde_json::{Value, json};

fn canonical(route: ModelRoute, body: &str) -> String {
    let bytes = KeySpec::preset(route).canonical(None, body.as_bytes()).expect("keyable");
    String::from_utf8(bytes).expect("the canonical form is UTF-8")
}

/// Asserts that a member at a JSON pointer has no part in the key.
fn assert_left_out(route: ModelRoute, request: &Value, pointer: &str, value: &Value) {
    assert_eq!(
        canonical(route, &with(request, pointer, value).to_string()),
        canonical(route, &request.to_string()),
        "{pointer} on {}",
        route.name()
    );
}

/// Asserts that a member at a JSON pointer is part of the key.
fn assert_kept(route: ModelRoute, request: &Value, pointer: &str, value: &Value) {
    assert_ne!(
        canonical(route, &with(request, pointer, value).to_string()),
        canonical(route, &request.to_string()),
        "{pointer} on {}",
        route.name()
    );
}

fn with(request: &Value, pointer: &str, value: &Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer begins with a slash");
    let mut request = request.clone();
    let parent = request.pointer_mut(parent).expect("the parent is there");
    assert!(parent.get(name).is_none(), "{pointer} is there already");
    parent[name] = value.clone();
    request
}

fn openai_chat() -> Value {
    json!({
        "model": "gpt-4o-2024-08-06",
        "messages": [
            {"role": "system", "content": "You are terse."},
            {"role": "user", "content": [{"type": "text", "text": "What is in the image?"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "call_1",
                "type": "function", "function": {"name": "look", "arguments": "{\"n\":1}"}}]},
            {"role": "tool", "tool_call_id": "call_1", "content": "a cat"}
        ],
        "temperature": 0.2, "top_p": 1, "max_completion_tokens": 512,
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        "tool_choice": "auto", "stream": true, "stream_options": {"include_usage": true}
    })
}

fn openai_responses() -> Value {
    json!({
        "model": "gpt-4.1", "instructions": "You are terse.",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hello"}]}],
        "store": false, "reasoning": {"effort": "low"}
    })
}

fn anthropic_messages() -> Value {
    json!({
        "model": "claude-sonnet-4-5", "max_tokens": 1024, "temperature": 0.0,
        "system": [{"type": "text", "text": "You are terse."}],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look."},
                {"type": "document", "source": {"type": "content", "content": [
                    {"type": "text", "text": "A page."}]}}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": {}}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                    {"type": "search_result", "source": "a", "title": "b", "content": [
                        {"type": "text", "text": "A cat."}]},
                    {"type": "document", "source": {"type": "content", "content": [
                        {"type": "text", "text": "A dog."}]}}]}]}
        ]
    })
}

fn gemini() -> Value {
    json!({
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "systemInstruction": {"parts": [{"text": "You are terse."}]},
        "generationConfig": {"temperature": 0, "maxOutputTokens": 256}
    })
}

#[test]
fn every_left_out_member_has_a_path_and_a_reason() {
    for route in ModelRoute::ALL {
        for left_out in KeySpec::preset(route).left_out_by_preset() {
            assert!(!left_out.path.is_empty() && left_out.why.len() > 10, "{left_out:?}");
        }
    }
}

#[test]
fn openai_chat_leaves_out_what_the_model_does_not_see() {
    let chat = ModelRoute::OpenAiChatCompletions;
    for (name, value) in [
        ("/user", json!("user-1")),
        ("/metadata", json!({"session": "a", "turn": "2"})),
        ("/safety_identifier", json!("hash")),
        ("/prompt_cache_key", json!("team-a")),
        ("/prompt_cache_retention", json!("24h")),
        ("/request_id", json!("req-1")),
    ] {
        assert_left_out(chat, &openai_chat(), name, &value);
    }
}

#[test]
fn openai_chat_keys_all_else() {
    let chat = ModelRoute::OpenAiChatCompletions;
    for (name, value) in [
        ("/seed", json!(7)),
        ("/n", json!(1)),
        ("/service_tier", json!("flex")),
        ("/reasoning_effort", json!("low")),
        ("/a_member_nobody_knows", json!(null)),
        ("/User", json!("user-1")),
        ("/messages/1/name", json!("bob")),
        ("/messages/1/user", json!("bob")),
        ("/messages/1/metadata", json!({})),
        ("/stream_options/include_obfuscation", json!(false)),
        ("/tools/0/function/strict", json!(true)),
        ("/tools/0/function/parameters/user", json!({"type": "string"})),
    ] {
        assert_kept(chat, &openai_chat(), name, &value);
    }
}

#[test]
fn the_other_openai_routes_leave_out_the_user_alone() {
    let routes = [
        (ModelRoute::OpenAiCompletions, json!({"model": "davinci-002", "prompt": "Hello"})),
        (ModelRoute::OpenAiEmbeddings, json!({"model": "text-embedding-3-small", "input": ["a"]})),
        (ModelRoute::OpenAiModerations, json!({"model": "omni-moderation-latest", "input": "a"})),
    ];
    for (route, request) in routes {
        assert_left_out(route, &request, "/user", &json!("user-1"));
        assert_left_out(route, &request, "/request_id", &json!("req-1"));
        assert_kept(route, &request, "/metadata", &json!({}));
        assert_kept(route, &request, "/dimensions", &json!(256));
    }
}

#[test]
fn responses_key_what_the_answer_echoes() {
    for (name, value) in [
        ("/user", json!("user-1")),
        ("/metadata", json!({"session": "a"})),
        ("/safety_identifier", json!("hash")),
        ("/prompt_cache_key", json!("team-a")),
        ("/prompt_cache_retention", json!("24h")),
    ] {
        assert_kept(ModelRoute::OpenAiResponses, &openai_responses(), name, &value);
    }
}

#[test]
fn anthropic_leaves_out_cache_control_of_blocks_wherever_they_nest() {
    let mark = json!({"type": "ephemeral", "ttl": "1h"});
    for route in [ModelRoute::AnthropicMessages, ModelRoute::AnthropicCountTokens] {
        for pointer in [
            "/cache_control",
            "/system/0/cache_control",
            "/tools/0/cache_control",
            "/messages/0/content/0/cache_control",
            "/messages/0/content/1/cache_control",
            "/messages/0/content/1/source/content/0/cache_control",
            "/messages/1/content/0/cache_control",
            "/messages/2/content/0/cache_control",
            "/messages/2/content/0/content/0/cache_control",
            "/messages/2/content/0/content/0/content/0/cache_control",
            "/messages/2/content/0/content/1/source/content/0/cache_control",
        ] {
            assert_left_out(route, &anthropic_messages(), pointer, &mark);
        }
    }
}

#[test]
fn anthropic_keys_a_cache_control_that_is_the_users_own_data() {
    for pointer in [
        "/messages/1/content/0/input/cache_control",
        "/messages/1/content/0/input/at/cache_control",
        "/tools/0/input_schema/cache_control",
        "/messages/0/cache_control",
    ] {
        let mark = json!({"type": "ephemeral"});
        assert_kept(ModelRoute::AnthropicMessages, &anthropic_messages(), pointer, &mark);
    }
}

#[test]
fn anthropic_messages_leave_out_metadata_which_token_counts_do_not_take() {
    let metadata = json!({"user_id": "u-1"});
    let request = anthropic_messages();
    assert_left_out(ModelRoute::AnthropicMessages, &request, "/metadata", &metadata);
    assert_kept(ModelRoute::AnthropicCountTokens, &request, "/metadata", &metadata);
}

#[test]
fn gemini_generation_leaves_out_billing_labels() {
    let labels = json!({"team": "search"});
    for route in [ModelRoute::GeminiGenerateContent, ModelRoute::GeminiStreamGenerateContent] {
        assert_left_out(route, &gemini(), "/labels", &labels);
        assert_kept(route, &gemini(), "/cachedContent", &json!("cachedContents/a"));
        assert_kept(route, &gemini(), "/user", &json!("u"));
    }
    assert_kept(ModelRoute::GeminiCountTokens, &gemini(), "/labels", &labels);
}

#[test]
fn a_left_out_member_is_known_however_it_is_spelled() {
    let chat = ModelRoute::OpenAiChatCompletions;
    assert_eq!(canonical(chat, r#"{"\u0075ser":"a","n":1}"#), r#"{"n":1}"#);
    assert_eq!(canonical(chat, r#"{"user":"a"}"#), "{}");
}

#[test]
fn a_left_out_member_must_be_well_formed_all_the_same() {
    let spec = KeySpec::preset(ModelRoute::OpenAiChatCompletions);
    let code = |body: &str| spec.read(body.as_bytes()).unwrap_err().code();
    assert_eq!(code(r#"{"metadata":{"a":1,"a":2}}"#), "duplicate-member");
    assert_eq!(code(r#"{"user":"a","user":"b"}"#), "duplicate-member");
    assert_eq!(code(r#"{"user":"\ud800"}"#), "lone-surrogate");
    assert_eq!(code(r#"{"user":}"#), "malformed-json");
}

/// Wraps a schema at a path, `[]` for a one-element array.
fn wrapped(path: &str, schema: &str) -> String {
    path.rsplit('.').fold(schema.to_owned(), |inner, step| match step.strip_suffix("[]") {
        Some(name) => format!(r#"{{"{name}":[{inner}]}}"#),
        None => format!(r#"{{"{step}":{inner}}}"#),
    })
}

fn assert_order_counts_at(route: ModelRoute, path: &str) {
    let one = r#"{"type":"object","properties":{"b":{"y":1,"x":[{"n":1,"m":2}]},"a":{}}}"#;
    let other = r#"{"type":"object","properties":{"b":{"y":1,"x":[{"m":2,"n":1}]},"a":{}}}"#;
    let spaced = one.replace(',', " , ");
    let at = |schema: &str| canonical(route, &wrapped(path, schema));
    assert_ne!(at(one), at(other), "{path} on {}", route.name());
    assert_eq!(at(one), at(&spaced), "{path} on {}", route.name());
    assert!(at(one).contains(one), "{path} on {}", route.name());
    // Beside the schema, order does not count.
    let beside = |members: &str| canonical(route, &format!(r#"{{"beside":{members}}}"#));
    assert_eq!(beside(one), beside(other));
}

#[test]
fn order_counts_under_every_openai_schema_path() {
    for path in ["tools[].function.parameters", "functions[].parameters"] {
        assert_order_counts_at(ModelRoute::OpenAiChatCompletions, path);
    }
    for path in [
        "response_format.json_schema.schema",
        "response_format.schema",
        "response_format.structures[].schema",
        "response_format.format",
        "guided_json",
        "structured_outputs.json",
        "json_schema",
    ] {
        assert_order_counts_at(ModelRoute::OpenAiChatCompletions, path);
        assert_order_counts_at(ModelRoute::OpenAiCompletions, path);
    }
    for path in ["text.format.schema", "tools[].parameters", "tools[].tools[].parameters"] {
        assert_order_counts_at(ModelRoute::OpenAiResponses, path);
    }
}

#[test]
fn order_counts_under_every_anthropic_schema_path() {
    for route in [ModelRoute::AnthropicMessages, ModelRoute::AnthropicCountTokens] {
        for path in ["tools[].input_schema", "output_format.schema", "output_config.format.schema"]
        {
            assert_order_counts_at(route, path);
        }
    }
}

#[test]
fn order_counts_under_every_gemini_schema_path_in_both_spellings() {
    let configs = ["generationConfig", "generation_config"];
    let responses = [
        "responseSchema",
        "response_schema",
        "responseJsonSchema",
        "response_json_schema",
        "_responseJsonSchema",
    ];
    let declarations = ["functionDeclarations", "function_declarations"];
    let schemas = [
        "parameters",
        "parametersJsonSchema",
        "parameters_json_schema",
        "response",
        "responseJsonSchema",
        "response_json_schema",
    ];
    let pairs = |outer: &[&str], inner: &[&str], between: &str| -> Vec<String> {
        let path = |outer: &&str, inner: &&str| format!("{outer}{between}{inner}");
        outer.iter().flat_map(|o| inner.iter().map(move |i| path(o, i))).collect()
    };
    let mut paths = pairs(&configs, &responses, ".");
    let tools = declarations.map(|name| format!("tools[].{name}"));
    paths.extend(pairs(&[&tools[0], &tools[1]], &schemas, "[]."));
    for path in &paths {
        assert_order_counts_at(ModelRoute::GeminiGenerateContent, path);
        assert_order_counts_at(ModelRoute::GeminiStreamGenerateContent, path);
        assert_order_counts_at(ModelRoute::GeminiCountTokens, path);
        for request in ["generateContentRequest", "generate_content_request"] {
            assert_order_counts_at(ModelRoute::GeminiCountTokens, &format!("{request}.{path}"));
        }
    }
}

#[test]
fn nothing_is_left_out_of_a_schema() {
    let schema = r#"{"user":1,"cache_control":2,"metadata":3}"#;
    let body = wrapped("tools[].function.parameters", schema);
    assert_eq!(canonical(ModelRoute::OpenAiChatCompletions, &body), body);
    let body = wrapped("tools[].input_schema", schema);
    assert_eq!(canonical(ModelRoute::AnthropicMessages, &body), body);
}

#[test]
fn a_custom_spec_leaves_out_more_and_keeps_more() {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    let canonical =
        |spec: &KeySpec| spec.canonical(None, br#"{"user":1,"trace":2,"a.b":3,"a":{"b":4}}"#);
    let preset = KeySpec::preset(ModelRoute::OpenAiChatCompletions);
    let ignoring = preset.clone().ignoring(&names(&["trace", "a.b"]));
    assert_eq!(canonical(&ignoring).unwrap(), br#"{"a":{"b":4}}"#);
    let keeping = preset.keeping(&names(&["user"]));
    assert_eq!(canonical(&keeping).unwrap(), br#"{"a":{"b":4},"a.b":3,"trace":2,"user":1}"#);
    let both = keeping.ignoring(&names(&["user", "trace", "a.b"]));
    assert_eq!(canonical(&both).unwrap(), br#"{"a":{"b":4},"user":1}"#);
}

#[test]
fn a_name_kept_is_kept_wherever_the_preset_leaves_it_out() {
    let spec = KeySpec::preset(ModelRoute::AnthropicMessages).keeping(&["cache_control".into()]);
    let body = r#"{"cache_control":1,"system":[{"cache_control":2}]}"#;
    assert_eq!(spec.canonical(None, body.as_bytes()).unwrap(), body.as_bytes());
}
