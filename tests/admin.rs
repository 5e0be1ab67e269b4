//! The admin listener: health, metrics and figures.

use std::collections::BTreeSet;
use std::sync::Arc;

use black_box_tests::sample::{CHAT, EMBEDDINGS, chat, embedding, question, recorded};
use black_box_tests::upstream::Gate;
use black_box_tests::{Raw, Reply, Server, Setup, Upstream, eventually};
use http::Method;
use serde_json::{Value, json};

const NAMES: [&str; 12] = [
    "cache_server_requests_total",
    "cache_server_stores_total",
    "cache_server_coalesced_total",
    "cache_server_served_bytes_total",
    "cache_server_tokens_saved_total",
    "cache_server_time_saved_milliseconds_total",
    "cache_server_evictions_total",
    "cache_server_tier_read_seconds_bucket",
    "cache_server_upstream_seconds_bucket",
    "cache_server_request_seconds_bucket",
    "cache_server_flights_open",
    "cache_server_memory_entries",
];

/// Answers embeddings, chats and, with an error, everything else.
async fn upstream() -> Upstream {
    let chat = recorded("openai-chat-completions/whole.json");
    Upstream::start(move |request| match request.uri.path() {
        EMBEDDINGS => Reply::json(&embedding(0.25)),
        CHAT => Reply::bytes(chat.clone()).with("content-type", "application/json"),
        _ => Reply::bytes("{}").status(404),
    })
    .await
}

async fn metrics(server: &Server) -> String {
    let answer = server.admin_client().get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.field("content-type").starts_with("text/plain; version=0.0.4"));
    String::from_utf8(answer.body.to_vec()).expect("text")
}

/// The series of our own metrics, without their values.
async fn series(server: &Server) -> BTreeSet<String> {
    let ours = |line: &&str| line.starts_with("cache_server_");
    let text = metrics(server).await;
    text.lines().filter(ours).filter_map(|line| line.rsplit_once(' ')).map(|s| s.0.into()).collect()
}

#[tokio::test]
async fn a_healthy_server_says_that_it_lives_and_is_ready() {
    let server = Server::start(Setup::in_front_of(&upstream().await)).await;
    let admin = server.admin_client();
    for (path, body) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = admin.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.body.as_ref()),
            (200, body.as_bytes()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_the_admin_listener_does_not_have_is_a_404() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for path in ["/", "/v1/files", EMBEDDINGS, "/metrics/x", "/_cache/v1/x"] {
        assert_eq!(server.admin_client().get(path).await.status, 404, "{path}");
    }
    assert_eq!(upstream.calls(), 0, "the admin listener is no proxy");
}

#[tokio::test]
async fn nothing_on_the_admin_listener_takes_a_post() {
    let server = Server::start(Setup::in_front_of(&upstream().await)).await;
    for path in ["/healthz", "/readyz", "/metrics", "/stats"] {
        let asked = server.admin_client().request(Method::POST, path);
        assert_eq!(black_box_tests::Answer::of(asked).await.status, 405, "{path}");
    }
}

#[tokio::test]
async fn admin_addresses_are_the_upstreams_on_the_data_listener() {
    let upstream = Upstream::start(|_| Reply::bytes("the upstream's own")).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for path in ["/healthz", "/readyz", "/metrics", "/stats"] {
        assert_eq!(server.client().get(path).await.body, "the upstream's own", "{path}");
    }
}

