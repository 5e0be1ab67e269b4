//! HTTP/2 frame by frame, as no client sends it: a header too large, a flood, what is malformed,
//! and what belongs to HTTP/1.1. One stream's mistake is the end of that stream, a connection's
//! the end of the connection, and nobody else's.

use black_box_tests::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, RST_STREAM, header_block,
};
use black_box_tests::sample::{EMBEDDINGS, question};
use black_box_tests::{Answer, Client, Frames, PATIENCE, eventually};

use super::{FILES, PATHS, Stage};

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// Whether it is a head with nothing but `:status: 431` in Huffman's code (RFC 7541 appendix B).
fn is_431(frame: &Frame) -> bool {
    frame.kind == HEADERS && frame.payload == [0x48, 0x83, 0x69, 0x90, 0xff]
}

/// A literal with a plain name and value (RFC 7541 section 6.2.2).
fn literal(name: &str, value: &str) -> Vec<u8> {
    let block = header_block("", &[(name, value)]);
    block[header_block("", &[]).len()..].to_vec()
}

/// A good request on the same connection is answered: one stream's mistake is not another's.
async fn assert_goes_on(frames: &mut Frames, stream: u32, case: &str) {
    frames.get(stream, FILES, &[]).await;
    let answer = tokio::time::timeout(PATIENCE, frames.expect(DATA, stream)).await;
    assert!(answer.is_ok(), "{case}: the connection goes on");
}

#[tokio::test]
async fn a_header_list_over_the_bound_is_a_431_and_the_connection_goes_on() {
    let stage = Stage::start().await;
    let mut frames = Frames::open(&stage.server.address, &[]).await;
    let field = ("x-long", "y".repeat(4000));
    // Within one frame each: 64 KiB are allowed by default.
    let block = header_block(FILES, &[]);
    frames.send(HEADERS, END_STREAM, 1, &block).await.expect("it reads");
    for number in 0..5 {
        let part = literal(field.0, &field.1).repeat(4);
        let flags = if number == 4 { END_HEADERS } else { 0 };
        frames.send(CONTINUATION, flags, 1, &part).await.expect("it reads");
    }
    let refused = frames.expect(HEADERS, 1).await;
    assert!(is_431(&refused), "{refused:?}");
    assert_goes_on(&mut frames, 3, "a list too large").await;
    assert_eq!(stage.targets(), [FILES]);
    stage.assert_well().await;
}

#[tokio::test]
async fn a_few_bytes_that_unpack_to_many_fields_are_refused_before_they_are_unpacked() {
    let stage = Stage::start().await;
    let mut frames = Frames::open(&stage.server.address, &[]).await;
    let mut block = header_block(FILES, &[]);
    // Into the dictionary (RFC 7541 section 6.2.1), and then named 16,000 times: 64 MB.
    let mut entry = literal("x-bomb", &"y".repeat(4000));
    entry[0] = 0x40;
    block.extend(entry);
    frames.send(HEADERS, END_STREAM, 1, &block).await.expect("it reads");
    let _ = frames.send(CONTINUATION, END_HEADERS, 1, &[0xbe; 16_000]).await;
    let came = frames.rest_or(HEADERS, 1).await;
    let is_refusal = |frame: &Frame| is_431(frame) || matches!(frame.kind, RST_STREAM | GOAWAY);
    assert!(came.iter().any(is_refusal), "{came:?}");
    assert_eq!(stage.upstream.calls(), 0);
    stage.assert_well().await;
}

#[tokio::test]
async fn a_header_block_that_never_ends_ends_the_connection_and_is_counted() {
    let stage = Stage::start().await;
    let mut frames = Frames::open(&stage.server.address, &[]).await;
    frames.send(HEADERS, END_STREAM, 1, &header_block(FILES, &[])).await.expect("it reads");
    let flood = black_box_tests::frames::frame(CONTINUATION, 0, 1, &[]).repeat(100_000);
    // It may close before it has read all.
    let _ = frames.send_bytes(&flood).await;
    let came = frames.rest().await;
    if let Some(goaway) = came.iter().find(|frame| frame.kind == GOAWAY) {
        assert_eq!(goaway.number(4), ENHANCE_YOUR_CALM, "{came:?}");
    }
    let series = "cache_server_connections_refused_total{reason=\"bad-request\"}";
    eventually("it to be counted", || async {
        (stage.server.metric(series).await == 1.0).then_some(())
    })
    .await;
    assert_eq!(stage.upstream.calls(), 0);
    stage.assert_well().await;
}

