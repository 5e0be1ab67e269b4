//! What callers may speak: HTTP/1.0 and 1.1, HTTP/2 in cleartext and under TLS, and the PROXY
//! protocol of a load balancer in between.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use black_box_tests::frames::{DATA, END_STREAM, GOAWAY, HEADERS, PING};
use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, events, question, recorded};
use black_box_tests::upstream::Gate;
use black_box_tests::{
    Answer, Certified, Client, Frames, PATIENCE, Raw, Reading, Reply, Server, Setup, Upstream,
    eventually,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server over TLS, and what its callers are to trust.
struct Secure {
    server: Server,
    folder: TempDir,
    certified: Certified,
}

impl Secure {
    async fn start(upstream: &Upstream, more: &str) -> Secure {
        let folder = TempDir::new().expect("a folder");
        let certified = Certified::make();
        certified.write_to(folder.path());
        let server = Server::start(over_tls(upstream, folder.path(), more)).await;
        Secure { server, folder, certified }
    }

    fn client(&self) -> Client {
        Client::tls(&self.server.address, &self.certified.authority_pem)
    }
}

fn over_tls(upstream: &Upstream, folder: &Path, more: &str) -> Setup {
    let (cert, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    Setup::in_front_of(upstream)
        .config(&format!("[server]\ntls_cert_file = {cert:?}\ntls_key_file = {key:?}\n{more}"))
}

async fn held_upstream() -> (Arc<Gate>, Upstream) {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let reply = move |_: &_| Reply::json(&embedding(0.25)).held_by(&holds);
    (gate, Upstream::start(reply).await)
}

async fn calls(upstream: &Upstream, count: usize) {
    let arrived = || async { (upstream.calls() == count).then_some(()) };
    eventually("the request is upstream", arrived).await;
}

#[tokio::test]
async fn http2_without_tls_gets_hits_misses_and_what_passes_through() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = Client::h2c(&server.address);
    let miss = client.ask(EMBEDDINGS, &question("a")).await;
    assert_eq!((miss.version, miss.json()), (Version::HTTP_2, embedding(0.25)));
    let hit = client.ask(EMBEDDINGS, &question("a")).await;
    assert!(hit.is_hit() && hit.version == Version::HTTP_2, "{}", hit.cache_status());
    assert_eq!(hit.body, miss.body);
    let passed = client.get("/v1/models").await;
    assert_eq!((passed.status.as_u16(), passed.version), (200, Version::HTTP_2));
    // What one version has filled answers the other.
    let http1 = server.client().ask(EMBEDDINGS, &question("a")).await;
    assert!(http1.is_hit() && http1.version == Version::HTTP_11);
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_stream_comes_event_by_event_over_http2_and_is_replayed_whole() {
    let (live, reply) = Reply::live("text/event-stream");
    let reply = Mutex::new(Some(reply));
    let upstream =
        Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = Client::h2c(&server.address);
    let stream = recorded("openai-chat-completions/whole.sse");
    let mut reading: Option<Reading> = None;
    for event in events(&stream) {
        live.send(Ok(event.clone())).expect("the upstream reads");
        if reading.is_none() {
            reading = Some(Reading::of(client.post(CHAT, &chat(true))).await);
        }
        reading.as_mut().expect("it has begun").expect(&event).await;
    }
    drop(live);
    let reading = reading.expect("it has begun");
    assert_eq!(reading.head.version, Version::HTTP_2);
    assert_eq!(reading.rest().await.expect("a clean end"), "");
    let replayed = client.ask(CHAT, &chat(true)).await;
    assert!(replayed.is_hit(), "{}", replayed.cache_status());
    assert_eq!(replayed.body, stream);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_cut_over_http2_too() {
    let (live, reply) = Reply::live("text/event-stream");
    let reply = Mutex::new(Some(reply));
    let upstream =
        Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    live.send(Ok("data: 1\n\n".into())).expect("the upstream reads");
    let client = Client::h2c(&server.address);
    let mut reading = Reading::of(client.post(EMBEDDINGS, &question("cut"))).await;
    reading.expect(b"data: 1\n\n").await;
    live.send(black_box_tests::upstream::cut()).expect("the upstream reads");
    assert!(reading.rest().await.is_err(), "it must not look whole");
    assert_eq!(server.client().get("/healthz-of-no-one").await.status.as_u16() / 100, 5);
}

#[tokio::test]
async fn requests_of_one_http2_connection_are_coalesced() {
    let (gate, upstream) = held_upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = Client::h2c(&server.address);
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.ask(EMBEDDINGS, &question("same")).await })
        })
        .collect();
    server.misses_looked_up(20).await;
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.expect("an answer").json(), embedding(0.25));
    }
    assert_eq!(upstream.calls(), 1);
    // Figures are asked for on the admin listener, whose connections do not count.
    assert_eq!(server.metric("cache_server_connections_open").await, 1.0);
}

