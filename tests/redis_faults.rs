//! Whatever Redis does, or somebody does to it, requests are answered, and answered right.

use std::ops::{RangeFrom, RangeInclusive};
use std::time::{Duration, Instant};

use black_box_tests::load::{ask, page};
use black_box_tests::programs::lasting_port;
use black_box_tests::{
    Answer, Load, Manner, Raw, Redis, Relay, Reply, Server, Setup, Upstream, eventually,
};
use futures_util::future::join_all;

const READY: &str = "ready";

fn url_of(port: u16) -> String {
    format!("redis://127.0.0.1:{port}")
}

fn down(kind: &str) -> String {
    format!("ready, degraded: redis is down ({kind})")
}

fn takes_no_writes(kind: &str) -> String {
    format!("ready, degraded: redis takes no writes ({kind})")
}

async fn server_of(upstream: &Upstream, url: &str) -> Server {
    Server::start(Setup::in_front_of(upstream).sharing(url)).await
}

/// The same for one that looks into Redis once: another's fetch would have it look twice.
async fn lone_server_of(upstream: &Upstream, url: &str) -> Server {
    let setup = Setup::in_front_of(upstream).sharing(url);
    Server::start(setup.redis("shared_flights", "false")).await
}

/// Has these pages answered, one after the other; all must be right.
async fn ask_for(server: &Server, start: &str, numbers: RangeInclusive<usize>) -> Vec<Answer> {
    let client = server.client();
    let mut answers = Vec::new();
    for number in numbers {
        answers.push(ask(&client, &format!("{start}/{number}")).await);
    }
    answers
}

/// Fills Redis with these pages by a server of its own.
async fn filled(upstream: &Upstream, redis: &Redis, start: &str, count: usize) -> Server {
    let server = server_of(upstream, &redis.url()).await;
    let client = server.client();
    let pages = (1..=count).map(|number| format!("{start}/{number}")).collect::<Vec<_>>();
    for pages in pages.chunks(20) {
        join_all(pages.iter().map(|path| ask(&client, path))).await;
    }
    server.has_written(u32::try_from(count).expect("a few")).await;
    server
}

/// Waits until Redis is said to be up, or down, and returns how long it took.
async fn is(server: &Server, state: &str) -> Duration {
    let began = Instant::now();
    eventually(&format!("Redis is {state}"), || async {
        (server.redis().await["state"] == state).then_some(())
    })
    .await;
    began.elapsed()
}

fn from_redis(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| answer.cache_status().ends_with("; detail=redis")).count()
}

/// How often the log says this.
fn said(server: &Server, words: &str) -> usize {
    server.log().lines().filter(|line| line.contains(words)).count()
}

fn is_about(value: f64, expected: u32) -> bool {
    (value - f64::from(expected)).abs() < 0.5
}

#[tokio::test]
async fn a_server_starts_without_redis_and_takes_it_when_it_comes() {
    let upstream = Upstream::of_pages().await;
    let port = lasting_port();
    let server = server_of(&upstream, &url_of(port)).await;
    ask_for(&server, "/before", 1..=5).await;
    server.is_ready(&down("connect")).await;
    let told = server.redis().await;
    assert_eq!((&told["state"], &told["why"]), (&"down".into(), &"connect".into()), "{told}");
    assert_eq!(told["write_queue_entries"], 5, "{told}");
    assert!(is_about(server.metric("cache_server_redis_up").await, 0));
    assert!(is_about(server.metric("cache_server_redis_breaker_open").await, 1));
    assert!(is_about(server.redis_reads("skipped").await, 5), "nobody waits for it");

    let redis = Redis::on(port).await;
    server.is_ready(READY).await;
    let told = server.redis().await;
    assert_eq!((&told["state"], &told["why"]), (&"up".into(), &().into()), "{told}");
    assert!(is_about(server.metric("cache_server_redis_up").await, 1));
    assert!(is_about(server.metric("cache_server_redis_breaker_open").await, 0));
    // What has waited is written.
    redis.has_keys(5).await;
    let other = server_of(&upstream, &redis.url()).await;
    assert_eq!(from_redis(&ask_for(&other, "/before", 1..=5).await), 5);
    ask_for(&server, "/after", 1..=3).await;
    redis.has_keys(8).await;
}

