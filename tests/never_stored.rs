//! What is not a whole, good answer reaches the caller as it is, and is never given again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::calls::FIXTURE_FIELD;
use black_box_tests::sample::{CHAT, chat, recorded};
use black_box_tests::upstream::cut;
use black_box_tests::{
    Answer, Call, Client, Fixture, PATIENCE, Raw, Received, Reply, Server, Setup, Upstream,
};
use bytes::Bytes;
use reqwest::RequestBuilder;
use serde_json::json;
use tokio::net::TcpListener;

/// What is to become of every case: `storable`, or the word for why it is not stored where the
/// request names no limit.
fn verdict(case: &str) -> Option<&'static str> {
    const TABLE: &str = include_str!("fixtures/verdicts.txt");
    let rows = TABLE.lines().filter_map(|line| line.split_once(' '));
    rows.into_iter().find(|(name, _)| *name == case).map(|(_, verdict)| verdict)
}

const WHOLE: &str = "openai-chat-completions/whole.json";
const WHOLE_STREAM: &str = "openai-chat-completions/whole.sse";

/// Where a request names its limit of tokens.
const LIMITS: &[(&str, &str)] = &[
    ("openai-chat-completions", "/max_tokens"),
    ("openai-chat-completions", "/max_completion_tokens"),
    ("openai-completions", "/max_tokens"),
    ("openai-responses", "/max_output_tokens"),
    ("anthropic-messages", "/max_tokens"),
    ("gemini-generate-content", "/generationConfig/maxOutputTokens"),
    ("gemini-stream-generate-content", "/generationConfig/maxOutputTokens"),
];

/// An answer asked for twice.
struct Twice {
    fixture: Fixture,
    first: Answer,
    second: Answer,
    calls: usize,
}

/// A server in front of an upstream that knows every fixture.
struct Bench {
    upstream: Upstream,
    client: Client,
    _server: Server,
}

impl Bench {
    async fn start() -> Bench {
        let upstream = Upstream::of_fixtures().await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        Bench { upstream, client: server.client(), _server: server }
    }

    async fn ask_twice(&self, fixture: Fixture, limit: Option<&str>) -> Twice {
        let before = self.upstream.calls();
        let request = asking(&self.client, &fixture, limit);
        let again = request.try_clone().expect("the body is in memory");
        let first = Answer::of(request).await;
        let second = Answer::of(again).await;
        Twice { fixture, first, second, calls: self.upstream.calls() - before }
    }

    /// Asks twice for every fixture that is wanted, with no limit of tokens in the request.
    async fn ask_twice_for(&self, wanted: impl Fn(&Fixture) -> bool) -> Vec<Twice> {
        let mut all = Vec::new();
        for fixture in Fixture::all().into_iter().filter(|fixture| wanted(fixture)) {
            all.push(self.ask_twice(fixture, None).await);
        }
        all
    }
}

impl Twice {
    fn assert_unchanged(&self) {
        let path = self.fixture.path();
        let media_type =
            if self.fixture.is_stream() { "text/event-stream" } else { "application/json" };
        for answer in [&self.first, &self.second] {
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.field("content-type").starts_with(media_type), "{path}");
            assert_eq!(answer.body, self.fixture.body(), "{path}");
        }
    }

    fn assert_not_stored(&self) {
        let (path, status) = (self.fixture.path(), self.second.cache_status());
        assert_eq!(self.calls, 2, "{path}: calls of the upstream; then {status}");
        assert!(!self.second.is_hit(), "{path}: {status}");
        assert!(!says_stored(&self.first), "{path}: {}", self.first.cache_status());
    }

    fn assert_stored(&self) {
        let (path, status) = (self.fixture.path(), self.second.cache_status());
        assert!(self.second.is_hit(), "{path}: first {}, then {status}", self.first.cache_status());
        assert_eq!(self.calls, 1, "{path}: calls of the upstream");
        // A stream's header is out before its end is known, and then says nothing.
        let expected = !self.fixture.is_stream();
        assert_eq!(says_stored(&self.first), expected, "{path}: {}", self.first.cache_status());
    }
}

fn says_stored(answer: &Answer) -> bool {
    answer.cache_status().split("; ").any(|member| member == "stored")
}

