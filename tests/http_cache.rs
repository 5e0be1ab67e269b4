//! HTTP at large, by the rules of a shared cache (RFC 9111): what is stored, what answers, what is
//! validated, and what makes it invalid.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::{self, text, with};
use black_box_tests::upstream::{Gate, Received};
use black_box_tests::{Answer, Reply, Server, Setup, Upstream, eventually};
use http::Method;

/// A server in front of an upstream that counts its answers in their bodies, each with these
/// fields.
async fn counting(fields: &'static [(&'static str, &'static str)]) -> (Upstream, Server) {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let reply = Reply::bytes(format!("answer {}", calls.fetch_add(1, Ordering::Relaxed)));
        with(reply, fields)
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    (upstream, server)
}

async fn get(server: &Server, path: &str, fields: &[(&str, &str)]) -> Answer {
    ask(server, Method::GET, path, fields).await
}

async fn ask(server: &Server, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    plain::ask(&server.client(), method, path, fields).await
}

#[tokio::test]
async fn a_get_is_answered_from_the_cache_for_as_long_as_the_upstream_says() {
    let (upstream, server) = counting(&[("cache-control", "max-age=60")]).await;
    let first = get(&server, "/page?a=1", &[]).await;
    assert_eq!((first.status.as_u16(), text(&first)), (200, "answer 0"));
    assert!(first.cache_status().contains("; stored"), "{}", first.cache_status());
    let second = get(&server, "/page?a=1", &[]).await;
    assert!(second.is_hit(), "{}", second.cache_status());
    assert_eq!(text(&second), "answer 0");
    assert_eq!(second.field("cache-control"), "max-age=60");
    assert_eq!(text(&get(&server, "/page?a=2", &[]).await), "answer 1", "another query");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn an_answer_that_says_nothing_of_a_lifetime_is_not_stored() {
    let (upstream, server) = counting(&[]).await;
    for _ in 0..2 {
        let answer = get(&server, "/page", &[]).await;
        assert!(answer.cache_status().contains("detail=no-lifetime"), "{}", answer.cache_status());
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn what_must_not_be_stored_is_not() {
    for (fields, reason) in [
        (&[("cache-control", "no-store, max-age=60")][..], "no-store"),
        (&[("cache-control", "private, max-age=60")], "private"),
        (&[("cache-control", "max-age=60"), ("vary", "*")], "vary-any"),
        (&[("cache-control", "max-age=60"), ("set-cookie", "a=1")], "set-cookie"),
    ] {
        let (upstream, server) = counting(fields).await;
        for _ in 0..2 {
            let answer = get(&server, "/page", &[]).await;
            let status = answer.cache_status().to_owned();
            assert!(status.contains(&format!("detail={reason}")), "{fields:?}: {status}");
        }
        assert_eq!(upstream.calls(), 2, "{fields:?}");
    }
}

#[tokio::test]
async fn an_answer_to_a_request_with_authorization_is_stored_only_where_the_upstream_lets_it() {
    let key = [("authorization", "Basic dXNlcjpwYXNz")];
    let (upstream, server) = counting(&[("cache-control", "max-age=60")]).await;
    get(&server, "/page", &key).await;
    assert_eq!(text(&get(&server, "/page", &key).await), "answer 1");
    assert_eq!(upstream.calls(), 2);
    let (_upstream, server) = counting(&[("cache-control", "public, max-age=60")]).await;
    get(&server, "/page", &key).await;
    assert!(get(&server, "/page", &key).await.is_hit());
    let other = get(&server, "/page", &[("authorization", "Basic b3RoZXI6cGFzcw==")]).await;
    assert_eq!(text(&other), "answer 1", "another credential is another tenant");
}

#[tokio::test]
async fn cookies_tell_callers_apart() {
    let (_upstream, server) = counting(&[("cache-control", "max-age=60")]).await;
    assert_eq!(text(&get(&server, "/page", &[("cookie", "id=1")]).await), "answer 0");
    assert_eq!(text(&get(&server, "/page", &[("cookie", "id=2")]).await), "answer 1");
    assert_eq!(text(&get(&server, "/page", &[("cookie", "id=1")]).await), "answer 0");
}

#[tokio::test]
async fn answers_that_vary_are_kept_apart_and_found_again() {
    let upstream = Upstream::start(|received: &Received| {
        let language =
            received.headers.get("accept-language").map_or("none", |v| v.to_str().unwrap());
        Reply::bytes(format!("in {language}"))
            .with("cache-control", "max-age=60")
            .with("vary", "Accept-Language")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for round in 0..2 {
        for language in ["en", "de", "fr"] {
            let answer = get(&server, "/page", &[("accept-language", language)]).await;
            assert_eq!(text(&answer), format!("in {language}"));
            assert_eq!(answer.is_hit(), round == 1, "{language}: {}", answer.cache_status());
        }
        assert_eq!(text(&get(&server, "/page", &[]).await), "in none");
    }
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn a_storm_of_variants_gives_each_caller_its_own() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |received: &Received| {
        let language = received.headers.get("accept-language").unwrap().to_str().unwrap();
        Reply::bytes(format!("in {language}"))
            .with("cache-control", "max-age=60")
            .with("vary", "accept-language")
            .held_by(&holds)
    })
    .await;
    let server = Arc::new(Server::start(Setup::in_front_of(&upstream)).await);
    let callers: Vec<_> = (0..20)
        .map(|index| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let language = ["en", "de"][index % 2];
                let answer = get(&server, "/page", &[("accept-language", language)]).await;
                assert_eq!(text(&answer), format!("in {language}"));
            })
        })
        .collect();
    let begun = || async { (upstream.calls() >= 1).then_some(()) };
    eventually("a fetch is under way", begun).await;
    gate.open();
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn spellings_of_a_field_that_a_route_normalises_are_one_variant() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        Reply::bytes(format!("answer {}", calls.fetch_add(1, Ordering::Relaxed)))
            .with("cache-control", "max-age=60")
            .with("vary", "accept-language, accept-encoding")
    })
    .await;
    let route = "[[route]]\nendpoint = \"http\"\n\
                 vary_normalize = [\"accept-language\", \"accept-encoding\"]";
    let server = Server::start(Setup::in_front_of(&upstream).config(route)).await;
    let spelled = |language, coding| [("accept-language", language), ("accept-encoding", coding)];
    get(&server, "/page", &spelled("en, de", "gzip, br;q=0.9")).await;
    let same = get(&server, "/page", &spelled("DE ,en", "br,gzip;q=1, x-unknown")).await;
    assert!(same.is_hit(), "{}", same.cache_status());
    assert_eq!(text(&get(&server, "/page", &spelled("fr", "gzip, br")).await), "answer 1");
}

