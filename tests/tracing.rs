//! Traces: what the upstream is told of them, what a collector gets, and what it never gets.

use std::collections::BTreeMap;

use black_box_tests::plain::field;
use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, events, question, recorded};
use black_box_tests::upstream::{Gate, cut};
use black_box_tests::{
    Answer, Collector, Exported, Reading, Reply, Server, Setup, Upstream, eventually,
};
use http::Method;
use reqwest::RequestBuilder;

const PARENT: &str = "b7ad6b7169203331";

/// A trace of the caller's; each number is another.
fn trace(number: u32) -> String {
    format!("0af7651916cd43dd8448eb21{number:08x}")
}

fn traceparent(number: u32) -> String {
    format!("00-{}-{PARENT}-01", trace(number))
}

/// The request as a part of a caller's trace.
fn part_of(number: u32, request: RequestBuilder) -> RequestBuilder {
    request
        .header("traceparent", traceparent(number))
        .header("tracestate", "vendor=opaque,other=1")
        .header("baggage", "agent.id=a1;p=2,tool.id=t1")
}

fn names(spans: &BTreeMap<String, Exported>) -> Vec<&str> {
    spans.keys().map(String::as_str).collect()
}

async fn logged(server: &Server, text: &str) {
    eventually(text, || async { server.log().contains(text).then_some(()) }).await;
}

/// A collector, an upstream that answers embeddings, and a server between them.
async fn traced() -> (Collector, Upstream, Server) {
    let (collector, upstream) = (Collector::start().await, Upstream::saying(embedding(0.25)).await);
    let server = Server::start(collector.behind(&upstream)).await;
    (collector, upstream, server)
}

#[tokio::test]
async fn without_a_collector_trace_headers_pass_as_they_came_and_are_in_no_key() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let sent = |request: RequestBuilder, traceparent: &str| {
        request
            .header("traceparent", traceparent)
            .header("tracestate", "vendor=opaque, other=1")
            .header("baggage", "agent.id=a1;p=2,tool.id=t1")
    };
    for (number, traceparent) in [traceparent(1).as_str(), "00-malformed"].into_iter().enumerate() {
        let fill = client.post(EMBEDDINGS, &question(&format!("passed {number}")));
        let bypass = client.request(Method::GET, "/v1/models");
        for (case, request) in [("fill", fill), ("bypass", bypass)] {
            let answer = Answer::of(sent(request, traceparent)).await;
            assert_eq!(answer.status, 200, "{case}");
            let received = upstream.received().pop().expect("it was asked");
            assert_eq!(field(&received, "traceparent"), traceparent, "{case}");
            assert_eq!(field(&received, "tracestate"), "vendor=opaque, other=1", "{case}");
            assert_eq!(field(&received, "baggage"), "agent.id=a1;p=2,tool.id=t1", "{case}");
        }
    }
    let again = sent(client.post(EMBEDDINGS, &question("passed 0")), &traceparent(2));
    assert!(Answer::of(again).await.is_hit());
}