/// The call that this fixture answers, with a key of its own, and with this limit of tokens.
fn asking(client: &Client, fixture: &Fixture, limit: Option<&str>) -> RequestBuilder {
    let call = Call::answered_by(fixture);
    let mut body = call.json();
    let members = body.as_object_mut().expect("an object");
    members.remove("max_tokens");
    members.insert("stream".into(), fixture.is_stream().into());
    members.insert("test_case".into(), fixture.path().into());
    if let Some((parent, name)) = limit.and_then(|limit| limit.rsplit_once('/')) {
        body.pointer_mut(parent).expect("the parent")[name] = json!(64);
    }
    call.request(client, "", fixture).body(body.to_string())
}

fn reason(fixture: &Fixture) -> Option<&'static str> {
    verdict(&fixture.case).filter(|verdict| *verdict != "storable")
}

#[test]
fn every_fixture_is_said_to_be_stored_or_not() {
    for fixture in Fixture::all() {
        let good = verdict(&fixture.case) == Some("storable");
        assert_ne!(good, reason(&fixture).is_some(), "{}", fixture.path());
    }
}

#[tokio::test]
async fn a_bad_json_answer_is_passed_on_with_the_reason_and_not_stored() {
    let bench = Bench::start().await;
    let bad = |fixture: &Fixture| !fixture.is_stream() && reason(fixture).is_some();
    let all = bench.ask_twice_for(bad).await;
    assert!(all.len() >= 50, "only {} bad JSON answers", all.len());
    for twice in all {
        twice.assert_unchanged();
        twice.assert_not_stored();
        let expected = format!("detail={}", reason(&twice.fixture).expect("a bad one"));
        for answer in [&twice.first, &twice.second] {
            let status = answer.cache_status();
            let said = status.split("; ").any(|member| member == expected);
            assert!(said, "{}: no {expected} in {status}", twice.fixture.path());
        }
    }
}

#[tokio::test]
async fn a_bad_event_stream_is_passed_on_unchanged_and_not_stored() {
    let bench = Bench::start().await;
    let bad = |fixture: &Fixture| fixture.is_stream() && reason(fixture).is_some();
    let all = bench.ask_twice_for(bad).await;
    assert!(all.len() >= 35, "only {} bad streams", all.len());
    for twice in all {
        twice.assert_unchanged();
        twice.assert_not_stored();
    }
}

#[tokio::test]
async fn a_good_answer_in_any_form_is_stored() {
    let bench = Bench::start().await;
    let all = bench.ask_twice_for(|fixture| reason(fixture).is_none()).await;
    assert!(all.len() >= 30, "only {} good answers", all.len());
    for twice in all {
        twice.assert_unchanged();
        twice.assert_stored();
    }
}

#[tokio::test]
async fn an_answer_cut_at_a_limit_is_stored_only_if_the_request_named_the_limit() {
    let bench = Bench::start().await;
    let cut: Vec<Fixture> =
        Fixture::all().into_iter().filter(|fixture| fixture.case == "length").collect();
    assert!(cut.len() >= 9, "only {} answers cut at a limit", cut.len());
    for fixture in cut {
        let limits: Vec<_> = LIMITS.iter().filter(|(route, _)| *route == fixture.folder).collect();
        assert!(!limits.is_empty(), "{}: no limit known", fixture.path());
        bench.ask_twice(fixture.clone(), None).await.assert_not_stored();
        for (_, limit) in limits {
            let twice = bench.ask_twice(fixture.clone(), Some(limit)).await;
            twice.assert_unchanged();
            twice.assert_stored();
        }
    }
}

#[tokio::test]
async fn a_limit_in_the_request_does_not_excuse_a_full_context_window() {
    let bench = Bench::start().await;
    for form in ["json", "sse"] {
        let fixture = Fixture::at(&format!("anthropic-messages/context-window.{form}"));
        bench.ask_twice(fixture, Some("/max_tokens")).await.assert_not_stored();
    }
}

