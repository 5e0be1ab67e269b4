//! Every recorded-shaped answer in `tests/fixtures/answers` and its verdict, and the laws
//! that hold for all of them.

use std::collections::BTreeSet;
use std::fs;

use proptest::prelude::*;

use super::*;

const ANSWERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/answers");

/// Every case and its verdict, on every route that has it.
fn verdicts() -> Vec<(&'static str, &'static str)> {
    const TABLE: &str = include_str!("../../../../tests/fixtures/verdicts.txt");
    TABLE.lines().map(|line| line.split_once(' ').expect("a case and its verdict")).collect()
}

struct Fixture {
    /// `<route>/<case>.<form>`.
    path: String,
    case: String,
    exchange: Exchange,
    body: Vec<u8>,
}

impl Fixture {
    /// The fixture at `<route>/<case>.<form>`, asked for without a token limit.
    fn read(path: &str) -> Self {
        let (route, file) = path.split_once('/').unwrap();
        let (case, form) = file.split_once('.').unwrap();
        assert!(["json", "sse"].contains(&form), "{path}");
        let exchange = Exchange {
            route: Route::Model(route_named(route)),
            json: form == "json",
            event_stream: form == "sse",
            names_token_limit: false,
        };
        let body = fs::read(format!("{ANSWERS}/{path}")).unwrap();
        Self { path: path.to_owned(), case: case.to_owned(), exchange, body }
    }

    fn all() -> Vec<Self> {
        let mut fixtures = Vec::new();
        for route in names_in(ANSWERS) {
            for file in names_in(&format!("{ANSWERS}/{route}")) {
                fixtures.push(Self::read(&format!("{route}/{file}")));
            }
        }
        fixtures
    }

    /// The streams that may be stored, in either of their forms.
    fn good_streams() -> Vec<Self> {
        let mut fixtures = Self::all();
        fixtures.retain(|fixture| {
            let array =
                fixture.exchange.route == Route::Model(ModelRoute::GeminiStreamGenerateContent);
            (fixture.exchange.event_stream || array) && fixture.code(&fixture.body) == "storable"
        });
        fixtures
    }

    fn code(&self, body: &[u8]) -> &'static str {
        code(&examine(&self.exchange, body))
    }
}

fn names_in(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn route_named(name: &str) -> ModelRoute {
    match name {
        "openai-chat-completions" => ModelRoute::OpenAiChatCompletions,
        "openai-completions" => ModelRoute::OpenAiCompletions,
        "openai-responses" => ModelRoute::OpenAiResponses,
        "openai-embeddings" => ModelRoute::OpenAiEmbeddings,
        "openai-moderations" => ModelRoute::OpenAiModerations,
        "anthropic-messages" => ModelRoute::AnthropicMessages,
        "anthropic-count-tokens" => ModelRoute::AnthropicCountTokens,
        "gemini-generate-content" => ModelRoute::GeminiGenerateContent,
        "gemini-stream-generate-content" => ModelRoute::GeminiStreamGenerateContent,
        "gemini-count-tokens" => ModelRoute::GeminiCountTokens,
        "gemini-embed-content" => ModelRoute::GeminiEmbedContent,
        "gemini-batch-embed-contents" => ModelRoute::GeminiBatchEmbedContents,
        other => panic!("no route is named {other}"),
    }
}

fn code(report: &Report) -> &'static str {
    report.verdict.map_or_else(Unstorable::code, |()| "storable")
}

/// The verdict on a body made up in a test.
fn code_of(route: ModelRoute, event_stream: bool, body: &str) -> &'static str {
    let exchange =
        Exchange { route: Route::Model(route), event_stream, json: true, names_token_limit: false };
    code(&examine(&exchange, body.as_bytes()))
}

fn chat_stream(body: &str) -> &'static str {
    code_of(ModelRoute::OpenAiChatCompletions, true, body)
}

#[test]
fn every_fixture_has_its_verdict() {
    for fixture in Fixture::all() {
        let row = verdicts().into_iter().find(|(case, _)| *case == fixture.case);
        let (_, expected) = row.unwrap_or_else(|| panic!("no verdict for {}", fixture.path));
        assert_eq!(fixture.code(&fixture.body), expected, "{}", fixture.path);
    }
}

