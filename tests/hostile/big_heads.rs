//! Heads that are too much: refused with 431 or 414 and the connection's end, while everybody
//! else is served.

use std::fmt::Write as _;

use super::Stage;

fn with_fields(lines: &str) -> String {
    format!("GET /x HTTP/1.1\r\nhost: cache\r\n{lines}\r\n")
}

fn many_tiny_fields() -> String {
    let mut lines = String::new();
    for number in 0..10_000 {
        let _ = write!(lines, "{number}:\r\n");
    }
    with_fields(&lines)
}

/// Heads over the default bounds, with the statuses that are right for each.
fn bombs() -> Vec<(&'static str, String, &'static [u16])> {
    let long = |bytes: usize| "x".repeat(bytes);
    vec![
        ("very many tiny fields", many_tiny_fields(), &[431]),
        ("one field many times", with_fields(&"x: 1\r\n".repeat(129)), &[431]),
        ("one huge value", with_fields(&format!("x: {}\r\n", long(1 << 20))), &[431]),
        ("one huge name", with_fields(&format!("{}: x\r\n", long(1 << 20))), &[431]),
        ("a huge run of spaces", with_fields(&format!("x:{}\r\n", " ".repeat(1 << 20))), &[431]),
        ("a long target", format!("GET /{} HTTP/1.1\r\n\r\n", long(1 << 20)), &[414, 431]),
        ("a long query", format!("GET /?{} HTTP/1.1\r\n\r\n", long(1 << 20)), &[414, 431]),
        ("a long method", format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(1 << 20)), &[414, 431]),
        ("nothing but empty lines", "\r\n".repeat(1 << 19), &[400, 431]),
        (
            "fields without an end",
            format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(1 << 17)),
            &[431],
        ),
    ]
}

#[tokio::test]
async fn a_head_that_is_too_much_is_refused_and_the_connection_ends() {
    let stage = Stage::start().await;
    for (case, head, statuses) in bombs() {
        let told = stage.tell(head).await;
        let [status] = told.statuses()[..] else { panic!("{case}: {:?}", told.text()) };
        assert!(statuses.contains(&status), "{case}: {status}");
        assert_eq!(stage.upstream.calls(), 0, "{case}");
    }
    let series = "cache_server_connections_refused_total{reason=\"bad-request\"}";
    black_box_tests::eventually("each to be counted", || async {
        (stage.server.metric(series).await == 10.0).then_some(())
    })
    .await;
    stage.assert_well().await;
}

#[tokio::test]
async fn a_target_just_within_the_bound_passes_whole() {
    let stage = Stage::start().await;
    let target = format!("/{}?{}", "p".repeat(30_000), "q".repeat(30_000));
    let mut caller = stage.connect().await;
    caller.send(format!("GET {target} HTTP/1.1\r\nhost: cache\r\n\r\n")).await;
    assert!(caller.answer().await.head.starts_with("HTTP/1.1 200 "));
    assert_eq!(stage.targets(), [target]);
    stage.assert_well().await;
}

#[tokio::test]
async fn a_target_over_the_bound_of_targets_is_a_414_where_the_head_is_not_too_long() {
    let stage = Stage::bounded("header_bytes_max = \"256KiB\"").await;
    let told = stage.tell(format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(100_000))).await;
    assert_eq!(told.statuses(), [414], "{}", told.text());
    assert_eq!(stage.upstream.calls(), 0);
    stage.assert_well().await;
}

#[tokio::test]
async fn others_are_served_between_the_pieces_of_a_head_that_is_too_much() {
    let stage = Stage::start().await;
    let mut bomber = stage.connect().await;
    bomber.send("GET /x HTTP/1.1\r\nhost: cache\r\n").await;
    for number in 0..20 {
        // Once it was refused, nothing more is read of it.
        let _ = bomber.try_send(format!("x-{number}: {}\r\n", "y".repeat(8000))).await;
        let answer = stage.server.client().get("/plain").await;
        assert_eq!(answer.status, 200, "after {number} pieces");
    }
    let told = String::from_utf8_lossy(&bomber.rest().await).into_owned();
    assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
    assert_eq!(stage.upstream.calls(), 20);
    stage.assert_well().await;
}

#[tokio::test]
async fn trailers_that_are_too_much_end_the_request() {
    let stage = Stage::start().await;
    let huge = format!("x: {}\r\n", "y".repeat(1 << 20));
    for (case, trailers) in [("very many", "x: y\r\n".repeat(10_000)), ("one huge", huge)] {
        for path in [super::FILES, black_box_tests::sample::EMBEDDINGS] {
            let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\ntransfer-encoding: chunked");
            let told = stage.tell(format!("{head}\r\n\r\n2\r\n{{}}\r\n0\r\n{trailers}\r\n")).await;
            told.assert_problem(400, "body-broken", &format!("{case} on {path}"));
        }
    }
    assert!(stage.upstream.requests().iter().all(|request| !request.whole));
    stage.assert_well().await;
}
