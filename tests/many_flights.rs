//! Servers that are one cache fetch a key once for all of them; and whoever dies, stops, leaves or is
//! slow meanwhile keeps nobody waiting for longer than is said.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use black_box_tests::plain::{self, text};
use black_box_tests::sample::{CHAT, chat, events, recorded};
use black_box_tests::servers::{all_of, cached};
use black_box_tests::upstream::{Gate, Received, cut};
use black_box_tests::{
    Answer, Client, Cluster, Manner, PATIENCE, Raw, Reading, Redis, Relay, Reply, Server, Setup,
    Upstream, eventually,
};
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use tokio::sync::RwLock;
use tokio::task::{JoinHandle, JoinSet};

/// A wait of a route that nobody knows ends after five seconds; what ends before this was not that.
const AT_ONCE: Duration = Duration::from_millis(2500);
const UNKNOWN_ROUTE: Duration = Duration::from_secs(5);

/// An upstream that numbers its answers to each path, and holds back the first to each of those below
/// `/held`.
struct Numbering {
    upstream: Upstream,
    paths: Arc<Paths>,
}

/// How often each path was asked for, and what holds its first answer.
type Paths = Mutex<HashMap<String, (usize, Arc<Gate>)>>;

/// What is behind this path, and of which answer it is the turn now.
fn turn(paths: &Paths, path: &str) -> (usize, Arc<Gate>) {
    let mut paths = paths.lock().expect("no panic");
    let (next, gate) =
        paths.entry(path.to_owned()).or_insert_with(|| (0, Arc::new(Gate::closed())));
    *next += 1;
    (*next - 1, Arc::clone(gate))
}

fn numbered(number: usize, path: &str) -> String {
    format!("answer {number} of {path}")
}

impl Numbering {
    async fn start() -> Numbering {
        Numbering::by(|number, path| {
            Reply::bytes(numbered(number, path)).with("cache-control", "max-age=600")
        })
        .await
    }

