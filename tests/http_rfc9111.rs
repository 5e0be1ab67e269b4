//! RFC 9111 line by line: the rules of its sections 3 to 5 that docs/http.md lists and that only a
//! running server can prove. Each test says which section it is about.

use std::sync::Arc;

use black_box_tests::plain::{self, answering, text, with};
use black_box_tests::upstream::{Gate, Received, cut};
use black_box_tests::{Answer, Raw, Reply, Server, Setup, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::net::TcpListener;

type Fields = &'static [(&'static str, &'static str)];

/// The same; every answer has these fields, and its number in its body.
async fn counting(fields: Fields) -> (Upstream, Server) {
    answering(move |count, _| with(Reply::bytes(format!("answer {count}")), fields)).await
}

async fn ask(server: &Server, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    plain::ask(&server.client(), method, path, fields).await
}

async fn get(server: &Server, fields: &[(&str, &str)]) -> Answer {
    ask(server, "GET", "/page", fields).await
}

/// Stale when it comes, and kept to be validated.
const STALE: Fields = &[("cache-control", "max-age=60"), ("age", "61"), ("etag", "\"v1\"")];

// Sections 3 and 3.3.
#[tokio::test]
async fn a_partial_answer_passes_and_is_never_stored() {
    let (upstream, server) = answering(|_, received| {
        let reply = Reply::bytes("0123").with("cache-control", "max-age=60");
        match received.headers.get("range") {
            Some(_) => reply.status(206).with("content-range", "bytes 0-3/10"),
            None => Reply::bytes("0123456789").with("cache-control", "max-age=60"),
        }
    })
    .await;
    for _ in 0..2 {
        let part = get(&server, &[("range", "bytes=0-3")]).await;
        assert_eq!((part.status.as_u16(), text(&part)), (206, "0123"));
        assert!(part.cache_status().contains("detail=range"), "{}", part.cache_status());
    }
    let whole = get(&server, &[]).await;
    assert_eq!((whole.is_hit(), text(&whole)), (false, "0123456789"));
    assert!(get(&server, &[]).await.is_hit());
    assert_eq!(upstream.calls(), 3);
}

// Section 3.3.
#[tokio::test]
async fn an_incomplete_answer_is_never_stored_and_never_looks_complete() {
    let (upstream, server) = answering(|_, _| {
        let (live, reply) = Reply::live("text/plain");
        live.send(Ok("half".into())).expect("it is read");
        live.send(cut()).expect("it is read");
        reply.with("cache-control", "max-age=60")
    })
    .await;
    for _ in 0..2 {
        let answer = server.client().request(Method::GET, "/page").send().await;
        // Where it was cut before its head was let out, it is a failure of the upstream.
        let is_broken = match answer {
            Ok(answer) => answer.status() == 502 || answer.bytes().await.is_err(),
            Err(_) => true,
        };
        assert!(is_broken, "a cut answer must not end cleanly");
    }
    assert_eq!(upstream.calls(), 2);
}

// Section 3.1.
#[tokio::test]
async fn unknown_fields_are_stored_and_trailers_are_not_mixed_with_them() {
    let (_upstream, server) = answering(|_, _| {
        let trailers = HeaderMap::from_iter([(
            HeaderName::from_static("x-checksum"),
            HeaderValue::from_static("abc"),
        )]);
        let reply = Reply::bytes("body").without_length().with_trailers(trailers);
        with(reply, &[("cache-control", "max-age=60"), ("trailer", "x-checksum"), ("x-new", "1")])
    })
    .await;
    get(&server, &[]).await;
    let hit = get(&server, &[]).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!((hit.field("x-new"), hit.field("x-checksum")), ("1", ""));
    assert_eq!(text(&hit), "body");
}

// Sections 4, 5.2.2.4, 5.2.2.5 and 5.2.2.7.
#[tokio::test]
async fn nobody_reads_along_with_what_it_could_not_be_given_later() {
    for says in ["no-store", "private, max-age=60", "no-cache", "max-age=0"] {
        let gate = Arc::new(Gate::closed());
        let holds = Arc::clone(&gate);
        let (upstream, server) = answering(move |count, _| {
            let reply = Reply::bytes(format!("answer {count}")).held_by(&holds);
            reply.with("cache-control", says).with("etag", "\"v1\"")
        })
        .await;
        let server = Arc::new(server);
        let callers: Vec<_> = (0..4)
            .map(|_| {
                let server = Arc::clone(&server);
                tokio::spawn(async move { text(&get(&server, &[]).await).to_owned() })
            })
            .collect();
        server.misses_looked_up(4).await;
        gate.open();
        let mut answers = Vec::new();
        for caller in callers {
            answers.push(caller.await.expect("an answer"));
        }
        answers.sort_unstable();
        assert_eq!(answers, ["answer 0", "answer 1", "answer 2", "answer 3"], "{says}");
        assert_eq!(upstream.calls(), 4, "{says}");
    }
}

// Sections 5.2.2.4 and 5.2.2.7.
#[tokio::test]
async fn a_field_that_an_answer_keeps_to_itself_reaches_the_first_caller_alone() {
    const OWN: Fields =
        &[("cache-control", "max-age=60, private=\"x-one\", no-cache=\"X-Two\""), ("x-one", "1")];
    let (_upstream, server) =
        answering(|_, _| with(Reply::bytes("body"), OWN).with("x-two", "2").with("x-three", "3"))
            .await;
    let shown = |answer: &Answer| {
        ["x-one", "x-two", "x-three"].map(|name| answer.field(name).to_owned()).join(" ")
    };
    assert_eq!(shown(&get(&server, &[]).await), "1 2 3");
    let hit = get(&server, &[]).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(shown(&hit), "  3");
}

// Section 4.
#[tokio::test]
async fn a_hit_has_one_age_of_its_own_and_no_less_than_what_it_came_with() {
    let (_upstream, server) =
        counting(&[("cache-control", "max-age=60"), ("age", "10, 3"), ("age", "1")]).await;
    get(&server, &[]).await;
    let hit = get(&server, &[]).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(hit.headers.get_all("age").iter().count(), 1);
    let age: u64 = hit.field("age").parse().expect("seconds");
    assert!((10..60).contains(&age), "{age}");
}

// Section 4.
#[tokio::test]
async fn who_reads_along_is_told_the_age_of_what_it_shares() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let (upstream, server) = answering(move |_, _| {
        let reply = Reply::bytes("body").held_by(&holds);
        reply.with("cache-control", "max-age=60").with("age", "10").with("etag", "\"v1\"")
    })
    .await;
    let server = Arc::new(server);
    let asking = |fields: Fields| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { get(&server, fields).await })
    };
    let leader = asking(&[("if-none-match", "\"v1\"")]);
    server.misses_looked_up(1).await;
    let followers = [asking(&[]), asking(&[("if-none-match", "\"v1\"")])];
    server.misses_looked_up(3).await;
    gate.open();
    assert_eq!(leader.await.expect("an answer").field("age"), "10", "as it came");
    for follower in followers {
        let answer = follower.await.expect("an answer");
        assert!(answer.cache_status().contains("collapsed"), "{}", answer.cache_status());
        let age: u64 = answer.field("age").parse().expect("seconds");
        assert!((10..60).contains(&age), "{age}");
    }
    assert_eq!(upstream.calls(), 1);
}