#[tokio::test]
async fn a_miss_is_told_step_by_step_and_the_upstream_is_told_of_its_fetch() {
    let (collector, upstream, server) = traced().await;
    let request = part_of(1, server.client().post(EMBEDDINGS, &question("told")));
    let answer = Answer::of(request).await;
    assert!(answer.cache_status().contains("; stored"), "{}", answer.cache_status());

    let spans = collector.request(&trace(1)).await;
    assert_eq!(names(&spans), ["coalesce", "fetch", "key", "lookup", "request", "store"]);
    let request = &spans["request"];
    assert_eq!(request.parent, PARENT);
    for (name, span) in &spans {
        let is_child = span.parent == request.id;
        assert!(is_child || name == "request", "{name} is a child of {}", span.parent);
        assert!(!span.is_error && span.links.is_empty(), "{span:?}");
    }
    for (span, attribute, value) in [
        ("request", "http.request.method", "POST"),
        ("request", "http.response.status_code", "200"),
        ("request", "url.path", EMBEDDINGS),
        ("request", "url.scheme", "http"),
        ("request", "gen_ai.request.model", "text-embedding-3-small"),
        ("request", "gen_ai.operation.name", "embeddings"),
        ("request", "gen_ai.provider.name", "openai"),
        ("request", "cache.route", "openai.embeddings"),
        ("request", "cache.outcome", "miss"),
        ("request", "cache.reason", "stored"),
        ("request", "cache.tier", ""),
        ("lookup", "cache.tier", ""),
        ("coalesce", "cache.role", "leader"),
        ("store", "cache.reason", ""),
        ("fetch", "http.request.method", "POST"),
        ("fetch", "http.response.status_code", "200"),
        ("fetch", "url.path", EMBEDDINGS),
        ("fetch", "server.address", "127.0.0.1"),
        ("fetch", "cache.upstream", "upstream"),
        ("fetch", "gen_ai.request.model", "text-embedding-3-small"),
    ] {
        assert_eq!(spans[span].says(attribute), value, "{attribute} of {span}");
    }
    assert_eq!(request.name, "POST openai.embeddings");
    assert!(upstream.url().ends_with(spans["fetch"].says("server.port")));

    let received = upstream.received().pop().expect("it was asked");
    let fetch = &spans["fetch"].id;
    assert_eq!(field(&received, "traceparent"), format!("00-{}-{fetch}-01", trace(1)));
    assert_eq!(field(&received, "tracestate"), "vendor=opaque,other=1");
    assert_eq!(field(&received, "baggage"), "agent.id=a1;p=2,tool.id=t1");

    let resource = collector.resource();
    assert_eq!(resource["service.name"], "cache-server");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["service.instance.id"].len(), 32);
}

#[tokio::test]
async fn a_hit_tells_its_tier_and_has_no_fetch() {
    let (collector, _upstream, server) = traced().await;
    let client = server.client();
    client.ask(EMBEDDINGS, &question("twice")).await;
    let again = part_of(2, client.post(EMBEDDINGS, &question("twice")));
    assert!(Answer::of(again).await.is_hit());

    let spans = collector.request(&trace(2)).await;
    assert_eq!(names(&spans), ["key", "lookup", "request"]);
    assert_eq!(spans["request"].says("cache.outcome"), "hit");
    assert_eq!(spans["request"].says("cache.tier"), "memory");
    assert_eq!(spans["lookup"].says("cache.tier"), "memory");
    assert_eq!(spans["request"].says("gen_ai.request.model"), "text-embedding-3-small");
}

#[tokio::test]
async fn a_bypass_tells_why_and_its_fetch_is_the_upstreams_parent() {
    let (collector, upstream, server) = traced().await;
    let request = part_of(3, server.client().request(Method::POST, "/v1/models?limit=3"));
    assert_eq!(Answer::of(request).await.status, 200);

    let spans = collector.request(&trace(3)).await;
    assert_eq!(names(&spans), ["fetch", "key", "request"]);
    assert_eq!(spans["request"].name, "POST");
    assert_eq!(spans["request"].says("cache.outcome"), "bypass");
    assert_eq!(spans["request"].says("cache.reason"), "not-a-model-route");
    assert_eq!(spans["request"].says("url.path"), "/v1/models");
    assert_eq!(spans["fetch"].parent, spans["request"].id);
    let received = upstream.received().pop().expect("it was asked");
    let expected = format!("00-{}-{}-01", trace(3), spans["fetch"].id);
    assert_eq!(field(&received, "traceparent"), expected);
}

#[tokio::test]
async fn what_is_read_and_not_reused_still_tells_its_model() {
    let upstream = Upstream::start(|_| Reply::bytes("{}")).await;
    let collector = Collector::start().await;
    let server = Server::start(collector.behind(&upstream)).await;
    let mut warm = chat(false);
    warm["temperature"] = serde_json::json!(1);
    let gemini = "/v1beta/models/gemini-2.5-flash:generateContent";
    for (number, path, operation, model) in
        [(35, CHAT, "chat", "gpt-4o-mini"), (36, gemini, "generate_content", "gemini-2.5-flash")]
    {
        let request = part_of(number, server.client().post(path, &warm));
        // The second is not even read.
        let request = if number == 36 { request.header("if-match", "*") } else { request };
        Answer::of(request).await;
        let spans = collector.request(&trace(number)).await;
        assert_eq!(spans["request"].says("cache.outcome"), "bypass", "{path}");
        for span in ["request", "fetch"] {
            assert_eq!(spans[span].says("gen_ai.request.model"), model, "{span}");
            assert_eq!(spans[span].says("gen_ai.operation.name"), operation, "{span}");
        }
    }
}