#[tokio::test]
async fn a_redis_that_takes_connections_and_says_nothing_holds_no_start_up() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let relay = Relay::to(&redis.address()).await;
    relay.will(Manner::Hold);
    let began = Instant::now();
    let server = server_of(&upstream, &relay.url()).await;
    ask_for(&server, "/page", 1..=20).await;
    // A second, and a factor of several.
    assert!(began.elapsed() < Duration::from_secs(8), "it took {:?}", began.elapsed());
    assert!(server.readiness().await.starts_with("ready, degraded: redis is down ("));
    relay.will(Manner::Pass);
    server.is_ready(READY).await;
}

#[tokio::test]
async fn without_redis_nothing_is_said_of_it() {
    let upstream = Upstream::of_pages().await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    ask_for(&server, "/page", 1..=2).await;
    assert!(server.redis().await.is_null());
    assert_eq!(server.readiness().await, READY);
    assert!(!server.log().contains("redis"), "{}", server.log());
}

#[tokio::test]
async fn no_caller_notices_that_redis_is_killed_under_load_and_comes_back() {
    let upstream = Upstream::of_pages().await;
    let mut redis = Redis::start().await;
    let server = server_of(&upstream, &redis.url()).await;
    let mut load = Load::on(&server, 8);
    load.goes_on(200).await;
    redis.kill().await;
    load.goes_on(200).await;
    is(&server, "down").await;
    load.goes_on(200).await;
    redis.start_again().await;
    is(&server, "up").await;
    load.goes_on(200).await;
    load.end().await;
    let written = server.written().await;
    ask_for(&server, "/after", 1..=1).await;
    eventually("a write after all that", || async {
        (server.written().await > written && server.redis().await["write_queue_entries"] == 0)
            .then_some(())
    })
    .await;
    assert_eq!(server.readiness().await, READY);
}

#[tokio::test]
async fn no_caller_notices_that_redis_stands_still_under_load_and_it_is_noticed_soon_that_it_goes_on()
 {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let setup = Setup::in_front_of(&upstream).sharing(&redis.url());
    let server = Server::start(setup.redis("deadline", "200ms")).await;
    let mut load = Load::on(&server, 8);
    load.goes_on(200).await;
    redis.freeze();
    load.goes_on(400).await;
    is(&server, "down").await;
    let skipped = server.redis_reads("skipped").await;
    load.goes_on(400).await;
    assert!(server.redis_reads("skipped").await > skipped, "it is left alone");
    redis.thaw();
    let took = is(&server, "up").await;
    // Within a second, and a factor of several.
    assert!(took < Duration::from_secs(4), "it took {took:?}");
    load.goes_on(200).await;
    load.end().await;
}

#[tokio::test]
async fn a_redis_that_stands_still_costs_a_few_requests_one_deadline_and_the_others_nothing() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let setup = Setup::in_front_of(&upstream).sharing(&redis.url());
    let server = Server::start(setup.redis("deadline", "400ms")).await;
    ask_for(&server, "/before", 1..=1).await;
    let failed = server.redis_reads("failed").await;
    redis.freeze();
    let began = Instant::now();
    ask_for(&server, "/page", 1..=60).await;
    let took = began.elapsed();
    let failed = server.redis_reads("failed").await - failed;
    // A heartbeat may be one of the three that are enough.
    assert!((1.0..=3.0).contains(&failed), "{failed} reads waited in vain");
    assert!(is_about(server.redis_reads("skipped").await + failed, 60));
    // Sixty deadlines are 24 s.
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    assert!(server.redis_errors("deadline").await >= failed);
    server.is_ready(&down("deadline")).await;
    redis.thaw();
    server.is_ready(READY).await;
}

