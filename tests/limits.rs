//! Every bound of the listener and of the buffers, as a caller meets it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use black_box_tests::frames::HEADERS;
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{
    Answer, Frames, PATIENCE, Raw, RawAnswer, Reply, Server, Setup, Upstream, eventually,
};
use bytes::Bytes;

/// One path that is cached and one that is passed through.
const PATHS: [&str; 2] = [EMBEDDINGS, "/v1/files"];

async fn server(upstream: &Upstream, limits: &str) -> Server {
    Server::start(Setup::in_front_of(upstream).config(&format!("[server]\n{limits}"))).await
}

/// An upstream that answers all but what has `slow` in its path or body at once; that waits for
/// the gate.
async fn upstream() -> (Arc<Gate>, Upstream) {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| {
        let reply = Reply::json(&embedding(0.25));
        let slow = request.uri.path().contains("slow")
            || request.body.windows(4).any(|word| word == b"slow");
        if slow { reply.held_by(&holds) } else { reply }
    });
    (gate, upstream.await)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: cache\r\n\r\n")
}

fn assert_problem(answer: &RawAnswer, status: u16, code: &str, case: &str) {
    let head = &answer.head;
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {head}");
    assert!(head.contains("content-type: application/problem+json"), "{case}: {head}");
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&problem["status"], &problem["code"]), (&status.into(), &code.into()), "{case}");
    assert!(problem["detail"].is_string(), "{case}: {problem}");
}

#[tokio::test]
async fn one_connection_too_many_waits_until_another_closes() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "connections_max = 2").await;
    let mut first = Raw::open(&server.address).await;
    let mut second = Raw::open(&server.address).await;
    for caller in [&mut first, &mut second] {
        caller.send(get("/first")).await;
        caller.answer().await;
    }
    let mut third = Raw::open(&server.address).await;
    third.send(get("/third")).await;
    for _ in 0..5 {
        first.send(get("/first")).await;
        first.answer().await;
    }
    let asked_third = |upstream: &Upstream| {
        upstream.received().iter().any(|received| received.uri.path() == "/third")
    };
    assert!(!asked_third(&upstream), "the third must wait");
    assert_eq!(server.stats().await["connections_open"], 2);

    drop(second);
    assert!(third.answer().await.head.starts_with("HTTP/1.1 200 "));
    assert!(asked_third(&upstream));
}

