//! Fields that speak of one connection. What a caller names in `Connection` counts for nothing:
//! not for the tenant, not for the key, not upstream.

use black_box_tests::sample::{EMBEDDINGS, question};

use super::{FILES, SMUGGLED, Stage, post};

impl Stage {
    /// What is said to this question, asked with these lines of fields.
    async fn said(&self, fields: &str, input: &str) -> String {
        let fields = format!("{fields}connection: close\r\n");
        let told = self.tell(post(EMBEDDINGS, &fields, &question(input).to_string())).await;
        assert_eq!(told.statuses(), [200], "{fields}: {}", told.text());
        told.text()
    }
}

#[tokio::test]
async fn nobody_becomes_another_tenant_by_naming_a_credential() {
    let stage = Stage::start().await;
    for (number, (name, credential)) in [
        ("authorization", "authorization: Bearer alice\r\n"),
        ("x-api-key", "x-api-key: alice\r\n"),
        ("api-key", "api-key: alice\r\n"),
        ("x-goog-api-key", "x-goog-api-key: alice\r\n"),
        ("openai-organization", "openai-organization: alices\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        let input = format!("question {number}");
        let alices = stage.said(credential, &input).await;
        assert!(alices.contains("; stored"), "{name}: {alices}");
        let without = format!("{credential}connection: {name}\r\n");
        let told = stage.said(&without, &input).await;
        assert!(told.contains("; stored"), "{name}: it is not Alice who asks: {told}");
        for named in [name.to_uppercase(), format!("x, {name} ,close,,")] {
            let told = stage.said(&format!("{credential}connection: {named}\r\n"), &input).await;
            assert!(told.contains("; hit"), "{named}: it is whoever asked before: {told}");
        }
        let nobody = stage.said("", &input).await;
        assert!(nobody.contains("; hit"), "{name}: and that is nobody: {nobody}");
        let asked = stage.upstream.requests();
        assert_eq!(asked.len(), 2 * (number + 1), "{name}: once for Alice and once for nobody");
        let forwarded = asked[asked.len() - 1].fields(name);
        assert!(forwarded.is_empty(), "{name}: the upstream is asked as nobody, too");
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn what_is_named_in_connection_asks_for_nothing() {
    let stage = Stage::start().await;
    assert!(stage.said("", "directives").await.contains("; stored"));
    for (name, field) in [
        ("cache-control", "cache-control: no-store\r\n"),
        ("cache-control", "cache-control: no-cache\r\n"),
        ("cache-server-reuse", "cache-server-reuse: no\r\n"),
        ("cache-server-reuse", "cache-server-reuse: nonsense\r\n"),
        ("content-encoding", "content-encoding: gzip\r\n"),
        ("content-type", "content-type: a/b; charset=utf-16\r\n"),
        ("range", "range: bytes=0-1\r\n"),
        ("if-none-match", "if-none-match: *\r\n"),
        ("openai-beta", "openai-beta: assistants=v2\r\n"),
    ] {
        let named = stage.said(&format!("{field}connection: {name}\r\n"), "directives").await;
        assert!(named.contains("; hit;"), "{name} is named and must not count: {named}");
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_framing_or_routing_field_named_in_connection_changes_no_body_and_no_host() {
    let stage = Stage::start().await;
    let own = stage.upstream.url().trim_start_matches("http://").to_owned();
    let named = "host, content-length, transfer-encoding, via, connection, expect, accept";
    for path in [FILES, EMBEDDINGS] {
        for framing in [
            "content-length: 5\r\n\r\nhello",
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ] {
            let head =
                format!("POST {path} HTTP/1.1\r\nhost: cache\r\nconnection: {named}, close\r\n");
            let told = stage.tell(head + framing).await;
            assert_eq!(told.statuses(), [200], "{path}: {}", told.text());
            let asked = stage.upstream.requests().pop().expect("it was asked");
            assert_eq!((asked.body.as_slice(), asked.whole), (&b"hello"[..], true), "{path}");
            assert_eq!(asked.fields("host"), std::slice::from_ref(&own), "{path}");
        }
    }
    assert_eq!(stage.upstream.calls(), 4);
    stage.assert_well().await;
}

#[tokio::test]
async fn a_connection_field_of_nonsense_harms_nobody() {
    let stage = Stage::start().await;
    let many = "x,".repeat(20_000);
    for value in ["", ",,,", "()<>@", "\"close\"", "x y", "\u{e9}", "*", "close;", many.as_str()] {
        let fields = format!("authorization: Bearer alice\r\nconnection: {value}\r\n");
        let told = stage.said(&fields, &format!("nonsense {}", value.len())).await;
        assert!(told.contains("; fwd=miss") || told.contains("; hit"), "{value}: {told}");
        let asked = stage.upstream.requests().pop().expect("it was asked");
        assert_eq!(asked.fields("authorization"), ["Bearer alice"], "{value}");
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_caller_talks_no_upstream_into_another_protocol() {
    let stage = Stage::start().await;
    let settings = "http2-settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n";
    for named in ["upgrade, http2-settings", "upgrade", "http2-settings", "close"] {
        for protocol in ["h2c", "h2c, websocket", "TLS/1.3", "http/1.1"] {
            for path in [FILES, EMBEDDINGS] {
                let fields = format!(
                    "upgrade: {protocol}\r\nconnection: {named}\r\n{settings}connection: close\r\n"
                );
                let told = stage.tell(post(path, &fields, "{\"input\":\"x\"}")).await;
                assert_eq!(told.statuses(), [200], "{protocol} by {named} on {path}");
                assert!(!told.text().to_ascii_lowercase().contains("\r\nupgrade:"), "{named}");
            }
        }
    }
    for request in stage.upstream.requests() {
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(request.fields(gone), Vec::<String>::new());
        }
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn an_expectation_that_nobody_knows_stays_here() {
    let stage = Stage::start().await;
    for expectation in ["200-ok", "100-continue, 200-ok", "", "x=y; z"] {
        for path in [FILES, EMBEDDINGS] {
            let fields = format!("expect: {expectation}\r\nconnection: close\r\n");
            let told = stage.tell(post(path, &fields, "{\"input\":\"x\"}")).await;
            let last = told.statuses().pop();
            // It may be ignored or refused (RFC 9110 section 10.1.1).
            assert!([Some(200), Some(417)].contains(&last), "{expectation}: {}", told.text());
        }
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let stage = Stage::start().await;
    let mut requests = String::new();
    for number in 0..20 {
        requests +=
            &post(EMBEDDINGS, "", &question(&format!("pipelined {}", number % 4)).to_string());
        requests += &format!("GET /x/{number} HTTP/1.1\r\nhost: cache\r\n\r\n");
    }
    let mut caller = stage.connect().await;
    caller.send(&requests).await;
    for number in 0..20 {
        let model = caller.answer().await.head;
        let expected = if number < 4 { "; stored" } else { "; hit" };
        assert!(model.contains(expected), "{number}: {model}");
        let other = caller.answer().await.head;
        assert!(other.contains("; detail=no-lifetime"), "{number}: {other}");
    }
    let others: Vec<_> =
        stage.targets().into_iter().filter(|target| target.starts_with("/x")).collect();
    let expected: Vec<_> = (0..20).map(|number| format!("/x/{number}")).collect();
    assert_eq!(others, expected);
    stage.assert_well().await;
}

#[tokio::test]
async fn a_hostile_request_behind_a_good_one_harms_neither_it_nor_others() {
    let stage = Stage::start().await;
    for (number, hostile) in [
        "\0\0\0\0\r\n\r\n",
        "GET /x HTTP/1.1\r\nbad field\r\n\r\n",
        "POST /x HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        "GET /x HTTP/9.9\r\n\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let good = post(EMBEDDINGS, "", &question(&format!("good {number}")).to_string());
        let before = stage.upstream.calls();
        let told = stage.tell(format!("{good}{hostile}{SMUGGLED}")).await;
        assert_eq!(told.statuses(), [200, 400], "{hostile:?}: {}", told.text());
        assert!(told.text().contains("; stored"), "{hostile:?}: {}", told.text());
        assert_eq!(stage.upstream.calls(), before + 1, "{hostile:?}: {:?}", stage.targets());
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn nothing_is_read_behind_a_request_that_ends_its_connection() {
    let stage = Stage::start().await;
    for close in [
        "HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n",
        "HTTP/1.1\r\nhost: cache\r\nconnection: Keep-Alive, CLOSE\r\n",
        "HTTP/1.1\r\nhost: cache\r\nconnection: close\r\nconnection: keep-alive\r\n",
        "HTTP/1.0\r\nhost: cache\r\n",
    ] {
        let told = stage.tell(format!("GET /x {close}\r\n{SMUGGLED}")).await;
        let text = told.text();
        assert_eq!(text.matches("200 OK\r\n").count(), 1, "{close}: {text}");
        assert_eq!(text.matches("HTTP/1.").count(), 1, "{close}: {text}");
    }
    assert_eq!(stage.upstream.calls(), 4);
    stage.assert_well().await;
}