#[tokio::test]
async fn a_fault_is_noticed_without_traffic() {
    let upstream = Upstream::of_pages().await;
    let mut redis = Redis::start().await;
    let setup = Setup::in_front_of(&upstream).sharing(&redis.url());
    let server = Server::start(setup.redis("deadline", "200ms")).await;
    server.is_ready(READY).await;
    redis.freeze();
    server.is_ready(&down("deadline")).await;
    redis.thaw();
    server.is_ready(READY).await;
    redis.kill().await;
    is(&server, "down").await;
    assert!(is_about(server.redis_reads("failed").await, 0), "no request was there to fail");
}

#[tokio::test]
async fn a_wrong_password_is_said_to_be_wrong_and_the_right_one_is_taken_when_it_is() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::with_password("first-password").await;
    let setup = Setup::in_front_of(&upstream).sharing(&redis.url());
    let server = Server::start(setup.redis("password", "second-password")).await;
    ask_for(&server, "/page", 1..=3).await;
    server.is_ready(&down("auth")).await;
    assert_eq!(said(&server, "redis is down: requests go on without it"), 1);
    let mut commands = redis.commands().await;
    let set = ["CONFIG", "SET", "requirepass", "second-password"];
    commands.call(&set).await.expect("an answer");
    server.is_ready(READY).await;
    server.has_written(3).await;
    for password in ["first-password", "second-password"] {
        assert!(!server.log().contains(password), "{}", server.log());
    }

    // It holds for connections alone that come after it; those that are made then fail.
    for words in
        [&["CONFIG", "SET", "requirepass", "third"][..], &["CLIENT", "KILL", "TYPE", "normal"]]
    {
        commands.call(words).await.expect("an answer");
    }
    server.is_ready(&down("auth")).await;
    ask_for(&server, "/page", 1..=5).await;
}

#[tokio::test]
async fn a_password_comes_from_a_file_the_environment_or_the_url() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let rules = ["ACL", "SETUSER", "kim", "on", ">a p@ss/w:rd", "~*", "&*", "+@all"];
    redis.call(&rules).await;
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "a p@ss/w:rd\n").expect("it is written");
    let path = file.path().display().to_string();
    let setup = |url: &str| Setup::in_front_of(&upstream).sharing(url);
    let (bare, port) = (redis.url(), redis.port);
    for (number, setup) in [
        setup(&format!("redis://kim:a%20p%40ss%2Fw%3Ard@127.0.0.1:{port}")),
        setup(&format!("redis://kim@127.0.0.1:{port}")).redis("password", "a p@ss/w:rd"),
        setup(&bare).redis("username", "kim").redis("password", "a p@ss/w:rd"),
        setup(&bare).config(&format!("[redis]\nusername = 'kim'\npassword_file = '{path}'\n")),
    ]
    .into_iter()
    .enumerate()
    {
        let server = Server::start(setup).await;
        assert_eq!(server.readiness().await, READY, "{number}: {}", server.log());
        ask(&server.client(), &format!("/page/{number}")).await;
        server.has_written(1).await;
        let clients = redis.call(&["CLIENT", "LIST"]).await.text();
        let others = clients.lines().filter(|line| !line.contains(" user=kim ")).count();
        // Whoever asks for the list is the default user.
        assert_eq!(others, 1, "{number}: {clients}");
    }
    let refused = redis.call(&["ACL", "LOG"]).await.list();
    assert!(refused.is_empty(), "{refused:?}");
}

