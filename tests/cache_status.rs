//! `Cache-Status` (RFC 9211): what we say of each way that a request can go, and what we do with
//! what caches nearer to the upstream have said. Every answer that these and all other tests look at
//! is read by a parser of structured fields besides.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::{ask, field, text, with};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::{Gate, Received};
use black_box_tests::{Answer, Client, Reply, Server, Setup, Upstream, eventually};
use http::Method;

/// Gets with these fields.
async fn get(client: &Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    ask(client, Method::GET, path, fields).await
}

/// An upstream whose pages differ by their paths.
fn page(received: &Received) -> Reply {
    let asked_again = received.headers.contains_key("if-none-match");
    let reply = Reply::bytes("page").with("etag", "\"v1\"");
    match received.uri.path() {
        "/fresh" => reply.with("cache-control", "max-age=600"),
        "/stale" if asked_again => with(
            Reply::bytes("").status(304).without_length(),
            &[("cache-control", "max-age=60"), ("age", "61"), ("etag", "\"v1\"")],
        ),
        "/stale" => with(reply, &[("cache-control", "max-age=60"), ("age", "61")]),
        "/old" => with(
            reply,
            &[("cache-control", "max-age=60, stale-while-revalidate=600"), ("age", "70")],
        ),
        "/varies" => with(reply, &[("cache-control", "max-age=600"), ("vary", "accept-language")]),
        _ => reply,
    }
}

// RFC 9211 sections 2.1 to 2.8.
#[tokio::test]
async fn each_way_that_a_request_can_go_is_told_by_its_reason() {
    let upstream = Upstream::start(page).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let no_cache = &[("cache-control", "no-cache")][..];
    let (english, german) = (&[("accept-language", "en")][..], &[("accept-language", "de")][..]);
    for (method, path, fields, said) in [
        (Method::HEAD, "/fresh", &[][..], "fwd=miss; fwd-status=200; detail=head"),
        (Method::GET, "/fresh", no_cache, "fwd=miss; fwd-status=200; stored; key=\"ks1_"),
        (Method::GET, "/fresh", &[], "hit; ttl="),
        (Method::HEAD, "/fresh", &[], "hit; ttl="),
        (Method::GET, "/fresh", no_cache, "fwd=request; fwd-status=200; stored; key=\"ks1_"),
        (Method::HEAD, "/fresh", no_cache, "fwd=request; fwd-status=200; detail=head"),
        (Method::GET, "/fresh", &[("range", "bytes=0-1")], "hit; ttl="),
        (Method::GET, "/fresh", &[("accept", "text/event-stream")], "fwd=bypass; fwd-status=200; "),
        (Method::PUT, "/fresh", &[], "fwd=method; fwd-status=200; detail=not-a-model-route"),
        (Method::GET, "/fresh", &[], "fwd=miss; fwd-status=200; stored"),
        (
            Method::GET,
            "/stale",
            &[("range", "bytes=0-1")],
            "fwd=miss; fwd-status=200; detail=range",
        ),
        (Method::GET, "/stale", &[], "fwd=miss; fwd-status=200; stored"),
        (Method::GET, "/stale", &[], "fwd=stale; fwd-status=304; stored"),
        (Method::GET, "/stale", no_cache, "fwd=stale; fwd-status=304; stored"),
        (Method::HEAD, "/stale", &[], "fwd=stale; fwd-status=200; detail=head"),
        (Method::GET, "/old", &[], "fwd=miss; fwd-status=200; stored"),
        (Method::GET, "/old", &[], "hit; ttl=-1"),
        (Method::GET, "/varies", english, "fwd=miss; fwd-status=200; stored"),
        (Method::GET, "/varies", english, "hit; ttl="),
        (Method::GET, "/varies", german, "fwd=vary-miss; fwd-status=200; stored"),
        (Method::GET, "/varies", german, "hit; ttl="),
        (Method::HEAD, "/varies", &[], "fwd=vary-miss; fwd-status=200; detail=head"),
        (Method::GET, "/none", &[], "fwd=miss; fwd-status=200; detail=no-lifetime; key="),
    ] {
        let answer = ask(&client, method.clone(), path, fields).await;
        let (case, told) = (format!("{method} {path} {fields:?}"), answer.cache_status());
        assert!(told.starts_with(&format!("cache-server; {said}")), "{case}: {told}");
    }
}

