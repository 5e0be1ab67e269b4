//! Parts of answers (RFC 9110 section 14): cut out of what is stored whole, else asked of the upstream
//! as they are.

use black_box_tests::plain::{self, answering, field, text, with};
use black_box_tests::{Answer, Client, Reply, Server, Upstream};
use http::{Method, Version};

const DIGITS: &str = "0123456789";

const FRESH: &[(&str, &str)] = &[
    ("cache-control", "max-age=600"),
    ("content-type", "text/plain"),
    ("etag", "\"v1\""),
    ("last-modified", "Tue, 24 Nov 2020 00:00:00 GMT"),
];

/// Stale when it comes, and kept to be validated.
const STALE: &[(&str, &str)] =
    &[("cache-control", "max-age=60"), ("age", "61"), ("etag", "\"v1\"")];

/// A server that has these ten digits stored under `/page`.
async fn with_digits_stored() -> (Upstream, Server) {
    let (upstream, server) = answering(|_, _| with(Reply::bytes(DIGITS), FRESH)).await;
    assert!(!get(&server.client(), &[]).await.is_hit());
    (upstream, server)
}

async fn get(client: &Client, fields: &[(&str, &str)]) -> Answer {
    plain::ask(client, Method::GET, "/page", fields).await
}

async fn part(server: &Server, range: &str) -> Answer {
    get(&server.client(), &[("range", range)]).await
}

// Sections 14.2, 14.4 and 15.3.7.1.
#[tokio::test]
async fn a_part_of_what_is_stored_is_cut_out_of_it() {
    let (upstream, server) = with_digits_stored().await;
    for (range, expected, content_range) in [
        ("bytes=2-4", "234", "bytes 2-4/10"),
        ("bytes=7-", "789", "bytes 7-9/10"),
        ("bytes=-1", "9", "bytes 9-9/10"),
        ("bytes=0-99", DIGITS, "bytes 0-9/10"),
    ] {
        let answer = part(&server, range).await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (206, expected), "{range}");
        assert!(answer.is_hit(), "{}", answer.cache_status());
        assert_eq!(answer.field("content-range"), content_range);
        assert_eq!(answer.field("content-length"), expected.len().to_string());
        for (name, value) in FRESH {
            assert_eq!(answer.field(name), *value, "what the whole would have had");
        }
        assert!(!answer.field("age").is_empty() && !answer.field("date").is_empty());
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_stored_event_stream_is_not_cut() {
    let fields = [("cache-control", "max-age=600"), ("content-type", "text/event-stream")];
    let (_upstream, server) =
        answering(move |_, _| with(Reply::bytes("data: 1\n\ndata: 2\n\n"), &fields)).await;
    get(&server.client(), &[]).await;
    let answer = part(&server, "bytes=2-4").await;
    assert!(answer.is_hit(), "{}", answer.cache_status());
    assert_eq!((answer.status.as_u16(), text(&answer)), (200, "data: 1\n\ndata: 2\n\n"));
}

// RFC 9530 section 2: that is of the content of the message, the other of what it is a part of.
#[tokio::test]
async fn a_part_has_no_digest_of_the_whole_as_its_own() {
    let digests = [("content-digest", "sha-256=:YQ==:"), ("repr-digest", "sha-256=:YQ==:")];
    let (_upstream, server) =
        answering(move |_, _| with(with(Reply::bytes(DIGITS), FRESH), &digests)).await;
    assert_eq!(get(&server.client(), &[]).await.field("content-digest"), "sha-256=:YQ==:");
    for range in ["bytes=2-4", "bytes=0-1,3-4"] {
        let answer = part(&server, range).await;
        assert_eq!(answer.status, 206);
        assert_eq!(answer.field("content-digest"), "", "{range}");
        assert_eq!(answer.field("repr-digest"), "sha-256=:YQ==:", "{range}");
    }
}

// Section 14.6.
#[tokio::test]
async fn several_parts_are_one_answer_in_the_order_in_which_they_were_asked_for() {
    let body: String = (0..1000).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
    let whole = body.clone();
    let (_upstream, server) = answering(move |_, _| with(Reply::bytes(body.clone()), FRESH)).await;
    get(&server.client(), &[]).await;
    let http2 = Client::h2c(&server.address);
    for client in [server.client(), http2] {
        let answer = get(&client, &[("range", "bytes=500-509, 0-4 ,-3")]).await;
        assert_eq!(answer.status.as_u16(), 206);
        assert_eq!(answer.field("content-range"), "", "it stands with each part");
        let media_type = answer.field("content-type");
        let boundary =
            media_type.strip_prefix("multipart/byteranges; boundary=").expect("its boundary");
        let part = |range: &str, bytes: &str| {
            format!(
                "\r\n--{boundary}\r\ncontent-type: text/plain\r\n\
                 content-range: bytes {range}/1000\r\n\r\n{bytes}"
            )
        };
        let parts = [
            part("500-509", &whole[500..510]),
            part("0-4", &whole[..5]),
            part("997-999", &whole[997..]),
            format!("\r\n--{boundary}--\r\n"),
        ];
        assert_eq!(text(&answer), parts.concat());
        assert_eq!(answer.field("content-length"), answer.body.len().to_string());
    }
}

// Section 15.5.17.
#[tokio::test]
async fn a_part_beyond_the_end_is_answered_with_how_much_there_is() {
    let (upstream, server) = with_digits_stored().await;
    let answer = part(&server, "bytes=10-20").await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (416, ""));
    assert_eq!(answer.field("content-range"), "bytes */10");
    assert!(answer.is_hit(), "{}", answer.cache_status());
    assert_eq!((answer.field("cache-control"), answer.field("expires")), ("no-store", ""));
    assert_eq!(upstream.calls(), 1);
    assert_eq!(text(&part(&server, "bytes=10-20,0-0").await), "0", "one of them is there");
}

