//! Whose answers a caller sees: tenants that share, and credentials that the upstream refuses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Received, Reply, Server, Setup, Upstream, credential_digest};
use serde_json::{Value, json};

const EMBEDDINGS: &str = "/v1/embeddings";

fn question() -> Value {
    json!({"model": "text-embedding-3-small", "input": "the same for all"})
}

fn embedding() -> Reply {
    Reply::json(&json!({
        "object": "list",
        "model": "text-embedding-3-small",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "usage": {"prompt_tokens": 2, "total_tokens": 2},
    }))
}

/// An upstream whose status can be changed.
async fn moody() -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(200));
    let told = Arc::clone(&status);
    let reply = move |_: &Received| embedding().status(told.load(Ordering::Relaxed));
    (Upstream::start(reply).await, status)
}

async fn ask(server: &Server, credential: &str) -> Answer {
    let request = server.client().request(http::Method::POST, EMBEDDINGS);
    let request = request.header("content-type", "application/json").body(question().to_string());
    Answer::of(match credential {
        "" => request,
        credential => request.header("authorization", format!("Bearer {credential}")),
    })
    .await
}

/// A config with a tenant for each name, whose credential is `sk-NAME`.
async fn tenants(names: &[&str]) -> String {
    let mut lines = String::new();
    for name in names {
        let digest = credential_digest(&format!("sk-{name}")).await;
        lines += &format!("[[tenant]]\nname = \"{name}\"\ncredential_digests = [\"{digest}\"]\n");
    }
    lines
}

#[tokio::test]
async fn a_refused_credential_gets_no_stored_answer_until_the_upstream_takes_it_again() {
    for refusal in [401, 403] {
        let (upstream, status) = moody().await;
        let server = Server::start(Setup::in_front_of(&upstream)).await;
        assert!(ask(&server, "sk-a").await.cache_status().contains("stored"));
        assert!(ask(&server, "sk-a").await.cache_status().contains("; hit;"));

        // Refused on another route, even one that no cache is for.
        status.store(refusal, Ordering::Relaxed);
        let models = server.client().request(http::Method::GET, "/v1/models");
        let refused = Answer::of(models.header("authorization", "Bearer sk-a")).await;
        assert_eq!(refused.status, refusal);
        let answer = ask(&server, "sk-a").await;
        assert_eq!(answer.status, refusal, "the stored answer is withheld");
        let said = answer.cache_status();
        assert!(said.contains("fwd=bypass") && said.contains("credential-suspended"), "{said}");
        assert_eq!(server.stats().await["suspensions"], 1);

        status.store(200, Ordering::Relaxed);
        let taken = ask(&server, "sk-a").await;
        assert!(taken.cache_status().contains("credential-suspended"), "it is asked for first");
        assert!(ask(&server, "sk-a").await.cache_status().contains("; hit;"));
        assert_eq!(server.stats().await["suspensions"], 0);
    }
}

#[tokio::test]
async fn only_the_refused_credential_is_suspended_and_not_its_tenant() {
    let mut lines = String::new();
    let (one, two) = (credential_digest("sk-one").await, credential_digest("sk-two").await);
    lines += &format!("[[tenant]]\nname = \"t\"\ncredential_digests = [\"{one}\", \"{two}\"]\n");
    let upstream = Upstream::start(|received| {
        let refused = received.headers["authorization"] == "Bearer sk-one";
        embedding().status(if refused { 401 } else { 200 })
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream).config(&lines)).await;
    assert!(ask(&server, "sk-two").await.cache_status().contains("stored"));
    assert!(ask(&server, "sk-one").await.cache_status().contains("; hit;"), "not refused so far");
    let models = server.client().request(http::Method::GET, "/v1/models");
    assert_eq!(Answer::of(models.header("authorization", "Bearer sk-one")).await.status, 401);
    assert_eq!(ask(&server, "sk-one").await.status, 401);
    assert!(ask(&server, "sk-two").await.cache_status().contains("; hit;"));
}

#[tokio::test]
async fn a_refused_credential_is_suspended_in_whatever_field_it_stands() {
    let (upstream, status) = moody().await;
    let server = Server::start(Setup::in_front_of(&upstream).config(&tenants(&["a"]).await)).await;
    ask(&server, "sk-a").await;
    assert!(ask(&server, "sk-a").await.cache_status().contains("; hit;"));
    status.store(401, Ordering::Relaxed);
    let asked_with = async |fields: &[(&'static str, &'static str)]| {
        let asked = server.client().request(http::Method::POST, EMBEDDINGS);
        let asked = asked.header("content-type", "application/json").body(question().to_string());
        Answer::of(fields.iter().fold(asked, |asked, (name, value)| asked.header(*name, *value)))
            .await
    };
    let bearer = ("authorization", "Bearer sk-a");
    assert_eq!(asked_with(&[bearer, ("cache-control", "no-cache")]).await.status, 401);
    for fields in [
        &[bearer][..],
        &[("x-api-key", "sk-a")],
        &[bearer, ("x-api-key", "sk-a")],
        &[bearer, ("openai-project", "another")],
    ] {
        let answer = asked_with(fields).await;
        assert_eq!(answer.status, 401, "{fields:?}: {}", answer.cache_status());
        assert!(answer.cache_status().contains("credential-suspended"), "{fields:?}");
    }
}

