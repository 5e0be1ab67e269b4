//! Poisoning: what one caller says beside the key, and what a lying upstream says beside its answer,
//! never becomes the answer of others.

use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::{ask, field, text};
use black_box_tests::wire::answer;
use black_box_tests::{Answer, Client, Raw, Received, Reply, Server, Setup, Upstream};
use http::{HeaderMap, HeaderValue, Method};

use super::{KEPT, SHARED, get, get_raw, in_front_of_wire, is_raw_hit, stored};

/// What the attacker says wherever there is room for it.
const EVIL: &str = "evil.example";

/// Fields that upstreams reflect, or let decide what they answer, and that are in no key.
const UNKEYED: [&str; 34] = [
    "content-type",
    "forwarded",
    "front-end-https",
    "if-match",
    "if-range",
    "if-unmodified-since",
    "max-forwards",
    "pragma",
    "prefer",
    "priority",
    "range",
    "referer",
    "save-data",
    "true-client-ip",
    "upgrade-insecure-requests",
    "cdn-loop",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-host",
    "x-http-host-override",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-middleware-prefetch",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-unheard-of",
];

/// All that is evil in the fields of a request.
fn reflected(headers: &HeaderMap) -> String {
    let evil = headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok().filter(|value| value.contains(EVIL))?;
        Some(format!("{name}={value};"))
    });
    evil.collect()
}

