//! Where a request's body ends: whoever says it in two ways, or in no way that is certain, is
//! refused, and no byte of a body is ever read as a request.

use black_box_tests::sample::{EMBEDDINGS, question};

use super::{FILES, PATHS, SMUGGLED, Stage};

impl Stage {
    /// The request is refused before the upstream hears of it, and the connection ends.
    async fn assert_framing_refused(&self, framing: &str, statuses: &[u16]) {
        for path in PATHS {
            let before = self.upstream.calls();
            let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\n{framing}\r\n\r\n");
            let told = self.tell(format!("{head}0\r\n\r\n{SMUGGLED}")).await;
            let [status] = told.statuses()[..] else {
                panic!("{framing:?} on {path}: {:?}", told.text())
            };
            assert!(statuses.contains(&status), "{framing:?} on {path}: {}", told.text());
            assert_eq!(self.upstream.calls(), before, "{framing:?} on {path}");
        }
    }
}

#[tokio::test]
async fn a_length_that_is_no_plain_number_is_refused() {
    let stage = Stage::start().await;
    for length in [
        "",
        "+5",
        "-5",
        "-0",
        "5,5",
        "5, 5",
        "5, 6",
        "5 5",
        "5;",
        "5.0",
        "5e0",
        "0x5",
        "5_0",
        "five",
        "\"5\"",
        "\u{665}",
        "\u{ff15}",
        "18446744073709551616",
        "99999999999999999999999999999999",
    ] {
        stage.assert_framing_refused(&format!("content-length: {length}"), &[400]).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_length_beyond_all_bounds_is_refused() {
    let stage = Stage::start().await;
    for length in
        ["18446744073709551615", "18446744073709551614", "9223372036854775807", "1073741825"]
    {
        let framing = format!("content-length: {length}");
        stage.assert_framing_refused(&framing, &[400, 413, 431]).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn two_lengths_are_refused_unless_they_are_the_same() {
    let stage = Stage::start().await;
    for (one, other) in [("5", "6"), ("5", "05x"), ("0", "5"), ("5", "-5"), ("5", "")] {
        let framing = format!("content-length: {one}\r\nContent-Length: {other}");
        stage.assert_framing_refused(&framing, &[400]).await;
    }
    let mut caller = stage.connect().await;
    let fields = "content-length: 5\r\ncontent-length: 5";
    caller.send(format!("POST {FILES} HTTP/1.1\r\nhost: cache\r\n{fields}\r\n\r\nhello")).await;
    assert!(caller.answer().await.head.starts_with("HTTP/1.1 200 "));
    let asked = stage.upstream.requests().pop().expect("it was asked");
    assert_eq!(asked.fields("content-length"), ["5"], "one is passed on");
    assert_eq!(asked.body, b"hello");
    stage.assert_well().await;
}

#[tokio::test]
async fn a_transfer_coding_other_than_chunked_once_is_refused() {
    let stage = Stage::start().await;
    for coding in [
        "",
        "identity",
        "gzip",
        "xchunked",
        "chunkedx",
        "chunked;q=1",
        "\"chunked\"",
        "chunked, identity",
        "chunked, gzip",
        "chunked,",
        "chunked\r\ntransfer-encoding: identity",
        // The last one is chunked, and the body would still not be what it was sent as.
        "gzip, chunked",
        "identity, chunked",
        "identity\r\ntransfer-encoding: chunked",
        "gzip\r\nTransfer-Encoding: chunked",
        "chunked, chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: \r\ntransfer-encoding: CHUNKED",
    ] {
        let framing = format!("transfer-encoding: {coding}");
        stage.assert_framing_refused(&framing, &[400, 501]).await;
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_coding_in_front_of_chunked_is_named_as_the_mistake() {
    let stage = Stage::start().await;
    for path in PATHS {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: cache\r\ntransfer-encoding: gzip, chunked");
        let told = stage.tell(format!("{head}\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
        told.assert_problem(501, "transfer-coding", path);
    }
    assert_eq!(stage.upstream.calls(), 0);
    stage.assert_well().await;
}

#[tokio::test]
async fn chunks_in_http_1_0_are_refused() {
    let stage = Stage::start().await;
    for path in PATHS {
        let head = format!("POST {path} HTTP/1.0\r\nhost: cache\r\ntransfer-encoding: chunked");
        let told = stage.tell(format!("{head}\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
        assert!(told.text().starts_with("HTTP/1.0 400 ") || told.statuses() == [400]);
        assert_eq!(stage.upstream.calls(), 0);
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_length_beside_chunks_never_makes_two_requests_of_one() {
    let stage = Stage::start().await;
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    for (case, fields) in [
        ("the length first", "content-length: 6\r\ntransfer-encoding: chunked"),
        ("the length last", "transfer-encoding: chunked\r\ncontent-length: 6"),
        ("a length of all", "content-length: 45\r\ntransfer-encoding: chunked"),
        ("a bad length", "transfer-encoding: chunked\r\ncontent-length: -6"),
        ("three of them", "content-length: 6\r\ntransfer-encoding: chunked\r\ncontent-length: 7"),
    ] {
        for path in PATHS {
            let before = stage.upstream.calls();
            let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\n{fields}\r\n\r\n");
            let told = stage.tell(head + &chunked).await;
            // Refused, or read by its chunks alone and then closed (RFC 9112 section 6.3).
            assert_eq!(told.statuses().len(), 1, "{case} on {path}: {}", told.text());
            let asked = stage.upstream.requests().split_off(before);
            assert!(asked.len() <= 1, "{case} on {path}");
            for request in asked {
                assert_eq!(request.target(), path, "{case}");
                assert!(request.whole && request.body.is_empty(), "{case} on {path}");
            }
        }
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_malformed_chunk_breaks_the_request_off() {
    let stage = Stage::bounded("body_timeout = \"500ms\"").await;
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(20_000));
    for (case, chunks) in [
        ("a negative size", "-5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a plus", "+5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a space before", " 5\r\nhello\r\n0\r\n\r\n"),
        ("a size with a space within", "0 5\r\nhello\r\n0\r\n\r\n"),
        ("a size that is none", "\r\nhello\r\n0\r\n\r\n"),
        ("a size that is no hex", "g\r\nhello\r\n0\r\n\r\n"),
        ("a size with an underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        ("a size of 17 digits", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("a size of 40 digits", "ffffffffffffffffffffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("an endless extension", long_extension.as_str()),
        ("a line feed behind the size", "5\nhello\r\n0\r\n\r\n"),
        ("a line feed in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("a CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("no line's end behind the chunk", "5\r\nhello0\r\n\r\n"),
        ("a line feed behind the chunk", "5\r\nhello\n0\r\n\r\n"),
        ("a chunk longer than it says", "3\r\nhello\r\n0\r\n\r\n"),
        ("a second chunk that is none", "5\r\nhello\r\nworld\r\n0\r\n\r\n"),
        ("a last chunk of another digit", "5\r\nhello\r\n\u{660}\r\n\r\n"),
        ("no empty line at the end", "5\r\nhello\r\n0\r\nX"),
        ("a bad trailer", "5\r\nhello\r\n0\r\nx y: z\r\n\r\n"),
    ] {
        for path in PATHS {
            let head = "host: cache\r\ntransfer-encoding: chunked";
            let request = format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n{chunks}{SMUGGLED}");
            let told = stage.tell(request).await;
            told.assert_problem(400, "body-broken", &format!("{case} on {path}"));
        }
    }
    for (case, chunks) in [
        ("a chunk shorter than it says", "ff\r\nhello\r\n0\r\n\r\n"),
        ("the largest size there is", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("no last chunk", "5\r\nhello\r\n"),
    ] {
        for path in PATHS {
            let head = "host: cache\r\ntransfer-encoding: chunked";
            let told = stage.tell(format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n{chunks}")).await;
            told.assert_problem(408, "body-timeout", &format!("{case} on {path}"));
        }
    }
    for request in stage.upstream.requests() {
        assert_eq!(request.target(), FILES, "what is read for a key goes up whole or not at all");
        assert!(!request.whole, "it must not look whole upstream");
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn chunks_of_every_lawful_form_come_upstream_as_what_they_say() {
    let stage = Stage::start().await;
    for (case, chunks) in [
        ("an extension", "5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\n"),
        ("leading zeros", "0005\r\nhello\r\n000\r\n\r\n"),
        ("a byte each", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n"),
        ("trailers", "5\r\nhello\r\n0\r\nx-trailer: 1\r\n\r\n"),
        (
            "trailers that must not be heads",
            "5\r\nhello\r\n0\r\nauthorization: x\r\nhost: y\r\n\r\n",
        ),
    ] {
        for path in PATHS {
            let mut caller = stage.connect().await;
            let head = "host: cache\r\ntransfer-encoding: chunked\r\ntrailer: authorization";
            caller.send(format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n{chunks}")).await;
            let answer = caller.answer().await.head;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{case} on {path}: {answer}");
            let asked = stage.upstream.requests().pop().expect("it was asked");
            assert_eq!(asked.body, b"hello", "{case} on {path}");
            assert!(asked.fields("authorization").is_empty(), "{case} on {path}");
        }
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_trailer_is_no_credential_and_no_directive() {
    let stage = Stage::start().await;
    let body = question("in a trailer").to_string();
    let length = format!("{:x}", body.len());
    let with = |trailers: &str| {
        let head = "host: cache\r\ntransfer-encoding: chunked\r\nconnection: close";
        format!(
            "POST {EMBEDDINGS} HTTP/1.1\r\n{head}\r\n\r\n{length}\r\n{body}\r\n0\r\n{trailers}\r\n"
        )
    };
    let first = stage.tell(with("")).await.text();
    assert!(first.contains("; stored"), "{first}");
    for trailer in
        ["authorization: Bearer alice", "cache-control: no-store", "cache-server-reuse: no"]
    {
        let told = stage.tell(with(&format!("{trailer}\r\n"))).await.text();
        assert!(told.contains("detail=request-trailers"), "{trailer}: {told}");
    }
    assert!(stage.tell(with("")).await.text().contains("; hit"));
    assert_eq!(stage.upstream.calls(), 4, "with trailers it goes past the cache");
    stage.assert_well().await;
}
