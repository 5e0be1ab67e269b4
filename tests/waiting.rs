//! Whoever waits for a fetch waits no longer than it may, and for nothing that is not for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::text;
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Reply, Server, Setup, Upstream, eventually};
use futures_util::future::join_all;
use http::Method;

const CACHE: &str = "[cache]\ndisk_bytes_max = \"64MiB\"\n";

/// An upstream whose replies are told by the number of the call.
async fn upstream(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Upstream {
    let calls = AtomicUsize::new(0);
    Upstream::start(move |_| reply(calls.fetch_add(1, Ordering::Relaxed))).await
}

async fn ask(server: &Server) -> Answer {
    server.client().ask(EMBEDDINGS, &question("how long?")).await
}

#[tokio::test]
async fn who_has_waited_for_flight_wait_max_gets_a_504_and_the_fetch_goes_on() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = upstream(move |_| Reply::json(&embedding(0.25)).held_by(&holds)).await;
    let bound = format!("{CACHE}flight_wait_max = \"300ms\"");
    let server = Server::start(Setup::in_front_of(&upstream).config(&bound)).await;
    // One leads, the others follow; and so does one who comes later.
    let mut answers = join_all((0..4).map(|_| ask(&server))).await;
    answers.push(ask(&server).await);
    for answer in answers {
        assert_eq!(answer.status, 504, "{answer:?}");
        assert_eq!(answer.json()["code"], "upstream-timeout");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("cache.flight_wait_max = 300ms"), "{detail}");
    }
    assert_eq!(upstream.calls(), 1, "all waited for one fetch");
    gate.open();
    eventually("the answer is stored", || async {
        (server.stats().await["stores"] == 1).then_some(())
    })
    .await;
    let hit = ask(&server).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!((hit.json(), upstream.calls()), (embedding(0.25), 1));
}

#[tokio::test]
async fn a_stale_entry_that_may_stand_in_answers_who_has_waited_so_long() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = upstream(move |call| match call {
        0 => Reply::bytes("old")
            .with("cache-control", "max-age=1, stale-if-error=600")
            .with("age", "5"),
        _ => Reply::bytes("new").with("cache-control", "max-age=600").held_by(&holds),
    })
    .await;
    // What is stale when it comes is for one caller, after whom nobody would wait.
    let bound = format!("{CACHE}flight_wait_max = \"300ms\"\nhit_for_miss_for = \"0s\"");
    let server = Server::start(Setup::in_front_of(&upstream).config(&bound)).await;
    let client = server.client();
    client.get("/page").await;
    for answer in join_all((0..4).map(|_| client.get("/page"))).await {
        let said = answer.cache_status();
        assert!(said.contains("; fwd=stale; ttl=-"), "{said}");
        assert!(said.ends_with("; detail=stale-if-error"), "{said}");
        assert_eq!((answer.status.as_u16(), text(&answer)), (200, "old"));
    }
    assert_eq!(upstream.calls(), 2, "all waited for one fetch");
    gate.open();
    let new = || async { (text(&client.get("/page").await) == "new").then_some(()) };
    eventually("the fetch has gone on, and is stored", new).await;
    assert_eq!(upstream.calls(), 2);
}

/// An upstream whose answers are for one caller until it is asked to share them. All but the first
/// are held by the gate.
async fn private_at_first(gate: &Arc<Gate>) -> (Arc<AtomicUsize>, Upstream) {
    let (holds, calls) = (Arc::clone(gate), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&calls);
    let upstream = Upstream::start(move |received| {
        if received.method != Method::GET {
            return Reply::bytes("changed");
        }
        let is_first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        let shares = received.headers.contains_key("x-shares");
        let directives = if shares { "public, max-age=600" } else { "private" };
        let reply = Reply::bytes("answer").with("cache-control", directives);
        if is_first || shares { reply } else { reply.held_by(&holds) }
    });
    (calls, upstream.await)
}

/// Asks five times at once, and opens the gate when so many of the calls are made, which no more
/// join while the gate is closed.
async fn ask_together(server: &Server, gate: &Gate, calls: &AtomicUsize, expected: usize) {
    let lookups = "cache_server_tier_read_seconds_count{tier=\"memory\"}";
    let before = server.metric(lookups).await;
    let client = server.client();
    tokio::join!(join_all((0..5).map(|_| client.get("/page"))), async {
        eventually("all have looked in vain", || async {
            (server.metric(lookups).await >= before + 5.0).then_some(())
        })
        .await;
        let made = || async { (calls.load(Ordering::Relaxed) >= expected).then_some(()) };
        eventually(&format!("{expected} calls"), made).await;
        assert_eq!(calls.load(Ordering::Relaxed), expected, "and no more while they are held");
        gate.open();
    });
}

#[tokio::test]
async fn after_an_answer_for_one_caller_nobody_waits_for_anybody() {
    let gate = Arc::new(Gate::closed());
    let (calls, upstream) = private_at_first(&gate).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    server.client().get("/page").await;
    let metric = "cache_server_hit_for_miss_total";
    assert_eq!(server.metric(metric).await, 0.0);
    ask_together(&server, &gate, &calls, 1 + 5).await;
    assert_eq!(server.metric(metric).await, 5.0);
}

#[tokio::test]
async fn without_hit_for_miss_they_wait_for_one_another_each_time() {
    let gate = Arc::new(Gate::closed());
    let (calls, upstream) = private_at_first(&gate).await;
    let off = format!("{CACHE}hit_for_miss_for = \"0s\"");
    let server = Server::start(Setup::in_front_of(&upstream).config(&off)).await;
    server.client().get("/page").await;
    ask_together(&server, &gate, &calls, 1 + 1).await;
    assert_eq!(calls.load(Ordering::Relaxed), 1 + 5, "then each asks for itself");
    assert_eq!(server.metric("cache_server_hit_for_miss_total").await, 0.0);
}

#[tokio::test]
async fn after_an_answer_that_may_be_shared_they_wait_for_one_another_again() {
    let gate = Arc::new(Gate::closed());
    let (calls, upstream) = private_at_first(&gate).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    client.get("/page").await;
    let shared = Answer::of(client.request(Method::GET, "/page").header("x-shares", "1")).await;
    assert!(shared.cache_status().contains("; stored"), "{}", shared.cache_status());
    // What changes the page takes its entry away, so that all look in vain.
    assert_eq!(client.ask("/page", &question("change")).await.status, 200);
    ask_together(&server, &gate, &calls, 2 + 1).await;
}