#[tokio::test]
async fn an_encoded_answer_is_for_those_who_ask_alike_also_where_the_upstream_does_not_say_so() {
    let upstream = Upstream::start(|received: &Received| {
        let reply = Reply::bytes("as it is").with("cache-control", "max-age=60");
        match received.headers.contains_key("accept-encoding") {
            true => Reply::bytes("packed")
                .with("cache-control", "max-age=60")
                .with("content-encoding", "x"),
            false => reply,
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..2 {
        assert_eq!(text(&get(&server, "/page", &[("accept-encoding", "x")]).await), "packed");
        assert_eq!(text(&get(&server, "/page", &[]).await), "as it is");
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_stale_answer_is_validated_and_its_body_is_not_moved_again() {
    let upstream = Upstream::start(|received: &Received| {
        if received.headers.get("if-none-match").is_some_and(|tag| tag == "\"v1\"") {
            return Reply::bytes("").status(304).with("etag", "\"v1\"").with("x-new", "yes");
        }
        Reply::bytes("the body").with("cache-control", "no-cache").with("etag", "\"v1\"")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    assert_eq!(text(&get(&server, "/page", &[]).await), "the body");
    let confirmed = get(&server, "/page", &[]).await;
    assert_eq!((confirmed.status.as_u16(), text(&confirmed)), (200, "the body"));
    let status = confirmed.cache_status();
    assert!(status.contains("fwd=stale; fwd-status=304; stored"), "{status}");
    assert_eq!(confirmed.field("x-new"), "yes", "a 304 brings fields up to date");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_caller_that_has_the_answer_is_told_so() {
    let fields = &[
        ("cache-control", "max-age=60"),
        ("etag", "\"v1\""),
        ("last-modified", "Tue, 24 Nov 2026 00:00:00 GMT"),
    ];
    let (upstream, server) = counting(fields).await;
    get(&server, "/page", &[]).await;
    for (condition, expected) in [
        (&[("if-none-match", "\"v1\"")][..], 304),
        (&[("if-none-match", "\"v0\", W/\"v1\"")], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"v0\"")], 200),
        (&[("if-modified-since", "Tue, 24 Nov 2026 00:00:00 GMT")], 304),
        (&[("if-modified-since", "Mon, 23 Nov 2026 00:00:00 GMT")], 200),
        (
            &[("if-none-match", "\"v0\""), ("if-modified-since", "Tue, 24 Nov 2026 00:00:00 GMT")],
            200,
        ),
    ] {
        let answer = get(&server, "/page", condition).await;
        assert!(answer.is_hit(), "{condition:?}: {}", answer.cache_status());
        assert_eq!(answer.status.as_u16(), expected, "{condition:?}");
        if expected == 304 {
            assert!(answer.body.is_empty());
            assert_eq!(answer.field("etag"), "\"v1\"");
        }
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_condition_on_a_miss_fetches_the_whole_answer_and_is_met_from_it() {
    let (upstream, server) = counting(&[("cache-control", "max-age=60"), ("etag", "\"v1\"")]).await;
    let first = get(&server, "/page", &[("if-none-match", "\"v1\"")]).await;
    assert_eq!(first.status.as_u16(), 304);
    assert!(upstream.received()[0].headers.get("if-none-match").is_none());
    let second = get(&server, "/page", &[]).await;
    assert!(second.is_hit(), "{}", second.cache_status());
    assert_eq!(text(&second), "answer 0");
}

#[tokio::test]
async fn a_head_is_answered_from_what_a_get_has_stored() {
    let (upstream, server) = counting(&[("cache-control", "max-age=60")]).await;
    get(&server, "/page", &[]).await;
    let head = ask(&server, Method::HEAD, "/page", &[]).await;
    assert!(head.is_hit(), "{}", head.cache_status());
    assert!(head.body.is_empty());
    assert_eq!(head.field("content-length"), "8");
    assert_eq!(upstream.calls(), 1);
    let miss = ask(&server, Method::HEAD, "/other", &[]).await;
    assert!(miss.cache_status().contains("detail=head"), "{}", miss.cache_status());
}

#[tokio::test]
async fn an_unsafe_method_invalidates_its_url_and_those_that_its_answer_names() {
    let upstream = Upstream::start(|received: &Received| match received.method.as_str() {
        "GET" => Reply::bytes("stored").with("cache-control", "max-age=60"),
        "DELETE" => Reply::bytes("no").status(500),
        _ => Reply::bytes("")
            .status(201)
            .with("location", "/made")
            .with("content-location", "http://elsewhere.example/page"),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let paths = ["/page", "/made", "/other"];
    for path in paths {
        get(&server, path, &[]).await;
        assert!(get(&server, path, &[]).await.is_hit());
    }
    ask(&server, Method::DELETE, "/page", &[]).await;
    assert!(get(&server, "/page", &[]).await.is_hit(), "a method that failed changed nothing");
    ask(&server, Method::from_bytes(b"WHATEVER").unwrap(), "/page", &[]).await;
    assert!(!get(&server, "/page", &[]).await.is_hit());
    assert!(!get(&server, "/made", &[]).await.is_hit());
    assert!(get(&server, "/other", &[]).await.is_hit());
}

#[tokio::test]
async fn a_missing_page_is_remembered_for_a_short_while() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        Reply::bytes(format!("none {}", calls.fetch_add(1, Ordering::Relaxed))).status(404)
    })
    .await;
    let route = "[[route]]\nendpoint = \"http\"\nnegative_for = \"300ms\"";
    let server = Server::start(Setup::in_front_of(&upstream).config(route)).await;
    assert_eq!(text(&get(&server, "/page", &[]).await), "none 0");
    let hit = get(&server, "/page", &[]).await;
    assert!(hit.is_hit() && hit.status.as_u16() == 404, "{}", hit.cache_status());
    eventually("the negative entry expires", || async {
        (text(&get(&server, "/page", &[]).await) == "none 1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_request_asks_of_the_cache_is_done() {
    let (upstream, server) = counting(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]).await;
    let server = &server;
    let ask = |directive: &'static str| async move {
        get(server, "/page", &[("cache-control", directive)]).await
    };
    let none = ask("only-if-cached").await;
    assert_eq!(none.status.as_u16(), 504);
    assert!(!ask("max-age=10").await.is_hit());
    assert!(ask("max-age=10, min-fresh=5").await.is_hit());
    assert!(!ask("min-fresh=70").await.is_hit(), "it is not fresh for so long");
    assert!(!ask("no-cache").await.is_hit());
    assert!(!ask("max-age=0").await.is_hit());
    assert!(ask("only-if-cached").await.is_hit());
    let none = get(server, "/page", &[("pragma", "no-cache")]).await;
    assert!(!none.is_hit(), "{}", none.cache_status());
    assert_eq!(upstream.calls(), 5);
}

#[tokio::test]
async fn what_is_not_shareable_is_fetched_by_each_caller_for_itself() {
    let upstream = Upstream::start(|received: &Received| {
        let caller = received.headers.get("x-caller").unwrap().to_str().unwrap();
        Reply::bytes(format!("for {caller}")).with("cache-control", "private")
    })
    .await;
    let server = Arc::new(Server::start(Setup::in_front_of(&upstream)).await);
    let callers: Vec<_> = (0..10)
        .map(|index| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let caller = index.to_string();
                let answer = get(&server, "/page", &[("x-caller", &caller)]).await;
                assert_eq!(text(&answer), format!("for {caller}"));
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(upstream.calls(), 10);
}

#[tokio::test]
async fn a_route_without_lifetimes_turns_the_rules_of_http_off() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |received: &Received| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        let status = if received.uri.path() == "/none" { 404 } else { 200 };
        Reply::bytes(format!("answer {count}"))
            .status(status)
            .with("cache-control", "max-age=60")
            .with("etag", "\"a\"")
    })
    .await;
    let off = "[[route]]\nendpoint = \"http\"\nobey_upstream = false\nfresh_for = \"0s\"\n\
               stale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"\nnegative_for = \"0s\"";
    let server = Server::start(Setup::in_front_of(&upstream).config(off)).await;
    for path in ["/page", "/none"] {
        for _ in 0..2 {
            let answer = get(&server, path, &[]).await;
            assert!(answer.cache_status().contains("fwd=miss"), "{}", answer.cache_status());
        }
    }
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn the_cookie_of_a_public_answer_is_for_who_asked_alone() {
    let fields = &[("cache-control", "public, max-age=60"), ("set-cookie", "id=1")];
    let (_upstream, server) = counting(fields).await;
    assert_eq!(get(&server, "/page", &[]).await.field("set-cookie"), "id=1");
    let hit = get(&server, "/page", &[]).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(hit.field("set-cookie"), "");
}

#[tokio::test]
async fn what_proxies_add_does_not_reach_the_upstream_where_all_callers_share_its_answer() {
    let upstream = Upstream::start(|received: &Received| {
        let host = received.headers.get("x-forwarded-host").map_or("ours", |v| v.to_str().unwrap());
        Reply::bytes(format!("links to {host}")).with("cache-control", "public, max-age=60")
    })
    .await;
    let shared = "[[route]]\nendpoint = \"http\"\nscope = \"shared\"\n\
                  allow_unverified_callers = true";
    let server = Server::start(Setup::in_front_of(&upstream).config(shared)).await;
    let poisoned = get(&server, "/page", &[("x-forwarded-host", "evil.example")]).await;
    assert_eq!(text(&poisoned), "links to ours");
    assert_eq!(text(&get(&server, "/page", &[("accept", "text/html")]).await), "links to ours");
    let accepted = upstream.received()[0].headers.get("accept").is_some();
    assert!(accepted, "what negotiates goes on");
}

#[tokio::test]
async fn an_invalidation_that_was_answered_survives_a_kill() {
    let upstream = Upstream::start(|received: &Received| match received.method.as_str() {
        "GET" => Reply::bytes("stored").with("cache-control", "max-age=600"),
        _ => Reply::bytes("done"),
    })
    .await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    assert!(get(&server, "/page", &[]).await.is_hit());
    ask(&server, Method::POST, "/page", &[]).await;
    server.kill().await;
    let server = server.start_again().await;
    assert!(!get(&server, "/page", &[]).await.is_hit());
}

#[tokio::test]
async fn a_head_that_is_late_takes_nothing_newer_away() {
    for tag in ["\"a\"", "\"c\""] {
        late_head(tag).await;
    }
}

/// A HEAD that is answered by this tag when what it asks about has been fetched anew.
async fn late_head(tag: &'static str) {
    let gate = Arc::new(Gate::closed());
    let (held, gets) = (Arc::clone(&gate), AtomicUsize::new(0));
    let upstream = Upstream::start(move |received: &Received| {
        let older = || Reply::bytes("older").with("etag", "\"a\"");
        match (received.method.as_str(), gets.load(Ordering::Relaxed)) {
            ("HEAD", _) => {
                let head = Reply::bytes("older").with("etag", tag);
                head.with("cache-control", "max-age=600").held_by(&held)
            }
            (_, count) => {
                gets.fetch_add(1, Ordering::Relaxed);
                match count {
                    0 => older().with("cache-control", "no-cache"),
                    _ => Reply::bytes("newer").with("cache-control", "max-age=600"),
                }
            }
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    assert_eq!(text(&get(&server, "/page", &[]).await), "older");
    let meanwhile = async {
        eventually("it is asked", || async { (upstream.calls() == 2).then_some(()) }).await;
        assert_eq!(text(&get(&server, "/page", &[]).await), "newer");
        gate.open();
    };
    tokio::join!(ask(&server, Method::HEAD, "/page", &[]), meanwhile);
    let calls = upstream.calls();
    assert_eq!(text(&get(&server, "/page", &[]).await), "newer");
    assert_eq!(upstream.calls(), calls, "and it is fresh: {tag}");
}

#[tokio::test]
async fn a_head_brings_up_to_date_what_a_get_has_stored() {
    let upstream = Upstream::start(|received: &Received| {
        let reply = Reply::bytes("the body").with("etag", "\"a\"");
        match received.method.as_str() {
            "HEAD" => reply.with("cache-control", "max-age=600").with("x-new", "yes"),
            _ => reply.with("cache-control", "no-cache"),
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    let head = ask(&server, Method::HEAD, "/page", &[]).await;
    assert!(!head.is_hit(), "{}", head.cache_status());
    let hit = get(&server, "/page", &[]).await;
    assert!(hit.is_hit(), "the HEAD has made it fresh: {}", hit.cache_status());
    assert_eq!((text(&hit), hit.field("x-new")), ("the body", "yes"));
    assert_eq!(upstream.calls(), 2);
}