#[tokio::test]
async fn a_request_without_a_usable_trace_begins_one() {
    let (collector, upstream, server) = traced().await;
    for (number, traceparent) in ["", "00-malformed"].into_iter().enumerate() {
        let request = server.client().post(EMBEDDINGS, &question(&format!("new {number}")));
        let request = request.header("traceparent", traceparent).header("tracestate", "a=1");
        assert_eq!(Answer::of(request).await.status, 200);
        let received = upstream.received().pop().expect("it was asked");
        let told: Vec<&str> = field(&received, "traceparent").split('-').collect();
        assert_eq!(field(&received, "tracestate"), "", "it belonged to no trace");
        let spans = collector.request(told[1]).await;
        assert_eq!(spans["request"].parent, "");
        assert_eq!(spans["fetch"].id, told[2]);
    }
}

#[tokio::test]
async fn a_streams_span_lasts_until_the_stream_has_ended() {
    let whole = recorded("openai-chat-completions/whole.sse");
    let parts = events(&whole);
    let (live, reply) = Reply::live("text/event-stream");
    let reply = std::sync::Mutex::new(Some(reply));
    let upstream =
        Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
    let upstream = upstream.await;
    let collector = Collector::start().await;
    let server = Server::start(collector.behind(&upstream)).await;

    let mut caller = Reading::of(part_of(4, server.client().post(CHAT, &chat(true)))).await;
    live.send(Ok(parts[0].clone())).expect("the upstream reads");
    caller.expect(&parts[0]).await;
    // This step has ended and came; the request and its fetch have not.
    collector.span(&trace(4), "coalesce").await;
    let name = "POST openai.chat_completions";
    assert!(collector.spans().iter().all(|span| span.name != name), "{:?}", collector.spans());

    for part in &parts[1..] {
        live.send(Ok(part.clone())).expect("the upstream reads");
    }
    drop(live);
    caller.rest().await.expect("a clean end");
    let spans = collector.request(&trace(4)).await;
    assert_eq!(names(&spans), ["coalesce", "fetch", "key", "lookup", "request", "store"]);
    assert!(!spans["request"].is_error && !spans["fetch"].is_error);
    assert!(spans["request"].nanoseconds >= spans["coalesce"].nanoseconds);
    assert_eq!(spans["request"].says("cache.reason"), "streamed");
    assert_eq!(spans["request"].says("gen_ai.operation.name"), "chat");
}