#[tokio::test]
async fn what_was_purged_softly_is_told_as_stale() {
    let upstream = Upstream::start(page).await;
    let setup = Setup::in_front_of(&upstream).config("[server]\npurge_from = [\"127.0.0.0/8\"]");
    let server = Server::start(setup).await;
    let client = server.client();
    get(&client, "/fresh", &[]).await;
    let purge = Method::from_bytes(b"PURGE").expect("a method");
    let purged = ask(&client, purge, "/fresh", &[("fastly-soft-purge", "1")]).await;
    assert_eq!(purged.status, 200, "{purged:?}");
    let answer = get(&client, "/fresh", &[]).await;
    let said = "cache-server; fwd=stale; fwd-status=200; stored";
    assert!(answer.cache_status().starts_with(said), "{}", answer.cache_status());
}

#[tokio::test]
async fn who_reads_along_is_told_the_reason_of_the_fetch() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |received| match field(received, "accept-language") {
        "de" => page(received).held_by(&holds),
        _ => page(received),
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server.client(), "/varies", &[("accept-language", "en")]).await;
    // None of these is read from disk: the record of variants is in memory.
    let lookups =
        async || server.metric("cache_server_tier_read_seconds_count{tier=\"memory\"}").await;
    let before = lookups().await;
    let asking: Vec<_> = (0..2)
        .map(|_| {
            let client = server.client();
            tokio::spawn(async move { get(&client, "/varies", &[("accept-language", "de")]).await })
        })
        .collect();
    eventually("both look in vain", || async { (lookups().await >= before + 2.0).then_some(()) })
        .await;
    gate.open();
    let mut told = Vec::new();
    for asking in asking {
        let answer = asking.await.expect("it ends");
        assert!(answer.cache_status().contains("fwd=vary-miss; fwd-status=200; "), "{answer:?}");
        told.push(answer.cache_status().contains("; collapsed; stored"));
    }
    told.sort_unstable();
    assert_eq!((told, upstream.calls()), (vec![false, true], 2));
}

#[tokio::test]
async fn a_lifetime_without_bounds_is_told_in_as_many_digits_as_there_may_be() {
    for says in ["max-age=99999999999999999999", "max-age=9223372036854775807"] {
        let upstream =
            Upstream::start(move |_| Reply::bytes("page").with("cache-control", says)).await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        get(&server.client(), "/page", &[]).await;
        let hit = get(&server.client(), "/page", &[]).await;
        assert!(hit.is_hit() && hit.ttl_s() > 1_000_000_000, "{}", hit.cache_status());
    }
}

/// Whether a member begins so.
fn assert_members(answer: &Answer, expected: &[&str]) {
    let members = answer.cache_members();
    let are_alike = members.iter().zip(expected).all(|(said, begins)| said.starts_with(begins));
    assert!(members.len() == expected.len() && are_alike, "{expected:?}: {members:?}");
}