#[tokio::test]
async fn a_header_that_drips_is_cut_off() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "header_timeout = \"400ms\"\nidle_timeout = \"1h\"").await;
    let mut caller = Raw::open(&server.address).await;
    caller.send("GET /x HTTP/1.1\r\nhost: cache\r\nx-slow: ").await;
    let cut = async {
        // The wait for an answer paces the drip.
        while tokio::time::timeout(Duration::from_millis(50), caller.rest()).await.is_err() {
            if caller.try_send("x").await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, cut).await.expect("the connection is closed in time");
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn a_connection_that_idles_is_closed_and_one_that_waits_for_its_answer_is_not() {
    let (gate, upstream) = upstream().await;
    let server = server(&upstream, "idle_timeout = \"500ms\"\nheader_timeout = \"1h\"").await;
    let mut waiting = Raw::open(&server.address).await;
    waiting.send(get("/slow")).await;
    let arrived = || async { (upstream.calls() == 1).then_some(()) };
    eventually("the request is upstream", arrived).await;

    // Two idle times one after the other: one of a connection that was used, one of one that
    // never was.
    let mut used = Raw::open(&server.address).await;
    used.send(get("/quick")).await;
    used.answer().await;
    assert_eq!(used.rest().await, b"");
    assert_eq!(Raw::open(&server.address).await.rest().await, b"");

    gate.open();
    assert!(waiting.answer().await.head.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_body_that_stops_coming_is_a_408() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "body_timeout = \"300ms\"").await;
    for path in PATHS {
        for (framing, begun) in [
            ("content-length: 100", "half"),
            ("content-length: 100", ""),
            ("transfer-encoding: chunked", "4\r\nhalf\r\n"),
        ] {
            let mut caller = Raw::open(&server.address).await;
            let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\n{framing}\r\n\r\n");
            caller.send(head + begun).await;
            let case = format!("{path} with {framing} and {begun:?}");
            assert_problem(&caller.answer().await, 408, "body-timeout", &case);
        }
    }
    assert!(server.client().ask(EMBEDDINGS, &question("after")).await.status == 200);
}

#[tokio::test]
async fn a_body_for_a_key_is_due_as_a_whole_however_it_comes() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "key_body_timeout = \"300ms\"\nbody_timeout = \"1h\"").await;
    let mut caller = Raw::open(&server.address).await;
    let head = format!("POST {EMBEDDINGS} HTTP/1.1\r\nhost: cache\r\ncontent-length: 100\r\n\r\n");
    caller.send(head + "half").await;
    assert_problem(&caller.answer().await, 408, "body-too-slow", "half a body");
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn a_header_with_too_many_fields_or_bytes_is_a_431() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "headers_max = 20\nheader_bytes_max = \"8KiB\"").await;
    let with_fields = |count: usize| {
        let mut head = String::from("GET /x HTTP/1.1\r\nhost: cache\r\n");
        for number in 1..count {
            let _ = write!(head, "x-{number}: 1\r\n");
        }
        head + "\r\n"
    };
    let with_bytes = |count: usize| {
        format!("GET /x HTTP/1.1\r\nhost: cache\r\nx-long: {}\r\n\r\n", "x".repeat(count))
    };
    for (case, head, status) in [
        ("20 fields", with_fields(20), 200),
        ("21 fields", with_fields(21), 431),
        ("all the bytes", with_bytes(8192 - with_bytes(0).len()), 200),
        ("so many and no end", with_bytes(8193 - with_bytes(0).len())[..8192].to_owned(), 431),
        ("9 KiB", with_bytes(9 << 10), 431),
        ("1 MiB", with_bytes(1 << 20), 431),
    ] {
        let calls = upstream.calls();
        let mut caller = Raw::open(&server.address).await;
        // It may close before it has read all.
        let _ = caller.try_send(head).await;
        let answer = String::from_utf8_lossy(&caller.head_if_any().await).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{case}: {answer:?}");
        assert_eq!(upstream.calls() - calls, usize::from(status == 200), "{case}");
    }
}

#[tokio::test]
async fn a_header_of_http2_counts_32_bytes_for_each_field_and_is_a_431_at_its_bound() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "header_bytes_max = \"8KiB\"").await;
    let counted = |name: &str, value: &str| name.len() + value.len() + 32;
    let pseudo =
        [(":method", "GET"), (":scheme", "http"), (":path", "/x"), (":authority", "cache")];
    let before: usize = pseudo.iter().map(|(name, value)| counted(name, value)).sum();
    let fits = 8191 - before - counted("x-long", "");
    let mut frames = Frames::open(&server.address, &[]).await;
    for (stream, bytes, calls) in [(1, fits, 1), (3, fits + 1, 1)] {
        frames.get(stream, "/x", &[("x-long", &"x".repeat(bytes))]).await;
        frames.expect(HEADERS, stream).await;
        assert_eq!(upstream.calls(), calls, "{bytes} bytes");
    }
}

#[tokio::test]
async fn a_body_at_the_bound_of_keys_is_keyed_and_one_byte_more_passes_through() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "key_body_bytes_max = \"4KiB\"").await;
    let long = |bytes: usize| question(&"x".repeat(bytes - question("").to_string().len()));
    assert_eq!(long(4096).to_string().len(), 4096);
    let keyed = server.client().ask(EMBEDDINGS, &long(4096)).await;
    assert!(keyed.cache_status().contains("; stored"), "{}", keyed.cache_status());
    let passed = server.client().ask(EMBEDDINGS, &long(4097)).await;
    assert!(
        passed.cache_status().ends_with("; detail=body-too-large"),
        "{}",
        passed.cache_status()
    );
    assert_eq!(passed.json(), embedding(0.25));
}

