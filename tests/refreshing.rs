//! What is refreshed behind an answer: what is stale, once however many ask; and what is asked for
//! often, before it is stale. And what is stored together does not end together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use black_box_tests::plain::{self, text};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::{Gate, cut};
use black_box_tests::{Answer, Client, Reply, Server, Setup, Upstream, eventually};
use futures_util::future::join_all;
use http::Method;

/// For a model route whose lifetimes the upstream says.
const OBEYING: &str = "[[route]]\nendpoint = \"openai.embeddings\"\nobey_upstream = true";

/// An answer that is stale when it comes, and may be given while it is refreshed.
fn stale(reply: Reply) -> Reply {
    let directives = "public, max-age=1, stale-while-revalidate=600";
    reply.with("cache-control", directives).with("age", "5")
}

fn fresh(reply: Reply) -> Reply {
    reply.with("cache-control", "public, max-age=600")
}

/// What a caller asks for: HTTP at large, or an embedding.
#[derive(Clone, Copy, Debug)]
enum Asks {
    Page,
    Model,
}

impl Asks {
    async fn once(self, client: &Client) -> Answer {
        match self {
            Asks::Page => client.get("/page").await,
            Asks::Model => client.ask(EMBEDDINGS, &question("how old?")).await,
        }
    }

    /// The answer of a call of this number.
    fn answer(self, call: usize) -> Reply {
        match self {
            Asks::Page => Reply::bytes(format!("answer {call}")),
            Asks::Model => Reply::json(&embedding([0.25, 0.5, 0.75][call.min(2)])),
        }
    }
}

