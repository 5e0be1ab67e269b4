//! When the upstream gives no answer, the caller gets one from us: a problem document that says
//! who failed and how.

use std::time::{Duration, Instant};

use black_box_tests::sample::{EMBEDDINGS, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Raw, Reading, Reply, Server, Setup, Upstream};
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// One path that is cached and one that is passed through: a failure looks the same on both.
const PATHS: [&str; 2] = [EMBEDDINGS, "/v1/files"];

fn mounted(url: &str, more: &str) -> Setup {
    Setup::default()
        .config(&format!("[[upstream]]\nname = \"frail\"\nurl = \"{url}\"\nprefix = \"/\"\n{more}"))
}

fn assert_problem(answer: &Answer, status: u16, code: &str, says: &[&str], case: &str) {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    assert_eq!(answer.field("content-type"), "application/problem+json", "{case}");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{case}: {problem}");
    assert_eq!(problem["code"], code, "{case}: {problem}");
    let detail = problem["detail"].as_str().expect("a detail");
    for word in says {
        assert!(detail.contains(word), "{case}: {word:?} is missing in {detail:?}");
    }
}

/// An upstream that reads a request's head and then does as it is told, on each connection.
async fn raw_upstream(says: &'static [u8]) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut connection = Raw::of(stream);
            connection.head().await;
            let _ = connection.try_send(says).await;
        }
    });
    (url, task)
}

#[tokio::test]
async fn an_upstream_that_refuses_connections_is_a_502_that_names_it() {
    // Bound and never listening: nobody else can take the port meanwhile.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = socket.local_addr().expect("an address").to_string();
    let server = Server::start(mounted(&format!("http://{address}"), "")).await;
    for path in PATHS {
        let answer = server.client().ask(path, &question("anyone?")).await;
        let says = ["frail", address.as_str(), "refused"];
        assert_problem(&answer, 502, "upstream-unreachable", &says, path);
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_resolve_is_a_502_that_names_it() {
    let server = Server::start(mounted("http://no-such-host.invalid", "")).await;
    for path in PATHS {
        let answer = server.client().ask(path, &question("anyone?")).await;
        let says = ["frail", "no-such-host.invalid"];
        assert_problem(&answer, 502, "upstream-unreachable", &says, path);
    }
}

#[tokio::test]
async fn a_connection_that_does_not_come_to_stand_is_given_up_at_the_connect_timeout() {
    // It takes the connection and never answers the TLS handshake.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let setup = mounted(&format!("https://{address}"), "connect_timeout = \"300ms\"");
    let server = Server::start(setup).await;
    for path in PATHS {
        let asked = Instant::now();
        let answer = server.client().ask(path, &question("anyone?")).await;
        let says = ["frail", "300ms"];
        assert_problem(&answer, 502, "upstream-unreachable", &says, path);
        // Below the default of 5 s: it was this deadline that passed.
        assert!(asked.elapsed() < Duration::from_secs(4), "{path}: {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn silence_before_the_headers_is_a_504_at_the_read_timeout() {
    let gate = std::sync::Arc::new(Gate::closed());
    let holds = std::sync::Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::bytes("late").held_by(&holds)).await;
    let server = Server::start(mounted(&upstream.url(), "read_timeout = \"300ms\"")).await;
    for path in PATHS {
        let answer = server.client().ask(path, &question("anyone?")).await;
        assert_problem(&answer, 504, "upstream-timeout", &["frail", "300ms"], path);
    }
    assert_eq!(upstream.calls(), PATHS.len(), "nothing is asked twice");
}

#[tokio::test]
async fn silence_in_the_middle_of_an_answer_cuts_it_at_the_read_timeout() {
    for (path, content_type) in
        [(EMBEDDINGS, "application/json"), (EMBEDDINGS, "text/event-stream"), ("/v1/files", "a/b")]
    {
        let (live, reply) = Reply::live(content_type);
        let reply = std::sync::Mutex::new(Some(reply));
        let upstream =
            Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
        let upstream = upstream.await;
        let server = Server::start(mounted(&upstream.url(), "read_timeout = \"1s\"")).await;
        live.send(Ok("half".into())).expect("the upstream reads");
        let mut caller = Reading::of(server.client().post(path, &question("and then?"))).await;
        caller.expect(b"half").await;
        assert!(caller.rest().await.is_err(), "{path} as {content_type} must not look whole");
    }
}

#[tokio::test]
async fn what_is_not_http_is_a_502_that_says_so() {
    for (case, says) in [
        ("another protocol", &b"SSH-2.0-OpenSSH_9.9\r\n"[..]),
        ("no status", b"HTTP/1.1 abc\r\n\r\n"),
        ("nothing at all", b""),
        ("half a head", b"HTTP/1.1 200 OK\r\ncontent-"),
        (
            "lengths that differ",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        ),
    ] {
        let (url, upstream) = raw_upstream(says).await;
        let server = Server::start(mounted(&url, "")).await;
        for path in PATHS {
            let answer = server.client().ask(path, &question("anyone?")).await;
            let case = format!("{case} on {path}");
            assert_problem(&answer, 502, "upstream-broken", &["frail"], &case);
        }
        upstream.abort();
    }
}

#[tokio::test]
async fn a_failure_never_shows_a_credential() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = socket.local_addr().expect("an address");
    let server = Server::start(mounted(&format!("http://{address}"), "")).await;
    let path = "/v1beta/models/m:embedContent?key=sk-in-the-query";
    let answer = server.client().ask(path, &question("anyone?")).await;
    assert_eq!(answer.status, 502);
    let said = format!("{}{:?}", String::from_utf8_lossy(&answer.body), answer.headers);
    for secret in ["sk-in-the-query", "sk-test"] {
        assert!(!said.contains(secret), "{said}");
        assert!(!server.log().contains(secret), "{}", server.log());
    }
}
