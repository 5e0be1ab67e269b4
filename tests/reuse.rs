//! Which answers are given again, for how long, and what a caller hears when one is not.

use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::sample::{CHAT, EMBEDDINGS, recorded};
use black_box_tests::{
    Answer, Client, Received, Reply, Server, Setup, Upstream, credential_digest, eventually,
};
use http::HeaderMap;
use reqwest::Method;
use serde_json::{Value, json};

const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MODERATIONS: &str = "/v1/moderations";
const MESSAGES: &str = "/v1/messages";
const ANTHROPIC_COUNT: &str = "/v1/messages/count_tokens";
const GENERATE: &str = "/v1beta/models/gemini-2.5-flash:generateContent";
const STREAM_GENERATE: &str = "/v1beta/models/gemini-2.5-flash:streamGenerateContent";
const GEMINI_COUNT: &str = "/v1beta/models/gemini-2.5-flash:countTokens";
const EMBED: &str = "/v1beta/models/gemini-embedding-001:embedContent";
const BATCH_EMBED: &str = "/v1beta/models/gemini-embedding-001:batchEmbedContents";

const REUSE: &str = "cache-server-reuse";
const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;

/// What becomes of a request that is made twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The second is answered from the cache.
    Reused,
    /// Both pass it, for this reason.
    Past(&'static str),
}
use Then::{Past, Reused};

/// A request that a test makes twice.
#[derive(Clone)]
struct Ask<'a> {
    path: &'a str,
    body: Value,
    /// What it says of reuse, if anything.
    reuse: Option<&'a str>,
    credential: &'a str,
}

