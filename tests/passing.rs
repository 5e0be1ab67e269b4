//! What is no model route passes through unchanged, and so does what is too large for a key.

use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, question};
use black_box_tests::{Answer, Raw, Reading, Reply, Server, Setup, Upstream};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use tokio::net::TcpListener;

/// The fields of a request as they came, without those that a client must set anew.
fn fields(headers: &HeaderMap, name: &str) -> Vec<String> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.get_all(name).iter().map(text).collect()
}

fn assert_problem(answer: &Answer, status: u16, code: &str, case: &str) {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    assert_eq!(answer.field("content-type"), "application/problem+json", "{case}");
    assert_eq!(answer.json()["code"], code, "{case}");
}

/// An upstream that the test plays itself, and a server in front of it.
async fn played() -> (TcpListener, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = Server::start(
        Setup::default()
            .argument("--upstream")
            .argument(&url)
            .config("[server]\nkey_body_bytes_max = \"1KiB\""),
    );
    (listener, server.await)
}

async fn accepted(listener: &TcpListener) -> Raw {
    let accepted = tokio::time::timeout(black_box_tests::PATIENCE, listener.accept()).await;
    Raw::of(accepted.expect("a connection in time").expect("a connection").0)
}

#[tokio::test]
async fn every_method_passes_with_its_path_query_and_body() {
    let upstream = Upstream::start(|_| Reply::bytes("done.").status(207)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (method, body) in [
        ("GET", ""),
        ("HEAD", ""),
        ("POST", "posted"),
        ("PUT", "put"),
        ("PATCH", "patched"),
        ("DELETE", ""),
        ("DELETE", "with a body"),
        ("OPTIONS", ""),
        ("PURGE", ""),
        ("FOO", "bar"),
    ] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let path = "/any/base/v9/things/7?x=1&y=2";
        let request = server.client().request(method.clone(), path).body(body);
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 207, "{method}");
        assert_eq!(answer.field("content-length"), "5", "{method}");
        assert_eq!(answer.body, if method == Method::HEAD { "" } else { "done." }, "{method}");
        let said = match method.as_str() {
            "GET" => "cache-server; fwd=miss; fwd-status=207; detail=no-lifetime",
            "HEAD" => "cache-server; fwd=miss; fwd-status=207; detail=head",
            _ => "cache-server; fwd=method; fwd-status=207; detail=not-a-model-route",
        };
        assert!(answer.cache_status().starts_with(said), "{method}: {}", answer.cache_status());
        let received = upstream.received().pop().expect("it was asked");
        assert_eq!((received.method, received.uri.to_string().as_str()), (method.clone(), path));
        assert_eq!(received.body, body, "{method}");
    }
}

