//! The answer that there is nothing answers others too, for a short while and in memory alone, and
//! for longer the more often in a row there was nothing. What is about one request never does.

use std::sync::{Arc, Mutex};

use black_box_tests::plain::{self, text, with};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Reply, Server, Setup, Upstream, credential_digest, eventually};
use http::Method;
use serde_json::json;

type Fields = &'static [(&'static str, &'static str)];

/// All that may be negative.
const ALL: &str = "[404, 410, 422, 451, 500, 501, 502, 504]";

/// What is about one request, about who asks, or says when to come back.
const NEVER: [u16; 8] = [400, 401, 403, 405, 413, 431, 429, 503];

/// An upstream that says what its test wants it to say next.
async fn upstream(status: u16, fields: Fields) -> (Upstream, Next) {
    let next = Next(Arc::new(Mutex::new((status, fields))));
    let says = Next(Arc::clone(&next.0));
    let upstream = Upstream::start(move |received| {
        let (status, fields) = *says.0.lock().expect("what comes next");
        let reply = match received.uri.path() == EMBEDDINGS && status == 200 {
            true => Reply::json(&embedding(0.25)),
            false => Reply::bytes(format!("status {status}")),
        };
        with(reply.status(status), fields)
    });
    (upstream.await, next)
}

struct Next(Arc<Mutex<(u16, Fields)>>);

impl Next {
    fn is(&self, status: u16, fields: Fields) {
        *self.0.lock().expect("what comes next") = (status, fields);
    }
}

/// A server with these lines in the route of HTTP at large.
async fn by_http(upstream: &Upstream, lines: &str) -> Server {
    let route = format!("[[route]]\nendpoint = \"http\"\n{lines}");
    Server::start(Setup::in_front_of(upstream).config(&route)).await
}

/// A server with these lines in the route of embeddings.
async fn by_model(upstream: &Upstream, lines: &str) -> Server {
    let route = format!("[[route]]\nendpoint = \"openai.embeddings\"\n{lines}");
    Server::start(Setup::in_front_of(upstream).config(&route)).await
}

async fn get(server: &Server) -> Answer {
    server.client().get("/page").await
}

/// Has it fetched, whatever is stored.
async fn get_afresh(server: &Server) -> Answer {
    let afresh = [("cache-control", "no-cache")];
    let answer = plain::ask(&server.client(), Method::GET, "/page", &afresh).await;
    assert!(!answer.is_hit(), "{}", answer.cache_status());
    answer
}

async fn ask(server: &Server) -> Answer {
    server.client().ask(EMBEDDINGS, &question("there?")).await
}

async fn ask_afresh(server: &Server) -> Answer {
    let request = server.client().post(EMBEDDINGS, &question("there?"));
    Answer::of(request.header("cache-control", "no-cache")).await
}

/// That it is a hit with this status and so much of its lifetime left; a slow machine may have used
/// some of it.
fn assert_hit(answer: &Answer, status: u16, lifetime_s: i64) {
    assert!(answer.is_hit(), "{}", answer.cache_status());
    assert_eq!(answer.status, status);
    let ttl_s = answer.ttl_s();
    assert!((lifetime_s - 8..=lifetime_s).contains(&ttl_s), "{ttl_s} is not {lifetime_s}");
}

#[tokio::test]
async fn there_being_nothing_answers_others_from_memory_alone() {
    for status in [404, 410] {
        let (upstream, _) = upstream(status, &[]).await;
        let mut server = Server::start(Setup::in_front_of(&upstream)).await;
        assert_eq!(get(&server).await.status, status);
        for count in 1..=3 {
            let hit = get(&server).await;
            // A quarter of a minute.
            assert_hit(&hit, status, 15);
            assert!(hit.cache_status().ends_with("detail=memory"), "{}", hit.cache_status());
            assert_eq!(text(&hit), format!("status {status}"));
            let counted = server.metric("cache_server_negative_hits_total").await;
            assert_eq!(counted, f64::from(count));
        }
        assert_eq!(upstream.calls(), 1);
        server.stop().await;
        let server = server.start_again().await;
        let again = get(&server).await;
        assert!(!again.is_hit(), "it is on no disk: {}", again.cache_status());
        assert_eq!(upstream.calls(), 2);
    }
}

#[tokio::test]
async fn it_holds_for_longer_with_each_in_a_row_until_there_is_something() {
    let (upstream, next) = upstream(404, &[]).await;
    let server = by_http(&upstream, "negative_for = \"80s\"").await;
    for lifetime_s in [20, 40, 80, 80] {
        get_afresh(&server).await;
        assert_hit(&get(&server).await, 404, lifetime_s);
    }
    next.is(200, &[("cache-control", "max-age=600")]);
    get_afresh(&server).await;
    assert_hit(&get(&server).await, 200, 600);
    next.is(404, &[]);
    get_afresh(&server).await;
    assert_hit(&get(&server).await, 404, 20);
}