impl<'a> Ask<'a> {
    fn of(path: &'a str, body: Value) -> Ask<'a> {
        Ask { path, body, reuse: None, credential: "sk-test" }
    }

    fn saying(self, reuse: &'a str) -> Ask<'a> {
        Ask { reuse: Some(reuse), ..self }
    }

    fn by(self, credential: &'a str) -> Ask<'a> {
        Ask { credential, ..self }
    }

    async fn once(&self, client: &Client) -> Answer {
        let request = client
            .request(Method::POST, self.path)
            .header("authorization", format!("Bearer {}", self.credential))
            .header("content-type", "application/json")
            .body(self.body.to_string());
        let says_reuse = self.reuse.map(|reuse| (REUSE, reuse));
        let request =
            says_reuse.iter().fold(request, |all, (name, value)| all.header(*name, *value));
        Answer::of(request).await
    }

    /// Makes it twice and checks what becomes of it.
    async fn check(&self, client: &Client, upstream: &Upstream, expected: Then) {
        let before = upstream.calls();
        let (first, second) = (self.once(client).await, self.once(client).await);
        let calls = upstream.calls() - before;
        let name = format!("{} {} reuse: {:?}", self.path, self.body, self.reuse);
        let (one, two) = (first.cache_status(), second.cache_status());
        assert_eq!((first.status.as_u16(), second.status.as_u16()), (200, 200), "{name}");
        match expected {
            Reused => {
                assert!(one.starts_with("cache-server; fwd=miss"), "{name}: {one}");
                assert!(second.is_hit(), "{name}: {one}, then {two}");
                assert_eq!(calls, 1, "{name}: calls of the upstream");
            }
            Past(reason) => {
                let said = format!("cache-server; fwd=bypass; fwd-status=200; detail={reason}");
                assert_eq!((one, two), (said.as_str(), said.as_str()), "{name}");
                assert_eq!(calls, 2, "{name}: calls of the upstream");
            }
        }
    }
}

/// `base` with the members of `more` put over it.
fn with(mut base: Value, more: &Value) -> Value {
    let members = base.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object").clone());
    base
}

fn chat(more: &Value) -> Value {
    with(json!({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}), more)
}

fn response(more: &Value) -> Value {
    with(json!({"model": "gpt-4.1", "input": "Hi", "temperature": 0, "store": false}), more)
}

fn message(more: &Value) -> Value {
    let base = json!({
        "model": "claude-sonnet-4-5",
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Hi"}],
    });
    with(base, more)
}

fn contents(more: &Value) -> Value {
    with(json!({"contents": [{"parts": [{"text": "Hi"}]}]}), more)
}

/// The `ttl` of a hit.
fn ttl_s(answer: &Answer) -> i64 {
    let member = |member: &str| member.strip_prefix("ttl=").and_then(|ttl| ttl.parse().ok());
    let ttl = answer.cache_status().split("; ").find_map(member);
    ttl.unwrap_or_else(|| panic!("no ttl in {}", answer.cache_status()))
}

/// A lifetime of `expected` seconds, of which a slow machine may have used some.
fn assert_lifetime(name: &str, answer: &Answer, expected: i64) {
    assert!(answer.is_hit(), "{name}: {}", answer.cache_status());
    let ttl = ttl_s(answer);
    assert!((expected - 60..=expected).contains(&ttl), "{name}: ttl {ttl} is not {expected}");
}

/// An upstream whose every answer to a chat tells the number of the call.
async fn numbering() -> Upstream {
    let calls = AtomicUsize::new(0);
    Upstream::start(move |_| {
        let mut answer: Value =
            serde_json::from_slice(&recorded("openai-chat-completions/whole.json"))
                .expect("a JSON fixture");
        answer["id"] = format!("chatcmpl-{}", calls.fetch_add(1, Ordering::SeqCst) + 1).into();
        Reply::json(&answer)
    })
    .await
}

/// Which call of a [`numbering`] upstream an answer is of.
fn number(answer: &Answer) -> String {
    let answer = answer.json();
    let id = answer["id"].as_str().expect("an id");
    id.trim_start_matches("chatcmpl-").to_owned()
}

#[tokio::test]
async fn generation_is_reused_by_default_if_temperature_is_zero_or_there_is_a_seed() {
    let sampled = Past("not-deterministic");
    let cases = [
        (CHAT, chat(&json!({"temperature": 0})), Reused),
        (CHAT, chat(&json!({"temperature": 0.0, "top_p": 0.9})), Reused),
        (CHAT, chat(&json!({"temperature": -0.0, "n": 1})), Reused),
        (CHAT, chat(&json!({"seed": 7})), Reused),
        (CHAT, chat(&json!({"seed": 0, "temperature": 1})), Reused),
        (CHAT, chat(&json!({"temperature": 0, "stream": true})), Reused),
        (COMPLETIONS, json!({"model": "m", "prompt": "Hi", "temperature": 0}), Reused),
        (RESPONSES, response(&json!({})), Reused),
        (MESSAGES, message(&json!({"temperature": 0})), Reused),
        (GENERATE, contents(&json!({"generationConfig": {"temperature": 0}})), Reused),
        (GENERATE, contents(&json!({"generationConfig": {"seed": 3}})), Reused),
        (STREAM_GENERATE, contents(&json!({"generation_config": {"temperature": 0.0}})), Reused),
        (CHAT, chat(&json!({})), sampled),
        (CHAT, chat(&json!({"temperature": 0.7})), sampled),
        (CHAT, chat(&json!({"temperature": 1e-9})), sampled),
        (CHAT, chat(&json!({"temperature": null})), sampled),
        (CHAT, chat(&json!({"temperature": "0"})), sampled),
        (CHAT, chat(&json!({"seed": null})), sampled),
        (CHAT, chat(&json!({"stream": true})), sampled),
        (COMPLETIONS, json!({"model": "m", "prompt": "Hi"}), sampled),
        (RESPONSES, json!({"model": "gpt-4.1", "input": "Hi", "store": false}), sampled),
        (MESSAGES, message(&json!({})), sampled),
        (GENERATE, contents(&json!({})), sampled),
        // Not where Gemini reads it.
        (GENERATE, contents(&json!({"temperature": 0})), sampled),
        (STREAM_GENERATE, contents(&json!({"generationConfig": {"temperature": 1}})), sampled),
    ];
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (path, body, expected) in cases {
        Ask::of(path, body).check(&server.client(), &upstream, expected).await;
    }
}

/// A call of every route that samples nothing.
fn unsampled() -> [(&'static str, Value); 6] {
    let content = json!({"parts": [{"text": "Hi"}]});
    [
        (EMBEDDINGS, json!({"model": "text-embedding-3-small", "input": "Hi"})),
        (MODERATIONS, json!({"model": "omni-moderation-latest", "input": "Hi"})),
        (ANTHROPIC_COUNT, message(&json!({}))),
        (GEMINI_COUNT, contents(&json!({}))),
        (EMBED, json!({"content": content})),
        (BATCH_EMBED, json!({"requests": [{"model": "models/e", "content": content}]})),
    ]
}

#[tokio::test]
async fn what_samples_nothing_is_reused_by_default() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (path, body) in unsampled() {
        Ask::of(path, body).check(&server.client(), &upstream, Reused).await;
    }
}

#[tokio::test]
async fn under_declared_nothing_is_reused_that_the_request_does_not_declare() {
    let upstream = Upstream::of_whole_answers().await;
    let setup = Setup::in_front_of(&upstream).argument("--reuse").argument("declared");
    let server = Server::start(setup).await;
    let sampled = [(CHAT, chat(&json!({}))), (CHAT, chat(&json!({"temperature": 0})))];
    for (path, body) in unsampled().into_iter().chain(sampled) {
        let ask = Ask::of(path, body);
        ask.check(&server.client(), &upstream, Past("not-declared")).await;
        ask.saying("yes").check(&server.client(), &upstream, Reused).await;
    }
}

#[tokio::test]
async fn under_any_all_that_has_a_key_is_reused() {
    let upstream = Upstream::of_whole_answers().await;
    let setup = Setup::in_front_of(&upstream).argument("--reuse").argument("any");
    let server = Server::start(setup).await;
    let sampled = [
        (CHAT, chat(&json!({}))),
        (CHAT, chat(&json!({"temperature": 1.3}))),
        (RESPONSES, json!({"model": "gpt-4.1", "input": "Hi"})),
        (MESSAGES, message(&json!({}))),
        (GENERATE, contents(&json!({}))),
    ];
    for (path, body) in unsampled().into_iter().chain(sampled) {
        Ask::of(path, body).check(&server.client(), &upstream, Reused).await;
    }
}

#[tokio::test]
async fn the_flag_goes_before_the_file() {
    let upstream = Upstream::of_whole_answers().await;
    let any = "[cache]\nreuse = \"any\"\n";
    let ask = Ask::of(CHAT, chat(&json!({})));
    let server = Server::start(Setup::in_front_of(&upstream).config(any)).await;
    ask.check(&server.client(), &upstream, Reused).await;
    let setup = Setup::in_front_of(&upstream).config(any);
    let server = Server::start(setup.argument("--reuse").argument("declared")).await;
    ask.check(&server.client(), &upstream, Past("not-declared")).await;
}

#[tokio::test]
async fn of_the_routes_that_match_the_most_specific_decides() {
    let routes = r#"
        [[route]]
        upstream = "second"
        reuse = "any"
        [[route]]
        endpoint = "openai.chat_completions"
        reuse = "declared"
        [[route]]
        model = "o*"
        reuse = "any"
        [[route]]
        model = "o4-*"
        reuse = "declared"
        [[route]]
        model = "o4-mini"
        reuse = "any"
        [[route]]
        model = "o4-mini"
        endpoint = "openai.responses"
        reuse = "declared"
    "#;
    let (first, second) = (Upstream::of_whole_answers().await, Upstream::of_whole_answers().await);
    let setup = Setup::default()
        .argument("--upstream")
        .argument(&format!("first={}", first.url()))
        .argument("--upstream")
        .argument(&format!("second={}", second.url()))
        .config(routes);
    let server = Server::start(setup).await;
    let chat_of = |model: &str| chat(&json!({"model": model}));
    let message_of = |model: &str| message(&json!({"model": model}));
    let cases = [
        (
            "no route but the defaults",
            "/first/v1/messages",
            message_of("x"),
            Past("not-deterministic"),
        ),
        ("the upstream", "/second/v1/messages", message_of("x"), Reused),
        ("the endpoint", "/first/v1/chat/completions", chat_of("x"), Past("not-declared")),
        (
            "endpoint before upstream",
            "/second/v1/chat/completions",
            chat_of("x"),
            Past("not-declared"),
        ),
        ("model before endpoint", "/first/v1/chat/completions", chat_of("o3"), Reused),
        (
            "the longer pattern",
            "/second/v1/chat/completions",
            chat_of("o4-pro"),
            Past("not-declared"),
        ),
        ("the whole name", "/first/v1/chat/completions", chat_of("o4-mini"), Reused),
        ("no part of a name", "/first/v1/messages", message_of("go"), Past("not-deterministic")),
        (
            "model and endpoint",
            "/second/v1/responses",
            response(&json!({"model": "o4-mini"})),
            Past("not-declared"),
        ),
    ];
    for (name, path, body, expected) in cases {
        let upstream = if path.starts_with("/first") { &first } else { &second };
        let body = with(body, &json!({"test_case": name}));
        Ask::of(path, body).check(&server.client(), upstream, expected).await;
    }
}

#[tokio::test]
async fn a_model_that_the_path_names_is_matched_by_its_route() {
    let upstream = Upstream::of_whole_answers().await;
    let routes = r#"
        [[route]]
        model = "gemini-2.5*"
        reuse = "any"
        [[route]]
        model = "prod-4o"
        reuse = "any"
    "#;
    let server = Server::start(Setup::in_front_of(&upstream).config(routes)).await;
    let azure = "/openai/deployments/prod-4o/chat/completions?api-version=2024-10-21";
    let others = "/openai/deployments/prod-5/chat/completions?api-version=2024-10-21";
    let messages = json!({"messages": [{"role": "user", "content": "Hi"}]});
    for (path, body, expected) in [
        (GENERATE, contents(&json!({})), Reused),
        ("/v1beta/models/gemma-3:generateContent", contents(&json!({})), Past("not-deterministic")),
        (azure, messages.clone(), Reused),
        (others, messages, Past("not-deterministic")),
    ] {
        Ask::of(path, body).check(&server.client(), &upstream, expected).await;
    }
}

#[tokio::test]
async fn a_tenant_has_a_policy_of_its_own_where_no_route_says_otherwise() {
    let upstream = Upstream::of_whole_answers().await;
    let config = format!(
        r#"
        [[tenant]]
        name = "research"
        credential_digests = ["{}"]
        reuse = "any"
        [[tenant]]
        name = "audit"
        credential_digests = ["{}"]
        reuse = "declared"
        [[route]]
        model = "o3"
        reuse = "deterministic"
        [[route]]
        tenant = "audit"
        model = "o3"
        reuse = "any"
        "#,
        credential_digest("sk-research").await,
        credential_digest("sk-audit").await,
    );
    let server = Server::start(Setup::in_front_of(&upstream).config(&config)).await;
    let sampled = || Ask::of(CHAT, chat(&json!({})));
    let zero = || Ask::of(CHAT, chat(&json!({"temperature": 0})));
    let routed = || Ask::of(CHAT, chat(&json!({"model": "o3"})));
    for (ask, expected) in [
        (sampled().by("sk-research"), Reused),
        (sampled().by("sk-audit"), Past("not-declared")),
        (sampled().by("sk-nobody"), Past("not-deterministic")),
        (zero().by("sk-audit"), Past("not-declared")),
        (zero().by("sk-nobody"), Reused),
        (routed().by("sk-research"), Past("not-deterministic")),
        (routed().by("sk-audit"), Reused),
    ] {
        ask.check(&server.client(), &upstream, expected).await;
    }
}

#[tokio::test]
async fn a_request_declares_that_its_answer_may_be_reused() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for (path, body) in [
        (CHAT, chat(&json!({"temperature": 0.9}))),
        (RESPONSES, json!({"model": "o3", "input": "Hi"})),
        (MESSAGES, message(&json!({}))),
        (GENERATE, contents(&json!({}))),
    ] {
        for spelling in ["yes", "YES"] {
            let body = with(body.clone(), &json!({"test_case": spelling}));
            Ask::of(path, body).saying(spelling).check(&client, &upstream, Reused).await;
        }
        // Who does not declare it is not given what another's declaration stored.
        let body = with(body, &json!({"test_case": "yes"}));
        let answer = Ask::of(path, body).once(&client).await;
        assert!(answer.cache_status().contains("fwd=bypass"), "{}", answer.cache_status());
    }
}

#[tokio::test]
async fn a_request_that_says_no_is_neither_answered_from_the_cache_nor_stored() {
    let upstream = numbering().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let ask = Ask::of(CHAT, chat(&json!({"temperature": 0})));
    let refusing = ask.clone().saying("no");
    for turn in ["1", "2"] {
        let answer = refusing.once(&client).await;
        assert_eq!(number(&answer), turn);
        let said = "cache-server; fwd=request; fwd-status=200; detail=reuse-no";
        assert_eq!(answer.cache_status(), said);
    }
    assert_eq!(number(&ask.once(&client).await), "3", "what said no was stored");
    assert_eq!(number(&refusing.once(&client).await), "4", "what said no was given a stored one");
    assert_eq!(number(&ask.once(&client).await), "3", "what said no replaced the stored one");
}

/// Both ways to ask for a fresh answer do the same, as each request says its own.
async fn assert_replaces(name: &str, fields: &[(&str, &str)], ask: Ask<'_>) {
    let upstream = numbering().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    assert_eq!(number(&ask.once(&client).await), "1", "{name}");
    assert_eq!(number(&ask.once(&client).await), "1", "{name}: not stored at all");
    let afresh = fields.iter().fold(client.post(ask.path, &ask.body), |request, (field, value)| {
        request.header(*field, *value)
    });
    let fresh = Answer::of(afresh).await;
    assert_eq!(number(&fresh), "2", "{name}: answered from the cache");
    let status = fresh.cache_status();
    assert!(status.starts_with("cache-server; fwd=request; fwd-status=200; stored"), "{status}");
    let after = ask.once(&client).await;
    assert!(after.is_hit(), "{name}: {}", after.cache_status());
    assert_eq!(number(&after), "2", "{name}: the old answer was not replaced");
    assert_eq!(upstream.calls(), 2, "{name}");
}

#[tokio::test]
async fn new_and_no_cache_fetch_afresh_and_replace_the_stored_answer() {
    let zero = || Ask::of(CHAT, chat(&json!({"temperature": 0})));
    let sampled = || Ask::of(CHAT, chat(&json!({}))).saying("yes");
    assert_replaces("new", &[(REUSE, "new")], zero()).await;
    assert_replaces("new, sampled", &[(REUSE, "new")], sampled()).await;
    assert_replaces("no-cache", &[("cache-control", "no-cache")], zero()).await;
    assert_replaces("among others", &[("cache-control", "max-stale, No-Cache")], zero()).await;
    let both = [(REUSE, "yes"), ("cache-control", "no-cache")];
    assert_replaces("no-cache, sampled", &both, sampled()).await;
}

#[tokio::test]
async fn new_stores_an_answer_that_only_declarations_get() {
    let upstream = numbering().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let ask = Ask::of(CHAT, chat(&json!({})));
    let new = ask.clone().saying("new").once(&server.client()).await;
    let yes = ask.saying("yes").once(&server.client()).await;
    assert!(yes.is_hit(), "{}", yes.cache_status());
    assert_eq!((number(&new).as_str(), number(&yes).as_str()), ("1", "1"));
}

#[tokio::test]
async fn what_a_request_says_of_reuse_never_reaches_an_upstream() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let calls = [(CHAT, chat(&json!({"temperature": 0}))), (CHAT, chat(&json!({})))];
    for (path, body) in calls {
        for reuse in ["yes", "no", "new"] {
            Ask::of(path, body.clone()).saying(reuse).once(&client).await;
        }
    }
    Answer::of(client.request(Method::GET, "/v1/models").header(REUSE, "yes")).await;
    let received = upstream.received();
    // All but a second `yes`, were it made.
    assert_eq!(received.len(), 7);
    for request in received {
        assert!(!request.headers.contains_key(REUSE), "{} {:?}", request.uri, request.headers);
    }
}

/// Checks an error of ours.
fn assert_problem(name: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{name}");
    assert_eq!(answer.field("content-type"), "application/problem+json", "{name}");
    let problem = answer.json();
    assert_eq!(problem["code"], code, "{name}");
    assert_eq!(problem["status"], status, "{name}");
    assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{name}");
}

#[tokio::test]
async fn any_other_word_on_reuse_is_refused() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for word in ["", "true", "1", "yes, no", "fresh", "yes;q=1"] {
        let answer = Ask::of(EMBEDDINGS, json!({"input": "Hi"})).saying(word).once(&client).await;
        assert_problem(word, &answer, 400, "bad-reuse");
        let elsewhere = client.request(Method::GET, "/v1/models").header(REUSE, word);
        assert_problem(word, &Answer::of(elsewhere).await, 400, "bad-reuse");
    }
    let twice = client.post(EMBEDDINGS, &json!({"input": "Hi"})).header(REUSE, "yes");
    assert_problem("twice", &Answer::of(twice.header(REUSE, "no")).await, 400, "bad-reuse");
    assert_eq!(upstream.calls(), 0);
}

