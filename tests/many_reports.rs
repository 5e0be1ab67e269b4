//! What servers that are one cache say of it: to whom they speak, how far behind they are, what is wrong;
//! and what they need and refuse.

use std::time::Duration;

use black_box_tests::plain::text;
use black_box_tests::redis::Said;
use black_box_tests::servers::{Press, all_of, cached, is_fresh, printed, spread};
use black_box_tests::upstream::Gate;
use black_box_tests::{Answer, Manner, Redis, Relay, Reply, Server, Setup, Upstream, eventually};
use http::Method;
use serde_json::{Value, json};

const READY: &str = "ready";
/// What a server needs besides, as it is documented.
const RIGHTS: &str = "+getrange +set +eval +info +time +get +hmget +hset +hget +hgetall +hdel +zadd \
                      +zcard +zscore +zrangebyscore +zremrangebyscore +zpopmin +pexpire +pttl +del \
                      +publish +subscribe";

async fn coherence(server: &Server) -> Value {
    server.stats().await["coherence"].clone()
}

/// The names of the servers that this one sees.
async fn nodes(server: &Server) -> Vec<String> {
    let told = coherence(server).await;
    let nodes = told["nodes"].as_array().unwrap_or_else(|| panic!("no nodes: {told}"));
    let mut names: Vec<String> =
        nodes.iter().map(|node| node["name"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

async fn sees(server: &Server, expected: &[&str]) {
    eventually(&format!("the servers {expected:?}"), || async {
        let is_counted = is_about(server.metric("cache_server_nodes").await, expected.len());
        (is_counted && nodes(server).await == expected).then_some(())
    })
    .await;
}

fn is_about(value: f64, count: usize) -> bool {
    (value - f64::from(u32::try_from(count).expect("a few"))).abs() < 0.5
}

async fn three(press: &Press) -> (Redis, [Server; 3]) {
    let redis = Redis::start().await;
    let servers = all_of(["a", "b", "c"].map(|name| press.member(&redis.url(), name))).await;
    (redis, servers)
}

fn cut_off(relay: &Relay) {
    relay.will(Manner::Refuse);
    relay.cut();
}

#[tokio::test]
async fn each_server_tells_which_servers_there_are_and_forgets_those_that_are_gone() {
    let press = Press::start().await;
    let (_redis, [one, mut other, mut third]) = three(&press).await;
    for server in [&one, &other, &third] {
        sees(server, &["a", "b", "c"]).await;
    }
    let told = coherence(&one).await;
    assert_eq!(told["node"], "a");
    for node in told["nodes"].as_array().expect("nodes") {
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"), "{node}");
        assert!(node["seen_age_s"].as_u64().is_some_and(|age| age <= 10), "{node}");
        assert_eq!(node.as_object().map(serde_json::Map::len), Some(3), "{node}");
    }
    other.kill().await;
    third.stop().await;
    sees(&one, &["a"]).await;
}

#[tokio::test]
async fn all_that_is_said_of_sharing_has_its_name_and_its_form() {
    let press = Press::start().await;
    let (_redis, servers) = three(&press).await;
    let all: Vec<&Server> = servers.iter().collect();
    spread(&all, "/page").await;
    let told = coherence(all[0]).await;
    let mut names: Vec<&String> = told.as_object().expect("an object").keys().collect();
    names.sort();
    let expected =
        ["clock_offset_ms", "contact_age_s", "generation", "node", "nodes", "orders_behind"];
    assert_eq!(names, expected);
    assert_eq!((&told["contact_age_s"], &told["orders_behind"]), (&json!(0), &json!(0)), "{told}");
    assert!(told["clock_offset_ms"].as_i64().is_some_and(|ms| ms.abs() < 250), "{told}");
    assert!(told["generation"].as_str().is_some_and(|name| !name.is_empty()), "{told}");
    let metrics = all[0].admin_client().get("/metrics").await;
    for (name, kind) in [
        ("cache_server_leases_total", "counter"),
        ("cache_server_purge_orders_behind", "gauge"),
        ("cache_server_coherence_contact_age_seconds", "gauge"),
        ("cache_server_clock_offset_seconds", "gauge"),
        ("cache_server_nodes", "gauge"),
        ("cache_server_redis_write_drops_total", "counter"),
    ] {
        let line = format!("# TYPE {name} {kind}");
        assert!(text(&metrics).lines().any(|said| said == line), "no {line} in {}", text(&metrics));
        assert!(text(&metrics).contains(&format!("# HELP {name} ")), "no help for {name}");
    }
    for server in &all {
        assert!(server.metric("cache_server_clock_offset_seconds").await.abs() < 0.25);
        assert!(is_about(server.metric("cache_server_coherence_generations_total").await, 0));
    }
}

#[tokio::test]
async fn a_server_without_redis_says_nothing_of_others() {
    let press = Press::start().await;
    let server = Server::start(Setup::in_front_of(&press.upstream)).await;
    assert_eq!(coherence(&server).await, Value::Null);
    assert!(server.stats().await.as_object().expect("figures").contains_key("coherence"));
    assert_eq!(server.readiness().await, READY);
    assert!(is_about(server.metric("cache_server_nodes").await, 0));
}

#[tokio::test]
async fn a_server_that_has_no_name_of_its_own_has_that_of_its_host() {
    let press = Press::start().await;
    let redis = Redis::start().await;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let host: String = host.trim().chars().filter(is_plain).take(64).collect();
    let setup = || Setup::in_front_of(&press.upstream).sharing(&redis.url());
    let [one, other] = all_of([setup(), setup()]).await;
    assert_eq!(coherence(&one).await["node"], *host);
    // Two of one name are two.
    sees(&one, &[&host, &host]).await;
    spread(&[&one, &other], "/page").await;
    assert_eq!(press.upstream.calls(), 1);
}

#[tokio::test]
async fn servers_of_one_name_fetch_together_all_the_same() {
    let gate = std::sync::Arc::new(Gate::closed());
    let holds = std::sync::Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        Reply::bytes("a page").with("cache-control", "max-age=600").held_by(&holds)
    })
    .await;
    let redis = Redis::start().await;
    let setup = || Setup::member(&upstream, &redis.url(), "same");
    let [one, other] = all_of([setup(), setup()]).await;
    let ask = |server: &Server| {
        let client = server.client();
        tokio::spawn(async move { client.get("/page").await })
    };
    let first = ask(&one);
    eventually("its call", || async { (upstream.calls() == 1).then_some(()) }).await;
    let second = ask(&other);
    other.has_lost(1).await;
    gate.open();
    assert!(!first.await.expect("an answer").is_hit());
    assert!(second.await.expect("an answer").is_hit());
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_server_that_is_cut_off_says_for_how_long_and_what_the_others_do_not_know() {
    let (press, redis) = (Press::start().await, Redis::start().await);
    let relay = Relay::to(&redis.address()).await;
    let near = press.member(&redis.url(), "near");
    let [near, far] = all_of([near, press.member(&relay.url(), "far")]).await;
    let age =
        async |server: &Server| server.metric("cache_server_coherence_contact_age_seconds").await;
    assert!(age(&far).await < 2.0);
    cut_off(&relay);
    for number in 0..3 {
        far.purge(&json!({ "tags": [format!("tag {number}")] })).await;
    }
    assert_eq!(coherence(&far).await["orders_behind"], 3);
    assert!(is_about(far.metric("cache_server_purge_orders_behind").await, 3));
    eventually("a long time without contact", || async {
        let is_said = coherence(&far).await["contact_age_s"].as_u64().is_some_and(|age| age >= 2);
        (is_said && age(&far).await >= 2.0).then_some(())
    })
    .await;
    let said = far.readiness().await;
    assert!(said.starts_with("ready, degraded: redis is down ("), "{said}");
    assert!(!said.contains("not shared"), "{said}");
    near.is_ready(READY).await;
    assert!(is_about(near.metric("cache_server_purge_orders_behind").await, 0));
    relay.will(Manner::Pass);
    far.is_ready(READY).await;
    eventually("contact", || async {
        let told = coherence(&far).await;
        let is_known = told["contact_age_s"] == 0 && told["orders_behind"] == 0;
        let behind = far.metric("cache_server_purge_orders_behind").await;
        (is_known && age(&far).await < 1.0 && is_about(behind, 0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn each_server_counts_how_often_redis_had_lost_orders() {
    let press = Press::start().await;
    let (mut redis, servers) = three(&press).await;
    servers[0].purge(&json!({ "urls": ["/page"] })).await;
    let generation = async |server: &Server| coherence(server).await["generation"].clone();
    let lost =
        async |server: &Server| server.metric("cache_server_coherence_generations_total").await;
    for round in 0..3 {
        let before = generation(&servers[0]).await;
        for server in &servers {
            assert_eq!(generation(server).await, before);
            let lost = lost(server).await;
            assert!(is_about(lost, round), "{lost} in round {round}");
        }
        if round == 2 {
            redis.kill().await;
            redis.start_again().await;
        } else {
            redis.call(&["FLUSHALL"]).await;
        }
        eventually("another generation", || async {
            let new = generation(&servers[0]).await;
            let mut are_new = new != before;
            for server in &servers {
                are_new &= generation(server).await == new;
            }
            are_new.then_some(())
        })
        .await;
    }
}

/// A Redis with a user that has these rights on what is ours, and its URL for that user.
async fn with_user(rights: &str) -> (Redis, String) {
    let redis = Redis::start().await;
    let words = ["ACL", "SETUSER", "cache", "reset", "on", ">word", "~cache-server:*", "-@all"];
    let all: Vec<&str> = words.into_iter().chain(rights.split_whitespace()).collect();
    redis.call(&all).await;
    let url = format!("redis://cache:word@{}", redis.address());
    (redis, url)
}

async fn grant(redis: &Redis, right: &str) {
    redis.call(&["ACL", "SETUSER", "cache", right]).await;
}

/// What Redis has refused to anybody. That the name of the client's library is refused is no matter.
async fn refused(redis: &Redis) -> Vec<String> {
    let log = redis.call(&["ACL", "LOG"]).await.list();
    let object = |entry: Said| {
        let parts = entry.list();
        let name = parts.iter().position(|part| *part == Said::Bytes(b"object".into()));
        parts[name.expect("what was refused") + 1].text()
    };
    log.into_iter().map(object).filter(|object| !object.starts_with("client")).collect()
}

#[tokio::test]
async fn a_user_with_the_rights_that_are_documented_is_refused_nothing() {
    let (redis, url) = with_user(&format!("{RIGHTS} &cache-server:*")).await;
    let press = Press::start().await;
    let [one, other] = all_of(["a", "b"].map(|name| press.member(&url, name))).await;
    // Entries, flights and their ends, purges, levers, what was let go, and a loss of all of it.
    for round in 0..2 {
        let path = format!("/page/{round}");
        spread(&[&one, &other], &path).await;
        let together = format!("/together/{round}");
        let callers = [&one, &other].map(|server| {
            let (client, path) = (server.client(), together.clone());
            tokio::spawn(async move { client.get(&path).await })
        });
        for caller in callers {
            assert_eq!(caller.await.expect("an answer").status, 200);
        }
        for targets in [json!({ "urls": [path] }), json!({ "everything": true })] {
            one.purge(&targets).await;
            other.gave(&path, &printed(0, &path), std::time::Instant::now()).await;
        }
        let lever = json!({"lever": "negative-off", "for": "1h", "who": "kim", "why": "a test"});
        let pulled = Answer::of(
            one.admin_client().request(Method::POST, "/overrides").body(lever.to_string()),
        );
        let path = format!("/overrides/{}", pulled.await.json()["id"]);
        let levers = async || other.admin_client().get("/overrides").await.json();
        eventually("the lever", || async { (levers().await != json!([])).then_some(()) }).await;
        let let_go = Answer::of(other.admin_client().request(Method::DELETE, &path)).await;
        assert_eq!(let_go.status, 204);
        redis.call(&["FLUSHALL"]).await;
        eventually("orders in Redis", || async {
            let orders = redis.call(&["ZCARD", "cache-server:{purges}:orders"]).await;
            (orders.number() > 0).then_some(())
        })
        .await;
    }
    sees(&one, &["a", "b"]).await;
    for server in [&one, &other] {
        server.is_ready(READY).await;
        assert!(is_about(server.leases("failed").await, 0));
    }
    let refused = refused(&redis).await;
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn a_user_who_may_not_run_scripts_is_told_of_and_nobody_waits_for_it() {
    let rights = RIGHTS.replace("+eval ", "");
    let (redis, url) = with_user(&format!("{rights} &cache-server:*")).await;
    let press = Press::start().await;
    let one = Server::start(press.member(&url, "a")).await;
    let said = eventually("what is wrong", || async {
        let said = one.readiness().await;
        said.contains("purge orders are not shared (no-permission)").then_some(said)
    })
    .await;
    assert!(said.starts_with("ready, degraded: "), "{said}");
    // It serves as if it were alone.
    for number in 0..20 {
        let path = format!("/page/{number}");
        assert_eq!(text(&one.client().get(&path).await), printed(0, &path));
        assert!(one.client().get(&path).await.is_hit());
    }
    one.purge(&json!({ "urls": ["/page/1"] })).await;
    assert!(!is_fresh(&cached(&one.client(), "/page/1").await, &printed(0, "/page/1")));
    let logged = one.log();
    let lines = logged.lines().filter(|line| line.contains("purge orders are not shared"));
    assert_eq!(lines.count(), 1, "{logged}");
    // And it shares as soon as it may.
    grant(&redis, "+eval").await;
    one.is_ready(READY).await;
    let other = Server::start(press.member(&url, "b")).await;
    spread(&[&one, &other], "/shared").await;
    assert_eq!(coherence(&one).await["orders_behind"], 0);
}

#[tokio::test]
async fn where_messages_are_forbidden_others_hear_of_a_purge_by_asking() {
    let rights = RIGHTS.replace("+subscribe", "");
    let (_redis, url) = with_user(&format!("{rights} &cache-server:*")).await;
    let press = Press::start().await;
    let [one, other] = all_of(["a", "b"].map(|name| press.member(&url, name))).await;
    for round in 0..3 {
        let path = format!("/page/{round}");
        spread(&[&one, &other], &path).await;
        one.purge(&json!({ "urls": [path] })).await;
        let took = other.gave(&path, &printed(0, &path), std::time::Instant::now()).await;
        assert!(took < Duration::from_millis(1500), "it took {took:?}");
    }
}

#[tokio::test]
async fn what_is_no_record_of_orders_in_redis_is_told_of_and_lost_when_it_is_gone() {
    let press = Press::start().await;
    let (redis, servers) = three(&press).await;
    let all: Vec<&Server> = servers.iter().collect();
    spread(&all, "/page").await;
    all[0].purge(&json!({ "urls": ["/page"] })).await;
    for name in ["cache-server:{purges}:orders", "cache-server:{purges}:meta"] {
        // In one step: they write there all the time.
        redis.call(&["SET", name, "no record"]).await;
        for server in &all {
            server.is_ready("ready, degraded: purge orders are not shared (foreign)").await;
        }
        redis.call(&["DEL", name]).await;
        for server in &all {
            server.is_ready(READY).await;
        }
    }
    // They have told it again.
    let fresh = Server::start(press.member(&redis.url(), "fresh")).await;
    assert!(!is_fresh(&cached(&fresh.client(), "/page").await, &printed(0, "/page")));
    spread(&[&fresh, all[0], all[1]], "/shared").await;
}

#[tokio::test]
async fn names_and_lifetimes_that_make_no_sense_are_refused() {
    let check = async |line: &str| {
        Server::check(&format!("[redis]\nurl = \"redis://localhost\"\n{line}\n")).await
    };
    let long = "x".repeat(65);
    for name in ["", "two words", "a/b", "ä", "a|b", "{a}", "a\\tb", &long] {
        let ended = check(&format!("node = \"{name}\"")).await;
        assert_eq!(ended.status.code(), Some(2), "{name}: {}", ended.stdout);
        assert!(ended.stderr.contains("redis.node"), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains("1 to 64"), "{name}: {}", ended.stderr);
    }
    for name in ["a", "A.b_c-9", &long[..64]] {
        let ended = check(&format!("node = \"{name}\"")).await;
        assert!(ended.status.success(), "{name}: {}", ended.stderr);
    }
    for lifetime in ["0s", "999ms", "31days", "30days 1s"] {
        let ended = check(&format!("coherence_lifetime = \"{lifetime}\"")).await;
        assert_eq!(ended.status.code(), Some(2), "{lifetime}: {}", ended.stdout);
        assert!(ended.stderr.contains("coherence_lifetime"), "{lifetime}: {}", ended.stderr);
    }
    for lifetime in ["1s", "10m", "30days"] {
        let ended = check(&format!("coherence_lifetime = \"{lifetime}\"")).await;
        assert!(ended.status.success(), "{lifetime}: {}", ended.stderr);
    }
    for line in ["shared_flights = \"perhaps\"", "shared_flights = 2"] {
        let ended = check(line).await;
        assert_eq!(ended.status.code(), Some(2), "{line}: {}", ended.stdout);
        assert!(ended.stderr.contains("a boolean"), "{line}: {}", ended.stderr);
    }
    let upstream = Upstream::of_pages().await;
    let setup = Setup::member(&upstream, "redis://localhost", "two words");
    let (status, said) = Server::run_to_end(setup).await;
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("CACHE_SERVER_REDIS_NODE") || said.contains("redis.node"), "{said}");
}
