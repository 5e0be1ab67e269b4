//! Callers that take their time: cut off where a bound says so, and in nobody's way until then.

use std::time::Duration;

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::wire::answer;
use black_box_tests::{PATIENCE, Raw, Wire};

use super::{FILES, Stage};

/// Sends `piece` again and again, each after a short wait for an answer, until one comes.
async fn drip_until_told(caller: &mut Raw, piece: &str) -> String {
    let dripping = async {
        loop {
            let answer = tokio::time::timeout(Duration::from_millis(50), caller.rest()).await;
            match answer {
                Ok(told) => return String::from_utf8_lossy(&told).into_owned(),
                Err(_nothing_yet) => drop(caller.try_send(piece).await),
            }
        }
    };
    tokio::time::timeout(PATIENCE, dripping).await.expect("it is cut off in time")
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off_whatever_of_it_drips() {
    let stage = Stage::bounded("header_timeout = \"400ms\"\nidle_timeout = \"1h\"").await;
    for (begun, piece) in [
        ("G", "E"),
        ("GET /", "x"),
        ("GET /x HTTP/1.1\r\n", "x: y\r\n"),
        ("GET /x HTTP/1.1\r\nhost: cache\r\nx: ", " "),
        ("GET /x HTTP/1.1\r\nhost: cache\r\n", "x"),
        ("\r\n", "\r\n"),
    ] {
        let mut caller = stage.connect().await;
        caller.send(begun).await;
        let told = drip_until_told(&mut caller, piece).await;
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 408 "), "{begun:?}: {told}");
    }
    assert_eq!(stage.upstream.calls(), 0);
    stage.assert_well().await;
}

#[tokio::test]
async fn a_chunked_body_of_which_nothing_but_framing_drips_is_a_408() {
    let stage = Stage::bounded("body_timeout = \"400ms\"").await;
    for path in [FILES, EMBEDDINGS] {
        for (case, begun, piece) in [
            ("the size", "0", "0"),
            ("an extension", "5;", "x"),
            ("the trailers", "2\r\n{}\r\n0\r\nx: ", "y"),
        ] {
            let mut caller = stage.connect().await;
            let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\ntransfer-encoding: chunked");
            caller.send(format!("{head}\r\n\r\n{begun}")).await;
            let told = drip_until_told(&mut caller, piece).await;
            assert!(told.starts_with("HTTP/1.1 408 "), "{case} on {path}: {told}");
            assert!(told.contains("\"code\":\"body-timeout\""), "{case} on {path}: {told}");
        }
    }
    assert!(stage.upstream.requests().iter().all(|request| !request.whole));
    stage.assert_well().await;
}

#[tokio::test]
async fn a_body_that_drips_holds_up_nobody_else_and_comes_upstream_whole() {
    let stage = Stage::start().await;
    let body = question("a letter at a time").to_string();
    for path in [FILES, EMBEDDINGS] {
        let mut slow = stage.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\ntransfer-encoding: chunked");
        slow.send(format!("{head}\r\n\r\n")).await;
        for (number, letter) in body.chars().enumerate() {
            slow.send(format!("1\r\n{letter}\r\n")).await;
            // Another request between two letters paces the drip.
            let other = stage.server.client().get(&format!("/between/{number}")).await;
            assert_eq!(other.status, 200, "{path} after {number} letters");
        }
        slow.send("0\r\n\r\n").await;
        assert!(slow.answer().await.head.starts_with("HTTP/1.1 200 "), "{path}");
        let asked = stage.upstream.requests().pop().expect("it was asked");
        assert_eq!((asked.target().as_str(), asked.body.as_slice()), (path, body.as_bytes()));
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_caller_that_reads_slowly_gets_all_of_it_and_holds_up_nobody_else() {
    // More than the sockets on the way can hold.
    let mut large = embedding(0.5);
    large["padding"] = "x".repeat(6 << 20).into();
    let (large, whole) = (large.to_string(), large.to_string().len());
    let upstream = Wire::start(move |request| {
        let is_large = super::says(&request.body, "large") || request.target() == FILES;
        let body = if is_large { large.clone() } else { embedding(0.25).to_string() };
        answer("200 OK", "content-type: application/json\r\n", &body)
    });
    let stage = Stage::in_front_of(upstream.await, "").await;
    let asks = question("large");
    assert_eq!(stage.server.client().ask(EMBEDDINGS, &asks).await.body.len(), whole);
    for path in [EMBEDDINGS, FILES] {
        let mut slow = stage.connect().await;
        slow.post(path, &asks.to_string()).await;
        let head = slow.head().await;
        assert_eq!(head.contains("; hit;"), path == EMBEDDINGS, "{head}");
        let piece = 256 << 10;
        for _ in 0..whole / piece {
            slow.exactly(piece).await;
            let other = stage.server.client().get("/between").await;
            assert_eq!(other.json(), embedding(0.25), "{path}");
        }
        slow.exactly(whole % piece).await;
        // The connection is as good as new.
        slow.post(EMBEDDINGS, &question("small").to_string()).await;
        assert!(slow.answer().await.head.starts_with("HTTP/1.1 200 "), "{path}");
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn callers_that_hang_up_at_any_byte_of_a_request_leave_nothing_behind() {
    let stage = Stage::start().await;
    let body = question("hung up on").to_string();
    let request = super::post(EMBEDDINGS, "authorization: Bearer sk-test\r\n", &body);
    for end in (1..request.len()).step_by(5) {
        let mut caller = stage.connect().await;
        caller.send(&request[..end]).await;
    }
    black_box_tests::eventually("every connection is gone and nothing is held", || async {
        let stats = stage.server.stats().await;
        (stats["connections_open"] == 0 && stats["buffered_bytes"] == 0).then_some(())
    })
    .await;
    assert_eq!(stage.upstream.calls(), 0, "half a request is none");
    stage.assert_well().await;
}
