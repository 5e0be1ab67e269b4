//! Purges: what an order names is gone at once, whatever is under way, and stays gone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use black_box_tests::plain;
use black_box_tests::reading::Reading;
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::server::run;
use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Raw, Reply, Server, Setup, Upstream, eventually};
use http::Method;
use serde_json::{Value, json};

/// An upstream that counts its answers in their bodies and tags them.
async fn tagged() -> Upstream {
    let calls = AtomicUsize::new(0);
    Upstream::start(move |received| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        Reply::bytes(format!("answer {count} to {}", received.uri))
            .with("cache-control", "max-age=600, stale-while-revalidate=600")
            .with("surrogate-key", "all shop")
            .with("cache-tag", "page one")
    })
    .await
}

async fn order(server: &Server, order: &Value) -> Answer {
    Answer::of(server.admin_client().post("/purge", order)).await
}

/// Orders a purge that must succeed, and gives its number.
async fn purge(server: &Server, targets: &Value) -> u64 {
    let answer = order(server, targets).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["sequence"].as_u64().expect("a number")
}

/// Sees that the path answers from the cache.
async fn warm(server: &Server, path: &str) -> Answer {
    server.client().get(path).await;
    let answer = server.client().get(path).await;
    assert!(answer.is_hit(), "{path}: {}", answer.cache_status());
    answer
}

async fn is_hit(server: &Server, path: &str) -> bool {
    server.client().get(path).await.is_hit()
}