    async fn by(reply: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Numbering {
        let paths = Arc::<Paths>::default();
        let asked = Arc::clone(&paths);
        let upstream = Upstream::start(move |received| {
            let path = received.uri.path();
            let (number, gate) = turn(&asked, path);
            let (reply, is_held) = (reply(number, path), number == 0 && path.starts_with("/held"));
            if is_held { reply.held_by(&gate) } else { reply }
        });
        Numbering { upstream: upstream.await, paths }
    }

    /// Lets the first answer to this path out, which is under way.
    fn lets_out(&self, path: &str) {
        let paths = self.paths.lock().expect("no panic");
        paths.get(path).expect("it was asked for").1.open();
    }

    fn calls_for(&self, path: &str) -> usize {
        calls_for(&self.upstream, path)
    }

    async fn has_calls(&self, path: &str, count: usize) {
        eventually(&format!("{count} calls for {path}"), || async {
            (self.calls_for(path) >= count).then_some(())
        })
        .await;
    }

    fn members<const COUNT: usize>(&self, url: &str, names: [&str; COUNT]) -> [Setup; COUNT] {
        names.map(|name| Setup::member(&self.upstream, url, name))
    }
}

fn calls_for(upstream: &Upstream, path: &str) -> usize {
    let is_one = |received: &&Received| received.uri.path() == path;
    upstream.received().iter().filter(is_one).count()
}

/// A Redis, and three servers on it in front of such an upstream.
async fn three() -> (Numbering, Redis, [Server; 3]) {
    let (numbering, redis) = (Numbering::start().await, Redis::start().await);
    let servers = all_of(numbering.members(&redis.url(), ["a", "b", "c"])).await;
    (numbering, redis, servers)
}

/// A caller under way: its answer, and how long it took.
type Caller = JoinHandle<(Answer, Duration)>;

fn asking_with(client: &Client, path: &str, fields: &'static [(&str, &str)]) -> Caller {
    let (client, path, began) = (client.clone(), path.to_owned(), Instant::now());
    tokio::spawn(async move {
        let answer = plain::ask(&client, Method::GET, &path, fields).await;
        (answer, began.elapsed())
    })
}

fn asking(server: &Server, path: &str) -> Caller {
    asking_with(&server.client(), path, &[])
}

fn many_asking(server: &Server, path: &str, count: usize) -> Vec<Caller> {
    let client = server.client();
    (0..count).map(|_| asking_with(&client, path, &[])).collect()
}

async fn answered(callers: impl IntoIterator<Item = Caller>) -> Vec<(Answer, Duration)> {
    let answers = tokio::time::timeout(PATIENCE, join_all(callers)).await.expect("all in time");
    answers.into_iter().map(|answer| answer.expect("an answer")).collect()
}

/// Who asks for it on this server has the lease, and waits for the upstream.
async fn owning(server: &Server, numbering: &Numbering, path: &str) -> Caller {
    let caller = asking(server, path);
    numbering.has_calls(path, 1).await;
    caller
}

/// Many ask for it on this server while another has the lease, and wait for that one.
async fn all_joining(server: &Server, path: &str, count: usize) -> Vec<Caller> {
    let lost = server.leases("lost").await;
    let callers = many_asking(server, path, count);
    eventually("a lease that is another's", || async {
        (server.leases("lost").await > lost).then_some(())
    })
    .await;
    callers
}

/// One asks.
async fn joining(server: &Server, path: &str) -> Caller {
    all_joining(server, path, 1).await.pop().expect("a caller")
}

fn assert_from_redis(answer: &Answer) {
    let status = answer.cache_status();
    assert!(status.starts_with("cache-server; hit; "), "{status}");
    assert!(status.ends_with("; detail=redis"), "{status}");
}

fn is_about(value: f64, count: u32) -> bool {
    (value - f64::from(count)).abs() < 0.5
}

/// A metric of all servers together.
async fn sum(of: impl AsyncFn(&Server) -> f64, servers: &[&Server]) -> f64 {
    let mut sum = 0.0;
    for server in servers {
        sum += of(server).await;
    }
    sum
}

#[tokio::test]
async fn ninety_callers_on_three_servers_cost_one_upstream_call() {
    let (numbering, _redis, [one, other, third]) = three().await;
    let path = "/held/page";
    let mut on_owner = vec![owning(&one, &numbering, path).await];
    on_owner.extend(many_asking(&one, path, 29));
    let mut elsewhere = all_joining(&other, path, 30).await;
    elsewhere.extend(all_joining(&third, path, 30).await);
    for server in [&one, &other, &third] {
        server.misses_looked_up(30).await;
    }
    numbering.lets_out(path);
    for (answer, _) in answered(on_owner).await {
        assert_eq!(text(&answer), numbered(0, path));
    }
    for (answer, _) in answered(elsewhere).await {
        assert_eq!(text(&answer), numbered(0, path));
        assert_from_redis(&answer);
    }
    assert_eq!(numbering.calls_for(path), 1);
    let all = [&one, &other, &third];
    assert!(is_about(one.leases("won").await, 1));
    assert!(is_about(sum(async |server| server.leases("won").await, &all).await, 1));
    for server in [&other, &third] {
        assert!(is_about(server.lease_waits("stored").await, 1));
        // Whoever waits for longer than a lease lives looks whether there is one still.
        let waited = server.metric("cache_server_lease_wait_seconds_count").await;
        assert!(waited > 0.5, "{waited}");
    }
    assert!(is_about(one.lease_waits("stored").await, 0));
}

#[tokio::test]
async fn who_is_first_by_a_hair_fetches_for_all() {
    let (numbering, redis, servers) = three().await;
    // With eight, waits would be as short as those fetches were.
    for round in 0..7 {
        let path = format!("/page/{round}");
        // Some come while the answer is on its way to Redis, or just there.
        let callers = servers.iter().map(|server| many_asking(server, &path, 10 + round));
        for (answer, _) in answered(callers.flatten().collect::<Vec<_>>()).await {
            assert_eq!(text(&answer), numbered(0, &path), "{}", answer.cache_status());
        }
        assert_eq!(numbering.calls_for(&path), 1, "{path}");
    }
    // And nothing is left of the leases.
    eventually("no lease", || async { leases_in(&redis).await.is_empty().then_some(()) }).await;
}

/// The names of all leases.
async fn leases_in(redis: &Redis) -> Vec<String> {
    let keys = redis.all_keys().await;
    keys.into_iter().filter(|key| key.starts_with("cache-server:lease:")).collect()
}

#[tokio::test]
async fn a_lease_is_beside_the_value_and_ends_with_its_server() {
    let (numbering, redis, [mut one, other, _]) = three().await;
    let path = "/held/page";
    let caller = owning(&one, &numbering, path).await;
    let held = leases_in(&redis).await;
    let [lease] = &held[..] else { panic!("not one lease: {held:?}") };
    let name = lease.split(['{', '}']).nth(1).expect("the name of the value");
    for _ in 0..20 {
        let left = redis.call(&["PTTL", lease]).await.number();
        assert!((1..=2000).contains(&left), "{left} ms");
    }
    one.kill().await;
    caller.await.expect_err("its server is gone");
    let killed = Instant::now();
    eventually("its end", || async { leases_in(&redis).await.is_empty().then_some(()) }).await;
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
    other.client().get(path).await;
    other.has_written(1).await;
    assert_eq!(redis.only_key().await, name);
}

#[tokio::test]
async fn when_an_owner_is_killed_one_of_the_others_takes_over() {
    let (numbering, _redis, [mut one, other, third]) = three().await;
    let path = "/held/page";
    let gone = owning(&one, &numbering, path).await;
    let mut callers = all_joining(&other, path, 10).await;
    callers.extend(all_joining(&third, path, 10).await);
    one.kill().await;
    let killed = Instant::now();
    gone.await.expect_err("its server is gone");
    for (answer, _) in answered(callers).await {
        assert_eq!(text(&answer), numbered(1, path), "{}", answer.cache_status());
    }
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(4), "it took {took:?}");
    assert_eq!(numbering.calls_for(path), 2);
    let over = sum(async |server| server.leases("taken-over").await, &[&other, &third]).await;
    assert!(is_about(over, 1), "{over}");
}