#[tokio::test]
async fn a_redis_that_is_full_is_read_and_not_written() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::with(&["--maxmemory-policy", "noeviction"]).await;
    let server = filled(&upstream, &redis, "/before", 10).await;
    redis.call(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let began = Instant::now();
    ask_for(&server, "/refused", 1..=100).await;
    server.is_ready(&takes_no_writes("full")).await;
    let told = server.redis().await;
    assert_eq!((&told["state"], &told["writes"]), (&"up".into(), &"paused".into()), "{told}");
    assert_eq!(told["writes_why"], "full", "{told}");
    assert!(is_about(server.metric("cache_server_redis_writes_paused").await, 1));
    assert!(server.redis_drops("refused").await >= 1.0);
    assert!(server.redis_errors("full").await >= 1.0);

    // Reads go on, and so does everybody's work.
    let other = server_of(&upstream, &redis.url()).await;
    assert_eq!(from_redis(&ask_for(&other, "/before", 1..=10).await), 10);
    let refused = server.redis_drops("refused").await;
    // Four at a time, once a second.
    let most = 8.0 * (began.elapsed().as_secs_f64() + 2.0);
    assert!((1.0..=most).contains(&refused), "{refused} writes were tried, {most} at most");

    redis.call(&["CONFIG", "SET", "maxmemory", "0"]).await;
    ask_for(&server, "/after", 1..=5).await;
    server.is_ready(READY).await;
    assert_eq!(said(&server, "redis takes no writes now"), 1);
    assert_eq!(said(&server, "redis takes writes again"), 1);
    assert_eq!(said(&server, "redis is down"), 0);
    let told = server.redis().await;
    assert_eq!((&told["writes"], &told["writes_why"]), (&"on".into(), &().into()), "{told}");
}

/// Asks for one new page after the other until the server says this of its writes.
async fn misses_until_writes_are(word: &str, server: &Server, pages: &mut RangeFrom<u32>) {
    let client = server.client();
    eventually(&format!("writes that are {word}"), || {
        let page = pages.next().expect("there is no last one");
        let (client, path) = (client.clone(), format!("/page/{page}"));
        async move {
            assert_eq!(client.get(&path).await.status, 200);
            (server.redis().await["writes"] == word).then_some(())
        }
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_fills_up_goes_on_being_read() {
    let upstream = Upstream::start(|received| {
        let body = page(received.uri.path()).repeat(20);
        Reply::bytes(body).with("cache-control", "public, max-age=600")
    })
    .await;
    let redis = Redis::with(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]).await;
    let setup = || {
        let setup = Setup::in_front_of(&upstream).sharing(&redis.url());
        setup.redis("compress_bytes_min", "0")
    };
    let server = Server::start(setup()).await;
    let mut pages = 1..;
    misses_until_writes_are("paused", &server, &mut pages).await;
    let other = Server::start(setup()).await;
    let answer = other.client().get("/page/1").await;
    assert!(answer.cache_status().ends_with("; detail=redis"), "{}", answer.cache_status());
    redis.call(&["FLUSHALL"]).await;
    misses_until_writes_are("on", &server, &mut pages).await;
}

#[tokio::test]
async fn a_copy_that_takes_no_writes_and_a_user_who_may_not_write_are_not_read_nor_written() {
    let upstream = Upstream::of_pages().await;
    let master = Redis::start().await;
    let replica = Redis::replica_of(&master).await;
    filled(&upstream, &master, "/before", 5).await;
    replica.has_keys(5).await;
    let rules = ["ACL", "SETUSER", "reader", "on", ">word", "~*", "+@read", "+@connection"];
    master.call(&rules).await;
    let as_reader = format!("redis://reader:word@{}", master.address());
    for (url, kind) in [(replica.url(), "read-only"), (as_reader, "no-permission")] {
        let server = server_of(&upstream, &url).await;
        // What others purge would not be known of what is read there.
        assert_eq!(from_redis(&ask_for(&server, "/before", 1..=5).await), 0, "{kind}");
        ask_for(&server, "/more", 1..=5).await;
        let unshared = format!("purge orders are not shared ({kind})");
        server.is_ready(&format!("{}, {unshared}", takes_no_writes(kind))).await;
        assert!(server.redis_drops("refused").await >= 1.0, "{kind}");
        assert!(server.redis_errors(kind).await >= 1.0, "{kind}");
        assert_eq!(server.redis().await["state"], "up", "{kind}");
    }
    master.has_keys(5).await;
}

#[tokio::test]
async fn answers_that_come_too_late_are_not_waited_for_until_they_come_in_time() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    filled(&upstream, &redis, "/page", 100).await;
    let relay = Relay::to(&redis.address()).await;
    let setup = Setup::in_front_of(&upstream).sharing(&relay.url());
    let server = Server::start(setup.redis("deadline", "100ms")).await;
    server.is_ready(READY).await;
    relay.will(Manner::Delay(Duration::from_millis(600)));
    let answers = ask_for(&server, "/page", 1..=50).await;
    assert_eq!(from_redis(&answers), 0);
    server.is_ready(&down("deadline")).await;
    let failed = server.redis_reads("failed").await;
    assert!(failed <= 3.0, "{failed} reads waited");
    relay.will(Manner::Pass);
    server.is_ready(READY).await;
    // One of these may be late on its own: the machine is busy.
    assert!(from_redis(&ask_for(&server, "/page", 51..=100).await) > 0);
}

#[tokio::test]
async fn connections_that_are_cut_under_load_are_made_anew() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let relay = Relay::to(&redis.address()).await;
    let server = server_of(&upstream, &relay.url()).await;
    let mut load = Load::on(&server, 8);
    for _ in 0..10 {
        load.goes_on(30).await;
        relay.cut();
    }
    load.goes_on(30).await;
    load.end().await;
    server.is_ready(READY).await;
    let told = said(&server, "redis is down") + said(&server, "redis is up again");
    assert!(told <= 2, "what flaps is not told of each time:\n{}", server.log());
}

