//! Levers on servers that are one cache: one that is pulled or let go on any of them works on all,
//! whatever happens to messages, connections, servers and Redis on the way.

use std::time::{Duration, Instant};

use black_box_tests::servers::all_of;
use black_box_tests::{
    Answer, Cluster, Manner, Redis, Relay, Reply, Server, Setup, Upstream, eventually,
};
use http::Method;
use serde_json::{Value, json};

/// A message takes a few milliseconds, and without one all ask twice a second.
const AT_LATEST: Duration = Duration::from_millis(1500);
const LEVERS: &str = "cache-server:{purges}:overrides";

async fn pages() -> Upstream {
    Upstream::start(|_| Reply::bytes("a page").with("cache-control", "max-age=600")).await
}

fn members<const COUNT: usize>(
    upstream: &Upstream,
    url: &str,
    names: [&str; COUNT],
) -> [Setup; COUNT] {
    names.map(|name| Setup::member(upstream, url, name))
}

async fn three() -> (Upstream, Redis, [Server; 3]) {
    let (upstream, redis) = (pages().await, Redis::start().await);
    let servers = all_of(members(&upstream, &redis.url(), ["a", "b", "c"])).await;
    (upstream, redis, servers)
}

/// A Redis, one server on it, and another that has a relay on its way there.
async fn two_by_relay() -> (Upstream, Redis, Relay, [Server; 2]) {
    let (upstream, redis) = (pages().await, Redis::start().await);
    let relay = Relay::to(&redis.address()).await;
    let near = Setup::member(&upstream, &redis.url(), "near");
    let far = Setup::member(&upstream, &relay.url(), "far");
    let servers = all_of([near, far]).await;
    (upstream, redis, relay, servers)
}

fn cut_off(relay: &Relay) {
    relay.will(Manner::Refuse);
    relay.cut();
}

/// Pulls a lever for an hour that does nothing to anybody here, for this reason.
async fn pull(server: &Server, why: &str) -> Value {
    let lever = json!({
        "lever": "lifetimes", "factor": 2.5, "model": "gpt-4*", "for": "1h", "who": "kim", "why": why,
    });
    post(server, &lever).await
}