#[test]
fn a_done_may_follow_the_end_of_any_stream_and_nothing_else_may() {
    for fixture in Fixture::good_streams().into_iter().filter(|it| it.exchange.event_stream) {
        let followed = |by: &str| fixture.code(&[&fixture.body[..], by.as_bytes()].concat());
        let ends_by_event = followed("data: x\n\n") == "data-after-end";
        if ends_by_event {
            assert_eq!(followed("data: [DONE]\n\n"), "storable", "{}", fixture.path);
            for by in ["event: x\ndata: [DONE]\n\n", "data: [DONE]\n\ndata: x\n\n", "data: [DON"] {
                assert_eq!(followed(by), "data-after-end", "{}: {by}", fixture.path);
            }
        }
    }
}

#[test]
fn tool_calls_without_an_index_are_told_apart_by_their_ids() {
    let call = |id: &str, arguments: &str| {
        format!("{{\"id\":{id},\"function\":{{\"arguments\":{arguments:?}}}}}")
    };
    let stream = |calls: &[String]| {
        let calls = calls.join(",");
        chat_stream(&format!(
            "data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{calls}]}},\
             \"finish_reason\":\"stop\"}}]}}\n\ndata: [DONE]\n\n"
        ))
    };
    let [one, other] = ["\"a\"", "\"b\""].map(|id| call(id, "{\"x\":1}"));
    assert_eq!(stream(&[one.clone(), other.clone()]), "storable");
    assert_eq!(stream(&[one.clone(), one.clone()]), "bad-tool-arguments");
    for id in ["\"\"", "null", "7"] {
        let pieces = [call("\"a\"", "{\"x\""), call(id, ":1}"), other.clone()];
        assert_eq!(stream(&pieces), "storable", "{id} goes on with the last");
    }
}

#[test]
fn the_arguments_of_other_items_than_function_calls_may_be_anything() {
    for (kind, arguments, code) in [
        ("tool_search_call", "{\"goal\":\"x\"}", "storable"),
        ("function_call", "{\"goal\":\"x\"}", "bad-tool-arguments"),
        ("function_call", "\"{}\"", "storable"),
    ] {
        let body = format!(
            "{{\"status\":\"completed\",\"output\":[{{\"type\":\"{kind}\",\"arguments\":{arguments}}}]}}"
        );
        assert_eq!(code_of(ModelRoute::OpenAiResponses, false, &body), code, "{kind}");
    }
}

