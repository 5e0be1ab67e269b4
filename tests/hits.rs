//! The second time the same thing is asked, the cache answers.

use black_box_tests::{Server, Setup, Upstream};
use serde_json::{Value, json};

fn question() -> Value {
    json!({"model": "text-embedding-3-small", "input": "why is the sky blue?"})
}

fn embedding() -> Value {
    json!({
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 6, "total_tokens": 6},
    })
}

#[tokio::test]
async fn the_second_answer_comes_from_memory_and_says_so() {
    let upstream = Upstream::saying(embedding()).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();

    let first = client.ask("/v1/embeddings", &question()).await;
    assert_eq!(first.status, 200);
    let status = first.cache_status();
    assert!(
        status.starts_with("cache-server; fwd=miss; fwd-status=200; stored; key=\"ks1_"),
        "{status}"
    );

    let second = client.ask("/v1/embeddings", &question()).await;
    let status = second.cache_status();
    assert!(status.starts_with("cache-server; hit; ttl=604"), "{status}");
    assert!(status.ends_with("; detail=memory"), "{status}");
    assert_eq!(second.field("age"), "0");
    assert_eq!(second.body, first.body);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn the_answer_survives_a_restart_and_comes_from_disk() {
    let upstream = Upstream::saying(embedding()).await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    let first = server.client().ask("/v1/embeddings", &question()).await;
    server.stop().await;

    let server = server.start_again().await;
    let client = server.client();
    let second = client.ask("/v1/embeddings", &question()).await;
    assert!(second.cache_status().ends_with("; detail=disk"), "{}", second.cache_status());
    assert_eq!(second.body, first.body);
    let third = client.ask("/v1/embeddings", &question()).await;
    assert!(third.cache_status().ends_with("; detail=memory"), "{}", third.cache_status());
    assert_eq!(upstream.calls(), 1);
}