#[tokio::test]
async fn a_value_that_is_cut_on_its_way_is_a_miss() {
    let body = page("/large").repeat(400);
    let whole = body.clone();
    let upstream = Upstream::start(move |received| {
        let body = if received.uri.path() == "/large" { whole.clone() } else { page("/x").into() };
        Reply::bytes(body).with("cache-control", "public, max-age=600")
    })
    .await;
    let redis = Redis::start().await;
    let setup =
        |url: &str| Setup::in_front_of(&upstream).sharing(url).redis("compress_bytes_min", "0");
    let one = Server::start(setup(&redis.url())).await;
    one.client().get("/large").await;
    one.has_written(1).await;
    for cut_after in [10, 5_000, 60_000] {
        let relay = Relay::to(&redis.address()).await;
        let server = Server::start(setup(&relay.url())).await;
        server.is_ready(READY).await;
        relay.will(Manner::CutAnswers(cut_after));
        let answer = server.client().get("/large").await;
        assert!(!answer.is_hit(), "after {cut_after}: {}", answer.cache_status());
        assert!(answer.body == body, "after {cut_after}: the bytes differ");
        relay.will(Manner::Pass);
        server.is_ready(READY).await;
        assert!(is_about(server.redis_reads("found").await, 0), "after {cut_after}");
    }
}

#[tokio::test]
async fn no_caller_notices_that_redis_is_emptied_under_load() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let server = server_of(&upstream, &redis.url()).await;
    let mut load = Load::on(&server, 8);
    for _ in 0..5 {
        load.goes_on(40).await;
        redis.call(&["FLUSHALL"]).await;
    }
    load.goes_on(40).await;
    load.end().await;
    assert_eq!(server.readiness().await, READY);
    assert!(is_about(server.redis_reads("failed").await, 0), "an empty Redis is no fault");
}

/// What is before an entry's own form: version, encoding, the fetch's token, the raw length.
const LENGTH: std::ops::Range<usize> = 10..14;