#[tokio::test]
async fn an_answer_beyond_the_buffers_is_passed_on_and_not_stored() {
    let mut large = embedding(0.25);
    large["padding"] = "x".repeat(200_000).into();
    let upstream = Upstream::saying(large.clone()).await;
    let server = server(&upstream, "buffered_bytes_max = \"100KiB\"").await;
    for calls in 1..=2 {
        let answer = server.client().ask(EMBEDDINGS, &question("large")).await;
        assert_eq!((answer.status.as_u16(), answer.json()), (200, large.clone()));
        assert_eq!(upstream.calls(), calls);
    }
    assert_eq!(server.stats().await["not_stored"], serde_json::json!({"buffers-full": 2}));
    let empty = || async { (server.stats().await["buffered_bytes"] == 0).then_some(()) };
    eventually("nothing is held any more", empty).await;
}

#[tokio::test]
async fn a_body_over_the_bound_is_a_413_whatever_its_framing() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "body_bytes_max = \"4KiB\"").await;
    for path in PATHS {
        let long = "x".repeat(5000);
        for (case, framing, body) in [
            ("by its length", "content-length: 5000", long.clone()),
            ("by its length alone", "content-length: 5000\r\nexpect: 100-continue", String::new()),
            (
                "in chunks",
                "transfer-encoding: chunked",
                format!("fa0\r\n{}\r\n3e8\r\n{}\r\n0\r\n\r\n", &long[..4000], &long[4000..]),
            ),
        ] {
            let case = format!("{path} {case}");
            let mut caller = Raw::open(&server.address).await;
            let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\n{framing}\r\n\r\n");
            caller.send(head + &body).await;
            assert_problem(&caller.answer().await, 413, "body-too-large", &case);
        }
        let whole = Raw::open(&server.address).await;
        assert_eq!(posted(whole, path, 4096).await, 200, "{path}: the bound itself is allowed");
    }
    // In chunks its size shows only on the way: what passes through was begun, and then cut.
    let received = upstream.received();
    let overlong = received.iter().filter(|received| received.body.len() > 4096).count();
    assert_eq!(overlong, 0, "an overlong body came upstream whole");
}

/// The status that a body of this size gets.
async fn posted(mut caller: Raw, path: &str, bytes: usize) -> u16 {
    caller.post(path, &"x".repeat(bytes)).await;
    let head = caller.answer().await.head;
    head[9..12].parse().expect("a status")
}