// Section 4.
#[tokio::test]
async fn an_unsafe_method_is_always_asked_of_the_upstream() {
    let (upstream, server) = counting(&[("cache-control", "public, max-age=60")]).await;
    get(&server, &[]).await;
    for (method, expected) in [("POST", 1), ("PUT", 2), ("DELETE", 3), ("POST", 4)] {
        let answer = ask(&server, method, "/page", &[]).await;
        assert_eq!(text(&answer), format!("answer {expected}"), "{method}");
        assert!(!answer.is_hit(), "{}", answer.cache_status());
    }
    assert_eq!(upstream.calls(), 5);
}

// Section 4.
#[tokio::test]
async fn a_newer_answer_takes_the_place_of_an_older_one() {
    let (_upstream, server) = counting(&[("cache-control", "max-age=60")]).await;
    get(&server, &[]).await;
    assert_eq!(text(&get(&server, &[("cache-control", "no-cache")]).await), "answer 1");
    let hit = get(&server, &[]).await;
    assert_eq!((hit.is_hit(), text(&hit)), (true, "answer 1"));
}

// Section 4.1.
#[tokio::test]
async fn an_answer_that_forgets_its_vary_hides_no_variant() {
    let (_upstream, server) = answering(|_, received| {
        let reply = |text: String| Reply::bytes(text).with("cache-control", "max-age=60");
        match received.headers.get("accept-language") {
            Some(language) => reply(format!("in {}", language.to_str().expect("text")))
                .with("vary", "accept-language"),
            None => reply("by default".into()),
        }
    })
    .await;
    let de = &[("accept-language", "de")][..];
    get(&server, de).await;
    assert_eq!(text(&get(&server, &[]).await), "by default");
    let hit = get(&server, de).await;
    assert_eq!((hit.is_hit(), text(&hit)), (true, "in de"));
    assert_eq!(text(&get(&server, &[("accept-language", "fr")]).await), "in fr");
    let hit = get(&server, &[]).await;
    assert_eq!((hit.is_hit(), text(&hit)), (true, "by default"), "a missing field matches itself");
}