/// Requests whose answers are never reused, and why.
fn never() -> Vec<(&'static str, Value, &'static str)> {
    let state = "upstream-state";
    let mut cases = vec![
        (RESPONSES, response(&json!({"previous_response_id": "resp_1"})), state),
        (RESPONSES, response(&json!({"conversation": "conv_1"})), state),
        (RESPONSES, response(&json!({"conversation": {"id": "conv_1"}})), state),
        (RESPONSES, response(&json!({"prompt": {"id": "pmpt_1"}})), state),
        (MESSAGES, message(&json!({"temperature": 0, "container": "container_1"})), state),
        (RESPONSES, response(&json!({"background": true})), "background"),
        (RESPONSES, response(&json!({"store": true})), "upstream-stores"),
        (CHAT, chat(&json!({"temperature": 0, "store": true})), "upstream-stores"),
        (CHAT, chat(&json!({"seed": 1, "web_search_options": {}})), "server-tool"),
        (CHAT, chat(&json!({"model": "gpt-4o-search-preview", "seed": 1})), "server-tool"),
        (MESSAGES, message(&json!({"mcp_servers": [{"url": "https://x"}]})), "server-tool"),
    ];
    let openai = [
        "web_search",
        "web_search_preview",
        "web_search_preview_2025_03_11",
        "file_search",
        "code_interpreter",
        "image_generation",
        "mcp",
        "computer_use_preview",
    ];
    for kind in openai {
        let caller = json!({"type": "function", "name": "f", "parameters": {}});
        let tools = json!({"tools": [caller, {"type": kind}]});
        cases.push((RESPONSES, response(&tools), "server-tool"));
    }
    for kind in ["web_search_20250305", "web_fetch_20250910", "code_execution_20250825"] {
        let tools = json!({"temperature": 0, "tools": [{"type": kind, "name": "t"}]});
        cases.push((MESSAGES, message(&tools), "server-tool"));
    }
    for kind in ["googleSearch", "google_search", "codeExecution", "urlContext", "googleMaps"] {
        let tools = json!({"generationConfig": {"temperature": 0}, "tools": [{kind: {}}]});
        cases.push((GENERATE, contents(&tools), "server-tool"));
        cases.push((STREAM_GENERATE, contents(&tools), "server-tool"));
    }
    cases
}

