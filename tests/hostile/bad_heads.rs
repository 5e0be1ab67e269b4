//! Heads that are no HTTP, or HTTP as nobody sends it.

use black_box_tests::sample::{EMBEDDINGS, question};

use super::{FILES, SMUGGLED, Stage, post};

impl Stage {
    /// Refused as no HTTP: one answer, the connection's end, and the upstream hears nothing.
    /// The parser answers by itself, before there is a request: its answer has no body.
    async fn assert_refused(&self, case: &str, bytes: impl AsRef<[u8]>, statuses: &[u16]) {
        let before = self.upstream.calls();
        let bytes = [bytes.as_ref(), SMUGGLED.as_bytes()].concat();
        let told = self.tell(bytes).await;
        let [status] = told.statuses()[..] else { panic!("{case}: {:?}", told.text()) };
        assert!(statuses.contains(&status), "{case}: {}", told.text());
        assert_eq!(self.upstream.calls(), before, "{case}: {:?}", self.targets());
    }
}

#[tokio::test]
async fn a_malformed_field_line_refuses_the_request() {
    let stage = Stage::start().await;
    let lines: &[(&str, &[u8])] = &[
        ("a bare CR in a value", b"x-a: 1\rx-b: 2"),
        ("a bare CR in a name", b"x-\ra: 1"),
        ("a bare CR before the end", b"x-a: 1\r"),
        ("NUL in a value", b"x-a: a\0b"),
        ("NUL in a name", b"x-\0a: 1"),
        ("a control byte in a value", b"x-a: \x01"),
        ("an escape in a value", b"x-a: \x1b[2J"),
        ("a backspace in a value", b"x-a: 1\x08"),
        ("DEL in a value", b"x-a: \x7f"),
        ("a space before the colon", b"x-a : 1"),
        ("a tab before the colon", b"x-a\t: 1"),
        ("a space in a name", b"x a: 1"),
        ("no colon", b"x-a"),
        ("an empty name", b": 1"),
        ("an empty name and value", b":"),
        ("a name in quotes", b"\"x-a\": 1"),
        ("a name in brackets", b"[x-a]: 1"),
        ("a slash in a name", b"x/a: 1"),
        ("an ASCII control in a name", b"x-a\x0b: 1"),
        ("a name in Latin-1", b"x-\xe9: 1"),
        ("a name in UTF-8", "x-\u{e9}: 1".as_bytes()),
        ("a folded line", b"x-a: 1\r\n folded"),
        ("a line folded by a tab", b"x-a: 1\r\n\tfolded"),
        ("a framing field on a folded line", b"x-a: 1\r\n content-length: 5"),
    ];
    for (case, line) in lines {
        for path in [FILES, EMBEDDINGS] {
            for place in ["", "x-before: 1\r\n"] {
                let head = format!("GET {path} HTTP/1.1\r\nhost: cache\r\n{place}");
                let head = [head.as_bytes(), line, b"\r\n\r\n"].concat();
                stage.assert_refused(&format!("{case} on {path}"), head, &[400]).await;
            }
        }
    }
    let folded_first = "GET /x HTTP/1.1\r\n host: cache\r\n\r\n";
    stage.assert_refused("a first field that is folded", folded_first, &[400]).await;
    let after = "GET /x HTTP/1.1\r\nhost: cache\r\n\r\r\n\r\n";
    stage.assert_refused("a bare CR for the last line", after, &[400]).await;
    stage.assert_well().await;
}