// Sections 4.2.4 and 4.3.3.
#[tokio::test]
async fn what_is_stale_answers_only_with_a_permission() {
    let (upstream, server) = answering(|count, _| match count {
        0 => with(Reply::bytes("stored"), STALE),
        _ => Reply::bytes("broken").status(500),
    })
    .await;
    get(&server, &[]).await;
    let failed = get(&server, &[]).await;
    assert_eq!((failed.status.as_u16(), text(&failed)), (500, "broken"));
    let accepted = get(&server, &[("cache-control", "max-stale=600")]).await;
    assert_eq!((accepted.status.as_u16(), text(&accepted)), (200, "stored"));
    assert!(accepted.cache_status().contains("hit; ttl=-"), "{}", accepted.cache_status());
    let bridged = get(&server, &[("cache-control", "stale-if-error=600")]).await;
    assert_eq!((bridged.status.as_u16(), text(&bridged)), (200, "stored"));
    assert_eq!(upstream.calls(), 3);
}

// Section 4.3.2.
#[tokio::test]
async fn a_304_for_a_tag_that_the_caller_has_not_brings_it_the_whole_answer() {
    let (upstream, server) = answering(|_, received| match received.headers.get("if-none-match") {
        Some(_) => Reply::bytes("").status(304).with("etag", "\"v1\""),
        None => with(Reply::bytes("stored"), STALE),
    })
    .await;
    get(&server, &[]).await;
    let answer = get(&server, &[("if-none-match", "\"v0\"")]).await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (200, "stored"));
    let asked = &upstream.received()[1].headers;
    let tags: Vec<_> = asked.get_all("if-none-match").iter().collect();
    assert_eq!(tags, ["\"v1\""], "what the caller holds is no business of the upstream");
}

// Section 4.3.2.
#[tokio::test]
async fn a_condition_that_is_for_the_origin_is_passed_on() {
    let (upstream, server) = counting(&[("cache-control", "max-age=60"), ("etag", "\"v1\"")]).await;
    get(&server, &[]).await;
    for name in ["if-match", "if-unmodified-since"] {
        let value = if name == "if-match" { "\"v0\"" } else { "Tue, 24 Nov 2026 00:00:00 GMT" };
        let answer = get(&server, &[(name, value)]).await;
        assert!(answer.cache_status().contains("detail=conditional"), "{}", answer.cache_status());
        assert_eq!(upstream.received().last().expect("it was asked").headers[name], value);
    }
    assert_eq!(upstream.calls(), 3);
}

// Section 4.3.3.
#[tokio::test]
async fn a_whole_answer_to_a_validation_is_given_and_stored() {
    let (upstream, server) = answering(|count, _| match count {
        0 => with(Reply::bytes("old"), STALE),
        _ => Reply::bytes("new").with("cache-control", "max-age=60").with("etag", "\"v2\""),
    })
    .await;
    get(&server, &[]).await;
    let answer = get(&server, &[]).await;
    assert_eq!(text(&answer), "new");
    assert!(answer.cache_status().contains("fwd=stale; fwd-status=200; stored"));
    assert_eq!(upstream.received()[1].headers["if-none-match"], "\"v1\"");
    let hit = get(&server, &[]).await;
    assert_eq!((hit.is_hit(), text(&hit), hit.field("etag")), (true, "new", "\"v2\""));
}

// Section 4.3.4.
#[tokio::test]
async fn a_304_of_something_else_updates_nothing_and_is_asked_again_without_conditions() {
    let (upstream, server) = answering(|count, received| {
        let is_conditional = received.headers.contains_key("if-none-match");
        match (count, is_conditional) {
            (0, _) => with(Reply::bytes("old"), STALE),
            (_, true) => Reply::bytes("").status(304).with("etag", "\"v2\"").with("x-new", "1"),
            (_, false) => {
                Reply::bytes("new").with("cache-control", "max-age=60").with("etag", "\"v2\"")
            }
        }
    })
    .await;
    get(&server, &[]).await;
    let answer = get(&server, &[]).await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (200, "new"));
    assert_eq!((answer.field("x-new"), upstream.calls()), ("", 3));
    let hit = get(&server, &[]).await;
    assert_eq!((hit.is_hit(), text(&hit)), (true, "new"));
}