#[tokio::test]
async fn what_an_owner_stores_after_its_lease_has_ended_takes_no_newer_ones_place() {
    let (numbering, redis, [one, other, third]) = three().await;
    for (round, wakes_first) in [(1, false), (2, true)] {
        let path = format!("/held/{round}");
        let late = owning(&one, &numbering, &path).await;
        let waits = joining(&other, &path).await;
        one.signal(libc::SIGSTOP);
        let stopped = Instant::now();
        let (answer, _) = waits.await.expect("an answer");
        assert_eq!(text(&answer), numbered(1, &path), "{}", answer.cache_status());
        assert!(stopped.elapsed() < Duration::from_secs(4), "{:?}", stopped.elapsed());
        other.has_written(round).await;
        if wakes_first {
            one.signal(libc::SIGCONT);
            one.is_ready("ready").await;
        }
        numbering.lets_out(&path);
        if !wakes_first {
            one.signal(libc::SIGCONT);
        }
        let (answer, _) = late.await.expect("an answer");
        assert_eq!(text(&answer), numbered(0, &path), "who has waited has it");
        eventually("what comes late is refused", || async {
            (one.redis_drops("fenced").await > f64::from(round) - 0.5).then_some(())
        })
        .await;
        let cold = Server::start(Setup::member(&numbering.upstream, &redis.url(), "cold")).await;
        for server in [&cold, &third] {
            let answer = server.client().get(&path).await;
            assert_eq!(text(&answer), numbered(1, &path), "{}", answer.cache_status());
            assert_from_redis(&answer);
        }
        assert_eq!(numbering.calls_for(&path), 2);
    }
}

#[tokio::test]
async fn when_redis_is_killed_in_mid_flight_each_server_goes_on_alone_at_once() {
    let (numbering, mut redis, [one, other, third]) = three().await;
    let path = "/held/page";
    let on_owner = owning(&one, &numbering, path).await;
    let mut callers = all_joining(&other, path, 10).await;
    callers.extend(all_joining(&third, path, 10).await);
    for server in [&other, &third] {
        server.misses_looked_up(10).await;
    }
    redis.kill().await;
    let killed = Instant::now();
    for (answer, _) in answered(callers).await {
        let text = text(&answer);
        assert!([numbered(1, path), numbered(2, path)].contains(&text.to_owned()), "{text}");
    }
    let took = killed.elapsed();
    assert!(took < AT_ONCE, "it took {took:?}");
    assert_eq!(numbering.calls_for(path), 3);
    numbering.lets_out(path);
    let opened = Instant::now();
    let (answer, _) = on_owner.await.expect("an answer");
    assert_eq!(text(&answer), numbered(0, path));
    assert!(opened.elapsed() < AT_ONCE, "it took {:?}", opened.elapsed());
    // Nothing waits for a Redis that is away.
    let asked = Instant::now();
    let alone = [&one, &other, &third].map(|server| asking(server, "/alone"));
    answered(alone).await;
    assert!(asked.elapsed() < AT_ONCE, "it took {:?}", asked.elapsed());
    assert_eq!(numbering.calls_for("/alone"), 3);
}