#[tokio::test]
async fn a_bare_line_feed_ends_a_line_for_the_key_and_for_the_upstream_alike() {
    // RFC 9112 section 2.2 lets a recipient take it so. What must not be: that one of the two
    // sees a field and the other a part of a value.
    let stage = Stage::start().await;
    let body = question("whose?").to_string();
    let alice = "x-note: 1\nauthorization: Bearer alice\r\nconnection: close\r\n";
    let told = stage.tell(post(EMBEDDINGS, alice, &body)).await.text();
    assert!(told.contains("; stored"), "{told}");
    let asked = stage.upstream.requests().pop().expect("it was asked");
    assert_eq!(asked.fields("authorization"), ["Bearer alice"]);
    assert_eq!(asked.fields("x-note"), ["1"]);
    assert_eq!(asked.fault(), None, "the upstream gets proper lines");

    let plain = "authorization: Bearer alice\r\nconnection: close\r\n";
    let told = stage.tell(post(EMBEDDINGS, plain, &body)).await.text();
    assert!(told.contains("; hit"), "Alice is Alice in either spelling: {told}");
    let told = stage.tell(post(EMBEDDINGS, "connection: close\r\n", &body)).await.text();
    assert!(told.contains("; fwd=miss"), "nobody else is: {told}");
    stage.assert_well().await;
}

#[tokio::test]
async fn another_version_or_none_refuses_the_request() {
    let stage = Stage::start().await;
    for line in [
        "GET /x",
        "GET /x ",
        "GET",
        "GET /x HTTP",
        "GET /x HTTP/",
        "GET /x HTTP/1",
        "GET /x HTTP/1.",
        "GET /x HTTP/0.9",
        "GET /x HTTP/1.2",
        "GET /x HTTP/1.10",
        "GET /x HTTP/2.0",
        "GET /x HTTP/3",
        "GET /x HTTP/9.9",
        "GET /x http/1.1",
        "GET /x HTTP/1.1x",
        "GET /x HTTP/1.1 ",
        "GET /x HTTP/1,1",
        "GET /x HTTP/+1.1",
        "GET /x HTCPCP/1.0",
        "GET /x y HTTP/1.1",
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        " GET /x HTTP/1.1",
        "GET\t/x\tHTTP/1.1",
        "GET /x\0 HTTP/1.1",
        "GET /x\r HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "HTTP/1.1 200 OK",
    ] {
        let head = format!("{line}\r\nhost: cache\r\n\r\n");
        stage.assert_refused(&format!("{line:?}"), head, &[400, 505]).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_method_that_is_no_token_refuses_the_request() {
    let stage = Stage::start().await;
    for method in ["", "G ET", "GE(T", "G\0T", "G\tT", "\"GET\"", "GET,", "G\u{e9}T", "{}", "<>"] {
        let head = format!("{method} /x HTTP/1.1\r\nhost: cache\r\n\r\n");
        stage.assert_refused(&format!("{method:?}"), head, &[400]).await;
    }
    let handshake = "\x16\x03\x01\x02\0\x01\0\x01\u{fc}\x03\x03";
    stage.assert_refused("a TLS handshake", handshake, &[400]).await;
    stage.assert_refused("SSH", "SSH-2.0-OpenSSH_9.9\r\n\r\n", &[400]).await;
    stage.assert_refused("JSON", "{\"input\":\"x\"}\r\n\r\n", &[400]).await;
    stage.assert_well().await;
}

#[tokio::test]
async fn an_absurd_method_and_one_in_lower_case_pass_uncached() {
    let stage = Stage::start().await;
    let long = "M".repeat(1000);
    for method in ["post", "Post", "POSTS", "!#$%&'*+-.^_`|~0", "TRACE", long.as_str()] {
        for turn in ["first", "second"] {
            let mut caller = stage.connect().await;
            let body = "{\"input\":\"x\"}";
            let head = format!("{method} {EMBEDDINGS} HTTP/1.1\r\nhost: cache\r\n");
            caller.send(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).await;
            let answer = caller.answer().await.head;
            assert!(answer.contains("; detail=not-a-model-route"), "{turn} {method}: {answer}");
            let asked = stage.upstream.requests().pop().expect("it was asked");
            let line = format!("{method} {EMBEDDINGS} HTTP/1.1\r\n");
            assert!(asked.head.starts_with(line.as_bytes()), "{method}");
        }
    }
    assert_eq!(stage.upstream.calls(), 12);
    stage.assert_well().await;
}
