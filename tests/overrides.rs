//! Levers that an operator pulls for a while: each works at once, on what it names alone, reverts
//! by itself, and survives whatever happens to the server.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};

use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::{
    Answer, Ended, Reply, Server, Setup, Upstream, credential_digest, eventually, run,
};
use http::Method;
use serde_json::{Value, json};

/// Answers with another vector each time.
async fn upstream() -> Upstream {
    let calls = AtomicU32::new(0);
    Upstream::start(move |_| {
        Reply::json(&embedding(f64::from(calls.fetch_add(1, Ordering::Relaxed))))
    })
    .await
}

/// A server whose entries are stale at once and useless soon after.
async fn server_that_forgets(upstream: &Upstream) -> Server {
    let forgets = "[[route]]\nfresh_for = \"1ms\"\nstale_while_revalidate = \"0s\"\n\
                   stale_if_error = \"0s\"";
    Server::start(Setup::in_front_of(upstream).config(forgets)).await
}

async fn ask(server: &Server) -> Answer {
    server.client().ask(EMBEDDINGS, &question("how old?")).await
}

/// Runs `cache-server override` on this server.
async fn overriding(server: &Server, arguments: &[&str]) -> Ended {
    run("cache-server", &[&["override"], arguments, &["--admin", &server.admin]].concat()).await
}

/// Pulls a lever for a reason, and gives its number.
async fn pull(server: &Server, arguments: &[&str]) -> String {
    let reasoned = [&["add"], arguments, &["--why", "a test", "--who", "kim"]].concat();
    let ended = overriding(server, &reasoned).await;
    assert!(ended.status.success(), "{arguments:?}: {}", ended.stderr);
    let (_, number) = ended.stdout.trim_end().rsplit_once("as number ").expect("its number");
    number.trim_end_matches('.').to_owned()
}

async fn list(server: &Server) -> Value {
    server.admin_client().get("/overrides").await.json()
}

async fn post(server: &Server, body: &Value) -> Answer {
    let asked = server.admin_client().request(Method::POST, "/overrides");
    Answer::of(asked.body(body.to_string())).await
}

fn bypass_for(lasts: &str) -> Value {
    json!({"lever": "bypass", "for": lasts, "who": "kim", "why": "a test"})
}

#[tokio::test]
async fn a_bypass_sends_requests_past_the_cache_until_it_is_removed() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    ask(&server).await;
    assert!(ask(&server).await.is_hit());
    let number = pull(&server, &["bypass", "--for", "1h"]).await;
    let past = ask(&server).await;
    assert_eq!(
        past.cache_status(),
        "cache-server; fwd=bypass; fwd-status=200; detail=override-bypass"
    );
    assert_eq!(past.json(), embedding(1.0));
    let listed = overriding(&server, &["list"]).await;
    for word in ["bypass", "every request", "59m", "kim", "a test"] {
        assert!(listed.stdout.contains(word), "no {word:?} in {}", listed.stdout);
    }
    let removed = overriding(&server, &["remove", &number]).await;
    assert!(removed.status.success(), "{}", removed.stderr);
    let hit = ask(&server).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(hit.json(), embedding(0.0), "nothing was stored meanwhile");
    assert_eq!(overriding(&server, &["list"]).await.stdout, "No lever is pulled.\n");
    for change in ["an override is in force", "an override is removed before its time"] {
        let told = |line: &&str| line.contains(change) && line.contains("\"why\":\"a test\"");
        let log = server.log();
        let line = log.lines().find(told).unwrap_or_else(|| panic!("no {change:?} in {log}"));
        assert!(line.contains("\"who\":\"kim\"") && line.contains("\"level\":\"INFO\""), "{line}");
    }
}

