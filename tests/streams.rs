//! Event streams through the cache: live on their way in, whole and cut at their events on their
//! way out again.

use black_box_tests::sample::{CHAT, chat, events, recorded};
use black_box_tests::{Raw, Reading, Reply, Server, Setup, Upstream};
use serde_json::{Value, json};

/// Every form of stream: where it is asked for, what asks for it, and a recorded answer.
fn forms() -> Vec<(&'static str, Value, &'static str)> {
    let gemini = json!({
        "contents": [{"parts": [{"text": "Say hello."}]}],
        "generationConfig": {"temperature": 0},
    });
    vec![
        (CHAT, chat(true), "openai-chat-completions/whole.sse"),
        (CHAT, with_usage(), "openai-chat-completions/whole-with-usage.sse"),
        (
            "/v1/completions",
            json!({"model": "m", "temperature": 0, "stream": true, "prompt": "Say hello."}),
            "openai-completions/whole.sse",
        ),
        (
            "/v1/responses",
            json!({"model": "m", "temperature": 0, "stream": true, "store": false, "input": "Hi"}),
            "openai-responses/whole.sse",
        ),
        (
            "/v1/messages",
            json!({"model": "m", "temperature": 0, "stream": true, "max_tokens": 9, "messages": []}),
            "anthropic-messages/whole.sse",
        ),
        (
            "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
            gemini,
            "gemini-stream-generate-content/whole.sse",
        ),
    ]
}

fn with_usage() -> Value {
    let mut body = chat(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

#[tokio::test]
async fn each_event_reaches_the_caller_before_the_next_one_is_sent() {
    for (path, body, name) in forms() {
        let whole = recorded(name);
        let (live, reply) = Reply::live("text/event-stream");
        let reply = std::sync::Mutex::new(Some(reply));
        let upstream = Upstream::start(move |_| {
            let live = reply.lock().expect("the reply").take();
            live.unwrap_or_else(|| Reply::bytes("asked twice").status(500))
        });
        let upstream = upstream.await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;

        let mut caller = Reading::of(server.client().post(path, &body)).await;
        assert_eq!(caller.head.field("content-type"), "text/event-stream", "{name}");
        for event in events(&whole) {
            live.send(Ok(event.clone())).expect("the upstream reads");
            caller.expect(&event).await;
        }
        drop(live);
        assert_eq!(caller.rest().await.expect("a clean end"), "", "{name}");

        let hit = server.client().ask(path, &body).await;
        assert!(hit.is_hit(), "{name}: {}", hit.cache_status());
        assert_eq!(hit.field("content-type"), "text/event-stream", "{name}");
        assert!(hit.body == whole, "{name}: the replay differs");
        assert_eq!(upstream.calls(), 1, "{name}");
    }
}

#[tokio::test]
async fn a_half_event_is_not_held_back_either() {
    let (live, reply) = Reply::live("text/event-stream");
    let reply = std::sync::Mutex::new(Some(reply));
    let upstream =
        Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = Reading::of(server.client().post(CHAT, &chat(true))).await;
    for piece in ["data: {\"id\"", ":\"x\"}", "\n", "\n"] {
        live.send(Ok(piece.into())).expect("the upstream reads");
        caller.expect(piece.as_bytes()).await;
    }
}

#[tokio::test]
async fn the_chunks_of_a_replay_end_where_its_events_end() {
    for (path, body, name) in forms() {
        let whole = recorded(name);
        let answer = whole.clone();
        let upstream = Upstream::start(move |_| Reply::events(answer.clone())).await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        let first = server.client().ask(path, &body).await;
        assert!(first.body == whole, "{name}: the first answer differs");

        let mut caller = Raw::open(&server.address).await;
        caller.post(path, &body.to_string()).await;
        let head = caller.head().await.to_ascii_lowercase();
        assert!(head.contains("cache-server; hit"), "{name}: {head}");
        assert!(head.contains("\r\ntransfer-encoding: chunked"), "{name}: {head}");
        assert_eq!(caller.chunks().await, events(&whole), "{name}");
    }
}

#[tokio::test]
async fn a_stream_and_the_same_question_without_stream_are_two_entries() {
    let streamed = recorded("openai-chat-completions/whole.sse");
    let plain = recorded("openai-chat-completions/whole.json");
    let (stream, json) = (streamed.clone(), plain.clone());
    let upstream = Upstream::start(move |request| {
        let asked: Value = serde_json::from_slice(&request.body).expect("JSON");
        if asked["stream"] == true {
            Reply::events(stream.clone())
        } else {
            Reply::bytes(json.clone()).with("content-type", "application/json")
        }
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    for round in ["first", "again"] {
        for (stream, body) in [(true, &streamed), (false, &plain)] {
            let answer = client.ask(CHAT, &chat(stream)).await;
            assert_eq!(&answer.body, body, "{round}, stream = {stream}");
            assert_eq!(answer.is_hit(), round == "again", "{round}: {}", answer.cache_status());
        }
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_stream_that_ends_cleanly_without_its_last_event_is_delivered_and_not_stored() {
    for (path, body, name) in [
        (CHAT, chat(true), "openai-chat-completions/stream-incomplete.sse"),
        (CHAT, chat(true), "openai-chat-completions/error-event.sse"),
    ] {
        let given = recorded(name);
        let answer = given.clone();
        let upstream = Upstream::start(move |_| Reply::events(answer.clone())).await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        for calls in 1..=2 {
            let answer = server.client().ask(path, &body).await;
            assert!(answer.body == given, "{name}: the bytes differ");
            assert!(!answer.is_hit(), "{name}: {}", answer.cache_status());
            assert_eq!(upstream.calls(), calls, "{name}");
        }
    }
}