/// Values that are not what was written, each with what was done to it. Where the token of the
/// fetch alone is another, the entry itself is whole.
fn tampered(value: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut forms = Vec::new();
    let end = value.len();
    let spread = (14..end).step_by((end / 24).max(1));
    let places = (0..2).chain(LENGTH).chain(14..40.min(end)).chain(spread).chain(end - 4..end);
    for place in places {
        for mask in [0x01, 0xff] {
            let mut form = value.to_vec();
            form[place] ^= mask;
            forms.push((format!("byte {place} of {end} by {mask:#x}"), form));
        }
    }
    for length in [1, 2, 9, 10, 13, 14, 15, 40, end / 2, end - 17, end - 16, end - 1] {
        forms.push((format!("cut after {length} of {end}"), value[..length.min(end)].to_vec()));
    }
    forms.push(("a byte more".into(), [value, b"\0"].concat()));
    forms.push(("twice".into(), value.repeat(2)));
    forms.push(("text".into(), b"hello".to_vec()));
    forms.push(("zeros".into(), vec![0; end]));
    forms
}

#[tokio::test]
async fn a_value_that_was_tampered_with_is_a_miss_whatever_was_done_to_it() {
    // As it is, and compressed: the pages are larger than that.
    for compressed_from in ["0", "1"] {
        let upstream = Upstream::of_pages().await;
        let redis = Redis::start().await;
        let setup = || {
            let setup = Setup::in_front_of(&upstream).sharing(&redis.url());
            let setup = setup.redis("shared_flights", "false");
            setup.redis("compress_bytes_min", compressed_from)
        };
        let (one, other) = (Server::start(setup()).await, Server::start(setup()).await);
        let answers = ask_for(&one, "/page", 1..=160).await;
        one.has_written(160).await;
        let mut count = 0;
        for (number, answer) in (1..).zip(&answers) {
            let key = redis.key_of(answer).await;
            let forms = tampered(&redis.value(&key).await);
            let Some((what, form)) = forms.get(number - 1) else { break };
            redis.replace(&key, form).await;
            let answer = ask(&other.client(), &format!("/page/{number}")).await;
            assert!(!answer.is_hit(), "{what}: {}", answer.cache_status());
            count += 1;
        }
        assert!((100..160).contains(&count), "{count} forms");
        let damaged = other.redis_errors("damaged").await;
        assert!(is_about(damaged, count), "{damaged} of {count}");
        assert_eq!(other.readiness().await, READY, "values are no fault of Redis");
        assert!(is_about(other.redis_reads("found").await, 0));
        assert!(is_about(other.redis_reads("failed").await, count));
    }
}

#[tokio::test]
async fn the_value_of_another_key_answers_nobody() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    filled(&upstream, &redis, "/page", 4).await;
    let keys = redis.keys().await;
    let mut values = Vec::new();
    for key in &keys {
        values.push(redis.value(key).await);
    }
    values.rotate_left(1);
    for (key, value) in keys.iter().zip(&values) {
        redis.replace(key, value).await;
    }
    let other = lone_server_of(&upstream, &redis.url()).await;
    let answers = ask_for(&other, "/page", 1..=4).await;
    assert!(answers.iter().all(|answer| !answer.is_hit()));
    assert!(is_about(other.redis_errors("foreign").await, 4));
    assert_eq!(other.readiness().await, READY);
    // What it fetched is in its place now.
    other.has_written(4).await;
    let third = server_of(&upstream, &redis.url()).await;
    assert_eq!(from_redis(&ask_for(&third, "/page", 1..=4).await), 4);
}

#[tokio::test]
async fn what_is_no_value_at_all_under_a_key_is_a_miss() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    filled(&upstream, &redis, "/page", 10).await;
    for key in redis.keys().await {
        redis.call(&["DEL", &key]).await;
        redis.call(&["RPUSH", &key, "a", "list"]).await;
    }
    let other = server_of(&upstream, &redis.url()).await;
    let answers = ask_for(&other, "/page", 1..=10).await;
    assert!(answers.iter().all(|answer| !answer.is_hit()));
    other.is_ready(READY).await;
}

/// A zstd frame (RFC 8878) of so many blocks, each of 128 KiB of one byte.
fn bomb(blocks: u32) -> Vec<u8> {
    // The magic number, no content size and no checksum, and a window of 1 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    for block in 1..=blocks {
        // Whether it is the last one, RLE, and its size.
        let head = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend_from_slice(&head.to_le_bytes()[..3]);
        frame.push(b'x');
    }
    frame
}

