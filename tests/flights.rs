//! Callers who ask the same at once share one call upstream, and nobody's leaving, failing or
//! slowness is anybody else's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, events, question, recorded};
use black_box_tests::upstream::{Gate, cut};
use black_box_tests::{
    Answer, Client, PATIENCE, Raw, Reading, Reply, Server, Setup, Upstream, eventually,
};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// An upstream whose every answer is held until the gate opens.
async fn held_upstream(reply: impl Fn() -> Reply + Send + Sync + 'static) -> (Arc<Gate>, Upstream) {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    (gate, Upstream::start(move |_| reply().held_by(&holds)).await)
}

/// Asks the same many times at once, each on a connection of its own.
fn ask_at_once(server: &Server, count: usize, body: &Value) -> Vec<JoinHandle<Answer>> {
    let ask = |_| {
        let (client, body) = (server.client(), body.clone());
        tokio::spawn(async move { client.ask(EMBEDDINGS, &body).await })
    };
    (0..count).map(ask).collect()
}

async fn all(asked: Vec<JoinHandle<Answer>>) -> Vec<Answer> {
    let answers = tokio::time::timeout(PATIENCE, join_all(asked)).await.expect("all in time");
    answers.into_iter().map(|answer| answer.expect("an answer")).collect()
}

fn is_collapsed(answer: &Answer) -> bool {
    answer.cache_status().contains("; collapsed")
}

/// An upstream whose first answer is a live event stream, and whose later ones are `later`.
async fn live_upstream(
    content_type: &'static str,
    later: impl Fn() -> Reply + Send + Sync + 'static,
) -> (mpsc::UnboundedSender<Result<Bytes, std::io::Error>>, Upstream) {
    let (sender, reply) = Reply::live(content_type);
    let first = std::sync::Mutex::new(Some(reply));
    let upstream = Upstream::start(move |_| {
        let live = first.lock().expect("the first reply").take();
        live.unwrap_or_else(&later)
    });
    (sender, upstream.await)
}