#[test]
fn every_verdict_in_the_table_has_a_fixture() {
    let cases: BTreeSet<String> = Fixture::all().into_iter().map(|fixture| fixture.case).collect();
    let missing: Vec<_> =
        verdicts().into_iter().filter(|(case, _)| !cases.contains(*case)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_limit_that_the_request_named_excuses_an_ending_by_length_and_nothing_else() {
    for mut fixture in Fixture::all() {
        let without = fixture.code(&fixture.body);
        fixture.exchange.names_token_limit = true;
        let with = fixture.code(&fixture.body);
        let expected = if fixture.case == "length" { "storable" } else { without };
        assert_eq!(with, expected, "{}", fixture.path);
    }
}

#[test]
fn no_proper_prefix_of_a_stream_is_storable() {
    let streams = Fixture::good_streams();
    assert!(streams.len() >= 15, "only {} good streams", streams.len());
    for fixture in streams {
        let body = &fixture.body;
        for cut in 0..body.len() {
            // A last CR is a line end by itself, and so is a `]` without its newline.
            let only_line_feed_missing = body[cut..] == *b"\n" && body[cut - 1] != b'\n';
            let storable = fixture.code(&body[..cut]) == "storable";
            assert_eq!(storable, only_line_feed_missing, "{} cut at {cut}", fixture.path);
        }
    }
}

#[test]
fn line_ends_and_comments_do_not_change_a_verdict() {
    for fixture in Fixture::all().into_iter().filter(|fixture| fixture.exchange.event_stream) {
        let expected = fixture.code(&fixture.body);
        let stream = String::from_utf8(fixture.body.clone()).unwrap().replace("\r\n", "\n");
        for line_end in ["\n", "\r\n", "\r"] {
            let changed = format!("\u{feff}: hello\n\n{stream}").replace('\n', line_end);
            assert_eq!(fixture.code(changed.as_bytes()), expected, "{}", fixture.path);
        }
        let kept_alive = stream.replace("\n\n", "\n\n: keep-alive\n\n");
        assert_eq!(fixture.code(kept_alive.as_bytes()), expected, "{}", fixture.path);
    }
}

#[test]
fn usage_is_read_in_every_form() {
    let expected = [
        ("openai-chat-completions/whole.json", 19, 10),
        ("openai-chat-completions/content-filter.json", 19, 10),
        ("openai-chat-completions/whole.sse", 0, 0),
        ("openai-chat-completions/whole-with-usage.sse", 19, 10),
        ("openai-completions/whole.json", 5, 7),
        ("openai-completions/whole.sse", 5, 7),
        ("openai-responses/whole-with-reasoning.json", 36, 76),
        ("openai-responses/whole.sse", 36, 12),
        ("openai-embeddings/whole.json", 8, 0),
        ("anthropic-messages/whole.json", 132, 15),
        ("anthropic-messages/whole.sse", 132, 15),
        ("anthropic-messages/stream-incomplete.sse", 132, 15),
        ("anthropic-messages/error-event.sse", 132, 1),
        ("anthropic-count-tokens/whole.json", 0, 0),
        ("gemini-generate-content/whole.json", 8, 31),
        ("gemini-stream-generate-content/whole.json", 8, 31),
        ("gemini-stream-generate-content/whole.sse", 8, 31),
        ("gemini-count-tokens/whole.json", 0, 0),
    ];
    for (path, input_tokens, output_tokens) in expected {
        let fixture = Fixture::read(path);
        let usage = examine(&fixture.exchange, &fixture.body).usage;
        assert_eq!(usage, Usage { input_tokens, output_tokens }, "{path}");
    }
}

#[test]
fn figures_too_large_to_add_stop_at_the_largest() {
    let body = format!(
        r#"{{"usage": {{"input_tokens": {max}, "cache_read_input_tokens": {max}}}}}"#,
        max = u64::MAX
    );
    let exchange = Fixture::read("anthropic-messages/whole.json").exchange;
    assert_eq!(examine(&exchange, body.as_bytes()).usage.input_tokens, u64::MAX);
}

#[test]
fn the_model_is_the_one_that_answered() {
    let expected = [
        ("openai-chat-completions/whole.json", Some("gpt-4o-mini-2024-07-18")),
        ("openai-chat-completions/azure-whole.sse", Some("gpt-4o-mini-2024-07-18")),
        ("openai-responses/whole.sse", Some("gpt-4.1-2025-04-14")),
        ("openai-embeddings/whole.json", Some("text-embedding-3-small")),
        ("anthropic-messages/whole.sse", Some("claude-sonnet-4-5-20250929")),
        ("gemini-stream-generate-content/whole.json", Some("gemini-2.5-flash")),
        ("gemini-embed-content/whole.json", None),
    ];
    for (path, model) in expected {
        let fixture = Fixture::read(path);
        assert_eq!(examine(&fixture.exchange, &fixture.body).model.as_deref(), model, "{path}");
    }
}

#[test]
fn a_model_name_over_the_bound_is_unknown() {
    let exchange = Fixture::read("openai-embeddings/whole.json").exchange;
    for (length, known) in [(MODEL_NAME_BYTES_MAX, true), (MODEL_NAME_BYTES_MAX + 1, false)] {
        let body = format!(r#"{{"model": "{}", "data": [0]}}"#, "m".repeat(length));
        let report = examine(&exchange, body.as_bytes());
        assert_eq!((report.verdict, report.model.is_some()), (Ok(()), known));
    }
}

#[test]
fn more_choices_or_tool_calls_than_the_bound_are_not_storable() {
    let chunk = |index: usize| {
        format!("data: {{\"choices\":[{{\"index\":{index},\"finish_reason\":\"stop\"}}]}}\n\n")
    };
    let call = |index: usize| {
        let call = format!(r#"{{"index":{index},"function":{{"arguments":"{{}}"}}}}"#);
        format!("data: {{\"choices\":[{{\"delta\":{{\"tool_calls\":[{call}]}}}}]}}\n\n")
    };
    let choices = |count: usize| (0..count).map(chunk).collect::<String>() + "data: [DONE]\n\n";
    let calls =
        |count: usize| (0..count).map(call).collect::<String>() + &chunk(0) + "data: [DONE]\n\n";
    assert_eq!(chat_stream(&choices(PARTS_MAX)), "storable");
    assert_eq!(chat_stream(&choices(PARTS_MAX + 1)), "too-many-parts");
    assert_eq!(chat_stream(&calls(PARTS_MAX)), "storable");
    assert_eq!(chat_stream(&calls(PARTS_MAX + 1)), "too-many-parts");
}

#[test]
fn deep_nesting_exhausts_no_stack() {
    let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
    let choice = r#"{"finish_reason": "stop", "message": {"content": "Hi"}}"#;
    let unread = format!(r#"{{"choices": [{choice}], "logprobs": {deep}}}"#);
    assert_eq!(code_of(ModelRoute::OpenAiChatCompletions, false, &unread), "storable");
    let usage = format!(r#"{{"input_tokens": {deep}}}"#);
    assert_eq!(code_of(ModelRoute::AnthropicCountTokens, false, &usage), "malformed-answer");
    assert_eq!(code_of(ModelRoute::GeminiStreamGenerateContent, false, &deep), "malformed-answer");
}

#[test]
fn a_done_mark_needs_no_space_before_it() {
    let chunk = r#"data:{"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}"#;
    assert_eq!(chat_stream(&format!("{chunk}\n\ndata:[DONE]\n\n")), "storable");
}

#[test]
fn an_error_event_counts_by_its_name_alone() {
    let last = "event: error\ndata: overloaded\n\n";
    for fixture in Fixture::good_streams().iter().filter(|fixture| fixture.exchange.event_stream) {
        let body = [last.as_bytes(), &fixture.body].concat();
        assert_eq!(fixture.code(&body), "error-event", "{}", fixture.path);
    }
}

#[test]
fn a_candidate_that_goes_on_after_its_finish_is_not_finished() {
    let chunk = |finish: &str| {
        format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[0]}}{finish}}}]}}\n\n")
    };
    let stop = chunk(",\"finishReason\":\"STOP\"");
    let route = ModelRoute::GeminiStreamGenerateContent;
    assert_eq!(code_of(route, true, &[chunk(""), stop.clone()].concat()), "storable");
    assert_eq!(code_of(route, true, &[stop, chunk("")].concat()), "stream-incomplete");
}

