//! An upstream that says when to come back (429 or 503) is not asked before, for the tenant that it
//! said it to: what is stored answers, and what is not is refused with the time that is left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use black_box_tests::plain::{self, with};
use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Received, Reply, Server, Setup, Upstream, eventually};
use futures_util::future::join_all;
use http::Method;

type Fields = &'static [(&'static str, &'static str)];

/// Longer than any test.
const FOR_LONG: Fields = &[("retry-after", "40")];

/// What is asked for with this word in it is refused by the upstream.
const BUSY: &str = "busy";

fn is_busy(received: &Received) -> bool {
    let in_body = received.body.windows(BUSY.len()).any(|word| word == BUSY.as_bytes());
    in_body || received.uri.path().contains(BUSY)
}

/// An upstream that refuses what is busy with this status and these fields, and answers all else
/// in a way that can be stored.
async fn upstream(status: u16, fields: Fields) -> Upstream {
    Upstream::start(move |received| match is_busy(received) {
        true => with(Reply::bytes("slow down").status(status), fields),
        false => well(received),
    })
    .await
}

/// A good answer: of a page, one that says how long it may be used.
fn well(received: &Received) -> Reply {
    match received.uri.path() {
        EMBEDDINGS => Reply::json(&embedding(0.25)),
        "/fresh" => Reply::bytes("fresh").with("cache-control", "public, max-age=600"),
        "/stale" => stale("public, max-age=1, stale-if-error=600"),
        "/strict" => stale("public, max-age=1, stale-if-error=600, must-revalidate"),
        path => Reply::bytes(format!("answer to {path}")),
    }
}

/// Stale when it comes, and kept to be validated.
fn stale(directives: &str) -> Reply {
    Reply::bytes("old").with("cache-control", directives).with("age", "5").with("etag", "\"a\"")
}

async fn limited() -> (Upstream, Server) {
    in_front_of(upstream(429, FOR_LONG).await, "").await
}

async fn in_front_of(upstream: Upstream, config: &str) -> (Upstream, Server) {
    let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
    (upstream, server)
}

async fn ask(server: &Server, input: &str) -> Answer {
    server.client().ask(EMBEDDINGS, &question(input)).await
}

/// Asks for a page as the caller that asks for embeddings.
async fn page(server: &Server, method: Method, path: &str, fields: &[(&str, &str)]) -> Answer {
    let fields = [&[("authorization", "Bearer sk-test")], fields].concat();
    plain::ask(&server.client(), method, path, &fields).await
}

async fn get(server: &Server, path: &str) -> Answer {
    page(server, Method::GET, path, &[]).await
}

/// That the upstream's word holds: its status, and at most so many seconds.
fn assert_held(answer: &Answer, status: u16, wait_s_max: u64, case: &str) {
    assert_eq!(answer.status, status, "{case}: {answer:?}");
    assert_eq!(answer.field("content-type"), "application/problem+json", "{case}");
    assert_eq!(answer.json()["code"], "cool-down", "{case}");
    let wait_s = answer.retry_after_s().unwrap_or_else(|| panic!("{case}: {answer:?}"));
    assert!((1..=wait_s_max).contains(&wait_s), "{case}: {wait_s} s");
}

#[tokio::test]
async fn what_is_not_stored_is_refused_until_the_upstream_is_to_be_asked_again() {
    let by_date: Fields = &[
        ("date", "Tue, 24 Nov 2026 00:00:00 GMT"),
        ("retry-after", "Tue, 24 Nov 2026 00:00:40 GMT"),
    ];
    let by_milliseconds: Fields = &[("retry-after", "1"), ("retry-after-ms", "39500")];
    for (status, fields) in
        [(429, FOR_LONG), (503, FOR_LONG), (429, by_date), (503, by_milliseconds)]
    {
        for by_page in [true, false] {
            let case = format!("{status} {fields:?}, said to a page: {by_page}");
            let (upstream, server) = in_front_of(upstream(status, fields).await, "").await;
            let first =
                if by_page { get(&server, "/busy").await } else { ask(&server, BUSY).await };
            assert_eq!(first.status, status, "{case}");
            assert_eq!(plain::text(&first), "slow down", "{case}: the upstream's own words");
            assert_held(&ask(&server, "another").await, status, 40, &case);
            assert_held(&server.client().ask(CHAT, &chat(false)).await, status, 40, &case);
            assert_held(&get(&server, "/page").await, status, 40, &case);
            assert_eq!(upstream.calls(), 1, "{case}");
            assert_eq!(server.metric("cache_server_cool_downs_total").await, 1.0, "{case}");
            assert_eq!(server.stats().await["requests"]["refused"], 3, "{case}");
        }
    }
}