#[tokio::test]
async fn an_answer_that_is_cut_off_ends_its_spans_with_an_error() {
    for path in [CHAT, "/v1/no/model/route"] {
        let (live, reply) = Reply::live("text/event-stream");
        let reply = std::sync::Mutex::new(Some(reply));
        let upstream =
            Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
        let upstream = upstream.await;
        let collector = Collector::start().await;
        let server = Server::start(collector.behind(&upstream)).await;

        let mut caller = Reading::of(part_of(5, server.client().post(path, &chat(true)))).await;
        live.send(Ok("data: 1\n\n".into())).expect("the upstream reads");
        caller.expect(b"data: 1\n\n").await;
        live.send(cut()).expect("the upstream reads");
        assert!(caller.rest().await.is_err(), "{path}: a cut answer must not end cleanly");
        let spans = collector.request(&trace(5)).await;
        assert!(spans["request"].is_error, "{path}");
        assert_eq!(spans["request"].says("error.type"), "answer-cut", "{path}");
        assert!(spans["fetch"].is_error, "{path}");
        assert_eq!(spans["fetch"].says("error.type"), "broken", "{path}");
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_ends_its_own_span_with_an_error_and_not_the_fetchs() {
    let gate = std::sync::Arc::new(Gate::closed());
    let holds = std::sync::Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::json(&embedding(0.25)).held_by(&holds)).await;
    let collector = Collector::start().await;
    let server = Server::start(collector.behind(&upstream)).await;

    let request = part_of(6, server.client().post(EMBEDDINGS, &question("gone")));
    let caller = tokio::spawn(Answer::of(request));
    eventually("the call upstream", || async { (upstream.calls() == 1).then_some(()) }).await;
    caller.abort();
    let spans = collector.request(&trace(6)).await;
    assert!(spans["request"].is_error);
    assert_eq!(spans["request"].says("error.type"), "caller-gone");

    gate.open();
    let store = collector.span(&trace(6), "store").await;
    assert_eq!(store.parent, spans["request"].id);
    let spans = collector.request(&trace(6)).await;
    assert!(!spans["fetch"].is_error, "{:?}", spans["fetch"]);
}

#[tokio::test]
async fn a_followers_span_is_linked_to_the_fetch_of_its_leader() {
    let gate = std::sync::Arc::new(Gate::closed());
    let holds = std::sync::Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::json(&embedding(0.25)).held_by(&holds)).await;
    let collector = Collector::start().await;
    let server = Server::start(collector.behind(&upstream)).await;
    let ask = |number| {
        let request = part_of(number, server.client().post(EMBEDDINGS, &question("together")));
        tokio::spawn(Answer::of(request))
    };
    let leader = ask(7);
    eventually("the call upstream", || async { (upstream.calls() == 1).then_some(()) }).await;
    let follower = ask(8);
    server.misses_looked_up(2).await;
    gate.open();
    leader.await.expect("an answer");
    let follower = follower.await.expect("an answer");
    assert!(follower.cache_status().contains("; collapsed"), "{}", follower.cache_status());

    let leader = collector.request(&trace(7)).await;
    let follower = collector.request(&trace(8)).await;
    assert_eq!(names(&follower), ["coalesce", "key", "lookup", "request"]);
    let fetch = &leader["fetch"];
    assert_eq!(follower["coalesce"].links, [(fetch.trace.clone(), fetch.id.clone())]);
    assert_eq!(follower["coalesce"].says("cache.role"), "follower");
    assert_eq!(follower["request"].says("cache.outcome"), "collapsed");
    assert!(leader["coalesce"].links.is_empty());
}

#[tokio::test]
async fn answers_without_a_body_and_refusals_end_their_spans_as_what_they_are() {
    let upstream = Upstream::start(|request| match request.uri.path() {
        "/empty" => Reply::bytes("").status(204).without_length(),
        "/busy" => Reply::bytes("busy").status(503),
        _ => Reply::bytes("some text"),
    });
    let upstream = upstream.await;
    let collector = Collector::start().await;
    let server = Server::start(collector.behind(&upstream)).await;
    let cases = [
        (Method::HEAD, "/x", "200", "bypass", ""),
        (Method::GET, "/x", "200", "miss", ""),
        (Method::GET, "/empty", "204", "miss", ""),
        (Method::GET, "/busy", "503", "miss", "503"),
        (Method::GET, "/_cache/nothing", "404", "refused", ""),
    ];
    for (number, (method, path, status, outcome, error)) in (10..).zip(cases) {
        let request = part_of(number, server.client().request(method.clone(), path));
        Answer::of(request).await;
        let spans = collector.request(&trace(number)).await;
        let case = format!("{method} {path}: {spans:?}");
        let request = &spans["request"];
        assert_eq!(request.says("http.response.status_code"), status, "{case}");
        assert_eq!(request.says("cache.outcome"), outcome, "{case}");
        assert_eq!(request.says("error.type"), error, "{case}");
        assert_eq!(request.is_error, !error.is_empty(), "{case}");
    }
}

#[tokio::test]
async fn a_dead_upstream_is_told_in_both_spans() {
    let (collector, upstream, server) = traced().await;
    upstream.stop().await;
    let request = part_of(9, server.client().post(EMBEDDINGS, &question("dead")));
    assert_eq!(Answer::of(request).await.status, 502);
    let spans = collector.request(&trace(9)).await;
    assert_eq!(names(&spans), ["coalesce", "fetch", "key", "lookup", "request"]);
    assert_eq!(spans["fetch"].says("error.type"), "unreachable");
    assert_eq!(spans["request"].says("error.type"), "502");
    assert_eq!(spans["request"].says("cache.reason"), "upstream-unreachable");
}