/// A client of hyper's, which shows trailers.
async fn hyper_client(address: &str) -> http2::SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn trailers_reach_a_caller_over_http2() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "abc".parse().expect("a value"));
    let sent = trailers.clone();
    let upstream =
        Upstream::start(move |_| Reply::bytes("data").without_length().with_trailers(sent.clone()))
            .await;
    let server = Server::start(Setup::default().config(&format!(
        "[[upstream]]\nname = \"up\"\nurl = \"{}\"\nprefix = \"/\"\nprotocol = \"http2\"",
        upstream.url()
    )))
    .await;
    let mut client = hyper_client(&server.address).await;
    for (method, path) in [("GET", "/v1/files"), ("POST", EMBEDDINGS)] {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://cache{path}"))
            .body(Full::from(question("trailers").to_string()))
            .expect("a request");
        let answer = client.send_request(request).await.expect("an answer");
        let body = answer.into_body().collect().await.expect("a whole body");
        assert_eq!(body.trailers(), Some(&trailers), "{path}");
    }
}

#[tokio::test]
async fn a_follower_gets_an_answers_trailers_without_what_is_the_leaders_alone() {
    let trailers = HeaderMap::from_iter(
        [("x-checksum", "abc"), ("set-cookie", "secret=1"), ("x-request-id", "req_1")]
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value"))),
    );
    let (sent, gate) = (trailers.clone(), Arc::new(Gate::closed()));
    let holds = Arc::clone(&gate);
    let reply = move || Reply::bytes("data").without_length().with_trailers(sent.clone());
    let upstream = Upstream::start(move |_| reply().held_by(&holds)).await;
    let server = Server::start(Setup::default().config(&format!(
        "[[upstream]]\nname = \"up\"\nurl = \"{}\"\nprefix = \"/\"\nprotocol = \"http2\"",
        upstream.url()
    )))
    .await;
    let client = hyper_client(&server.address).await;
    let ask = || {
        let request = Request::post(format!("http://cache{EMBEDDINGS}"));
        let request = request.body(Full::from(question("trailers").to_string()));
        tokio::spawn(client.clone().send_request(request.expect("a request")))
    };
    let asked = [ask(), ask()];
    server.misses_looked_up(2).await;
    gate.open();
    for asked in asked {
        let answer = asked.await.expect("it ends").expect("an answer");
        let cache_status = answer.headers()["cache-status"].to_str().expect("text").to_owned();
        let body = answer.into_body().collect().await.expect("a whole body");
        let came = body.trailers().expect("trailers").len();
        let expected = if cache_status.contains("collapsed") { 1 } else { trailers.len() };
        assert_eq!(came, expected, "{cache_status}: {:?}", body.trailers());
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn cookies_that_come_in_crumbs_go_on_as_one_field() {
    let upstream = Upstream::start(|_| Reply::bytes("ok")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut frames = Frames::open(&server.address, &[]).await;
    frames.get(1, "/x", &[("cookie", "a=1"), ("cookie", "b=2")]).await;
    frames.expect(DATA, 1).await;
    let received = upstream.received().pop().expect("it was asked");
    let cookies: Vec<_> = received.headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2"]);
}

#[tokio::test]
async fn a_body_that_waits_for_leave_is_answered_over_both_versions() {
    let upstream = Upstream::start(|_| Reply::bytes("ok")).await;
    let secure = Secure::start(&upstream, "").await;
    let mut caller = tls_stream(&secure, &[b"http/1.1"]).await;
    let head = "POST /x HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n\
                content-length: 4\r\n\r\n";
    caller.write_all(head.as_bytes()).await.expect("it reads");
    let leave = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut came = vec![0; leave.len()];
    let read = tokio::time::timeout(PATIENCE, caller.read_exact(&mut came)).await;
    read.expect("leave in time").expect("leave");
    assert_eq!(came, leave);
    caller.write_all(b"body").await.expect("it reads");
    let mut came = vec![0; 15];
    let read = tokio::time::timeout(PATIENCE, caller.read_exact(&mut came)).await;
    read.expect("an answer in time").expect("an answer");
    assert_eq!(came, b"HTTP/1.1 200 OK");

    let expecting = secure.client().request(reqwest::Method::POST, "/x").body("body");
    let answer = Answer::of(expecting.header("expect", "100-continue")).await;
    assert_eq!((answer.version, answer.status.as_u16()), (Version::HTTP_2, 200));
    let bodies: Vec<Bytes> = upstream.received().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["body", "body"]);
}

/// A connection over TLS with these protocols on offer.
async fn tls_stream(
    secure: &Secure,
    offered: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let stream = TcpStream::connect(&secure.server.address).await.expect("a connection");
    shake_hands(stream, &secure.certified, offered).await.expect("a handshake")
}

async fn shake_hands(
    stream: TcpStream,
    trusted: &Certified,
    offered: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(trusted.authority_pem.as_bytes());
    roots.add(authority.expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn over_tls_the_handshake_decides_the_version() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let secure = Secure::start(&upstream, "").await;
    let both = secure.client().ask(EMBEDDINGS, &question("a")).await;
    assert_eq!((both.version, both.json()), (Version::HTTP_2, embedding(0.25)));
    let http1 = Client::http1_over_tls(&secure.server.address, &secure.certified.authority_pem);
    let http1 = http1.ask(EMBEDDINGS, &question("a")).await;
    assert!(http1.version == Version::HTTP_11 && http1.is_hit(), "{}", http1.cache_status());

    // A caller that names no protocol speaks HTTP/1.1.
    let mut silent = tls_stream(&secure, &[]).await;
    assert_eq!(silent.get_ref().1.alpn_protocol(), None);
    let request = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    silent.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = Vec::new();
    silent.read_to_end(&mut answer).await.expect("a clean end");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));

    let plain = TcpStream::connect(&secure.server.address).await.expect("a connection");
    let mut plain = Raw::of(plain);
    plain.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let came = plain.rest().await;
    assert!(!came.starts_with(b"HTTP/"), "cleartext gets no answer: {came:?}");
    assert!(secure.server.log().contains("Listening on https://"), "{}", secure.server.log());
}

#[tokio::test]
async fn a_new_certificate_is_shown_to_new_connections_and_old_ones_stay() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let secure = Secure::start(&upstream, "").await;
    let old = secure.client();
    old.get("/v1/models").await;

    let renewed = Certified::make();
    renewed.write_to(secure.folder.path());
    shows(&secure.server, &renewed).await;
    // A new connection would be refused: this client does not trust the new authority.
    assert_eq!(old.get("/v1/models").await.status, 200);
    let fresh = Client::tls(&secure.server.address, &secure.certified.authority_pem);
    let refused = fresh.request(reqwest::Method::GET, "/v1/models").send().await;
    assert!(refused.is_err(), "the old certificate is still shown");
}