#[tokio::test]
async fn stats_and_metrics_tell_what_happened() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let mut sampled = chat(false);
    sampled["temperature"] = json!(1);
    // Two misses, three hits, two bypasses on a model route, one beside it, one refusal.
    client.ask(EMBEDDINGS, &question("one")).await;
    let chat_bytes = client.ask(CHAT, &chat(false)).await.body.len();
    client.ask(EMBEDDINGS, &question("one")).await;
    client.ask(CHAT, &chat(false)).await;
    client.ask(CHAT, &chat(false)).await;
    client.ask(CHAT, &sampled).await;
    client.ask(CHAT, &sampled).await;
    client.ask("/v1/files", &json!({})).await;
    client.get("/_cache/v1/nothing").await;

    let stats = server.stats().await;
    let embedding_bytes = embedding(0.25).to_string().len();
    let usage = &serde_json::from_slice::<Value>(&recorded("openai-chat-completions/whole.json"))
        .expect("JSON")["usage"];
    let (input, output) = (tokens(usage, "prompt_tokens"), tokens(usage, "completion_tokens"));
    for (pointer, expected) in [
        ("/requests", json!({"bypass": 3, "hit": 3, "miss": 2, "refused": 1})),
        ("/routes/openai.embeddings", json!({"hit": 1, "miss": 1})),
        ("/routes/openai.chat_completions", json!({"bypass": 2, "hit": 2, "miss": 1})),
        ("/routes/other", json!({"bypass": 1, "refused": 1})),
        ("/bypass_reasons", json!({"not-a-model-route": 1, "not-deterministic": 2})),
        ("/hits_by_tier", json!({"memory": 3})),
        ("/hit_ratio", json!(0.6)),
        ("/stores", json!(2)),
        ("/coalesced", json!(0)),
        ("/evictions", json!(0)),
        ("/not_stored", json!({})),
        ("/input_tokens_saved", json!(6 + 2 * input)),
        ("/output_tokens_saved", json!(2 * output)),
        ("/bytes_from_cache", json!(embedding_bytes + 2 * chat_bytes)),
        ("/bytes_from_upstream", json!(embedding_bytes + 3 * chat_bytes + 2)),
        ("/flights_open", json!(0)),
        ("/memory_entries", json!(2)),
    ] {
        assert_eq!(stats.pointer(pointer), Some(&expected), "{pointer} in {stats:#}");
    }
    let requests = |labels: &str| format!("cache_server_requests_total{{{labels}}}");
    let chats = "route=\"openai.chat_completions\"";
    for (series, expected) in [
        (requests(&format!("{chats},outcome=\"hit\",reason=\"memory\"")), 2),
        (requests(&format!("{chats},outcome=\"miss\",reason=\"stored\"")), 1),
        (requests(&format!("{chats},outcome=\"bypass\",reason=\"not-deterministic\"")), 2),
        ("cache_server_stores_total".into(), 2),
        ("cache_server_tokens_saved_total{kind=\"input\"}".into(), 6 + 2 * input),
        ("cache_server_tokens_saved_total{kind=\"output\"}".into(), 2 * output),
        (
            "cache_server_served_bytes_total{source=\"cache\"}".into(),
            embedding_bytes + 2 * chat_bytes,
        ),
        ("cache_server_upstream_seconds_count{upstream=\"upstream\",until=\"headers\"}".into(), 5),
    ] {
        let value = server.metric(&series).await;
        assert!(
            (value - count_as_f64(expected)).abs() < 0.5,
            "{series} is {value}, not {expected}"
        );
    }
}

fn tokens(usage: &Value, name: &str) -> usize {
    usize::try_from(usage[name].as_u64().expect("a count")).expect("a small one")
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn count_as_f64(count: usize) -> f64 {
    count as f64
}

#[tokio::test]
async fn every_metric_is_there_from_the_start_and_described() {
    let server = Server::start(Setup::in_front_of(&upstream().await)).await;
    server.client().ask(EMBEDDINGS, &question("one")).await;
    let text = metrics(&server).await;
    for name in NAMES {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing");
        let family = name.trim_end_matches("_bucket");
        assert!(text.contains(&format!("# HELP {family} ")), "{family} is not described");
        assert!(text.contains(&format!("# TYPE {family} ")), "{family} has no type");
    }
    for tier in ["memory", "disk"] {
        let count = format!("cache_server_tier_read_seconds_count{{tier=\"{tier}\"}}");
        assert!(server.metric(&count).await >= 1.0, "{count}");
    }
}

#[tokio::test]
async fn time_saved_is_the_time_that_the_upstream_took() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| Reply::json(&embedding(0.25)).held_by(&holds)).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let started = std::time::Instant::now();
    let asked = tokio::spawn(async move { client.ask(EMBEDDINGS, &question("slow")).await });
    // As long as it takes to be sure that it takes some time.
    let took =
        || async { (started.elapsed().as_millis() > 100 && upstream.calls() == 1).then_some(()) };
    eventually("the upstream is asked for a while", took).await;
    let asked_for = started.elapsed();
    gate.open();
    asked.await.expect("an answer");
    let bound = started.elapsed();
    server.client().ask(EMBEDDINGS, &question("slow")).await;
    let saved = server.stats().await["milliseconds_saved"].as_u64().expect("a count");
    assert!(u128::from(saved) <= bound.as_millis(), "{saved} ms of at most {bound:?}");
    assert!(saved >= 50, "{saved} ms of about {asked_for:?}");
}