#[tokio::test]
async fn an_entry_is_purged_by_everything_that_it_can_be_named_by() {
    let upstream = tagged().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let hit = warm(&server, "/page?a=1").await;
    let status = hit.cache_status();
    let key = status.split("key=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let mut last = 0;
    for targets in [
        json!({ "keys": [key] }),
        json!({ "tags": ["shop"] }),
        json!({ "tags": ["page one"] }),
        json!({ "urls": ["/page?a=1"] }),
        json!({ "urls": [format!("{}/page?a=1", upstream.url())] }),
        json!({ "routes": ["http"] }),
        json!({ "tenants": ["anonymous"] }),
        json!({ "everything": true }),
    ] {
        warm(&server, "/page?a=1").await;
        let sequence = purge(&server, &targets).await;
        assert!(sequence > last, "the sequence grows");
        last = sequence;
        assert!(!is_hit(&server, "/page?a=1").await, "{targets}");
    }
    warm(&server, "/page?a=1").await;
    for others in [
        json!({ "tags": ["page", "one", "Shop"] }),
        json!({ "urls": ["/page", "/page?a=2"] }),
        json!({ "routes": ["openai.embeddings"] }),
        json!({ "tenants": ["(unmapped)"] }),
    ] {
        purge(&server, &others).await;
        assert!(is_hit(&server, "/page?a=1").await, "{others} names something else");
    }
}

#[tokio::test]
async fn a_soft_purge_makes_stale_and_the_next_answer_is_refreshed_behind_it() {
    let upstream = tagged().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let before = warm(&server, "/page").await;
    purge(&server, &json!({ "tags": ["shop"], "soft": true })).await;
    let stale = server.client().get("/page").await;
    assert!(stale.cache_status().contains("hit; ttl=-"), "{}", stale.cache_status());
    assert_eq!(stale.body, before.body);
    eventually("the refreshed answer", || async {
        let answer = server.client().get("/page").await;
        (answer.body != before.body && answer.is_hit()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_purged_stays_purged_over_a_restart_and_over_a_kill() {
    let upstream = tagged().await;
    let mut server = Server::start(Setup::in_front_of(&upstream)).await;
    warm(&server, "/page").await;
    warm(&server, "/other").await;
    purge(&server, &json!({ "urls": ["/page"] })).await;
    server.kill().await;
    let server = server.start_again().await;
    assert!(!is_hit(&server, "/page").await, "an acknowledged order survives a kill");
    let again = server.client().get("/page").await;
    assert!(again.is_hit(), "what was fetched after it is alive: {}", again.cache_status());
    let mut server = server;
    server.stop().await;
    let server = server.start_again().await;
    assert!(is_hit(&server, "/page").await, "and stays alive: its fill was behind the order");
    assert!(is_hit(&server, "/other").await, "and nothing else was purged");
}

#[tokio::test]
async fn what_was_purged_while_the_disk_was_not_used_does_not_come_back_with_it() {
    let upstream = tagged().await;
    let setup = Setup::in_front_of(&upstream);
    let mut server = Server::start(setup.clone()).await;
    let before = warm(&server, "/page").await;
    server.stop().await;
    let without = setup.clone().config("[cache]\ndisk_bytes_max = 0");
    let mut server = server.start_again_as(without).await;
    purge(&server, &json!({ "everything": true })).await;
    server.stop().await;
    let server = server.start_again_as(setup).await;
    let after = server.client().get("/page").await;
    assert!(!after.is_hit() && after.body != before.body, "{}", after.cache_status());
}

#[tokio::test]
async fn a_fill_that_began_before_a_purge_brings_nothing_back() {
    let (gate, calls) = (Arc::new(Gate::closed()), AtomicUsize::new(0));
    let holds = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        let reply = Reply::bytes(format!("answer {count}")).with("cache-control", "max-age=600");
        if count == 0 { reply.held_by(&holds) } else { reply }
    })
    .await;
    let server = Arc::new(Server::start(Setup::in_front_of(&upstream)).await);
    let asking = {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.client().get("/page").await })
    };
    eventually("the fill is under way", || async { (upstream.calls() == 1).then_some(()) }).await;
    purge(&server, &json!({ "urls": ["/page"] })).await;
    let after = server.client().get("/page").await;
    assert_eq!(after.body, "answer 1", "who asks after the order does not join the older fill");
    gate.open();
    assert_eq!(asking.await.unwrap().body, "answer 0");
    let answer = server.client().get("/page").await;
    assert_eq!((answer.is_hit(), &answer.body[..]), (true, &b"answer 1"[..]));
}

#[tokio::test]
async fn a_purge_at_any_moment_of_a_fill_wins() {
    // In the order of a fill: before the answer's head, after it, in the middle of the body, and
    // before its last byte. What only the answer shows is purged by its tag.
    for (moment, sent_before) in [(0, 0), (1, 0), (2, 4), (3, 7)] {
        let (pieces, reply) = Reply::live("text/plain");
        let gate = Gate::closed();
        let reply = reply
            .with("cache-control", "max-age=600")
            .with("surrogate-key", "shop")
            .declaring(8)
            .held_by(&gate);
        let first = Mutex::new(Some(reply));
        let upstream = Upstream::start(move |_| {
            let first = first.lock().expect("no panic").take();
            first.unwrap_or_else(|| {
                Reply::bytes("anew....")
                    .with("cache-control", "max-age=600")
                    .with("surrogate-key", "shop")
            })
        })
        .await;
        let server = Arc::new(Server::start(Setup::in_front_of(&upstream)).await);
        let asking = {
            let server = Arc::clone(&server);
            tokio::spawn(
                async move { Reading::of(server.client().request(Method::GET, "/page")).await },
            )
        };
        let begun = || async { (upstream.calls() == 1).then_some(()) };
        eventually("the fill is under way", begun).await;
        if moment == 0 {
            purge(&server, &json!({ "tags": ["shop"] })).await;
        }
        gate.open();
        let mut reading = asking.await.expect("a head");
        let (before, after) = b"older...".split_at(sent_before);
        if !before.is_empty() {
            pieces.send(Ok(before.into())).expect("it is read");
            reading.expect(before).await;
        }
        if moment > 0 {
            purge(&server, &json!({ "tags": ["shop"] })).await;
        }
        pieces.send(Ok(after.into())).expect("it is read");
        drop(pieces);
        reading.rest().await.expect("the rest");
        let next = server.client().get("/page").await;
        assert_eq!(next.body, "anew....", "moment {moment}: {}", next.cache_status());
    }
}

#[tokio::test]
async fn at_the_bound_the_oldest_orders_fold_and_nothing_purged_comes_back() {
    let upstream = tagged().await;
    let bound = Setup::in_front_of(&upstream).config("[cache]\npurge_orders_max = 3");
    let mut server = Server::start(bound).await;
    for path in ["/a", "/b"] {
        warm(&server, path).await;
    }
    purge(&server, &json!({ "urls": ["/a"] })).await;
    for other in 0..5 {
        purge(&server, &json!({ "tags": [format!("other {other}")] })).await;
    }
    assert_eq!(server.stats().await["purge_orders"], 3);
    server.kill().await;
    let server = server.start_again().await;
    assert!(!is_hit(&server, "/a").await, "the order that was folded still holds");
    assert!(!is_hit(&server, "/b").await, "and more than it named");
    assert!(warm(&server, "/c").await.is_hit(), "what is fetched after is not touched");
}

#[tokio::test]
async fn the_commands_purge_and_inspect_what_a_server_has() {
    let upstream = tagged().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let hit = warm(&server, "/page").await;
    let key = hit.cache_status().split('"').nth(1).expect("a key").to_owned();
    let admin = server.admin.clone();
    let command = async |arguments: &[&str]| {
        run("cache-server", &[arguments, &["--admin", &admin]].concat()).await
    };
    let shown = command(&["inspect", &key]).await;
    assert!(shown.status.success(), "{}", shown.stderr);
    let url = format!("{}/page", upstream.url());
    for (name, value) in [
        ("key", key.as_str()),
        ("route", "http"),
        ("verdict", "alive"),
        ("url", &url),
        ("tags", "all, shop, page one"),
    ] {
        let line = format!("{name:<28}{value}");
        assert!(shown.stdout.lines().any(|shown| shown == line), "{line}\n{}", shown.stdout);
    }
    assert!(!shown.stdout.contains("answer 0"), "the body only if asked for");
    assert!(command(&["inspect", &key, "--body"]).await.stdout.ends_with("\nanswer 0 to /page\n"));
    let purged = command(&["purge", "--tag", "shop", "--url", "/other"]).await;
    assert!(purged.stdout.starts_with("Purged, as number "), "{}{}", purged.stdout, purged.stderr);
    assert!(!is_hit(&server, "/page").await);
    let wrong = command(&["purge", "--url", "mailto:a"]).await;
    assert_eq!(wrong.status.code(), Some(1));
    assert!(wrong.stderr.contains("no URL of an upstream"), "{}", wrong.stderr);
}

#[tokio::test]
async fn with_an_admin_token_only_who_shows_it_purges_and_inspects() {
    let upstream = tagged().await;
    let setup = Setup::in_front_of(&upstream).variable("CACHE_SERVER_ADMIN_TOKEN", "the-token");
    let server = Server::start(setup).await;
    let hit = warm(&server, "/page").await;
    let key = hit.cache_status().split('"').nth(1).expect("a key").to_owned();
    let everything = json!({ "everything": true });
    assert_eq!(order(&server, &everything).await.status.as_u16(), 401);
    let inspect = server.admin_client().get(&format!("/inspect/{key}")).await;
    assert_eq!(inspect.status.as_u16(), 401);
    assert!(is_hit(&server, "/page").await, "nothing was purged");
    let shown = server.admin_client().request(Method::POST, "/purge").bearer_auth("the-token");
    let shown = shown.body(everything.to_string());
    assert_eq!(Answer::of(shown).await.status.as_u16(), 200);
    assert!(!is_hit(&server, "/page").await);
}

#[tokio::test]
async fn a_purge_by_url_reaches_all_variants_and_all_tenants() {
    let upstream = Upstream::start(|_| {
        Reply::bytes("page")
            .with("cache-control", "public, max-age=600")
            .with("vary", "accept-language")
    })
    .await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let ask = |language: &'static str, credential: &'static str| {
        let request = server.client().request(Method::GET, "/page");
        Answer::of(request.header("accept-language", language).bearer_auth(credential))
    };
    for (language, credential) in [("en", "a"), ("de", "a"), ("en", "b")] {
        ask(language, credential).await;
        assert!(ask(language, credential).await.is_hit());
    }
    purge(&server, &json!({ "urls": ["/page"] })).await;
    for (language, credential) in [("en", "a"), ("de", "a"), ("en", "b")] {
        assert!(!ask(language, credential).await.is_hit(), "{language} {credential}");
    }
}

#[tokio::test]
async fn purge_as_a_method_is_for_those_alone_whom_the_config_names() {
    let upstream = tagged().await;
    let allowed = Setup::in_front_of(&upstream).config("[server]\npurge_from = [\"127.0.0.0/8\"]");
    let server = Server::start(allowed).await;
    let method = || Method::from_bytes(b"PURGE").unwrap();
    warm(&server, "/page").await;
    let calls = upstream.calls();
    let done = Answer::of(server.client().request(method(), "/page")).await;
    assert_eq!(done.status.as_u16(), 200);
    assert!(done.json()["sequence"].as_u64().is_some());
    assert_eq!(upstream.calls(), calls, "the upstream hears nothing of it");
    assert!(!is_hit(&server, "/page").await);
    warm(&server, "/page").await;
    let soft = server.client().request(method(), "/page").header("fastly-soft-purge", "1");
    assert_eq!(Answer::of(soft).await.status.as_u16(), 200);
    let stale = server.client().get("/page").await;
    assert!(stale.cache_status().contains("hit; ttl=-"), "{}", stale.cache_status());

    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let calls = upstream.calls();
    Answer::of(server.client().request(method(), "/page")).await;
    assert_eq!(upstream.calls(), calls + 1, "from others it is a method like any other");
}

#[tokio::test]
async fn who_may_purge_no_more_may_not_on_open_connections_either() {
    let upstream = tagged().await;
    let allowed = Setup::in_front_of(&upstream).config("[server]\npurge_from = [\"127.0.0.0/8\"]");
    let server = Server::start(allowed).await;
    let mut caller = Raw::open(&server.address).await;
    let calls = upstream.calls();
    let mut purges = async || {
        caller.send("PURGE /page HTTP/1.1\r\nhost: cache\r\n\r\n").await;
        caller.answer().await.head
    };
    assert!(purges().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(upstream.calls(), calls);
    let url = upstream.url();
    server
        .rewrite_config(&format!("[[upstream]]\nname = \"u\"\nurl = \"{url}\"\nprefix = \"/\"\n"));
    let applied = "cache_server_config_reloads_total{outcome=\"applied\"}";
    eventually("a reload", || async { (server.metric(applied).await > 0.0).then_some(()) }).await;
    purges().await;
    assert_eq!(upstream.calls(), calls + 1, "the upstream has it");
}

#[tokio::test]
async fn an_order_that_cannot_be_meant_is_refused_and_says_why() {
    let upstream = tagged().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    for (targets, status, code) in [
        (json!({}), 400, "purges-nothing"),
        (json!({ "keys": ["x"] }), 400, "no-key"),
        (json!({ "urls": ["mailto:a"] }), 400, "no-url"),
        (json!({ "urls": ["https://elsewhere.example/page"] }), 400, "no-url"),
        (json!({ "urls": [format!("http://{}/page", server.address)] }), 400, "no-url"),
        (json!({ "tag": ["x"] }), 400, "bad-body"),
        (json!({ "tags": vec!["x"; 10_001] }), 413, "purges-too-much"),
    ] {
        let answer = order(&server, &targets).await;
        let code_given = answer.json()["code"].clone();
        assert_eq!((answer.status.as_u16(), code_given), (status, json!(code)));
    }
}

#[tokio::test]
async fn a_route_and_a_request_tag_what_they_are_let_to() {
    let upstream = Upstream::saying(embedding(0.5)).await;
    let route = "[[route]]\ntags = [\"model:{model}\", \"team:{header:x-team}\", \"all\"]\n\
                 tags_from_request = true";
    let server = Server::start(Setup::in_front_of(&upstream).config(route)).await;
    let ask = || {
        let request = server.client().post(EMBEDDINGS, &question("tagged?"));
        Answer::of(request.header("x-team", "search").header("cache-server-tags", "mine, yours"))
    };
    let model = question("tagged?")["model"].as_str().unwrap().to_owned();
    for tag in [format!("model:{model}"), "team:search".into(), "all".into(), "yours".into()] {
        ask().await;
        assert!(ask().await.is_hit());
        purge(&server, &json!({ "tags": [tag] })).await;
        assert!(!ask().await.is_hit(), "{tag}");
    }
    assert!(upstream.received()[0].headers.get("cache-server-tags").is_none(), "ours alone");
}

#[tokio::test]
async fn what_is_confirmed_keeps_the_tags_of_the_request_that_fetched_it() {
    let upstream = plain::confirming("max-age=600").await;
    let route = "[[route]]\nendpoint = \"http\"\ntags_from_request = true";
    let server = Server::start(Setup::in_front_of(&upstream).config(route)).await;
    let tagged = server.client().request(Method::GET, "/page").header("cache-server-tags", "mine");
    Answer::of(tagged).await;
    server.client().get("/page").await;
    assert!(is_hit(&server, "/page").await, "it was confirmed");
    purge(&server, &json!({ "tags": ["mine"] })).await;
    assert!(!is_hit(&server, "/page").await);
}

#[tokio::test]
async fn what_many_have_had_confirmed_with_tags_of_their_own_is_fetched_once_they_are_too_many() {
    let upstream = plain::confirming("no-cache").await;
    let route = "[[route]]\nendpoint = \"http\"\ntags_from_request = true";
    let server = Server::start(Setup::in_front_of(&upstream).config(route)).await;
    let mut in_vain = 0;
    for number in 0..100 {
        let tagged = server.client().request(Method::GET, "/page");
        let answer = Answer::of(tagged.header("cache-server-tags", format!("mine-{number}"))).await;
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"page"[..]));
        in_vain += usize::from(answer.cache_status().contains("too-many-tags"));
    }
    assert_eq!(in_vain, 1);
    let asked_about = upstream.received();
    let whole = asked_about.iter().filter(|one| !plain::is_conditional(one));
    assert_eq!(whole.count(), 2, "the first, and one once there are 64");
}

