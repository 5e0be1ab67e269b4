//! A request that comes again, byte for byte, is known by its bytes. Its caller must not notice: what
//! it is told is what it would be told the long way, and whatever changes answers changes this one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::{Client, Raw, RawAnswer, Reply, Server, Setup, Upstream, eventually};
use http::Method;
use serde_json::json;

use crate::connection_limits::over_tls;

const KNOWN: &str = "cache_server_repeats_total";

/// A request as some SDK sends it.
fn request(input: &str, credential: &str, fields: &str) -> Vec<u8> {
    let body = question(input).to_string();
    let length = body.len();
    format!(
        "POST {EMBEDDINGS} HTTP/1.1\r\nhost: cache\r\nauthorization: Bearer {credential}\r\n\
         content-type: application/json\r\nconnection: keep-alive\r\n{fields}\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn plain() -> Vec<u8> {
    request("again", "sk-test", "")
}

async fn known(server: &Server) -> f64 {
    server.metric(KNOWN).await
}

/// Asks over one connection.
async fn ask(connection: &mut Raw, request: &[u8]) -> RawAnswer {
    connection.send(request).await;
    connection.answer().await
}

/// The fields of an answer, sorted, without those that differ from second to second.
fn fields(answer: &RawAnswer) -> Vec<String> {
    let mut fields: Vec<String> = answer.head.lines().map(str::to_owned).collect();
    fields[1..].sort_unstable();
    let steady = |field: &String| !field.starts_with("age:");
    let without_ttl = |field: String| {
        let pieces = field.split("; ").filter(|piece| !piece.starts_with("ttl="));
        pieces.collect::<Vec<_>>().join("; ")
    };
    fields.into_iter().filter(steady).map(without_ttl).collect()
}

/// A server on which the plain request is known, and a connection to it.
async fn server_that_knows(upstream: &Upstream) -> (Server, Raw) {
    knowing(Setup::in_front_of(upstream)).await
}

/// The same, set up so.
async fn knowing(setup: Setup) -> (Server, Raw) {
    let server = Server::start(setup).await;
    let mut connection = Raw::open(&server.address).await;
    for _ in 0..3 {
        ask(&mut connection, &plain()).await;
    }
    (server, connection)
}

async fn upstream() -> Upstream {
    Upstream::start(|_| Reply::json(&embedding(0.5)).with("x-shown", "to all")).await
}

#[tokio::test]
async fn a_repeat_is_told_what_it_would_be_told_the_long_way() {
    let upstream = upstream().await;
    let (server, mut connection) = server_that_knows(&upstream).await;
    // A field more, and it is not known yet.
    let long = ask(&mut connection, &request("again", "sk-test", "x-new: 1\r\n")).await;
    assert_eq!(known(&server).await, 0.0);
    let short = ask(&mut connection, &plain()).await;
    assert_eq!(known(&server).await, 1.0);
    assert_eq!(fields(&short), fields(&long));
    assert_eq!(short.body, long.body);
    assert!(short.head.contains("\r\nx-shown: to all"), "{}", short.head);
    let mut another = Raw::open(&server.address).await;
    assert_eq!(ask(&mut another, &plain()).await.body, long.body, "on any connection");
    assert_eq!((known(&server).await, upstream.calls()), (2.0, 1));
}

#[tokio::test]
async fn repeats_count_as_the_hits_that_they_are() {
    let upstream = upstream().await;
    let (server, mut connection) = server_that_knows(&upstream).await;
    for _ in 0..3 {
        ask(&mut connection, &plain()).await;
    }
    let route = "route=\"openai.embeddings\"";
    let hits = format!("cache_server_requests_total{{{route},outcome=\"hit\",reason=\"memory\"}}");
    assert_eq!((known(&server).await, server.metric(&hits).await), (3.0, 5.0));
    let seconds = "cache_server_request_seconds_count{outcome=\"hit\"}";
    assert_eq!(server.metric(seconds).await, 5.0);
    let stats = server.stats().await;
    assert_eq!(stats["upstream_calls_saved"], 5, "{stats}");
}

#[tokio::test]
async fn what_was_purged_is_not_given_to_a_repeat() {
    let upstream = upstream().await;
    let (server, mut connection) = server_that_knows(&upstream).await;
    let purge = server.admin_client().request(Method::POST, "/purge");
    let all = json!({"everything": true}).to_string();
    assert_eq!(purge.body(all).send().await.unwrap().status(), 200);
    let answer = ask(&mut connection, &plain()).await;
    assert!(answer.head.contains("; fwd=miss;"), "{}", answer.head);
    assert_eq!(upstream.calls(), 2);
    ask(&mut connection, &plain()).await;
    assert_eq!(known(&server).await, 1.0, "what was fetched since is given");
}

#[tokio::test]
async fn a_lever_is_for_repeats_too() {
    let upstream = upstream().await;
    let (server, mut connection) = server_that_knows(&upstream).await;
    let lever = json!({"lever": "bypass", "for": "1h", "who": "kim", "why": "a test"}).to_string();
    let pulled = server.admin_client().request(Method::POST, "/overrides").body(lever);
    assert!(pulled.send().await.unwrap().status().is_success());
    let answer = ask(&mut connection, &plain()).await;
    assert!(answer.head.contains("detail=override-bypass"), "{}", answer.head);
    assert_eq!((known(&server).await, upstream.calls()), (0.0, 2));
}

#[tokio::test]
async fn a_header_that_begins_behind_a_repeat_has_no_longer_than_any_other() {
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream);
    let setup = setup.config("[server]\nheader_timeout = \"1s\"\nidle_timeout = \"1h\"");
    let (server, mut connection) = knowing(setup).await;
    connection.send([&plain()[..], b"GET /page HT"].concat()).await;
    assert!(connection.answer().await.head.contains("; hit;"));
    assert_eq!(known(&server).await, 1.0);
    connection.rest().await;
}