#[tokio::test]
async fn entries_that_leave_memory_for_want_of_space_are_counted() {
    let upstream = Upstream::start(|_| {
        let mut answer = embedding(0.25);
        answer["padding"] = "x".repeat(100_000).into();
        Reply::json(&answer)
    });
    let upstream = upstream.await;
    let setup = Setup::in_front_of(&upstream)
        .config("[cache]\nmemory_bytes_max = \"2MiB\"\ndisk_bytes_max = \"64MiB\"");
    let server = Server::start(setup).await;
    let client = server.client();
    for number in 0..60 {
        client.ask(EMBEDDINGS, &question(&number.to_string())).await;
    }
    let evicted = || async {
        let stats = server.stats().await;
        let held = stats["memory_bytes"].as_u64().expect("a count");
        (stats["evictions"].as_u64().expect("a count") >= 30 && held <= 2 << 20).then_some(())
    };
    eventually("evictions", evicted).await;
    assert!(server.metric("cache_server_evictions_total{tier=\"memory\"}").await >= 30.0);
}

#[tokio::test]
async fn what_callers_say_makes_no_series() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let client = server.client();
    let ask_all = async |from: usize, to: usize| {
        for number in from..to {
            let mut body = question("same");
            body["model"] = format!("unheard-of-{number}").into();
            let credential = format!("Bearer sk-{number}");
            let asked =
                client.request(Method::POST, EMBEDDINGS).header("authorization", credential);
            black_box_tests::Answer::of(asked.body(body.to_string())).await;
            let method = format!("METHOD{number}").parse().expect("a method");
            let asked = client.request(method, &format!("/v1/things/{number}?x={number}"));
            black_box_tests::Answer::of(asked).await;
        }
    };
    ask_all(0, 3).await;
    let before = series(&server).await;
    ask_all(3, 200).await;
    let after = series(&server).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:#?}");
    assert!(!metrics(&server).await.contains("unheard-of"), "a caller's word is in the metrics");
}

#[tokio::test]
async fn one_connection_too_many_of_the_admin_listener_waits_until_another_closes() {
    let server = Server::start(Setup::in_front_of(&upstream().await)).await;
    let health = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut callers = Vec::new();
    for _ in 0..64 {
        let mut caller = Raw::open(&server.admin).await;
        caller.send(health).await;
        assert_eq!(caller.answer().await.text(), "ok\n");
        callers.push(caller);
    }
    let mut waits = Raw::open(&server.admin).await;
    waits.send(health).await;
    let mut waits = tokio::spawn(async move { waits.answer().await });
    for caller in &mut callers {
        caller.send(health).await;
        caller.answer().await;
    }
    assert!(!waits.is_finished(), "the sixty-fifth must wait");
    drop(callers.pop());
    assert_eq!((&mut waits).await.expect("an answer").text(), "ok\n");
}

#[tokio::test]
async fn check_explains_a_valid_config() {
    let checked = Server::check(
        "[server]\nlisten = \"127.0.0.1:9999\"\n\
         [[upstream]]\nname = \"mine\"\nurl = \"https://models.example/base\"\n\
         [[route]]\nendpoint = \"openai.embeddings\"\nfresh_for = \"3h\"\n\
         [cache]\nreuse = \"any\"\ndata_dir = \"/nowhere/entries\"",
    )
    .await;
    assert_eq!(checked.status.code(), Some(0), "{}", checked.stderr);
    for word in [
        "127.0.0.1:9999",
        "/mine/ → https://models.example/base",
        "openai.embeddings: reused whatever it is, for 3h (set by a route)",
        "1 route(s), the most specific first:\n  openai.embeddings: fresh for 3h",
        "/nowhere/entries",
        "The config is valid.",
    ] {
        assert!(checked.stdout.contains(word), "{word:?} is missing in:\n{}", checked.stdout);
    }
}

#[tokio::test]
async fn check_refuses_an_invalid_config_with_2_and_names_the_field() {
    for (config, field) in [
        ("[server]\nconnections_max = 0", "server.connections_max"),
        ("[[route]]\nmodel = \"a*b\"", "route[0].model"),
        ("[cache]\nsize = 1", "size"),
    ] {
        let checked = Server::check(config).await;
        assert_eq!(checked.status.code(), Some(2), "{config}: {}", checked.stdout);
        let named = checked.stderr.matches(field).count();
        assert!(named > 0, "{config}: {field} not in {}", checked.stderr);
        let repeated = checked.stderr.matches("is not valid").count();
        assert_eq!(repeated, 1, "it is said once: {}", checked.stderr);
        assert!(!checked.stdout.contains("valid"), "{config}: {}", checked.stdout);
    }
}