#[tokio::test]
async fn what_varies_holds_for_longer_with_each_in_a_row_too() {
    let (upstream, _) = upstream(404, &[("vary", "accept-language")]).await;
    let server = by_http(&upstream, "negative_for = \"80s\"").await;
    for lifetime_s in [20, 40, 80] {
        get_afresh(&server).await;
        assert_hit(&get(&server).await, 404, lifetime_s);
    }
}

#[tokio::test]
async fn it_ends_and_the_upstream_is_asked_again() {
    let (upstream, next) = upstream(404, &[]).await;
    let server = by_http(&upstream, "negative_for = \"1s\"").await;
    get(&server).await;
    next.is(200, &[]);
    eventually("there is something", || async { (get(&server).await.status == 200).then_some(()) })
        .await;
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn the_upstream_may_forbid_it_or_say_for_how_long() {
    for (fields, lifetime_s) in [
        (&[("cache-control", "no-store")][..], None),
        (&[("cache-control", "private, max-age=60")], None),
        (&[("cache-control", "max-age=0")], None),
        (&[("cache-control", "max-age=50")], Some(50)),
        (&[("cache-control", "max-age=9")], Some(9)),
        (&[("cache-control", "max-age=6000")], Some(80)),
    ] {
        let (upstream, _) = upstream(404, fields).await;
        let server = by_http(&upstream, "negative_for = \"80s\"").await;
        get(&server).await;
        let second = get(&server).await;
        match lifetime_s {
            None => assert!(!second.is_hit(), "{fields:?}: {}", second.cache_status()),
            Some(lifetime_s) => assert_hit(&second, 404, lifetime_s),
        }
    }
}

#[tokio::test]
async fn what_is_about_one_request_never_answers_others() {
    let (upstream, next) = upstream(400, &[]).await;
    let lines = format!("negative_for = \"1h\"\nnegative_statuses = {ALL}");
    let (generic, model) = (by_http(&upstream, &lines).await, by_model(&upstream, &lines).await);
    for status in NEVER {
        next.is(status, &[]);
        let before = upstream.calls();
        for _ in 0..2 {
            for answer in [get(&generic).await, ask(&model).await] {
                assert!(!answer.is_hit(), "{}", answer.cache_status());
                assert_eq!(answer.status, status);
            }
        }
        assert_eq!(upstream.calls() - before, 4, "{status}");
    }
}

#[tokio::test]
async fn a_config_that_would_have_it_so_is_refused() {
    for status in NEVER {
        let ended = Server::check(&format!("[[route]]\nnegative_statuses = [404, {status}]")).await;
        assert_eq!(ended.status.code(), Some(2), "{status}: {}", ended.stdout);
        let said = ended.stdout + &ended.stderr;
        for word in ["route[0].negative_statuses", &status.to_string(), "404, 410, 422"] {
            assert!(said.contains(word), "{word:?} is missing in {said}");
        }
    }
    let ended = Server::check(&format!("[[route]]\nnegative_statuses = {ALL}")).await;
    assert!(ended.status.success(), "{}", ended.stderr);
}

#[tokio::test]
async fn which_statuses_they_are_is_for_the_route_to_say() {
    let (upstream, next) = upstream(404, &[]).await;
    let lines = "negative_for = \"1h\"\nnegative_statuses = [410, 500]";
    let (generic, model) = (by_http(&upstream, lines).await, by_model(&upstream, lines).await);
    for (status, is_one) in [(404, false), (410, true), (500, true), (502, false)] {
        next.is(status, &[]);
        let path = format!("/{status}");
        let get = async || generic.client().get(&path).await;
        let ask = async || model.client().ask(EMBEDDINGS, &question(&path)).await;
        get().await;
        ask().await;
        for answer in [get().await, ask().await] {
            assert_eq!((answer.status.as_u16(), answer.is_hit()), (status, is_one), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_failure_never_takes_the_place_of_a_good_answer() {
    let good: Fields = &[("cache-control", "max-age=600")];
    let (upstream, next) = upstream(200, good).await;
    let lines = "negative_for = \"1h\"\nnegative_statuses = [404, 500]";
    let (generic, model) = (by_http(&upstream, lines).await, by_model(&upstream, lines).await);
    get(&generic).await;
    ask(&model).await;
    next.is(500, &[]);
    for failed in [get_afresh(&generic).await, ask_afresh(&model).await] {
        assert_eq!(failed.status, 500, "whoever wants it afresh is told: {failed:?}");
    }
    for (case, answer) in [("HTTP", get(&generic).await), ("a model", ask(&model).await)] {
        assert_eq!((answer.status.as_u16(), answer.is_hit()), (200, true), "{case}: {answer:?}");
    }
}

#[tokio::test]
async fn a_good_answer_that_is_gone_does_not_come_back() {
    let (upstream, next) = upstream(200, &[("cache-control", "max-age=600")]).await;
    let lines = "negative_for = \"1s\"";
    let (generic, model) = (by_http(&upstream, lines).await, by_model(&upstream, lines).await);
    get(&generic).await;
    ask(&model).await;
    next.is(404, &[]);
    get_afresh(&generic).await;
    ask_afresh(&model).await;
    let before = upstream.calls();
    eventually("both negative entries end", || async {
        for answer in [get(&generic).await, ask(&model).await] {
            assert_eq!(answer.status, 404, "{answer:?}");
        }
        (upstream.calls() >= before + 4).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_that_was_purged_while_it_was_fetched_answers_nobody() {
    let gate = Arc::new(Gate::closed());
    let held = Arc::clone(&gate);
    let upstream = plain::upstream_by_call(move |call, _| match call {
        0 => with(Reply::bytes("page"), &[("cache-control", "max-age=600")]),
        1 => Reply::bytes("gone").status(404).held_by(&held),
        _ => Reply::bytes("gone").status(404),
    })
    .await;
    let server = by_http(&upstream, "negative_for = \"10m\"").await;
    get(&server).await;
    let afresh = get_afresh(&server);
    let purged = async {
        eventually("it is asked", || async { (upstream.calls() == 2).then_some(()) }).await;
        let order = server.admin_client().post("/purge", &json!({ "everything": true }));
        assert_eq!(Answer::of(order).await.status, 200);
        gate.open();
    };
    let (fetched, ()) = tokio::join!(afresh, purged);
    assert_eq!(fetched.status, 404);
    assert!(!get(&server).await.is_hit(), "it was fetched before the order was given");
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test]
async fn on_model_routes_there_are_none_unless_the_route_says_so() {
    let (upstream, next) = upstream(404, &[]).await;
    let without = Server::start(Setup::in_front_of(&upstream)).await;
    let with = by_model(&upstream, "negative_for = \"80s\"").await;
    for _ in 0..2 {
        assert!(!ask(&without).await.is_hit());
    }
    for lifetime_s in [20, 40] {
        ask_afresh(&with).await;
        assert_hit(&ask(&with).await, 404, lifetime_s);
    }
    next.is(200, &[]);
    ask_afresh(&with).await;
    next.is(404, &[]);
    ask_afresh(&with).await;
    assert_hit(&ask(&with).await, 404, 20);
}

#[tokio::test]
async fn where_tenants_share_answers_of_models_there_are_none() {
    let (upstream, _) = upstream(404, &[]).await;
    let digest = credential_digest("sk-test").await;
    let tenant = format!("[[tenant]]\nname = \"team\"\ncredential_digests = [\"{digest}\"]\n");
    for unverified in [false, true] {
        let route = format!(
            "{tenant}[[route]]\nendpoint = \"openai.embeddings\"\nnegative_for = \"1h\"\n\
             scope = \"shared\"\nallow_unverified_callers = {unverified}"
        );
        let server = Server::start(Setup::in_front_of(&upstream).config(&route)).await;
        for _ in 0..2 {
            let answer = ask(&server).await;
            assert!(!answer.is_hit(), "{unverified}: {}", answer.cache_status());
        }
    }
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn they_can_be_turned_off_in_the_config_and_by_a_lever() {
    let (upstream, _) = upstream(404, &[]).await;
    let off = by_http(&upstream, "negative_for = \"0s\"").await;
    for _ in 0..2 {
        assert!(!get(&off).await.is_hit());
    }
    let server = by_http(&upstream, "negative_for = \"1h\"").await;
    get(&server).await;
    assert!(get(&server).await.is_hit());
    let lever = json!({"lever": "negative-off", "for": "1h", "who": "kim", "why": "a test"});
    let pulled = Answer::of(server.admin_client().post("/overrides", &lever)).await;
    assert_eq!(pulled.status, 201, "{pulled:?}");
    let other = async || server.client().get("/other").await;
    for _ in 0..2 {
        assert!(!get(&server).await.is_hit(), "what is stored is not used");
        assert!(!other().await.is_hit());
    }
    let path = format!("/overrides/{}", pulled.json()["id"]);
    let removed = Answer::of(server.admin_client().request(Method::DELETE, &path)).await;
    assert!(removed.status.is_success(), "{removed:?}");
    assert!(!other().await.is_hit(), "nothing was stored meanwhile");
    assert!(other().await.is_hit());
}