// Section 14.2.
#[tokio::test]
async fn what_is_no_range_gets_the_whole() {
    let (_upstream, server) = with_digits_stored().await;
    for range in ["bytes=4-2", "bytes=a-b", "items=0-1", "bytes", "bytes=", "0-1"] {
        let answer = part(&server, range).await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (200, DIGITS), "{range}");
        assert!(answer.is_hit());
    }
}

// Section 14.2: ranges are for GET, and sections 5.2 and 2.8 of RFC 10008.
#[tokio::test]
async fn a_head_with_a_range_is_about_the_whole() {
    let (upstream, server) = with_digits_stored().await;
    let client = server.client();
    let answer = plain::ask(&client, Method::HEAD, "/page", &[("range", "bytes=0-1")]).await;
    assert_eq!((answer.status.as_u16(), answer.field("content-length")), (200, "10"));
    assert!(answer.is_hit() && answer.field("content-range").is_empty());
    assert_eq!(upstream.calls(), 1);
}

// Section 13.1.5.
#[tokio::test]
async fn a_part_of_another_version_than_the_callers_is_the_whole() {
    let (_upstream, server) = with_digits_stored().await;
    let ask = async |condition: &str| {
        let answer =
            get(&server.client(), &[("range", "bytes=0-1"), ("if-range", condition)]).await;
        assert!(answer.is_hit(), "{}", answer.cache_status());
        answer.status.as_u16()
    };
    assert_eq!(ask("\"v1\"").await, 206);
    assert_eq!(ask("Tue, 24 Nov 2020 00:00:00 GMT").await, 206);
    for other in ["\"v2\"", "W/\"v1\"", "Tue, 24 Nov 2020 00:00:01 GMT", "v1"] {
        assert_eq!(ask(other).await, 200, "{other}");
    }
    let without_range = get(&server.client(), &[("if-range", "\"v1\"")]).await;
    assert_eq!(without_range.status.as_u16(), 200, "it says nothing without a range");
}

