//! Trailers of answers (RFC 9110 section 6.5): stored beside the header, and given to whoever takes
//! them, by HTTP/1.1 as by HTTP/2.

use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::{text, with};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::{Answer, ByHand, Raw, Reply, Server, Setup, Upstream, Wire};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// A page with a trailer, as an upstream sends it over HTTP/1.1.
const PAGE: &str = "HTTP/1.1 200 OK\r\ncache-control: max-age=600\r\netag: \"v1\"\r\n\
                    trailer: X-Checksum\r\ntransfer-encoding: chunked\r\n\r\n\
                    4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n";

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).expect("a name"), HeaderValue::try_from(*value).expect("text"))
    };
    lines.iter().map(field).collect()
}

/// A server in front of an upstream that speaks HTTP/2, and so can send what it likes.
async fn in_front_of(upstream: &Upstream) -> Server {
    Server::start(Setup::default().config(&format!(
        "[[upstream]]\nname = \"up\"\nurl = \"{}\"\nprefix = \"/\"\nprotocol = \"http2\"",
        upstream.url()
    )))
    .await
}

/// An answer as it is written over HTTP/1.1, asked for with these lines of fields.
async fn over_http1(server: &Server, line: &str, fields: &str) -> String {
    let mut caller = Raw::open(&server.address).await;
    let head = format!("{line} HTTP/1.1\r\nhost: cache\r\n{fields}connection: te, close\r\n\r\n");
    caller.send(head).await;
    String::from_utf8(caller.rest().await).expect("text")
}

/// The fields, the bytes and the trailers of an answer over HTTP/2.
async fn over_http2(server: &Server, request: Request<Full<Bytes>>) -> (Answer, Option<HeaderMap>) {
    let stream = TcpStream::connect(&server.address).await.expect("a connection");
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.expect("an answer");
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.expect("a whole body");
    let trailers = body.trailers().cloned();
    let (version, status, headers) = (parts.version, parts.status, parts.headers);
    (Answer { version, status, headers, body: body.to_bytes() }, trailers)
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://cache{path}")).body(Full::default()).expect("a request")
}

fn ask() -> Request<Full<Bytes>> {
    let request = Request::post(format!("http://cache{EMBEDDINGS}"));
    let request = request.header("authorization", "Bearer sk-test");
    request.body(Full::from(question("trailers").to_string())).expect("a request")
}