/// Asks the same twice of a server in front of an upstream that gives these replies.
async fn ask_twice_of(
    reply: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> (Answer, Answer, usize) {
    let upstream = Upstream::start(reply).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let first = client.ask(CHAT, &chat(false)).await;
    let second = client.ask(CHAT, &chat(false)).await;
    (first, second, upstream.calls())
}

#[tokio::test]
async fn an_answer_with_another_status_than_200_is_passed_on_and_not_stored() {
    // The body is a good answer, so that nothing but the status can be the reason.
    // 401 and 403 also suspend the credential: see tenants.rs. 429 and 503 that say when to come
    // back begin a cool-down: see cool_downs.rs.
    let statuses = [201, 202, 203, 206, 302, 400, 404, 408, 413, 429, 500, 502, 503, 529];
    let status_of = |received: &Received| {
        let status = received.headers[FIXTURE_FIELD].to_str().expect("text");
        status.parse::<u16>().expect("a status")
    };
    let reply = move |received: &Received| {
        let reply = Reply::bytes(recorded(WHOLE)).with("content-type", "application/json");
        let reply = reply.status(status_of(received)).with("x-should-retry", "true");
        if matches!(status_of(received), 429 | 503) {
            reply
        } else {
            reply.with("retry-after", "17")
        }
    };
    let upstream = Upstream::start(reply).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for status in statuses {
        let mut body = chat(false);
        body["test_case"] = status.into();
        let before = upstream.calls();
        for turn in ["first", "second"] {
            let request = server.client().post(CHAT, &body);
            let answer = Answer::of(request.header(FIXTURE_FIELD, status.to_string())).await;
            let said = answer.cache_status();
            assert_eq!(answer.status, status, "{turn}: {said}");
            assert_eq!(answer.body, recorded(WHOLE), "{status}, {turn}");
            if !matches!(status, 429 | 503) {
                assert_eq!(answer.field("retry-after"), "17", "{status}, {turn}");
            }
            assert_eq!(answer.field("x-should-retry"), "true", "{status}, {turn}");
            let expected = format!("cache-server; fwd=miss; fwd-status={status}");
            assert!(said.starts_with(&expected), "{turn}: {said}");
            assert!(!says_stored(&answer), "{turn}: {said}");
        }
        assert_eq!(upstream.calls() - before, 2, "{status}: calls of the upstream");
    }
}

#[tokio::test]
async fn an_answer_compressed_against_our_wish_is_passed_on_and_not_stored() {
    for coding in ["gzip", "br", "identity, gzip"] {
        // The bytes are plain, so that nothing but what is said of them can be the reason.
        let reply = move |_: &Received| {
            let reply = Reply::bytes(recorded(WHOLE)).with("content-type", "application/json");
            reply.with("content-encoding", coding)
        };
        let (first, second, calls) = ask_twice_of(reply).await;
        for answer in [first, second] {
            assert_eq!(answer.field("content-encoding"), coding);
            assert_eq!(answer.body, recorded(WHOLE), "{coding}");
            let status = answer.cache_status();
            assert!(status.contains("detail=encoded-answer"), "{coding}: {status}");
        }
        assert_eq!(calls, 2, "{coding}");
    }
}

#[tokio::test]
async fn whoever_asks_after_the_end_of_an_answer_that_is_not_kept_does_not_get_it() {
    const ASKS: usize = 300;
    let upstream = Upstream::start(|_| Reply::bytes("{}").status(500)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for ask in 1..=ASKS {
        // One after the other: each begins when the one before has been read to its end.
        let answer = client.ask(CHAT, &chat(false)).await;
        assert_eq!(answer.status, 500);
        assert_eq!(upstream.calls(), ask, "ask {ask} got {}", answer.cache_status());
    }
}

/// Asks, and says whether the caller learns that the answer is not whole.
async fn ends_in_an_error(request: RequestBuilder) -> bool {
    let asked = async {
        let Ok(response) = request.send().await else { return true };
        // The head of an answer that is no stream may still be with us when it breaks off.
        let refused = response.status() == 502
            && response.headers()["content-type"] == "application/problem+json";
        refused || response.bytes().await.is_err()
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("an end of some sort")
}

/// Asks twice of an upstream that breaks off; both callers must hear of it.
async fn assert_broken_off_twice(
    name: &str,
    reply: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) {
    let upstream = Upstream::start(reply).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for turn in ["first", "second"] {
        let request = server.client().post(CHAT, &chat(false));
        assert!(ends_in_an_error(request).await, "{name}: the {turn} came to a clean end");
    }
    assert_eq!(upstream.calls(), 2, "{name}: calls of the upstream");
}

/// What an upstream says before its connection is cut.
fn cut_after(content_type: &'static str, body: Bytes) -> impl Fn(&Received) -> Reply {
    move |_| {
        let (pieces, reply) = Reply::live(content_type);
        pieces.send(Ok(body.clone())).expect("the reply takes it");
        pieces.send(cut()).expect("the reply takes it");
        reply
    }
}

#[tokio::test]
async fn a_stream_cut_before_its_end_is_an_error_to_the_caller_and_not_stored() {
    let stream = recorded(WHOLE_STREAM);
    let end = stream.len() - b"data: [DONE]\n\n".len();
    let cuts = [
        ("in an event", stream.slice(..stream.len() / 2)),
        ("before the last event", stream.slice(..end)),
        ("behind the last event", stream.clone()),
    ];
    for (name, body) in cuts {
        assert_broken_off_twice(name, cut_after("text/event-stream", body)).await;
    }
}

#[tokio::test]
async fn a_json_answer_cut_before_its_end_is_an_error_to_the_caller_and_not_stored() {
    let answer = recorded(WHOLE);
    let cuts = [
        ("in the answer", answer.slice(..answer.len() / 2)),
        ("behind the answer, before the last chunk", answer.clone()),
    ];
    for (name, body) in cuts {
        assert_broken_off_twice(name, cut_after("application/json", body)).await;
    }
}

#[tokio::test]
async fn an_answer_shorter_than_its_declared_length_is_an_error_and_not_stored() {
    for (name, body, media_type) in [
        ("an answer", recorded(WHOLE), "application/json"),
        ("a stream", recorded(WHOLE_STREAM), "text/event-stream"),
    ] {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            body.len() + 10
        );
        let upstream = Wire::start(head, body).await;
        let server = upstream.server().await;
        for turn in ["first", "second"] {
            let request = server.client().post(CHAT, &chat(false));
            assert!(ends_in_an_error(request).await, "{name}: the {turn} came to a clean end");
        }
        assert_eq!(upstream.calls(), 2, "{name}: calls of the upstream");
    }
}

#[tokio::test]
async fn an_answer_that_ends_where_the_connection_closes_is_not_stored() {
    let cases = [
        ("HTTP/1.0 200 OK", recorded(WHOLE), "application/json"),
        ("HTTP/1.1 200 OK\r\nConnection: close", recorded(WHOLE), "application/json"),
        ("HTTP/1.0 200 OK", recorded(WHOLE_STREAM), "text/event-stream"),
    ];
    for (start, body, media_type) in cases {
        let head = format!("{start}\r\nContent-Type: {media_type}\r\n\r\n");
        let upstream = Wire::start(head, body.clone()).await;
        let server = upstream.server().await;
        for turn in ["first", "second"] {
            let answer = server.client().ask(CHAT, &chat(false)).await;
            let (case, status) = (format!("{start}, {media_type}, {turn}"), answer.cache_status());
            assert_eq!((answer.status.as_u16(), &answer.body), (200, &body), "{case}");
            assert!(!answer.is_hit() && !says_stored(&answer), "{case}: {status}");
            if media_type == "application/json" {
                assert!(status.contains("detail=no-verifiable-end"), "{case}: {status}");
            }
        }
        assert_eq!(upstream.calls(), 2, "{start}, {media_type}: calls of the upstream");
    }
}

/// An upstream that writes the same bytes to every connection and closes it: what no HTTP
/// library would send.
struct Wire {
    address: String,
    calls: Arc<AtomicUsize>,
}

impl Wire {
    async fn start(head: String, body: Bytes) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let asked = chat(false).to_string();
        // It ends with the test's runtime.
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut caller = Raw::of(stream);
                caller.head().await;
                // Whole: a close with bytes unread would be a reset.
                caller.exactly(asked.len()).await;
                counted.fetch_add(1, Ordering::SeqCst);
                caller.send([head.as_bytes(), &body].concat()).await;
            }
        });
        Wire { address, calls }
    }

    async fn server(&self) -> Server {
        let url = format!("http://{}", self.address);
        Server::start(Setup::default().argument("--upstream").argument(&url)).await
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}