// Section 13.2.2.
#[tokio::test]
async fn who_has_the_answer_is_told_so_before_a_part_is_cut() {
    let (_upstream, server) = with_digits_stored().await;
    let fields = [("range", "bytes=0-1"), ("if-none-match", "\"v1\"")];
    assert_eq!(get(&server.client(), &fields).await.status.as_u16(), 304);
    let fields = [("range", "bytes=0-1"), ("if-none-match", "\"v0\"")];
    assert_eq!(get(&server.client(), &fields).await.status.as_u16(), 206);
}

#[tokio::test]
async fn a_part_of_what_is_not_stored_is_asked_for_as_it_is_and_never_widened() {
    let (upstream, server) = answering(|_, received| {
        let reply = Reply::bytes("01").with("content-range", "bytes 0-1/1000000");
        let is_part = field(received, "range") == "bytes=0-1";
        with(reply.status(if is_part { 206 } else { 500 }), FRESH)
    })
    .await;
    for _ in 0..2 {
        let answer = part(&server, "bytes=0-1").await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (206, "01"));
        assert!(answer.cache_status().contains("detail=range"), "{}", answer.cache_status());
    }
    let asked = upstream.received();
    assert_eq!(asked.len(), 2, "a part is not stored");
    assert!(asked.iter().all(|asked| field(asked, "range") == "bytes=0-1"));
    let only_stored = [("range", "bytes=0-1"), ("cache-control", "only-if-cached")];
    assert_eq!(get(&server.client(), &only_stored).await.status.as_u16(), 504);
}

#[tokio::test]
async fn a_stale_answer_is_confirmed_by_the_way_when_a_part_is_asked_for() {
    let (upstream, server) = answering(|count, received| match count {
        0 => with(Reply::bytes(DIGITS), STALE),
        _ => {
            assert_eq!(field(received, "if-none-match"), "\"v1\"");
            with(Reply::bytes("").status(304), &[("cache-control", "max-age=60"), ("x-new", "1")])
        }
    })
    .await;
    get(&server.client(), &[]).await;
    let answer = part(&server, "bytes=2-4").await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (206, "234"));
    assert_eq!((answer.field("content-range"), answer.field("x-new")), ("bytes 2-4/10", "1"));
    assert!(answer.cache_status().contains("fwd=stale; fwd-status=304"));
    assert_eq!(field(&upstream.received()[1], "range"), "bytes=2-4", "no more than the part");
    let whole = get(&server.client(), &[]).await;
    assert!(whole.is_hit(), "the entry is fresh again: {}", whole.cache_status());
    assert_eq!((text(&whole), whole.field("x-new")), (DIGITS, "1"));
}

#[tokio::test]
async fn the_callers_own_conditions_are_met_from_what_was_confirmed() {
    let (_upstream, server) = answering(|count, _| match count {
        0 => with(Reply::bytes(DIGITS), STALE),
        _ => Reply::bytes("").status(304),
    })
    .await;
    get(&server.client(), &[]).await;
    let ask = async |name, value| {
        get(&server.client(), &[("range", "bytes=2-4"), (name, value)]).await.status.as_u16()
    };
    assert_eq!(ask("if-none-match", "\"v1\"").await, 304);
    assert_eq!(ask("if-none-match", "\"v0\"").await, 206);
    assert_eq!(ask("if-range", "\"v0\"").await, 200);
}

#[tokio::test]
async fn a_part_of_what_has_changed_since_is_the_upstreams_own() {
    let (upstream, server) = answering(|count, _| match count {
        0 => with(Reply::bytes(DIGITS), STALE),
        _ => Reply::bytes("CDE").status(206).with("content-range", "bytes 2-4/26"),
    })
    .await;
    get(&server.client(), &[]).await;
    let answer = part(&server, "bytes=2-4").await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (206, "CDE"));
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_304_of_something_else_is_no_part() {
    let (_upstream, server) = answering(|count, _| match count {
        0 => with(Reply::bytes(DIGITS), STALE),
        _ => Reply::bytes("").status(304).with("etag", "\"v9\""),
    })
    .await;
    get(&server.client(), &[]).await;
    assert_eq!(part(&server, "bytes=2-4").await.status.as_u16(), 502);
}