/// Waits until new connections are shown a certificate that `trusted` has signed for.
async fn shows(server: &Server, trusted: &Certified) {
    eventually("the new certificate is shown", || async {
        let stream = TcpStream::connect(&server.address).await.expect("a connection");
        shake_hands(stream, trusted, &[]).await.ok().map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_behind_links_is_read_again_when_the_link_is_swapped() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let folder = TempDir::new().expect("a folder");
    let version = |name: &str| {
        let certified = Certified::make();
        let path = folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder");
        certified.write_to(&path);
        certified
    };
    let (first, second) = (version("..1"), version("..2"));
    // As orchestrators mount secrets: names → ..data → the folder of a version.
    symlink("..1", folder.path().join("..data")).expect("a link");
    for name in ["tls.crt", "tls.key"] {
        symlink(format!("..data/{name}"), folder.path().join(name)).expect("a link");
    }
    let server = Server::start(over_tls(&upstream, folder.path(), "")).await;
    shows(&server, &first).await;
    symlink("..2", folder.path().join("..new")).expect("a link");
    std::fs::rename(folder.path().join("..new"), folder.path().join("..data")).expect("swapped");
    shows(&server, &second).await;
}

#[tokio::test]
async fn a_bad_certificate_leaves_the_old_one_in_use_and_is_named_in_the_log() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let secure = Secure::start(&upstream, "").await;
    let other = Certified::make();
    let key_file = secure.folder.path().join("tls.key");
    std::fs::write(&key_file, &other.key_pem).expect("the key is written");
    eventually("the log tells", || async {
        let log = secure.server.log();
        let told = log.contains("server.tls_key_file") && log.contains("does not fit");
        told.then_some(())
    })
    .await;
    assert_eq!(secure.client().get("/v1/models").await.status, 200);
    let log = secure.server.log();
    let secret = other.key_pem.lines().nth(1).expect("a line of the key");
    assert!(!log.contains(secret), "the key is in the log");

    // And it is still looked for a good one.
    std::fs::write(secure.folder.path().join("tls.crt"), &other.cert_pem).expect("written");
    shows(&secure.server, &other).await;
}

#[tokio::test]
async fn mistakes_with_the_certificate_are_found_before_anything_starts() {
    let folder = TempDir::new().expect("a folder");
    Certified::make().write_to(folder.path());
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    for (config, field, allowed) in [
        (format!("tls_cert_file = {cert:?}"), "server.tls_key_file", "set together"),
        (format!("tls_key_file = {key:?}"), "server.tls_cert_file", "set together"),
        (
            format!("tls_cert_file = {key:?}\ntls_key_file = {key:?}"),
            "server.tls_cert_file",
            "no PEM certificate",
        ),
        (
            format!("tls_cert_file = {cert:?}\ntls_key_file = \"/gone\""),
            "server.tls_key_file: /gone",
            "cannot be read",
        ),
    ] {
        let checked = Server::check(&format!("[server]\n{config}")).await;
        assert_eq!(checked.status.code(), Some(2), "{config}: {}", checked.stderr);
        let said = &checked.stderr;
        assert!(said.contains(field) && said.contains(allowed), "{config}: {said}");
    }
}

/// A PROXY header, version 2, for a caller at this IPv4 address.
fn proxy_v2(command: u8, last_byte: u8) -> Vec<u8> {
    let addresses = [192, 0, 2, last_byte, 10, 0, 0, 1, 0x30, 0x39, 0, 80];
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, 0x11, 0, 12], &addresses[..]].concat()
}