async fn post(server: &Server, lever: &Value) -> Value {
    let asked = server.admin_client().request(Method::POST, "/overrides");
    let answer = Answer::of(asked.body(lever.to_string())).await;
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

async fn list(server: &Server) -> Vec<Value> {
    let listed = server.admin_client().get("/overrides").await.json();
    listed.as_array().expect("a list").clone()
}

/// The reasons of what is pulled on this server.
async fn reasons(server: &Server) -> Vec<String> {
    let listed = list(server).await;
    let mut reasons: Vec<String> =
        listed.iter().map(|pulled| pulled["why"].as_str().expect("a reason").to_owned()).collect();
    reasons.sort();
    reasons
}

/// Lets the lever go on this server that was pulled for this reason.
async fn let_go(server: &Server, why: &str) {
    let listed = list(server).await;
    let pulled = listed.iter().find(|pulled| pulled["why"] == why).expect("it is pulled here");
    let path = format!("/overrides/{}", pulled["id"]);
    let answer = Answer::of(server.admin_client().request(Method::DELETE, &path)).await;
    assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
}

/// Waits until these reasons, in order, are those of what is pulled on each of these servers.
async fn all_have(servers: &[&Server], expected: &[&str]) {
    for server in servers {
        eventually(&format!("{expected:?} on all servers"), || async {
            (reasons(server).await == expected).then_some(())
        })
        .await;
    }
}

/// Sees again and again that these are on each of these servers.
async fn all_keep(servers: &[&Server], expected: &[&str]) {
    for server in servers {
        for _ in 0..10 {
            assert_eq!(reasons(server).await, expected);
        }
    }
}

/// Waits until so many levers are in Redis.
async fn redis_has(redis: &Redis, count: usize) {
    eventually(&format!("{count} levers in Redis"), || async {
        let fields = redis.call(&["HKEYS", LEVERS]).await.list();
        (fields.iter().filter(|field| field.text() != "version").count() == count).then_some(())
    })
    .await;
}

async fn is_bypassed(server: &Server) -> bool {
    server.client().get("/page").await.cache_status().ends_with("detail=override-bypass")
}

/// Waits until requests to this server go past the cache, or do not any more. How long after `since`
/// the last was sent that did otherwise.
async fn turned(server: &Server, expected: bool, since: Instant) -> Duration {
    let last = std::cell::Cell::new(Duration::ZERO);
    eventually(&format!("a bypass: {expected}"), || async {
        let sent = since.elapsed();
        let is_turned = is_bypassed(server).await == expected;
        if !is_turned {
            last.set(sent);
        }
        is_turned.then_some(())
    })
    .await;
    last.get()
}

#[tokio::test]
async fn a_lever_that_is_pulled_on_one_server_works_on_all_until_it_is_let_go_on_any() {
    let (_upstream, _redis, servers) = three().await;
    let bypass = json!({"lever": "bypass", "for": "1h", "who": "kim", "why": "wrong answers"});
    for turn in 0..3 {
        post(&servers[turn], &bypass).await;
        let pulled = Instant::now();
        assert!(is_bypassed(&servers[turn]).await, "there at once");
        for server in &servers {
            let took = turned(server, true, pulled).await;
            assert!(took < AT_LATEST, "it took {took:?}");
        }
        let_go(&servers[(turn + 1) % 3], "wrong answers").await;
        let gone = Instant::now();
        for server in &servers {
            let took = turned(server, false, gone).await;
            assert!(took < AT_LATEST, "it took {took:?}");
        }
    }
}

#[tokio::test]
async fn all_servers_tell_the_same_of_a_lever() {
    let (_upstream, _redis, servers) = three().await;
    let mut pulled = pull(&servers[0], "the budget is spent").await;
    let left = |lever: &mut Value| {
        lever["left_s"].take().as_u64().unwrap_or_else(|| panic!("no time left: {lever}"))
    };
    assert!((3500..=3600).contains(&left(&mut pulled)));
    for server in &servers {
        all_have(&[server], &["the budget is spent"]).await;
        let mut told = list(server).await.remove(0);
        assert!((3500..=3600).contains(&left(&mut told)));
        assert_eq!(told, pulled);
    }
}

#[tokio::test]
async fn levers_that_are_pulled_at_the_same_time_are_all_pulled_and_told_apart() {
    let (_upstream, redis, servers) = three().await;
    let all: Vec<&Server> = servers.iter().collect();
    let reasons = ["a", "b", "c"];
    let pulls = servers.iter().zip(reasons).flat_map(|(server, why)| {
        (0..5).map(move |number| async move { pull(server, &format!("{why}{number}")).await })
    });
    let pulled = futures_util::future::join_all(pulls).await;
    let numbers: std::collections::BTreeSet<u64> =
        pulled.iter().map(|lever| lever["id"].as_u64().expect("a number")).collect();
    assert_eq!(numbers.len(), 15, "{numbers:?}");
    let mut expected: Vec<String> =
        reasons.iter().flat_map(|why| (0..5).map(move |n| format!("{why}{n}"))).collect();
    let texts = |all: &[String]| all.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    for server in &all {
        eventually("all of them", || async {
            (texts(&self::reasons(server).await) == texts(&expected)).then_some(())
        })
        .await;
    }
    redis_has(&redis, 15).await;
    // Each goes alone.
    let_go(all[2], "a0").await;
    expected.remove(0);
    for server in &all {
        eventually("all but one", || async {
            (texts(&self::reasons(server).await) == texts(&expected)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_lever_reverts_by_itself_on_all_servers() {
    let (_upstream, _redis, servers) = three().await;
    let short = json!({"lever": "bypass", "for": "3s", "who": "kim", "why": "for a moment"});
    let began = Instant::now();
    post(&servers[0], &short).await;
    for server in &servers {
        eventually("the lever, or its end", || async {
            (!list(server).await.is_empty() || began.elapsed() > Duration::from_secs(3))
                .then_some(())
        })
        .await;
    }
    for server in &servers {
        turned(server, false, began).await;
        assert!(list(server).await.is_empty());
    }
    assert!(began.elapsed() > Duration::from_millis(2900), "not before its time");
}

#[tokio::test]
async fn a_server_that_was_down_takes_over_what_is_pulled_and_forgets_what_was_let_go() {
    let (upstream, redis, servers) = three().await;
    let all: Vec<&Server> = servers.iter().collect();
    pull(&servers[0], "old").await;
    pull(&servers[1], "kept").await;
    all_have(&all, &["kept", "old"]).await;
    let [one, other, mut third] = servers;
    third.stop().await;
    let_go(&other, "old").await;
    pull(&one, "new").await;
    all_have(&[&one, &other], &["kept", "new"]).await;
    let fresh = Server::start(Setup::member(&upstream, &redis.url(), "fresh"));
    let (third, fresh) = tokio::join!(third.start_again(), fresh);
    all_have(&[&third, &fresh], &["kept", "new"]).await;
    all_keep(&[&one, &other, &third, &fresh], &["kept", "new"]).await;
    // And without the others and Redis, as it has them on its disk.
    drop((one, other, redis));
    let mut third = third;
    third.kill().await;
    let third = third.start_again().await;
    all_keep(&[&third], &["kept", "new"]).await;
}

#[tokio::test]
async fn servers_that_were_cut_off_from_each_other_agree_when_they_meet_again() {
    let (_upstream, _redis, relay, [near, far]) = two_by_relay().await;
    for why in ["kept", "let go far", "let go near"] {
        pull(&near, why).await;
    }
    all_have(&[&near, &far], &["kept", "let go far", "let go near"]).await;
    cut_off(&relay);
    let began = Instant::now();
    pull(&far, "pulled far").await;
    let_go(&far, "let go far").await;
    // A second each, and a factor of several.
    assert!(began.elapsed() < Duration::from_secs(6), "it took {:?}", began.elapsed());
    pull(&near, "pulled near").await;
    let_go(&near, "let go near").await;
    all_keep(&[&far], &["kept", "let go near", "pulled far"]).await;
    all_keep(&[&near], &["kept", "let go far", "pulled near"]).await;
    relay.will(Manner::Pass);
    all_have(&[&near, &far], &["kept", "pulled far", "pulled near"]).await;
    all_keep(&[&near, &far], &["kept", "pulled far", "pulled near"]).await;
}

#[tokio::test]
async fn levers_that_are_pulled_while_redis_is_away_reach_all_when_it_is_back() {
    let (_upstream, mut redis, servers) = three().await;
    let all: Vec<&Server> = servers.iter().collect();
    pull(&servers[0], "old").await;
    all_have(&all, &["old"]).await;
    let [mut one, other, third] = servers;
    redis.kill().await;
    pull(&one, "new").await;
    let_go(&other, "old").await;
    // Neither is the same process any more when Redis is back, and Redis has lost all it had.
    one.kill().await;
    let one = one.start_again().await;
    let mut other = other;
    other.kill().await;
    let other = other.start_again().await;
    redis.start_again().await;
    all_have(&[&one, &other, &third], &["new"]).await;
    all_keep(&[&one, &other, &third], &["new"]).await;
}

#[tokio::test]
async fn the_loss_of_all_that_redis_had_lets_go_of_no_lever() {
    let (upstream, mut redis, servers) = three().await;
    let all: Vec<&Server> = servers.iter().collect();
    for why in ["first", "let go", "second"] {
        pull(&servers[0], why).await;
    }
    all_have(&all, &["first", "let go", "second"]).await;
    let_go(&servers[2], "let go").await;
    all_have(&all, &["first", "second"]).await;
    for round in 0..4 {
        if round < 3 {
            redis.call(&["FLUSHALL"]).await;
        } else {
            redis.kill().await;
            redis.start_again().await;
        }
        // They tell Redis again, also of what was let go.
        eventually("them in Redis", || async {
            all_keep(&all[..1], &["first", "second"]).await;
            let count = redis.call(&["HLEN", LEVERS]).await.number();
            (count >= 4).then_some(())
        })
        .await;
        all_keep(&all, &["first", "second"]).await;
    }
    let fresh = Server::start(Setup::member(&upstream, &redis.url(), "fresh")).await;
    all_have(&[&fresh], &["first", "second"]).await;
    // And all goes on as before.
    let_go(&fresh, "first").await;
    all_have(&all, &["second"]).await;
}

#[tokio::test]
async fn what_was_let_go_comes_back_with_nobody_who_was_away_when_redis_has_lost_it() {
    let (_upstream, redis, servers) = three().await;
    let all: Vec<&Server> = servers.iter().collect();
    pull(&servers[0], "old").await;
    all_have(&all, &["old"]).await;
    let [mut one, other, mut third] = servers;
    third.stop().await;
    let_go(&other, "old").await;
    all_have(&[&one], &[]).await;
    one.stop().await;
    redis.call(&["FLUSHALL"]).await;
    let (one, third) = tokio::join!(one.start_again(), third.start_again());
    all_have(&[&third], &[]).await;
    all_keep(&[&one, &other, &third], &[]).await;
}

#[tokio::test]
async fn what_is_no_lever_in_redis_harms_nobody() {
    let (_upstream, redis, servers) = three().await;
    let all: Vec<&Server> = servers.iter().collect();
    pull(&servers[0], "first").await;
    all_have(&all, &["first"]).await;
    let far = "9999999999999";
    let long = "x".repeat(200_000);
    for (field, value) in [
        ("", ""),
        ("x", "y"),
        ("-1", "1|"),
        ("12", "no bar"),
        ("13", &format!("{far}|{{}}")),
        ("14", &format!("{far}|{{\"id\":14,\"lever\":\"explode\"}}")),
        ("15", &format!("{far}|{long}")),
        ("99999999999999999999999", &format!("{far}|")),
        ("\u{ff}\u{0}", "\u{1}"),
    ] {
        redis.call(&["HSET", LEVERS, field, value]).await;
    }
    // They are read with the next that is one.
    pull(&servers[1], "second").await;
    all_have(&all, &["first", "second"]).await;
    redis.call(&["DEL", LEVERS]).await;
    redis.call(&["SET", LEVERS, "no hash"]).await;
    servers[0].purge(&json!({ "urls": ["/page"] })).await;
    all_keep(&all, &["first", "second"]).await;
    redis.call(&["DEL", LEVERS]).await;
    pull(&servers[2], "third").await;
    all_have(&all, &["first", "second", "third"]).await;
    for server in &all {
        server.is_ready("ready").await;
    }
}

#[tokio::test]
async fn what_is_over_in_redis_takes_no_place_of_what_is_pulled() {
    let (_upstream, redis, servers) = three().await;
    let all: Vec<&Server> = servers.iter().collect();
    pull(&servers[0], "first").await;
    all_have(&all, &["first"]).await;
    let numbers: Vec<String> = (1..=2500).map(|number: u32| number.to_string()).collect();
    let mut command = vec!["HSET", LEVERS];
    numbers.iter().for_each(|number| command.extend([number.as_str(), "1|"]));
    redis.call(&command).await;
    let_go(&servers[1], "first").await;
    all_have(&all, &[]).await;
    redis.call(&command).await;
    pull(&servers[1], "second").await;
    all_have(&all, &["second"]).await;
}

#[tokio::test]
async fn there_are_no_more_levers_on_all_servers_than_may_be_on_one() {
    let (_upstream, redis, relay, [near, far]) = two_by_relay().await;
    cut_off(&relay);
    // Together they have more than that.
    for number in 0..60 {
        pull(&near, &format!("near {number:02}")).await;
        pull(&far, &format!("far {number:02}")).await;
    }
    relay.will(Manner::Pass);
    redis_has(&redis, 120).await;
    eventually("a full list", || async {
        let (near, far) = (list(&near).await.len(), list(&far).await.len());
        assert!(near <= 100 && far <= 100, "{near} and {far}");
        (near >= 100 && far >= 100).then_some(())
    })
    .await;
    let asked = near.admin_client().request(Method::POST, "/overrides");
    let one_more = json!({"lever": "bypass", "for": "1h", "who": "kim", "why": "one more"});
    let refused = Answer::of(asked.body(one_more.to_string())).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["code"], "overrides-full");
    // Whatever each has of them, what is let go is gone on both.
    let of_near = reasons(&near).await;
    let common = reasons(&far).await.into_iter().find(|why| of_near.contains(why));
    let common = common.expect("one that both have");
    let_go(&far, &common).await;
    eventually("its end", || async { (!reasons(&near).await.contains(&common)).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_lever_for_a_tenant_that_others_do_not_know_is_theirs_too_and_does_nothing_there() {
    let (upstream, redis) = (pages().await, Redis::start().await);
    let digest = black_box_tests::credential_digest("sk-team").await;
    let tenant = format!("[[tenant]]\nname = \"team\"\ncredential_digests = [\"{digest}\"]");
    let [one, other] = members(&upstream, &redis.url(), ["one", "other"]);
    let [one, other] = all_of([one.config(&tenant), other]).await;
    let lever = json!({
        "lever": "bypass", "tenant": "team", "for": "1h", "who": "kim", "why": "for the team",
    });
    post(&one, &lever).await;
    pull(&one, "for all").await;
    all_have(&[&other], &["for all", "for the team"]).await;
    assert!(!is_bypassed(&other).await);
    let_go(&other, "for the team").await;
    all_have(&[&one], &["for all"]).await;
}

#[tokio::test]
async fn levers_that_were_pulled_before_there_were_others_are_shared_with_them() {
    let (upstream, redis) = (pages().await, Redis::start().await);
    let relay = Relay::to(&redis.address()).await;
    relay.will(Manner::Refuse);
    let [alone] = members(&upstream, &relay.url(), ["alone"]);
    let mut alone = Server::start(alone).await;
    pull(&alone, "first").await;
    alone.kill().await;
    let mut alone = alone.start_again().await;
    pull(&alone, "second").await;
    alone.stop().await;
    relay.will(Manner::Pass);
    let alone = alone.start_again().await;
    let [other] = members(&upstream, &redis.url(), ["other"]);
    let other = Server::start(other).await;
    all_have(&[&other, &alone], &["first", "second"]).await;
}

#[tokio::test]
async fn levers_work_on_all_servers_of_a_cluster() {
    let (upstream, cluster) = (pages().await, Cluster::start().await);
    let [one, other] = all_of(members(&upstream, &cluster.url(), ["a", "b"])).await;
    pull(&one, "first").await;
    pull(&other, "second").await;
    all_have(&[&one, &other], &["first", "second"]).await;
    let_go(&one, "second").await;
    all_have(&[&one, &other], &["first"]).await;
}