// RFC 5861.
#[tokio::test]
async fn a_part_is_cut_out_of_what_is_stale_while_the_upstream_fails() {
    for fails in [true, false] {
        let (upstream, server) = answering(move |count, _| match count {
            0 => with(
                Reply::bytes(DIGITS),
                &[("cache-control", "max-age=60, stale-if-error=600"), ("age", "61")],
            ),
            _ => Reply::bytes("").status(503),
        })
        .await;
        get(&server.client(), &[]).await;
        if fails {
            upstream.stop().await;
        }
        let answer = part(&server, "bytes=2-4").await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (206, "234"));
        assert!(answer.cache_status().contains("detail=stale-if-error"), "{fails}");
    }
}

#[tokio::test]
async fn a_part_of_what_may_be_stale_is_given_at_once_and_the_whole_is_refreshed_behind_it() {
    let (upstream, server) = answering(|count, received| {
        assert_eq!(field(received, "range"), "", "what is fetched for the cache is the whole");
        let reply = Reply::bytes(if count == 0 { DIGITS } else { "abcdefghij" });
        let says = "max-age=60, stale-while-revalidate=600";
        let reply = reply.with("cache-control", says);
        if count == 0 { reply.with("age", "61") } else { reply }
    })
    .await;
    get(&server.client(), &[]).await;
    let answer = part(&server, "bytes=2-4").await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (206, "234"));
    black_box_tests::eventually("the refresh", async || {
        (text(&part(&server, "bytes=2-4").await) == "cde").then_some(())
    })
    .await;
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn parts_are_cut_out_of_what_is_on_disk() {
    let (upstream, mut server) = with_digits_stored().await;
    server.stop().await;
    let server = server.start_again().await;
    let answer = part(&server, "bytes=2-4").await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (206, "234"));
    assert!(answer.cache_status().contains("detail=disk"), "{}", answer.cache_status());
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_range_bomb_gets_no_more_than_the_whole() {
    let body = "x".repeat(1 << 20);
    let whole = body.len();
    let (upstream, server) = answering(move |_, _| with(Reply::bytes(body.clone()), FRESH)).await;
    get(&server.client(), &[]).await;
    let many = |count: usize, range: &str| format!("bytes={}", vec![range; count].join(","));
    for bomb in [many(1300, "0-"), many(16, "0-"), many(16, "-1000000"), many(5000, "5-")] {
        let answer = part(&server, &bomb).await;
        assert!(matches!(answer.status.as_u16(), 200 | 206));
        assert!(answer.body.len() <= whole, "{}", answer.body.len());
    }
    let apart: Vec<String> = (0..1000).map(|at| format!("{0}-{0}", at * 1000)).collect();
    let answer = part(&server, &format!("bytes={}", apart.join(","))).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, whole));
    assert_eq!(upstream.calls(), 1);
}

// RFC 10008 section 2.8.
#[tokio::test]
async fn a_part_of_a_stored_answer_to_query_is_cut_out_of_it() {
    let (upstream, server) = answering(|_, _| with(Reply::bytes(DIGITS), FRESH)).await;
    let query = async |fields: &[(&str, &str)]| {
        let method = Method::from_bytes(b"QUERY").expect("a method");
        let request = server.client().request(method, "/page").body("{\"q\":1}");
        let request = request.header("content-type", "application/json");
        let request =
            fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Answer::of(request).await
    };
    assert_eq!(text(&query(&[]).await), DIGITS);
    let answer = query(&[("range", "bytes=2-4")]).await;
    assert_eq!((answer.status.as_u16(), text(&answer)), (206, "234"));
    assert!(answer.is_hit(), "{}", answer.cache_status());
    assert_eq!((upstream.calls(), answer.version), (1, Version::HTTP_11));
}
