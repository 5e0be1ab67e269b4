//! Upstreams whose heads or bodies break HTTP: a 502 or a cut, never a clean end, and nothing is
//! kept.

use black_box_tests::sample::{EMBEDDINGS, embedding, question};

use super::{FILES, PATHS, Stage, Told, post};

/// The head of a good answer, with these lines instead of a length.
fn head(status: &str, fields: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{fields}\r\n\r\n")
}

/// A good answer's body.
fn body() -> String {
    embedding(0.25).to_string()
}

/// The same in one chunk.
fn chunked() -> String {
    format!("{:x}\r\n{}\r\n0\r\n\r\n", body().len(), body())
}

impl Stage {
    /// Asks the question of this case.
    pub(super) async fn ask_of(&self, case: &str, path: &str) -> Told {
        self.tell(post(path, "connection: close\r\n", &question(case).to_string())).await
    }

    /// Asked twice, it is a 502 of ours twice, and the upstream was asked twice.
    async fn assert_broken(&self, case: &str) {
        for path in PATHS {
            for turn in ["first", "second"] {
                let before = self.upstream.calls();
                let told = self.ask_of(case, path).await;
                told.assert_problem(502, "upstream-broken", &format!("{case} on {path}, {turn}"));
                assert_eq!(self.upstream.calls(), before + 1, "{case} on {path}, {turn}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_with_chunks_and_a_length_or_with_another_coding_is_a_502() {
    let stage = Stage::start().await;
    let right = body().len();
    for (case, fields) in [
        ("a short length first", "content-length: 5\r\ntransfer-encoding: chunked".to_owned()),
        ("a short length last", "transfer-encoding: chunked\r\ncontent-length: 5".into()),
        ("the right length", format!("content-length: {right}\r\ntransfer-encoding: chunked")),
        ("chunked twice", "transfer-encoding: chunked, chunked".into()),
        ("gzip under chunks", "transfer-encoding: gzip, chunked".into()),
        ("chunks not last", "transfer-encoding: chunked, identity".into()),
        ("nothing behind the chunks", "transfer-encoding: chunked,".into()),
    ] {
        stage.upstream_says(head("200 OK", &fields) + &chunked());
        stage.assert_broken(case).await;
    }
    for coding in ["gzip", "identity", "xchunked", ""] {
        let fields = format!("transfer-encoding: {coding}\r\nconnection: close");
        stage.upstream_says(head("200 OK", &fields) + &body());
        stage.assert_broken(coding).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn an_answer_whose_length_is_not_one_number_is_a_502() {
    let stage = Stage::start().await;
    let right = body().len();
    for lengths in [
        format!("content-length: {right}\r\ncontent-length: 5"),
        format!("content-length: 5\r\ncontent-length: {right}"),
        format!("content-length: {right}, 5"),
        format!("content-length: +{right}"),
        format!("content-length: {right}\r\ncontent-length: x"),
        "content-length: -1".into(),
        "content-length: all".into(),
        "content-length: 0x5".into(),
        "content-length: 99999999999999999999".into(),
    ] {
        stage.upstream_says(head("200 OK", &lengths) + &body());
        stage.assert_broken(&lengths).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_length_said_twice_alike_is_said_once_to_the_caller() {
    let stage = Stage::start().await;
    let line = format!("content-length: {}", body().len());
    for lengths in [format!("{line}\r\n{line}"), format!("{line}, {}", body().len())] {
        stage.upstream_says(head("200 OK", &lengths) + &body());
        for path in PATHS {
            let told = stage.ask_of(&lengths, path).await.text();
            let (head, answer) = told.split_once("\r\n\r\n").expect("a head");
            assert_eq!(answer, body(), "{path}");
            let said = head.lines().filter(|line| line.starts_with("content-length"));
            assert_eq!(said.collect::<Vec<_>>(), [line.as_str()], "{path}");
        }
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_malformed_field_of_an_answer_is_a_502() {
    let stage = Stage::start().await;
    for (case, field) in [
        ("a bare CR in a value", "x-a: 1\rset-cookie: stolen=1"),
        ("a bare CR before the end", "x-a: 1\r"),
        ("NUL in a value", "x-a: a\0b"),
        ("a control byte in a value", "x-a: \x01"),
        ("a folded line", "x-a: 1\r\n set-cookie: stolen=1"),
        ("a space before the colon", "x-a : 1"),
        ("no colon", "x-a"),
        ("an empty name", ": 1"),
        ("a name that is no token", "x\u{e9}: 1"),
    ] {
        let fields = format!("{field}\r\ncontent-length: {}", body().len());
        stage.upstream_says(head("200 OK", &fields) + &body());
        stage.assert_broken(case).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_status_line_that_is_none_is_a_502() {
    let stage = Stage::start().await;
    let rest = format!("content-length: {}\r\n\r\n{}", body().len(), body());
    for line in [
        "HTTP/1.1 099 Low",
        "HTTP/1.1 000 None",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 -200 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 OK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/0.9 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/9.9 200 OK",
        "HTTP/1.12 200 OK",
        "http/1.1 200 OK",
        "ICY 200 OK",
        "GET / HTTP/1.1",
    ] {
        stage.upstream_says(format!("{line}\r\n{rest}"));
        stage.assert_broken(&format!("{line:?}")).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_switch_of_protocols_that_nobody_asked_for_is_a_502() {
    let stage = Stage::start().await;
    for fields in ["upgrade: h2c\r\nconnection: upgrade", "upgrade: websocket", "x: y"] {
        let said = head("101 Switching Protocols", fields);
        stage.upstream_says(said + "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        stage.assert_broken(fields).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_chunked_answer_that_breaks_its_chunks_never_comes_to_a_clean_end() {
    let stage = Stage::start().await;
    let (body, size) = (body(), body().len());
    let whole = format!("{size:x}\r\n{body}\r\n");
    for (case, chunks) in [
        ("cut inside a chunk", format!("{:x}\r\n{body}", size + 10)),
        ("cut behind a chunk", whole.clone()),
        ("cut inside a size", format!("{whole}0")),
        ("cut before the last line", format!("{whole}0\r\n")),
        ("a chunk longer than it says", format!("{:x}\r\n{body}\r\n0\r\n\r\n", size - 1)),
        ("a size that is none", format!("{whole}x\r\n\r\n")),
        ("a negative size", format!("{whole}-1\r\n\r\n")),
        ("a size of 17 digits", format!("{whole}10000000000000000\r\n")),
        ("a line feed behind a size", format!("{size:x}\n{body}\r\n0\r\n\r\n")),
        ("an endless extension", format!("{whole}0;{}\r\n\r\n", "x".repeat(20_000))),
        ("very many trailers", format!("{whole}0\r\n{}\r\n", "x: y\r\n".repeat(50_000))),
    ] {
        let head = head("200 OK", "transfer-encoding: chunked\r\nconnection: close");
        stage.upstream_says(head + &chunks);
        for path in PATHS {
            for turn in ["first", "second"] {
                let before = stage.upstream.calls();
                let told = stage.ask_of(case, path).await.text();
                // If all of it was read before the head went out, not even that comes.
                let cut = !told.contains("content-length: ") && !told.ends_with("0\r\n\r\n");
                let broken = told.starts_with("HTTP/1.1 502 ");
                assert!(broken || cut, "{case} on {path}, {turn}: {told}");
                assert!(!told.contains("; stored"), "{case} on {path}, {turn}: {told}");
                assert_eq!(stage.upstream.calls(), before + 1, "{case} on {path}, {turn}");
            }
        }
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_split_answer_is_the_first_of_its_parts() {
    // The upstream let somebody write line ends into a field of its own.
    let stage = Stage::start().await;
    let echoed = "x-echo: a\r\ncontent-length: 0\r\n\r\n\
                  HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    stage.upstream_says(head("200 OK", echoed));
    for turn in 1..=3 {
        for path in [EMBEDDINGS, FILES] {
            let told = stage.ask_of("split", path).await;
            assert_eq!(told.statuses(), [200], "{path}: {}", told.text());
            assert!(!told.text().contains("poison"), "{path}: {}", told.text());
            assert!(!told.text().contains("; stored"), "{path}: {}", told.text());
        }
        assert_eq!(stage.upstream.calls(), 2 * turn);
    }
    stage.assert_well().await;
}