#[tokio::test]
async fn a_small_value_that_unpacks_to_gigabytes_takes_no_memory() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    filled(&upstream, &redis, "/page", 12).await;
    let other = lone_server_of(&upstream, &redis.url()).await;
    ask(&other.client(), "/warm").await;
    let before = other.process_bytes("VmHWM");
    // A gigabyte, and so much of it claimed; for each length several times.
    let lengths = [0, 1000, 1 << 20, 1 << 24, 1 << 30, u32::MAX];
    for (key, length) in redis.keys().await.iter().zip(lengths.iter().cycle()) {
        let mut value = redis.value(key).await;
        value.truncate(LENGTH.start);
        value[1] = 1;
        value.extend_from_slice(&length.to_le_bytes());
        value.extend_from_slice(&bomb(8192));
        redis.replace(key, &value).await;
    }
    let answers = ask_for(&other, "/page", 1..=12).await;
    assert!(answers.iter().all(|answer| !answer.is_hit()));
    assert!(is_about(other.redis_errors("damaged").await, 12));
    let more = other.process_bytes("VmHWM").saturating_sub(before);
    assert!(more < 200 << 20, "it took {more} bytes");
}

#[tokio::test]
async fn a_caller_who_hangs_up_leaves_no_answer_to_the_next() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let count = 300;
    let one = filled(&upstream, &redis, "/page", count).await;
    drop(one);
    let relay = Relay::to(&redis.address()).await;
    let setup = Setup::in_front_of(&upstream).sharing(&relay.url());
    let server = Server::start(setup.redis("connections", "1")).await;
    server.is_ready(READY).await;
    let calls = upstream.calls();
    relay.will(Manner::Delay(Duration::from_millis(15)));
    let client = server.client();
    let mut batch = Vec::new();
    for number in 1..=count {
        let (client, address) = (client.clone(), server.address.clone());
        batch.push(async move {
            let path = format!("/page/{number}");
            if number % 2 == 0 {
                ask(&client, &path).await;
                return;
            }
            let mut caller = Raw::open(&address).await;
            caller.send(format!("GET {path} HTTP/1.1\r\nhost: cache\r\n\r\n")).await;
            // Some leave before the answer is under way, and some while it is.
            for _ in 0..number % 7 {
                tokio::task::yield_now().await;
            }
        });
        if batch.len() == 40 {
            join_all(batch.drain(..)).await;
        }
    }
    join_all(batch).await;
    // And those that were left, by callers who wait.
    ask_for(&server, "/page", 1..=count).await;
    assert!(is_about(server.redis_errors("foreign").await, 0));
    assert!(is_about(server.redis_errors("damaged").await, 0));
    assert_eq!(upstream.calls(), calls, "Redis had all of them");
}

#[tokio::test]
async fn what_waits_to_be_written_is_bounded_and_the_oldest_go() {
    let upstream = Upstream::of_pages().await;
    let port = lasting_port();
    let setup = Setup::in_front_of(&upstream).sharing(&url_of(port));
    let server = Server::start(setup.redis("write_queue_entries_max", "10")).await;
    ask_for(&server, "/page", 1..=40).await;
    // A newer one takes the place of the one that waits under its key.
    let afresh = server.client().request(http::Method::GET, "/page/40");
    Answer::of(afresh.header("cache-control", "no-cache")).await;
    let waits = server.metric("cache_server_redis_write_queue_entries").await;
    assert!(is_about(waits, 10), "{waits} wait");
    assert_eq!(server.redis().await["write_queue_entries"], 10);
    assert!(is_about(server.redis_drops("full").await, 30));
    let redis = Redis::on(port).await;
    redis.has_keys(10).await;
    server.has_written(10).await;
    let other = server_of(&upstream, &redis.url()).await;
    let answers = ask_for(&other, "/page", 31..=40).await;
    assert_eq!(from_redis(&answers), 10, "the newest are those that waited");
}