#[tokio::test]
async fn fifty_identical_misses_cost_one_upstream_call() {
    let (gate, upstream) = held_upstream(|| {
        Reply::json(&embedding(0.25))
            .with("set-cookie", "__cf_bm=secret")
            .with("x-request-id", "req_1")
            .with("x-ratelimit-remaining-tokens", "7")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;

    let asked = ask_at_once(&server, 50, &question("fifty"));
    server.misses_looked_up(50).await;
    gate.open();
    let answers = all(asked).await;

    assert_eq!(upstream.calls(), 1);
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    let (followers, leaders): (Vec<_>, Vec<_>) = answers.iter().partition(|a| is_collapsed(a));
    assert_eq!((leaders.len(), followers.len()), (1, 49));
    for (name, value) in [
        ("set-cookie", "__cf_bm=secret"),
        ("x-request-id", "req_1"),
        ("x-ratelimit-remaining-tokens", "7"),
    ] {
        assert_eq!(leaders[0].field(name), value, "the leader's {name}");
        for follower in &followers {
            assert_eq!(follower.field(name), "", "a follower must not see {name}");
        }
    }
    for follower in followers {
        assert!(follower.cache_status().contains("fwd=miss"), "{}", follower.cache_status());
    }
    assert!(server.client().ask(EMBEDDINGS, &question("fifty")).await.is_hit());
}

#[tokio::test]
async fn a_follower_who_joins_in_the_middle_gets_the_beginning_and_then_runs_live() {
    let whole = recorded("openai-chat-completions/whole.sse");
    let parts = events(&whole);
    let (live, upstream) = live_upstream("text/event-stream", || Reply::bytes("")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;

    let mut leader = Reading::of({
        live.send(Ok(parts[0].clone())).expect("the upstream reads");
        server.client().post(CHAT, &chat(true))
    })
    .await;
    leader.expect(&parts[0]).await;
    let mut follower = Reading::of(server.client().post(CHAT, &chat(true))).await;
    assert!(is_collapsed(&follower.head), "{}", follower.head.cache_status());
    follower.expect(&parts[0]).await;
    for part in &parts[1..] {
        live.send(Ok(part.clone())).expect("the upstream reads");
        leader.expect(part).await;
        follower.expect(part).await;
    }
    drop(live);
    assert_eq!(leader.rest().await.expect("a clean end"), "");
    assert_eq!(follower.rest().await.expect("a clean end"), "");

    let hit = server.client().ask(CHAT, &chat(true)).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(hit.body, whole);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_follower_survives_a_leader_who_hangs_up_in_the_middle() {
    let whole = recorded("openai-chat-completions/whole.sse");
    let parts = events(&whole);
    let (live, upstream) = live_upstream("text/event-stream", || Reply::bytes("")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;

    live.send(Ok(parts[0].clone())).expect("the upstream reads");
    let mut leader = Reading::of(server.client().post(CHAT, &chat(true))).await;
    leader.expect(&parts[0]).await;
    let mut follower = Reading::of(server.client().post(CHAT, &chat(true))).await;
    follower.expect(&parts[0]).await;
    drop(leader);
    connections_are(&server, 1).await;

    for part in &parts[1..] {
        live.send(Ok(part.clone())).expect("the fill goes on");
        follower.expect(part).await;
    }
    drop(live);
    assert_eq!(follower.rest().await.expect("a clean end"), "");
    let hit = server.client().ask(CHAT, &chat(true)).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!((hit.body, upstream.calls()), (whole, 1));
}

#[tokio::test]
async fn a_follower_survives_a_leader_who_hangs_up_before_the_headers() {
    let (gate, upstream) = held_upstream(|| Reply::json(&embedding(0.25))).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;

    let mut leader = Raw::open(&server.address).await;
    leader.post(EMBEDDINGS, &question("gone").to_string()).await;
    server.misses_looked_up(1).await;
    let asked = ask_at_once(&server, 3, &question("gone"));
    server.misses_looked_up(4).await;
    drop(leader);
    connections_are(&server, 3).await;
    gate.open();

    for answer in all(asked).await {
        assert_eq!(answer.json(), embedding(0.25));
        assert!(is_collapsed(&answer), "{}", answer.cache_status());
    }
    assert!(server.client().ask(EMBEDDINGS, &question("gone")).await.is_hit());
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_fill_that_everybody_has_left_finishes_and_is_stored() {
    let (gate, upstream) = held_upstream(|| Reply::json(&embedding(0.25))).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;

    let mut callers = Vec::new();
    for _ in 0..3 {
        let mut caller = Raw::open(&server.address).await;
        caller.post(EMBEDDINGS, &question("left").to_string()).await;
        callers.push(caller);
    }
    server.misses_looked_up(3).await;
    drop(callers);
    connections_are(&server, 0).await;
    gate.open();
    let stored = || async { (server.stats().await["stores"] == 1).then_some(()) };
    eventually("the answer is stored", stored).await;

    let hit = server.client().ask(EMBEDDINGS, &question("left")).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!((hit.json(), upstream.calls()), (embedding(0.25), 1));
}

const CANCEL: &str = "[[route]]\nwhen_nobody_reads = 'cancel'";

#[tokio::test]
async fn a_fetch_that_everybody_has_left_is_broken_off_where_its_route_says_so() {
    let (live, upstream) = live_upstream("text/event-stream", || Reply::bytes("")).await;
    let server = Server::start(Setup::in_front_of(&upstream).config(CANCEL)).await;
    let say = |text: &'static str| {
        live.send(Ok(Bytes::from_static(text.as_bytes()))).expect("the upstream reads");
    };
    say("data: 1\n\n");
    let mut leader = Reading::of(server.client().post(CHAT, &chat(true))).await;
    leader.expect(b"data: 1\n\n").await;
    let mut follower = Reading::of(server.client().post(CHAT, &chat(true))).await;
    drop(leader);
    connections_are(&server, 1).await;
    say("data: 2\n\n");
    follower.expect(b"data: 1\n\ndata: 2\n\n").await;

    drop(follower);
    eventually("the upstream is let go", || async { live.is_closed().then_some(()) }).await;
    let gone = || async { (server.stats().await["flights_open"] == 0).then_some(()) };
    eventually("the flight is gone", gone).await;
    assert_eq!(server.stats().await["stores"], 0);
}

#[tokio::test]
async fn a_refresh_goes_on_for_those_who_will_ask_whatever_becomes_of_who_caused_it() {
    let routes = format!("{CANCEL}\nfresh_for = '1ms'\nstale_while_revalidate = '1h'");
    let upstream = Upstream::start(|_| Reply::json(&embedding(0.25))).await;
    let server = Server::start(Setup::in_front_of(&upstream).config(&routes)).await;
    let client = server.client();
    client.ask(EMBEDDINGS, &question("stale")).await;
    let refreshed = || async {
        client.ask(EMBEDDINGS, &question("stale")).await;
        (server.stats().await["stores"].as_u64() >= Some(2)).then_some(())
    };
    eventually("a refresh nobody waits for is stored", refreshed).await;
}

#[tokio::test]
async fn an_answer_that_is_cut_fails_every_reader_and_is_not_stored() {
    let stream = recorded("openai-chat-completions/whole.sse");
    let json = recorded("openai-chat-completions/whole.json");
    for (case, content_type, streamed, body) in [
        ("an event stream", "text/event-stream", true, stream),
        ("JSON in chunks", "application/json", false, json),
    ] {
        let again = body.clone();
        let whole = move || Reply::bytes(again.clone()).with("content-type", content_type);
        let (live, upstream) = live_upstream(content_type, whole).await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        let half = body.slice(..body.len() / 2);
        live.send(Ok(half.clone())).expect("the upstream reads");
        let mut leader = Reading::of(server.client().post(CHAT, &chat(streamed))).await;
        let mut follower = Reading::of(server.client().post(CHAT, &chat(streamed))).await;
        leader.expect(&half).await;
        follower.expect(&half).await;
        live.send(cut()).expect("the upstream reads");
        assert!(leader.rest().await.is_err(), "{case}: the leader must see the cut");
        assert!(follower.rest().await.is_err(), "{case}: the follower must see the cut");

        let next = server.client().ask(CHAT, &chat(streamed)).await;
        assert!(!next.is_hit(), "{case}: {}", next.cache_status());
        assert_eq!((next.body, upstream.calls()), (body, 2), "{case}");
    }
}

#[tokio::test]
async fn an_answer_shorter_than_it_declares_is_an_error_for_every_reader() {
    let gate = Arc::new(Gate::closed());
    let (holds, calls) = (Arc::clone(&gate), AtomicUsize::new(0));
    let upstream = Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::json(&embedding(0.25)).declaring(100_000).held_by(&holds),
        _ => Reply::json(&embedding(0.25)),
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;

    let asked: Vec<_> = (0..3).map(|_| tokio::spawn(whole_or_not(server.client()))).collect();
    server.misses_looked_up(3).await;
    gate.open();
    for outcome in join_all(asked).await {
        assert!(!outcome.expect("it ran"), "half an answer must not look whole");
    }
    let next = server.client().ask(EMBEDDINGS, &question("short")).await;
    assert!(!next.is_hit(), "{}", next.cache_status());
    assert_eq!((next.json(), upstream.calls()), (embedding(0.25), 2));
}

/// Whether what looks like a whole, good answer came.
async fn whole_or_not(client: Client) -> bool {
    let asked = client.post(EMBEDDINGS, &question("short")).send();
    let response = tokio::time::timeout(PATIENCE, asked).await.expect("in time").expect("a head");
    let good = response.status() == 200;
    let body = tokio::time::timeout(PATIENCE, response.bytes()).await.expect("in time");
    good && body.is_ok()
}

#[tokio::test]
async fn an_upstreams_error_is_shared_by_those_who_wait_and_not_stored() {
    for status in [500, 503, 529, 429, 400] {
        let (gate, upstream) =
            held_upstream(move || Reply::bytes("{\"error\":1}").status(status)).await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        let asked = ask_at_once(&server, 5, &question("error"));
        server.misses_looked_up(5).await;
        gate.open();
        let answers = all(asked).await;
        assert!(
            answers.iter().all(|a| a.status == status && a.body == "{\"error\":1}"),
            "{status}: {answers:?}"
        );
        assert_eq!(answers.iter().filter(|answer| is_collapsed(answer)).count(), 4, "{status}");
        assert_eq!(upstream.calls(), 1, "{status}");

        let next = server.client().ask(EMBEDDINGS, &question("error")).await;
        assert!(!next.is_hit(), "{status}: {}", next.cache_status());
        assert_eq!(upstream.calls(), 2, "{status}");
    }
}

#[tokio::test]
async fn a_refusal_of_the_leaders_credential_sends_each_follower_on_its_own_way() {
    for status in [401, 403] {
        let first = Arc::new(Gate::closed());
        let others = Arc::new(Gate::closed());
        let (holds_first, holds_others) = (Arc::clone(&first), Arc::clone(&others));
        let calls = AtomicUsize::new(0);
        let upstream = Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::bytes("no").status(status).held_by(&holds_first),
            _ => Reply::json(&embedding(0.5)).held_by(&holds_others),
        });
        let upstream = upstream.await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;

        let asked = ask_at_once(&server, 4, &question("refused"));
        server.misses_looked_up(4).await;
        first.open();
        // All at once, none waiting for another.
        let arrived = || async { (upstream.calls() == 4).then_some(()) };
        eventually("all followers ask for themselves", arrived).await;
        others.open();

        let answers = all(asked).await;
        let answered = embedding(0.5).to_string();
        let refused = answers.iter().filter(|answer| answer.status == status).count();
        let served = answers.iter().filter(|answer| answer.body == answered).count();
        assert_eq!((refused, served), (1, 3), "{status}");
    }
}

#[tokio::test]
async fn an_answer_too_large_for_an_entry_reaches_everybody_whole_and_is_not_stored() {
    // Larger than any window or socket buffer on the way.
    let body = Bytes::from("0123456789abcdef".repeat(1 << 20));
    let given = body.clone();
    let (gate, upstream) =
        held_upstream(move || Reply::bytes(given.clone()).with("content-type", "text/plain")).await;
    let setup = Setup::in_front_of(&upstream)
        .config("[cache]\nentry_bytes_max = \"64KiB\"\ndisk_bytes_max = \"64MiB\"");
    let server = Server::start(setup).await;

    let asked = ask_at_once(&server, 4, &question("large"));
    server.misses_looked_up(4).await;
    gate.open();
    for answer in all(asked).await {
        assert!(answer.status == 200 && answer.body == body, "{} bytes", answer.body.len());
    }
    assert_eq!(upstream.calls(), 1);

    let next = server.client().ask(EMBEDDINGS, &question("large")).await;
    assert!(!next.is_hit(), "{}", next.cache_status());
    assert!(next.body == body, "{} bytes", next.body.len());
    assert_eq!(server.stats().await["not_stored"]["too-large"], 2);
}

#[tokio::test]
async fn different_questions_do_not_wait_for_each_other() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| {
        let reply = Reply::json(&embedding(0.25));
        let slow = request.body.windows(4).any(|word| word == b"slow");
        if slow { reply.held_by(&holds) } else { reply }
    });
    let upstream = upstream.await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;

    let slow = ask_at_once(&server, 2, &question("slow"));
    server.misses_looked_up(2).await;
    let quick = server.client().ask(EMBEDDINGS, &question("quick")).await;
    assert!(quick.cache_status().contains("fwd=miss"), "{}", quick.cache_status());
    assert!(slow.iter().all(|asked| !asked.is_finished()));
    gate.open();
    all(slow).await;
    assert_eq!(upstream.calls(), 2);
}

/// Waits until the server has this many connections of callers.
async fn connections_are(server: &Server, count: u32) {
    eventually(&format!("{count} connections"), || async {
        (server.stats().await["connections_open"] == count).then_some(())
    })
    .await;
}
