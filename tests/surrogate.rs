//! What an upstream says to the surrogates in front of it (`Surrogate-Control`), where a route heeds
//! it: it decides, and goes no further.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::{self, field, text, with};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Received, Reply, Server, Setup, Upstream, eventually};
use http::Method;

const SURROGATE: &str = "surrogate-control";
const WITHHELD: &str = "cache-server-surrogate-control";
const HEEDING: &str = "[[route]]\nendpoint = \"http\"\nsurrogate_control = true";

async fn start(reply: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> (Upstream, Server) {
    let upstream = Upstream::start(reply).await;
    let server = Server::start(Setup::in_front_of(&upstream).config(HEEDING)).await;
    (upstream, server)
}

/// A server in front of an upstream that counts its answers in their bodies, each with these
/// fields.
async fn saying(fields: &'static [(&'static str, &'static str)]) -> (Upstream, Server) {
    let calls = AtomicUsize::new(0);
    start(move |_| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        with(Reply::bytes(format!("answer {count}")), fields)
    })
    .await
}

async fn get(server: &Server) -> Answer {
    plain::ask(&server.client(), Method::GET, "/page", &[]).await
}

fn is_kept_from(answer: &Answer) -> bool {
    [SURROGATE, WITHHELD].iter().all(|name| !answer.headers.contains_key(*name))
}

#[tokio::test]
async fn what_is_said_to_surrogates_decides_where_a_route_heeds_it() {
    for (fields, is_hit) in [
        (&[(SURROGATE, "max-age=60"), ("cache-control", "no-store, private")][..], true),
        (&[(SURROGATE, "max-age=60"), ("expires", "0")], true),
        (&[(SURROGATE, "max-age=60, content=\"ESI/1.0\"")], true),
        (&[(SURROGATE, "max-age=1;other, max-age=60;cache-server, max-age=0")], true),
        (&[(SURROGATE, "no-store"), ("cache-control", "max-age=60")], false),
        (&[(SURROGATE, "max-age=0"), ("cache-control", "max-age=60")], false),
        (&[(SURROGATE, "max-age=60;other"), ("cache-control", "no-store")], false),
        (&[(SURROGATE, "no-store-remote"), ("cache-control", "max-age=60")], true),
        // The targeted fields go before it.
        (&[(SURROGATE, "max-age=60"), ("cdn-cache-control", "no-store")], false),
        // It has no word for what may be given to all.
        (&[(SURROGATE, "max-age=60"), ("cache-control", "public"), ("set-cookie", "a=1")], false),
    ] {
        let (upstream, server) = saying(fields).await;
        let first = get(&server).await;
        let second = get(&server).await;
        let told = field(&upstream.received()[0], "surrogate-capability").to_owned();
        assert_eq!(told, "cache-server=\"Surrogate/1.0\"");
        assert_eq!(second.is_hit(), is_hit, "{fields:?}: {}", second.cache_status());
        for answer in [first, second] {
            assert!(is_kept_from(&answer), "{fields:?}: {:?}", answer.headers);
        }
    }
}

#[tokio::test]
async fn it_is_a_field_like_any_other_where_no_route_heeds_it() {
    let upstream = Upstream::start(|_: &Received| {
        let reply = Reply::bytes("a").with(SURROGATE, "no-store").with(WITHHELD, "no-store");
        reply.with("cache-control", "max-age=60")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server).await;
    let hit = get(&server).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(hit.field(SURROGATE), "no-store");
    assert!(!hit.headers.contains_key(WITHHELD), "that name is ours");
}

#[tokio::test]
async fn it_is_kept_from_those_who_read_along() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let (upstream, server) = start(move |_| {
        let reply = Reply::bytes("the body").with(SURROGATE, "max-age=60");
        reply.with("x-other", "yes").held_by(&holds)
    })
    .await;
    let server = Arc::new(server);
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { get(&server).await })
        })
        .collect();
    eventually("a fetch is under way", || async { (upstream.calls() >= 1).then_some(()) }).await;
    gate.open();
    for caller in callers {
        let answer = caller.await.unwrap();
        assert_eq!((text(&answer), answer.field("x-other")), ("the body", "yes"));
        assert!(is_kept_from(&answer), "{:?}", answer.headers);
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_stale_answer_is_used_for_as_long_as_its_freshness_is_extended() {
    // Its age makes it stale when it comes.
    let (_upstream, server) = saying(&[(SURROGATE, "max-age=5+600"), ("age", "10")]).await;
    assert_eq!(text(&get(&server).await), "answer 0");
    let stale = get(&server).await;
    assert!(stale.is_hit() && stale.ttl_s() < 0, "{}", stale.cache_status());
    assert!(is_kept_from(&stale));
}

#[tokio::test]
async fn a_confirmation_that_does_not_say_it_again_leaves_what_was_said() {
    let (upstream, server) = start(|received: &Received| {
        let is_known = received.headers.contains_key("if-none-match");
        let reply = Reply::bytes(if is_known { "" } else { "the body" }).with("etag", "\"a\"");
        let reply = reply.with("cache-control", "max-age=600");
        if is_known { reply.status(304) } else { reply.with(SURROGATE, "max-age=0") }
    })
    .await;
    for _ in 0..3 {
        let answer = get(&server).await;
        assert_eq!(text(&answer), "the body");
        assert!(!answer.is_hit(), "{}", answer.cache_status());
        assert!(is_kept_from(&answer), "{:?}", answer.headers);
    }
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test]
async fn a_head_may_say_it_anew() {
    let (_upstream, server) = start(|received: &Received| {
        let reply =
            Reply::bytes("the body").with("etag", "\"a\"").with("cache-control", "no-store");
        let is_head = received.method == Method::HEAD;
        reply.with(SURROGATE, if is_head { "max-age=600" } else { "max-age=0" })
    })
    .await;
    get(&server).await;
    plain::ask(&server.client(), Method::HEAD, "/page", &[]).await;
    let hit = get(&server).await;
    assert!(hit.is_hit() && is_kept_from(&hit), "{}", hit.cache_status());
}

#[tokio::test]
async fn a_model_route_that_obeys_its_upstream_may_heed_it_too() {
    for (obeys, is_hit) in [(true, false), (false, true)] {
        let upstream = Upstream::start(|_: &Received| {
            let reply = Reply::json(&embedding(0.5)).with(SURROGATE, "no-store");
            reply.with("cache-control", "max-age=60")
        })
        .await;
        let config = format!("[[route]]\nobey_upstream = {obeys}\nsurrogate_control = true");
        let server = Server::start(Setup::in_front_of(&upstream).config(&config)).await;
        let first = server.client().ask(EMBEDDINGS, &question("a")).await;
        let second = server.client().ask(EMBEDDINGS, &question("a")).await;
        assert_eq!(second.is_hit(), is_hit, "{}", second.cache_status());
        assert!(is_kept_from(&first) && is_kept_from(&second));
    }
}