// Section 4.3.2, and RFC 9110 section 6.6.1.
#[tokio::test]
async fn an_answer_without_a_date_is_dated_when_it_comes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let upstream = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut connection = Raw::of(stream);
        connection.head().await;
        connection
            .send("HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\ncontent-length: 4\r\n\r\nbody")
            .await;
        connection.rest().await
    });
    let server = Server::start(Setup::default().argument("--upstream").argument(&url)).await;
    get(&server, &[]).await;
    let date = get(&server, &[]).await.field("date").to_owned();
    assert!(date.ends_with(" GMT"), "{date:?}");
    for (since, expected) in [(&*date, 304), ("Tue, 24 Nov 2020 00:00:00 GMT", 200)] {
        let answer = get(&server, &[("if-modified-since", since)]).await;
        assert!(answer.is_hit(), "{}", answer.cache_status());
        assert_eq!((answer.status.as_u16(), answer.field("date")), (expected, &*date), "{since}");
    }
    upstream.abort();
}

// Section 4.3.5.
#[tokio::test]
async fn a_head_that_differs_makes_stale_what_a_get_has_stored_and_one_that_agrees_does_not() {
    let (_upstream, server) = answering(|count, received| {
        let tag = if received.uri.path() == "/page" && count > 1 { "\"v2\"" } else { "\"v1\"" };
        Reply::bytes("body").with("cache-control", "max-age=60").with("etag", tag)
    })
    .await;
    for path in ["/page", "/other"] {
        ask(&server, "GET", path, &[]).await;
    }
    for (path, is_hit) in [("/page", false), ("/other", true)] {
        let head = ask(&server, "HEAD", path, &[("cache-control", "no-cache")]).await;
        assert!(!head.is_hit(), "{}", head.cache_status());
        let answer = ask(&server, "GET", path, &[]).await;
        assert_eq!(answer.is_hit(), is_hit, "{path}: {}", answer.cache_status());
    }
}

// Section 4.4.
#[tokio::test]
async fn an_unsafe_method_invalidates_nothing_of_another_origin_and_nothing_if_it_fails() {
    let stored = || Reply::bytes("stored").with("cache-control", "max-age=60");
    let other = Upstream::start(move |_| stored()).await;
    let named = format!("{}/named", other.url());
    let one = Upstream::start(move |received| match received.method.as_str() {
        "GET" => stored(),
        "DELETE" => Reply::bytes("no").status(404).with("location", "/named"),
        _ => Reply::bytes("").status(201).with("location", &named).with("content-location", &named),
    })
    .await;
    let mounts = [("one", &one), ("other", &other)].map(|(name, upstream)| {
        format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n", upstream.url())
    });
    let server = Server::start(Setup::default().config(&mounts.concat())).await;
    for path in ["/one/named", "/other/named"] {
        ask(&server, "GET", path, &[]).await;
    }
    for method in ["POST", "DELETE"] {
        ask(&server, method, "/one/page", &[]).await;
        for path in ["/one/named", "/other/named"] {
            assert!(ask(&server, "GET", path, &[]).await.is_hit(), "{method}: {path}");
        }
    }
}

// Section 5.2.
#[tokio::test]
async fn cache_directives_pass_both_ways() {
    const SAYS: &str = "max-age=60, x-unknown=\"1, 2\", stale-if-error=3";
    let (upstream, server) = counting(&[("cache-control", SAYS), ("pragma", "x")]).await;
    let asked = [("cache-control", "max-stale=5, x-other"), ("pragma", "y")];
    for _ in 0..2 {
        let answer = get(&server, &asked).await;
        assert_eq!((answer.field("cache-control"), answer.field("pragma")), (SAYS, "x"));
    }
    let received = &upstream.received()[0].headers;
    for (name, value) in asked {
        assert_eq!(received[name], value);
    }
    assert_eq!(upstream.calls(), 1, "what nobody knows is ignored (section 5.2.3)");
}

// Section 5.2.1.5.
#[tokio::test]
async fn a_request_that_says_no_store_leaves_nothing_behind() {
    let (upstream, server) = counting(&[("cache-control", "max-age=60")]).await;
    let answer = get(&server, &[("cache-control", "no-store")]).await;
    assert!(answer.cache_status().contains("fwd=request"), "{}", answer.cache_status());
    assert!(!get(&server, &[]).await.is_hit());
    assert!(get(&server, &[]).await.is_hit());
    assert_eq!(upstream.calls(), 2);
}