/// An upstream whose replies are told by the number of the call.
async fn upstream(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Upstream {
    let calls = AtomicUsize::new(0);
    Upstream::start(move |_| reply(calls.fetch_add(1, Ordering::Relaxed))).await
}

/// The number of refreshes that were begun, or would have been, for this and ended so.
async fn refreshes(server: &Server, why: &str, outcome: &str) -> f64 {
    let labels = format!("{{why=\"{why}\",outcome=\"{outcome}\"}}");
    server.metric(&format!("cache_server_refreshes_total{labels}")).await
}

#[tokio::test]
async fn a_hundred_callers_of_a_stale_entry_wait_for_nothing_and_cause_one_call() {
    for asks in [Asks::Page, Asks::Model] {
        let gate = Arc::new(Gate::closed());
        let holds = Arc::clone(&gate);
        let upstream = upstream(move |call| match call {
            0 => stale(asks.answer(0)),
            _ => fresh(asks.answer(call)).held_by(&holds),
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream).config(OBEYING)).await;
        let client = server.client();
        let first = asks.once(&client).await;
        // All of them are answered while the refresh is held.
        for answer in join_all((0..100).map(|_| asks.once(&client))).await {
            assert!(answer.is_hit() && answer.ttl_s() < 0, "{}", answer.cache_status());
            assert_eq!(answer.body, first.body, "{asks:?}");
        }
        let begun = || async { (upstream.calls() == 2).then_some(()) };
        eventually("the refresh has begun", begun).await;
        gate.open();
        let new = eventually("the new answer", || async {
            let answer = asks.once(&client).await;
            assert!(answer.is_hit(), "nobody waits: {}", answer.cache_status());
            (answer.body != first.body).then_some(answer)
        })
        .await;
        assert!(new.ttl_s() > 0, "{}", new.cache_status());
        assert_eq!(upstream.calls(), 2, "{asks:?}: one refresh");
        let counted =
            || async { (refreshes(&server, "stale", "fetched").await > 0.0).then_some(()) };
        eventually("the refresh is counted", counted).await;
        assert_eq!(refreshes(&server, "stale", "fetched").await, 1.0);
        let along = server.metric("cache_server_flight_followers_sum").await;
        assert_eq!(along, 0.0, "whoever was answered at once has saved the upstream once");
    }
}

#[tokio::test]
async fn what_a_head_has_refreshed_keeps_its_body() {
    let reply = |call| match call {
        0 => stale(Asks::Page.answer(0)),
        _ => fresh(Asks::Page.answer(call)),
    };
    let upstream = upstream(reply).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    client.get("/page").await;
    let head = plain::ask(&client, Method::HEAD, "/page", &[]).await;
    assert!(head.is_hit() && head.ttl_s() < 0, "{}", head.cache_status());
    let new = eventually("the new answer", || async {
        let answer = client.get("/page").await;
        assert!(answer.is_hit(), "{}", answer.cache_status());
        (answer.ttl_s() > 0).then_some(answer)
    })
    .await;
    assert_eq!((text(&new), upstream.calls()), ("answer 1", 2));
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_entry_and_the_next_one_replaces_it() {
    for failure in ["an error", "a cut answer"] {
        let upstream = upstream(move |call| match call {
            0 => stale(Asks::Page.answer(0)),
            1 if failure == "an error" => Reply::bytes("no").status(500),
            1 => {
                let (live, reply) = Reply::live("text/plain");
                live.send(Ok("half".into())).expect("it is read");
                live.send(cut()).expect("it is read");
                fresh(reply)
            }
            _ => fresh(Asks::Page.answer(call)),
        })
        .await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        let client = server.client();
        client.get("/page").await;
        assert_eq!(text(&client.get("/page").await), "answer 0", "{failure}");
        eventually("a refresh that fails", || async {
            (refreshes(&server, "stale", "failed").await > 0.0).then_some(())
        })
        .await;
        let new = eventually("a refresh that succeeds", || async {
            let answer = client.get("/page").await;
            assert!(answer.is_hit(), "{failure}: {}", answer.cache_status());
            (text(&answer) != "answer 0").then_some(answer)
        })
        .await;
        assert_eq!((text(&new), upstream.calls()), ("answer 2", 3), "{failure}");
        assert_eq!(refreshes(&server, "stale", "failed").await, 1.0, "{failure}");
    }
}

/// How long the first answer is kept waiting for where refreshes ahead are at stake.
const FIRST_TAKES: Duration = Duration::from_millis(500);

/// A server that has an answer, good for six seconds, that took [`FIRST_TAKES`]. The second is held
/// by the gate.
async fn slowly_fetched(asks: Asks, status: u16, route: &str) -> (Arc<Gate>, Upstream, Server) {
    let (first, second) = (Arc::new(Gate::closed()), Arc::new(Gate::closed()));
    let (holds_first, holds_second) = (Arc::clone(&first), Arc::clone(&second));
    let upstream = upstream(move |call| {
        let holds = if call == 0 { &holds_first } else { &holds_second };
        let reply = asks.answer(call).status(status);
        reply.with("cache-control", "public, max-age=6").held_by(holds)
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream).config(route)).await;
    let client = server.client();
    tokio::join!(asks.once(&client), async {
        let begun = || async { (upstream.calls() == 1).then_some(Instant::now()) };
        let begun = eventually("the fetch has begun", begun).await;
        let is_late = || async move { (begun.elapsed() >= FIRST_TAKES).then_some(()) };
        eventually("it has taken its time", is_late).await;
        first.open();
    });
    (second, upstream, server)
}

#[tokio::test]
async fn what_is_asked_for_often_is_refreshed_before_it_ends() {
    let route = "[[route]]\nendpoint = \"http\"\nrefresh_ahead = 10";
    let (gate, upstream, server) = slowly_fetched(Asks::Page, 200, route).await;
    let client = server.client();
    let ask = async || {
        let answer = client.get("/page").await;
        assert!(answer.is_hit() && answer.ttl_s() >= 0, "{}", answer.cache_status());
        answer
    };
    // The chance is about a third each time: the refresh begins long before the end.
    eventually("a refresh has begun", || async {
        assert_eq!(text(&ask().await), "answer 0");
        (upstream.calls() == 2).then_some(())
    })
    .await;
    for _ in 0..50 {
        assert_eq!(text(&ask().await), "answer 0");
    }
    assert_eq!(upstream.calls(), 2, "one call for a refresh");
    gate.open();
    eventually("the new answer", || async { (text(&ask().await) == "answer 1").then_some(()) })
        .await;
    let counted = || async { (refreshes(&server, "ahead", "fetched").await > 0.0).then_some(()) };
    eventually("the refresh is counted", counted).await;
    assert_eq!(refreshes(&server, "stale", "fetched").await, 0.0);
}

#[tokio::test]
async fn nothing_is_refreshed_ahead_where_that_is_off_or_there_is_nothing() {
    let off = "[[route]]\nendpoint = \"http\"\nrefresh_ahead = 0";
    let negative = "[[route]]\nendpoint = \"http\"\nrefresh_ahead = 10\nnegative_for = \"6s\"";
    for (case, asks, status, route) in [
        ("off", Asks::Page, 200, off),
        ("a model, by default", Asks::Model, 200, OBEYING),
        ("a negative entry", Asks::Page, 404, negative),
    ] {
        let (_gate, upstream, server) = slowly_fetched(asks, status, route).await;
        for _ in 0..50 {
            let answer = asks.once(&server.client()).await;
            assert!(answer.is_hit() && answer.status == status, "{case}: {answer:?}");
        }
        assert_eq!(upstream.calls(), 1, "{case}");
        assert_eq!(refreshes(&server, "ahead", "held").await, 0.0, "{case}");
    }
}

/// A lifetime of which five percent are plain to see.
const LIFETIME_S: i64 = 100_000;

/// How much sooner than that the answers to so many questions end that are stored at once.
async fn sooner_s(route: &str, count: usize) -> Vec<i64> {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = upstream(move |_| Asks::Model.answer(0).held_by(&holds)).await;
    let route = format!("[[route]]\nfresh_for = \"{LIFETIME_S}s\"\n{route}");
    let server = Server::start(Setup::in_front_of(&upstream).config(&route)).await;
    let client = server.client();
    let ask_all = || {
        let ask = async |number: usize| {
            client.ask(EMBEDDINGS, &question(&format!("one of many: {number}"))).await
        };
        join_all((0..count).map(ask))
    };
    tokio::join!(ask_all(), async {
        let asked = || async { (upstream.calls() == count).then_some(()) };
        eventually("all are asked", asked).await;
        gate.open();
    });
    ask_all().await.iter().map(|answer| LIFETIME_S - answer.ttl_s()).collect()
}

/// What a slow machine may take until it asks again.
const A_WHILE_S: i64 = 40;

#[tokio::test]
async fn a_batch_does_not_end_together() {
    let sooner_s = sooner_s("", 300).await;
    // A hundred in a second are no batch, and the storing may fall into two.
    let spread = sooner_s.iter().filter(|sooner_s| **sooner_s > A_WHILE_S).count();
    assert!(spread > 50, "{spread} of 300 end sooner: {sooner_s:?}");
    let (least, most) = (sooner_s.iter().min(), sooner_s.iter().max());
    assert!(least >= Some(&0), "none ends later: {least:?}");
    assert!(most <= Some(&(LIFETIME_S / 20 + A_WHILE_S)), "by five percent at most: {most:?}");
    assert!(most >= Some(&(LIFETIME_S / 25)), "up to there they are spread: {most:?}");
}

#[tokio::test]
async fn what_is_no_batch_and_what_is_told_not_to_be_lives_to_its_end() {
    for (route, count) in [("", 10), ("lifetime_jitter_percent = 0", 300)] {
        let sooner_s = sooner_s(route, count).await;
        let lived = (0..=A_WHILE_S).contains(sooner_s.iter().max().expect("some"));
        assert!(lived, "{route} {count}: {sooner_s:?}");
    }
}

#[tokio::test]
async fn hits_are_counted_by_age_and_calls_that_were_saved_by_all_who_made_none() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |received| match received.uri.path() {
        "/stale" => stale(Reply::bytes("old")),
        "/old" => fresh(Reply::bytes("old")).with("age", "30"),
        "/bridged" if received.headers.contains_key("if-none-match") => {
            Reply::bytes("").status(500)
        }
        "/bridged" => {
            let directives = "max-age=1, stale-if-error=600";
            Reply::bytes("")
                .with("cache-control", directives)
                .with("age", "5")
                .with("etag", "\"a\"")
        }
        "/held" => fresh(Reply::bytes("together")).held_by(&holds),
        _ => fresh(Reply::bytes("new")),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    // Three hits, of which one is old; two stale answers, of which one has cost a call.
    for path in ["/new", "/new", "/new", "/old", "/old", "/stale", "/stale", "/bridged", "/bridged"]
    {
        assert_eq!(client.get(path).await.status, 200, "{path}");
    }
    // And three who read along.
    tokio::join!(join_all((0..4).map(|_| client.get("/held"))), async {
        eventually("all wait", || async {
            let open = server.metric("cache_server_tier_read_seconds_count{tier=\"disk\"}").await;
            (open >= 8.0).then_some(())
        })
        .await;
        gate.open();
    });
    let metric = |name: &'static str| server.metric(name);
    assert_eq!(metric("cache_server_upstream_calls_saved_total").await, 3.0 + 1.0 + 3.0);
    assert_eq!(metric("cache_server_hit_age_seconds_count").await, 3.0);
    assert_eq!(metric("cache_server_hit_age_seconds_bucket{le=\"10\"}").await, 2.0);
    assert_eq!(metric("cache_server_hit_age_seconds_bucket{le=\"60\"}").await, 3.0);
    assert!(metric("cache_server_hit_age_seconds_sum").await >= 30.0);
    assert_eq!(server.stats().await["upstream_calls_saved"], 7);
}