/// An upstream that says in body and fields whatever is evil in a request.
async fn reflecting(config: &str) -> (Upstream, Server) {
    let upstream = Upstream::start(|received: &Received| {
        let evil = reflected(&received.headers);
        let is_confirmed = received.headers.contains_key("if-none-match");
        let reply = match received.method == Method::HEAD {
            // Without a length, of which there might be another.
            true => Reply::bytes("").without_length(),
            false if is_confirmed => Reply::bytes("").status(304),
            false => Reply::bytes(format!("page {evil}")),
        };
        reply.with("cache-control", "max-age=600").with("etag", "\"1\"").with("x-link", &evil)
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    (upstream, server)
}

fn assert_clean(answer: &Answer, case: &str) {
    assert_eq!((answer.status.as_u16(), text(answer)), (200, "page "), "{case}");
    assert_eq!(answer.field("x-link"), "", "{case}");
}

#[tokio::test]
async fn where_answers_are_shared_no_unkeyed_field_reaches_another_caller() {
    let (_upstream, server) = reflecting(SHARED).await;
    for name in UNKEYED {
        let path = format!("/{name}");
        get(&server, &path, &[(name, EVIL)]).await;
        assert_clean(&get(&server, &path, &[]).await, name);
    }
}

#[tokio::test]
async fn where_answers_are_shared_no_unkeyed_field_reaches_an_entry_by_its_validation() {
    let (_upstream, server) = reflecting(SHARED).await;
    // A question for a part goes with its range, and the condition of that.
    for name in UNKEYED.into_iter().filter(|name| *name != "range") {
        let path = format!("/{name}");
        get(&server, &path, &[]).await;
        for asks in ["no-cache", "max-age=0"] {
            get(&server, &path, &[(name, EVIL), ("cache-control", asks)]).await;
            assert_clean(&get(&server, &path, &[]).await, name);
        }
        if name != "if-range" {
            let fields = [(name, EVIL), ("cache-control", "no-cache"), ("range", "bytes=0-1")];
            get(&server, &path, &fields).await;
            assert_clean(&get(&server, &path, &[]).await, name);
        }
    }
}

#[tokio::test]
async fn where_answers_are_shared_no_head_brings_what_it_says_into_an_entry() {
    let (_upstream, server) = reflecting(SHARED).await;
    let client = server.client();
    for name in UNKEYED {
        let path = format!("/{name}");
        get(&server, &path, &[]).await;
        ask(&client, Method::HEAD, &path, &[(name, EVIL), ("cache-control", "no-cache")]).await;
        let answer = get(&server, &path, &[]).await;
        assert_clean(&answer, name);
        assert!(answer.is_hit(), "{name} made it stale: {}", answer.cache_status());
    }
}

#[tokio::test]
async fn where_answers_are_shared_a_head_with_credentials_tells_others_nothing() {
    for name in ["cookie", "authorization", "x-api-key", "api-key", "x-goog-api-key"] {
        let (_upstream, server) = reflecting(SHARED).await;
        get(&server, "/page", &[]).await;
        let fields = [(name, EVIL), ("cache-control", "no-cache")];
        ask(&server.client(), Method::HEAD, "/page", &fields).await;
        let answer = get(&server, "/page", &[]).await;
        assert_clean(&answer, name);
        assert!(answer.is_hit(), "{name} made it stale: {}", answer.cache_status());
    }
}

/// What negotiates is passed on where answers are shared; upstreams name it in `Vary`.
#[tokio::test]
async fn where_answers_are_shared_what_negotiates_reaches_those_alone_who_say_the_same() {
    for name in ["accept", "accept-language", "accept-encoding", "origin", "user-agent"] {
        let upstream = Upstream::start(move |received: &Received| {
            Reply::bytes(format!("page {}", reflected(&received.headers)))
                .with("cache-control", "max-age=600")
                .with("vary", name)
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream).config(SHARED)).await;
        for _ in 0..2 {
            assert_ne!(text(&get(&server, "/page", &[(name, EVIL)]).await), "page ", "{name}");
            let other = [(name, "good.example")];
            assert_eq!(text(&get(&server, "/page", &other).await), "page ", "{name}");
        }
    }
}

/// Callers of one tenant are taken at their word: what one of them has reflected, the others of that
/// tenant get, those without any credential among them. No other tenant does.
#[tokio::test]
async fn what_a_caller_has_reflected_stays_within_its_tenant() {
    let (_upstream, server) = reflecting("").await;
    let client = server.client();
    for name in UNKEYED {
        let path = format!("/{name}");
        let tenants: [&[(&str, &str)]; 3] =
            [&[], &[("x-api-key", "one")], &[("x-api-key", "one"), ("cookie", "id=1")]];
        for (number, attacker) in tenants.iter().enumerate() {
            let path = format!("{path}/{number}");
            let fields = [attacker, &[(name, EVIL)][..]].concat();
            ask(&client, Method::GET, &path, &fields).await;
            for victim in tenants.iter().filter(|victim| *victim != attacker) {
                assert_clean(&ask(&client, Method::GET, &path, victim).await, name);
            }
        }
    }
}

#[tokio::test]
async fn the_body_of_a_get_is_no_part_of_another_callers_answer() {
    for config in ["", SHARED] {
        let upstream = Upstream::start(|received: &Received| {
            Reply::bytes([b"page ", &received.body[..]].concat())
                .with("cache-control", "max-age=600")
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
        let mut attacker = Raw::open(&server.address).await;
        for (number, framed) in [
            "content-length: 4\r\n\r\nevil",
            "transfer-encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
            "content-type: application/x-www-form-urlencoded\r\ncontent-length: 4\r\n\r\nevil",
            "content-type: application/json\r\ncontent-length: 4\r\n\r\nevil",
            "content-encoding: gzip\r\ncontent-length: 4\r\n\r\nevil",
        ]
        .into_iter()
        .enumerate()
        {
            attacker.send(format!("GET /{number} HTTP/1.1\r\nhost: cache\r\n{framed}")).await;
            assert_eq!(attacker.answer().await.text(), "page evil", "{framed}");
            let victim = get(&server, &format!("/{number}"), &[]).await;
            assert_eq!(text(&victim), "page ", "{framed}");
        }
    }
}

#[tokio::test]
async fn two_cookie_fields_are_not_the_tenant_of_the_first_of_them() {
    for fields in [
        [("cookie", "id=1"), ("cookie", "id=evil")],
        [("cookie", "id=evil"), ("cookie", "id=1")],
        [("x-api-key", "1"), ("x-api-key", "evil")],
        [("x-api-key", "evil"), ("x-api-key", "1")],
    ] {
        let upstream = Upstream::start(|received: &Received| {
            let of = |name| received.headers.get_all(name).iter().map(HeaderValue::as_bytes);
            let all: Vec<&[u8]> = of("cookie").chain(of("x-api-key")).collect();
            Reply::bytes(all.join(&b","[..])).with("cache-control", "max-age=600")
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        for client in [server.client(), Client::h2c(&server.address)] {
            let both = ask(&client, Method::GET, "/page", &fields).await;
            assert!(text(&both).contains("evil"));
            for one in fields {
                let alone = ask(&client, Method::GET, "/page", &[one]).await;
                assert_eq!(text(&alone), one.1, "{fields:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_named_in_connection_counts_neither_here_nor_upstream() {
    let upstream = Upstream::start(|received: &Received| {
        let names = ["if-none-match", "range", "cookie", "accept-language", "x-a"];
        let seen: Vec<_> = names.iter().filter(|name| !field(received, name).is_empty()).collect();
        Reply::bytes(format!("{seen:?}"))
            .with("cache-control", "max-age=600")
            .with("etag", "\"1\"")
            .with("vary", "accept-language")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = Raw::open(&server.address).await;
    for line in [
        "if-none-match: \"1\"",
        "range: bytes=0-0",
        "cookie: id=1",
        "accept-language: de",
        "cache-control: no-cache",
        "x-a: 1",
        "if-match: \"2\"",
        "if-modified-since: Tue, 24 Nov 2037 00:00:00 GMT",
    ] {
        let (name, _) = line.split_once(':').expect("Name: value");
        let path = format!("/{name}");
        for connection in [name.to_owned(), format!("x, {}", name.to_uppercase())] {
            let fields = format!("connection: {connection}\r\n{line}\r\n");
            let answer = get_raw(&mut caller, &path, &fields).await;
            assert!(answer.head.starts_with("HTTP/1.1 200 "), "{line}: {}", answer.head);
            assert_eq!(answer.text(), "[]", "{line}");
        }
        let victim = get(&server, &path, &[]).await;
        assert_eq!((text(&victim), victim.is_hit()), ("[]", true), "{}", victim.cache_status());
    }
}

#[tokio::test]
async fn a_head_whose_length_lies_changes_no_byte_of_what_is_stored() {
    for (number, lie) in [
        "content-length: 0",
        "content-length: 3",
        "content-length: 99999999",
        "content-length: 18446744073709551615",
        "content-length: 4\r\netag: \"2\"",
        "content-encoding: gzip\r\ncontent-length: 4\r\netag: \"1\"",
        "content-type: text/evil\r\ncontent-length: 4\r\netag: \"1\"",
        "vary: x-evil\r\ncontent-length: 4\r\netag: \"1\"",
        "transfer-encoding: chunked\r\netag: \"1\"",
        "content-range: bytes 0-0/4\r\netag: \"1\"",
    ]
    .into_iter()
    .enumerate()
    {
        let (_upstream, server) = in_front_of_wire("", move |request| {
            if request.head.starts_with(b"HEAD ") {
                return format!("HTTP/1.1 200 OK\r\n{KEPT}{lie}\r\n\r\n").into_bytes();
            }
            answer("200 OK", &format!("{KEPT}content-type: text/plain\r\netag: \"1\"\r\n"), "page")
        })
        .await;
        get(&server, "/page", &[]).await;
        let mut caller = Raw::open(&server.address).await;
        caller.send("HEAD /page HTTP/1.1\r\nhost: cache\r\ncache-control: no-cache\r\n\r\n").await;
        caller.head_if_any().await;
        let answer = get(&server, "/page", &[]).await;
        assert_eq!(text(&answer), "page", "{number}: {lie}");
        assert_eq!(answer.field("content-length"), "4", "{lie}");
        assert_eq!(answer.field("content-type"), "text/plain", "{lie}");
        let forbidden = ["content-encoding", "content-range", "vary"];
        assert!(forbidden.iter().all(|name| answer.field(name).is_empty()), "{lie}: {answer:?}");
    }
}

#[tokio::test]
async fn a_304_brings_no_field_that_changes_what_the_stored_bytes_mean() {
    let lies = "content-type: text/evil\r\ncontent-encoding: gzip\r\ncontent-range: bytes 0-0/9\r\n\
                content-length: 99\r\ntransfer-encoding: chunked\r\nvary: *\r\n\
                set-cookie: id=evil\r\nconnection: x-evil\r\nx-evil: 1\r\nage: 0\r\n\
                proxy-authenticate: Basic\r\ntrailer: x-evil\r\nkeep-alive: timeout=1\r\n\
                content-digest: sha-256=:AA==:\r\nage: 5\r\n";
    let (_upstream, server) = in_front_of_wire("", move |request| {
        let fields = format!("{KEPT}etag: \"1\"\r\n");
        match request.fields("if-none-match").is_empty() {
            true => answer("200 OK", &format!("{fields}content-type: text/plain\r\n"), "page"),
            false => format!("HTTP/1.1 304 Not Modified\r\n{fields}{lies}\r\n").into_bytes(),
        }
    })
    .await;
    get(&server, "/page", &[]).await;
    get(&server, "/page", &[("cache-control", "no-cache")]).await;
    for _ in 0..2 {
        let answer = get(&server, "/page", &[]).await;
        assert_eq!(text(&answer), "page", "{}", answer.cache_status());
        assert_eq!(answer.field("content-length"), "4");
        assert_eq!(answer.field("content-type"), "text/plain");
        for name in [
            "content-encoding",
            "content-range",
            "transfer-encoding",
            "vary",
            "set-cookie",
            "x-evil",
            "proxy-authenticate",
            "trailer",
            "keep-alive",
            "content-digest",
        ] {
            assert_eq!(answer.field(name), "", "{name}");
        }
    }
}

#[tokio::test]
async fn a_304_that_forbids_what_was_stored_is_obeyed() {
    for forbids in ["private", "no-store", "private, max-age=600", "no-store, public, max-age=600"]
    {
        let calls = AtomicUsize::new(0);
        let upstream = Upstream::start(move |received: &Received| {
            let says_304 = !field(received, "if-none-match").is_empty();
            let count = calls.fetch_add(1, Ordering::Relaxed);
            let reply =
                Reply::bytes(if says_304 { String::new() } else { format!("page {count}") });
            let control = if says_304 { forbids } else { "max-age=600" };
            let reply = if says_304 { reply.status(304) } else { reply };
            reply.with("cache-control", control).with("etag", "\"1\"")
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        get(&server, "/page", &[]).await;
        let confirmed = get(&server, "/page", &[("cache-control", "no-cache")]).await;
        assert_eq!(text(&confirmed), "page 0");
        let later = stored(&server, "/page").await;
        assert_eq!(later.status.as_u16(), 504, "{forbids}: {}", later.cache_status());
    }
}

#[tokio::test]
async fn a_part_or_a_whole_that_nobody_asked_for_is_stored_for_nobody() {
    for (asked, status, fields) in [
        ("", "206 Partial Content", "content-range: bytes 0-3/4\r\n"),
        ("", "206 Partial Content", ""),
        ("", "206 Partial Content", "content-type: multipart/byteranges; boundary=x\r\n"),
        ("bytes=0-1", "206 Partial Content", "content-range: bytes 0-3/4\r\n"),
        ("bytes=0-1", "206 Partial Content", "content-range: bytes 0-1/99999999999999999999\r\n"),
        ("bytes=0-1", "206 Partial Content", "content-range: bytes 3-0/4\r\n"),
        ("bytes=0-1", "206 Partial Content", "content-range: bytes */4\r\n"),
        ("bytes=0-1", "206 Partial Content", "content-range: evil\r\n"),
        ("bytes=0-1", "200 OK", ""),
        ("bytes=0-1", "200 OK", "content-range: bytes 0-3/4\r\n"),
        ("bytes=0-1", "416 Range Not Satisfiable", "content-range: bytes */0\r\n"),
        ("bytes=0-1,2-3", "206 Partial Content", "content-type: multipart/byteranges\r\n"),
    ] {
        let (upstream, server) = in_front_of_wire("", move |_| {
            answer(status, &format!("{KEPT}etag: \"1\"\r\n{fields}"), "evil")
        })
        .await;
        let mut caller = Raw::open(&server.address).await;
        let range = if asked.is_empty() { String::new() } else { format!("range: {asked}\r\n") };
        get_raw(&mut caller, "/page", &range).await;
        assert_eq!(
            stored(&server, "/page").await.status.as_u16(),
            504,
            "{asked} {status} {fields}"
        );
        assert_eq!(upstream.calls(), 1);
    }
}

/// A 200 that calls itself a part of something is given as it came, and never cut.
#[tokio::test]
async fn a_whole_that_calls_itself_a_part_is_never_cut() {
    let (_upstream, server) = in_front_of_wire("", |_| {
        answer("200 OK", &format!("{KEPT}etag: \"1\"\r\ncontent-range: bytes 5-8/100\r\n"), "page")
    })
    .await;
    get(&server, "/page", &[]).await;
    for range in ["bytes=0-1", "bytes=5-6", "bytes=-1", "bytes=9-", "bytes=0-0,2-2"] {
        let answer = get(&server, "/page", &[("range", range)]).await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (200, "page"), "{range}");
    }
}

#[tokio::test]
async fn what_is_stored_goes_out_as_the_fields_and_the_body_that_came() {
    let odd = "x-percent: %0d%0aset-cookie:%20id=evil\r\nx-unfolded: a\\r\\nset-cookie: id=evil\r\n\
               x-latin: \u{e9}\u{2028}set-cookie: id=evil\r\nlocation: /\\evil.example\r\n\
               content-disposition: attachment; filename=\"a%0d%0ab\"\r\nx-tab: a\tb\r\n\
               etag: \"a\\\"b\"\r\n";
    let (_upstream, server) = in_front_of_wire("", move |_| {
        answer("200 OK", &format!("{KEPT}{odd}"), "HTTP/1.1 200 OK\r\n\r\nevil")
    })
    .await;
    let mut caller = Raw::open(&server.address).await;
    for _ in 0..2 {
        caller.send("GET /page HTTP/1.1\r\nhost: cache\r\n\r\n").await;
        let head = caller.head_if_any().await;
        let head = String::from_utf8_lossy(&head).into_owned();
        assert!(!head.lines().any(|line| line.starts_with("set-cookie")), "{head}");
        for line in odd.lines() {
            assert!(head.lines().any(|came| came == line), "{line} is missing in {head}");
        }
        caller = Raw::open(&server.address).await;
    }
}

/// Makes an upstream say such a thing, by the means that do: a header that is too large for it, control
/// characters, another method than the one that counts; then what it is passed everywhere.
const ODD: [&str; 10] = [
    "x-oversized",
    "x-meta",
    "x-http-method-override",
    "content-type",
    "accept",
    "accept-encoding",
    "origin",
    "traceparent",
    "user-agent",
    "baggage",
];

/// An upstream whose answer to an odd request has the status that its path names.
async fn taking_offence(config: &str) -> (Upstream, Server) {
    let upstream = Upstream::start(|received: &Received| {
        let status = received.uri.path()[1..4].parse().expect("a status");
        let is_odd = received.headers.values().any(|value| value.as_bytes().contains(&b'!'));
        let reply = Reply::bytes(if is_odd { "odd" } else { "page" });
        let reply = reply.with("cache-control", "public, max-age=600");
        if is_odd { reply.status(status) } else { reply }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    (upstream, server)
}

async fn assert_odd_for_itself_alone(server: &Server, path: &str, odd: &str, victims: &[&str]) {
    let mut caller = Raw::open(&server.address).await;
    let line = format!("{odd}: {}\r\n", "!".repeat(if odd == "x-oversized" { 9000 } else { 3 }));
    get_raw(&mut caller, path, &line).await;
    for victim in victims {
        let answer = get_raw(&mut caller, path, victim).await;
        assert_eq!(answer.text(), "page", "{path} by {odd}: {}", answer.head);
    }
}

#[tokio::test]
async fn an_error_about_one_odd_request_answers_nobody_else() {
    for config in ["", SHARED] {
        let (_upstream, server) = taking_offence(config).await;
        for status in [400, 405, 408, 411, 412, 413, 415, 417, 421, 426, 428, 429, 431, 500, 502] {
            for odd in ODD {
                let path = format!("/{status}/{odd}");
                assert_odd_for_itself_alone(&server, &path, odd, &["", "x-api-key: a\r\n"]).await;
            }
        }
    }
}

/// The other errors are stored where the upstream gives them a lifetime. They stay with the tenant whose
/// caller had it say so; where all share, what would make it say so does not reach it, but for what
/// negotiates.
#[tokio::test]
async fn an_error_that_may_be_kept_is_never_that_of_a_strangers_odd_request() {
    let victims = ["x-api-key: a\r\n", "cookie: id=1\r\n"];
    let (_upstream, server) = taking_offence("").await;
    for status in [403, 404, 406, 410, 414, 451, 501] {
        for odd in ODD {
            let path = format!("/{status}/{odd}");
            assert_odd_for_itself_alone(&server, &path, odd, &victims).await;
        }
    }
    let (_upstream, server) = taking_offence(SHARED).await;
    for status in [403, 404, 406, 410, 414, 451, 501] {
        for odd in &ODD[..4] {
            let path = format!("/{status}/{odd}");
            assert_odd_for_itself_alone(&server, &path, odd, &["", victims[0], victims[1]]).await;
        }
    }
}

#[tokio::test]
async fn an_answer_with_a_length_and_chunks_is_never_stored() {
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: identity, chunked\r\ncontent-length: 4\r\n",
    ] {
        let (_upstream, server) = in_front_of_wire("", move |_| {
            let head = format!("HTTP/1.1 200 OK\r\n{KEPT}{framing}connection: close\r\n\r\n");
            (head + "4\r\nevil\r\n0\r\n\r\n").into_bytes()
        })
        .await;
        get(&server, "/page", &[]).await;
        let later = stored(&server, "/page").await;
        assert_eq!(later.status.as_u16(), 504, "{framing}");
    }
}

#[tokio::test]
async fn what_stands_behind_a_get_on_its_connection_is_no_part_of_what_is_stored() {
    let (upstream, server) =
        in_front_of_wire("", |request| answer("200 OK", KEPT, &request.target())).await;
    let mut caller = Raw::open(&server.address).await;
    // The second one looks like the body of the first, to a reader that takes GETs to have bodies.
    let first = "GET /first HTTP/1.1\r\nhost: cache\r\ncontent-length: 0\r\n\r\n";
    let second = "GET /second HTTP/1.1\r\nhost: cache\r\nx: GET /evil HTTP/1.1\r\n\r\n";
    caller.send(format!("{first}{second}")).await;
    assert_eq!(caller.answer().await.text(), "/first");
    assert_eq!(caller.answer().await.text(), "/second");
    let again = get_raw(&mut caller, "/first", "").await;
    assert_eq!((again.text().as_str(), is_raw_hit(&again)), ("/first", true));
    assert_eq!(upstream.calls(), 2);
}