#[tokio::test]
async fn a_hit_has_the_trailers_of_what_is_stored_over_either_protocol() {
    let upstream = Wire::start(|_| PAGE.into()).await;
    let server = Server::start(Setup::default().argument("--upstream").argument(&upstream.url()));
    let server = server.await;
    for turn in ["; stored", "; hit", "; hit"] {
        let told = over_http1(&server, "GET /page", "te: trailers\r\n").await;
        assert!(told.contains(turn) && told.contains("transfer-encoding: chunked"), "{told}");
        assert!(told.to_lowercase().contains("\r\ntrailer: x-checksum\r\n"), "{told}");
        assert!(!told.contains("content-length"), "{told}");
        assert!(told.ends_with("4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n"), "{told}");
    }
    let (hit, trailers) = over_http2(&server, get("/page")).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!((text(&hit), hit.field("content-length")), ("body", "4"));
    assert_eq!((hit.field("trailer"), hit.field("x-checksum")), ("x-checksum", ""));
    assert_eq!(trailers, Some(fields(&[("x-checksum", "abc")])));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn who_takes_no_trailers_is_given_a_length_and_none() {
    let upstream = Wire::start(|_| PAGE.into()).await;
    let server = Server::start(Setup::default().argument("--upstream").argument(&upstream.url()));
    let server = server.await;
    let first = over_http1(&server, "GET /page", "").await;
    assert!(first.contains("; stored") && first.ends_with("4\r\nbody\r\n0\r\n\r\n"), "{first}");
    assert!(!first.to_lowercase().contains("trailer"), "{first}");
    for te in ["", "te: gzip\r\n"] {
        let hit = over_http1(&server, "GET /page", te).await;
        assert!(hit.contains("; hit") && hit.contains("content-length: 4\r\n"), "{hit}");
        assert!(hit.ends_with("\r\n\r\nbody"), "{hit}");
        assert!(!hit.contains("x-checksum") && !hit.contains("chunked"), "{hit}");
    }
    let head = over_http1(&server, "HEAD /page", "te: trailers\r\n").await;
    assert!(head.contains("; hit") && head.contains("content-length: 4\r\n"), "{head}");
    assert!(!head.contains("x-checksum") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn who_reads_along_over_http1_is_given_trailers_if_it_takes_them() {
    reads_along_over_http1("cache-control: max-age=600, private=\"x-own\"").await;
}

#[tokio::test]
async fn a_field_for_us_alone_says_as_well_which_trailers_are_for_one_caller() {
    reads_along_over_http1("cdn-cache-control: max-age=600, private=\"x-own\"").await;
}

/// Three read one answer of which this field keeps a trailer from others.
async fn reads_along_over_http1(says: &str) {
    let upstream = ByHand::start().await;
    let server = Server::start(upstream.setup()).await;
    let mut callers = Vec::new();
    for (turn, te) in ["te: trailers\r\n", "te: trailers\r\n", ""].iter().enumerate() {
        let mut caller = Raw::open(&server.address).await;
        let close = "connection: te, close\r\n";
        caller.send(format!("GET /page HTTP/1.1\r\nhost: cache\r\n{te}{close}\r\n")).await;
        server.misses_looked_up(u32::try_from(turn).expect("few") + 1).await;
        callers.push(caller);
    }
    let mut asked = upstream.asked().await;
    let private = PAGE.replace("x-checksum: abc", "set-cookie: a=b\r\nx-checksum: abc\r\nx-own: 1");
    let private = private.replace("X-Checksum", "x-checksum, x-own, set-cookie");
    let private = private.replace("cache-control: max-age=600", says);
    asked
        .send(private.replace("transfer-encoding", "connection: close\r\ntransfer-encoding"))
        .await;
    drop(asked);
    let mut told = Vec::new();
    for mut caller in callers {
        told.push(String::from_utf8(caller.rest().await).expect("text"));
    }
    let [leader, follower, other] = &told[..] else { panic!("three answers") };
    assert!(leader.ends_with("x-checksum: abc\r\nx-own: 1\r\n\r\n"), "{leader}");
    assert!(follower.contains("; collapsed"), "{follower}");
    assert!(follower.contains("\r\ntrailer: x-checksum\r\n"), "{follower}");
    assert!(follower.ends_with("4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n"), "{follower}");
    assert!(other.contains("; collapsed") && other.ends_with("4\r\nbody\r\n0\r\n\r\n"), "{other}");
    assert!(!other.contains("trailer"), "{other}");
    let hit = over_http1(&server, "GET /page", "te: trailers\r\n").await;
    assert!(hit.ends_with("0\r\nx-checksum: abc\r\n\r\n"), "{hit}");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn trailers_that_others_must_not_see_or_that_belong_in_a_header_are_not_stored() {
    let sent = fields(&[
        ("x-checksum", "abc"),
        ("set-cookie", "secret=1"),
        ("x-request-id", "req_1"),
        ("authorization", "Bearer upstream"),
        ("www-authenticate", "Basic"),
        ("content-type", "text/html"),
        ("cache-control", "no-store"),
        ("vary", "*"),
        ("age", "7"),
    ]);
    let all = sent.clone();
    let upstream = Upstream::start(move |_| {
        let reply = Reply::json(&embedding(0.25)).without_length().with_trailers(sent.clone());
        reply.with("cache-control", "max-age=600").with("trailer", "set-cookie, x-checksum")
    });
    let upstream = upstream.await;
    let server = in_front_of(&upstream).await;
    let (first, trailers) = over_http2(&server, ask()).await;
    assert!(first.cache_status().contains("; stored"), "{}", first.cache_status());
    assert_eq!(trailers.as_ref(), Some(&all), "all is for the leader");
    let (hit, trailers) = over_http2(&server, ask()).await;
    assert!(hit.is_hit() && hit.headers.get("set-cookie").is_none(), "{hit:?}");
    assert_eq!(trailers, Some(fields(&[("x-checksum", "abc")])));

    let (first, _) = over_http2(&server, get("/page")).await;
    assert!(first.cache_status().contains("; stored"), "{}", first.cache_status());
    let (hit, trailers) = over_http2(&server, get("/page")).await;
    assert!(hit.is_hit() && hit.field("cache-control") == "max-age=600", "{hit:?}");
    let expected = fields(&[("x-checksum", "abc"), ("x-request-id", "req_1")]);
    assert_eq!(trailers, Some(expected), "at large, all is stored that HTTP lets be stored");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_confirmed_entry_keeps_its_trailers_also_on_disk() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |received| {
        let stale = [("cache-control", "max-age=60"), ("age", "61"), ("etag", "\"v1\"")];
        let fresh = [("cache-control", "max-age=600"), ("etag", "\"v1\"")];
        match calls.fetch_add(1, Ordering::Relaxed) {
            0 => {
                let reply = Reply::bytes("body").without_length();
                with(reply.with_trailers(fields(&[("x-checksum", "abc")])), &stale)
            }
            _ => {
                assert_eq!(received.headers["if-none-match"], "\"v1\"");
                with(Reply::bytes("").status(304).without_length(), &fresh)
            }
        }
    });
    let upstream = upstream.await;
    let mut server = in_front_of(&upstream).await;
    let kept = Some(fields(&[("x-checksum", "abc")]));
    for said in ["; stored", "fwd=stale; fwd-status=304; stored", "; hit"] {
        let (answer, trailers) = over_http2(&server, get("/page")).await;
        assert!(answer.cache_status().contains(said), "{said}: {}", answer.cache_status());
        assert_eq!((text(&answer), &trailers), ("body", &kept), "{said}");
    }
    server.stop().await;
    let server = server.start_again().await;
    let told = over_http1(&server, "GET /page", "te: trailers\r\n").await;
    assert!(told.contains("detail=disk"), "{told}");
    assert!(told.ends_with("4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n"), "{told}");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn whoever_leads_a_confirmation_over_http1_is_given_the_trailers_that_are_stored() {
    let upstream = Wire::start(|request| {
        let confirmed = !request.fields("if-none-match").is_empty();
        match confirmed {
            true => "HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\n\r\n".into(),
            false => PAGE.replace("max-age=600", "max-age=0").into(),
        }
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::default().argument("--upstream").argument(&upstream.url()));
    let server = server.await;
    over_http1(&server, "GET /page", "").await;
    let told = over_http1(&server, "GET /page", "te: trailers\r\n").await;
    assert!(told.contains("fwd-status=304"), "{told}");
    assert!(told.ends_with("4\r\nbody\r\n0\r\nx-checksum: abc\r\n\r\n"), "{told}");
    let told = over_http1(&server, "GET /page", "").await;
    assert!(told.contains("content-length: 4\r\n") && told.ends_with("\r\n\r\nbody"), "{told}");
}

#[tokio::test]
async fn what_is_stored_without_trailers_keeps_its_length_whatever_is_taken() {
    let upstream =
        Upstream::start(|_| Reply::bytes("body").with("cache-control", "max-age=600")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    server.client().get("/page").await;
    let hit = over_http1(&server, "GET /page", "te: trailers\r\n").await;
    assert!(hit.contains("; hit") && hit.contains("content-length: 4\r\n"), "{hit}");
    assert!(!hit.contains("trailer"), "{hit}");
    let hit = server.client().request(Method::GET, "/page").send().await.expect("an answer");
    assert_eq!(hit.content_length(), Some(4));
}
