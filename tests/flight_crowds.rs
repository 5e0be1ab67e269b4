//! Crowds: ten thousand who ask the same at once are one call upstream and leave no memory behind,
//! and those whose answer is for each alone are served side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::by_hand::chunk;
use black_box_tests::frames::{DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM};
use black_box_tests::plain::{field, with};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{
    Answer, ByHand, Form, Frames, Raw, Received, Reply, Server, Setup, Upstream, eventually,
};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

const CONNECTIONS: usize = 100;
const STREAMS: usize = 100;

/// Streams of callers are odd, and count from 1 (RFC 9113 section 5.1.1).
fn streams() -> impl Iterator<Item = u32> {
    (0..u32::try_from(STREAMS).expect("a few")).map(|number| 2 * number + 1)
}

/// A connection all of whose streams have asked the same.
struct Crowd {
    connection: Frames,
    /// What each stream was told so far.
    bodies: Vec<Vec<u8>>,
    /// How many streams have ended.
    ended: usize,
}

impl Crowd {
    async fn asks(address: &str, path: &str) -> Crowd {
        let mut connection = Frames::open(address, &[]).await;
        for stream in streams() {
            connection.get(stream, path, &[]).await;
        }
        Crowd { connection, bodies: vec![Vec::new(); STREAMS], ended: 0 }
    }

    /// Reads until every stream has been told so many bytes, and so many streams have ended.
    async fn reads(mut self, bytes: usize, ended: usize) -> Crowd {
        while self.ended < ended || self.bodies.iter().any(|body| body.len() < bytes) {
            let frame = self.connection.next().await.expect("the connection goes on");
            assert!(![RST_STREAM, GOAWAY].contains(&frame.kind), "{frame:?}");
            if frame.kind != DATA && frame.kind != HEADERS {
                continue;
            }
            self.ended += usize::from(frame.flags & END_STREAM != 0);
            if frame.kind == DATA {
                let stream = usize::try_from(frame.stream / 2).expect("a few");
                self.bodies[stream].extend_from_slice(&frame.payload);
            }
        }
        self
    }
}

/// All of these crowds have read so far.
async fn all_read(crowds: Vec<Crowd>, bytes: usize, ended: usize) -> Vec<Crowd> {
    let reads = crowds.into_iter().map(|crowd| tokio::spawn(crowd.reads(bytes, ended)));
    join_all(reads).await.into_iter().map(|crowd| crowd.expect("all of them")).collect()
}

