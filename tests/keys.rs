//! Which requests share an answer: those that mean the same to the same upstream and come from
//! the same tenant, and no others.

use std::fs;
use std::path::Path;

use black_box_tests::calls::SECRET;
use black_box_tests::sample::{CHAT, EMBEDDINGS};
use black_box_tests::{
    Answer, Client, Raw, Server, Setup, Upstream, credential_digest, eventually,
};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const EMBED: &str = "/v1beta/models/gemini-embedding-001:embedContent";

type Fields<'a> = &'a [(&'a str, &'a str)];

const BEARER: Fields<'static> = &[("authorization", "Bearer sk-one")];

/// A POST of a body as it is spelled.
fn post(client: &Client, path: &str, body: &str, fields: Fields<'_>) -> RequestBuilder {
    let request = client
        .request(Method::POST, path)
        .header("content-type", "application/json")
        .body(body.to_owned());
    fields.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

/// Asks `one`, then `other`, and says whether the second got the first's answer. The first is
/// asked again, so that an answer that was never stored is not taken for two that differ.
async fn share(name: &str, one: RequestBuilder, other: RequestBuilder) -> bool {
    let again = one.try_clone().expect("the body is in memory");
    let (first, second) = (Answer::of(one).await, Answer::of(other).await);
    assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200), "{name}");
    assert!(!first.is_hit(), "{name}: the first was there before");
    let again = Answer::of(again).await;
    assert!(again.is_hit(), "{name}: not stored: {}", again.cache_status());
    if !second.is_hit() {
        let status = second.cache_status();
        assert!(status.starts_with("cache-server; fwd=miss"), "{name}: {status}");
    }
    second.is_hit()
}

