//! Every bound of a connection, at its edge: how many there may be, how many requests on each,
//! how long each part may take, and under which names we are asked.

use std::sync::Arc;
use std::time::Duration;

use black_box_tests::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, header_block,
};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{
    Answer, Certified, Client, Frames, PATIENCE, Raw, RawAnswer, Reading, Reply, Server, Setup,
    Upstream, eventually,
};
use tempfile::TempDir;

async fn server(upstream: &Upstream, limits: &str) -> Server {
    Server::start(Setup::in_front_of(upstream).config(&format!("[server]\n{limits}"))).await
}

/// An upstream that holds back what has `slow` in its path until the gate is opened, and answers
/// all else at once.
async fn upstream() -> (Arc<Gate>, Upstream) {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| {
        let reply = Reply::json(&embedding(0.25));
        if request.uri.path().contains("slow") { reply.held_by(&holds) } else { reply }
    });
    (gate, upstream.await)
}

async fn calls(upstream: &Upstream, count: usize) {
    let arrived = || async { (upstream.calls() == count).then_some(()) };
    eventually("the requests are upstream", arrived).await;
}

async fn refused(server: &Server, reason: &str, count: f64) {
    let series = format!("cache_server_connections_refused_total{{reason=\"{reason}\"}}");
    eventually(&format!("{count} refused for {reason}"), || async {
        (server.metric(&series).await == count).then_some(())
    })
    .await;
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: cache\r\n\r\n")
}

fn assert_problem(answer: &RawAnswer, status: u16, code: &str) {
    let head = &answer.head;
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{code}: {head}");
    assert!(head.contains("content-type: application/problem+json"), "{code}: {head}");
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!((&problem["status"], &problem["code"]), (&status.into(), &code.into()));
}

