//! Attacks on the cache of HTTP at large: answers of others, of the past, and of what was purged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use black_box_tests::plain::{ask, field, text, with};
use black_box_tests::raw::Raw;
use black_box_tests::upstream::{Gate, Received};
use black_box_tests::{Answer, Client, Reply, Server, Setup, Upstream, eventually};
use http::Method;
use serde_json::{Value, json};

const SHARED: &str =
    "[[route]]\nendpoint = \"http\"\nscope = \"shared\"\nallow_unverified_callers = true";

/// An upstream that counts its answers in their bodies, each with these fields.
async fn counting(fields: &'static [(&'static str, &'static str)]) -> Upstream {
    let calls = AtomicUsize::new(0);
    Upstream::start(move |_| {
        let reply = Reply::bytes(format!("answer {}", calls.fetch_add(1, Ordering::Relaxed)));
        with(reply, fields)
    })
    .await
}

async fn get(server: &Server, path: &str, fields: &[(&str, &str)]) -> Answer {
    ask(&server.client(), Method::GET, path, fields).await
}

async fn purge(server: &Server, targets: Value) {
    let answer = Answer::of(server.admin_client().post("/purge", &targets)).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", String::from_utf8_lossy(&answer.body));
}

// --- one caller's answer is not another's

#[tokio::test]
async fn a_head_is_answered_without_a_body_over_http_2_too() {
    let upstream = counting(&[("cache-control", "max-age=60")]).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    let head = ask(&Client::h2c(&server.address), Method::HEAD, "/page", &[]).await;
    assert!(head.is_hit(), "{}", head.cache_status());
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn urls_that_differ_in_the_spelling_of_their_query_are_two() {
    let upstream = Upstream::start(|received: &Received| {
        Reply::bytes(received.uri.to_string()).with("cache-control", "max-age=60")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let spellings = [
        "/do?first&second",
        "/do?second&first",
        "/do?a=1&b=2",
        "/do?b=2&a=1",
        "/do?a=1&&b=2",
        "/do?of=a,b",
        "/do?of=a%2Cb",
        "/do?of=a%2cb",
    ];
    for round in 0..2 {
        for path in spellings {
            let answer = get(&server, path, &[]).await;
            assert_eq!((text(&answer), answer.is_hit()), (path, round == 1));
        }
    }
}

#[tokio::test]
async fn where_answers_are_shared_a_key_in_the_query_still_tells_urls_apart() {
    let upstream = Upstream::start(|received: &Received| {
        Reply::bytes(received.uri.to_string()).with("cache-control", "max-age=60")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream).config(SHARED)).await;
    for path in ["/item?key=5", "/item?key=6", "/item"] {
        assert_eq!(text(&get(&server, path, &[]).await), path);
    }
}

#[tokio::test]
async fn where_answers_are_shared_those_to_credentials_need_a_permission() {
    for name in ["cookie", "x-api-key", "api-key", "x-goog-api-key", "authorization"] {
        let upstream = Upstream::start(move |received: &Received| {
            Reply::bytes(format!("for {}", field(received, name)))
                .with("cache-control", "max-age=60")
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream).config(SHARED)).await;
        for caller in ["id=a", "id=b"] {
            let answer = get(&server, "/page", &[(name, caller)]).await;
            assert_eq!(text(&answer), format!("for {caller}"), "{name}");
        }
    }
}

#[tokio::test]
async fn a_get_with_a_body_is_keyed_by_it() {
    let upstream = Upstream::start(|received: &Received| {
        Reply::bytes(received.body.clone()).with("cache-control", "max-age=60")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let query = Method::from_bytes(b"QUERY").unwrap();
    for method in [Method::GET, query] {
        for body in ["a", "b", ""] {
            for content_type in ["text/plain", "application/sql"] {
                let request = server.client().request(method.clone(), "/search");
                let request = request.header("content-type", content_type).body(body);
                let answer = Answer::of(request).await;
                assert_eq!(text(&answer), body, "{method} {content_type}");
            }
        }
    }
    assert_eq!(upstream.calls(), 5 + 6, "an empty body of a GET has no type");
}

#[tokio::test]
async fn variants_are_told_apart_after_a_restart_a_kill_and_a_purge_of_one() {
    let upstream = Upstream::start(|received: &Received| {
        let language = field(received, "accept-language");
        Reply::bytes(format!("in {language}"))
            .with("cache-control", "max-age=600")
            .with("vary", "accept-language")
            .with("surrogate-key", language)
    })
    .await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    let all = ["en", "de", "fr"];
    for language in all {
        get(&server, "/page", &[("accept-language", language)]).await;
    }
    server.stop().await;
    let mut server = server.start_again().await;
    for language in all {
        let answer = get(&server, "/page", &[("accept-language", language)]).await;
        assert_eq!(text(&answer), format!("in {language}"));
        assert!(answer.is_hit(), "{language}: {}", answer.cache_status());
    }
    purge(&server, json!({ "tags": ["fr"] })).await;
    server.kill().await;
    let server = server.start_again().await;
    for language in all {
        let answer = get(&server, "/page", &[("accept-language", language)]).await;
        assert_eq!(text(&answer), format!("in {language}"));
        assert_eq!(answer.is_hit(), language != "fr", "{language}: {}", answer.cache_status());
    }
}

#[tokio::test]
async fn an_answer_that_begins_to_vary_is_no_answer_for_others() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |received: &Received| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::bytes(format!("{call} in {}", field(received, "accept-language")))
            .with("cache-control", "max-age=60");
        match call {
            0 => reply,
            1..=3 => reply.with("vary", "accept-language"),
            _ => reply.with("vary", "accept, accept-language"),
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let en = [("accept-language", "en")];
    let de = [("accept-language", "de")];
    let again = [("accept-language", "en"), ("cache-control", "no-cache")];
    assert_eq!(text(&get(&server, "/page", &de).await), "0 in de");
    assert_eq!(text(&get(&server, "/page", &again).await), "1 in en");
    assert_eq!(text(&get(&server, "/page", &de).await), "2 in de");
    assert_eq!(text(&get(&server, "/page", &en).await), "1 in en");
    assert_eq!(text(&get(&server, "/page", &[]).await), "3 in ");
    assert_eq!(text(&get(&server, "/page", &again).await), "4 in en");
    let json = [("accept-language", "en"), ("accept", "application/json")];
    assert_eq!(text(&get(&server, "/page", &json).await), "5 in en");
    assert_eq!(text(&get(&server, "/page", &en).await), "4 in en");
}

#[tokio::test]
async fn more_variants_than_are_kept_are_still_told_apart() {
    let upstream = Upstream::start(|received: &Received| {
        Reply::bytes(field(received, "x-id").to_owned())
            .with("cache-control", "max-age=60")
            .with("vary", "x-id")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..2 {
        for id in 0..70 {
            let id = id.to_string();
            assert_eq!(text(&get(&server, "/page", &[("x-id", &id)]).await), id);
        }
    }
}

// --- what was purged stays away

#[tokio::test]
async fn a_url_is_purged_however_its_query_is_written() {
    let upstream = counting(&[("cache-control", "max-age=60")]).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (stored, purged) in [
        ("/page?b=2&a=1", "/page?a=1&b=2"),
        ("/page?c=%41", "/page?c=A"),
        ("/page?&d=1&", "/page?d=1"),
    ] {
        get(&server, stored, &[]).await;
        if !get(&server, purged, &[]).await.is_hit() {
            continue;
        }
        purge(&server, json!({ "urls": [purged] })).await;
        assert!(!get(&server, purged, &[]).await.is_hit(), "{purged} was stored as {stored}");
        get(&server, stored, &[]).await;
        ask(&server.client(), Method::POST, purged, &[]).await;
        assert!(!get(&server, purged, &[]).await.is_hit(), "POST {purged}, stored as {stored}");
    }
}

#[tokio::test]
async fn a_purge_at_any_moment_of_a_fill_brings_nothing_back() {
    let sender = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&sender);
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        if count > 0 {
            return Reply::bytes(format!("answer {count}")).with("cache-control", "max-age=600");
        }
        let (pieces, reply) = Reply::live("text/plain");
        *kept.lock().unwrap() = Some(pieces);
        reply.with("cache-control", "max-age=600").with("surrogate-key", "shop")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = Raw::open(&server.address).await;
    caller.send("GET /page HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let pieces = eventually("the call", || async { sender.lock().unwrap().take() }).await;
    pieces.send(Ok("first".into())).unwrap();
    caller.head().await;
    assert_eq!(caller.chunk().await, b"first");
    purge(&server, json!({ "tags": ["shop"] })).await;
    let after = get(&server, "/page", &[]).await;
    assert_eq!(text(&after), "answer 1", "{}", after.cache_status());
    drop(pieces);
    assert!(caller.chunk().await.is_empty());
    let later = get(&server, "/page", &[]).await;
    assert_ne!(text(&later), "first");
}

/// Asks for the page once more, has it purged while the upstream holds its second answer back, and
/// lets that go.
async fn purged_while_asked(
    server: &Server,
    upstream: &Upstream,
    gate: &Gate,
    fields: &[(&str, &str)],
) -> Answer {
    let meanwhile = async {
        eventually("the call", || async { (upstream.calls() >= 2).then_some(()) }).await;
        purge(server, json!({ "urls": ["/page"] })).await;
        gate.open();
    };
    tokio::join!(get(server, "/page", fields), meanwhile).0
}

#[tokio::test]
async fn a_purge_while_the_upstream_is_asked_leaves_nothing_to_answer_with_if_it_fails() {
    let whole = &[("cache-control", "max-age=0")][..];
    for fields in [whole, &[("cache-control", "max-age=0"), ("range", "bytes=0-1")]] {
        let gate = Arc::new(Gate::closed());
        let (holds, calls) = (Arc::clone(&gate), AtomicUsize::new(0));
        let upstream = Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::bytes("old").with("cache-control", "max-age=600, stale-if-error=600"),
            _ => Reply::bytes("down").status(503).held_by(&holds),
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        get(&server, "/page", &[]).await;
        let answer = purged_while_asked(&server, &upstream, &gate, fields).await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (503, "down"), "{fields:?}");
    }
}

#[tokio::test]
async fn a_purge_while_an_entry_is_validated_leaves_nothing_stored() {
    let gate = Arc::new(Gate::closed());
    let (holds, calls) = (Arc::clone(&gate), AtomicUsize::new(0));
    let upstream = Upstream::start(move |_| {
        let fields = [("cache-control", "max-age=600"), ("etag", "\"a\"")];
        match calls.fetch_add(1, Ordering::Relaxed) {
            0 => with(Reply::bytes("old"), &fields),
            1 => with(Reply::bytes("").status(304), &fields).held_by(&holds),
            _ => with(Reply::bytes("new"), &[("cache-control", "max-age=600"), ("etag", "\"b\"")]),
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    let answer =
        purged_while_asked(&server, &upstream, &gate, &[("cache-control", "no-cache")]).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(text(&get(&server, "/page", &[]).await), "new");
    assert!(upstream.received()[2].headers.get("if-none-match").is_none());
}

#[tokio::test]
async fn an_entry_with_more_tags_than_are_kept_is_purged_by_each_of_them() {
    let upstream = Upstream::start(|_| {
        let tags: Vec<_> = (0..200).map(|index| format!("t{index}")).collect();
        Reply::bytes("page")
            .with("cache-control", "max-age=600")
            .with("surrogate-key", &tags.join(" "))
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    purge(&server, json!({ "tags": ["t199"] })).await;
    assert!(!get(&server, "/page", &[]).await.is_hit());
}

// --- nothing of the past

#[tokio::test]
async fn a_larger_answer_takes_the_place_of_a_smaller_one() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let bytes = if calls.fetch_add(1, Ordering::Relaxed) == 0 { 10 } else { 1 << 20 };
        Reply::bytes(vec![b'x'; bytes]).with("cache-control", "max-age=600")
    })
    .await;
    let cache = "[cache]\ndisk_bytes_max = \"64MiB\"\nmemory_bytes_max = \"16MiB\"";
    let server = Server::start(Setup::in_front_of(&upstream).config(cache)).await;
    assert_eq!(get(&server, "/page", &[]).await.body.len(), 10);
    let larger = get(&server, "/page", &[("cache-control", "no-cache")]).await;
    assert!(larger.cache_status().contains("stored"), "{}", larger.cache_status());
    for _ in 0..3 {
        assert_eq!(get(&server, "/page", &[]).await.body.len(), 1 << 20);
    }
}

#[tokio::test]
async fn a_missing_variant_is_remembered_and_leaves_the_others_alone() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let reply = match calls.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Reply::bytes("there").with("cache-control", "max-age=600"),
            _ => Reply::bytes("gone").status(404),
        };
        reply.with("vary", "accept-language")
    })
    .await;
    let route = "[[route]]\nendpoint = \"http\"\nnegative_for = \"10m\"";
    let server = Server::start(Setup::in_front_of(&upstream).config(route)).await;
    let en = [("accept-language", "en")];
    let de = [("accept-language", "de")];
    get(&server, "/page", &en).await;
    get(&server, "/page", &de).await;
    let again = [("accept-language", "en"), ("cache-control", "no-cache")];
    assert_eq!(text(&get(&server, "/page", &again).await), "gone");
    let gone = get(&server, "/page", &en).await;
    assert_eq!((text(&gone), gone.is_hit()), ("gone", true), "{}", gone.cache_status());
    let there = get(&server, "/page", &de).await;
    assert_eq!((text(&there), there.is_hit()), ("there", true), "{}", there.cache_status());
}

#[tokio::test]
async fn what_the_upstream_says_is_gone_answers_nobody_any_more() {
    for (status, cache_control) in
        [(404, "no-store"), (410, "private"), (200, "no-store"), (301, "private")]
    {
        let calls = AtomicUsize::new(0);
        let upstream = Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::bytes("old").with(
                "cache-control",
                "max-age=600, stale-while-revalidate=600, stale-if-error=600",
            ),
            1 => Reply::bytes("new").status(status).with("cache-control", cache_control),
            _ => Reply::bytes("down").status(503),
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        get(&server, "/page", &[]).await;
        assert_eq!(text(&get(&server, "/page", &[("cache-control", "no-cache")]).await), "new");
        let answer = get(&server, "/page", &[]).await;
        assert_eq!(text(&answer), "down", "{status}: {}", answer.cache_status());
    }
}

#[tokio::test]
async fn what_turns_out_not_to_be_kept_takes_the_one_before_with_it() {
    let large = || vec![b'n'; 200 << 10];
    let many_tags: String = (0..70).map(|number| format!("tag-{number} ")).collect();
    type Makes = fn(Vec<u8>) -> Reply;
    let cases: [(&str, Makes); 3] = [
        ("too large", |large| Reply::bytes(large)),
        ("too large, without a length", |large| Reply::bytes(large).without_length()),
        ("too many tags", |_| Reply::bytes("new")),
    ];
    for (case, new) in cases {
        for is_behind in [false, true] {
            let calls = AtomicUsize::new(0);
            let tags = if case == "too many tags" { many_tags.clone() } else { String::new() };
            let upstream = Upstream::start(move |_| {
                let reply = match calls.fetch_add(1, Ordering::Relaxed) {
                    0 => Reply::bytes("old"),
                    1 => new(large()).with("surrogate-key", &tags),
                    _ => Reply::bytes("down").status(503),
                };
                reply.with(
                    "cache-control",
                    "max-age=1, stale-while-revalidate=600, stale-if-error=600",
                )
            })
            .await;
            let setup =
                Setup::in_front_of(&upstream).config("[cache]\nentry_bytes_max = \"64KiB\"");
            let server = Server::start(setup).await;
            get(&server, "/page", &[]).await;
            if is_behind {
                eventually("a refresh", || async {
                    get(&server, "/page", &[]).await;
                    (upstream.calls() >= 2).then_some(())
                })
                .await;
            } else {
                get(&server, "/page", &[("cache-control", "no-cache")]).await;
            }
            eventually(&format!("the end of the old one: {case}, behind: {is_behind}"), || async {
                (text(&get(&server, "/page", &[]).await) == "down").then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn what_a_question_for_a_part_refutes_answers_nobody_any_more() {
    let other_tag = |reply: Reply| reply.with("etag", "\"b\"").with("content-range", "bytes 0-1/9");
    type Refutes = fn(Reply) -> Reply;
    let refuting: [(&str, Refutes); 4] = [
        ("a 304 that forbids it", |reply| reply.status(304).with("cache-control", "no-store")),
        ("nothing there", |reply| reply.status(404).with("cache-control", "no-store")),
        ("another whole", |reply| reply.status(200).with("cache-control", "no-store")),
        ("a part of another", |reply| reply.status(206)),
    ];
    for (case, refutes) in refuting {
        let calls = AtomicUsize::new(0);
        let upstream = Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::bytes("old").with("cache-control", "max-age=600").with("etag", "\"a\""),
            1 if case == "a part of another" => refutes(other_tag(Reply::bytes("ne"))),
            1 if case == "a 304 that forbids it" => refutes(Reply::bytes("")),
            1 => refutes(Reply::bytes("ne")),
            _ => Reply::bytes("new"),
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        get(&server, "/page", &[]).await;
        get(&server, "/page", &[("range", "bytes=0-1"), ("cache-control", "no-cache")]).await;
        let answer = get(&server, "/page", &[]).await;
        assert_eq!(text(&answer), "new", "{case}: {}", answer.cache_status());
    }
}

#[tokio::test]
async fn what_one_with_a_credential_is_told_of_a_part_takes_nothing_from_those_who_share() {
    let upstream = Upstream::start(|received: &Received| match field(received, "x-api-key") {
        "" => Reply::bytes("page").with("cache-control", "max-age=600").with("etag", "\"a\""),
        _ => Reply::bytes("").status(404).with("cache-control", "no-store"),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream).config(SHARED)).await;
    get(&server, "/page", &[]).await;
    let part = [("range", "bytes=0-1"), ("cache-control", "no-cache"), ("x-api-key", "mine")];
    assert_eq!(get(&server, "/page", &part).await.status, 404);
    assert!(get(&server, "/page", &[]).await.is_hit());
}

#[tokio::test]
async fn who_reads_along_is_given_nothing_older_than_it_wants() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::bytes(format!("answer {call}")).with("cache-control", "max-age=600");
        if call == 0 { reply.with("age", "100").held_by(&holds) } else { reply }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let leads = async { get(&server, "/page", &[]).await };
    let follows = async {
        eventually("the call", || async { (upstream.calls() == 1).then_some(()) }).await;
        let one = get(&server, "/page", &[("cache-control", "max-age=10")]);
        let other = get(&server, "/page", &[("cache-control", "min-fresh=550")]);
        let third = get(&server, "/page", &[("cache-control", "max-age=200")]);
        let waits = async {
            server.misses_looked_up(4).await;
            gate.open();
        };
        tokio::join!(one, other, third, waits)
    };
    let (first, (one, other, third, ())) = tokio::join!(leads, follows);
    assert_eq!((text(&first), text(&third)), ("answer 0", "answer 0"));
    for answer in [one, other] {
        assert_ne!(text(&answer), "answer 0", "{}", answer.cache_status());
    }
}

#[tokio::test]
async fn a_cookie_of_a_304_reaches_who_asked_and_nobody_else() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let reply = match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::bytes("page").with("cache-control", "no-cache"),
            1 | 2 => Reply::bytes("")
                .status(304)
                .with("set-cookie", "session=2")
                .with("cache-control", "no-cache"),
            _ => Reply::bytes("").status(304).with("cache-control", "max-age=60"),
        };
        reply.with("etag", "\"a\"")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    let confirmed = get(&server, "/page", &[]).await;
    assert_eq!((text(&confirmed), confirmed.field("set-cookie")), ("page", "session=2"));
    let unchanged = get(&server, "/page", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.field("set-cookie")), (304, "session=2"));
    for _ in 0..2 {
        let later = get(&server, "/page", &[]).await;
        assert_eq!((text(&later), later.field("set-cookie")), ("page", ""));
    }
}

#[tokio::test]
async fn a_caller_who_may_not_see_a_page_takes_it_from_nobody() {
    let upstream = Upstream::start(|received: &Received| match field(received, "x-odd") {
        "" => Reply::bytes("page").with("cache-control", "max-age=600"),
        status => Reply::bytes("no").status(status.parse().unwrap()),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    for status in ["400", "401", "403", "405", "406", "412", "413", "416", "429", "431", "500"] {
        get(&server, "/page", &[("x-odd", status), ("cache-control", "no-cache")]).await;
        assert!(get(&server, "/page", &[]).await.is_hit(), "{status}");
    }
}

#[tokio::test]
async fn a_request_for_a_new_answer_gets_one() {
    let upstream = counting(&[("cache-control", "max-age=600")]).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    let new = get(&server, "/page", &[("cache-server-reuse", "new")]).await;
    assert_eq!(text(&new), "answer 1", "{}", new.cache_status());
    assert_eq!(text(&get(&server, "/page", &[]).await), "answer 1");
}

#[tokio::test]
async fn a_304_by_the_same_strong_tag_confirms_whatever_its_date() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let reply = match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::bytes("page").with("last-modified", "Tue, 24 Nov 2026 00:00:00 GMT"),
            _ => {
                Reply::bytes("").status(304).with("last-modified", "Tue, 24 Nov 2026 00:00:09 GMT")
            }
        };
        reply.with("cache-control", "no-cache").with("etag", "\"a\"")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..3 {
        let answer = get(&server, "/page", &[]).await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (200, "page"));
    }
}

#[tokio::test]
async fn a_304_of_another_answer_makes_us_ask_for_the_whole() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |received: &Received| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        if received.headers.contains_key("if-none-match") {
            return Reply::bytes("").status(304).with("etag", "\"b\"");
        }
        Reply::bytes(format!("answer {call}"))
            .with("cache-control", "no-cache")
            .with("etag", "\"a\"")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    assert_eq!(text(&get(&server, "/page", &[]).await), "answer 0");
    let answer = get(&server, "/page", &[]).await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (200, "answer 2"));
}

#[tokio::test]
async fn a_304_that_nobody_asked_for_is_no_answer() {
    let upstream = Upstream::start(|_| {
        Reply::bytes("").status(304).with("cache-control", "max-age=60").with("etag", "\"a\"")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..2 {
        let answer = get(&server, "/page", &[]).await;
        assert_eq!(answer.status.as_u16(), 502, "{}", answer.cache_status());
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn parts_and_failures_are_never_stored_whatever_they_say() {
    for status in [206, 400, 401, 405, 416, 429, 500, 502, 503, 504] {
        let upstream = Upstream::start(move |_| {
            let reply =
                Reply::bytes("x").status(status).with("cache-control", "public, max-age=60");
            if status == 206 { reply.with("content-range", "bytes 0-0/9") } else { reply }
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        for _ in 0..2 {
            let answer = get(&server, "/page", &[]).await;
            assert!(!answer.is_hit(), "{status}: {}", answer.cache_status());
        }
    }
}

#[tokio::test]
async fn what_must_be_validated_answers_nobody_under_a_lever_either() {
    for cache_control in ["max-age=600, must-revalidate", "s-maxage=600", "no-cache"] {
        let calls = AtomicUsize::new(0);
        let upstream = Upstream::start(move |_| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            Reply::bytes(format!("answer {call}"))
                .with("cache-control", cache_control)
                .with("etag", &format!("\"{call}\""))
                .with("surrogate-key", "all")
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        get(&server, "/page", &[]).await;
        purge(&server, json!({ "tags": ["all"], "soft": true })).await;
        let lever = json!({ "lever": "stale-only", "for": "1h", "who": "me", "why": "test" });
        let pulled = Answer::of(server.admin_client().post("/overrides", &lever)).await;
        assert!(pulled.status.is_success(), "{}", String::from_utf8_lossy(&pulled.body));
        let answer = get(&server, "/page", &[("cache-control", "max-stale")]).await;
        assert_eq!(text(&answer), "answer 1", "{cache_control}: {}", answer.cache_status());
    }
}

#[tokio::test]
async fn who_names_an_age_gets_nothing_that_was_soft_purged() {
    let fields =
        &[("cache-control", "max-age=600, stale-while-revalidate=600"), ("surrogate-key", "all")];
    for directive in ["max-age=300", "min-fresh=5"] {
        let upstream = counting(fields).await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        get(&server, "/page", &[]).await;
        purge(&server, json!({ "tags": ["all"], "soft": true })).await;
        let answer = get(&server, "/page", &[("cache-control", directive)]).await;
        assert_eq!(text(&answer), "answer 1", "{directive}: {}", answer.cache_status());
    }
}

// --- bounds

/// An upstream whose answers the test writes piece by piece.
type Live =
    Arc<Mutex<Vec<tokio::sync::mpsc::UnboundedSender<Result<bytes::Bytes, std::io::Error>>>>>;

async fn live(fields: &'static [(&'static str, &'static str)]) -> (Upstream, Live) {
    let senders: Live = Arc::default();
    let kept = Arc::clone(&senders);
    let upstream = Upstream::start(move |_| {
        let (sender, reply) = Reply::live("text/plain");
        kept.lock().expect("the senders").push(sender);
        with(reply, fields)
    })
    .await;
    (upstream, senders)
}

#[tokio::test]
async fn an_answer_that_is_not_stored_ends_with_its_caller() {
    let (_upstream, senders) = live(&[("cache-control", "no-store")]).await;
    let server = Server::start(Setup::in_front_of(&_upstream)).await;
    let mut caller = Raw::open(&server.address).await;
    caller.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let sender = eventually("the call", || async { senders.lock().unwrap().pop() }).await;
    sender.send(Ok("first".into())).unwrap();
    caller.head().await;
    assert_eq!(caller.chunk().await, b"first");
    drop(caller);
    tokio::time::timeout(Duration::from_secs(10), sender.closed())
        .await
        .expect("the upstream is told that nobody listens");
}

#[tokio::test]
async fn an_answer_that_is_not_stored_may_last_longer_than_a_fill() {
    let (_upstream, senders) = live(&[("cache-control", "no-store")]).await;
    let cache = "[cache]\ndisk_bytes_max = \"64MiB\"\nfill_timeout = \"300ms\"";
    let server = Server::start(Setup::in_front_of(&_upstream).config(cache)).await;
    let mut caller = Raw::open(&server.address).await;
    caller.send("GET /events HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let sender = eventually("the call", || async { senders.lock().unwrap().pop() }).await;
    sender.send(Ok("first".into())).unwrap();
    caller.head().await;
    assert_eq!(caller.chunk().await, b"first");
    let ended = tokio::time::timeout(Duration::from_millis(900), sender.closed()).await;
    assert!(ended.is_err(), "it was cut");
    sender.send(Ok("second".into())).unwrap();
    assert_eq!(caller.chunk().await, b"second");
}

#[tokio::test]
async fn a_large_answer_that_is_not_stored_is_not_held() {
    const PIECES: usize = 100;
    let (_upstream, senders) = live(&[("cache-control", "no-store")]).await;
    let server = Server::start(Setup::in_front_of(&_upstream)).await;
    let mut caller = Raw::open(&server.address).await;
    caller.send("GET /download HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let sender = eventually("the call", || async { senders.lock().unwrap().pop() }).await;
    let mut held = 0.0_f64;
    let mut received = 0;
    sender.send(Ok(vec![0; 1 << 20].into())).unwrap();
    caller.head().await;
    for piece in 0..PIECES {
        while received < (piece + 1) << 20 {
            received += caller.chunk().await.len();
        }
        held = held.max(server.metric("cache_server_buffered_bytes").await);
        sender.send(Ok(vec![0; 1 << 20].into())).unwrap();
    }
    assert!(held < f64::from(4 << 20), "{held} bytes were held");
}

#[tokio::test]
async fn a_storm_on_what_is_not_stored_is_not_served_one_by_one() {
    let gate = Arc::new(Gate::closed());
    let (holds, calls) = (Arc::clone(&gate), AtomicUsize::new(0));
    let upstream = Upstream::start(move |_| {
        let reply = Reply::bytes("own").with("cache-control", "private");
        if calls.fetch_add(1, Ordering::Relaxed) == 0 { reply } else { reply.held_by(&holds) }
    })
    .await;
    let server = Arc::new(Server::start(Setup::in_front_of(&upstream)).await);
    get(&server, "/page", &[]).await;
    let callers: Vec<_> = (0..10)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { get(&server, "/page", &[]).await })
        })
        .collect();
    eventually("all are under way at once", || async { (upstream.calls() == 11).then_some(()) })
        .await;
    gate.open();
    for caller in callers {
        caller.await.unwrap();
    }
}

// --- on the wire

#[tokio::test]
async fn a_304_declares_no_length_of_its_own() {
    let upstream = counting(&[("cache-control", "max-age=60"), ("etag", "\"a\"")]).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    let mut caller = Raw::open(&server.address).await;
    caller.send("GET /page HTTP/1.1\r\nhost: a\r\nif-none-match: \"a\"\r\n\r\n").await;
    let head = caller.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 304"), "{head}");
    assert!(!head.contains("content-length: 0"), "{head}");
    caller.send("GET /page HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(caller.answer().await.text(), "answer 0");
}

#[tokio::test]
async fn a_key_in_a_url_is_shown_nowhere() {
    let upstream = counting(&[("cache-control", "max-age=60")]).await;
    let setup = Setup::in_front_of(&upstream).config("[server]\npurge_from = [\"127.0.0.0/8\"]");
    let server = Server::start(setup).await;
    server.admin_client().request(Method::PUT, "/log").body("trace").send().await.unwrap();
    let path = "/page?key=hunter2&access_token=hunter2&sig=hunter2&api%5Fkey=hunter2";
    get(&server, path, &[]).await;
    let hit = get(&server, path, &[]).await;
    assert!(hit.is_hit());
    let key = hit.cache_status().split("key=\"").nth(1).unwrap().split('"').next().unwrap();
    let inspected = server.admin_client().get(&format!("/inspect/{key}")).await;
    purge(&server, json!({ "urls": [path] })).await;
    ask(&server.client(), Method::from_bytes(b"PURGE").unwrap(), path, &[]).await;
    ask(&server.client(), Method::POST, path, &[]).await;
    let metrics = server.admin_client().get("/metrics").await;
    for shown in [text(&inspected), text(&metrics), &server.log()] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[tokio::test]
async fn what_reads_or_purges_entries_wants_an_authorization() {
    let upstream = counting(&[("cache-control", "max-age=60")]).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let key = format!("/inspect/ks1_{}", "0".repeat(64));
    for (method, path) in [(Method::POST, "/purge"), (Method::GET, &key)] {
        let request = server.admin_client().request(method.clone(), path);
        let answer = Answer::of(request.header("origin", "http://evil.example").body("{}")).await;
        assert_eq!(answer.status.as_u16(), 403, "{method} {path}");
    }
    let setup = Setup::in_front_of(&upstream).admin_listening_on("0.0.0.0:0");
    let open = Server::start(setup).await;
    for (method, path) in [(Method::POST, "/purge"), (Method::GET, &key)] {
        let request = open.admin_client().request(method.clone(), path).body("{}");
        let status = Answer::of(request).await.status.as_u16();
        assert!(status == 401 || status == 403, "{method} {path}: {status}");
    }
    let large = vec![b' '; (4 << 20) + 1];
    let answer =
        Answer::of(server.admin_client().request(Method::POST, "/purge").body(large)).await;
    assert_eq!(answer.status.as_u16(), 413);
}

// --- over restarts, and in passing

#[tokio::test]
async fn an_age_goes_on_after_a_restart_and_begins_anew_with_a_validation() {
    let upstream = Upstream::start(|received: &Received| {
        let reply = if received.headers.contains_key("if-none-match") {
            Reply::bytes("").status(304).with("age", "7")
        } else {
            Reply::bytes("page").with("age", "100")
        };
        reply.with("cache-control", "max-age=600").with("etag", "\"a\"")
    })
    .await;
    let age = |answer: &Answer| answer.field("age").parse::<u64>().expect("an age");
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    assert!((100..200).contains(&age(&get(&server, "/page", &[]).await)));
    server.stop().await;
    let server = server.start_again().await;
    let hit = get(&server, "/page", &[]).await;
    assert!(hit.is_hit() && (100..200).contains(&age(&hit)), "{}", hit.field("age"));
    get(&server, "/page", &[("cache-control", "no-cache")]).await;
    let validated = get(&server, "/page", &[]).await;
    assert!(
        validated.is_hit() && (7..100).contains(&age(&validated)),
        "{}",
        validated.field("age")
    );
}

#[tokio::test]
async fn a_missing_page_stays_missing_over_a_restart_and_a_kill() {
    for kills in [false, true] {
        let calls = AtomicUsize::new(0);
        let upstream = Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::bytes("page").with("cache-control", "max-age=600"),
            _ => Reply::bytes("gone").status(404),
        })
        .await;
        let route = "[[route]]\nendpoint = \"http\"\nnegative_for = \"10m\"";
        let mut server = Server::start(Setup::in_front_of(&upstream).config(route)).await;
        get(&server, "/page", &[]).await;
        get(&server, "/page", &[("cache-control", "no-cache")]).await;
        assert_eq!(text(&get(&server, "/page", &[]).await), "gone");
        // The order that the missing page gave is durable no later than one that is waited for.
        purge(&server, json!({ "tags": ["other"] })).await;
        if kills {
            server.kill().await;
        } else {
            server.stop().await;
        }
        let server = server.start_again().await;
        assert_eq!(text(&get(&server, "/page", &[]).await), "gone", "killed: {kills}");
    }
}

#[tokio::test]
async fn an_answer_invalidates_what_it_names_on_its_origin_however_that_is_written() {
    let location = Arc::new(Mutex::new(String::new()));
    let named = Arc::clone(&location);
    let upstream = Upstream::start(move |received: &Received| match received.method.as_str() {
        "GET" => Reply::bytes("stored").with("cache-control", "max-age=60"),
        _ => Reply::bytes("").status(201).with("location", &named.lock().expect("a URL")),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let origin = upstream.url();
    let authority = origin.strip_prefix("http://").expect("http");
    for (written, is_it) in [
        ("page?a=1&b=2".to_owned(), true),
        ("../dir/page?b=2&a=1#part".into(), true),
        (format!("//{authority}/dir/page?a=1&b=2"), true),
        (format!("HTTP://u:p@{authority}/dir/./page?a=%31&b=2"), true),
        ("http://127.0.0.1:1/dir/page?a=1&b=2".into(), false),
        (format!("http://evil.example:80@{authority}.evil.example/dir/page?a=1&b=2"), false),
        (format!("https://{authority}/dir/page?a=1&b=2"), false),
        ("/page?a=1&b=2".into(), false),
    ] {
        let path = "/dir/page?a=1&b=2";
        get(&server, path, &[]).await;
        assert!(get(&server, path, &[]).await.is_hit());
        *location.lock().expect("a URL") = written.clone();
        ask(&server.client(), Method::POST, "/dir/form", &[]).await;
        assert_eq!(get(&server, path, &[]).await.is_hit(), !is_it, "{written}");
    }
}

#[tokio::test]
async fn calls_of_models_and_of_tools_invalidate_nothing() {
    let upstream = Upstream::start(|_| {
        Reply::json(&json!({})).with("cache-control", "max-age=60").with("location", "/page")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let posts = ["/v1/chat/completions", "/v1/embeddings", "/mcp"];
    for path in posts.into_iter().chain(["/page"]) {
        get(&server, path, &[]).await;
    }
    for path in posts {
        server.client().ask(path, &json!({ "model": "m", "input": "x" })).await;
        assert!(get(&server, path, &[]).await.is_hit(), "{path}");
        assert!(get(&server, "/page", &[]).await.is_hit(), "{path}");
    }
}

#[tokio::test]
async fn conditional_callers_and_others_share_a_flight_and_get_what_each_asked_for() {
    for leader_has_it in [true, false] {
        let gate = Arc::new(Gate::closed());
        let holds = Arc::clone(&gate);
        let upstream = Upstream::start(move |_| {
            Reply::bytes("page")
                .with("cache-control", "max-age=60")
                .with("etag", "\"a\"")
                .held_by(&holds)
        })
        .await;
        let server = Arc::new(Server::start(Setup::in_front_of(&upstream)).await);
        let asks = |has_it: bool| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let tag = if has_it { "\"a\"" } else { "\"b\"" };
                get(&server, "/page", &[("if-none-match", tag)]).await
            })
        };
        let leader = asks(leader_has_it);
        eventually("the call", || async { (upstream.calls() == 1).then_some(()) }).await;
        let (has_it, has_not) = (asks(true), asks(false));
        server.misses_looked_up(3).await;
        gate.open();
        assert_eq!(leader.await.unwrap().status.as_u16(), if leader_has_it { 304 } else { 200 });
        let has_it = has_it.await.unwrap();
        assert_eq!((has_it.status.as_u16(), text(&has_it)), (304, ""));
        let has_not = has_not.await.unwrap();
        assert_eq!((has_not.status.as_u16(), text(&has_not)), (200, "page"));
        assert_eq!(upstream.calls(), 1);
    }
}

#[tokio::test]
async fn a_purge_by_method_works_over_http_2_and_reaches_all_variants() {
    let upstream = counting(&[("cache-control", "max-age=60"), ("vary", "x-id")]).await;
    let setup = Setup::in_front_of(&upstream).config("[server]\npurge_from = [\"127.0.0.0/8\"]");
    let server = Server::start(setup).await;
    for id in ["1", "2"] {
        get(&server, "/page", &[("x-id", id)]).await;
        assert!(get(&server, "/page", &[("x-id", id)]).await.is_hit());
    }
    let method = Method::from_bytes(b"PURGE").unwrap();
    let done = ask(&Client::h2c(&server.address), method, "/page", &[]).await;
    assert_eq!(done.status.as_u16(), 200);
    for id in ["1", "2"] {
        assert!(!get(&server, "/page", &[("x-id", id)]).await.is_hit());
    }
}

#[tokio::test]
async fn a_purge_of_everything_reaches_a_refresh_under_way() {
    let gate = Arc::new(Gate::closed());
    let (holds, calls) = (Arc::clone(&gate), AtomicUsize::new(0));
    let upstream = Upstream::start(move |_| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::bytes(format!("answer {call}"))
            .with("cache-control", "max-age=600, stale-while-revalidate=600")
            .with("surrogate-key", "all");
        if call == 1 { reply.held_by(&holds) } else { reply }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/page", &[]).await;
    purge(&server, json!({ "tags": ["all"], "soft": true })).await;
    assert_eq!(text(&get(&server, "/page", &[]).await), "answer 0");
    eventually("the refresh", || async { (upstream.calls() >= 2).then_some(()) }).await;
    purge(&server, json!({ "everything": true })).await;
    assert_eq!(text(&get(&server, "/page", &[]).await), "answer 2");
    gate.open();
    for _ in 0..3 {
        assert_eq!(text(&get(&server, "/page", &[]).await), "answer 2");
    }
}

#[tokio::test]
async fn a_caller_cannot_have_everything_purged_by_asking_for_what_is_missing() {
    let upstream = Upstream::start(|_| Reply::bytes("none").status(404)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for index in 0..20 {
        let path = format!("/none/{index}");
        get(&server, &path, &[("cache-control", "no-cache")]).await;
    }
    let stats = server.admin_client().get("/metrics").await;
    let ordered: Vec<_> =
        text(&stats).lines().filter(|line| line.contains("invalidation")).collect();
    let none = ordered.iter().all(|line| line.ends_with(" 0"));
    assert!(none, "{ordered:?}");
}
