//! Answers that are given before the request's body is read (as in CVE-2025-4366): the rest of
//! that body must never be read as the next request.

use black_box_tests::sample::EMBEDDINGS;
use black_box_tests::{PATIENCE, Raw, Server, Setup, Wire};
use tokio::net::TcpListener;

use super::{FILES, SMUGGLED, Stage, good_answer, tell};

/// Larger than any buffer on the way, and all of it looks like requests.
fn smuggled_at_length() -> String {
    SMUGGLED.repeat((2 << 20) / SMUGGLED.len())
}

/// A request that is refused at its head.
struct Refused {
    case: &'static str,
    line: &'static str,
    fields: &'static str,
    status: u16,
    code: &'static str,
}

const REFUSED: [Refused; 7] = [
    refused("no upstream", "POST /nowhere", "", 404, "no-upstream"),
    refused("our part of the path", "POST /_cache/v1/x", "", 404, "no-such-address"),
    refused("a path that leaves its base", "POST /up/../x", "", 400, "bad-path"),
    refused(
        "a bad directive",
        "POST /up/v1/embeddings",
        "cache-server-reuse: x\r\n",
        400,
        "bad-reuse",
    ),
    refused("a tunnel", "CONNECT cache:80", "", 501, "no-tunnel"),
    refused(
        "from the cache alone",
        "POST /up/v1/files",
        "cache-control: only-if-cached\r\n",
        504,
        "only-if-cached",
    ),
    refused(
        "a model route past the cache",
        "POST /up/v1/embeddings",
        "cache-control: no-store, only-if-cached\r\n",
        504,
        "only-if-cached",
    ),
];

const fn refused(
    case: &'static str,
    line: &'static str,
    fields: &'static str,
    status: u16,
    code: &'static str,
) -> Refused {
    Refused { case, line, fields, status, code }
}

/// The upstream is mounted at `/up` alone.
async fn mounted() -> (Wire, Server) {
    let upstream = Wire::start(|_| good_answer()).await;
    let mount = format!("up={}", upstream.url());
    let setup = Setup::default().argument("--upstream").argument(&mount);
    (upstream, Server::start(setup).await)
}

/// What such requests reached.
fn reached(upstream: &Wire) -> Vec<String> {
    upstream.requests().iter().map(black_box_tests::WireRequest::target).collect()
}

/// Asks for the rest of the connection, having sent as much more as is taken.
async fn told_after(mut caller: Raw, more: &str) -> String {
    let _ = caller.try_send(more).await;
    String::from_utf8_lossy(&caller.rest().await).into_owned()
}

#[tokio::test]
async fn the_body_of_a_refused_request_is_never_the_next_request() {
    let (upstream, server) = mounted().await;
    let body = smuggled_at_length();
    for Refused { case, line, fields, status, code } in REFUSED {
        let head = format!("{line} HTTP/1.1\r\nhost: cache\r\n{fields}");
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        let sized = format!("{head}content-length: {}\r\n\r\n", body.len());
        for head in [sized, chunked] {
            // The answer comes although no byte of the body has; the body comes behind it.
            let mut caller = Raw::open(&server.address).await;
            caller.send(&head).await;
            let answer = caller.answer().await;
            assert!(
                answer.head.starts_with(&format!("HTTP/1.1 {status} ")),
                "{case}: {}",
                answer.head
            );
            assert!(answer.text().contains(&format!("\"code\":\"{code}\"")), "{case}");
            let more = told_after(caller, &body).await;
            assert_eq!(more, "", "{case}: a second answer");

            // All at once.
            let told = tell(&server, format!("{head}{body}")).await;
            assert_eq!(told.statuses(), [status], "{case}: {}", told.text());
        }
        assert_eq!(upstream.calls(), 0, "{case}: {:?}", reached(&upstream));
    }
}

#[tokio::test]
async fn a_little_body_of_a_refused_request_is_read_over_or_ends_the_connection() {
    let (upstream, server) = mounted().await;
    let length = SMUGGLED.len();
    for Refused { case, line, fields, status, .. } in REFUSED {
        let head =
            format!("{line} HTTP/1.1\r\nhost: cache\r\n{fields}content-length: {length}\r\n\r\n");
        let last = "GET /up/last HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n\r\n";
        let told = tell(&server, format!("{head}{SMUGGLED}{last}")).await;
        let statuses = told.statuses();
        let lawful = statuses == [status, 200] || statuses == [status];
        assert!(lawful, "{case}: {}", told.text());
    }
    assert!(reached(&upstream).iter().all(|target| target == "/last"), "{:?}", reached(&upstream));
}

