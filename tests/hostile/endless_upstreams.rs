//! Upstreams that never come to an end: cut at a bound, with no more memory held than the bounds
//! say.

use std::sync::Arc;
use std::time::Duration;

use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, question};
use black_box_tests::wire::answer;
use black_box_tests::{PATIENCE, Raw, Reading, Server, Setup, eventually};
use tokio::net::TcpListener;

use super::{FILES, PATHS, Stage};

/// A server in front of an upstream that, once it was asked anything, says `begun` and then
/// `piece` for ever; on every connection.
async fn in_front_of_endless(begun: &'static str, piece: &str, config: &str) -> Server {
    let piece: Arc<str> = piece.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let piece = Arc::clone(&piece);
            tokio::spawn(async move {
                let mut caller = Raw::of(stream);
                caller.head().await;
                let mut says = caller.try_send(begun).await;
                while says.is_ok() {
                    says = caller.try_send(&*piece).await;
                    // Other tasks of the test have their turn, too.
                    tokio::task::yield_now().await;
                }
            });
        }
    });
    let upstream =
        format!("[[upstream]]\nname = \"up\"\nurl = \"{url}\"\nprefix = \"/\"\n{config}");
    Server::start(Setup::default().config(&upstream)).await
}

/// The most that was held at once while `served` went on.
async fn most_held(server: &Server, served: impl Future<Output = ()>) -> u64 {
    let mut served = std::pin::pin!(served);
    let mut most = 0;
    loop {
        let held = server.stats().await["buffered_bytes"].as_u64().expect("a count");
        most = most.max(held);
        if tokio::time::timeout(Duration::from_millis(1), &mut served).await.is_ok() {
            return most;
        }
    }
}

#[tokio::test]
async fn endless_heads_are_a_502() {
    for (begun, piece) in [
        ("HTTP/1.1 200 OK\r\n", "x: y\r\n"),
        ("HTTP/1.1 200 OK\r\nx: ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
        ("HTTP/1.1 200 ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"),
        ("", "\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\n", "\0"),
    ] {
        let server = in_front_of_endless(begun, piece, "read_timeout = \"10s\"").await;
        for path in PATHS {
            let answer = server.client().ask(path, &question("endless")).await;
            assert_eq!(
                answer.json()["code"],
                "upstream-broken",
                "{begun:?} and {piece:?} on {path}"
            );
            assert_eq!(answer.status, 502);
        }
    }
}

#[tokio::test]
async fn endless_interim_answers_are_a_504_at_the_read_timeout() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n";
    let server = in_front_of_endless("", interim, "read_timeout = \"500ms\"").await;
    for path in PATHS {
        let answer = server.client().ask(path, &question("endless")).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["code"]),
            (504, &"upstream-timeout".into())
        );
    }
}

#[tokio::test]
async fn very_many_fields_and_huge_ones_reach_the_caller_whole_or_not_at_all() {
    let stage = Stage::start().await;
    let good = embedding(0.25).to_string();
    let json = "content-type: application/json\r\n";
    for (case, fields) in [
        ("90 fields", "x: y\r\n".repeat(90)),
        ("10,000 fields", "x: y\r\n".repeat(10_000)),
        ("100 KiB", format!("x: {}\r\n", "y".repeat(100 << 10))),
        ("4 MiB", format!("x: {}\r\n", "y".repeat(4 << 20))),
    ] {
        stage.upstream_says(answer("200 OK", &format!("{json}{fields}"), &good));
        for path in PATHS {
            let told = stage.ask_of(case, path).await;
            let whole = told.statuses() == [200] && told.text().matches(": y").count() > 0;
            if whole {
                assert!(told.text().ends_with(&good), "{case} on {path}");
            } else {
                told.assert_problem(502, "upstream-broken", &format!("{case} on {path}"));
            }
        }
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn an_endless_line_of_an_event_stream_is_passed_on_within_bounds() {
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                transfer-encoding: chunked\r\n\r\n6\r\ndata: \r\n";
    let bounds = "[server]\nbuffered_bytes_max = \"8MiB\"\n\
                  [cache]\nentry_bytes_max = \"256KiB\"\ndisk_bytes_max = \"64MiB\"\n";
    for (path, body) in [(CHAT, chat(true)), (FILES, chat(true))] {
        let server = in_front_of_endless(head, &chunk, bounds).await;
        let mut caller = Reading::of(server.client().post(path, &body)).await;
        let reads = async {
            caller.expect(b"data: ").await;
            for _ in 0..512 {
                caller.expect("x".repeat(0x4000).as_bytes()).await;
            }
            drop(caller);
        };
        // What is recorded for an entry, and the window of one that has grown too large for it.
        let most = most_held(&server, reads).await;
        assert!(most <= (256 << 10) + (1 << 20) + (128 << 10), "{path}: {most} bytes were held");
        eventually("nothing is held once the caller has left", || async {
            let stats = server.stats().await;
            (stats["buffered_bytes"] == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_endless_answer_of_known_form_ends_at_the_fill_timeout() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    let bounds = "[cache]\nfill_timeout = \"1s\"\nentry_bytes_max = \"64KiB\"\n\
                  disk_bytes_max = \"64MiB\"\n";
    let server = in_front_of_endless(head, "1\r\n[\r\n", bounds).await;
    let request = server.client().post(EMBEDDINGS, &question("endless"));
    let caller = Reading::of(request).await;
    let ended = tokio::time::timeout(PATIENCE, caller.rest()).await.expect("an end in time");
    assert!(ended.is_err(), "it must not look whole");
    let again = server.client().post(EMBEDDINGS, &question("endless"));
    let again = Reading::of(again).await;
    assert!(!again.head.is_hit() && again.rest().await.is_err(), "and it is not kept");
}
