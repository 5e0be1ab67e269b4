//! Groups of answers (RFC 9875): the answer to an unsafe request makes invalid what is of the
//! groups that it names.

use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::{self, field};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::{Received, Reply, Server, Setup, Upstream};
use http::Method;
use serde_json::json;

const GROUPS: &str = "cache-groups";
const INVALIDATION: &str = "cache-group-invalidation";

/// An upstream whose answers say what the request wishes: `x-groups` is the group of a page,
/// `x-invalidates` what an answer makes invalid, `x-status` its status.
async fn obliging() -> Upstream {
    let calls = AtomicUsize::new(0);
    Upstream::start(move |received: &Received| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::bytes(format!("answer {count}")).with("cache-control", "max-age=600");
        let (groups, invalidates) = (field(received, "x-groups"), field(received, "x-invalidates"));
        let reply = if groups.is_empty() { reply } else { reply.with(GROUPS, groups) };
        let status = field(received, "x-status").parse().unwrap_or(200);
        let reply = reply.status(status);
        if invalidates.is_empty() { reply } else { reply.with(INVALIDATION, invalidates) }
    })
    .await
}

async fn start() -> (Upstream, Server) {
    let upstream = obliging().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    (upstream, server)
}

/// Sees that a page of these groups is stored.
async fn warm(server: &Server, path: &str, groups: &str) {
    plain::ask(&server.client(), Method::GET, path, &[("x-groups", groups)]).await;
    assert!(is_stored(server, path).await, "{path} {groups}");
}

async fn is_stored(server: &Server, path: &str) -> bool {
    plain::ask(&server.client(), Method::GET, path, &[("cache-control", "only-if-cached")])
        .await
        .is_hit()
}

async fn invalidate(server: &Server, method: Method, groups: &str, status: &str) {
    let fields = [("x-invalidates", groups), ("x-status", status)];
    plain::ask(&server.client(), method, "/change", &fields).await;
}

#[tokio::test]
async fn an_unsafe_request_that_did_not_fail_invalidates_the_groups_that_its_answer_names() {
    let (_upstream, server) = start().await;
    for status in ["200", "204", "303"] {
        warm(&server, "/a", "\"one\", \"two\"").await;
        warm(&server, "/b", "\"two\";x=1").await;
        warm(&server, "/c", "\"three\"").await;
        warm(&server, "/d", "").await;
        invalidate(&server, Method::POST, "\"one\", \"none\"", status).await;
        let stored = [("/a", false), ("/b", true), ("/c", true), ("/d", true)];
        for (path, expected) in stored {
            assert_eq!(is_stored(&server, path).await, expected, "{path}: it must not cascade");
        }
        invalidate(&server, Method::DELETE, "\"two\", \"three\";x", status).await;
        assert!(!is_stored(&server, "/b").await && !is_stored(&server, "/c").await);
    }
}

#[tokio::test]
async fn what_an_unsafe_request_invalidates_does_not_take_its_group_along() {
    let (_upstream, server) = start().await;
    warm(&server, "/a", "\"one\"").await;
    warm(&server, "/b", "\"one\"").await;
    plain::ask(&server.client(), Method::PUT, "/a", &[]).await;
    assert!(!is_stored(&server, "/a").await);
    assert!(is_stored(&server, "/b").await);
}

#[tokio::test]
async fn groups_are_told_apart_by_every_character() {
    let (_upstream, server) = start().await;
    warm(&server, "/a", "\"News\"").await;
    for other in ["\"news\"", "\" News\"", "\"News \"", "\"New\"", "News", "\"News\",", "5"] {
        invalidate(&server, Method::POST, other, "200").await;
        assert!(is_stored(&server, "/a").await, "{other}");
    }
    invalidate(&server, Method::POST, "\"x\", \"News\"", "200").await;
    assert!(!is_stored(&server, "/a").await);
}

#[tokio::test]
async fn safe_requests_and_failed_ones_invalidate_no_group() {
    let (_upstream, server) = start().await;
    warm(&server, "/a", "\"one\"").await;
    let query = Method::from_bytes(b"QUERY").unwrap();
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, query] {
        invalidate(&server, method.clone(), "\"one\"", "200").await;
        assert!(is_stored(&server, "/a").await, "{method}");
    }
    for status in ["400", "401", "404", "500", "503"] {
        invalidate(&server, Method::POST, "\"one\"", status).await;
        assert!(is_stored(&server, "/a").await, "{status}");
    }
}

