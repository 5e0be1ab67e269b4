//! Every provider's calls are answered from the cache the second time, as their SDKs make them,
//! and nothing that a provider's SDK relies on is changed on the way.

use std::collections::BTreeSet;

use black_box_tests::calls::{SECRET, header_block};
use black_box_tests::{Answer, CALLS, Call, Client, Fixture, Received, Server, Setup, Upstream};
use http::{HeaderMap, HeaderName};

/// What of the providers' fields describes the answer and not the exchange.
const DESCRIBES_THE_ANSWER: &[&str] = &[
    "access-control-expose-headers",
    "cache-control",
    "content-type",
    "date",
    "openai-version",
    "server",
    "vary",
    "x-content-type-options",
    "x-frame-options",
    "x-openai-proxy-wasm",
    "x-robots-tag",
    "x-xss-protection",
];

/// A call made twice, and what the upstream heard of it.
struct Twice {
    call: &'static Call,
    fixture: Fixture,
    /// The fields that the caller sent.
    sent: HeaderMap,
    first: Answer,
    second: Answer,
    received: Vec<Received>,
}

impl Twice {
    async fn ask(
        client: &Client,
        upstream: &Upstream,
        base: &str,
        (call, fixture): (&'static Call, Fixture),
    ) -> Twice {
        let before = upstream.calls();
        // SDKs take gzip; an answer that only some callers can read must not be stored.
        let request =
            call.request(client, base, &fixture).header("accept-encoding", "gzip, deflate");
        let again = request.try_clone().expect("the body is in memory");
        let sent = request.try_clone().expect("the body is in memory").build().expect("a request");
        let first = Answer::of(request).await;
        let second = Answer::of(again).await;
        let received = upstream.received().split_off(before);
        Twice { call, fixture, sent: sent.headers().clone(), first, second, received }
    }

    /// Names the call in a failure.
    fn name(&self) -> String {
        format!("{} → {}", self.call.path, self.fixture.path())
    }

    /// The second is a hit, and both are what the provider said.
    fn assert_answered_once(&self) {
        let name = self.name();
        let status = self.first.cache_status();
        let fetched = status.starts_with("cache-server; fwd=miss; fwd-status=200");
        assert!(fetched, "{name}: {status}");
        let status = self.second.cache_status();
        assert!(self.second.is_hit(), "{name}: {status}");
        assert_eq!(self.received.len(), 1, "{name}: calls of the upstream");
        for answer in [&self.first, &self.second] {
            assert_eq!(answer.status, 200, "{name}");
            assert_eq!(answer.body, self.fixture.body(), "{name}");
        }
    }
}

/// Makes every call twice, of one server in front of one upstream.
async fn every_call_twice() -> Vec<Twice> {
    let upstream = Upstream::of_fixtures().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let mut all = Vec::new();
    for call in CALLS {
        all.push(Twice::ask(&client, &upstream, "", (call, call.whole_answer())).await);
    }
    all
}

#[tokio::test]
async fn the_second_ask_on_every_model_route_is_answered_from_the_cache() {
    let folders: BTreeSet<&str> = CALLS.iter().map(|call| call.folder).collect();
    let with_answers: BTreeSet<String> =
        Fixture::all().into_iter().map(|fixture| fixture.folder).collect();
    assert_eq!(folders.len(), 12);
    assert!(with_answers.iter().eq(folders), "a route has no call: {with_answers:?}");
    for twice in every_call_twice().await {
        twice.assert_answered_once();
    }
}

#[tokio::test]
async fn a_fill_asks_for_identity_and_forwards_all_else_as_it_came() {
    for twice in every_call_twice().await {
        let (name, received) = (twice.name(), &twice.received[0]);
        assert_eq!(received.method, "POST", "{name}");
        assert_eq!(received.uri, twice.call.path, "{name}");
        assert_eq!(received.body, twice.call.body, "{name}: the body");
        assert_eq!(values(&received.headers, "accept-encoding"), ["identity"], "{name}");
        for field in twice.sent.keys().filter(|field| *field != "accept-encoding") {
            let (field, was) = (field.as_str(), &received.headers);
            assert_eq!(values(was, field), values(&twice.sent, field), "{name}: {field}");
        }
        let ours = ["cdn-loop", "content-length", "host", "via"];
        let is_known = |field: &&str| twice.sent.contains_key(*field) || ours.contains(field);
        let added: Vec<&str> =
            received.headers.keys().map(HeaderName::as_str).filter(|f| !is_known(f)).collect();
        assert!(added.is_empty(), "{name}: added {added:?}");
    }
}

#[tokio::test]
async fn every_style_of_credential_reaches_the_upstream_and_stands_in_its_place() {
    let mut places = BTreeSet::new();
    for twice in every_call_twice().await {
        let received = &twice.received[0];
        for field in ["authorization", "x-api-key", "api-key", "x-goog-api-key"] {
            for value in values(&received.headers, field) {
                let secret = value.strip_prefix("Bearer ").unwrap_or(value);
                assert_eq!(secret, SECRET, "{}: {field}", twice.name());
                places.insert(field);
            }
        }
        if received.uri.query() == Some(&format!("key={SECRET}")) {
            places.insert("?key=");
        }
    }
    let expected = ["?key=", "api-key", "authorization", "x-api-key", "x-goog-api-key"];
    assert!(places.iter().eq(&expected), "only seen: {places:?}");
}

#[tokio::test]
async fn cookies_ids_and_limits_reach_the_leader_and_no_hit() {
    for twice in every_call_twice().await {
        let name = twice.name();
        let block = header_block(twice.call.provider, twice.call.streams);
        let mut noise = 0;
        for (field, value) in fields_of(&block) {
            if DESCRIBES_THE_ANSWER.contains(&field.as_str()) || field == "connection" {
                continue;
            }
            noise += 1;
            let seen = values(&twice.first.headers, &field);
            assert!(seen.contains(&value), "{name}: the leader misses {field}: {value}");
            let seen = values(&twice.second.headers, &field);
            assert!(!seen.contains(&value), "{name}: the hit shows {field}: {value}");
            // `Via` is the one field of these that a hit has too: it is our own.
            assert!(seen.is_empty() || field == "via", "{name}: the hit has {field}");
        }
        assert!(noise >= 2, "{name}: the block has only {noise} fields of noise");
    }
}

#[tokio::test]
async fn fields_that_describe_the_answer_are_on_the_hit_as_they_were() {
    for twice in every_call_twice().await {
        let name = twice.name();
        let block = header_block(twice.call.provider, twice.call.streams);
        for field in DESCRIBES_THE_ANSWER {
            let expected: Vec<&str> =
                fields_of(&block).filter(|(known, _)| known == field).map(|(_, v)| v).collect();
            assert_eq!(values(&twice.first.headers, field), expected, "{name}: {field}, first");
            assert_eq!(values(&twice.second.headers, field), expected, "{name}: {field}, hit");
        }
    }
}

#[tokio::test]
async fn a_hit_has_no_field_but_those_that_describe_it_and_ours() {
    let ours = ["age", "cache-status", "content-length", "transfer-encoding", "via"];
    for twice in every_call_twice().await {
        for field in twice.second.headers.keys().map(HeaderName::as_str) {
            let known = DESCRIBES_THE_ANSWER.contains(&field) || ours.contains(&field);
            assert!(known, "{}: the hit has {field}", twice.name());
        }
    }
}

#[tokio::test]
async fn model_routes_are_known_under_any_base_path() {
    let upstream = Upstream::of_fixtures().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for base in ["/gateway", "/a/b/c", "/api/v3/teams/blue"] {
        for call in CALLS {
            let asked = (call, call.whole_answer());
            let twice = Twice::ask(&client, &upstream, base, asked).await;
            assert_eq!(twice.received[0].uri.to_string(), format!("{base}{}", call.path));
            twice.assert_answered_once();
        }
    }
}

#[tokio::test]
async fn a_mount_hides_its_name_and_puts_the_upstreams_own_base_in_front() {
    let upstream = Upstream::of_fixtures().await;
    let mounts = [("plain", ""), ("deep", "/gateway/team-a"), ("slash", "/edge/")];
    let setup = mounts.iter().fold(Setup::default(), |setup, (name, base)| {
        setup.argument("--upstream").argument(&format!("{name}={}{base}", upstream.url()))
    });
    let server = Server::start(setup).await;
    let client = server.client();
    for (name, base) in mounts {
        for call in CALLS {
            let asked = (call, call.whole_answer());
            let twice = Twice::ask(&client, &upstream, &format!("/{name}"), asked).await;
            twice.assert_answered_once();
            let expected = format!("{}{}", base.trim_end_matches('/'), call.path);
            assert_eq!(twice.received[0].uri.to_string(), expected, "mounted at /{name}");
        }
    }
}

#[tokio::test]
async fn azure_streams_that_open_with_a_word_on_the_prompt_are_answered_from_the_cache() {
    let upstream = Upstream::of_fixtures().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let fixture = Fixture::at("openai-chat-completions/azure-whole.sse");
    let call =
        CALLS.iter().find(|call| call.path.contains("/deployments/")).expect("an Azure call");
    let streamed = Call {
        streams: true,
        body: r#"{"messages":[{"role":"user","content":"Hi"}],"temperature":0,"stream":true}"#,
        ..*call
    };
    let ask = || Answer::of(streamed.request(&server.client(), "", &fixture));
    let (first, second) = (ask().await, ask().await);
    assert!(second.is_hit(), "{}", second.cache_status());
    assert_eq!(second.field("content-type"), "text/event-stream");
    assert_eq!((&first.body, &second.body), (&fixture.body(), &fixture.body()));
    assert_eq!(upstream.calls(), 1);
}

/// All values of a field, in their order.
fn values<'h>(headers: &'h HeaderMap, field: &str) -> Vec<&'h str> {
    headers.get_all(field).iter().map(|value| value.to_str().expect("text")).collect()
}

/// The fields of a block: lower-case name and value.
fn fields_of(block: &str) -> impl Iterator<Item = (String, &str)> {
    let lines = block.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim()))
}
