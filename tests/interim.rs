//! Interim answers (RFC 9110 section 15.2): those of upstreams end here, and a caller that waits for
//! leave to send its body is given it once.

use std::net::SocketAddr;

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Received;
use black_box_tests::{Answer, ByHand, Client, Raw, Reply, Server, Setup, Upstream, Wire};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::net::TcpListener;

/// What an upstream says before it answers.
const INTERIM: [(u16, &str, &str); 4] = [
    (100, "x-early", "1"),
    (102, "set-cookie", "early=1"),
    (103, "link", "</early>; rel=preload"),
    (103, "cache-control", "no-store"),
];

fn body() -> String {
    embedding(0.25).to_string()
}

/// An upstream over HTTP/1.1 that says much before it answers.
async fn hasty_over_http1() -> Wire {
    Wire::start(|request| {
        let interim = INTERIM.map(|(status, name, value)| {
            format!("HTTP/1.1 {status} Early\r\n{name}: {value}\r\nlink: </early>\r\n\r\n")
        });
        let is_head = request.head.starts_with(b"HEAD ");
        let (length, body) = (body().len(), if is_head { String::new() } else { body() });
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: max-age=600\r\n\
             content-length: {length}\r\n\r\n"
        );
        (interim.concat() + &head + &body).into_bytes()
    })
    .await
}

/// The same over HTTP/2.
async fn hasty_over_http2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("a handshake");
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(answer_over_http2(request, respond));
                }
            });
        }
    });
    address
}

async fn answer_over_http2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
) {
    for (status, name, value) in INTERIM {
        let early = Response::builder().status(status).header(name, value);
        let early = early.header("link", "</early>").body(()).expect("an answer");
        respond.send_informational(early).expect("it is taken");
    }
    let (head, mut sent) = request.into_parts();
    while let Some(Ok(data)) = sent.data().await {
        let _ = sent.flow_control().release_capacity(data.len());
    }
    let answer = Response::builder()
        .header("content-type", "application/json")
        .header("cache-control", "max-age=600")
        .header("content-length", body().len())
        .body(())
        .expect("an answer");
    let is_head = head.method == Method::HEAD;
    let mut stream = respond.send_response(answer, is_head).expect("it is taken");
    if !is_head {
        stream.send_data(body().into(), true).expect("it is taken");
    }
}

fn is_early(fields: &HeaderMap) -> bool {
    ["link", "set-cookie", "x-early"].iter().any(|name| fields.contains_key(*name))
}

/// Asks in every way that an answer can take through the server.
async fn final_answers_alone(client: &Client, case: &str) {
    let head = |path: &'static str| Answer::of(client.request(Method::HEAD, path));
    let file = || Answer::of(client.request(Method::POST, "/v1/files").body("a file"));
    for (answer, said) in [
        (head("/page").await, "fwd=miss; fwd-status=200; detail=head"),
        (client.get("/page").await, "fwd=miss; fwd-status=200; stored"),
        (client.get("/page").await, "; hit"),
        (head("/page").await, "; hit"),
        (client.ask(EMBEDDINGS, &question(case)).await, "fwd=miss; fwd-status=200; stored"),
        (client.ask(EMBEDDINGS, &question(case)).await, "; hit"),
        (file().await, "fwd=method; fwd-status=200"),
    ] {
        assert!(answer.cache_status().contains(said), "{case}, {said}: {answer:?}");
        assert_eq!(answer.status, StatusCode::OK, "{case}, {said}");
        assert!(!is_early(&answer.headers), "{case}, {said}: {answer:?}");
        assert_eq!(answer.field("cache-control"), "max-age=600", "{case}, {said}");
        assert!([body().as_bytes(), b""].contains(&&answer.body[..]), "{case}, {said}: {answer:?}");
    }
}