/// A body on a route, and a change in its text. `CASE` in it is the prompt of this case alone.
type Change = (&'static str, Base, &'static str, &'static str);

type Base = (&'static str, &'static str);

const PLAIN: Base = (
    CHAT,
    r#"{"model":"m","seed":1,"messages":[{"role":"user","content":"CASE"},{"content":"b"}]}"#,
);
const STREAM: Base =
    (CHAT, r#"{"model":"m","seed":1,"stream":true,"messages":[{"role":"user","content":"CASE"}]}"#);
const SCHEMA: Base = (
    CHAT,
    r#"{"model":"CASE","seed":1,"messages":[],"response_format":{"json_schema":{"schema":{"a":1,"b":2}}}}"#,
);
const TOOLS: Base = (
    CHAT,
    r#"{"model":"CASE","seed":1,"messages":[],"tools":[{"function":{"name":"a","parameters":{"a":1,"b":2}}},{"function":{"name":"b"}}]}"#,
);
const EMBEDDING: Base = (EMBEDDINGS, r#"{"model":"CASE","input":["US","ab","c"]}"#);
const RESPONSE: Base = (
    RESPONSES,
    r#"{"model":"m","temperature":0,"store":false,"input":"CASE","text":{"format":{"schema":{"a":1,"b":2}}}}"#,
);
const MESSAGE: Base = (
    MESSAGES,
    r#"{"model":"m","temperature":0,"system":[{"type":"text","text":"S"}],"messages":[{"role":"user","content":[{"type":"text","text":"CASE"},{"type":"tool_use","input":{}}]}],"tools":[{"name":"t","input_schema":{"a":1,"b":2}}]}"#,
);
const COUNT: Base = ("/v1/messages/count_tokens", MESSAGE.1);
const CONTENTS: Base = (
    GENERATE,
    r#"{"contents":[{"parts":[{"text":"CASE"}]}],"generationConfig":{"seed":1,"responseSchema":{"a":1,"b":2}}}"#,
);

async fn check_changes(changes: &[Change], expected: bool) {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for (name, (path, body), before, after) in changes {
        let (one, other) = (body.to_string(), body.replacen(before, after, 1));
        assert_ne!(one, other, "{name}: nothing to compare");
        let spelled = |body: &str| post(&client, path, &body.replace("CASE", name), BEARER);
        let shared = share(name, spelled(&one), spelled(&other)).await;
        assert_eq!(shared, expected, "{name} ({path}): {one} and {other}");
    }
}

#[tokio::test]
async fn spellings_of_one_body_share_an_answer() {
    const SPELLED: Base = (
        CHAT,
        r#"{"model":"m","temperature":0,"top_p":0.5,"messages":[{"role":"user","content":"CASE é / 😀"}]}"#,
    );
    const RESPACED: &str =
        "\n{ \"model\" :\t\"m\",\r\n \"temperature\" : 0, \"top_p\": 0.5,\"messages\":[ ";
    let changes: &[Change] = &[
        ("members", SPELLED, r#""temperature":0,"top_p":0.5"#, r#""top_p":0.5,"temperature":0"#),
        (
            "members below",
            SPELLED,
            r#"{"role":"user","content":"CASE é / 😀"}"#,
            r#"{"content":"CASE é / 😀","role":"user"}"#,
        ),
        (
            "white space",
            SPELLED,
            r#"{"model":"m","temperature":0,"top_p":0.5,"messages":["#,
            RESPACED,
        ),
        ("escapes in a text", SPELLED, "é / 😀", r"\u00e9 \/ \ud83d\uDE00"),
        ("escapes in a name", SPELLED, "model", r"mod\u0065l"),
        ("a zero", SPELLED, r#""temperature":0"#, r#""temperature":0.0"#),
        ("a half", SPELLED, "0.5", "5e-1"),
        (
            "a tool's members, outside its schema",
            MESSAGE,
            r#""name":"t","input_schema":{"a":1,"b":2}"#,
            r#""input_schema":{"a":1,"b":2},"name":"t""#,
        ),
    ];
    check_changes(changes, true).await;
}

#[tokio::test]
async fn members_that_change_no_answer_are_left_out() {
    let changes: &[Change] = &[
        ("user", PLAIN, "{", r#"{"user":"u-1","#),
        ("metadata", PLAIN, "{", r#"{"metadata":{"run":"7"},"#),
        ("safety_identifier", PLAIN, "{", r#"{"safety_identifier":"s","#),
        ("prompt_cache_key", PLAIN, "{", r#"{"prompt_cache_key":"k","#),
        ("prompt_cache_retention", PLAIN, "{", r#"{"prompt_cache_retention":"24h","#),
        ("request_id", PLAIN, "{", r#"{"request_id":"r-1","#),
        ("user of an embedding", EMBEDDING, "{", r#"{"user":"u-1","#),
        ("metadata of a message", MESSAGE, "{", r#"{"metadata":{"user_id":"u"},"#),
        ("cache_control", MESSAGE, "{", r#"{"cache_control":{"type":"ephemeral"},"#),
        (
            "cache_control of a block",
            MESSAGE,
            r#""CASE""#,
            r#""CASE","cache_control":{"type":"ephemeral"}"#,
        ),
        (
            "cache_control of the system",
            MESSAGE,
            r#""S""#,
            r#""S","cache_control":{"type":"ephemeral","ttl":"1h"}"#,
        ),
        (
            "cache_control of a tool",
            MESSAGE,
            r#""name":"t""#,
            r#""name":"t","cache_control":{"type":"ephemeral"}"#,
        ),
        (
            "cache_control where tokens are counted",
            COUNT,
            r#""CASE""#,
            r#""CASE","cache_control":{"type":"ephemeral"}"#,
        ),
        ("labels", CONTENTS, "{", r#"{"labels":{"team":"a"},"#),
    ];
    check_changes(changes, true).await;
}

#[tokio::test]
async fn members_that_change_the_answer_separate() {
    let changes: &[Change] = &[
        ("model", PLAIN, r#""m""#, r#""M""#),
        ("prompt", PLAIN, "CASE", "CASE?"),
        ("role", PLAIN, r#""user""#, r#""system""#),
        ("seed", PLAIN, r#""seed":1"#, r#""seed":2"#),
        ("seed beyond 2^53", (CHAT, r#"{"model":"CASE","seed":9007199254740992}"#), "992", "993"),
        ("temperature", PLAIN, "{", r#"{"temperature":0.5,"#),
        (
            "a small step",
            (CHAT, r#"{"model":"CASE","seed":1,"temperature":0.7}"#),
            "0.7",
            "0.70000001",
        ),
        ("max_tokens", PLAIN, "{", r#"{"max_tokens":9,"#),
        ("stream", PLAIN, "{", r#"{"stream":true,"#),
        ("stream_options", STREAM, "{", r#"{"stream_options":{"include_usage":true},"#),
        ("service_tier", PLAIN, "{", r#"{"service_tier":"flex","#),
        ("a member nobody has heard of", PLAIN, "{", r#"{"new_thing":1,"#),
        ("null and absent", PLAIN, "{", r#"{"stop":null,"#),
        ("number and text", (EMBEDDINGS, r#"{"model":"CASE","input":"1"}"#), r#""1""#, "1"),
        ("a user within a message", PLAIN, r#""role""#, r#""user":"u","role""#),
        ("a user that /responses echoes", RESPONSE, "{", r#"{"user":"u-1","#),
        ("metadata that /responses echoes", RESPONSE, "{", r#"{"metadata":{"a":"b"},"#),
        (
            "cache_control in a tool's input",
            MESSAGE,
            r#""input":{"#,
            r#""input":{"cache_control":1"#,
        ),
        ("a system of Gemini", CONTENTS, "{", r#"{"systemInstruction":{"parts":[{"text":"S"}]},"#),
    ];
    check_changes(changes, false).await;
}

#[tokio::test]
async fn the_order_of_elements_and_of_a_schemas_members_separates() {
    const ORDERED: &str = r#"{"a":1,"b":2}"#;
    const REVERSED: &str = r#"{"b":2,"a":1}"#;
    let changes: &[Change] = &[
        (
            "messages",
            PLAIN,
            r#"{"role":"user","content":"CASE"},{"content":"b"}"#,
            r#"{"content":"b"},{"role":"user","content":"CASE"}"#,
        ),
        ("inputs", EMBEDDING, r#""US","ab""#, r#""ab","US""#),
        ("where inputs are parted", EMBEDDING, r#""ab","c""#, r#""a","bc""#),
        (
            "tools",
            TOOLS,
            r#"{"function":{"name":"a","parameters":{"a":1,"b":2}}},{"function":{"name":"b"}}"#,
            r#"{"function":{"name":"b"}},{"function":{"name":"a","parameters":{"a":1,"b":2}}}"#,
        ),
        ("response_format", SCHEMA, ORDERED, REVERSED),
        ("parameters", TOOLS, ORDERED, REVERSED),
        ("text.format", RESPONSE, ORDERED, REVERSED),
        ("input_schema", MESSAGE, ORDERED, REVERSED),
        ("responseSchema", CONTENTS, ORDERED, REVERSED),
    ];
    check_changes(changes, false).await;
}

#[tokio::test]
async fn prompts_are_compared_to_the_letter() {
    let changes: &[Change] = &[
        ("small letters", EMBEDDING, "US", "us"),
        ("a space behind", EMBEDDING, "US", "US "),
        ("a space in front", EMBEDDING, "US", " US"),
        ("a space between", EMBEDDING, "US", "U S"),
        ("a line's end", EMBEDDING, "US", r"US\n"),
        ("a zero byte", EMBEDDING, "US", r"US\u0000"),
        (
            "composed letters",
            (EMBEDDINGS, r#"{"model":"CASE","input":"\u00e9"}"#),
            r"\u00e9",
            r"e\u0301",
        ),
    ];
    check_changes(changes, false).await;
}

/// Path and fields of two requests with one body, and whether they share its answer.
type Frame = (&'static str, &'static str, Fields<'static>, &'static str, Fields<'static>, bool);

const FRAMES: &[Frame] = &[
    (
        "anthropic-version",
        MESSAGES,
        &[("anthropic-version", "2023-06-01")],
        MESSAGES,
        &[("anthropic-version", "2023-01-01")],
        false,
    ),
    (
        "anthropic-version given",
        MESSAGES,
        &[],
        MESSAGES,
        &[("anthropic-version", "2023-06-01")],
        false,
    ),
    (
        "anthropic-beta",
        MESSAGES,
        &[("anthropic-beta", "a")],
        MESSAGES,
        &[("anthropic-beta", "b")],
        false,
    ),
    (
        "a second anthropic-beta",
        MESSAGES,
        &[("anthropic-beta", "a")],
        MESSAGES,
        &[("anthropic-beta", "a"), ("anthropic-beta", "b")],
        false,
    ),
    ("openai-beta", CHAT, &[("openai-beta", "a")], CHAT, &[("openai-beta", "b")], false),
    (
        "api-version",
        "/openai/deployments/d/chat/completions?api-version=1",
        &[],
        "/openai/deployments/d/chat/completions?api-version=2",
        &[],
        false,
    ),
    (
        "api-version given",
        "/openai/deployments/d/chat/completions",
        &[],
        "/openai/deployments/d/chat/completions?api-version=2",
        &[],
        false,
    ),
    (
        "deployment",
        "/openai/deployments/d/chat/completions",
        &[],
        "/openai/deployments/D/chat/completions",
        &[],
        false,
    ),
    ("base path", "/v1/chat/completions", &[], "/v2/chat/completions", &[], false),
    ("route", CHAT, &[], "/v1/completions", &[], false),
    (
        "model in the path",
        GENERATE,
        &[],
        "/v1beta/models/gemini-2.5-pro:generateContent",
        &[],
        false,
    ),
    (
        "alt",
        "/v1beta/models/m:streamGenerateContent",
        &[],
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        &[],
        false,
    ),
    (
        "x-stainless",
        CHAT,
        &[("x-stainless-retry-count", "0")],
        CHAT,
        &[("x-stainless-retry-count", "1"), ("x-stainless-os", "Linux")],
        true,
    ),
    (
        "traceparent",
        CHAT,
        &[],
        CHAT,
        &[
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("tracestate", "a=b"),
        ],
        true,
    ),
    (
        "user-agent",
        CHAT,
        &[("user-agent", "OpenAI/Python 1.0")],
        CHAT,
        &[("user-agent", "OpenAI/JS 5.0")],
        true,
    ),
    (
        "accept-encoding",
        CHAT,
        &[("accept-encoding", "gzip")],
        CHAT,
        &[("accept-encoding", "br, zstd")],
        true,
    ),
    (
        "accept-language and cookies",
        CHAT,
        &[],
        CHAT,
        &[("accept-language", "de"), ("cookie", "a=b"), ("x-request-id", "r-2")],
        true,
    ),
    ("another provider's version", CHAT, &[], CHAT, &[("anthropic-version", "2023-06-01")], true),
    ("media type", CHAT, &[], CHAT, &[("accept", "text/html")], true),
];

#[tokio::test]
async fn of_path_query_and_fields_only_those_that_change_the_answer_count() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for (name, path, fields, other_path, other_fields, expected) in FRAMES {
        // One body that every route takes.
        let body = json!({
            "model": "m", "seed": 1, "temperature": 0, "case": name,
            "generationConfig": {"temperature": 0},
        });
        let asked = |path: &str, fields: Fields<'_>| {
            let fields = [BEARER, fields].concat();
            post(&client, path, &body.to_string(), &fields)
        };
        let shared = share(name, asked(path, fields), asked(other_path, other_fields)).await;
        assert_eq!(shared, *expected, "{name}");
    }
}

#[tokio::test]
async fn a_route_leaves_out_more_members_or_keeps_some() {
    let upstream = Upstream::of_whole_answers().await;
    let config = r#"
        [[route]]
        endpoint = "openai.embeddings"
        ignore_members = ["trace_id"]
        keep_members = ["user"]
    "#;
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    let client = server.client();
    let chat = r#"{"seed":1,"messages":[],"case":"CASE","#;
    let embedding = r#"{"input":"CASE","#;
    for (name, path, start, one, other, expected) in [
        ("ignored", EMBEDDINGS, embedding, r#""trace_id":1}"#, r#""trace_id":2}"#, true),
        ("kept", EMBEDDINGS, embedding, r#""user":"a"}"#, r#""user":"b"}"#, false),
        ("not ignored elsewhere", CHAT, chat, r#""trace_id":1}"#, r#""trace_id":2}"#, false),
        ("not kept elsewhere", CHAT, chat, r#""user":"a"}"#, r#""user":"b"}"#, true),
    ] {
        let start = start.replace("CASE", name);
        let asked = |end: &str| post(&client, path, &format!("{start}{end}"), BEARER);
        assert_eq!(share(name, asked(one), asked(other)).await, expected, "{name}");
    }
}

#[tokio::test]
async fn what_is_left_out_and_what_is_kept_are_each_decided_by_a_route_of_their_own() {
    let upstream = Upstream::of_whole_answers().await;
    let config = r#"
        [[route]]
        ignore_members = ["trace_id"]
        keep_members = ["user"]

        [[route]]
        endpoint = "openai.embeddings"
        ignore_members = ["span_id", "user"]

        [[route]]
        endpoint = "openai.chat_completions"
        ignore_members = []
    "#;
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    let client = server.client();
    let (chat, embedding) = (r#"{"seed":1,"messages":[],"case":"CASE","#, r#"{"input":"CASE","#);
    for (name, path, start, member, expected) in [
        ("left out by the narrow route", EMBEDDINGS, embedding, "span_id", true),
        ("that decides alone on it", EMBEDDINGS, embedding, "trace_id", false),
        ("kept by the wide route, whatever is left out", EMBEDDINGS, embedding, "user", false),
        ("left out no more", CHAT, chat, "trace_id", false),
        ("kept there too", CHAT, chat, "user", false),
    ] {
        let start = start.replace("CASE", name);
        let asked = |value: &str| {
            post(&client, path, &format!("{start}\"{member}\":\"{value}\"}}"), BEARER)
        };
        assert_eq!(share(name, asked("a"), asked("b")).await, expected, "{name}");
    }
}

#[tokio::test]
async fn upstreams_share_nothing_and_one_upstream_is_known_by_its_url() {
    let (one, two) = (Upstream::of_whole_answers().await, Upstream::of_whole_answers().await);
    let mounts = [
        ("one", one.url()),
        ("again", format!("{}/", one.url())),
        ("deeper", format!("{}/gateway", one.url())),
        ("two", two.url()),
    ];
    let setup = mounts.iter().fold(Setup::default(), |setup, (name, url)| {
        setup.argument("--upstream").argument(&format!("{name}={url}"))
    });
    let server = Server::start(setup).await;
    let client = server.client();
    for (other, expected) in [("two", false), ("deeper", false), ("again", true)] {
        let body = json!({"model": "m", "input": other}).to_string();
        let asked = |mount: &str| post(&client, &format!("/{mount}{EMBEDDINGS}"), &body, BEARER);
        assert_eq!(share(other, asked("one"), asked(other)).await, expected, "/one and /{other}");
    }
}

/// Callers who are mapped to no tenant: two sets of fields, and whether they are one caller.
const CALLERS: &[(&str, Fields<'static>, Fields<'static>, bool)] = &[
    ("the same credential", BEARER, BEARER, true),
    ("the scheme in small letters", BEARER, &[("authorization", "bearer sk-one")], true),
    ("nobody and nobody", &[], &[], true),
    ("nobody and an empty credential", &[], &[("x-api-key", "")], true),
    ("two bearers", BEARER, &[("authorization", "Bearer sk-two")], false),
    ("a longer bearer", BEARER, &[("authorization", "Bearer sk-one-more")], false),
    ("capitals", BEARER, &[("authorization", "Bearer SK-ONE")], false),
    ("another scheme", BEARER, &[("authorization", "Basic sk-one")], false),
    ("two x-api-keys", &[("x-api-key", "a")], &[("x-api-key", "b")], false),
    ("two api-keys", &[("api-key", "a")], &[("api-key", "b")], false),
    ("two x-goog-api-keys", &[("x-goog-api-key", "a")], &[("x-goog-api-key", "b")], false),
    ("authorization and x-api-key", BEARER, &[("x-api-key", "sk-two")], false),
    ("a credential and nobody", BEARER, &[], false),
    (
        "one more credential",
        BEARER,
        &[("authorization", "Bearer sk-one"), ("x-api-key", "sk-two")],
        false,
    ),
    (
        "organizations",
        &[("authorization", "Bearer sk-one"), ("openai-organization", "org-1")],
        &[("authorization", "Bearer sk-one"), ("openai-organization", "org-2")],
        false,
    ),
    (
        "an organization given",
        BEARER,
        &[("authorization", "Bearer sk-one"), ("openai-organization", "org-1")],
        false,
    ),
    (
        "projects",
        &[("authorization", "Bearer sk-one"), ("openai-project", "p-1")],
        &[("authorization", "Bearer sk-one"), ("openai-project", "p-2")],
        false,
    ),
    (
        "an organization that is not a project",
        &[("openai-organization", "a")],
        &[("openai-project", "a")],
        false,
    ),
];

#[tokio::test]
async fn callers_with_different_credentials_share_nothing() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for (name, one, other, expected) in CALLERS {
        let body = json!({"model": "m", "input": name}).to_string();
        let asked = |fields: Fields<'_>| post(&client, EMBEDDINGS, &body, fields);
        assert_eq!(share(name, asked(one), asked(other)).await, *expected, "{name}");
    }
}

#[tokio::test]
async fn a_credential_in_the_query_is_a_tenant_and_no_part_of_the_url() {
    let upstream = Upstream::of_whole_answers().await;
    let config = tenants(&[("team", &["AIza-mapped"])]).await;
    let server = Server::start(Setup::in_front_of(&upstream).config(&config)).await;
    let client = server.client();
    for (name, one, other, expected) in [
        ("the same", "?key=AIza-1", "?key=AIza-1", true),
        ("two", "?key=AIza-1", "?key=AIza-2", false),
        ("one and none", "?key=AIza-1", "", false),
        ("encoded", "?key=AIza-1", "?k%65y=AIza%2D1", true),
        ("none and empty", "", "?key=", true),
        ("beside others", "?key=AIza-1&alt=json", "?alt=json&key=AIza-1", true),
        ("others differ", "?key=AIza-1&alt=json", "?alt=proto&key=AIza-1", false),
    ] {
        let body = json!({"content": name}).to_string();
        let asked = |query: &str| post(&client, &format!("{EMBED}{query}"), &body, &[]);
        assert_eq!(share(name, asked(one), asked(other)).await, expected, "{name}");
    }
    let body = json!({"content": "mapped"}).to_string();
    let by_query = post(&client, &format!("{EMBED}?key=AIza-mapped"), &body, &[]);
    let by_field = post(&client, EMBED, &body, &[("x-goog-api-key", "AIza-mapped")]);
    assert!(share("mapped", by_query, by_field).await);
}

/// The lines of a config that maps credentials to tenants.
async fn tenants(tenants: &[(&str, &[&str])]) -> String {
    let mut config = String::new();
    for (name, credentials) in tenants {
        let mut digests = Vec::new();
        for credential in *credentials {
            digests.push(credential_digest(credential).await);
        }
        config += &format!("[[tenant]]\nname = {name:?}\ncredential_digests = {digests:?}\n");
    }
    config
}

/// Callers of whom some are mapped: two sets of fields, and whether they are of one tenant.
const MAPPED: &[(&str, Fields<'static>, Fields<'static>, bool)] = &[
    (
        "two of a tenant",
        &[("authorization", "Bearer sk-a1")],
        &[("authorization", "Bearer sk-a2")],
        true,
    ),
    ("in whatever field", &[("authorization", "Bearer sk-a1")], &[("x-api-key", "sk-a1")], true),
    (
        "two of a tenant, in two fields",
        &[("api-key", "sk-a1")],
        &[("x-goog-api-key", "sk-a2")],
        true,
    ),
    (
        "both at once",
        &[("authorization", "Bearer sk-a1")],
        &[("authorization", "Bearer sk-a1"), ("x-api-key", "sk-a2")],
        true,
    ),
    (
        "two tenants",
        &[("authorization", "Bearer sk-a1")],
        &[("authorization", "Bearer sk-b")],
        false,
    ),
    (
        "a tenant and a stranger",
        &[("authorization", "Bearer sk-a1")],
        &[("authorization", "Bearer sk-x")],
        false,
    ),
    (
        "a stranger who adds a tenant's",
        &[("authorization", "Bearer sk-a1")],
        &[("authorization", "Bearer sk-x"), ("x-api-key", "sk-a1")],
        false,
    ),
    (
        "a tenant's with a stranger's added",
        &[("authorization", "Bearer sk-a1")],
        &[("authorization", "Bearer sk-a1"), ("api-key", "sk-x")],
        false,
    ),
    (
        "of two tenants at once",
        &[("authorization", "Bearer sk-a1")],
        &[("authorization", "Bearer sk-a1"), ("x-api-key", "sk-b")],
        false,
    ),
    (
        "a second value of one field",
        &[("x-api-key", "sk-a1")],
        &[("x-api-key", "sk-a1"), ("x-api-key", "sk-x")],
        false,
    ),
    ("a tenant and nobody", &[("authorization", "Bearer sk-a1")], &[], false),
    ("a tenant named anonymous", &[], &[("authorization", "Bearer sk-anonymous")], false),
];

#[tokio::test]
async fn credentials_of_one_tenant_share_and_nobody_slips_in() {
    let upstream = Upstream::of_whole_answers().await;
    let config =
        tenants(&[("a", &["sk-a1", "sk-a2"]), ("b", &["sk-b"]), ("anonymous", &["sk-anonymous"])]);
    let server = Server::start(Setup::in_front_of(&upstream).config(&config.await)).await;
    let client = server.client();
    for (name, one, other, expected) in MAPPED {
        let body = json!({"model": "m", "input": name}).to_string();
        let asked = |fields: Fields<'_>| post(&client, EMBEDDINGS, &body, fields);
        assert_eq!(share(name, asked(one), asked(other)).await, *expected, "{name}");
    }
}

#[tokio::test]
async fn nobody_learns_whether_another_tenant_has_an_answer() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let body = json!({"model": "m", "input": "secret plans"}).to_string();
    let probe = |body: &str| {
        let cached = ("cache-control", "only-if-cached");
        Answer::of(post(&client, EMBEDDINGS, body, &[("x-api-key", "sk-other"), cached]))
    };
    Answer::of(post(&client, EMBEDDINGS, &body, BEARER)).await;
    let there = probe(&body).await;
    let not_there = probe(r#"{"model":"m","input":"never asked"}"#).await;
    assert_eq!(there.status, 504);
    assert_eq!(there.status, not_there.status);
    assert_eq!(there.body, not_there.body);
    let named = |answer: &Answer| {
        let mut headers = answer.headers.clone();
        headers.remove("date");
        headers
    };
    assert_eq!(named(&there), named(&not_there));
}

const PROMPT: &str = "the prompt that nobody else may read";

/// Requests that end in each way that there is, with the secret in each place that there is.
fn telling(client: &Client) -> Vec<RequestBuilder> {
    let bearer = format!("Bearer {SECRET}");
    let places: [Fields<'_>; 4] = [
        &[("authorization", &bearer)],
        &[("x-api-key", SECRET)],
        &[("api-key", SECRET)],
        &[("x-goog-api-key", SECRET)],
    ];
    let embedding = json!({"model": "m", "input": PROMPT}).to_string();
    let sampled = json!({"model": "m", "messages": [{"content": PROMPT}]}).to_string();
    let paths = ["/works", "/refuses", "/nowhere"];
    let ends: [(&str, &str, Fields<'_>); 6] = [
        (EMBEDDINGS, &embedding, &[]),
        (EMBEDDINGS, &embedding, &[("cache-server-reuse", "new")]),
        (EMBEDDINGS, &embedding, &[("cache-server-reuse", "perhaps")]),
        (EMBEDDINGS, "{\"input\": ", &[]),
        (CHAT, &sampled, &[]),
        (CHAT, &sampled, &[("cache-control", "only-if-cached")]),
    ];
    let mut all = Vec::new();
    for mount in paths {
        for (path, body, fields) in ends {
            for place in places {
                let fields = [place, fields].concat();
                all.push(post(client, &format!("{mount}{path}"), body, &fields));
            }
            for query in [format!("?key={SECRET}"), format!("?a=b&k%65y={SECRET}")] {
                all.push(post(client, &format!("{mount}{path}{query}"), body, fields));
            }
        }
    }
    all.push(post(client, &format!("/_cache/v1/x?key={SECRET}"), "", places[0]));
    all
}

fn assert_no_secret(what: &str, text: &str) {
    for secret in [SECRET, PROMPT] {
        assert!(!text.contains(secret), "{what} tells {secret:?}: {text}");
    }
}

#[tokio::test]
async fn no_credential_and_no_prompt_is_told_anywhere() {
    let upstream = Upstream::of_whole_answers().await;
    let gone = Upstream::of_whole_answers().await;
    let refused = gone.url();
    gone.stop().await;
    let setup = Setup::default()
        .argument("--upstream")
        .argument(&format!("works={}", upstream.url()))
        .argument("--upstream")
        .argument(&format!("refuses={refused}"))
        .config("[log]\nrequests_per_second_max = 100000");
    let mut server = Server::start(setup).await;
    let mut statuses = Vec::new();
    for request in telling(&server.client()) {
        let answer = Answer::of(request).await;
        statuses.push(answer.status.as_u16());
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_no_secret("an answer", &format!("{:?} {text}", answer.headers));
    }
    // No client library sends a path out of the mount.
    let mut raw = Raw::open(&server.address).await;
    raw.post(&format!("/works/../../x?key={SECRET}"), "{}").await;
    let bad_path = raw.answer().await;
    assert!(bad_path.text().contains("bad-path"), "{}", bad_path.text());
    assert_no_secret("a bad path", &(bad_path.head.clone() + &bad_path.text()));
    for status in [200, 400, 404, 502, 504] {
        assert!(statuses.contains(&status), "no {status} among {statuses:?}");
    }
    for page in ["/metrics", "/stats", "/healthz", "/readyz"] {
        let answer = server.admin_client().get(page).await;
        assert_eq!(answer.status, 200, "{page}");
        assert_no_secret(page, &String::from_utf8_lossy(&answer.body));
    }
    // A line on what failed and one on what passed, so that there is something to search.
    eventually("the log's lines", || async {
        let log = server.log();
        (log.contains("a fill failed") && log.contains("not-deterministic")).then_some(())
    })
    .await;
    server.stop().await;
    assert_no_secret("the log", &server.log());
    assert_nothing_on_disk(&server.data_dir());
}

/// Searches every file for the secrets, and for an answer, which must be there to be found.
fn assert_nothing_on_disk(folder: &Path) {
    let (mut folders, mut answers) = (vec![folder.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the data folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = fs::read(&path).expect("a file");
            let text = String::from_utf8_lossy(&bytes);
            for secret in [SECRET, PROMPT] {
                assert!(!text.contains(secret), "{} holds {secret:?}", path.display());
            }
            answers += text.matches("\"object\": \"embedding\"").count();
        }
    }
    assert!(answers > 0, "no answer is on disk, so the search proves nothing");
}