#[tokio::test]
async fn what_depends_on_more_than_the_request_is_never_reused_even_when_declared() {
    let upstream = Upstream::of_whole_answers().await;
    let setup = Setup::in_front_of(&upstream).argument("--reuse").argument("any");
    let server = Server::start(setup).await;
    for (path, body, reason) in never() {
        let ask = Ask::of(path, body);
        ask.check(&server.client(), &upstream, Past(reason)).await;
        for declaration in ["yes", "new"] {
            let declared = ask.clone().saying(declaration);
            declared.check(&server.client(), &upstream, Past(reason)).await;
        }
    }
}

#[tokio::test]
async fn tools_that_run_at_the_caller_do_not_hinder_reuse() {
    let function = json!({"name": "f", "description": "web_search", "parameters": {}});
    let zero = json!({"temperature": 0});
    let cases = [
        (CHAT, chat(&json!({"seed": 1, "tools": [{"type": "function", "function": function}]}))),
        (RESPONSES, response(&json!({"tools": [{"type": "function", "name": "web_search"}]}))),
        (RESPONSES, response(&json!({"tools": [{"type": "custom", "name": "mcp"}]}))),
        (RESPONSES, response(&json!({"prompt": {"id": "pmpt_1", "version": "2"}}))),
        (
            MESSAGES,
            message(&json!({"temperature": 0, "tools": [
                {"name": "web_search", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"},
            ]})),
        ),
        (
            GENERATE,
            contents(&json!({
                "generationConfig": zero, "tools": [{"functionDeclarations": [function]}],
            })),
        ),
    ];
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (path, body) in cases {
        Ask::of(path, body).check(&server.client(), &upstream, Reused).await;
    }
}

#[tokio::test]
async fn a_response_that_the_upstream_records_wants_a_declaration() {
    let upstream = Upstream::of_whole_answers().await;
    let config = "[[route]]\nmodel = \"o3\"\nreuse = \"any\"\n";
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    let client = server.client();
    let recorded = |model: &str| json!({"model": model, "input": "Hi", "temperature": 0});
    let ask = Ask::of(RESPONSES, recorded("gpt-4.1"));
    ask.check(&client, &upstream, Past("upstream-stores-by-default")).await;
    ask.saying("yes").check(&client, &upstream, Reused).await;
    Ask::of(RESPONSES, recorded("o3")).check(&client, &upstream, Reused).await;
    let null = with(recorded("gpt-4.1"), &json!({"store": null}));
    Ask::of(RESPONSES, null).check(&client, &upstream, Past("upstream-stores-by-default")).await;
}

#[tokio::test]
async fn a_bypass_tells_the_operator_what_would_change_it() {
    let upstream = Upstream::of_whole_answers().await;
    let setup =
        Setup::in_front_of(&upstream).config("[[route]]\nmodel = \"d\"\nreuse = \"declared\"");
    let server = Server::start(setup).await;
    let client = server.client();
    let cases = [
        (CHAT, chat(&json!({})), "not-deterministic", "Cache-Server-Reuse: yes"),
        (CHAT, chat(&json!({"model": "d"})), "not-declared", "reuse = \"any\""),
        (RESPONSES, response(&json!({"conversation": "c"})), "upstream-state", "whole context"),
        (RESPONSES, response(&json!({"background": true})), "background", "leave background out"),
        (RESPONSES, response(&json!({"store": true})), "upstream-stores", "store: false"),
        (
            RESPONSES,
            response(&json!({"store": null})),
            "upstream-stores-by-default",
            "store: false",
        ),
        (CHAT, chat(&json!({"web_search_options": {}})), "server-tool", "at the caller"),
    ];
    for (path, body, reason, advice) in cases {
        let answer = Ask::of(path, body).once(&client).await;
        let status = answer.cache_status();
        assert!(
            status.ends_with(&format!("fwd=bypass; fwd-status=200; detail={reason}")),
            "{status}"
        );
        let what = format!("a line that says {reason} and {advice}");
        eventually(&what, || async {
            let log = server.log();
            let events = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            let event = events.into_iter().find(|event: &Value| event["reason"] == reason)?;
            let given = event["advice"].as_str().unwrap_or_default();
            assert!(event["outcome"] == "bypass" && given.contains(advice), "{event}");
            Some(())
        })
        .await;
    }
}

#[tokio::test]
async fn no_store_neither_answers_from_the_cache_nor_stores() {
    let upstream = numbering().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let body = chat(&json!({"temperature": 0}));
    let private = || Answer::of(client.post(CHAT, &body).header("cache-control", "no-store"));
    let first = private().await;
    let said = "cache-server; fwd=request; fwd-status=200; detail=no-store";
    assert_eq!((number(&first).as_str(), first.cache_status()), ("1", said));
    assert_eq!(number(&client.ask(CHAT, &body).await), "2", "what said no-store was stored");
    assert_eq!(number(&private().await), "3", "what said no-store was given a stored answer");
    assert_eq!(number(&client.ask(CHAT, &body).await), "2", "no-store replaced the stored answer");
}

#[tokio::test]
async fn only_if_cached_is_answered_from_the_cache_or_refused() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let body = chat(&json!({"temperature": 0}));
    let only = |path: &str, body: &Value| {
        Answer::of(client.post(path, body).header("cache-control", "only-if-cached"))
    };
    assert_problem("absent", &only(CHAT, &body).await, 504, "only-if-cached");
    let sampled = chat(&json!({}));
    assert_problem("never stored", &only(CHAT, &sampled).await, 504, "only-if-cached");
    assert_problem("no model route", &only("/v1/files", &body).await, 504, "only-if-cached");
    let get = client.request(Method::GET, "/v1/models").header("cache-control", "only-if-cached");
    assert_problem("a GET", &Answer::of(get).await, 504, "only-if-cached");
    assert_eq!(upstream.calls(), 0);

    let stored = client.ask(CHAT, &body).await;
    let hit = only(CHAT, &body).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(hit.body, stored.body);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn what_is_no_model_call_is_passed_on_and_says_so() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..2 {
        let answer = server.client().ask("/v1/files", &json!({})).await;
        let said = "cache-server; fwd=method; fwd-status=200; detail=not-a-model-route";
        assert_eq!(answer.cache_status(), said);
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn each_kind_of_answer_has_its_own_lifetime() {
    let upstream = Upstream::of_whole_answers().await;
    let config = "[[route]]\nmodel = \"any*\"\nreuse = \"any\"\n";
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    let zero = json!({"temperature": 0});
    let any = json!({"model": "any-1"});
    let unsampled_days = [7 * DAY_S, HOUR_S, 7 * DAY_S, 7 * DAY_S, 7 * DAY_S, 7 * DAY_S];
    let unsampled = unsampled().into_iter().zip(unsampled_days);
    let mut cases: Vec<_> =
        unsampled.map(|((path, body), lifetime)| (Ask::of(path, body), lifetime)).collect();
    cases.extend([
        (Ask::of(CHAT, chat(&zero)), DAY_S),
        (Ask::of(MESSAGES, message(&zero)), DAY_S),
        (Ask::of(RESPONSES, response(&json!({}))), DAY_S),
        (Ask::of(GENERATE, contents(&json!({"generationConfig": zero}))), DAY_S),
        (Ask::of(CHAT, chat(&json!({}))).saying("yes"), DAY_S),
        (Ask::of(CHAT, chat(&any)), HOUR_S),
        (Ask::of(MESSAGES, message(&any)), HOUR_S),
        (Ask::of(EMBEDDINGS, json!({"model": "any-1", "input": "Hi"})), 7 * DAY_S),
        (Ask::of(MODERATIONS, json!({"model": "any-1", "input": "Hi"})), HOUR_S),
    ]);
    for (ask, lifetime) in cases {
        ask.once(&server.client()).await;
        let hit = ask.once(&server.client()).await;
        assert_lifetime(&format!("{} {}", ask.path, ask.body), &hit, lifetime);
    }
}

#[tokio::test]
async fn a_route_sets_how_long_its_answers_are_fresh() {
    let upstream = Upstream::of_whole_answers().await;
    let config = r#"
        [[route]]
        endpoint = "openai.embeddings"
        fresh_for = "2h"
        [[route]]
        model = "text-embedding-3-large"
        fresh_for = "30d"
        [[route]]
        model = "text-embedding-3-small"
        reuse = "any"
    "#;
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    for (model, lifetime) in [
        ("text-embedding-ada-002", 2 * HOUR_S),
        ("text-embedding-3-large", 30 * DAY_S),
        // A route that says nothing of it leaves it to the next one.
        ("text-embedding-3-small", 2 * HOUR_S),
    ] {
        let ask = Ask::of(EMBEDDINGS, json!({"model": model, "input": "Hi"}));
        ask.once(&server.client()).await;
        assert_lifetime(model, &ask.once(&server.client()).await, lifetime);
    }
}

/// Each case's field values that an upstream sends, and what an obedient route makes of them:
/// a lifetime, or nothing where it may not be stored.
const UPSTREAM_SAYS: &[(&str, &str, Option<i64>)] = &[
    ("max-age=600", "0", Some(600)),
    ("public, max-age=600, s-maxage=7200", "0", Some(7200)),
    ("max-age=600", "200", Some(400)),
    ("must-understand", "0", Some(7 * DAY_S)),
    ("no-store", "0", None),
    ("no-cache", "0", None),
    ("private, max-age=600", "0", None),
];

fn dictated(received: &Received) -> Reply {
    let said = |headers: &HeaderMap, name: &str| headers[name].to_str().expect("text").to_owned();
    Reply::bytes(recorded("openai-embeddings/whole.json"))
        .with("content-type", "application/json")
        .with("cache-control", &said(&received.headers, "x-test-cache-control"))
        .with("age", &said(&received.headers, "x-test-age"))
}

#[tokio::test]
async fn the_upstream_decides_on_lifetimes_only_where_a_route_obeys_it() {
    let upstream = Upstream::start(dictated).await;
    let config = "[[route]]\nmodel = \"obeyed\"\nobey_upstream = true\n";
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    let client = server.client();
    for (says, age, obeyed) in UPSTREAM_SAYS {
        for model in ["obeyed", "ours"] {
            let name = format!("{model}: {says}, age {age}");
            let body = json!({"model": model, "input": format!("{says} {age}")});
            let request = client.post(EMBEDDINGS, &body).header("x-test-cache-control", *says);
            let request = request.header("x-test-age", *age);
            let again = request.try_clone().expect("the body is in memory");
            let (first, second) = (Answer::of(request).await, Answer::of(again).await);
            let age_s: i64 = age.parse().expect("a number");
            let expected = if model == "obeyed" { *obeyed } else { Some(7 * DAY_S - age_s) };
            match expected {
                Some(lifetime) => assert_lifetime(&name, &second, lifetime),
                None => {
                    assert!(!second.is_hit(), "{name}: {}", second.cache_status());
                    let status = first.cache_status();
                    assert!(status.contains("detail=upstream-forbids"), "{name}: {status}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_hit_tells_its_age_from_when_it_was_generated() {
    let upstream = Upstream::start(dictated).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let ask = || {
        let body = json!({"model": "m", "input": "Hi"});
        let request = server.client().post(EMBEDDINGS, &body);
        Answer::of(request.header("x-test-cache-control", "no-cache").header("x-test-age", "500"))
    };
    ask().await;
    let age: i64 = ask().await.field("age").parse().expect("seconds");
    assert!((500..560).contains(&age), "{age}");
}

#[tokio::test]
async fn a_body_without_a_meaning_is_passed_on_unchanged_with_the_reason() {
    let deep = format!("{{\"input\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    let cases: Vec<(&[u8], &str)> = vec![
        (b"{\"model\": \"m\", \"input\": ", "malformed-json"),
        (b"{\"model\": \"m\", 'input': 1}", "malformed-json"),
        (b"{\"input\": 01}", "malformed-json"),
        (b"{\"input\": NaN}", "malformed-json"),
        (b"input=Hi", "malformed-json"),
        (b"{\"input\": \"a\", \"input\": \"b\"}", "duplicate-member"),
        (b"{\"input\": \"a\", \"\\u0069nput\": \"b\"}", "duplicate-member"),
        (b"{\"input\": [{\"a\": 1, \"a\": 1}]}", "duplicate-member"),
        (deep.as_bytes(), "too-deep"),
        (b"", "empty-body"),
        (b" \r\n", "empty-body"),
        (b"[\"Hi\"]", "not-an-object"),
        (b"\"Hi\"", "not-an-object"),
        (b"{\"input\": \"Hi\"} {}", "trailing-bytes"),
        (b"\xef\xbb\xbf{\"input\": \"Hi\"}", "byte-order-mark"),
        (b"{\"input\": \"\xff\"}", "invalid-utf8"),
        (b"{\"input\": \"\\ud800\"}", "lone-surrogate"),
        (b"{\"input\": 1e99999}", "number-out-of-range"),
    ];
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (body, reason) in cases {
        let name = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        for turn in ["first", "second"] {
            let request = server.client().post(EMBEDDINGS, &json!({})).body(body.to_vec());
            let answer = Answer::of(request).await;
            assert_eq!(answer.status, 200, "{name}, {turn}");
            let said = format!("cache-server; fwd=bypass; fwd-status=200; detail={reason}");
            assert_eq!(answer.cache_status(), said, "{name}, {turn}");
            let received = upstream.received().pop().expect("it was asked");
            assert_eq!(received.body, body, "{name}, {turn}: the body was changed");
        }
    }
}

#[tokio::test]
async fn a_body_that_is_not_plain_json_bytes_is_passed_on_unchanged_with_the_reason() {
    let upstream = Upstream::of_whole_answers().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let body = json!({"model": "m", "input": "Hi"});
    for (field, value, expected) in [
        ("content-encoding", "gzip", "fwd=bypass; fwd-status=200; detail=encoded-request"),
        ("if-none-match", "\"tag\"", "fwd=request; fwd-status=200; detail=conditional"),
        ("range", "bytes=0-9", "fwd=request; fwd-status=200; detail=conditional"),
    ] {
        let request = server.client().post(EMBEDDINGS, &body).header(field, value);
        let answer = Answer::of(request).await;
        assert_eq!(answer.cache_status(), format!("cache-server; {expected}"), "{field}");
        let received = upstream.received().pop().expect("it was asked");
        assert_eq!(received.body, body.to_string(), "{field}");
        assert_eq!(received.headers[field], value, "{field}");
    }
}