#[tokio::test]
async fn when_redis_falls_silent_in_mid_flight_nobody_waits_for_long() {
    let (numbering, redis) = (Numbering::start().await, Redis::start().await);
    let relay = Relay::to(&redis.address()).await;
    // As it is where nobody says anything.
    let far = Setup::member(&numbering.upstream, &relay.url(), "far")
        .redis("deadline", "50ms")
        .redis("write_deadline", "500ms");
    let [near, far] = all_of([Setup::member(&numbering.upstream, &redis.url(), "near"), far]).await;
    far.is_ready("ready").await;
    let path = "/held/page";
    let on_owner = owning(&near, &numbering, path).await;
    let waits = joining(&far, path).await;
    relay.will(Manner::Hold);
    let silent = Instant::now();
    let (answer, _) = waits.await.expect("an answer");
    let took = silent.elapsed();
    assert!(took < Duration::from_secs(4), "it took {took:?}");
    assert_eq!(text(&answer), numbered(1, path));
    numbering.lets_out(path);
    on_owner.await.expect("an answer");
}

#[tokio::test]
async fn a_wait_is_no_longer_than_most_fetches_of_its_route_take() {
    let (numbering, _redis, [one, other, third]) = three().await;
    for number in 0..10 {
        other.client().get(&format!("/quick/{number}")).await;
    }
    let path = "/held/page";
    let on_owner = owning(&one, &numbering, path).await;
    let knows_not = joining(&third, path).await;
    let (answer, took) = asking(&other, path).await.expect("an answer");
    assert_eq!(text(&answer), numbered(1, path), "{}", answer.cache_status());
    assert!(!answer.is_hit(), "{}", answer.cache_status());
    assert!(took < AT_ONCE, "it took {took:?}");
    assert!(is_about(other.lease_waits("timed-out").await, 1));
    // The one that knows nothing of the route waits on, and then it has the later of the two.
    other.has_written(11).await;
    numbering.lets_out(path);
    let (answer, _) = knows_not.await.expect("an answer");
    assert_eq!(text(&answer), numbered(1, path), "{}", answer.cache_status());
    assert_from_redis(&answer);
    assert!(is_about(third.lease_waits("stored").await, 1));
    on_owner.await.expect("an answer");
    assert_eq!(numbering.calls_for(path), 2);
}

#[tokio::test]
async fn a_route_that_nobody_knows_is_waited_for_for_five_seconds() {
    let (numbering, _redis, [one, other, _]) = three().await;
    let path = "/held/page";
    let on_owner = owning(&one, &numbering, path).await;
    let (answer, took) = asking(&other, path).await.expect("an answer");
    assert_eq!(text(&answer), numbered(1, path));
    assert!(took >= Duration::from_millis(4900), "it took {took:?}");
    assert!(took < UNKNOWN_ROUTE + AT_ONCE, "it took {took:?}");
    // All the while the owner has renewed its lease.
    assert!(is_about(other.leases("taken-over").await, 0));
    assert!(is_about(other.lease_waits("timed-out").await, 1));
    numbering.lets_out(path);
    on_owner.await.expect("an answer");
}

