//! A stale entry answers while it is refreshed, or when the upstream fails; without those
//! windows it is as if it were not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Reply, Server, Setup, Upstream, eventually};

const OLD: f64 = 0.25;
const NEW: f64 = 0.75;

/// An upstream that gives the old answer first, and then what `later` says.
async fn upstream_then(later: impl Fn() -> Reply + Send + Sync + 'static) -> Upstream {
    let calls = AtomicUsize::new(0);
    // Closed after each answer, so that a refused connection later on is noticed.
    Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::json(&embedding(OLD)).with("connection", "close"),
        _ => later().with("connection", "close"),
    })
    .await
}

fn windows(while_revalidate: &str, if_error: &str) -> String {
    format!(
        "[[route]]\nfresh_for = \"50ms\"\nstale_while_revalidate = \"{while_revalidate}\"\n\
         stale_if_error = \"{if_error}\""
    )
}

async fn ask(server: &Server) -> Answer {
    server.client().ask(EMBEDDINGS, &question("how old?")).await
}

/// Asks until the answer's `Cache-Status` has this in it.
async fn ask_until(server: &Server, what: &str) -> Answer {
    eventually(&format!("an answer with {what}"), || async {
        Some(ask(server).await).filter(|answer| answer.cache_status().contains(what))
    })
    .await
}

#[tokio::test]
async fn a_stale_entry_answers_at_once_while_one_refresh_runs_behind() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = upstream_then(move || Reply::json(&embedding(NEW)).held_by(&holds)).await;
    let setup = Setup::in_front_of(&upstream).config(&windows("1h", "0s"));
    let server = Server::start(setup).await;

    assert_eq!(ask(&server).await.json(), embedding(OLD));
    // Nobody waits for the refresh: it is held all the while.
    let stale = ask_until(&server, "cache-server; hit; ttl=-").await;
    assert_eq!((stale.status.as_u16(), stale.json()), (200, embedding(OLD)));
    let begun = || async { (upstream.calls() >= 2).then_some(()) };
    eventually("the refresh is under way", begun).await;
    for _ in 0..20 {
        assert_eq!(ask(&server).await.json(), embedding(OLD));
    }
    assert_eq!(upstream.calls(), 2, "one refresh, however many ask");

    gate.open();
    eventually("the new answer", || async {
        let answer = ask(&server).await;
        assert!(answer.is_hit(), "nobody waits: {}", answer.cache_status());
        (answer.json() == embedding(NEW)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_stale_entry_in_place() {
    let upstream = upstream_then(|| Reply::bytes("{}").status(503)).await;
    let setup = Setup::in_front_of(&upstream).config(&windows("1h", "1h"));
    let server = Server::start(setup).await;
    ask(&server).await;
    eventually("three refreshes that failed", || async {
        let answer = ask(&server).await;
        assert!(answer.is_hit(), "{}", answer.cache_status());
        assert_eq!((answer.status.as_u16(), answer.json()), (200, embedding(OLD)));
        (upstream.calls() >= 4).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stale_entry_answers_when_the_upstream_fails_and_says_why() {
    for status in [500, 502, 503, 504, 529, 429] {
        let upstream = upstream_then(move || Reply::bytes("{}").status(status)).await;
        let setup = Setup::in_front_of(&upstream).config(&windows("0s", "1h"));
        let server = Server::start(setup).await;
        ask(&server).await;
        let stale = ask_until(&server, "fwd=stale").await;
        let cache_status = stale.cache_status();
        assert!(cache_status.contains(&format!("; fwd-status={status}")), "{cache_status}");
        assert!(cache_status.ends_with("; detail=stale-if-error"), "{cache_status}");
        assert_eq!((stale.status.as_u16(), stale.json()), (200, embedding(OLD)), "{status}");
    }
}

#[tokio::test]
async fn a_stale_entry_answers_when_the_upstream_cannot_be_reached() {
    let upstream = upstream_then(|| Reply::bytes("")).await;
    let setup = Setup::in_front_of(&upstream).config(&windows("0s", "1h"));
    let server = Server::start(setup).await;
    ask(&server).await;
    upstream.stop().await;
    let stale = ask_until(&server, "fwd=stale").await;
    let cache_status = stale.cache_status();
    assert!(cache_status.ends_with("; detail=stale-if-error"), "{cache_status}");
    assert!(!cache_status.contains("fwd-status"), "nobody answered: {cache_status}");
    assert_eq!((stale.status.as_u16(), stale.json()), (200, embedding(OLD)));
}

#[tokio::test]
async fn a_stale_entry_is_replaced_when_the_upstream_is_well() {
    let upstream = upstream_then(|| Reply::json(&embedding(NEW))).await;
    let setup = Setup::in_front_of(&upstream).config(&windows("0s", "1h"));
    let server = Server::start(setup).await;
    ask(&server).await;
    let answer = ask_until(&server, "fwd=stale").await;
    let cache_status = answer.cache_status();
    assert!(cache_status.contains("; fwd=stale; fwd-status=200; stored"), "{cache_status}");
    assert_eq!(answer.json(), embedding(NEW));
}

#[tokio::test]
async fn an_error_that_is_the_callers_own_is_not_papered_over() {
    for status in [400, 401, 404] {
        let upstream = upstream_then(move || Reply::bytes("{}").status(status)).await;
        let setup = Setup::in_front_of(&upstream).config(&windows("0s", "1h"));
        let server = Server::start(setup).await;
        ask(&server).await;
        let answer = ask_until(&server, &format!("fwd-status={status}")).await;
        assert_eq!(answer.status, status);
    }
}

#[tokio::test]
async fn without_stale_windows_an_old_entry_is_a_miss_even_when_the_upstream_fails() {
    let upstream = upstream_then(|| Reply::bytes("{}").status(503)).await;
    let setup = Setup::in_front_of(&upstream).config(&windows("0s", "0s"));
    let server = Server::start(setup).await;
    ask(&server).await;
    let answer = ask_until(&server, "cache-server; fwd=miss; fwd-status=503").await;
    assert_eq!(answer.status, 503);
}