#[tokio::test]
async fn a_proxy_header_of_either_version_names_the_caller() {
    let (gate, upstream) = held_upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream).config(
        "[server]\nproxy_protocol_from = [\"127.0.0.0/8\"]\nconnections_per_address_max = 1",
    ))
    .await;
    let request = "POST /x HTTP/1.1\r\nhost: cache\r\ncontent-length: 0\r\n\r\n";
    let opened = async |header: &[u8]| {
        let mut caller = Raw::open(&server.address).await;
        caller.send([header, request.as_bytes()].concat()).await;
        caller
    };
    // One connection per address: each of these is another caller, though all come from here.
    let mut callers = Vec::new();
    for header in [
        b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 ::1 12345 80\r\n".to_vec(),
        proxy_v2(1, 2),
        // The load balancer's own: it counts for where it comes from.
        proxy_v2(0, 2),
    ] {
        callers.push(opened(&header).await);
    }
    calls(&upstream, 4).await;
    for header in [
        b"PROXY TCP4 192.0.2.2 10.0.0.1 12345 80\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::2 ::1 12345 80\r\n".to_vec(),
        proxy_v2(1, 1),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ] {
        let answer = opened(&header).await.answer().await;
        assert!(answer.head.starts_with("HTTP/1.1 503 "), "{header:?}: {}", answer.head);
    }
    gate.open();
    for caller in &mut callers {
        assert!(caller.answer().await.head.starts_with("HTTP/1.1 200 "));
    }
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn a_proxy_header_comes_before_tls() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let secure = Secure::start(&upstream, "proxy_protocol_from = [\"127.0.0.1\"]").await;
    for header in [b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 443\r\n".to_vec(), proxy_v2(1, 2)] {
        let mut stream = TcpStream::connect(&secure.server.address).await.expect("a connection");
        stream.write_all(&header).await.expect("it reads");
        let stream = shake_hands(stream, &secure.certified, &[b"h2"]).await.expect("a handshake");
        let (mut client, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = Request::get("https://localhost/v1/models").body(Empty::<Bytes>::new());
        let answer = client.send_request(request.expect("a request")).await.expect("an answer");
        assert_eq!(answer.status(), 200);
    }
}