#[tokio::test]
async fn older_entries_of_an_alias_become_stale_when_another_model_answers() {
    let calls = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| {
        let mut answer = embedding(0.5);
        let count = calls.fetch_add(1, Ordering::Relaxed);
        answer["model"] = json!(if count < 2 { "model-of-may" } else { "model-of-june" });
        Reply::json(&answer)
    })
    .await;
    let rule = "[[route]]\nsoft_purge_on_model_change = true";
    let server = Server::start(Setup::in_front_of(&upstream).config(rule)).await;
    let ask = |text: &'static str| async {
        let question = question(text);
        server.client().ask(EMBEDDINGS, &question).await
    };
    ask("one").await;
    ask("two").await;
    assert!(ask("one").await.cache_status().contains("hit; ttl=6"));
    ask("three").await;
    let older = ask("one").await;
    assert!(older.cache_status().contains("hit; ttl=-"), "{}", older.cache_status());
    let newer = ask("three").await;
    assert!(!newer.cache_status().contains("ttl=-"), "{}", newer.cache_status());
}

#[tokio::test]
async fn an_answer_of_another_model_that_was_purged_while_it_was_fetched_answers_nobody() {
    let gate = Arc::new(Gate::closed());
    let held = Arc::clone(&gate);
    let upstream = plain::upstream_by_call(move |count, _| {
        let mut answer = embedding(0.5);
        answer["model"] = json!(if count == 0 { "model-of-may" } else { "model-of-june" });
        let reply = Reply::json(&answer).with("surrogate-key", "shop");
        if count == 1 { reply.held_by(&held) } else { reply }
    })
    .await;
    let rule = "[[route]]\nsoft_purge_on_model_change = true";
    let server = Server::start(Setup::in_front_of(&upstream).config(rule)).await;
    let (one, two) = (question("one"), question("two"));
    server.client().ask(EMBEDDINGS, &one).await;
    let client = server.client();
    let asked = client.ask(EMBEDDINGS, &two);
    let purged = async {
        eventually("it is asked", || async { (upstream.calls() == 2).then_some(()) }).await;
        purge(&server, &json!({ "tags": ["shop"] })).await;
        gate.open();
    };
    tokio::join!(asked, purged);
    assert!(!server.client().ask(EMBEDDINGS, &two).await.is_hit());
}