#[tokio::test]
async fn fresh_entries_answer_meanwhile() {
    let (upstream, server) = limited().await;
    ask(&server, "stored").await;
    get(&server, "/fresh").await;
    ask(&server, BUSY).await;
    let hits = [
        ask(&server, "stored").await,
        get(&server, "/fresh").await,
        page(&server, Method::HEAD, "/fresh", &[]).await,
        page(&server, Method::GET, "/fresh", &[("cache-control", "only-if-cached")]).await,
    ];
    for hit in hits {
        assert!(hit.is_hit() && hit.status == 200, "{}", hit.cache_status());
        assert!(hit.cache_status().ends_with("detail=memory"), "{}", hit.cache_status());
    }
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test]
async fn a_stale_entry_that_may_stand_in_answers_and_says_why() {
    let route = "[[route]]\nendpoint = \"openai.embeddings\"\nfresh_for = \"1ms\"\n\
                 stale_while_revalidate = \"0s\"\nstale_if_error = \"1h\"";
    let (upstream, server) = in_front_of(upstream(503, FOR_LONG).await, route).await;
    ask(&server, "stored").await;
    get(&server, "/stale").await;
    get(&server, "/strict").await;
    get(&server, "/busy").await;
    for (answer, body) in [
        (ask(&server, "stored").await, embedding(0.25).to_string()),
        (get(&server, "/stale").await, "old".to_owned()),
    ] {
        let said = answer.cache_status();
        assert!(said.starts_with("cache-server; hit; ttl=-"), "{said}");
        assert!(said.ends_with("; detail=cool-down"), "{said}");
        assert_eq!((answer.status.as_u16(), plain::text(&answer)), (200, &*body));
    }
    let strict = get(&server, "/strict").await;
    assert_held(&strict, 503, 40, "what must be revalidated stands in for nothing");
    let afresh = page(&server, Method::GET, "/stale", &[("cache-control", "no-cache")]).await;
    assert_held(&afresh, 503, 40, "nor does anything for whoever wants it afresh");
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn whoever_wants_only_what_is_stored_is_told_that_there_is_nothing() {
    let (upstream, server) = limited().await;
    ask(&server, BUSY).await;
    let none = page(&server, Method::GET, "/page", &[("cache-control", "only-if-cached")]).await;
    assert_eq!((none.status.as_u16(), &none.json()["code"]), (504, &"only-if-cached".into()));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn other_tenants_and_other_upstreams_are_not_held_back() {
    let (one, two) = (upstream(429, FOR_LONG).await, upstream(429, FOR_LONG).await);
    let mounted = |name: &str, upstream: &Upstream| {
        format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n", upstream.url())
    };
    let server =
        Server::start(Setup::default().config(&(mounted("one", &one) + &mounted("two", &two))))
            .await;
    let client = server.client();
    let ask_as = async |mount: &str, input: &str, credential: &str| {
        client.ask_as(&format!("/{mount}/embeddings"), &question(input), credential).await
    };
    assert_eq!(ask_as("one", BUSY, "sk-1").await.status, 429);
    assert_held(&ask_as("one", "another", "sk-1").await, 429, 40, "the one that it was said to");
    assert_eq!(ask_as("one", "another", "sk-2").await.status, 200);
    assert_eq!(client.get("/one/page").await.status, 200, "and one without a credential");
    assert_eq!(ask_as("two", "another", "sk-1").await.status, 200);
    assert_eq!((one.calls(), two.calls()), (3, 1));
}

#[tokio::test]
async fn when_it_is_over_the_upstream_is_asked_again_and_not_before() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let times = Arc::clone(&asked);
    let upstream = Upstream::start(move |received| {
        times.lock().expect("the times").push(Instant::now());
        match is_busy(received) {
            true => Reply::bytes("").status(429).with("retry-after-ms", "600"),
            false => well(received),
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    ask(&server, BUSY).await;
    eventually("another question is answered", || async {
        let answer = ask(&server, "another").await;
        if answer.status == 200 {
            return Some(());
        }
        assert_held(&answer, 429, 1, "never sooner than it helps to come back");
        None
    })
    .await;
    let asked = asked.lock().expect("the times");
    let between = asked[1] - asked[0];
    assert!(between >= Duration::from_millis(590), "{between:?}");
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn it_lasts_no_longer_than_cool_down_max() {
    for absurd in ["999999", "99999999999999999999999", "Tue, 24 Nov 2099 00:00:00 GMT"] {
        let upstream = Upstream::start(move |received| match is_busy(received) {
            true => Reply::bytes("").status(503).with("retry-after", absurd),
            false => well(received),
        })
        .await;
        let bound = "[cache]\ndisk_bytes_max = \"64MiB\"\ncool_down_max = \"700ms\"";
        let server = Server::start(Setup::in_front_of(&upstream).config(bound)).await;
        ask(&server, BUSY).await;
        assert_held(&ask(&server, "another").await, 503, 1, absurd);
        eventually("another question is answered", || async {
            (ask(&server, "another").await.status == 200).then_some(())
        })
        .await;
        assert_eq!(upstream.calls(), 2, "{absurd}");
    }
}

#[tokio::test]
async fn nothing_begins_where_it_is_turned_off_or_the_upstream_does_not_say_when() {
    let on = "disk_bytes_max = \"64MiB\"";
    let off = "disk_bytes_max = \"64MiB\"\ncool_down_max = \"0s\"";
    let cases: [(u16, Fields, &str); 6] = [
        (429, FOR_LONG, off),
        (429, &[], on),
        (503, &[("retry-after", "soon")], on),
        (429, &[("retry-after", "0")], on),
        (429, &[("retry-after", "Tue, 24 Nov 2009 00:00:00 GMT")], on),
        (500, FOR_LONG, on),
    ];
    for (status, fields, cache) in cases {
        let case = format!("{status} {fields:?}, {cache}");
        let cache = format!("[cache]\n{cache}");
        let (upstream, server) = in_front_of(upstream(status, fields).await, &cache).await;
        for input in [BUSY, "another busy"] {
            assert_eq!(plain::text(&ask(&server, input).await), "slow down", "{case}");
        }
        assert_eq!(ask(&server, "another").await.status, 200, "{case}");
        assert_eq!(upstream.calls(), 3, "{case}");
        assert_eq!(server.metric("cache_server_cool_downs_total").await, 0.0, "{case}");
    }
}

#[tokio::test]
async fn what_passes_through_is_not_held_back_but_may_begin_one() {
    let (upstream, server) = limited().await;
    let client = server.client();
    assert_eq!(client.ask("/v1/files", &question(BUSY)).await.status, 429);
    assert_held(&ask(&server, "another").await, 429, 40, "begun by what passed through");
    assert_eq!(client.ask("/v1/files", &question("another")).await.status, 200);
    let mut sampled = chat(false);
    sampled["temperature"] = 1.into();
    let sampled = client.ask(CHAT, &sampled).await;
    assert!(sampled.cache_status().ends_with("not-deterministic"), "{}", sampled.cache_status());
    let head = page(&server, Method::HEAD, "/page", &[]).await;
    assert!(head.cache_status().ends_with("detail=head"), "{}", head.cache_status());
    assert_eq!((sampled.status.as_u16(), head.status.as_u16()), (200, 200));
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn a_shorter_one_does_not_end_a_longer_one() {
    let upstream = Upstream::start(|received| {
        let milliseconds = if received.uri.path() == "/v1/long" { "40000" } else { "1" };
        Reply::bytes("").status(429).with("retry-after-ms", milliseconds)
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for path in ["/v1/long", "/v1/short"] {
        server.client().ask(path, &question(BUSY)).await;
    }
    let held = ask(&server, "another").await;
    assert_held(&held, 429, 40, "the longer one holds");
    assert!(held.retry_after_s() > Some(1), "{held:?}");
    assert_eq!(upstream.calls(), 2);
}

/// Five of these questions at once, all of which wait for the refusal of the first.
async fn wait_together(ask: impl AsyncFn(&Server) -> Answer) -> (Vec<Answer>, Upstream, Server) {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let refusal = move |_: &Received| with(Reply::bytes("").status(429), FOR_LONG).held_by(&holds);
    let (upstream, server) = in_front_of(Upstream::start(refusal).await, "").await;
    let (answers, ()) = tokio::join!(join_all((0..5).map(|_| ask(&server))), async {
        server.misses_looked_up(5).await;
        gate.open();
    });
    (answers, upstream, server)
}

#[tokio::test]
async fn who_waited_for_the_refusal_is_told_when_to_come_back_too() {
    let (answers, upstream, server) = wait_together(async |to| ask(to, "the same").await).await;
    for answer in answers {
        assert_eq!((answer.status.as_u16(), answer.field("retry-after")), (429, "40"));
    }
    assert_held(&ask(&server, "the same").await, 429, 40, "whoever comes later");
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn who_waited_for_a_page_that_is_refused_so_is_not_sent_to_the_upstream_either() {
    let (answers, upstream, _server) = wait_together(async |to| get(to, "/page").await).await;
    for answer in answers {
        assert_eq!(answer.status, 429);
        assert!(answer.retry_after_s().is_some_and(|wait_s| wait_s > 1), "{answer:?}");
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_refresh_that_is_refused_so_is_not_tried_again_before() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => stale("public, max-age=1, stale-while-revalidate=600"),
        _ => with(Reply::bytes("").status(429), FOR_LONG),
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..2 {
        get(&server, "/page").await;
    }
    let begun =
        || async { (server.metric("cache_server_cool_downs_total").await > 0.0).then_some(()) };
    eventually("the refresh is refused", begun).await;
    for _ in 0..20 {
        let stale = get(&server, "/page").await;
        assert!(stale.is_hit() && stale.ttl_s() < 0, "{}", stale.cache_status());
        assert_eq!(plain::text(&stale), "old");
    }
    let held = "cache_server_refreshes_total{why=\"stale\",outcome=\"held\"}";
    assert_eq!((server.metric(held).await, upstream.calls()), (20.0, 2));
}