#[tokio::test]
async fn one_connection_too_many_of_an_address_is_told_so_and_others_are_served() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "connections_per_address_max = 2").await;
    let mut first = Raw::open(&server.address).await;
    let mut second = Raw::open(&server.address).await;
    for caller in [&mut first, &mut second] {
        caller.send(get("/x")).await;
        assert!(caller.answer().await.head.starts_with("HTTP/1.1 200 "));
    }
    let mut third = Raw::open(&server.address).await;
    third.send(get("/x")).await;
    let answer = third.answer().await;
    assert_problem(&answer, 503, "connections-per-address");
    assert!(answer.head.contains("retry-after: 1"), "{}", answer.head);
    assert_eq!(third.rest().await, b"", "and it is closed");
    refused(&server, "per-address", 1.0).await;
    assert_eq!(upstream.calls(), 2);

    // Another loopback address is another caller.
    let client = reqwest::Client::builder()
        .no_proxy()
        .local_address("127.0.0.2".parse::<std::net::IpAddr>().ok())
        .build()
        .expect("a client");
    let other = client.get(format!("http://{}/x", server.address)).send().await;
    assert_eq!(other.expect("an answer").status(), 200);

    drop(first);
    eventually("a place again", || async {
        let mut caller = Raw::open(&server.address).await;
        caller.try_send(get("/x")).await.ok()?;
        caller.answer().await.head.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
}

/// A server over TLS; the folder holds its certificate.
pub(crate) async fn over_tls(upstream: &Upstream, limits: &str) -> (Server, Certified, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let certified = Certified::make();
    certified.write_to(folder.path());
    let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    let files = format!("tls_cert_file = {cert:?}\ntls_key_file = {key:?}\n{limits}");
    (server(upstream, &files).await, certified, folder)
}

#[tokio::test]
async fn over_tls_one_connection_too_many_is_closed_without_a_handshake() {
    let (_gate, upstream) = upstream().await;
    let (server, certified, _folder) = over_tls(&upstream, "connections_per_address_max = 1").await;
    let client = Client::tls(&server.address, &certified.authority_pem);
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(Raw::open(&server.address).await.rest().await, b"");
    refused(&server, "per-address", 1.0).await;
    assert_eq!(client.get("/x").await.status, 200, "the first one stays");
}

#[tokio::test]
async fn a_handshake_that_stalls_is_cut_off_and_holds_nobody_up() {
    let (_gate, upstream) = upstream().await;
    let (server, certified, _folder) = over_tls(&upstream, "header_timeout = \"500ms\"").await;
    let mut silent = Raw::open(&server.address).await;
    let mut begun = Raw::open(&server.address).await;
    begun.send(b"\x16\x03\x01\x02\x00\x01").await;
    let client = Client::tls(&server.address, &certified.authority_pem);
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(silent.rest().await, b"");
    assert_eq!(begun.rest().await, b"");
    refused(&server, "tls-handshake", 2.0).await;
}

#[tokio::test]
async fn a_proxy_header_that_stalls_is_cut_off() {
    let (_gate, upstream) = upstream().await;
    let limits = "header_timeout = \"300ms\"\nproxy_protocol_from = [\"127.0.0.1\"]";
    let server = server(&upstream, limits).await;
    for begun in ["", "PROXY", "PROXY TCP4 192.0.2.1"] {
        let mut caller = Raw::open(&server.address).await;
        caller.send(begun).await;
        assert_eq!(caller.rest().await, b"", "{begun}");
    }
    refused(&server, "proxy-header", 3.0).await;
}

#[tokio::test]
async fn a_caller_is_told_how_many_streams_it_may_have_and_one_more_is_refused() {
    let (gate, upstream) = upstream().await;
    let server = server(&upstream, "streams_max = 2").await;
    let mut frames = Frames::open(&server.address, &[]).await;
    let settings = frames.expect(SETTINGS, 0).await;
    let told = settings.payload.chunks(6).find_map(|setting| {
        let (name, value) = setting.split_at(2);
        (name == MAX_CONCURRENT_STREAMS.to_be_bytes()).then(|| value.to_vec())
    });
    assert_eq!(told, Some(2_u32.to_be_bytes().to_vec()));
    // The settings bind who has acknowledged them.
    frames.send(SETTINGS, ACK, 0, &[]).await.expect("it reads");
    for stream in [1, 3, 5] {
        frames.get(stream, &format!("/slow/{stream}"), &[]).await;
    }
    const REFUSED_STREAM: u32 = 7;
    assert_eq!(frames.expect(RST_STREAM, 5).await.number(0), REFUSED_STREAM);
    calls(&upstream, 2).await;
    gate.open();
    for _ in 0..2 {
        while frames.next().await.expect("the connection lives").flags & END_STREAM == 0 {}
    }
    frames.get(7, "/x", &[]).await;
    frames.expect(DATA, 7).await;
}

#[tokio::test]
async fn a_header_over_http2_has_the_same_bounds() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "headers_max = 20\nheader_bytes_max = \"8KiB\"").await;
    let client = Client::h2c(&server.address);
    let with_fields = async |count: usize| {
        let request = client.request(reqwest::Method::GET, "/x");
        // reqwest adds one of its own: accept.
        let request =
            (1..count).fold(request, |request, number| request.header(format!("x-{number}"), "1"));
        Answer::of(request).await
    };
    let most = with_fields(20).await;
    assert_eq!((most.status.as_u16(), most.version), (200, http::Version::HTTP_2));
    let over = with_fields(21).await;
    assert_eq!(over.status, 431);
    assert_eq!(over.json()["code"], "too-many-fields");

    for (bytes, status) in [(6 << 10, 200), (9 << 10, 431)] {
        let long = "x".repeat(bytes);
        let request = client.request(reqwest::Method::GET, "/x").header("x-long", long);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{bytes} bytes");
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn an_answer_whose_window_stays_shut_ends_the_connection_and_a_slow_upstream_does_not() {
    let (gate, upstream) = upstream().await;
    let limits = "write_timeout = \"400ms\"\nidle_timeout = \"1h\"";
    let server = server(&upstream, limits).await;
    let mut waiting = Frames::open(&server.address, &[]).await;
    waiting.get(1, "/slow", &[]).await;
    calls(&upstream, 1).await;

    // Whole answers and answers in pieces; both are buffered at different places.
    for path in ["/x", EMBEDDINGS] {
        let mut shut = Frames::open(&server.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        shut.get(1, path, &[]).await;
        shut.expect(HEADERS, 1).await;
        // A connection that is otherwise in use: pings are answered until it is closed.
        let mut pinged = 0;
        while shut.send(PING, 0, 0, b"12345678").await.is_ok() {
            let Some(frame) = shut.next().await else { break };
            assert!(frame.kind != DATA, "{path}: nothing may come through a shut window");
            pinged += 1;
        }
        assert!(pinged > 0, "{path}: it was closed at once");
    }
    gate.open();
    waiting.expect(DATA, 1).await;
}

#[tokio::test]
async fn an_answer_that_is_taken_byte_by_byte_is_not_cut_off() {
    let (_gate, upstream) = upstream().await;
    let limits = "write_timeout = \"1500ms\"\nidle_timeout = \"1h\"";
    let server = server(&upstream, limits).await;
    let shut = async || {
        let mut frames = Frames::open(&server.address, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        frames.get(1, "/x", &[]).await;
        frames.expect(HEADERS, 1).await;
        frames
    };
    let mut slow = shut().await;
    let mut body = Vec::new();
    // Twice as long as another lasts that takes nothing, it takes a byte after the other.
    for _ in 0..2 {
        let mut still = shut().await;
        let mut lasts = tokio::spawn(async move { still.rest().await });
        while tokio::time::timeout(Duration::from_millis(50), &mut lasts).await.is_err() {
            slow.send(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()).await.expect("it reads");
            body.extend(slow.expect(DATA, 1).await.payload);
        }
    }
    slow.send(WINDOW_UPDATE, 0, 1, &60_000_u32.to_be_bytes()).await.expect("it reads");
    body.extend(slow.expect(DATA, 1).await.payload);
    assert_eq!(String::from_utf8(body).expect("text"), embedding(0.25).to_string());
}

#[tokio::test]
async fn pings_do_not_keep_an_idle_http2_connection_and_an_answer_under_way_does() {
    let (gate, upstream) = upstream().await;
    let limits = "idle_timeout = \"500ms\"\nheader_timeout = \"1h\"\nwrite_timeout = \"1h\"";
    let server = server(&upstream, limits).await;
    let mut waiting = Frames::open(&server.address, &[]).await;
    waiting.get(1, "/slow", &[]).await;
    calls(&upstream, 1).await;

    let mut used = Frames::open(&server.address, &[]).await;
    used.get(1, "/x", &[]).await;
    used.expect(DATA, 1).await;
    let mut told = false;
    let closed = async {
        while used.send(PING, 0, 0, b"12345678").await.is_ok() {
            let Some(frame) = used.next().await else { break };
            told |= frame.kind == GOAWAY;
        }
    };
    tokio::time::timeout(PATIENCE, closed).await.expect("it is closed in time");
    assert!(told, "it is told to go first");

    gate.open();
    waiting.expect(DATA, 1).await;
}

#[tokio::test]
async fn a_header_that_drips_is_cut_off_on_a_busy_http2_connection_too() {
    let (_gate, upstream) = upstream().await;
    let limits = "header_timeout = \"400ms\"\nidle_timeout = \"1h\"\nwrite_timeout = \"1h\"";
    let server = server(&upstream, limits).await;
    let block = header_block("/x", &[]);
    for (end, count) in [(false, 1), (true, 2)] {
        let mut frames = Frames::open(&server.address, &[]).await;
        frames.get(1, &format!("/slow/{count}"), &[]).await;
        calls(&upstream, count).await;
        if end {
            // The last frame of a block, but not all of it.
            let mut begun = black_box_tests::frames::frame(HEADERS, END_HEADERS, 3, &block);
            begun.pop();
            frames.send_bytes(&begun).await.expect("it reads");
        } else {
            frames.send(HEADERS, 0, 3, &block).await.expect("it reads");
            frames.send(CONTINUATION, 0, 3, &[]).await.expect("it reads");
        }
        frames.rest().await;
    }
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection_and_not_the_server() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "").await;
    let mut frames = Frames::open(&server.address, &[]).await;
    let mut flood = Vec::new();
    let block = header_block("/slow", &[]);
    for number in 0..2000 {
        let stream = 2 * number + 1;
        let flags = END_HEADERS | END_STREAM;
        flood.extend(black_box_tests::frames::frame(HEADERS, flags, stream, &block));
        flood.extend(black_box_tests::frames::frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    // It may close before it has read all.
    let _ = frames.send_bytes(&flood).await;
    let came = frames.rest().await;
    const ENHANCE_YOUR_CALM: u32 = 11;
    if let Some(goaway) = came.iter().find(|frame| frame.kind == GOAWAY) {
        assert_eq!(goaway.number(4), ENHANCE_YOUR_CALM, "{came:?}");
    }
    assert_eq!(server.client().get("/x").await.status, 200);
    // The bound is 20; those that it had begun with by then come on top.
    let asked = upstream.calls();
    assert!(asked < 100, "{asked} of 2000 taken back were asked for all the same");
}

#[tokio::test]
async fn when_descriptors_run_out_it_waits_and_goes_on() {
    let (_gate, upstream) = upstream().await;
    let setup = Setup::in_front_of(&upstream).with_open_files(64);
    let server = Server::start(setup).await;
    assert!(server.log().contains("raise the hard limit"), "{}", server.log());
    let mut callers = Vec::new();
    for _ in 0..64 {
        callers.push(Raw::open(&server.address).await);
    }
    let said = |words: &'static str| {
        let server = &server;
        move || async move { server.log().contains(words).then_some(()) }
    };
    eventually("the log tells once", said("connections cannot be accepted")).await;
    drop(callers);
    eventually("and when it is over", said("connections are accepted again")).await;
    assert_eq!(server.client().get("/x").await.status, 200);
    assert!(server.metric("cache_server_accept_errors_total").await > 0.0);
    let lines = server.log().matches("connections cannot be accepted").count();
    // One run on each listener at most: figures are asked for on the other.
    assert!(lines <= 2, "{}", server.log());
}

#[tokio::test]
async fn an_exchange_over_its_time_is_a_504_before_its_head() {
    let (gate, upstream) = upstream().await;
    let server = server(&upstream, "request_timeout = \"300ms\"").await;
    for client in [server.client(), Client::h2c(&server.address)] {
        let answer = client.get("/slow").await;
        assert_eq!(answer.status, 504);
        assert_eq!(answer.json()["code"], "request-timeout");
        assert_eq!(client.get("/x").await.status, 200, "the connection is as good as before");
    }
    gate.open();
}

#[tokio::test]
async fn an_exchange_over_its_time_is_cut_after_its_head_and_never_looks_whole() {
    let (live, reply) = Reply::live("text/event-stream");
    let reply = std::sync::Mutex::new(Some(reply));
    let (live2, reply2) = Reply::live("text/event-stream");
    let reply2 = std::sync::Mutex::new(Some(reply2));
    let upstream = Upstream::start(move |request| {
        let reply = if request.uri.path() == "/1" { &reply } else { &reply2 };
        reply.lock().expect("the reply").take().expect("asked once")
    })
    .await;
    let server = server(&upstream, "request_timeout = \"500ms\"").await;
    for (path, live, client) in
        [("/1", live, server.client()), ("/2", live2, Client::h2c(&server.address))]
    {
        live.send(Ok("data: 1\n\n".into())).expect("the upstream reads");
        let mut reading = Reading::of(client.request(reqwest::Method::GET, path)).await;
        reading.expect(b"data: 1\n\n").await;
        assert!(reading.rest().await.is_err(), "{path}: it must not look whole");
    }
}

#[tokio::test]
async fn a_caller_that_is_slow_to_read_has_no_more_time_than_its_request() {
    // More than the sockets between the two can hold.
    let mut answer = embedding(1.0);
    answer["padding"] = "x".repeat(12 << 20).into();
    let whole = answer.to_string().len();
    let upstream = Upstream::saying(answer).await;
    let server = server(&upstream, "request_timeout = \"1s\"\nwrite_timeout = \"1h\"").await;
    let mut still = Raw::open(&server.address).await;
    still.send(get("/x")).await;
    still.head().await;
    eventually("its connection to be closed", || async {
        (server.metric("cache_server_connections_open").await == 0.0).then_some(())
    })
    .await;
    assert!(still.rest().await.len() < whole, "what it takes afterwards is not the whole answer");
}

#[tokio::test]
async fn a_request_without_exactly_one_good_host_is_a_400() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "").await;
    for fields in [
        "",
        "host: a\r\nhost: b\r\n",
        "host: a b\r\n",
        "host: user@a\r\n",
        "host: a:port\r\n",
        "host: \r\n",
    ] {
        let mut caller = Raw::open(&server.address).await;
        caller.send(format!("GET /x HTTP/1.1\r\n{fields}\r\n")).await;
        assert_problem(&caller.answer().await, 400, "bad-host");
    }
    let mut frames = Frames::open(&server.address, &[]).await;
    frames.get(1, "/x", &[("host", "another")]).await;
    frames.expect(HEADERS, 1).await;
    let problem = frames.expect(DATA, 1).await.payload;
    assert!(String::from_utf8_lossy(&problem).contains("\"bad-host\""));
    assert_eq!(upstream.calls(), 0);
}

#[tokio::test]
async fn only_the_names_that_are_ours_are_answered() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "hosts = [\"Cache.example.com\", \"[::1]\"]").await;
    let asked = async |head: &str| {
        let mut caller = Raw::open(&server.address).await;
        caller.send(head).await;
        caller.answer().await
    };
    for ours in [
        "GET /x HTTP/1.1\r\nhost: cache.EXAMPLE.com:8080\r\n\r\n",
        "GET /x HTTP/1.1\r\nhost: [::1]\r\n\r\n",
        "GET http://cache.example.com/x HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    ] {
        let answer = asked(ours).await;
        assert!(answer.head.starts_with("HTTP/1.1 200 "), "{ours}: {}", answer.head);
    }
    let calls = upstream.calls();
    for other in [
        "GET /x HTTP/1.1\r\nhost: evil.example\r\n\r\n",
        "GET http://evil.example/x HTTP/1.1\r\nhost: cache.example.com\r\n\r\n",
    ] {
        assert_problem(&asked(other).await, 421, "not-our-host");
    }
    let http1_0 = asked("GET /x HTTP/1.0\r\n\r\n").await;
    assert!(http1_0.head.starts_with("HTTP/1.0 421 "), "{}", http1_0.head);
    let over_http2 = Client::h2c(&server.address).ask(EMBEDDINGS, &question("a")).await;
    assert_eq!(over_http2.status, 421, "its authority is an address that is not listed");
    assert_eq!(upstream.calls(), calls);
}

#[tokio::test]
async fn a_target_that_is_no_path_and_no_url_is_a_400() {
    let (_gate, upstream) = upstream().await;
    let server = server(&upstream, "").await;
    for line in ["OPTIONS * HTTP/1.1", "GET * HTTP/1.1", "GET example.com:80 HTTP/1.1"] {
        let mut caller = Raw::open(&server.address).await;
        caller.send(format!("{line}\r\nhost: cache\r\n\r\n")).await;
        assert_problem(&caller.answer().await, 400, "bad-target");
    }
    assert_eq!(upstream.calls(), 0);
}