#[tokio::test]
async fn an_override_is_for_what_it_names_alone() {
    let upstream = upstream().await;
    let digest = credential_digest("sk-team").await;
    let tenant = format!("[[tenant]]\nname = \"team\"\ncredential_digests = [\"{digest}\"]");
    let server = Server::start(Setup::in_front_of(&upstream).config(&tenant)).await;
    let ask_as = async |credential: &str| {
        server.client().ask_as(EMBEDDINGS, &question("whose?"), credential).await
    };
    ask_as("sk-team").await;
    ask_as("sk-other").await;
    for (selects, team, other) in [
        (&["--tenant", "team"][..], false, true),
        (&["--tenant", "(unmapped)"], true, false),
        (&["--route", "openai.embeddings", "--model", "text-embedding-*"], false, false),
        (&["--route", "openai.moderations"], true, true),
        (&["--model", "gpt-4*"], true, true),
        (&["--tenant", "team", "--model", "gpt-4*"], true, true),
    ] {
        let number = pull(&server, &[&["bypass", "--for", "1h"], selects].concat()).await;
        assert_eq!(ask_as("sk-team").await.is_hit(), team, "{selects:?}");
        assert_eq!(ask_as("sk-other").await.is_hit(), other, "{selects:?}");
        overriding(&server, &["remove", &number]).await;
    }
}

#[tokio::test]
async fn an_override_reverts_by_itself() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    ask(&server).await;
    let added = post(&server, &bypass_for("1s")).await;
    assert_eq!(added.status, 201, "{:?}", added.body);
    assert!(list(&server).await[0]["left_s"].as_u64().is_some_and(|left| left <= 1));
    eventually("a hit again", || async { ask(&server).await.is_hit().then_some(()) }).await;
    assert_eq!(list(&server).await, json!([]));
    let number = added.json()["id"].to_string();
    let gone = overriding(&server, &["remove", &number]).await;
    assert_eq!(gone.status.code(), Some(1));
    assert!(gone.stderr.contains("no-such-override"), "{}", gone.stderr);
}

#[tokio::test]
async fn longer_lifetimes_work_on_what_is_stored_already_and_leave_nothing_behind() {
    let upstream = upstream().await;
    let forgets = "[[route]]\nfresh_for = \"100ms\"\nstale_while_revalidate = \"0s\"\n\
                   stale_if_error = \"0s\"";
    let server = Server::start(Setup::in_front_of(&upstream).config(forgets)).await;
    ask(&server).await;
    let anew = || async { (ask(&server).await.json() != embedding(0.0)).then_some(()) };
    eventually("that the first answer is forgotten", anew).await;
    // Whatever was fetched last is kept: its end, long past or not, is a thousand times as far.
    let last = ask(&server).await.json();
    let number = pull(&server, &["lifetimes", "--factor", "1000", "--for", "1h"]).await;
    let kept = ask(&server).await;
    assert!(kept.is_hit(), "{}", kept.cache_status());
    assert_eq!(kept.json(), last);
    let ttl = kept.cache_status().split("ttl=").nth(1).and_then(|rest| rest.split(';').next());
    let ttl: i64 = ttl.expect("its time left").parse().expect("seconds");
    assert!((50..=100).contains(&ttl), "{ttl}");
    let stretched = ask(&server).await;
    assert!(stretched.is_hit(), "{}", stretched.cache_status());
    overriding(&server, &["remove", &number]).await;
    let reverted = || async { (ask(&server).await.json() != last).then_some(()) };
    eventually("that it is forgotten as before", reverted).await;
}

#[tokio::test]
async fn shorter_lifetimes_forget_what_is_stored() {
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream).config(
        "[[route]]\nfresh_for = \"1s\"\nstale_while_revalidate = \"0s\"\nstale_if_error = \"0s\"",
    );
    let server = Server::start(setup).await;
    ask(&server).await;
    pull(&server, &["lifetimes", "--factor", "0.001", "--for", "1h"]).await;
    let anew = || async { (ask(&server).await.json() != embedding(0.0)).then_some(()) };
    eventually("another answer", anew).await;
}