#[tokio::test]
async fn what_waits_to_be_written_is_bounded_in_bytes() {
    let upstream = Upstream::start(|received| {
        let body = page(received.uri.path()).repeat(10);
        Reply::bytes(body).with("cache-control", "public, max-age=600")
    })
    .await;
    let setup = Setup::in_front_of(&upstream).sharing(&url_of(lasting_port()));
    let server = Server::start(setup.redis("write_queue_bytes_max", "100KiB")).await;
    for number in 0..50 {
        server.client().get(&format!("/page/{number}")).await;
        let waits = server.metric("cache_server_redis_write_queue_bytes").await;
        assert!(waits <= f64::from(100 << 10), "{waits} bytes wait");
    }
    let told = server.redis().await;
    assert!(told["write_queue_entries"].as_u64().is_some_and(|count| count >= 2), "{told}");
    assert!(told["write_queue_bytes"].as_u64().is_some_and(|bytes| bytes > 30 << 10), "{told}");
    assert!(server.redis_drops("full").await > 10.0);
}

#[tokio::test]
async fn a_redis_that_comes_back_is_not_flooded() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let relay = Relay::to(&redis.address()).await;
    relay.will(Manner::Refuse);
    let server = server_of(&upstream, &relay.url()).await;
    let mut load = Load::on(&server, 8);
    load.goes_on(400).await;
    let waits = load.end().await / 2;
    // However many ask, it is tried a few times a second.
    let began = Instant::now();
    let tried = relay.taken();
    let mut load = Load::on(&server, 8);
    load.goes_on(400).await;
    load.end().await;
    let most = 6 * 8 * (began.elapsed().as_secs() + 2);
    assert!((relay.taken() - tried) as u64 <= most, "{} connections", relay.taken() - tried);

    // Of what waits a few writes are under way at once, and each takes so long.
    relay.will(Manner::Delay(Duration::from_millis(20)));
    is(&server, "up").await;
    let (began, before) = (Instant::now(), server.written().await);
    ask_for(&server, "/between", 1..=5).await;
    eventually("everything is written", || async {
        (server.redis().await["write_queue_entries"] == 0).then_some(())
    })
    .await;
    let written = server.written().await - before;
    let at_once = written * 0.020 / began.elapsed().as_secs_f64();
    assert!(at_once <= 8.0, "{written} writes in {:?}", began.elapsed());
    assert!(server.written().await >= f64::from(u32::try_from(waits / 4).expect("a few")));
    assert_eq!(server.readiness().await, READY);
    let clients = redis.call(&["CLIENT", "LIST", "TYPE", "NORMAL"]).await.text();
    // Four to read by and four for one read at a time each, one to write by, one to look, and the one
    // that asks.
    assert!(clients.lines().count() <= 14, "{clients}");
}

#[tokio::test]
async fn the_log_says_once_that_redis_is_down_and_once_that_it_is_up_again() {
    let upstream = Upstream::of_pages().await;
    let mut redis = Redis::start().await;
    let server = server_of(&upstream, &redis.url()).await;
    let mut load = Load::on(&server, 4);
    load.goes_on(50).await;
    redis.kill().await;
    is(&server, "down").await;
    load.goes_on(200).await;
    eventually("the log's line", || async { (said(&server, "redis is down") > 0).then_some(()) })
        .await;
    redis.start_again().await;
    is(&server, "up").await;
    load.goes_on(50).await;
    load.end().await;
    eventually("the log's line", || async {
        (said(&server, "redis is up again") > 0).then_some(())
    })
    .await;
    assert_eq!(said(&server, "redis is down: requests go on without it"), 1, "{}", server.log());
    assert_eq!(said(&server, "redis is up again"), 1);
    let log = server.log();
    let line = log.lines().find(|line| line.contains("redis is down")).expect("a line");
    assert!(line.contains("kind") && line.contains("error"), "{line}");
    assert!(log.lines().filter(|line| line.contains("redis")).count() <= 4, "{log}");
}
