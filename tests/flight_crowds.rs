//! Crowds: ten thousand who ask the same at once are one call upstream and leave no memory behind,
//! and those whose answer is for each alone are served side by side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::by_hand::chunk;
use black_box_tests::frames::{DATA, END_STREAM, GOAWAY, HEADERS, RST_STREAM};
use black_box_tests::plain::{field, with};
use black_box_tests::upstream::Gate;
use black_box_tests::{
    Answer, ByHand, Frames, Received, Reply, Server, Setup, Upstream, eventually,
};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

const CONNECTIONS: usize = 100;
const STREAMS: usize = 100;
const FOLLOWERS: usize = CONNECTIONS * STREAMS;

/// Streams of callers are odd, and count from 1 (RFC 9113 section 5.1.1).
fn streams() -> impl Iterator<Item = u32> {
    (0..u32::try_from(STREAMS).expect("a few")).map(|number| 2 * number + 1)
}

/// A storm on one path: its connections, each with all its streams asked.
async fn storm(server: &Server, path: &str) -> Vec<Frames> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Frames::open(&server.address, &[]).await;
        for stream in streams() {
            connection.get(stream, path, &[]).await;
        }
        connections.push(connection);
    }
    connections
}

/// Reads every stream of a connection to its end; the bodies are all the same.
async fn read_all(mut connection: Frames, whole: Vec<u8>) -> usize {
    let mut bodies = vec![Vec::new(); STREAMS];
    let mut ended = 0;
    while ended < STREAMS {
        let frame = connection.next().await.expect("the connection goes on");
        assert!(![RST_STREAM, GOAWAY].contains(&frame.kind), "{frame:?}");
        if frame.kind == DATA || frame.kind == HEADERS {
            let stream = usize::try_from(frame.stream / 2).expect("a few");
            if frame.kind == DATA {
                bodies[stream].extend_from_slice(&frame.payload);
            }
            ended += usize::from(frame.flags & END_STREAM != 0);
        }
    }
    assert!(bodies.iter().all(|body| *body == whole), "all bodies are whole");
    ended
}

/// Waits until so many have looked in vain since the start, however long that takes, as long as it
/// goes on.
async fn joined(server: &Server, count: f64) {
    let mut seen = 0.0;
    while seen < count {
        seen = eventually(&format!("more than {seen} of {count} lookups"), || async {
            Some(server.lookups_in_vain().await).filter(|now| *now > seen)
        })
        .await;
    }
}

/// Ten thousand join one answer, which goes on when all are there.
async fn storm_joins(server: &Server, upstream: &ByHand, number: usize) {
    let before = server.lookups_in_vain().await;
    let connections = storm(server, &format!("/page?storm={number}")).await;
    let mut asked = upstream.asked().await;
    asked
        .send(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\
             cache-control: max-age=600\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
    asked.send(chunk(b"data: first\n\n")).await;
    joined(server, before + 10_000.0).await;
    asked.send(chunk(b"data: second\n\n")).await;
    asked.send("0\r\n\r\n").await;
    let whole = b"data: first\n\ndata: second\n\n";
    let readers = connections
        .into_iter()
        .map(|connection| tokio::spawn(read_all(connection, whole.to_vec())));
    let ended = join_all(readers).await.into_iter().map(|ended| ended.expect("all of them"));
    assert_eq!(ended.sum::<usize>(), FOLLOWERS);
    eventually("nothing is held", || async {
        let mut held = 0.0;
        for level in ["flights_open", "buffered_bytes", "connections_open"] {
            held += server.metric(&format!("cache_server_{level}")).await;
        }
        (held == 0.0).then_some(())
    })
    .await;
}

/// The server's resident memory in bytes.
fn resident_bytes(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process()));
    let status = status.expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_who_join_one_answer_cost_one_call_and_leave_no_memory_behind() {
    // Half a KiB for each follower of the three storms.
    const GROWTH_MAX: u64 = 15 << 20;
    let upstream = ByHand::start().await;
    let server = Server::start(upstream.setup()).await;
    storm_joins(&server, &upstream, 0).await;
    let warm = resident_bytes(&server);
    for number in 1..=3 {
        storm_joins(&server, &upstream, number).await;
    }
    assert_eq!(upstream.calls(), 4);
    eventually("the memory of the storms to be given back", || async {
        (resident_bytes(&server) <= warm + GROWTH_MAX).then_some(())
    })
    .await;
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
        server.misses_looked_up(200).await;
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
