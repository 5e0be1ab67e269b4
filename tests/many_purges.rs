//! Purges on servers that are one cache: an order given on one of them holds on all, whatever
//! happens to messages, connections, servers and Redis on the way.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use black_box_tests::plain::{self, text};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::server::run;
use black_box_tests::servers::{Press, all_of, cached, is_fresh, nobody_gives, printed, spread};
use black_box_tests::upstream::Gate;
use black_box_tests::{
    Answer, Cluster, Manner, Redis, Relay, Reply, Server, Setup, Upstream, eventually,
};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

/// A message takes a few milliseconds, and a busy machine many more.
const SOON: Duration = Duration::from_millis(900);
/// Without a message all ask twice a second.
const AT_LATEST: Duration = Duration::from_millis(1500);
/// A connection is made again within a second or two.
const AFTER_AN_OUTAGE: Duration = Duration::from_secs(6);

fn url_purge(path: &str) -> Value {
    json!({ "urls": [path] })
}

/// A Redis, and three servers on it.
async fn three(press: &Press) -> (Redis, [Server; 3]) {
    let redis = Redis::start().await;
    let url = redis.url();
    let servers = all_of(["a", "b", "c"].map(|name| press.member(&url, name))).await;
    (redis, servers)
}

/// A Redis, one server on it, and another that has a relay on its way there.
async fn two_by_relay(press: &Press, more: impl Fn(Setup) -> Setup) -> (Redis, Relay, [Server; 2]) {
    let redis = Redis::start().await;
    let relay = Relay::to(&redis.address()).await;
    let near = more(press.member(&redis.url(), "near"));
    let far = more(press.member(&relay.url(), "far"));
    (redis, relay, all_of([near, far]).await)
}

fn cut_off(relay: &Relay) {
    relay.will(Manner::Refuse);
    relay.cut();
}

/// Waits until the orders in Redis are so many or more.
async fn has_orders(redis: &Redis, count: i64) {
    eventually(&format!("{count} orders in Redis"), || async {
        let orders = redis.call(&["ZCARD", "cache-server:{purges}:orders"]).await;
        (orders.number() >= count).then_some(())
    })
    .await;
}

/// Sees that these servers stop giving edition 0 of a page in time after `since`.
async fn forgotten(servers: &[&Server], path: &str, since: Instant, within: Duration) {
    let old = printed(0, path);
    let took = join_all(servers.iter().map(|server| server.gave(path, &old, since))).await;
    for (server, took) in took.into_iter().enumerate() {
        assert!(took <= within, "{path} was given by server {server} for {took:?}");
    }
    nobody_gives(servers, path, &old).await;
}

/// One way to purge a page.
enum Order {
    Targets(Value),
    Command(Vec<String>),
    Request(&'static str, &'static [(&'static str, &'static str)]),
}

impl Order {
    async fn give(&self, server: &Server, path: &str) {
        match self {
            Order::Targets(targets) => server.purge(targets).await,
            Order::Command(words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let all = [&["purge"], &words[..], &["--admin", &server.admin]].concat();
                let ended = run("cache-server", &all).await;
                assert!(ended.status.success(), "{}", ended.stderr);
            }
            Order::Request(method, fields) => {
                let method = Method::from_bytes(method.as_bytes()).expect("a method");
                let answer = plain::ask(&server.client(), method, path, fields).await;
                assert_eq!(answer.status, 200, "{}", text(&answer));
            }
        }
    }
}

/// Every way to purge the page at this path, whose key is this.
fn orders(way: usize, path: &str, key: &str) -> Option<(&'static str, Order)> {
    let order = match way {
        0 => ("key", Order::Targets(json!({ "keys": [key] }))),
        1 => ("tag", Order::Targets(json!({ "tags": [path] }))),
        2 => ("URL", Order::Targets(url_purge(path))),
        3 => ("route", Order::Targets(json!({ "routes": ["http"] }))),
        4 => ("tenant", Order::Targets(json!({ "tenants": ["anonymous"] }))),
        5 => ("everything", Order::Targets(json!({ "everything": true }))),
        6 => ("soft", Order::Targets(json!({ "tags": [path], "soft": true }))),
        7 => ("command", Order::Command(vec!["--tag".into(), path.into()])),
        8 => ("PURGE", Order::Request("PURGE", &[])),
        9 => ("soft PURGE", Order::Request("PURGE", &[("fastly-soft-purge", "1")])),
        10 => ("DELETE", Order::Request("DELETE", &[])),
        _ => return None,
    };
    Some(order)
}