#[tokio::test]
async fn a_model_routes_path_with_another_method_passes_too() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for method in [Method::TRACE, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = Answer::of(server.client().request(method.clone(), EMBEDDINGS)).await;
        let cache_status = answer.cache_status();
        assert!(cache_status.ends_with("; detail=not-a-model-route"), "{method}: {cache_status}");
    }
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn path_and_query_pass_byte_for_byte() {
    let mut changed = Vec::new();
    let upstream = Upstream::start(|_| Reply::bytes("ok")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for target in [
        "/",
        "/v1/files/a%2Fb%20c",
        "/v1//double///slashes",
        "/v1/~tilde/%7Etilde/%e4%E4",
        "/v1/models/m:countThings",
        "/v1/semi;colon=1/at@sign/dollar$",
        "/x?a=%20+b&a=2&a=",
        "/x?&&=&",
        "/x?q=%2f%2F%zz",
        "/x?q=a/b?c:d@e",
        "/x?",
        "/x?q={braces}|bar",
        "/x?q=[brackets]^`",
    ] {
        let mut caller = Raw::open(&server.address).await;
        caller.send(format!("GET {target} HTTP/1.1\r\nhost: cache\r\n\r\n")).await;
        let answer = caller.answer().await;
        assert_eq!(answer.text(), "ok", "{target}: {}", answer.head);
        let came = upstream.received().pop().expect("it was asked").uri.to_string();
        if came != target {
            changed.push(format!("{target} came as {came}"));
        }
    }
    assert!(changed.is_empty(), "{changed:#?}");
}

#[tokio::test]
async fn a_requests_fields_pass_and_nothing_but_via_is_added() {
    let upstream = Upstream::start(|_| Reply::bytes("ok")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = Raw::open(&server.address).await;
    let sent = [
        ("authorization", "Bearer sk-test"),
        ("cookie", "a=1"),
        ("user-agent", "an agent/1"),
        ("accept", "text/plain;q=0.5"),
        ("accept-encoding", "gzip, br;q=0.1"),
        ("x-many", "one"),
        ("x-many", "two, three"),
        ("x-empty", ""),
        ("x-text", "caf\u{e9}"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("cache-control", "no-cache"),
        ("via", "1.0 before"),
    ];
    let lines: String = sent.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    caller.send(format!("GET /x HTTP/1.1\r\nhost: cache\r\n{lines}\r\n")).await;
    assert_eq!(caller.answer().await.text(), "ok");
    let received = upstream.received().pop().expect("it was asked").headers;
    for (name, _) in sent {
        let expected = sent.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value);
        let ours = (name == "via").then_some("1.1 cache-server");
        let expected: Vec<_> = expected.chain(ours).collect();
        assert_eq!(fields(&received, name), expected, "{name}");
    }

    caller.send("GET /bare HTTP/1.1\r\nhost: cache\r\n\r\n").await;
    assert_eq!(caller.answer().await.text(), "ok");
    let received = upstream.received().pop().expect("it was asked").headers;
    let mut names: Vec<_> = received.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    // `Accept: */*` means the same as none (RFC 9110 section 12.5.1).
    assert_eq!(names, ["accept", "cdn-loop", "host", "via"], "a bare request stays bare");
    assert_eq!(fields(&received, "accept"), ["*/*"]);
    assert!(upstream.url().ends_with(&fields(&received, "host")[0]), "the upstream's own host");
}

#[tokio::test]
async fn an_answers_fields_pass_and_via_is_added() {
    let sent = [
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-request-id", "req_1"),
        ("cache-control", "private, no-store"),
        ("etag", "\"v1\""),
        ("age", "7"),
        ("x-ratelimit-remaining-requests", "3"),
        ("server", "somebody"),
        ("via", "1.1 edge"),
    ];
    let upstream = Upstream::start(move |_| {
        sent.iter().fold(Reply::bytes("ok"), |reply, (name, value)| reply.with(name, value))
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let answer = server.client().get("/x").await;
    for (name, _) in sent {
        let expected = sent.iter().filter(|(other, _)| *other == name).map(|(_, value)| *value);
        let ours = (name == "via").then_some("1.1 cache-server");
        let expected: Vec<_> = expected.chain(ours).collect();
        assert_eq!(fields(&answer.headers, name), expected, "{name}");
    }
}

#[tokio::test]
async fn fields_that_concern_one_connection_end_here_both_ways() {
    let upstream = Upstream::start(|_| {
        Reply::bytes("ok")
            .with("connection", "X-Hop, keep-alive")
            .with("x-hop", "1")
            .with("keep-alive", "timeout=5")
            .with("proxy-connection", "keep-alive")
            .with("x-end", "to end")
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for path in ["/x", CHAT] {
        let mut caller = Raw::open(&server.address).await;
        let body = chat(false).to_string();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: cache\r\nconnection: keep-alive, x-hop ,TE\r\n\
             connection: x-other\r\nx-hop: 1\r\nx-other: 1\r\nte: trailers\r\n\
             keep-alive: timeout=9\r\nproxy-connection: keep-alive\r\nx-end: to end\r\n\
             content-length: {length}\r\n\r\n"
        );
        caller.send(head + &body).await;
        let answer = caller.answer().await.head.to_ascii_lowercase();
        for gone in ["x-hop", "timeout=5", "proxy-connection"] {
            assert!(!answer.contains(gone), "{path}: {gone} must end here: {answer}");
        }
        assert!(answer.contains("x-end: to end"), "{path}: {answer}");

        let received = upstream.received().pop().expect("it was asked").headers;
        let hops = ["connection", "x-hop", "x-other", "te", "keep-alive", "proxy-connection"];
        for gone in hops {
            assert_eq!(fields(&received, gone), Vec::<String>::new(), "{path}: {gone}");
        }
        assert_eq!(fields(&received, "x-end"), ["to end"], "{path}");
    }
}

#[tokio::test]
async fn redirects_and_errors_pass_as_they_are() {
    let upstream = Upstream::start(|request| {
        let status = request.uri.path().trim_start_matches('/').parse().expect("a status");
        Reply::bytes("because").status(status).with("location", "/elsewhere").with("x-why", "so")
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let statuses = [301, 302, 303, 307, 308, 400, 401, 404, 407, 418, 429, 500, 502, 503, 504, 599];
    for status in statuses {
        let answer = server.client().get(&format!("/{status}")).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (status, &b"because"[..]));
        assert_eq!(answer.field("location"), "/elsewhere", "{status}");
        assert_eq!(answer.field("x-why"), "so", "{status}");
    }
    assert_eq!(upstream.calls(), statuses.len(), "nothing is followed and nothing repeated");
}

#[tokio::test]
async fn an_answers_trailers_pass_to_a_caller_who_takes_them() {
    let upstream = Upstream::start(|_| {
        let (live, reply) = Reply::live("text/plain");
        live.send(Ok("body".into())).expect("it is read");
        let checksum = HeaderValue::from_static("abc");
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-checksum"), checksum)]);
        reply.with("trailer", "x-checksum").with_trailers(trailers)
    });
    let upstream = upstream.await;
    let setup = Setup::default().config(&format!(
        "[[upstream]]\nname = \"up\"\nurl = \"{}\"\nprefix = \"/\"\nprotocol = \"http2\"",
        upstream.url()
    ));
    let server = Server::start(setup).await;
    let mut caller = Raw::open(&server.address).await;
    caller
        .send("GET /x HTTP/1.1\r\nhost: cache\r\nte: trailers\r\nconnection: te, close\r\n\r\n")
        .await;
    let answer = String::from_utf8(caller.rest().await).expect("text");
    assert!(answer.ends_with("4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_requests_trailers_pass_even_where_its_body_would_have_a_key() {
    for protocol in ["http1", "http2"] {
        let upstream = Upstream::saying(serde_json::json!({})).await;
        let setup = Setup::default().config(&format!(
            "[[upstream]]\nname = \"up\"\nurl = \"{}\"\nprefix = \"/\"\nprotocol = \"{protocol}\"",
            upstream.url()
        ));
        let server = Server::start(setup).await;
        for path in ["/v1/embeddings", "/v1/files"] {
            let mut caller = Raw::open(&server.address).await;
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: cache\r\ntrailer: x-checksum\r\n\
                 transfer-encoding: chunked\r\n\r\n"
            );
            caller.send(head + "2\r\n{}\r\n0\r\nx-checksum: abc\r\n\r\n").await;
            let answer = caller.answer().await;
            assert!(answer.head.starts_with("HTTP/1.1 200"), "{}", answer.head);
            if path == "/v1/embeddings" {
                assert!(answer.head.contains("detail=request-trailers"), "{}", answer.head);
            }
            let received = upstream.received().pop().expect("a request");
            assert_eq!(&received.body[..], b"{}", "{protocol}{path}");
            let trailers = received.trailers.expect("trailers");
            assert_eq!(trailers["x-checksum"], "abc", "{protocol}{path}");
        }
    }
}

#[tokio::test]
async fn a_requests_body_streams_up_while_it_is_sent() {
    let (listener, server) = played().await;
    // On the model route it is too large for a key from its second piece on.
    for path in ["/v1/files", EMBEDDINGS] {
        let mut caller = Raw::open(&server.address).await;
        let first = "x".repeat(4096);
        caller
            .send(format!(
                "POST {path} HTTP/1.1\r\nhost: cache\r\ntransfer-encoding: chunked\r\n\r\n\
                 1000\r\n{first}\r\n"
            ))
            .await;
        let mut upstream = accepted(&listener).await;
        let head = upstream.head().await.to_ascii_lowercase();
        assert!(head.contains("\r\ntransfer-encoding: chunked"), "{path}: {head}");
        let mut came = Vec::new();
        while came.len() < first.len() {
            came.extend(upstream.chunk().await);
        }
        assert_eq!(came, first.as_bytes(), "{path}");
        caller.send("4\r\nlast\r\n0\r\n\r\n").await;
        assert_eq!(upstream.chunk().await, b"last", "{path}");
        assert_eq!(upstream.chunk().await, b"", "{path}");
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
        assert_eq!(caller.answer().await.text(), "ok", "{path}");
    }
}

#[tokio::test]
async fn a_request_of_known_length_keeps_it_and_streams_up() {
    let (listener, server) = played().await;
    for path in ["/v1/files", EMBEDDINGS] {
        let mut caller = Raw::open(&server.address).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\ncontent-length: 4100\r\n\r\n");
        caller.send(head + &"x".repeat(4096)).await;
        let mut upstream = accepted(&listener).await;
        let head = upstream.head().await.to_ascii_lowercase();
        assert!(head.contains("\r\ncontent-length: 4100"), "{path}: {head}");
        assert_eq!(upstream.exactly(4096).await, "x".repeat(4096).as_bytes(), "{path}");
        caller.send("last").await;
        assert_eq!(upstream.exactly(4).await, b"last", "{path}");
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
        assert_eq!(caller.answer().await.text(), "ok", "{path}");
    }
}

#[tokio::test]
async fn a_caller_who_waits_to_be_told_to_go_on_is_told() {
    let upstream = Upstream::start(|_| Reply::bytes("ok")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for path in ["/v1/files", EMBEDDINGS] {
        let mut caller = Raw::open(&server.address).await;
        let head = "host: cache\r\nexpect: 100-continue\r\ncontent-length: 4";
        caller.send(format!("POST {path} HTTP/1.1\r\n{head}\r\n\r\n")).await;
        assert_eq!(caller.head().await, "HTTP/1.1 100 Continue", "{path}");
        caller.send("body").await;
        assert_eq!(caller.answer().await.text(), "ok", "{path}");
        assert_eq!(upstream.received().pop().expect("it was asked").body, "body", "{path}");
    }
}

#[tokio::test]
async fn an_answer_streams_down_piece_by_piece() {
    let (live, reply) = Reply::live("application/octet-stream");
    let reply = std::sync::Mutex::new(Some(reply));
    let upstream =
        Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = Reading::of(server.client().request(Method::GET, "/v1/files/1/content")).await;
    for piece in ["one", "two", "three"] {
        live.send(Ok(piece.into())).expect("the upstream reads");
        caller.expect(piece.as_bytes()).await;
    }
    drop(live);
    assert_eq!(caller.rest().await.expect("a clean end"), "");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn each_upstream_is_spoken_to_in_its_own_http() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    for (protocol, version) in
        [("auto", Version::HTTP_11), ("http1", Version::HTTP_11), ("http2", Version::HTTP_2)]
    {
        let setup = Setup::default().config(&format!(
            "[[upstream]]\nname = \"up\"\nurl = \"{}\"\nprefix = \"/\"\nprotocol = \"{protocol}\"",
            upstream.url()
        ));
        let server = Server::start(setup).await;
        for path in ["/v1/files", EMBEDDINGS] {
            let answer = server.client().ask(path, &question("which?")).await;
            assert_eq!(answer.json(), embedding(0.25), "{protocol} on {path}");
            let received = upstream.received().pop().expect("it was asked");
            assert_eq!(received.version, version, "{protocol} on {path}");
        }
        let again = server.client().ask(EMBEDDINGS, &question("which?")).await;
        assert!(again.is_hit(), "{protocol}: {}", again.cache_status());
    }
}

#[tokio::test]
async fn compressed_bytes_pass_untouched() {
    // No gzip at all: whoever tried to unpack it would fail.
    let bytes = Bytes::from_static(b"\x1f\x8b\x08\x00not really\xff\xfe");
    let given = bytes.clone();
    let upstream = Upstream::start(move |_| {
        Reply::bytes(given.clone()).with("content-encoding", "gzip").with("vary", "accept-encoding")
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let request = server.client().request(Method::GET, "/x").header("accept-encoding", "gzip");
    let answer = Answer::of(request).await;
    assert_eq!((answer.field("content-encoding"), &answer.body), ("gzip", &bytes));
    assert_eq!(answer.field("content-length"), bytes.len().to_string());
    let received = upstream.received().pop().expect("it was asked").headers;
    assert_eq!(fields(&received, "accept-encoding"), ["gzip"]);
}

#[tokio::test]
async fn a_body_too_large_for_a_key_passes_through_uncached_and_says_so() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let setup = Setup::in_front_of(&upstream).config("[server]\nkey_body_bytes_max = \"1KiB\"");
    let server = Server::start(setup).await;
    let body = question(&"long ".repeat(20_000)).to_string();
    for chunked in [false, true] {
        for _ in 0..2 {
            let whole = reqwest_body(&body, chunked);
            let answer =
                Answer::of(server.client().request(Method::POST, EMBEDDINGS).body(whole)).await;
            assert_eq!(answer.json(), embedding(0.25), "chunked: {chunked}");
            assert_eq!(
                answer.cache_status(),
                "cache-server; fwd=bypass; fwd-status=200; detail=body-too-large",
                "chunked: {chunked}"
            );
            let received = upstream.received().pop().expect("it was asked");
            assert!(received.body == body, "chunked: {chunked}: the body differs");
        }
    }
    assert_eq!(upstream.calls(), 4);
    let small = server.client().ask(EMBEDDINGS, &question("short")).await;
    assert!(small.cache_status().contains("; stored"), "{}", small.cache_status());
}

fn reqwest_body(text: &str, chunked: bool) -> reqwest::Body {
    if !chunked {
        return text.to_owned().into();
    }
    let piece = |piece: &[u8]| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece));
    let pieces: Vec<_> = text.as_bytes().chunks(700).map(piece).collect();
    reqwest::Body::wrap_stream(futures_util::stream::iter(pieces))
}

#[tokio::test]
async fn a_path_that_leaves_the_upstreams_base_is_refused() {
    let upstream = Upstream::start(|_| Reply::bytes("ok")).await;
    let base = format!("{}/base", upstream.url());
    let setup = Setup::default().argument("--upstream").argument(&base);
    let server = Server::start(setup.argument("--upstream").argument(&format!("u={base}"))).await;
    for path in [
        "/..",
        "/../x",
        "/v1/../../x",
        "/%2e%2e/x",
        "/%2E%2e/x",
        "/.%2e/x",
        "/%2e./x",
        "/a/%2e%2e/%2e%2e/x",
        "/a/./../../base/x",
        "/u/../x",
        "/u/%2e%2e/base/x",
    ] {
        let mut caller = Raw::open(&server.address).await;
        caller.send(format!("GET {path} HTTP/1.1\r\nhost: cache\r\n\r\n")).await;
        let answer = caller.answer().await;
        assert!(answer.head.starts_with("HTTP/1.1 400 "), "{path}: {}", answer.head);
        assert!(answer.text().contains("\"code\":\"bad-path\""), "{path}: {}", answer.text());
    }
    assert_eq!(upstream.calls(), 0);
    let mut caller = Raw::open(&server.address).await;
    caller.send("GET /a/../b HTTP/1.1\r\nhost: cache\r\n\r\n").await;
    assert_eq!(caller.answer().await.text(), "ok");
    assert_eq!(upstream.received().pop().expect("it was asked").uri.path(), "/base/b");
}

#[tokio::test]
async fn a_path_under_no_mount_is_told_which_mounts_there_are() {
    let upstream = Upstream::start(|_| Reply::bytes("ok")).await;
    let mounted = |name: &str| format!("{name}={}", upstream.url());
    let setup = Setup::default().argument("--upstream").argument(&mounted("alpha"));
    let server = Server::start(setup.argument("--upstream").argument(&mounted("beta"))).await;
    for path in ["/", "/gamma/v1", "/alphabet", "/Alpha/v1"] {
        let answer = server.client().get(path).await;
        assert_problem(&answer, 404, "no-upstream", path);
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains("/alpha/") && detail.contains("/beta/"), "{path}: {detail}");
    }
    assert_eq!(upstream.calls(), 0);
    for path in ["/alpha/v1/x", "/beta/v1/x"] {
        assert_eq!(server.client().get(path).await.body, "ok", "{path}");
        let received = upstream.received().pop().expect("it was asked");
        assert_eq!(received.uri.path(), "/v1/x", "the mount is not the upstream's: {path}");
    }
}

#[tokio::test]
async fn our_own_part_of_the_path_is_never_proxied() {
    let upstream = Upstream::start(|_| Reply::bytes("ok")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for path in ["/_cache", "/_cache/", "/_cache/v1/nothing", "/_cache/v1/nothing?x=1"] {
        assert_problem(&server.client().get(path).await, 404, "no-such-address", path);
    }
    assert_eq!(upstream.calls(), 0);
    assert_eq!(server.client().get("/_cached").await.body, "ok", "whole segments only");
}