#[tokio::test]
async fn an_answer_that_is_for_nobody_else_lets_the_others_go_alone_at_once() {
    let numbering = Numbering::by(|number, path| {
        let reply = Reply::bytes(numbered(number, path));
        match path {
            "/held/failed" if number == 0 => reply.status(500),
            "/held/private" => reply.with("cache-control", "private, max-age=600"),
            "/held/not-stored" => reply.with("cache-control", "no-store"),
            _ => reply.with("cache-control", "max-age=600"),
        }
    })
    .await;
    let redis = Redis::start().await;
    let servers = all_of(numbering.members(&redis.url(), ["a", "b", "c"])).await;
    let [one, other, third] = &servers;
    for (round, case) in [(1, "failed"), (2, "private"), (3, "not-stored")] {
        let path = format!("/held/{case}");
        let on_owner = owning(one, &numbering, &path).await;
        let callers = [joining(other, &path).await, joining(third, &path).await];
        numbering.lets_out(&path);
        let told = Instant::now();
        for (answer, _) in answered(callers).await {
            assert_eq!(answer.status, 200);
            assert_ne!(text(&answer), numbered(0, &path), "{}", answer.cache_status());
        }
        assert!(told.elapsed() < AT_ONCE, "{case}: it took {:?}", told.elapsed());
        let (answer, _) = on_owner.await.expect("an answer");
        assert_eq!(text(&answer), numbered(0, &path));
        for server in [other, third] {
            assert!(is_about(server.lease_waits("unshared").await, round), "{case}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_was_cut_off_lets_the_others_go_alone_at_once() {
    let (length, whole) =
        ("openai-chat-completions/length.json", "openai-chat-completions/whole.json");
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let upstream = plain::upstream_by_call(move |number, _| {
        let reply = Reply::bytes(recorded(if number == 0 { length } else { whole }));
        let reply = reply.with("content-type", "application/json");
        if number == 0 { reply.held_by(&holds) } else { reply }
    })
    .await;
    let redis = Redis::start().await;
    let setups = ["a", "b"].map(|name| Setup::member(&upstream, &redis.url(), name));
    let [one, other] = all_of(setups).await;
    let ask = |server: &Server| {
        let client = server.client();
        tokio::spawn(async move { client.ask(CHAT, &chat(false)).await })
    };
    let on_owner = ask(&one);
    eventually("its call", || async { (upstream.calls() == 1).then_some(()) }).await;
    let waits = ask(&other);
    other.has_lost(1).await;
    gate.open();
    let told = Instant::now();
    let answer = waits.await.expect("an answer");
    assert_eq!(answer.body, recorded(whole), "{}", answer.cache_status());
    assert!(told.elapsed() < AT_ONCE, "it took {:?}", told.elapsed());
    assert_eq!(on_owner.await.expect("an answer").body, recorded(length));
    assert_eq!(upstream.calls(), 2);
}

/// An upstream whose first answer is sent by hand, with these fields, and whose others are `later`.
async fn by_hand(
    content_type: &str,
    fields: &[(&str, &str)],
    later: impl Fn() -> Reply + Send + Sync + 'static,
) -> (tokio::sync::mpsc::UnboundedSender<Result<bytes::Bytes, std::io::Error>>, Upstream) {
    let (live, reply) = Reply::live(content_type);
    let first = Mutex::new(Some(plain::with(reply, fields)));
    let upstream = Upstream::start(move |_| {
        let live = first.lock().expect("no panic").take();
        live.unwrap_or_else(&later)
    });
    (live, upstream.await)
}

#[tokio::test]
async fn what_is_not_to_be_stored_is_told_at_its_head_and_not_at_its_end() {
    let (live, upstream) =
        by_hand("text/plain", &[("cache-control", "no-store")], || Reply::bytes("another")).await;
    let redis = Redis::start().await;
    let setups = ["a", "b"].map(|name| Setup::member(&upstream, &redis.url(), name));
    let [one, other] = all_of(setups).await;
    let caller = one.client();
    let reading = tokio::spawn(async move { caller.get("/page").await });
    eventually("its call", || async { (upstream.calls() == 1).then_some(()) }).await;
    live.send(Ok("its beginning".into())).expect("the upstream reads");
    let (answer, took) = asking(&other, "/page").await.expect("an answer");
    assert_eq!(text(&answer), "another", "{}", answer.cache_status());
    assert!(took < AT_ONCE, "it took {took:?}");
    drop(live);
    assert_eq!(text(&reading.await.expect("an answer")), "its beginning");
}

#[tokio::test]
async fn an_answer_that_breaks_off_lets_the_others_go_alone_at_once() {
    let (live, upstream) = by_hand("text/plain", &[("cache-control", "max-age=600")], || {
        Reply::bytes("whole").with("cache-control", "max-age=600")
    })
    .await;
    let redis = Redis::start().await;
    let setups = ["a", "b"].map(|name| Setup::member(&upstream, &redis.url(), name));
    let [one, other] = all_of(setups).await;
    let mut owner = Raw::open(&one.address).await;
    owner.send("GET /page HTTP/1.1\r\nhost: cache\r\n\r\n").await;
    live.send(Ok("its beginning".into())).expect("the upstream reads");
    owner.head().await;
    let waits = joining(&other, "/page").await;
    live.send(cut()).expect("the upstream reads");
    let told = Instant::now();
    let (answer, _) = waits.await.expect("an answer");
    assert_eq!(text(&answer), "whole", "{}", answer.cache_status());
    assert!(told.elapsed() < AT_ONCE, "it took {:?}", told.elapsed());
    drop(live);
}

#[tokio::test]
async fn an_answer_that_all_its_callers_have_left_is_fetched_once_for_the_others() {
    let whole = || Reply::bytes("whole").with("cache-control", "max-age=600");
    let held = Arc::new(Gate::closed());
    let holds = Arc::clone(&held);
    let (live, upstream) =
        by_hand("text/plain", &[("cache-control", "max-age=600")], move || whole().held_by(&holds))
            .await;
    let redis = Redis::start().await;
    let cancels = "[[route]]\nendpoint = \"http\"\nwhen_nobody_reads = \"cancel\"";
    let setups =
        ["a", "b", "c"].map(|name| Setup::member(&upstream, &redis.url(), name).config(cancels));
    let [one, others @ ..] = all_of(setups).await;
    let mut owner = Raw::open(&one.address).await;
    owner.send("GET /page HTTP/1.1\r\nhost: cache\r\n\r\n").await;
    live.send(Ok("its beginning".into())).expect("the upstream reads");
    owner.head().await;
    let mut waiting = Vec::new();
    for other in &others {
        waiting.push(joining(other, "/page").await);
    }
    drop(owner);
    eventually("one fetches", || async { (upstream.calls() == 2).then_some(()) }).await;
    held.open();
    for (answer, _) in answered(waiting).await {
        assert_eq!(text(&answer), "whole", "{}", answer.cache_status());
    }
    assert_eq!(upstream.calls(), 2);
    drop(live);
}

#[tokio::test]
async fn who_waits_for_a_stream_on_another_server_gets_it_whole_when_it_is_stored() {
    let whole = recorded("openai-chat-completions/whole.sse");
    let parts = events(&whole);
    let (live, upstream) = by_hand("text/event-stream", &[], || Reply::bytes("").status(500)).await;
    let redis = Redis::start().await;
    let setups = ["a", "b"].map(|name| Setup::member(&upstream, &redis.url(), name));
    let [one, other] = all_of(setups).await;
    live.send(Ok(parts[0].clone())).expect("the upstream reads");
    let mut owner = Reading::of(one.client().post(CHAT, &chat(true))).await;
    owner.expect(&parts[0]).await;
    let client = other.client();
    let ask = || {
        let client = client.clone();
        tokio::spawn(async move { client.ask(CHAT, &chat(true)).await })
    };
    let followers = [ask(), ask(), ask()];
    other.has_lost(1).await;
    for part in &parts[1..] {
        live.send(Ok(part.clone())).expect("the upstream reads");
        owner.expect(part).await;
    }
    drop(live);
    assert_eq!(owner.rest().await.expect("a clean end"), "");
    for follower in followers {
        let answer = follower.await.expect("an answer");
        assert_eq!(answer.body, whole, "{}", answer.cache_status());
        assert_from_redis(&answer);
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn who_wants_it_afresh_waits_for_nobody() {
    let (numbering, _redis, [one, other, third]) = three().await;
    let path = "/held/page";
    let on_owner = owning(&one, &numbering, path).await;
    let afresh = &[("cache-control", "no-cache")];
    for (number, server) in [(1, &other), (2, &third)] {
        let (answer, took) = asking_with(&server.client(), path, afresh).await.expect("an answer");
        assert_eq!(text(&answer), numbered(number, path));
        assert!(took < AT_ONCE, "it took {took:?}");
        assert!(is_about(server.leases("lost").await + server.leases("won").await, 0));
    }
    numbering.lets_out(path);
    on_owner.await.expect("an answer");
}

#[tokio::test]
async fn where_flights_are_not_shared_each_server_fetches_for_itself() {
    let (numbering, redis) = (Numbering::start().await, Redis::start().await);
    let setups = numbering.members(&redis.url(), ["a", "b", "c"]);
    let [one, other, third] =
        all_of(setups.map(|setup| setup.redis("shared_flights", "false"))).await;
    let path = "/held/page";
    let on_owner = owning(&one, &numbering, path).await;
    for (number, server) in [(1, &other), (2, &third)] {
        let (answer, took) = asking(server, path).await.expect("an answer");
        // What the first of them has fetched is shared all the same.
        let text = text(&answer).to_owned();
        assert!(text == numbered(number, path) || text == numbered(1, path), "{text}");
        assert!(took < AT_ONCE, "it took {took:?}");
    }
    assert!(numbering.calls_for(path) >= 2);
    numbering.lets_out(path);
    on_owner.await.expect("an answer");
    for server in [&one, &other, &third] {
        assert!(is_about(server.leases("won").await + server.leases("lost").await, 0));
    }
}

#[tokio::test]
async fn a_caller_who_leaves_the_owner_takes_nothing_from_the_others() {
    let (numbering, _redis, [one, other, third]) = three().await;
    let path = "/held/page";
    let mut leaves = Raw::open(&one.address).await;
    leaves.send(format!("GET {path} HTTP/1.1\r\nhost: cache\r\n\r\n")).await;
    numbering.has_calls(path, 1).await;
    let callers = [joining(&other, path).await, joining(&third, path).await];
    drop(leaves);
    eventually("it is noticed", || async {
        (one.stats().await["connections_open"] == 0).then_some(())
    })
    .await;
    numbering.lets_out(path);
    for (answer, _) in answered(callers).await {
        assert_eq!(text(&answer), numbered(0, path));
        assert_from_redis(&answer);
    }
    assert_eq!(numbering.calls_for(path), 1);
}

#[tokio::test]
async fn who_leaves_while_waiting_takes_nothing_from_those_who_stay() {
    let (numbering, _redis, [one, other, _]) = three().await;
    let path = "/held/page";
    let on_owner = owning(&one, &numbering, path).await;
    let mut leaves = Raw::open(&other.address).await;
    leaves.send(format!("GET {path} HTTP/1.1\r\nhost: cache\r\n\r\n")).await;
    other.has_lost(1).await;
    let stays = asking(&other, path);
    other.misses_looked_up(2).await;
    drop(leaves);
    numbering.lets_out(path);
    let (answer, _) = stays.await.expect("an answer");
    assert_eq!(text(&answer), numbered(0, path));
    on_owner.await.expect("an answer");
    assert_eq!(numbering.calls_for(path), 1);
}

#[tokio::test]
async fn a_stale_entry_is_refreshed_once_for_all_servers() {
    let numbering = Numbering::by(|number, path| {
        // The second answer outlives the test.
        let lives =
            if number == 0 { "max-age=1, stale-while-revalidate=600" } else { "max-age=600" };
        Reply::bytes(numbered(number, path)).with("cache-control", lives)
    })
    .await;
    let redis = Redis::start().await;
    let servers = all_of(numbering.members(&redis.url(), ["a", "b", "c"])).await;
    for round in 0..3 {
        let path = format!("/page/{round}");
        servers[0].shares(&path).await;
        for server in &servers {
            cached(&server.client(), &path).await;
        }
        let old = numbered(0, &path);
        for server in &servers {
            eventually("stale everywhere", || async {
                let answer = cached(&server.client(), &path).await;
                // A stale entry may be said to be none, as none that may be given so.
                (!answer.is_hit() || answer.ttl_s() < 0).then_some(())
            })
            .await;
        }
        let callers = servers.iter().map(|server| many_asking(server, &path, 5));
        answered(callers.flatten().collect::<Vec<_>>()).await;
        let new = numbered(1, &path);
        for server in &servers {
            eventually("the new one", || async {
                let answer = server.client().get(&path).await;
                assert!(text(&answer) == old || text(&answer) == new, "{}", text(&answer));
                (text(&answer) == new).then_some(())
            })
            .await;
        }
        assert_eq!(numbering.calls_for(&path), 2, "{path}");
    }
}

#[tokio::test]
async fn who_asks_after_a_purge_gets_nothing_of_a_flight_that_began_before_it() {
    let (numbering, redis, [one, other, third]) = three().await;
    let path = "/held/page";
    let on_owner = owning(&one, &numbering, path).await;
    let early = joining(&other, path).await;
    other.purge(&json!({ "urls": [path] })).await;
    let late = asking(&other, path);
    other.misses_looked_up(2).await;
    numbering.lets_out(path);
    let (answer, took) = late.await.expect("an answer");
    assert_ne!(text(&answer), numbered(0, path), "{}", answer.cache_status());
    assert!(took < UNKNOWN_ROUTE, "it took {took:?}");
    early.await.expect("an answer");
    let (answer, _) = on_owner.await.expect("an answer");
    assert_eq!(text(&answer), numbered(0, path), "who has waited has it");
    let cold = Server::start(Setup::member(&numbering.upstream, &redis.url(), "cold")).await;
    for server in [&cold, &one, &third] {
        let answer = server.client().get(path).await;
        assert_ne!(text(&answer), numbered(0, path), "{}", answer.cache_status());
    }
}

#[tokio::test]
async fn flights_are_shared_on_a_cluster() {
    let (numbering, cluster) = (Numbering::start().await, Cluster::start().await);
    let [one, other] = all_of(numbering.members(&cluster.url(), ["a", "b"])).await;
    // On all three nodes.
    let paths: Vec<String> = (0..7).map(|number| format!("/held/{number}")).collect();
    let mut on_owner = Vec::new();
    for path in &paths {
        on_owner.push(owning(&one, &numbering, path).await);
    }
    let callers: Vec<Caller> = paths.iter().map(|path| asking(&other, path)).collect();
    other.has_lost(7).await;
    for path in &paths {
        numbering.lets_out(path);
    }
    for ((answer, _), path) in answered(callers).await.iter().zip(&paths) {
        assert_eq!(text(answer), numbered(0, path));
        assert_from_redis(answer);
        assert_eq!(numbering.calls_for(path), 1);
    }
    answered(on_owner).await;
}

/// Where servers are, as what is in front of them knows it: nobody sends to one that somebody holds.
type Rotation = Vec<RwLock<String>>;

/// Pages that all callers ask for again and again.
const COMMON: usize = 40;

/// Callers that ask one server after another, none of which has to fail; they stop at the end of it.
fn steady_load(rotation: &Arc<Rotation>, stop: &Arc<AtomicBool>) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for caller in 0..6 {
        let (rotation, stop) = (Arc::clone(rotation), Arc::clone(stop));
        callers.spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::SeqCst) {
                round += 1;
                let Ok(address) = rotation[(caller + round) % rotation.len()].try_read() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let path = match round % 4 {
                    0 => format!("/own/{caller}/{round}"),
                    _ => format!("/common/{}", (round * 7 + caller) % COMMON),
                };
                let answer = Client::of(&address).get(&path).await;
                assert_eq!(answer.status, 200, "{path}: {}", answer.cache_status());
                assert!(text(&answer).ends_with(&format!(" of {path}")), "{}", text(&answer));
            }
        });
    }
    callers
}

/// Waits until the upstream has answered so many calls more than now.
async fn goes_on(numbering: &Numbering, callers: &mut JoinSet<()>, more: usize) {
    let until = numbering.upstream.calls() + more;
    let goes_on =
        eventually("more calls", || async { (numbering.upstream.calls() >= until).then_some(()) });
    tokio::select! {
        () = goes_on => {}
        Some(ended) = callers.join_next() => ended.expect("all answers are right"),
    }
}

#[tokio::test]
async fn servers_are_restarted_one_by_one_under_load_without_a_storm_and_nobody_notices() {
    let (numbering, _redis, servers) = three().await;
    let address = |server: &Server| RwLock::new(server.address.clone());
    let rotation: Arc<Rotation> = Arc::new(servers.iter().map(address).collect());
    let stop = Arc::<AtomicBool>::default();
    let mut callers = steady_load(&rotation, &stop);
    let mut again = Vec::new();
    for (number, mut server) in servers.into_iter().enumerate() {
        goes_on(&numbering, &mut callers, 30).await;
        let path = format!("/held/{number}");
        let under_way = owning(&server, &numbering, &path).await;
        let mut place = rotation[number].write().await;
        server.signal(libc::SIGTERM);
        numbering.lets_out(&path);
        let (answer, _) = under_way.await.expect("an answer");
        assert_eq!(text(&answer), numbered(0, &path));
        assert!(server.ended().await.success(), "{}", server.log());
        let server = server.start_again().await;
        place.clone_from(&server.address);
        again.push(server);
    }
    goes_on(&numbering, &mut callers, 30).await;
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = callers.join_next().await {
        ended.expect("all answers are right");
    }
    let (calls, paths) =
        (numbering.upstream.calls(), numbering.paths.lock().expect("no panic").len());
    // A machine that is busy makes a fetch slower than most, and nobody waits for it then.
    assert!(calls <= paths + paths / 10 + 5, "{calls} calls for {paths} pages");
}

#[tokio::test]
async fn a_claim_whose_answer_comes_too_late_fences_nothing_off() {
    let (_numbering, redis, [one, other, _]) = three().await;
    redis.freeze();
    let answer = one.client().get("/page/late").await;
    redis.thaw();
    assert_eq!(text(&answer), numbered(0, "/page/late"));
    one.has_written(1).await;
    assert!(is_about(one.redis_drops("fenced").await, 0));
    assert_from_redis(&other.client().get("/page/late").await);
}