#[tokio::test]
async fn an_entry_is_shown_with_all_that_is_known_of_it_but_its_body() {
    let upstream = tagged().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let hit = warm(&server, "/page").await;
    let status = hit.cache_status();
    let key = status.split("key=\"").nth(1).unwrap().split('"').next().unwrap();
    let shown = server.admin_client().get(&format!("/inspect/{key}")).await.json();
    assert_eq!(shown["key"], key);
    assert_eq!(shown["route"], "http");
    assert_eq!(shown["tenant"], "anonymous");
    assert_eq!(shown["status"], 200);
    assert_eq!(shown["verdict"], "alive");
    assert_eq!(shown["tags"], json!(["all", "shop", "page one"]));
    assert_eq!(shown["tiers"][0], "memory");
    assert_eq!(shown["body"], Value::Null);
    let with_body = server.admin_client().get(&format!("/inspect/{key}?body=true")).await.json();
    assert_eq!(with_body["body"], "answer 0 to /page");
    purge(&server, &json!({ "everything": true })).await;
    let shown = server.admin_client().get(&format!("/inspect/{key}")).await.json();
    assert_eq!(shown["verdict"], "dead");
    let none = server.admin_client().get(&format!("/inspect/ks1_{}", "0".repeat(64))).await;
    assert_eq!((none.status.as_u16(), none.json()["code"].clone()), (404, json!("no-such-entry")));
}
