//! Whoever stops reading holds nobody up where the answer is kept. One too large to be kept goes
//! at the pace of its slowest reader, who is left behind after a while, and sees a cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use black_box_tests::by_hand::chunk;
use black_box_tests::frames::{DATA, END_STREAM, HEADERS, RST_STREAM, WINDOW_UPDATE};
use black_box_tests::{Answer, ByHand, Client, Frames, PATIENCE, Raw, Server, Setup, eventually};
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;

const GET: &str = "GET /page HTTP/1.1\r\nhost: cache\r\n\r\n";

/// The head of a page that may be kept, as far as its size allows.
const HEAD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/plain\r\n\
                    cache-control: max-age=600\r\ntransfer-encoding: chunked\r\n\r\n";

/// More than a server's side of a socket holds (4 MiB), and the window of a flight (1 MiB).
const AHEAD_MAX: usize = 8 << 20;

/// A body of this size of which no two pieces are alike.
fn body(bytes: usize) -> Vec<u8> {
    let lines = (0..bytes.div_ceil(16)).flat_map(|line| format!("{line:015}\n").into_bytes());
    lines.take(bytes).collect()
}

/// Answers with this body, as fast as it is taken; ends early if nobody takes it.
fn give(mut asked: Raw, body: Vec<u8>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut taken = asked.try_send(HEAD).await;
        for piece in body.chunks(64 << 10) {
            taken = taken.and(asked.try_send(chunk(piece)).await);
        }
        let _ = taken.and(asked.try_send("0\r\n\r\n").await);
    })
}

/// A caller of HTTP/1.1 with a small buffer, who has asked and reads nothing of its own accord.
async fn slow_caller(server: &Server) -> Raw {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(64 << 10).expect("a small buffer");
    let stream = socket.connect(server.address.parse().expect("an address"));
    let mut caller = Raw::of(stream.await.expect("a connection"));
    caller.send(GET).await;
    caller
}