#[tokio::test]
async fn with_stale_only_what_is_stored_answers_however_old_and_what_is_absent_is_fetched() {
    let upstream = upstream().await;
    let server = server_that_forgets(&upstream).await;
    ask(&server).await;
    let calls = upstream.calls();
    pull(&server, &["stale-only", "--for", "1h"]).await;
    for _ in 0..5 {
        let old = ask(&server).await;
        assert!(old.cache_status().starts_with("cache-server; hit; ttl=-"), "{old:?}");
        assert_eq!((old.status.as_u16(), old.json()), (200, embedding(0.0)));
    }
    assert_eq!(upstream.calls(), calls, "nothing is refreshed");
    let absent = server.client().ask(EMBEDDINGS, &question("another")).await;
    assert!(absent.cache_status().contains("fwd=miss"), "{}", absent.cache_status());
    let stats = server.stats().await;
    assert_eq!(stats["requests"]["stale"], 5, "{stats}");
}

#[tokio::test]
async fn with_stale_only_an_entry_that_is_on_disk_alone_answers_too() {
    let upstream = upstream().await;
    let mut server = server_that_forgets(&upstream).await;
    ask(&server).await;
    server.stop().await;
    let server = server.start_again().await;
    pull(&server, &["stale-only", "--for", "1h"]).await;
    for _ in 0..2 {
        let old = ask(&server).await;
        assert!(old.cache_status().ends_with("; detail=disk"), "{}", old.cache_status());
        assert_eq!(old.json(), embedding(0.0));
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn overrides_survive_a_restart_and_a_kill() {
    let upstream = upstream().await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    pull(&server, &["bypass", "--for", "1h"]).await;
    let mode = |server: &Server| {
        let file = server.data_dir().join("overrides.json");
        std::fs::metadata(file).expect("its file").permissions().mode() & 0o777
    };
    assert_eq!(mode(&server), 0o600);
    server.kill().await;
    let mut server = server.start_again().await;
    assert!(ask(&server).await.cache_status().ends_with("detail=override-bypass"));
    let second = pull(&server, &["negative-off", "--for", "1h"]).await;
    server.stop().await;
    let server = server.start_again().await;
    let listed = list(&server).await;
    let levers: Vec<&Value> =
        listed.as_array().expect("a list").iter().map(|o| &o["lever"]).collect();
    assert_eq!(levers, ["bypass", "negative-off"]);
    assert_eq!(listed[1]["id"].to_string(), second);
}

#[tokio::test]
async fn a_damaged_file_is_set_aside_and_the_server_starts_without_overrides() {
    let upstream = upstream().await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    pull(&server, &["bypass", "--for", "1h"]).await;
    server.stop().await;
    let file = server.data_dir().join("overrides.json");
    std::fs::write(&file, "{\"version\":1,").expect("it is written");
    let server = server.start_again().await;
    assert_eq!(list(&server).await, json!([]));
    assert!(server.data_dir().join("overrides.json.damaged").exists());
    assert!(server.log().contains("no override is in force"), "{}", server.log());
    pull(&server, &["bypass", "--for", "1h"]).await;
}

#[tokio::test]
async fn what_may_not_be_asked_for_is_refused_by_name_and_changes_nothing() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let with = |name: &str, value: Value| {
        let mut body = bypass_for("1h");
        body[name] = value;
        body
    };
    let long = "x".repeat(20_000);
    for (body, status, code, named) in [
        (with("tennant", json!("team")), 400, "bad-body", "`tennant`"),
        (with("why", Value::Null), 400, "bad-body", "null"),
        (json!([1]), 400, "bad-body", "object"),
        (with("why", json!(long)), 413, "body-too-large", "16384 bytes"),
        (with("lever", json!("explode")), 400, "bad-override", "stale-only"),
        (with("lever", json!("lifetimes")), 400, "bad-override", "factor"),
        (with("factor", json!(2)), 400, "bad-override", "factor"),
        (with("for", json!("31days")), 400, "bad-override", "30days"),
        (with("for", json!("10ms")), 400, "bad-override", "1s"),
        (with("for", json!("soon")), 400, "bad-override", "for"),
        (with("who", json!("")), 400, "bad-override", "who"),
        (with("why", json!("x".repeat(513))), 400, "bad-override", "512"),
        (with("model", json!("a*b")), 400, "bad-override", "model"),
        (with("route", json!("openai.embedings")), 400, "bad-override", "openai.embeddings"),
        (with("tenant", json!("nobody")), 400, "bad-override", "tenant"),
    ] {
        let refused = post(&server, &body).await;
        assert_eq!(refused.status, status, "{body:.200}: {:?}", refused.body);
        assert_eq!(refused.field("content-type"), "application/problem+json");
        let problem = refused.json();
        assert_eq!(problem["code"], code, "{body:.200}");
        assert!(problem["detail"].as_str().is_some_and(|d| d.contains(named)), "{problem}");
    }
    for path in ["/overrides/1", "/overrides/first", "/overrides/-1"] {
        let asked = server.admin_client().request(Method::DELETE, path);
        let refused = Answer::of(asked).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.json()["code"]),
            (404, &json!("no-such-override"))
        );
    }
    assert_eq!(list(&server).await, json!([]));
    let too_long = ["add", "bypass", "--for", "31days", "--why", "x", "--who", "kim"];
    let told = overriding(&server, &too_long).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(told.stderr.contains("at most 30days (bad-override)"), "{}", told.stderr);
}