#[tokio::test]
async fn a_suspended_credential_never_reads_along_with_another_of_its_tenant() {
    let (one, two) = (credential_digest("sk-one").await, credential_digest("sk-two").await);
    let lines = format!("[[tenant]]\nname = \"t\"\ncredential_digests = [\"{one}\", \"{two}\"]\n");
    let gate = black_box_tests::upstream::Gate::closed();
    let gate = Arc::new(gate);
    let held = Arc::clone(&gate);
    let upstream = Upstream::start(move |received| {
        match received.headers["authorization"] == "Bearer sk-one" {
            true => embedding().status(401),
            false => embedding().held_by(&held),
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream).config(&lines)).await;
    assert_eq!(ask(&server, "sk-one").await.status, 401);
    let client = server.client();
    let leader =
        tokio::spawn(async move { client.ask_as(EMBEDDINGS, &question(), "sk-two").await });
    black_box_tests::eventually("the leader's call", || async {
        (upstream.calls() == 2).then_some(())
    })
    .await;
    assert_eq!(ask(&server, "sk-one").await.status, 401, "it does not wait for the leader");
    gate.open();
    assert_eq!(leader.await.expect("it ends").status, 200);
}

#[tokio::test]
async fn while_the_upstream_is_down_a_young_suspension_has_grace_and_an_old_one_has_none() {
    for (grace, expected) in [("5m", 200), ("0s", 503)] {
        let (upstream, status) = moody().await;
        let cache = format!("[cache]\nsuspension_grace = \"{grace}\"\ndisk_bytes_max = 0\n");
        let server = Server::start(Setup::in_front_of(&upstream).config(&cache)).await;
        assert!(ask(&server, "sk-a").await.cache_status().contains("stored"));
        status.store(403, Ordering::Relaxed);
        let models = server.client().request(http::Method::GET, "/v1/models");
        assert_eq!(Answer::of(models.header("authorization", "Bearer sk-a")).await.status, 403);
        status.store(503, Ordering::Relaxed);
        let answer = ask(&server, "sk-a").await;
        assert_eq!(answer.status, expected, "grace {grace}: {}", answer.cache_status());
        if expected == 200 {
            let said = answer.cache_status();
            assert!(said.contains("fwd=stale; fwd-status=503"), "{said}");
            let calls = upstream.calls();
            let only = server.client().request(http::Method::POST, EMBEDDINGS);
            let only = only.header("authorization", "Bearer sk-a");
            let only = only.header("cache-control", "only-if-cached").body(question().to_string());
            assert_eq!(Answer::of(only).await.json()["code"], "only-if-cached");
            assert_eq!(upstream.calls(), calls, "only-if-cached is never asked for upstream");
            upstream.stop().await;
            assert_eq!(ask(&server, "sk-a").await.status, 200, "unreachable is down as well");
        }
    }
}

#[tokio::test]
async fn what_the_upstream_gives_to_anybody_brings_no_refused_credential_its_answers_back() {
    let is_revoked = Arc::new(AtomicBool::new(false));
    let revoked = Arc::clone(&is_revoked);
    let upstream = Upstream::start(move |received| {
        match received.uri.path() == EMBEDDINGS && revoked.load(Ordering::Relaxed) {
            true => Reply::bytes("no").status(401),
            false => embedding(),
        }
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    assert!(ask(&server, "sk-a").await.cache_status().contains("stored"));
    is_revoked.store(true, Ordering::Relaxed);
    let client = server.client();
    let with = |request: reqwest::RequestBuilder| request.header("authorization", "Bearer sk-a");
    let other = json!({"model": "text-embedding-3-small", "input": "another"});
    let other = with(client.request(http::Method::POST, EMBEDDINGS)).body(other.to_string());
    assert_eq!(Answer::of(other).await.status, 401);
    let public = with(client.request(http::Method::GET, "/robots.txt"));
    assert_eq!(Answer::of(public).await.status, 200);
    let answer = ask(&server, "sk-a").await;
    assert_eq!(answer.status, 401, "it is refused still: {}", answer.cache_status());
    is_revoked.store(false, Ordering::Relaxed);
    assert_eq!(ask(&server, "sk-a").await.status, 200);
    assert!(ask(&server, "sk-a").await.cache_status().contains("; hit;"));
}

#[tokio::test]
async fn suspensions_are_bounded_and_the_oldest_is_forgotten() {
    let (upstream, status) = moody().await;
    let cache = "[cache]\nsuspensions_max = 2\ndisk_bytes_max = 0\n";
    let server = Server::start(Setup::in_front_of(&upstream).config(cache)).await;
    assert!(ask(&server, "sk-0").await.cache_status().contains("stored"));
    status.store(401, Ordering::Relaxed);
    for number in 0..3 {
        let models = server.client().request(http::Method::GET, "/v1/models");
        let credential = format!("Bearer sk-{number}");
        assert_eq!(Answer::of(models.header("authorization", credential)).await.status, 401);
    }
    assert_eq!(server.stats().await["suspensions"], 2);
    assert!(ask(&server, "sk-0").await.cache_status().contains("; hit;"));
}

const SHARED: &str = "[[route]]\nendpoint = \"openai.embeddings\"\nscope = \"shared\"\n";

#[tokio::test]
async fn a_shared_route_serves_every_named_tenant_and_nobody_else() {
    let (upstream, _) = moody().await;
    let lines = tenants(&["red", "blue"]).await + SHARED;
    let server = Server::start(Setup::in_front_of(&upstream).config(&lines)).await;
    let red = ask(&server, "sk-red").await;
    assert!(red.cache_status().contains("stored"), "{}", red.cache_status());
    let blue = ask(&server, "sk-blue").await;
    assert!(blue.cache_status().contains("; hit;"), "{}", blue.cache_status());
    for stranger in ["sk-stranger", ""] {
        let answer = ask(&server, stranger).await;
        let said = answer.cache_status();
        assert!(said.contains("fwd=miss") && said.contains("stored"), "{stranger:?}: {said}");
        let again = ask(&server, stranger).await;
        assert!(again.cache_status().contains("; hit;"), "it has its own: {stranger:?}");
    }
    assert_eq!(upstream.calls(), 3);
}

#[tokio::test]
async fn a_shared_route_takes_strangers_in_only_where_it_says_so() {
    let (upstream, _) = moody().await;
    let lines = format!("{SHARED}allow_unverified_callers = true\n");
    let server = Server::start(Setup::in_front_of(&upstream).config(&lines)).await;
    assert!(ask(&server, "sk-one").await.cache_status().contains("stored"));
    for credential in ["sk-two", ""] {
        let answer = ask(&server, credential).await;
        assert!(answer.cache_status().contains("; hit;"), "{credential:?}");
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn what_one_tenant_is_refused_is_not_told_to_another_that_waits() {
    for (status, is_told) in [(429, false), (400, false), (404, false), (500, true)] {
        let gate = Arc::new(Gate::closed());
        let held = Arc::clone(&gate);
        let upstream = Upstream::start(move |received| {
            match received.headers["authorization"].as_bytes().ends_with(b"red") {
                true => Reply::bytes("not you").status(status).held_by(&held),
                false => embedding(),
            }
        })
        .await;
        let lines = tenants(&["red", "blue"]).await + SHARED;
        let server = Server::start(Setup::in_front_of(&upstream).config(&lines)).await;
        let others = async {
            server.misses_looked_up(1).await;
            let waiting = async {
                server.misses_looked_up(2).await;
                gate.open();
            };
            tokio::join!(ask(&server, "sk-blue"), waiting).0
        };
        let (red, blue) = tokio::join!(ask(&server, "sk-red"), others);
        assert_eq!(red.status, status);
        assert_eq!(blue.status.as_u16(), if is_told { status } else { 200 }, "{blue:?}");
    }
}

#[tokio::test]
async fn fields_outside_the_key_do_not_reach_the_upstream_where_answers_are_shared() {
    let (upstream, _) = moody().await;
    let lines = tenants(&["red"]).await + SHARED;
    let server = Server::start(Setup::in_front_of(&upstream).config(&lines)).await;
    let request = server.client().request(http::Method::POST, EMBEDDINGS);
    let request = request
        .header("authorization", "Bearer sk-red")
        .header("content-type", "application/json")
        .header("openai-beta", "assistants=v2")
        .header("x-forwarded-host", "elsewhere.example")
        .header("accept-language", "fr")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .body(question().to_string());
    assert!(Answer::of(request).await.cache_status().contains("stored"));
    let received = &upstream.received()[0].headers;
    for kept in ["authorization", "content-type", "openai-beta", "traceparent"] {
        assert!(received.contains_key(kept), "{kept} is missing");
    }
    for gone in ["x-forwarded-host", "accept-language"] {
        assert!(!received.contains_key(gone), "{gone} might change an answer that others get");
    }
}