fn key_of(answer: &Answer) -> String {
    let key = answer.cache_status().split("key=\"").nth(1).and_then(|rest| rest.split('"').next());
    key.unwrap_or_else(|| panic!("no key: {}", answer.cache_status())).to_owned()
}

#[tokio::test]
async fn every_kind_of_purge_that_is_given_on_one_server_holds_on_all() {
    let (press, redis) = (Press::start().await, Redis::start().await);
    let setup = |name: &str| {
        let setup = press.member(&redis.url(), name);
        setup.config("[server]\npurge_from = [\"127.0.0.0/8\"]")
    };
    let servers = all_of(["a", "b", "c"].map(setup)).await;
    let all: Vec<&Server> = servers.iter().collect();
    for way in 0.. {
        let path = format!("/way/{way}");
        let key = key_of(&spread(&all, &path).await);
        let Some((name, order)) = orders(way, &path, &key) else { break };
        // Each of them is the one in turn.
        let ordering = all[way % all.len()];
        order.give(ordering, &path).await;
        let acknowledged = Instant::now();
        let there = cached(&ordering.client(), &path).await;
        assert!(!is_fresh(&there, &printed(0, &path)), "{name}: {}", there.cache_status());
        forgotten(&all, &path, acknowledged, SOON).await;
    }
}

#[tokio::test]
async fn an_order_reaches_the_new_master_behind_a_name_also_where_no_entry_is_written() {
    let press = Press::start().await;
    let master = Redis::start().await;
    let copy = Redis::replica_of(&master).await;
    let relay = Relay::to(&master.address()).await;
    let [server] = all_of([press.member(&relay.url(), "a")]).await;
    let address = copy.address();
    let (host, port) = address.rsplit_once(':').expect("a host and a port");
    copy.call(&["REPLICAOF", "NO", "ONE"]).await;
    master.call(&["REPLICAOF", host, port]).await;
    relay.leads_to(&address);
    server.purge(&url_purge("/page")).await;
    has_orders(&copy, 1).await;
}

#[tokio::test]
async fn most_purges_are_heard_of_by_a_message_and_not_by_asking() {
    const PAGES: usize = 30;
    let press = Press::start().await;
    let (_redis, [one, other, _]) = three(&press).await;
    let mut took = Vec::new();
    for page in 0..PAGES {
        let path = format!("/page/{page}");
        spread(&[&one, &other], &path).await;
        one.purge(&url_purge(&path)).await;
        took.push(other.gave(&path, &printed(0, &path), Instant::now()).await);
    }
    took.sort();
    // Of those that ask twice a second, half would need more than a quarter of a second.
    let median = took[PAGES / 2];
    assert!(median < Duration::from_millis(150), "half of them took {median:?} or more: {took:?}");
}