#[tokio::test]
async fn no_secret_reaches_the_collector() {
    let upstream = Upstream::start(|_| {
        Reply::json(&embedding(0.25))
            .with("set-cookie", "session=secret-cookie")
            .with("x-request-id", "secret-id")
    });
    let upstream = upstream.await;
    let collector = Collector::start().await;
    let server = Server::start(collector.behind(&upstream)).await;
    let client = server.client();
    let paths = [EMBEDDINGS, EMBEDDINGS, "/v1/no/model/route", "/_cache/refused"];
    for (number, path) in (20..).zip(paths) {
        let path = format!("{path}?key=secret-query&user=secret-user");
        let request = client
            .request(Method::POST, &path)
            .header("authorization", "Bearer secret-bearer")
            .header("x-api-key", "secret-key")
            .header("x-goog-api-key", "secret-goog")
            .header("cookie", "secret-cookie")
            .header("openai-organization", "secret-organization")
            .header("user-agent", "secret-agent")
            .header("traceparent", traceparent(number))
            .header("tracestate", "vendor=secret-state")
            .header("baggage", "agent.id=secret-baggage")
            .body(question("secret-body").to_string());
        Answer::of(request).await;
        collector.request(&trace(number)).await;
    }
    // Field names and lengths are bytes too: the texts are looked for in all that was sent.
    for (headers, body) in collector.raw() {
        let sent = format!("{headers:?} {}", String::from_utf8_lossy(&body));
        assert!(!sent.contains("secret"), "{sent}");
    }
    assert!(!server.log().contains("secret"), "{}", server.log());
}

#[tokio::test]
async fn what_a_caller_says_not_to_sample_is_not_exported() {
    let (collector, upstream, server) = traced().await;
    let client = server.client();
    let unsampled = traceparent(30).replace("-01", "-00");
    for body in ["unsampled", "unsampled again"] {
        let request = client.post(EMBEDDINGS, &question(body)).header("traceparent", &unsampled);
        assert_eq!(Answer::of(request).await.status, 200);
    }
    let received = upstream.received().pop().expect("it was asked");
    let told = field(&received, "traceparent");
    assert!(told.starts_with(&unsampled[..36]) && told.ends_with("-00"), "{told}");
    Answer::of(part_of(31, client.post(EMBEDDINGS, &question("sampled")))).await;
    collector.request(&trace(31)).await;
    assert!(collector.spans().iter().all(|span| span.trace == trace(31)));
}

#[tokio::test]
async fn a_share_of_none_leaves_the_decision_to_callers() {
    let (collector, upstream) = (Collector::start().await, Upstream::saying(embedding(0.25)).await);
    let setup = collector.behind(&upstream).config("sample = 0.0");
    let server = Server::start(setup).await;
    let client = server.client();
    assert_eq!(client.ask(EMBEDDINGS, &question("alone")).await.status, 200);
    let received = upstream.received().pop().expect("it was asked");
    let told = field(&received, "traceparent");
    assert!(told.ends_with("-00"), "the upstream need not sample it either: {told}");
    Answer::of(part_of(32, client.post(EMBEDDINGS, &question("part of a trace")))).await;
    collector.request(&trace(32)).await;
    assert!(collector.spans().iter().all(|span| span.trace == trace(32)));
}