#[tokio::test]
async fn bodies_beyond_the_buffers_are_refused_until_there_is_room_again() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "buffered_bytes_max = \"100KiB\"").await;
    let large = question(&"more".repeat(15_000));
    let text = large.to_string();
    let (begun, rest) = text.split_at(text.len() - 10);
    let mut first = Raw::open(&server.address).await;
    let length = text.len();
    let head = format!("POST {EMBEDDINGS} HTTP/1.1\r\nhost: cache\r\ncontent-length: {length}");
    first.send(format!("{head}\r\n\r\n{begun}")).await;
    eventually("the first body is held", || async {
        let held = server.stats().await["buffered_bytes"].as_u64().expect("a count");
        (held >= begun.len() as u64).then_some(())
    })
    .await;

    let refused = server.client().ask(EMBEDDINGS, &large).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (503, &"buffers-full".into()));
    assert_eq!(refused.field("content-type"), "application/problem+json");
    assert!(refused.field("retry-after").parse::<u64>().is_ok_and(|wait| wait > 0));
    let small = server.client().ask(EMBEDDINGS, &question("small")).await;
    assert_eq!(small.status, 200, "there is room for little ones");

    first.send(rest).await;
    assert!(first.answer().await.head.starts_with("HTTP/1.1 200 "));
    eventually("room again", || async {
        let answer = server.client().ask(EMBEDDINGS, &large).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let empty = || async { (server.stats().await["buffered_bytes"] == 0).then_some(()) };
    eventually("nothing is held any more", empty).await;
}

#[tokio::test]
async fn one_fill_too_many_goes_alone_and_says_so() {
    let (gate, upstream) = upstream().await;
    let setup = Setup::in_front_of(&upstream)
        .config("[cache]\nflights_max = 1\ndisk_bytes_max = \"64MiB\"");
    let server = Server::start(setup).await;
    let mut leader = Raw::open(&server.address).await;
    leader.post(EMBEDDINGS, &question("slow").to_string()).await;
    let arrived = || async { (upstream.calls() == 1).then_some(()) };
    eventually("the fill is under way", arrived).await;

    for calls in 2..=3 {
        let alone = server.client().ask(EMBEDDINGS, &question("alone")).await;
        assert_eq!(alone.json(), embedding(0.25));
        let cache_status = alone.cache_status();
        assert!(cache_status.ends_with("; detail=flights-full"), "{cache_status}");
        assert!(cache_status.contains("; fwd=miss"), "{cache_status}");
        assert_eq!(upstream.calls(), calls);
    }
    gate.open();
    leader.answer().await;
    eventually("a place again", || async {
        let answer = server.client().ask(EMBEDDINGS, &question("alone")).await;
        answer.is_hit().then_some(())
    })
    .await;
}

#[tokio::test]
async fn fills_that_one_caller_begins_anew_and_leaves_count_until_they_end() {
    let (gate, upstream) = upstream().await;
    let setup = Setup::in_front_of(&upstream)
        .config("[cache]\nflights_max = 2\ndisk_bytes_max = \"64MiB\"");
    let server = Server::start(setup).await;
    for calls in 1..=2 {
        let anew = server.client().post(EMBEDDINGS, &question("slow"));
        let asked = tokio::spawn(Answer::of(anew.header("cache-server-reuse", "new")));
        let arrived = || async { (upstream.calls() == calls).then_some(()) };
        eventually("the fill is under way", arrived).await;
        asked.abort();
    }
    let alone = server.client().ask(EMBEDDINGS, &question("alone")).await;
    let cache_status = alone.cache_status();
    assert!(cache_status.ends_with("; detail=flights-full"), "{cache_status}");
    assert_eq!(server.stats().await["flights_open"], 2);
    gate.open();
    eventually("a place again", || async {
        let answer = server.client().ask(EMBEDDINGS, &question("alone")).await;
        answer.is_hit().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_caller_who_does_not_read_an_oversized_answer_holds_nobody_up_for_long() {
    // Larger than all the socket buffers on the way.
    let body = Bytes::from("0123456789abcdef".repeat(4 << 20));
    let (given, gate) = (body.clone(), Arc::new(Gate::closed()));
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::bytes(given.clone()).held_by(&holds)).await;
    let setup = Setup::in_front_of(&upstream).config(
        "[cache]\nentry_bytes_max = \"64KiB\"\nslow_reader_timeout = \"300ms\"\n\
         disk_bytes_max = \"64MiB\"",
    );
    let server = Server::start(setup).await;
    let mut slow = Raw::open(&server.address).await;
    slow.post(EMBEDDINGS, &question("huge").to_string()).await;
    server.misses_looked_up(1).await;
    let quick = Answer::of(server.client().post(EMBEDDINGS, &question("huge")));
    let opens = async {
        server.misses_looked_up(2).await;
        gate.open();
    };
    let both = async { tokio::join!(quick, opens) };
    let (quick, ()) = tokio::time::timeout(PATIENCE, both).await.expect("in time");
    assert!(quick.body == body, "{} of {} bytes", quick.body.len(), body.len());

    let head = slow.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(slow.rest().await.len() < body.len(), "the slow one is cut off");
    let said = || async { server.log().contains("\"cut_off_by\":\"caller\"").then_some(()) };
    eventually("a line that says who was slow", said).await;
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_caller_that_takes_nothing_of_its_answer_is_cut_off() {
    // More than the sockets between the two can hold.
    let mut answer = embedding(1.0);
    answer["padding"] = "x".repeat(12 << 20).into();
    let upstream = Upstream::saying(answer).await;
    let setup = Setup::in_front_of(&upstream).config(
        "[server]\nwrite_timeout = \"300ms\"\n[cache]\nentry_bytes_max = \"15MiB\"\n\
         disk_bytes_max = \"64MiB\"",
    );
    let server = Server::start(setup).await;
    let whole = server.client().ask(EMBEDDINGS, &question("huge")).await.body.len();

    let mut still = Raw::open(&server.address).await;
    still.post(EMBEDDINGS, &question("huge").to_string()).await;
    let head = still.head().await;
    assert!(head.contains("; hit;"), "{head}");
    eventually("its connection to be closed", || async {
        (server.metric("cache_server_connections_open").await == 0.0).then_some(())
    })
    .await;
    assert!(still.rest().await.len() < whole, "what it takes afterwards is not the whole answer");
}