#[tokio::test]
async fn a_model_that_changes_on_one_server_makes_older_entries_stale_on_all() {
    let is_june = Arc::new(AtomicBool::new(false));
    let june = Arc::clone(&is_june);
    let upstream = Upstream::start(move |_| {
        let mut answer = embedding(0.5);
        let model = if june.load(Ordering::SeqCst) { "model-of-june" } else { "model-of-may" };
        answer["model"] = json!(model);
        Reply::json(&answer)
    })
    .await;
    let redis = Redis::start().await;
    let setup = |name: &str| {
        let rule = "[[route]]\nsoft_purge_on_model_change = true";
        Setup::member(&upstream, &redis.url(), name).config(rule)
    };
    let [one, other] = all_of(["one", "other"].map(setup)).await;
    // Both know who answers to this name.
    one.client().ask(EMBEDDINGS, &question("one")).await;
    one.has_written(1).await;
    other.client().ask(EMBEDDINGS, &question("other")).await;
    let older = async || other.client().ask(EMBEDDINGS, &question("one")).await;
    eventually("the older entry there", || async { older().await.is_hit().then_some(()) }).await;
    assert!(older().await.ttl_s() > 0);
    is_june.store(true, Ordering::SeqCst);
    one.client().ask(EMBEDDINGS, &question("another")).await;
    let (changed, may) = (Instant::now(), "model-of-may");
    eventually("stale or newer", || async {
        let sent = changed.elapsed();
        let answer = older().await;
        let is_old = answer.is_hit() && answer.ttl_s() > 0 && answer.json()["model"] == may;
        assert!(!is_old || sent < AT_LATEST, "given as fresh after {sent:?}");
        (!is_old).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_was_on_its_way_to_another_server_during_a_purge_is_kept_by_nobody() {
    let gate = Arc::new(Gate::closed());
    let (holds, asked) = (Arc::clone(&gate), std::sync::Mutex::new(BTreeSet::new()));
    let upstream = Upstream::start(move |received| {
        let path = received.uri.path().to_owned();
        let is_first = asked.lock().expect("no panic").insert(path.clone());
        let reply = Reply::bytes(printed(usize::from(!is_first), &path))
            .with("cache-control", "max-age=600")
            .with("surrogate-key", &format!("all {path}"));
        if is_first { reply.held_by(&holds) } else { reply }
    })
    .await;
    let redis = Redis::start().await;
    let setups = ["a", "b", "c"].map(|name| Setup::member(&upstream, &redis.url(), name));
    let servers = all_of(setups).await;
    let [one, other, _] = &servers;
    let paths = ["/by/url", "/by/tag", "/by/everything"];
    let callers = paths.map(|path| {
        let client = other.client();
        tokio::spawn(async move { client.get(path).await })
    });
    eventually("all are under way", || async { (upstream.calls() == 3).then_some(()) }).await;
    one.purge(&url_purge(paths[0])).await;
    one.purge(&json!({ "tags": [paths[1]] })).await;
    one.purge(&json!({ "everything": true })).await;
    let acknowledged = Instant::now();
    gate.open();
    for (caller, path) in callers.into_iter().zip(paths) {
        assert_eq!(text(&caller.await.expect("an answer")), printed(0, path), "who waited has it");
    }
    let all: Vec<&Server> = servers.iter().collect();
    // What comes late comes in this time: all ask again and again, and nobody has it at its end.
    eventually("the end of it", || async {
        for (server, path) in all.iter().flat_map(|server| paths.map(|path| (server, path))) {
            cached(&server.client(), path).await;
        }
        (acknowledged.elapsed() > AT_LATEST).then_some(())
    })
    .await;
    for path in paths {
        nobody_gives(&all, path, &printed(0, path)).await;
        for server in &all {
            assert_eq!(text(&server.client().get(path).await), printed(1, path));
        }
    }
}

#[tokio::test]
async fn a_purge_whose_message_is_lost_holds_within_a_second_all_the_same() {
    let press = Press::start().await;
    let (redis, relay, [near, far]) = two_by_relay(&press, |setup| setup).await;
    for round in 0..6 {
        let path = format!("/page/{round}");
        spread(&[&near, &far], &path).await;
        if round % 2 == 0 {
            relay.will(Manner::LoseMessages);
        } else {
            relay.will(Manner::Pass);
            redis.call(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        }
        near.purge(&url_purge(&path)).await;
        forgotten(&[&near, &far], &path, Instant::now(), AT_LATEST).await;
    }
}

#[tokio::test]
async fn a_server_that_was_down_during_a_purge_heeds_it_from_its_first_answer_on() {
    let press = Press::start().await;
    let (redis, [mut one, mut other, mut third]) = three(&press).await;
    for path in ["/page", "/alive"] {
        spread(&[&one, &other, &third], path).await;
    }
    // What it has in memory is on its disk then.
    other.stop().await;
    third.kill().await;
    one.purge(&url_purge("/page")).await;
    one.kill().await;
    let fresh = Server::start(press.member(&redis.url(), "fresh"));
    let (other, third, fresh) = tokio::join!(other.start_again(), third.start_again(), fresh);
    for server in [&other, &third, &fresh] {
        nobody_gives(&[server], "/page", &printed(0, "/page")).await;
        let alive = cached(&server.client(), "/alive").await;
        assert!(is_fresh(&alive, &printed(0, "/alive")), "{}", alive.cache_status());
    }
}

#[tokio::test]
async fn servers_that_lose_their_data_folders_still_heed_all_purges() {
    let press = Press::start().await;
    let (_redis, servers) = three(&press).await;
    let all: Vec<&Server> = servers.iter().collect();
    for path in ["/before", "/while", "/alive"] {
        spread(&all, path).await;
    }
    let [mut one, other, mut third] = servers;
    one.purge(&url_purge("/before")).await;
    third.kill().await;
    other.purge(&url_purge("/while")).await;
    one.kill().await;
    for server in [&one, &third] {
        std::fs::remove_dir_all(server.data_dir()).expect("it had one");
    }
    let (one, third) = tokio::join!(one.start_again(), third.start_again());
    for path in ["/before", "/while"] {
        nobody_gives(&[&one, &other, &third], path, &printed(0, path)).await;
    }
    for server in [&one, &third] {
        let alive = cached(&server.client(), "/alive").await;
        assert!(is_fresh(&alive, &printed(0, "/alive")), "{}", alive.cache_status());
    }
    // What it orders itself from now on is behind all that was.
    spread(&[&third, &one, &other], "/after").await;
    third.purge(&url_purge("/after")).await;
    forgotten(&[&one, &other, &third], "/after", Instant::now(), SOON).await;
}

/// Cuts a server off, purges on another what it has, and asks it while it connects again.
async fn cut_off_and_back(is_noticed: impl AsyncFn(&Server)) {
    let press = Press::start().await;
    let (_redis, relay, [near, far]) = two_by_relay(&press, |setup| setup).await;
    for round in 0..5 {
        // One is in its memory, and the other in Redis alone.
        let (held, shared) = (format!("/held/{round}"), format!("/shared/{round}"));
        spread(&[&near, &far], &held).await;
        near.shares(&shared).await;
        cut_off(&relay);
        is_noticed(&far).await;
        for path in [&held, &shared] {
            near.purge(&url_purge(path)).await;
        }
        let acknowledged = Instant::now();
        let witness = format!("/witness/{round}");
        near.shares(&witness).await;
        let client = far.client();
        relay.will(Manner::Pass);
        let restored = Instant::now();
        eventually("something from Redis", || async {
            for _ in 0..20 {
                let (sent, back) = (acknowledged.elapsed(), restored.elapsed());
                let answer = cached(&client, &shared).await;
                let status = answer.cache_status();
                let when = format!("{sent:?} after the order, {back:?} after the outage");
                assert!(!answer.is_hit(), "round {round}, {when}: {status}");
            }
            cached(&client, &witness).await.is_hit().then_some(())
        })
        .await;
        // Orders are read before anything else of Redis.
        nobody_gives(&[&far], &held, &printed(0, &held)).await;
        nobody_gives(&[&far], &shared, &printed(0, &shared)).await;
    }
}

#[tokio::test]
async fn a_server_that_was_away_reads_what_it_missed_before_it_reads_entries() {
    cut_off_and_back(async |far| {
        eventually("it is noticed", || async {
            (far.redis().await["state"] == "down").then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_away_for_a_moment_reads_what_it_missed_before_it_reads_entries() {
    cut_off_and_back(async |_| ()).await;
}

#[tokio::test]
async fn a_purge_outlives_the_loss_of_all_that_redis_had() {
    let press = Press::start().await;
    let (redis, servers) = three(&press).await;
    let all: Vec<&Server> = servers.iter().collect();
    for path in ["/page", "/later"] {
        spread(&all, path).await;
    }
    let [one, other, mut third] = servers;
    third.stop().await;
    one.purge(&url_purge("/page")).await;
    let acknowledged = Instant::now();
    redis.call(&["FLUSHALL"]).await;
    forgotten(&[&one, &other], "/page", acknowledged, AT_LATEST).await;
    // They tell Redis again.
    has_orders(&redis, 1).await;
    let third = third.start_again().await;
    nobody_gives(&[&one, &other, &third], "/page", &printed(0, "/page")).await;
    // And all goes on as before.
    third.purge(&url_purge("/later")).await;
    forgotten(&[&one, &other, &third], "/later", Instant::now(), AT_LATEST).await;
    spread(&[&one, &other, &third], "/new").await;
    assert_eq!(calls_for(&press, "/new"), 1, "entries are shared as before");
}

#[tokio::test]
async fn a_purge_outlives_a_redis_that_is_restarted_empty() {
    let press = Press::start().await;
    let (mut redis, servers) = three(&press).await;
    let all: Vec<&Server> = servers.iter().collect();
    spread(&all, "/page").await;
    let [one, mut other, mut third] = servers;
    third.stop().await;
    one.purge(&url_purge("/page")).await;
    forgotten(&[&one, &other], "/page", Instant::now(), SOON).await;
    redis.kill().await;
    redis.start_again().await;
    has_orders(&redis, 1).await;
    // The one that had given the order need not be there any more.
    other.stop().await;
    let (other, third) = tokio::join!(other.start_again(), third.start_again());
    nobody_gives(&[&one, &other, &third], "/page", &printed(0, "/page")).await;
    spread(&[&third, &one, &other], "/new").await;
    assert_eq!(calls_for(&press, "/new"), 1, "entries are shared as before");
}

#[tokio::test]
async fn a_purge_that_is_given_while_redis_is_away_reaches_all_when_it_is_back() {
    let press = Press::start().await;
    let (mut redis, servers) = three(&press).await;
    let all: Vec<&Server> = servers.iter().collect();
    for path in ["/first", "/second", "/alive"] {
        spread(&all, path).await;
    }
    let [mut one, other, third] = servers;
    redis.kill().await;
    let began = Instant::now();
    one.purge(&url_purge("/first")).await;
    // A second, and a factor of several.
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
    other.purge(&url_purge("/second")).await;
    nobody_gives(&[&one], "/first", &printed(0, "/first")).await;
    nobody_gives(&[&other], "/second", &printed(0, "/second")).await;
    // The one that gave the order is not the same process any more when Redis is back.
    one.kill().await;
    let one = one.start_again().await;
    redis.start_again().await;
    let back = Instant::now();
    forgotten(&[&one, &other, &third], "/first", back, AFTER_AN_OUTAGE).await;
    forgotten(&[&one, &other, &third], "/second", back, AFTER_AN_OUTAGE).await;
    let alive = cached(&third.client(), "/alive").await;
    assert!(is_fresh(&alive, &printed(0, "/alive")), "{}", alive.cache_status());
}

#[tokio::test]
async fn a_purge_on_a_server_that_is_cut_off_reaches_the_others_when_it_is_connected_again() {
    let press = Press::start().await;
    let (_redis, relay, [near, far]) = two_by_relay(&press, |setup| setup).await;
    for path in ["/here", "/there"] {
        spread(&[&near, &far], path).await;
    }
    cut_off(&relay);
    far.purge(&url_purge("/here")).await;
    near.purge(&url_purge("/there")).await;
    nobody_gives(&[&far], "/here", &printed(0, "/here")).await;
    relay.will(Manner::Pass);
    let back = Instant::now();
    for path in ["/here", "/there"] {
        forgotten(&[&near, &far], path, back, AFTER_AN_OUTAGE).await;
    }
}

fn calls_for(press: &Press, path: &str) -> usize {
    let received = press.upstream.received();
    received.iter().filter(|received| received.uri.path() == path).count()
}

#[tokio::test]
async fn what_is_fetched_after_a_purge_is_shared_like_everything_else() {
    let press = Press::start().await;
    let (redis, servers) = three(&press).await;
    let all: Vec<&Server> = servers.iter().collect();
    for (round, targets) in [
        url_purge("/page"),
        json!({ "tags": ["all"] }),
        json!({ "everything": true }),
        json!({ "tags": ["/page"], "soft": true }),
    ]
    .into_iter()
    .enumerate()
    {
        press.prints(round);
        all[0].client().get("/page").await;
        let old = printed(round, "/page");
        for server in &all {
            let client = server.client();
            eventually("the entry there", || async {
                is_fresh(&client.get("/page").await, &old).then_some(())
            })
            .await;
        }
        press.prints(round + 1);
        all[0].purge(&targets).await;
        let acknowledged = Instant::now();
        for server in &all {
            server.gave("/page", &old, acknowledged).await;
        }
        // All have heard: what one of them fetches now is for all of them.
        let written = all[1].written().await;
        let new = printed(round + 1, "/page");
        eventually("the new one", || async {
            is_fresh(&all[1].client().get("/page").await, &new).then_some(())
        })
        .await;
        eventually("it in Redis", || async { (all[1].written().await > written).then_some(()) })
            .await;
        let calls = press.upstream.calls();
        for server in &all {
            // What is stale is given once more while the new one is taken from Redis.
            eventually("the new one everywhere", || async {
                is_fresh(&server.client().get("/page").await, &new).then_some(())
            })
            .await;
        }
        assert_eq!(press.upstream.calls(), calls, "{targets}");
        let cold = Server::start(press.member(&redis.url(), "cold")).await;
        let answer = cold.client().get("/page").await;
        assert!(is_fresh(&answer, &new), "{targets}: {}", answer.cache_status());
        assert_eq!(press.upstream.calls(), calls, "{targets}");
    }
}

#[tokio::test]
async fn entries_are_given_for_the_coherence_lifetime_without_contact_and_again_after_it() {
    const LIFETIME: Duration = Duration::from_secs(2);
    let press = Press::start().await;
    let (_redis, relay, [near, far]) =
        two_by_relay(&press, |setup| setup.redis("coherence_lifetime", "2s")).await;
    spread(&[&near, &far], "/page").await;
    cut_off(&relay);
    let cut = Instant::now();
    let first = cached(&far.client(), "/page").await;
    // The last contact was half a second before at most.
    if cut.elapsed() < LIFETIME / 2 {
        assert!(is_fresh(&first, &printed(0, "/page")), "{}", first.cache_status());
    }
    let given = far.gave("/page", &printed(0, "/page"), cut).await;
    assert!(given < LIFETIME + Duration::from_millis(500), "it was given for {given:?}");
    // What it fetches now lives as long.
    let stored = Instant::now();
    far.client().get("/own").await;
    let own = cached(&far.client(), "/own").await;
    if stored.elapsed() < LIFETIME / 2 {
        assert!(is_fresh(&own, &printed(0, "/own")), "{}", own.cache_status());
    }
    let given = far.gave("/own", &printed(0, "/own"), Instant::now()).await;
    assert!(given < LIFETIME + Duration::from_millis(500), "it was given for {given:?}");
    // The other has not noticed anything.
    assert!(is_fresh(&cached(&near.client(), "/page").await, &printed(0, "/page")));
    relay.will(Manner::Pass);
    for path in ["/page", "/own"] {
        eventually(&format!("{path} again"), || async {
            is_fresh(&cached(&far.client(), path).await, &printed(0, path)).then_some(())
        })
        .await;
    }
    assert_eq!(press.upstream.calls(), 2);
}

#[tokio::test]
async fn at_the_bound_of_orders_nothing_that_was_purged_comes_back_on_any_server() {
    let (press, redis) = (Press::start().await, Redis::start().await);
    let relay = Relay::to(&redis.address()).await;
    let setup =
        |url: &str, name: &str| press.member(url, name).config("[cache]\npurge_orders_max = 3");
    let setups = [
        setup(&redis.url(), "a"),
        setup(&redis.url(), "b"),
        setup(&relay.url(), "c"),
        setup(&redis.url(), "d"),
    ];
    let [one, other, cut, mut down] = all_of(setups).await;
    spread(&[&one, &other, &cut, &down], "/page").await;
    one.shares("/unread").await;
    down.stop().await;
    cut_off(&relay);
    one.purge(&url_purge("/page")).await;
    one.purge(&url_purge("/unread")).await;
    for number in 0..20 {
        one.purge(&json!({ "tags": [format!("other {number}")] })).await;
    }
    relay.will(Manner::Pass);
    let back = Instant::now();
    let fresh = Server::start(setup(&redis.url(), "fresh"));
    let (down, fresh) = tokio::join!(down.start_again(), fresh);
    for server in [&down, &fresh] {
        nobody_gives(&[server], "/page", &printed(0, "/page")).await;
        nobody_gives(&[server], "/unread", &printed(0, "/unread")).await;
    }
    forgotten(&[&one, &other, &cut, &down, &fresh], "/page", back, AFTER_AN_OUTAGE).await;
    nobody_gives(&[&one, &other, &cut, &down, &fresh], "/unread", &printed(0, "/unread")).await;
    let calls = press.upstream.calls();
    spread(&[&cut, &one, &other, &down, &fresh], "/new").await;
    assert_eq!(press.upstream.calls(), calls + 1, "what is fetched after is shared");
}

#[tokio::test]
async fn purges_hold_on_all_servers_of_a_cluster() {
    let (press, cluster) = (Press::start().await, Cluster::start().await);
    let setups = ["a", "b"].map(|name| press.member(&cluster.url(), name));
    let [one, mut other] = all_of(setups).await;
    for path in ["/first", "/second"] {
        spread(&[&one, &other], path).await;
    }
    one.purge(&url_purge("/first")).await;
    forgotten(&[&one, &other], "/first", Instant::now(), AT_LATEST).await;
    other.stop().await;
    one.purge(&url_purge("/second")).await;
    let other = other.start_again().await;
    nobody_gives(&[&one, &other], "/second", &printed(0, "/second")).await;
}