#[tokio::test]
async fn what_the_short_way_cannot_answer_is_not_remembered_for_it() {
    let upstream = Upstream::start(|_| {
        let reply = Reply::bytes("data: x\n\n").with("content-type", "text/event-stream");
        reply.with("cache-control", "max-age=600")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut connection = Raw::open(&server.address).await;
    for turn in 0..6 {
        let answer = ask(&mut connection, b"GET /page HTTP/1.1\r\nhost: cache\r\n\r\n").await;
        assert_eq!(answer.head.contains("; hit;"), turn > 0, "{}", answer.head);
    }
    let reads = "cache_server_tier_read_seconds_count{tier=\"memory\"}";
    assert_eq!(server.metric(reads).await, 6.0, "one for each request");
}

#[tokio::test]
async fn once_a_lever_has_ended_by_itself_repeats_are_known_again() {
    let upstream = upstream().await;
    let (server, connection) = server_that_knows(&upstream).await;
    let lever = json!({"lever": "bypass", "for": "1s", "who": "kim", "why": "a test"}).to_string();
    let pulled = server.admin_client().request(Method::POST, "/overrides").body(lever);
    assert!(pulled.send().await.unwrap().status().is_success());
    let connection = tokio::sync::Mutex::new(connection);
    eventually("a repeat is known", || async {
        ask(&mut *connection.lock().await, &plain()).await;
        (known(&server).await > 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_credential_that_the_upstream_refuses_since_is_refused_to_repeats_alone_who_show_it() {
    let refuses = Arc::new(AtomicBool::new(false));
    let is_refused = Arc::clone(&refuses);
    let upstream = Upstream::start(move |received| {
        let shows = received.headers["authorization"] == "Bearer sk-test";
        match shows && is_refused.load(Ordering::Relaxed) {
            true => Reply::json(&json!({"error": {"message": "no"}})).status(401),
            false => Reply::json(&embedding(0.5)),
        }
    })
    .await;
    let (server, mut connection) = server_that_knows(&upstream).await;
    let theirs = request("again", "sk-other", "");
    for _ in 0..3 {
        ask(&mut connection, &theirs).await;
    }
    refuses.store(true, Ordering::Relaxed);
    let new = ask(&mut connection, &request("a new one", "sk-test", "")).await;
    assert!(new.head.starts_with("HTTP/1.1 401"), "{}", new.head);
    let again = ask(&mut connection, &plain()).await;
    assert!(again.head.starts_with("HTTP/1.1 401"), "{}", again.head);
    assert_eq!(known(&server).await, 0.0);
    assert!(ask(&mut connection, &theirs).await.head.contains("; hit;"));
    assert_eq!(known(&server).await, 1.0, "others are known as before");
}

#[tokio::test]
async fn settings_that_were_read_anew_are_for_repeats_too() {
    let upstream = upstream().await;
    let (server, mut connection) = server_that_knows(&upstream).await;
    let url = upstream.url();
    server.rewrite_config(&format!(
        "[server]\nbody_bytes_max = 10\nkey_body_bytes_max = 10\n[[upstream]]\nname = \"up\"\nurl = \"{url}\"\n"
    ));
    let applied = "cache_server_config_reloads_total{outcome=\"applied\"}";
    eventually("the config is read anew", async || {
        (server.metric(applied).await > 0.0).then_some(())
    })
    .await;
    let answer = ask(&mut connection, &plain()).await;
    assert!(answer.head.starts_with("HTTP/1.1 413"), "{}", answer.head);
    assert_eq!(known(&server).await, 0.0);
}

#[tokio::test]
async fn the_same_body_of_another_caller_is_another_request() {
    let upstream = upstream().await;
    let (server, mut connection) = server_that_knows(&upstream).await;
    let theirs = request("again", "sk-other", "");
    let answer = ask(&mut connection, &theirs).await;
    assert!(answer.head.contains("; fwd=miss;"), "{}", answer.head);
    assert_eq!((known(&server).await, upstream.calls()), (0.0, 2));
}

#[tokio::test]
async fn a_request_that_says_more_than_its_meaning_is_never_known() {
    let upstream = upstream().await;
    let (server, _) = server_that_knows(&upstream).await;
    for fields in ["cache-control: max-age=60\r\n", "te: trailers\r\n", "expect: 100-continue\r\n"]
    {
        for _ in 0..4 {
            let mut connection = Raw::open(&server.address).await;
            connection.send(request("again", "sk-test", fields)).await;
            let mut head = connection.head().await;
            if head.starts_with("HTTP/1.1 100") {
                head = connection.head().await;
            }
            assert!(head.contains("; hit;"), "{fields}: {head}");
        }
    }
    let closing = String::from_utf8(plain()).unwrap().replace("keep-alive", "close");
    for _ in 0..4 {
        let mut connection = Raw::open(&server.address).await;
        connection.send(&closing).await;
        let answer = String::from_utf8(connection.rest().await).unwrap();
        assert!(answer.contains("connection: close"), "it ends, as was asked: {answer}");
    }
    assert_eq!((known(&server).await, upstream.calls()), (0.0, 1));
}

#[tokio::test]
async fn requests_behind_each_other_are_answered_in_their_order() {
    let upstream = Upstream::start(|received| {
        let asked = serde_json::from_slice::<serde_json::Value>(&received.body).unwrap();
        let asked = asked["input"].as_str().map_or(0, str::len);
        let mut told = embedding(0.5);
        told["length"] = json!(asked);
        Reply::json(&told)
    })
    .await;
    let (server, mut connection) = server_that_knows(&upstream).await;
    let inputs = ["again", "again", "a new one", "again", "a newer one", "again", "again"];
    for _ in 0..2 {
        let all: Vec<u8> = inputs.iter().flat_map(|input| request(input, "sk-test", "")).collect();
        connection.send(&all).await;
        for input in inputs {
            let answer = connection.answer().await;
            let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(told["length"], input.len(), "{}", answer.head);
        }
    }
    assert!(known(&server).await >= 2.0);
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test]
async fn the_bytes_of_a_known_request_inside_another_are_no_request() {
    let upstream = upstream().await;
    let (server, _) = server_that_knows(&upstream).await;
    let length = plain().len();
    let head = format!(
        "POST {EMBEDDINGS} HTTP/1.1\r\nhost: cache\r\nauthorization: Bearer sk-test\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    // As a body that comes later, and as the value of a field that is under way.
    let mut connection = Raw::open(&server.address).await;
    connection.send(&head).await;
    connection.send(plain()).await;
    let head = connection.answer().await.head;
    assert!(head.contains("; fwd=bypass;"), "it is no JSON: {head}");
    let mut connection = Raw::open(&server.address).await;
    connection.send("GET /v1/models HTTP/1.1\r\nhost: cache\r\nx-begun: ").await;
    connection.send(plain()).await;
    let head = connection.head().await;
    assert!(head.starts_with("HTTP/1.1 400"), "it names two hosts: {head}");
    assert_eq!(known(&server).await, 0.0);
}

#[tokio::test]
async fn a_request_in_pieces_is_answered_all_the_same() {
    let upstream = upstream().await;
    let (server, _) = server_that_knows(&upstream).await;
    let whole = plain();
    for cut in [1, 20, whole.len() - 70, whole.len() - 1] {
        let mut connection = Raw::open(&server.address).await;
        connection.send(&whole[..cut]).await;
        connection.send(&whole[cut..]).await;
        assert!(connection.answer().await.head.contains("; hit;"), "cut at {cut}");
        assert!(ask(&mut connection, &whole).await.head.contains("; hit;"), "and the next one");
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_large_answer_reaches_a_caller_who_takes_it_slowly() {
    const BYTES: usize = 6 << 20;
    let mut body = embedding(0.5);
    body["filler"] = json!("x".repeat(BYTES));
    let upstream = Upstream::saying(body.clone()).await;
    let large = "[cache]\nmemory_bytes_max = \"1GiB\"\n";
    let server = Server::start(Setup::in_front_of(&upstream).config(large)).await;
    let mut connection = Raw::open(&server.address).await;
    for _ in 0..3 {
        ask(&mut connection, &plain()).await;
    }
    // Two at once, of which the second waits behind the first.
    connection.send([plain(), plain()].concat()).await;
    for _ in 0..2 {
        let answer = connection.answer().await;
        let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(told == body, "{}", answer.head);
    }
    assert_eq!(known(&server).await, 2.0);
}

#[tokio::test]
async fn a_repeat_over_tls_is_known_as_well() {
    let upstream = upstream().await;
    let (server, certified, _folder) = over_tls(&upstream, "").await;
    let client = Client::http1_over_tls(&server.address, &certified.authority_pem);
    let mut bodies = Vec::new();
    for _ in 0..5 {
        let answer = client.ask(EMBEDDINGS, &question("again")).await;
        assert_eq!(answer.status, 200);
        bodies.push(answer.body);
    }
    bodies.dedup();
    assert_eq!((bodies.len(), known(&server).await, upstream.calls()), (1, 2.0, 1));
}