#[tokio::test]
async fn the_collector_is_sent_the_fields_of_the_file_and_of_the_environment() {
    let (collector, upstream) = (Collector::start().await, Upstream::saying(embedding(0.25)).await);
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let file = folder.path().join("collector-headers");
    let lines = "# ours\nAuthorization: Bearer from-file\nX-Both: of-file\n";
    std::fs::write(&file, lines).expect("the file is written");
    let setup = collector
        .behind(&upstream)
        .config(&format!("headers_file = \"{}\"", file.display()))
        .variable("OTEL_EXPORTER_OTLP_HEADERS", "x-team=from%20environment,x-both=of-environment");
    let server = Server::start(setup).await;
    Answer::of(part_of(33, server.client().post(EMBEDDINGS, &question("sent")))).await;
    collector.request(&trace(33)).await;
    let (headers, _) = collector.raw().pop().expect("a batch");
    for (name, value) in [
        ("authorization", "Bearer from-file"),
        ("x-team", "from environment"),
        ("x-both", "of-file"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    let log = server.log();
    assert!(!log.contains("from-file") && !log.contains("from environment"), "{log}");
}

#[tokio::test]
async fn a_collector_that_hangs_costs_requests_nothing_and_does_not_hold_up_the_end() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let collector = Collector::held_by(Gate::closed()).await;
    let mut server = Server::start(collector.behind(&upstream)).await;
    let client = server.client();
    assert_eq!(client.ask(EMBEDDINGS, &question("first")).await.status, 200);
    eventually("a batch", || async { (collector.batches() > 0).then_some(()) }).await;
    for number in 0..20 {
        let body = question(&format!("meanwhile {number}"));
        assert!(!client.ask(EMBEDDINGS, &body).await.is_hit());
        assert!(client.ask(EMBEDDINGS, &body).await.is_hit());
    }
    assert_eq!(collector.batches(), 1, "the first batch still hangs");
    server.stop().await;
    logged(&server, "the last spans did not reach the collector").await;
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_requests_nothing_and_is_told_and_counted() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let collector = Collector::start().await;
    let setup = collector.behind(&upstream);
    drop(collector);
    let server = Server::start(setup).await;
    let client = server.client();
    for body in ["one", "two", "three"] {
        assert!(!client.ask(EMBEDDINGS, &question(body)).await.is_hit());
        assert!(client.ask(EMBEDDINGS, &question(body)).await.is_hit());
    }
    let series = "cache_server_spans_dropped_total{reason=\"export-failed\"}";
    eventually("lost spans", || async { (server.metric(series).await >= 1.0).then_some(()) }).await;
    logged(&server, "the collector did not take spans").await;
}

#[tokio::test]
async fn the_last_spans_are_exported_when_the_server_stops() {
    let (collector, upstream) = (Collector::start().await, Upstream::saying(embedding(0.25)).await);
    let late = collector.behind(&upstream).variable("OTEL_BSP_SCHEDULE_DELAY", "3600000");
    let mut server = Server::start(late).await;
    Answer::of(part_of(34, server.client().post(EMBEDDINGS, &question("last")))).await;
    assert_eq!(collector.batches(), 0, "nothing is due for an hour");
    server.stop().await;
    let spans = collector.request(&trace(34)).await;
    assert_eq!(names(&spans), ["coalesce", "fetch", "key", "lookup", "request", "store"]);
}

#[tokio::test]
async fn an_exchange_over_its_time_ends_its_span_as_its_own_and_not_as_the_callers_fault() {
    let (live, begun) = Reply::live("text/event-stream");
    let begun = std::sync::Mutex::new(Some(begun));
    let gate = std::sync::Arc::new(Gate::closed());
    let holds = std::sync::Arc::clone(&gate);
    let upstream = Upstream::start(move |request| match request.uri.path() {
        CHAT => begun.lock().expect("the reply").take().expect("asked once"),
        _ => Reply::json(&embedding(0.25)).held_by(&holds),
    });
    let upstream = upstream.await;
    let collector = Collector::start().await;
    let setup = collector.behind(&upstream).config("[server]\nrequest_timeout = \"500ms\"");
    let server = Server::start(setup).await;

    let held = part_of(7, server.client().post(EMBEDDINGS, &question("held")));
    assert_eq!(Answer::of(held).await.status, 504);
    let spans = collector.request(&trace(7)).await;
    assert!(spans["request"].is_error);
    assert_eq!(spans["request"].says("error.type"), "504");
    assert_eq!(spans["request"].says("cache.reason"), "request-timeout");

    live.send(Ok("data: 1\n\n".into())).expect("the upstream reads");
    let cut = Reading::of(part_of(8, server.client().post(CHAT, &chat(true)))).await;
    assert!(cut.rest().await.is_err());
    let spans = collector.request(&trace(8)).await;
    assert_eq!(spans["request"].says("error.type"), "request-timeout");
    gate.open();
}
