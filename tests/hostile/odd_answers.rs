//! Answers that are HTTP, and meant to lead somewhere else: passed on as they are, never acted on
//! and not kept.

use black_box_tests::sample::{EMBEDDINGS, embedding};
use black_box_tests::wire::answer;

use super::{Elsewhere, FILES, PATHS, Stage};

const JSON: &str = "content-type: application/json\r\n";

/// A good answer with another status and more lines of fields.
fn odd(status: u16, fields: &str) -> Vec<u8> {
    answer(&format!("{status} Odd"), &format!("{JSON}{fields}"), &embedding(0.25).to_string())
}

impl Stage {
    /// Asked twice, the upstream was asked twice, and the answer has this status and this line.
    async fn assert_passed_on(&self, case: &str, status: u16, line: &str) {
        for path in PATHS {
            for turn in ["first", "second"] {
                let before = self.upstream.calls();
                let told = self.ask_of(case, path).await;
                assert_eq!(told.statuses(), [status], "{case} on {path}, {turn}");
                let text = told.text();
                assert!(text.contains(line), "{case} on {path}, {turn}: {text}");
                assert!(text.ends_with(&embedding(0.25).to_string()), "{case} on {path}: {text}");
                assert_eq!(self.upstream.calls(), before + 1, "{case} on {path}, {turn}");
            }
        }
    }
}

#[tokio::test]
async fn a_redirect_is_never_followed_nor_kept() {
    let stage = Stage::start().await;
    let elsewhere = Elsewhere::start().await;
    for status in [300, 301, 302, 303, 305, 307, 308] {
        for location in [
            format!("http://{}/latest/meta-data/", elsewhere.authority()),
            format!("//{}/", elsewhere.authority()),
            "http://169.254.169.254/latest/meta-data/".into(),
            "file:///etc/passwd".into(),
            "gopher://169.254.169.254/".into(),
            "\\\\169.254.169.254\\x".into(),
            "javascript:alert(1)".into(),
            "/v1/embeddings".into(),
        ] {
            let line = format!("location: {location}\r\n");
            stage.upstream_says(odd(status, &line));
            stage.assert_passed_on(&format!("{status} to {location}"), status, &line).await;
        }
    }
    elsewhere.assert_left_alone();
    stage.assert_well().await;
}

#[tokio::test]
async fn other_fields_that_name_a_place_lead_nowhere() {
    let stage = Stage::start().await;
    let elsewhere = Elsewhere::start().await;
    let url = format!("http://{}/x", elsewhere.authority());
    for field in [
        format!("refresh: 0; url={url}\r\n"),
        format!("content-location: {url}\r\n"),
        format!("link: <{url}>; rel=preload\r\n"),
        format!("alt-svc: h2=\"{}\"; ma=86400\r\n", elsewhere.authority()),
    ] {
        stage.upstream_says(odd(503, &field));
        stage.assert_passed_on(&field, 503, &field).await;
    }
    elsewhere.assert_left_alone();
    stage.assert_well().await;
}

#[tokio::test]
async fn a_status_that_nobody_knows_is_passed_on_and_not_kept() {
    let stage = Stage::start().await;
    for status in [299, 399, 418, 499, 599, 600, 999] {
        stage.upstream_says(odd(status, "x-odd: 1\r\n"));
        stage.assert_passed_on(&status.to_string(), status, "x-odd: 1\r\n").await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_in_a_field_are_passed_on_and_kept_as_they_are() {
    let stage = Stage::start().await;
    let line = b"\r\nx-bytes: caf\xe9 \xff\xfe\r\n";
    let said = String::from_utf8(odd(200, "x-mark: 1\r\n")).expect("text");
    let (before, after) = said.split_once("\r\nx-mark: 1\r\n").expect("the mark");
    stage.upstream_says([before.as_bytes(), line, after.as_bytes()].concat());
    for (path, last) in [(EMBEDDINGS, "; hit"), (FILES, "; detail=not-a-model-route")] {
        stage.ask_of("bytes", path).await;
        let told = stage.ask_of("bytes", path).await;
        assert!(told.text().contains(last), "{path}: {}", told.text());
        assert!(told.0.windows(line.len()).any(|window| window == line), "{}", told.text());
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn fields_of_one_connection_end_here_whatever_an_upstream_names_in_them() {
    let stage = Stage::start().await;
    let named = "connection: x-named, cache-status, via, age\r\nx-named: 1\r\nage: 7\r\n\
                 cache-status: cache-server; hit; ttl=9\r\nkeep-alive: timeout=1\r\n\
                 proxy-connection: close\r\nupgrade: h2c\r\nvia: 1.1 nobody\r\n";
    stage.upstream_says(odd(200, named));
    for path in PATHS {
        let told = stage.ask_of("named", path).await.text();
        for gone in ["x-named", "keep-alive", "proxy-conn", "upgrade", "ttl=9", "nobody", "age:"] {
            assert!(!told.contains(gone), "{path}: {gone} must end here: {told}");
        }
        assert_eq!(told.matches("cache-status: cache-server; fwd=").count(), 1, "{path}: {told}");
        assert_eq!(told.matches("via: 1.1 cache-server").count(), 1, "{path}: {told}");
    }
    stage.assert_well().await;
}