#[tokio::test]
async fn one_override_too_many_is_refused() {
    let upstream = upstream().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for _ in 0..100 {
        assert_eq!(post(&server, &bypass_for("1h")).await.status, 201);
    }
    let refused = post(&server, &bypass_for("1h")).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (409, &json!("overrides-full")));
    let first = list(&server).await[0]["id"].to_string();
    assert!(overriding(&server, &["remove", &first]).await.status.success());
    assert_eq!(post(&server, &bypass_for("1h")).await.status, 201);
}

#[tokio::test]
async fn with_an_admin_token_only_who_shows_it_pulls_a_lever() {
    const TOKEN: &str = "an-admin-token";
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream).variable("CACHE_SERVER_ADMIN_TOKEN", TOKEN);
    let server = Server::start(setup).await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).expect("it is written");
    let path = path.to_str().expect("text");
    let add = ["add", "bypass", "--for", "1h", "--why", "x", "--who", "kim"];
    let refused = overriding(&server, &add).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("admin-token-wrong"), "{}", refused.stderr);
    assert_eq!(post(&server, &bypass_for("1h")).await.status, 401);
    let taken = overriding(&server, &[&add[..], &["--admin-token-file", path]].concat()).await;
    assert!(taken.status.success(), "{}", taken.stderr);
    let delete = server.admin_client().request(Method::DELETE, "/overrides/1");
    assert_eq!(Answer::of(delete).await.status, 401);
    let listed = overriding(&server, &["list", "--json"]).await;
    assert!(listed.stdout.contains("\"lever\":\"bypass\""), "reading is open: {}", listed.stderr);
    assert!(!server.log().contains(TOKEN));
}

#[tokio::test]
async fn without_a_disk_an_override_works_and_goes_with_the_process() {
    let upstream = upstream().await;
    let setup = Setup::in_front_of(&upstream).config("[cache]\ndisk_bytes_max = \"0B\"");
    let mut server = Server::start(setup).await;
    pull(&server, &["bypass", "--for", "1h"]).await;
    assert!(ask(&server).await.cache_status().ends_with("detail=override-bypass"));
    assert!(!server.data_dir().exists());
    server.stop().await;
    assert_eq!(list(&server.start_again().await).await, json!([]));
}