#[tokio::test]
async fn groups_are_an_origins_own() {
    let (one, other) = (obliging().await, obliging().await);
    let setup = Setup::default()
        .argument("--upstream")
        .argument(&format!("one={}", one.url()))
        .argument("--upstream")
        .argument(&format!("other={}", other.url()));
    let server = Server::start(setup).await;
    warm(&server, "/one/a", "\"g\"").await;
    warm(&server, "/other/a", "\"g\"").await;
    let fields = [("x-invalidates", "\"g\"")];
    plain::ask(&server.client(), Method::POST, "/other/change", &fields).await;
    assert!(is_stored(&server, "/one/a").await, "it is of another origin");
    assert!(!is_stored(&server, "/other/a").await);
}

#[tokio::test]
async fn more_groups_than_are_looked_at_invalidate_whatever_is_of_a_group() {
    let list = |count: usize| {
        let names: Vec<_> = (0..count).map(|index| format!("\"group {index}\"")).collect();
        names.join(", ")
    };
    let (_upstream, server) = start().await;
    warm(&server, "/in", "\"group 63\"").await;
    warm(&server, "/other", "\"other\"").await;
    warm(&server, "/none", "").await;
    invalidate(&server, Method::POST, &list(64), "200").await;
    assert!(!is_stored(&server, "/in").await, "each of 64 is looked at");
    assert!(is_stored(&server, "/other").await);
    invalidate(&server, Method::POST, &list(65), "200").await;
    assert!(!is_stored(&server, "/other").await, "rather too much than too little");
    assert!(is_stored(&server, "/none").await, "what is of no group stays");
}

#[tokio::test]
async fn an_answer_of_more_groups_than_are_looked_at_is_not_stored() {
    let (_upstream, server) = start().await;
    let names: Vec<_> = (0..65).map(|index| format!("\"{index}\"")).collect();
    let groups = names.join(",");
    let answer =
        plain::ask(&server.client(), Method::GET, "/a", &[("x-groups", groups.as_str())]).await;
    assert!(answer.cache_status().contains("detail=too-many-tags"), "{}", answer.cache_status());
    warm(&server, "/b", &names[..32].join(",")).await;
}

#[tokio::test]
async fn an_operator_purges_a_group_as_a_tag() {
    let (_upstream, server) = start().await;
    warm(&server, "/a", "\"one\"").await;
    server.admin_client().ask("/purge", &json!({ "tags": ["one"] })).await;
    assert!(!is_stored(&server, "/a").await);
}

#[tokio::test]
async fn a_head_may_add_an_entry_to_a_group() {
    let upstream = Upstream::start(|received: &Received| {
        let reply = Reply::bytes("the body").with("etag", "\"a\"");
        let reply = reply.with("cache-control", "max-age=600");
        match received.method.as_str() {
            "HEAD" => reply.with(GROUPS, "\"later\""),
            "POST" => reply.with(INVALIDATION, "\"later\""),
            _ => reply.with("cache-control", "max-age=600"),
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    warm(&server, "/a", "").await;
    let anew = [("cache-control", "no-cache")];
    plain::ask(&server.client(), Method::HEAD, "/a", &anew).await;
    assert!(is_stored(&server, "/a").await);
    invalidate(&server, Method::POST, "", "").await;
    assert!(!is_stored(&server, "/a").await);
}

#[tokio::test]
async fn a_call_of_a_model_belongs_to_groups_and_invalidates_none() {
    let upstream = Upstream::start(|received: &Received| match received.method.as_str() {
        "POST" if received.uri.path() == EMBEDDINGS => {
            Reply::json(&embedding(0.5)).with(GROUPS, "\"g\"").with(INVALIDATION, "\"g\"")
        }
        _ => Reply::bytes("").with(INVALIDATION, "\"g\""),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let ask = async |input: &str| server.client().ask(EMBEDDINGS, &question(input)).await;
    ask("a").await;
    ask("b").await;
    assert!(ask("a").await.is_hit(), "a call does not purge its neighbours");
    plain::ask(&server.client(), Method::PUT, "/documents/1", &[]).await;
    assert!(!ask("a").await.is_hit(), "what is no call of a model does");
}