/// Ten thousand join one answer, which goes on when all have read its beginning.
async fn storm(server: &Server, upstream: &ByHand, number: usize) {
    let path = format!("/feed?storm={number}");
    let asks = (0..CONNECTIONS).map(|_| Crowd::asks(&server.address, &path));
    let crowds = join_all(asks).await;
    let mut asked = upstream.asked().await;
    let (first, second) = (b"data: first\n\n", b"data: second\n\n");
    asked.send(Form::feed().head()).await;
    asked.send(chunk(first)).await;
    let crowds = all_read(crowds, first.len(), 0).await;
    asked.send(chunk(second)).await;
    asked.send("0\r\n\r\n").await;
    let whole = [&first[..], second].concat();
    for crowd in all_read(crowds, whole.len(), STREAMS).await {
        assert!(crowd.bodies.iter().all(|body| *body == whole), "all bodies are whole");
    }
    eventually("nothing is held", || async {
        let mut held = 0.0;
        for level in ["flights_open", "buffered_bytes", "connections_open"] {
            held += server.metric(&format!("cache_server_{level}")).await;
        }
        (held == 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_who_join_one_answer_cost_one_call_and_leave_no_memory_behind() {
    const STORMS: usize = 10;
    // Half a KiB for each follower of the last seven storms.
    const GROWTH_MAX: u64 = 35 << 20;
    let upstream = ByHand::start().await;
    let server = Server::start(upstream.setup()).await;
    // The peaks are compared: how much of the memory that is free the allocator keeps between
    // storms is chance, and what is left behind lies under each later peak.
    let mut peaks = Vec::new();
    for number in 0..STORMS {
        storm(&server, &upstream, number).await;
        peaks.push(server.process_bytes("VmHWM"));
    }
    assert_eq!(upstream.calls(), STORMS);
    assert!(peaks[STORMS - 1] <= peaks[2] + GROWTH_MAX, "memory is left behind: {peaks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_waits_takes_no_more_than_48_kib_of_memory() {
    const CALLERS: usize = 1000;
    const EACH_MAX: u64 = 48 << 10;
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::json(&embedding(0.25)).held_by(&holds)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let before = server.process_bytes("VmRSS");
    let body = question(&"how long? ".repeat(200)).to_string();
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut caller = Raw::open(&server.address).await;
        caller.post(EMBEDDINGS, &body).await;
        callers.push(caller);
    }
    eventually("all wait, with what they ask", || async {
        let held = server.metric("cache_server_buffered_bytes").await;
        (held >= (body.len() * (CALLERS - 1)) as f64).then_some(())
    })
    .await;
    gate.open();
    for caller in &mut callers {
        assert_eq!(caller.answer().await.text(), embedding(0.25).to_string());
    }
    assert_eq!(upstream.calls(), 1);
    let each = server.process_bytes("VmHWM").saturating_sub(before) / CALLERS as u64;
    assert!(each <= EACH_MAX, "each took {each} bytes");
}

/// What makes an answer of a page one for its caller alone.
const UNSHAREABLE: [(&str, &[(&str, &str)]); 5] = [
    ("private", &[("cache-control", "private")]),
    ("no-store", &[("cache-control", "no-store")]),
    ("a cookie", &[("cache-control", "max-age=600"), ("set-cookie", "id=1")]),
    ("no lifetime", &[]),
    ("any variant", &[("cache-control", "max-age=600"), ("vary", "*")]),
];

/// Callers of one page, each of whom says who it is.
fn callers(server: &Server, ids: std::ops::Range<usize>) -> Vec<JoinHandle<Answer>> {
    let ask = |id: usize| {
        let request = server.client().request(http::Method::GET, "/page");
        tokio::spawn(Answer::of(request.header("x-caller", id.to_string())))
    };
    ids.map(ask).collect()
}

async fn assert_each_has_its_own(callers: Vec<JoinHandle<Answer>>, first: usize, case: &str) {
    for (index, answer) in join_all(callers).await.into_iter().enumerate() {
        let answer = answer.expect("an answer");
        assert_eq!(answer.body, format!("for {}", first + index), "{case}");
    }
}

/// An upstream that holds each answer until a gate is opened: the first one's, and the others'.
async fn echoing(
    fields: &'static [(&'static str, &'static str)],
    first: &Arc<Gate>,
    others: &Arc<Gate>,
) -> Upstream {
    let (first, others, calls) = (first.clone(), others.clone(), AtomicUsize::new(0));
    Upstream::start(move |received: &Received| {
        let reply = Reply::bytes(format!("for {}", field(received, "x-caller")));
        let is_first = calls.fetch_add(1, Ordering::SeqCst) == 0;
        with(reply, fields).held_by(if is_first { &first } else { &others })
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_whose_answers_are_for_each_alone_waits_once_and_is_then_served_side_by_side() {
    const CALLERS: usize = 200;
    for (case, fields) in UNSHAREABLE {
        let (first, others) = (Arc::new(Gate::closed()), Arc::new(Gate::closed()));
        let upstream = echoing(fields, &first, &others).await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        let crowd = callers(&server, 0..CALLERS);
        eventually("all have connected", || async {
            (server.stats().await["connections_open"] == CALLERS).then_some(())
        })
        .await;
        assert_eq!(upstream.calls(), 1, "{case}: they wait for the first");
        first.open();
        // None of the others has been answered: all are at the upstream at the same time.
        eventually("all are at the upstream", || async {
            (upstream.calls() == CALLERS).then_some(())
        })
        .await;
        assert!(crowd.iter().filter(|caller| caller.is_finished()).count() <= 1, "{case}");
        others.open();
        assert_each_has_its_own(crowd, 0, case).await;
        assert_eq!(upstream.calls(), CALLERS, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_comes_after_such_an_answer_does_not_wait_at_all() {
    const CALLERS: usize = 50;
    for (case, fields) in UNSHAREABLE {
        let (first, others) = (Arc::new(Gate::closed()), Arc::new(Gate::closed()));
        first.open();
        let upstream = echoing(fields, &first, &others).await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        assert_each_has_its_own(callers(&server, 0..1), 0, case).await;
        let crowd = callers(&server, 1..CALLERS);
        eventually("all are at the upstream", || async {
            (upstream.calls() == CALLERS).then_some(())
        })
        .await;
        others.open();
        assert_each_has_its_own(crowd, 1, case).await;
    }
}