fn bounded(upstream: &ByHand, entry_bytes_max: &str, more: &str) -> Setup {
    let entries = format!("entry_bytes_max = \"{entry_bytes_max}\"");
    upstream.setup().config(&format!("[cache]\ndisk_bytes_max = \"64MiB\"\n{entries}\n{more}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_an_answer_that_is_kept_holds_up_nobody_and_may_go_on_later() {
    // More than the sockets between the two can hold.
    let body = body(12 << 20);
    let upstream = ByHand::start().await;
    let server = Server::start(bounded(&upstream, "15MiB", "")).await;
    let mut leader = slow_caller(&server).await;
    let asked = upstream.asked().await;
    let mut follower = slow_caller(&server).await;
    let mut over_http2 = Frames::open(&server.address, &[]).await;
    over_http2.get(1, "/page", &[]).await;
    server.misses_looked_up(3).await;
    let quick =
        tokio::spawn(Answer::of(Client::h2c(&server.address).request(http::Method::GET, "/page")));
    server.misses_looked_up(4).await;
    give(asked, body.clone());
    let quick = tokio::time::timeout(PATIENCE, quick).await.expect("in time").expect("an answer");
    assert!(quick.body == body, "{} bytes", quick.body.len());
    eventually("it is stored", || async { (server.stats().await["stores"] == 1).then_some(()) })
        .await;
    assert!(server.client().get("/page").await.is_hit());

    for slow in [&mut leader, &mut follower] {
        let answer = slow.answer().await;
        assert!(answer.body == body, "{} bytes", answer.body.len());
    }
    let told = all_of_stream(&mut over_http2).await;
    assert!(told == (body, true), "over HTTP/2: {} bytes", told.0.len());
    assert_eq!(upstream.calls(), 1);
}

/// Opens the window wide, and takes all of stream 1: its body, and whether that came to a clean
/// end.
async fn all_of_stream(caller: &mut Frames) -> (Vec<u8>, bool) {
    for stream in [0, 1] {
        let wide = (64_u32 << 20).to_be_bytes();
        caller.send(WINDOW_UPDATE, 0, stream, &wide).await.expect("it reads");
    }
    let mut body = Vec::new();
    loop {
        let frame = caller.next().await.expect("the connection goes on");
        match (frame.kind, frame.stream) {
            (DATA | HEADERS, 1) => {
                if frame.kind == DATA {
                    body.extend(frame.payload);
                }
                if frame.flags & END_STREAM != 0 {
                    return (body, true);
                }
            }
            (RST_STREAM, 1) => return (body, false),
            _ => {}
        }
    }
}

/// A caller who reads as fast as it can; how much, the count says. Gives the whole body.
fn quick_caller(server: &Server, read: &Arc<AtomicUsize>) -> JoinHandle<Vec<u8>> {
    let (asks, read) = (server.client().request(http::Method::GET, "/page"), Arc::clone(read));
    tokio::spawn(async move {
        let mut response = asks.send().await.expect("an answer");
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.expect("the body goes on") {
            body.extend_from_slice(&piece);
            read.store(body.len(), Ordering::SeqCst);
        }
        body
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_too_large_to_be_kept_goes_at_the_pace_of_its_slowest_reader() {
    let body = body(32 << 20);
    let upstream = ByHand::start().await;
    let server = Server::start(bounded(&upstream, "64KiB", "")).await;
    let mut slow = slow_caller(&server).await;
    let asked = upstream.asked().await;
    let read = Arc::new(AtomicUsize::new(0));
    let mut quick = quick_caller(&server, &read);
    server.misses_looked_up(2).await;
    give(asked, body.clone());
    slow.head().await;

    // Wherever the slow one pauses, the quick one is not far ahead.
    let mut taken = Vec::new();
    for pause in 0..3_usize {
        while taken.len() < pause * (4 << 20) {
            taken.extend(slow.chunk().await);
        }
        let ended = tokio::time::timeout(Duration::from_millis(700), &mut quick).await;
        assert!(ended.is_err(), "the quick one has all, and the slow one {}", taken.len());
        let ahead = read.load(Ordering::SeqCst).saturating_sub(taken.len());
        assert!(ahead <= AHEAD_MAX, "the quick one is {ahead} bytes ahead at pause {pause}");
        let held = server.metric("cache_server_buffered_bytes").await;
        assert!(held <= f64::from(2 << 20), "{held} bytes are held");
    }
    taken.extend(slow.chunks().await.concat());
    assert!(taken == body, "the slow one: {} bytes", taken.len());
    let quick = tokio::time::timeout(PATIENCE, quick).await.expect("in time").expect("a body");
    assert!(quick == body, "the quick one: {} bytes", quick.len());
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stands_still_is_left_behind_by_an_answer_too_large_to_be_kept_and_sees_a_cut() {
    let body = body(16 << 20);
    let upstream = ByHand::start().await;
    let setup = bounded(&upstream, "64KiB", "slow_reader_timeout = \"300ms\"");
    let server = Server::start(setup).await;
    let mut still = slow_caller(&server).await;
    let asked = upstream.asked().await;
    let mut over_http2 = Frames::open(&server.address, &[]).await;
    over_http2.get(1, "/page", &[]).await;
    let read = Arc::new(AtomicUsize::new(0));
    let quick = quick_caller(&server, &read);
    server.misses_looked_up(3).await;
    give(asked, body.clone());
    let quick = tokio::time::timeout(PATIENCE, quick).await.expect("in time").expect("a body");
    assert!(quick == body, "the quick one: {} bytes", quick.len());

    assert!(still.head().await.starts_with("HTTP/1.1 200 "));
    let told = still.rest().await;
    assert!(!told.ends_with(b"\r\n0\r\n\r\n") && told.len() < body.len(), "{}", told.len());
    let (told, is_clean) = all_of_stream(&mut over_http2).await;
    assert!(!is_clean && told.len() < body.len() && body.starts_with(&told), "{}", told.len());
    assert_eq!(upstream.calls(), 1);
    assert_eq!(server.stats().await["stores"], 0);
}

#[tokio::test]
async fn an_answer_too_large_to_be_kept_is_joined_no_more_and_not_fetched_for_nobody() {
    let upstream = ByHand::start().await;
    let server = Server::start(bounded(&upstream, "64KiB", "")).await;
    let mut caller = Raw::open(&server.address).await;
    caller.send(GET).await;
    let mut asked = upstream.asked().await;
    asked.send(HEAD).await;
    let piece = chunk(&vec![b'x'; 96 << 10]);
    asked.send(&piece).await;
    caller.head().await;
    caller.chunk().await;

    let mut next = Raw::open(&server.address).await;
    next.send(GET).await;
    upstream.asked().await.send(format!("{HEAD}3\r\nnew\r\n0\r\n\r\n")).await;
    assert_eq!(next.answer().await.text(), "new");
    assert!(server.client().get("/page").await.is_hit());

    drop(caller);
    while asked.try_send(&piece).await.is_ok() {}
    eventually("nothing is held", || async {
        let stats = server.stats().await;
        (stats["flights_open"] == 0 && stats["buffered_bytes"] == 0).then_some(())
    })
    .await;
    assert!(server.client().get("/page").await.is_hit(), "what is newer is left alone");
    assert_eq!(upstream.calls(), 2);
}