#[test]
fn bytes_that_are_not_utf_8_are_malformed() {
    for fixture in Fixture::all() {
        let body = [&fixture.body[..], b"\xff"].concat();
        assert_eq!(fixture.code(&body), "malformed-answer", "{}", fixture.path);
    }
}

#[test]
fn codes_in_the_table_are_tokens() {
    for (_, code) in verdicts() {
        let token = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(token, "{code}");
    }
}

fn any_fixture() -> impl Strategy<Value = Fixture> {
    let paths: Vec<String> = Fixture::all().into_iter().map(|fixture| fixture.path).collect();
    proptest::sample::select(paths).prop_map(|path| Fixture::read(&path))
}

impl std::fmt::Debug for Fixture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.path)
    }
}

proptest! {
    #[test]
    fn no_bytes_make_an_examination_panic(like in any_fixture(), body: Vec<u8>, text: String) {
        for event_stream in [false, true] {
            let exchange = Exchange { event_stream, ..like.exchange };
            let _ = examine(&exchange, &body);
            let _ = examine(&exchange, text.as_bytes());
            let events: String = text.lines().map(|line| format!("data: {line}\n\n")).collect();
            let _ = examine(&exchange, events.as_bytes());
        }
    }

    #[test]
    fn no_change_to_an_answer_makes_an_examination_panic(
        fixture in any_fixture(),
        other in any_fixture(),
        at: prop::sample::Index,
        byte: u8,
        event_stream: bool,
    ) {
        let at = at.index(fixture.body.len());
        let mut changed = fixture.body.clone();
        changed[at] = byte;
        let spliced = [&fixture.body[..at], &other.body[at.min(other.body.len())..]].concat();
        for body in [&changed[..], &fixture.body[..at], &fixture.body[at..], &spliced] {
            let _ = examine(&Exchange { event_stream, ..fixture.exchange }, body);
            let _ = examine(&Exchange { event_stream, ..other.exchange }, body);
        }
    }

    #[test]
    fn frames_of_an_answer_are_the_answer(fixture in any_fixture()) {
        let pieces: Vec<_> = EventFrames::new(fixture.body.clone().into()).collect();
        prop_assert_eq!(pieces.concat(), fixture.body);
    }
}