// Section 5.2.2.6.
#[tokio::test]
async fn the_content_of_an_answer_is_never_transformed() {
    // No gzip at all: whoever tried to unpack it would fail.
    const BYTES: &[u8] = b"\x1f\x8b\x08\x00not really\xff\xfe";
    let (_upstream, server) = answering(|_, _| {
        let reply = Reply::bytes(BYTES).with("cache-control", "max-age=60, no-transform");
        reply.with("content-encoding", "gzip").with("content-type", "text/html")
    })
    .await;
    for is_hit in [false, true] {
        let answer = get(&server, &[("accept-encoding", "gzip")]).await;
        assert_eq!((answer.is_hit(), &answer.body[..]), (is_hit, BYTES));
        assert_eq!(answer.field("content-encoding"), "gzip");
        assert_eq!(answer.field("content-type"), "text/html");
    }
}

// Sections 4.2.4, 5.2.2.2, 5.2.2.8 and 5.2.2.10.
#[tokio::test]
async fn what_must_be_revalidated_is_an_error_while_the_upstream_is_unreachable() {
    for says in ["max-age=60, must-revalidate", "max-age=60, proxy-revalidate", "s-maxage=60"] {
        let (upstream, server) = answering(move |_, _| {
            let says = format!("{says}, stale-while-revalidate=600, stale-if-error=600");
            let reply = Reply::bytes("stored").with("cache-control", &says).with("age", "61");
            // Closed, so that a refused connection is noticed.
            reply.with("etag", "\"v1\"").with("connection", "close")
        })
        .await;
        let first = get(&server, &[]).await;
        assert!(first.cache_status().contains("; stored"), "{says}: {}", first.cache_status());
        upstream.stop().await;
        for asks in ["x", "max-stale", "stale-if-error=600"] {
            let answer = get(&server, &[("cache-control", asks)]).await;
            assert_eq!(answer.status.as_u16(), 502, "{says}, {asks}: {}", answer.cache_status());
        }
    }
}

// Section 5.5.
#[tokio::test]
async fn a_warning_is_a_field_like_any_other_and_never_added() {
    let warned = [STALE[0], STALE[1], STALE[2], ("warning", "199 - \"theirs\"")];
    let (_upstream, server) = answering(move |_, received| match received.uri.path() {
        "/page" => with(Reply::bytes("stored"), STALE),
        _ => with(Reply::bytes("stored"), &warned),
    })
    .await;
    for (path, warning) in [("/page", ""), ("/warned", "199 - \"theirs\"")] {
        ask(&server, "GET", path, &[]).await;
        let stale = ask(&server, "GET", path, &[("cache-control", "max-stale")]).await;
        assert!(stale.cache_status().contains("hit; ttl=-"), "{}", stale.cache_status());
        assert_eq!(stale.field("warning"), warning);
    }
}

// Sections 3.3 of this RFC, 15.3.5 and 8.6 of RFC 9110.
#[tokio::test]
async fn an_answer_without_content_is_stored_and_has_no_length() {
    let (upstream, server) =
        answering(|_, _| Reply::bytes("").status(204).with("cache-control", "max-age=60")).await;
    for is_hit in [false, true] {
        let answer = get(&server, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.is_hit()), (204, is_hit));
        assert_eq!(answer.field("content-length"), "");
    }
    assert_eq!(upstream.calls(), 1);
}

// Sections 3.2 and 5.2.1.2.
#[tokio::test]
async fn a_confirmation_leaves_digests_of_the_stored_bytes_as_they_are() {
    let (_upstream, server) = answering(|count, _| match count {
        0 => with(Reply::bytes("body"), STALE).with("repr-digest", "sha-256=:old:"),
        _ => Reply::bytes("").status(304).with("repr-digest", "sha-256=:new:"),
    })
    .await;
    get(&server, &[]).await;
    let confirmed = get(&server, &[]).await;
    assert_eq!((text(&confirmed), confirmed.field("repr-digest")), ("body", "sha-256=:old:"));
}

// Section 5.2.1.2.
#[tokio::test]
async fn who_takes_what_is_stale_gets_it_also_without_a_validator() {
    let says_a_second = |_: &Received| Reply::bytes("body").with("cache-control", "max-age=1");
    let upstream = Upstream::start(says_a_second).await;
    // A refresh ahead of its end would make it young again.
    let config = "[[route]]\nendpoint = \"http\"\nrefresh_ahead = 0.0\n";
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    get(&server, &[]).await;
    let stale = async || {
        let answer = get(&server, &[("cache-control", "max-stale=60")]).await;
        assert!(answer.is_hit(), "{}", answer.cache_status());
        (answer.ttl_s() < 0).then_some(answer)
    };
    black_box_tests::eventually("its fresh end", stale).await;
    assert_eq!(upstream.calls(), 1);
    get(&server, &[]).await;
    assert_eq!(upstream.calls(), 2, "nobody else gets it");
}