#[tokio::test]
async fn what_is_malformed_or_belongs_to_a_connection_of_http1_is_refused_on_its_stream() {
    const GET: &[u8] = &[0x82];
    const HTTP: &[u8] = &[0x86];
    const ROOT: &[u8] = &[0x84];
    let stage = Stage::start().await;
    let host = literal(":authority", "cache");
    let good = [GET, HTTP, ROOT, &host].concat();
    let with = |more: Vec<u8>| [good.clone(), more].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no method", [HTTP, ROOT, &host].concat()),
        ("no path", [GET, HTTP, &host].concat()),
        ("an empty path", [GET, HTTP, &literal(":path", ""), &host].concat()),
        ("two paths", with(ROOT.to_vec())),
        ("two methods", with(GET.to_vec())),
        ("an unknown pseudo field", with(literal(":other", "x"))),
        ("an answer's pseudo field", with(literal(":status", "200"))),
        ("a pseudo field behind a field", [GET, HTTP, &literal("x", "y"), ROOT, &host].concat()),
        ("a name in capitals", with(literal("X-Name", "y"))),
        ("an empty name", with(literal("", "y"))),
        ("a line's end in a value", with(literal("x", "y\r\nhost: other"))),
        ("connection", with(literal("connection", "close"))),
        ("keep-alive", with(literal("keep-alive", "timeout=5"))),
        ("proxy-connection", with(literal("proxy-connection", "close"))),
        ("transfer-encoding", with(literal("transfer-encoding", "chunked"))),
        ("upgrade", with(literal("upgrade", "websocket"))),
        ("te", with(literal("te", "gzip"))),
    ];
    for (case, block) in cases {
        let mut frames = Frames::open(&stage.server.address, &[]).await;
        let sent = frames.send(HEADERS, END_HEADERS | END_STREAM, 1, &block).await;
        sent.expect("it reads");
        let refused = frames.rest_or(RST_STREAM, 1).await.pop().expect("something comes");
        assert!(matches!(refused.kind, RST_STREAM | GOAWAY), "{case}: {refused:?}");
        let code = refused.number(if refused.kind == RST_STREAM { 0 } else { 4 });
        assert!(matches!(code, PROTOCOL_ERROR | 9), "{case}: {refused:?}");
        if refused.kind == RST_STREAM {
            assert_goes_on(&mut frames, 3, case).await;
        }
    }
    assert!(stage.targets().iter().all(|target| target == FILES), "{:?}", stage.targets());
    stage.assert_well().await;
}

#[tokio::test]
async fn te_trailers_alone_is_taken_and_ends_here() {
    let stage = Stage::start().await;
    let mut frames = Frames::open(&stage.server.address, &[]).await;
    frames.get(1, FILES, &[("te", "trailers")]).await;
    frames.expect(DATA, 1).await;
    let request = stage.upstream.requests().pop().expect("it was asked");
    assert!(request.fields("te").is_empty());
    stage.assert_well().await;
}

fn problem(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), answer.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_body_too_large_is_a_413_over_http2() {
    let stage = Stage::bounded("body_bytes_max = \"4KiB\"").await;
    let client = Client::h2c(&stage.server.address);
    for path in PATHS {
        let answer = client.ask(path, &question(&"x".repeat(5000))).await;
        assert_eq!(problem(&answer), (413, "body-too-large".into()), "{path}");
        assert_eq!(client.get("/x").await.status, 200, "{path}: the connection goes on");
    }
    stage.assert_well().await;
}

#[tokio::test]
async fn a_body_that_stops_is_a_408_over_http2() {
    let stage = Stage::bounded("body_timeout = \"300ms\"").await;
    let mut post = header_block(EMBEDDINGS, &[("content-length", "100")]);
    // POST is the entry behind GET.
    post[0] = 0x83;
    let mut frames = Frames::open(&stage.server.address, &[]).await;
    frames.send(HEADERS, END_HEADERS, 1, &post).await.expect("it reads");
    frames.send(DATA, 0, 1, b"half").await.expect("it reads");
    let told = frames.expect(DATA, 1).await.payload;
    let told: serde_json::Value = serde_json::from_slice(&told).expect("JSON");
    assert_eq!((&told["status"], &told["code"]), (&408.into(), &"body-timeout".into()));
    assert_goes_on(&mut frames, 3, "a body that stops").await;
    stage.assert_well().await;
}

#[tokio::test]
async fn bodies_beyond_the_buffers_are_a_503_over_http2() {
    let stage = Stage::bounded("buffered_bytes_max = \"64KiB\"").await;
    let client = Client::h2c(&stage.server.address);
    let answer = client.ask(EMBEDDINGS, &question(&"x".repeat(100_000))).await;
    assert_eq!(problem(&answer), (503, "buffers-full".into()));
    assert!(!answer.field("retry-after").is_empty());
    stage.assert_well().await;
}