#[tokio::test]
async fn the_body_of_a_request_that_is_too_large_is_never_the_next_request() {
    let stage = Stage::bounded("body_bytes_max = \"64KiB\"\nkey_body_bytes_max = \"1KiB\"").await;
    let body = smuggled_at_length();
    for path in [FILES, EMBEDDINGS] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\n");
        let sized = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}", body.len());
        for request in [sized, chunked] {
            stage.tell(request).await.assert_problem(413, "body-too-large", path);
        }
    }
    assert!(stage.upstream.requests().iter().all(|request| !request.whole));
    stage.assert_well().await;
}

#[tokio::test]
async fn a_hit_is_not_given_before_its_whole_body_has_come() {
    let stage = Stage::bounded("body_timeout = \"500ms\"").await;
    let body = black_box_tests::sample::question("known").to_string();
    let mut caller = stage.connect().await;
    caller.post(EMBEDDINGS, &body).await;
    assert!(caller.answer().await.head.contains("; stored"));
    caller.post(EMBEDDINGS, &body).await;
    assert!(caller.answer().await.head.contains("; hit"));

    // The known question, and a length that takes in the request behind it: one body.
    let length = body.len() + SMUGGLED.len();
    let fields = format!("authorization: Bearer sk-test\r\ncontent-length: {length}");
    caller
        .send(format!(
            "POST {EMBEDDINGS} HTTP/1.1\r\nhost: cache\r\n{fields}\r\n\r\n{body}{SMUGGLED}"
        ))
        .await;
    let answer = caller.answer().await.head;
    assert!(answer.contains("; detail=trailing-bytes"), "{answer}");
    // A length larger than what comes: no answer but a refusal, and no request behind it.
    let fields = format!("authorization: Bearer sk-test\r\ncontent-length: {}", length + 1);
    let request =
        format!("POST {EMBEDDINGS} HTTP/1.1\r\nhost: cache\r\n{fields}\r\n\r\n{body}{SMUGGLED}");
    stage.tell(request).await.assert_problem(408, "body-timeout", "larger than what comes");
    assert_eq!(stage.upstream.calls(), 2, "{:?}", stage.targets());
}

#[tokio::test]
async fn an_upstream_that_answers_before_it_has_the_body_makes_no_requests_of_the_rest() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let setup = Setup::default().argument("--upstream").argument(&url);
    let bounds =
        "key_body_bytes_max = \"1KiB\"\nbody_timeout = \"500ms\"\nheader_timeout = \"500ms\"";
    let server = Server::start(setup.config(&format!("[server]\n{bounds}"))).await;
    let accepted = || async {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        Raw::of(accepted.expect("a connection in time").expect("a connection").0)
    };
    for path in [FILES, EMBEDDINGS] {
        let body = smuggled_at_length();
        let mut caller = Raw::open(&server.address).await;
        let head = format!("POST {path} HTTP/1.1\r\nhost: cache\r\n");
        // One byte of it never comes.
        let length = body.len() + 1;
        caller.send(format!("{head}content-length: {length}\r\n\r\n{}", &body[..4096])).await;
        let mut upstream = accepted().await;
        assert!(upstream.head().await.starts_with(&format!("POST {path} HTTP/1.1\r\n")));
        upstream.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly").await;
        assert_eq!(caller.answer().await.text(), "early", "{path}");
        let more = told_after(caller, &body[4096..]).await;
        assert_eq!(more, "", "{path}: a second answer");

        // The next request does not come on a connection where the upstream awaits a body.
        let mut next = Raw::open(&server.address).await;
        next.send("GET /next HTTP/1.1\r\nhost: cache\r\n\r\n").await;
        let mut fresh = accepted().await;
        assert!(fresh.head().await.starts_with("GET /next HTTP/1.1\r\n"), "{path}");
        fresh.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nnext").await;
        assert_eq!(next.answer().await.text(), "next", "{path}");
        // What came on the first one is the body, and the body alone.
        let rest = String::from_utf8_lossy(&upstream.rest().await).into_owned();
        assert!(body.starts_with(&rest), "{path}: {} bytes", rest.len());
    }
}