// RFC 9110 section 15.2.
#[tokio::test]
async fn interim_answers_end_here_and_leave_nothing_behind() {
    let (http1, http2) = (hasty_over_http1().await, hasty_over_http2().await);
    for (url, protocol) in [(http1.url(), "http1"), (format!("http://{http2}"), "http2")] {
        let server = Server::start(Setup::default().config(&format!(
            "[[upstream]]\nname = \"up\"\nurl = \"{url}\"\nprefix = \"/\"\nprotocol = \"{protocol}\""
        )));
        let server = server.await;
        final_answers_alone(&server.client(), protocol).await;
    }
    for (url, protocol) in [(http1.url(), "http1"), (format!("http://{http2}"), "http2")] {
        let server = Server::start(Setup::default().config(&format!(
            "[[upstream]]\nname = \"up\"\nurl = \"{url}\"\nprefix = \"/\"\nprotocol = \"{protocol}\""
        )));
        let server = server.await;
        let case = format!("{protocol}, to HTTP/2");
        final_answers_alone(&Client::h2c(&server.address), &case).await;
        let mut caller = Raw::open(&server.address).await;
        caller.send("GET /x HTTP/1.1\r\nhost: cache\r\nconnection: close\r\n\r\n").await;
        let told = String::from_utf8(caller.rest().await).expect("text");
        assert_eq!(told.matches("HTTP/1.1 ").count(), 1, "{case}: {told}");
    }
}

#[tokio::test]
async fn interim_answers_without_an_end_are_no_answer() {
    let upstream = ByHand::start().await;
    let server = Server::start(Setup::default().config(&format!(
        "[[upstream]]\nname = \"up\"\nurl = \"{}\"\nprefix = \"/\"\nread_timeout = \"500ms\"",
        upstream.url()
    )));
    let server = server.await;
    let client = server.client();
    let asking = tokio::spawn(async move { client.get("/page").await });
    let mut asked = upstream.asked().await;
    while asked.try_send("HTTP/1.1 103 Early Hints\r\nlink: </early>\r\n\r\n").await.is_ok() {
        tokio::task::yield_now().await;
    }
    let answer = asking.await.expect("it ends");
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(!is_early(&answer.headers), "{answer:?}");
}

/// Asks for leave to send a body, sends it once that is given, and gives the final answer.
async fn after_leave(server: &Server, path: &str, body: &str) -> String {
    let mut caller = Raw::open(&server.address).await;
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: cache\r\nauthorization: Bearer sk-test\r\n\
         expect: 100-continue\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    );
    caller.send(head).await;
    assert_eq!(caller.head().await, "HTTP/1.1 100 Continue", "{path}");
    caller.send(body).await;
    let told = String::from_utf8(caller.rest().await).expect("text");
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{path}: {told}");
    assert_eq!(told.matches("HTTP/1.1 ").count(), 1, "{path}: {told}");
    told
}

// RFC 9110 section 10.1.1.
#[tokio::test]
async fn who_waits_for_leave_to_send_a_body_is_given_it_once_also_where_an_entry_answers() {
    let received = |received: &Received| {
        assert!(!received.headers.contains_key("expect"), "it ends here");
        Reply::json(&embedding(0.25))
    };
    let upstream = Upstream::start(received).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let question = question("leave").to_string();
    assert!(after_leave(&server, EMBEDDINGS, &question).await.contains("; stored"));
    assert!(after_leave(&server, EMBEDDINGS, &question).await.contains("; hit"));
    assert!(after_leave(&server, "/v1/files", "a file").await.contains("fwd=method"));
    let sent: Vec<_> = upstream.received().into_iter().map(|received| received.body).collect();
    assert_eq!(sent, [Bytes::from(question), Bytes::from("a file")]);
}

#[tokio::test]
async fn who_is_refused_is_given_no_leave_to_send_a_body() {
    let upstream = Upstream::start(|_| Reply::bytes("never")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = Raw::open(&server.address).await;
    let head = "POST /v1/files HTTP/1.1\r\nhost: cache\r\nexpect: 100-continue\r\n\
                cache-server-reuse: nonsense\r\ncontent-length: 6\r\n\r\n";
    caller.send(head).await;
    let told = caller.answer().await;
    assert!(told.head.starts_with("HTTP/1.1 400 "), "{}", told.head);
    assert_eq!(upstream.calls(), 0);
}