#[tokio::test]
async fn a_connection_without_its_proxy_header_is_closed_unanswered() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = Server::start(
        Setup::in_front_of(&upstream).config("[server]\nproxy_protocol_from = [\"127.0.0.1\"]"),
    )
    .await;
    let request = "GET /x HTTP/1.1\r\nhost: cache\r\n\r\n";
    let long = format!("PROXY UNKNOWN {}\r\n{request}", "x".repeat(100));
    let sent: [&[u8]; 3] = [request.as_bytes(), b"PROXY TCP4 nonsense\r\n", long.as_bytes()];
    for bytes in sent {
        let mut caller = Raw::open(&server.address).await;
        caller.send(bytes).await;
        assert_eq!(caller.rest().await, b"", "{:?}", String::from_utf8_lossy(bytes));
    }
    let refused = "cache_server_connections_refused_total{reason=\"proxy-header\"}";
    assert_eq!(server.metric(refused).await, 3.0);
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn a_proxy_header_from_anyone_else_is_a_bad_request() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = Server::start(
        Setup::in_front_of(&upstream).config("[server]\nproxy_protocol_from = [\"192.0.2.0/24\"]"),
    )
    .await;
    let request = "GET /x HTTP/1.1\r\nhost: cache\r\n\r\n";
    for header in [b"PROXY TCP4 192.0.2.1 10.0.0.1 12345 80\r\n".to_vec(), proxy_v2(1, 2)] {
        let mut caller = Raw::open(&server.address).await;
        caller.send([&header, request.as_bytes()].concat()).await;
        let came = String::from_utf8_lossy(&caller.rest().await).into_owned();
        assert!(came.starts_with("HTTP/1.1 400 "), "{came:?}");
    }
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn while_it_drains_http2_is_told_to_go_and_what_it_asked_is_answered() {
    let (gate, upstream) = held_upstream().await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut idle = Frames::open(&server.address, &[]).await;
    idle.send(PING, 0, 0, b"12345678").await.expect("it reads");
    idle.expect(PING, 0).await;
    let mut busy = Frames::open(&server.address, &[]).await;
    busy.get(1, "/v1/files", &[]).await;
    calls(&upstream, 1).await;

    server.signal(libc::SIGTERM);
    assert!(idle.rest().await.iter().any(|frame| frame.kind == GOAWAY), "told before the end");
    let goaway = loop {
        let frame = busy.next().await.expect("it is not cut off");
        if frame.kind == GOAWAY {
            break frame;
        }
    };
    assert_eq!(goaway.number(4), 0, "no error");
    gate.open();
    // Its PING asks whether we have heard; we have not answered, and still get all we asked for.
    let rest = busy.rest().await;
    let mut answered = rest.iter().filter(|frame| frame.stream == 1);
    let kinds: Vec<u8> = answered.clone().map(|frame| frame.kind).collect();
    assert_eq!(kinds.first(), Some(&HEADERS), "{rest:?}");
    let ended = answered.next_back().is_some_and(|frame| frame.flags & END_STREAM != 0);
    assert!(ended && kinds.contains(&DATA), "{rest:?}");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.log());
}

#[tokio::test]
async fn http1_0_callers_are_answered_and_need_no_host() {
    let upstream = Upstream::start(|request| {
        let reply = Reply::bytes("some data");
        if request.uri.path() == "/stream" { reply.without_length() } else { reply }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (path, head) in [
        ("/whole", "GET /whole HTTP/1.0\r\n\r\n"),
        ("/stream", "GET /stream HTTP/1.0\r\nhost: cache\r\n\r\n"),
    ] {
        let mut caller = Raw::open(&server.address).await;
        caller.send(head).await;
        let came = String::from_utf8(caller.rest().await).expect("text");
        assert!(came.starts_with("HTTP/1.0 200 OK\r\n"), "{path}: {came}");
        assert!(came.ends_with("\r\n\r\nsome data"), "{path}, not in chunks: {came}");
    }
    let mut lasting = Raw::open(&server.address).await;
    for _ in 0..2 {
        lasting.send("GET /whole HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
        let answer = lasting.answer().await;
        assert_eq!(answer.text(), "some data", "{}", answer.head);
    }
}

#[tokio::test]
async fn an_http1_0_answer_that_is_cut_ends_with_a_reset() {
    let (live, reply) = Reply::live("text/plain");
    let reply = Mutex::new(Some(reply));
    let upstream =
        Upstream::start(move |_| reply.lock().expect("the reply").take().expect("asked once"));
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = TcpStream::connect(&server.address).await.expect("a connection");
    caller.write_all(b"GET /x HTTP/1.0\r\n\r\n").await.expect("it reads");
    live.send(Ok("begun".into())).expect("the upstream reads");
    let mut came = Vec::new();
    while !came.ends_with(b"begun") {
        let read = tokio::time::timeout(PATIENCE, caller.read_buf(&mut came)).await;
        assert_ne!(read.expect("it comes in time").expect("it is not cut yet"), 0);
    }
    live.send(black_box_tests::upstream::cut()).expect("the upstream reads");
    let end = tokio::time::timeout(PATIENCE, caller.read_buf(&mut came)).await;
    assert!(end.expect("an end in time").is_err(), "a clean end would look whole");
}