// RFC 9211 section 2.
#[tokio::test]
async fn three_servers_in_line_have_three_members_from_the_upstream_to_the_caller() {
    const MISS: &str = "cache-server; fwd=miss; fwd-status=200; stored; key=";
    const HIT: &str = "cache-server; hit; ttl=";
    let upstream =
        Upstream::start(|_| Reply::json(&embedding(0.25)).with("cache-control", "max-age=600"));
    let upstream = upstream.await;
    let in_front = |address: &str| {
        let url = format!("http://{address}");
        Server::start(Setup::default().argument("--upstream").argument(&url))
    };
    let last = Server::start(Setup::in_front_of(&upstream)).await;
    let middle = in_front(&last.address).await;
    let first = in_front(&middle.address).await;
    assert_members(&get(&middle.client(), "/page", &[]).await, &[MISS, MISS]);
    assert_members(&get(&first.client(), "/page", &[]).await, &[MISS, HIT, MISS]);
    assert_members(&get(&first.client(), "/page", &[]).await, &[MISS, HIT, HIT]);
    assert_members(&get(&first.client(), "/other", &[]).await, &[MISS, MISS, MISS]);
    let passed = "cache-server; fwd=method; fwd-status=200; detail=not-a-model-route";
    let answer = first.client().ask("/v1/files", &question("x")).await;
    assert_members(&answer, &[passed, passed, passed]);
    // What a provider's edge says of an answer is for who caused it alone.
    assert_members(&first.client().ask(EMBEDDINGS, &question("x")).await, &[MISS, MISS, MISS]);
    assert_members(&first.client().ask(EMBEDDINGS, &question("x")).await, &[HIT]);
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn what_caches_before_us_say_is_replayed_line_by_line_with_ours_behind_it() {
    let (gate, calls) = (Arc::new(Gate::closed()), AtomicUsize::new(0));
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let reply = with(
            Reply::bytes("page"),
            &[
                ("cache-control", "max-age=600"),
                ("etag", "\"v1\""),
                ("cache-status", "origin; hit; ttl=30, \"Example CDN\"; fwd=uri-miss; stored"),
                ("cache-status", "edge; fwd=miss; detail=\"a, \\\"b\\\"\""),
            ],
        );
        if calls.fetch_add(1, Ordering::Relaxed) == 0 { reply } else { reply.held_by(&holds) }
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let (origin, edge) = ("origin; hit; ttl=30, \"Example CDN\"; ", "edge; fwd=miss; detail=\"a, ");
    let client = server.client();
    let first = get(&client, "/page", &[]).await;
    assert_members(&first, &[origin, edge, "cache-server; fwd=miss; fwd-status=200; stored"]);
    assert_members(&get(&client, "/page", &[]).await, &[origin, edge, "cache-server; hit"]);
    let known = get(&client, "/page", &[("if-none-match", "\"v1\"")]).await;
    assert_eq!(known.status, 304);
    assert_members(&known, &[origin, edge, "cache-server; hit"]);

    let asking = [(); 2].map(|()| {
        let client = server.client();
        tokio::spawn(async move { get(&client, "/other", &[]).await })
    });
    server.misses_looked_up(3).await;
    gate.open();
    for asking in asking {
        let answer = asking.await.expect("it ends");
        assert_members(&answer, &[origin, edge, "cache-server; fwd=miss; fwd-status=200; "]);
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn what_is_no_list_or_too_long_is_left_out_and_does_not_spoil_our_member() {
    let long = format!("edge; detail=\"{}\"", "x".repeat(30_000));
    for bad in ["Hit from edge", "edge; detail=\"open", "edge,, other", "edge; Hit", long.as_str()]
    {
        let says = bad.to_owned();
        let upstream = Upstream::start(move |received| {
            let fine = received.uri.path() == "/fine" && received.method == Method::GET;
            let reply = Reply::bytes("page").with("etag", "\"v1\"").with("cache-status", "origin");
            let reply = reply.with("cache-control", "max-age=600");
            if fine { reply } else { reply.with("cache-status", &says) }
        });
        let upstream = upstream.await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        let client = server.client();
        for said in ["cache-server; fwd=miss; fwd-status=200; stored", "cache-server; hit"] {
            assert_members(&get(&client, "/page", &[]).await, &[said]);
        }
        let passed = ask(&client, Method::PUT, "/x", &[]).await;
        assert_members(&passed, &["cache-server; fwd=method"]);
        assert_members(&client.ask(EMBEDDINGS, &question("x")).await, &["cache-server; fwd=miss"]);
        // A HEAD brings the fields of an entry up to date, with nothing that is not kept of a GET.
        get(&client, "/fine", &[]).await;
        let no_cache = [("cache-control", "no-cache")];
        ask(&client, Method::HEAD, "/fine", &no_cache).await;
        let hit = get(&client, "/fine", &[]).await;
        assert_members(&hit, &["origin", "cache-server; hit"]);
        assert_eq!(text(&hit), "page");
    }
}

#[tokio::test]
async fn a_refusal_of_ours_is_signed_with_its_code_and_claims_neither_a_hit_nor_a_forward() {
    let upstream = Upstream::start(|_| Reply::bytes("page")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let refused = get(&server.client(), "/page", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(refused.status, 504);
    assert_eq!(refused.cache_members(), ["cache-server; detail=only-if-cached"]);
}
