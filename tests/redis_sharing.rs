//! Servers share what they have through Redis: what one has fetched the others need not fetch, under
//! the same rules as if it were their own.

use std::time::Duration;

use black_box_tests::calls::{CALLS, SECRET};
use black_box_tests::load::{ask as ask_page, page};
use black_box_tests::plain::{self, text, upstream_by_call, with};
use black_box_tests::redis::entries_in;
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::upstream::Received;
use black_box_tests::{
    Answer, Client, Manner, Raw, Redis, Relay, Reply, Server, Setup, Upstream, credential_digest,
    eventually,
};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

/// What says that it comes from Redis.
const FROM_REDIS: &str = "; detail=redis";

/// No two bytes in a row tell the third: what cannot be compressed much, as text.
fn noise(bytes: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let digits = (0..bytes).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + u8::try_from(state % 90).expect("below 90"))
    });
    digits.collect()
}

fn is_from_redis(answer: &Answer) -> bool {
    answer.cache_status().ends_with(FROM_REDIS)
}

fn assert_from(tier: &str, answer: &Answer) {
    let status = answer.cache_status();
    assert!(status.starts_with("cache-server; hit; ttl="), "{status}");
    assert!(status.ends_with(&format!("; detail={tier}")), "{status}");
}

async fn get(server: &Server, path: &str, fields: &[(&str, &str)]) -> Answer {
    plain::ask(&server.client(), Method::GET, path, fields).await
}

/// What the server has, without asking the upstream.
async fn cached(server: &Server, path: &str) -> Answer {
    get(server, path, &[("cache-control", "only-if-cached")]).await
}

/// A server on a data folder of its own.
async fn server_of(upstream: &Upstream, redis: &Redis) -> Server {
    Server::start(Setup::in_front_of(upstream).sharing(&redis.url())).await
}

/// A Redis, and two servers that share it.
async fn sharing(upstream: &Upstream) -> (Redis, Server, Server) {
    let redis = Redis::start().await;
    let (one, other) = (server_of(upstream, &redis).await, server_of(upstream, &redis).await);
    (redis, one, other)
}

/// An upstream that counts its answers in their bodies, each with these fields.
async fn counting(fields: &'static [(&'static str, &'static str)]) -> Upstream {
    upstream_by_call(move |count, _| with(Reply::bytes(format!("answer {count}")), fields)).await
}

#[tokio::test]
async fn a_server_with_cold_tiers_answers_from_redis_then_memory_then_disk() {
    let upstream = Upstream::saying(embedding(0.25)).await;
    let (_redis, one, mut other) = sharing(&upstream).await;
    let first = one.client().ask(EMBEDDINGS, &question("shared?")).await;
    assert!(first.cache_status().contains("; stored"), "{}", first.cache_status());
    one.has_written(1).await;

    let second = other.client().ask(EMBEDDINGS, &question("shared?")).await;
    assert_from("redis", &second);
    assert_eq!(second.body, first.body);
    assert_eq!(second.field("content-type"), first.field("content-type"));
    let labels = "route=\"openai.embeddings\",outcome=\"hit\",reason=\"redis\"";
    let hits = format!("cache_server_requests_total{{{labels}}}");
    assert!((other.metric(&hits).await - 1.0).abs() < f64::EPSILON);
    assert!((other.redis_reads("found").await - 1.0).abs() < f64::EPSILON);

    assert_from("memory", &other.client().ask(EMBEDDINGS, &question("shared?")).await);
    other.stop().await;
    let other = other.start_again().await;
    assert_from("disk", &other.client().ask(EMBEDDINGS, &question("shared?")).await);
    assert!(other.redis_reads("found").await < 1.0, "the local tiers come first");
    assert_eq!(upstream.calls(), 1);
    assert!(other.written().await < 1.0, "what came from Redis is not written back");
}

#[tokio::test]
async fn every_model_call_is_shared_byte_for_byte_streams_in_their_events() {
    let upstream = Upstream::of_whole_answers().await;
    let (redis, one, other) = sharing(&upstream).await;
    for call in CALLS {
        let answer = call.whole_answer();
        let first = Answer::of(call.request(&one.client(), "", &answer)).await;
        assert_eq!(first.status, 200, "{}", call.path);
    }
    one.has_written(u32::try_from(CALLS.len()).expect("a few")).await;
    let calls = upstream.calls();
    for call in CALLS {
        let answer = call.whole_answer();
        let own = Answer::of(call.request(&one.client(), "", &answer)).await;
        let shared = Answer::of(call.request(&other.client(), "", &answer)).await;
        assert_from("redis", &shared);
        assert!(shared.body == answer.body(), "{}: the bytes differ", call.path);
        let fields = |answer: &Answer| {
            let mut headers = answer.headers.clone();
            for name in ["age", "cache-status", "date"] {
                headers.remove(name);
            }
            headers
        };
        assert_eq!(fields(&shared), fields(&own), "{}", call.path);
    }
    assert_eq!(upstream.calls(), calls);
    for key in redis.keys().await {
        let value = redis.value(&key).await;
        let has_secret = value.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
        assert!(!has_secret && !key.contains(SECRET), "no credential is in Redis");
    }
}

#[tokio::test]
async fn a_stream_from_redis_is_replayed_in_its_events() {
    use black_box_tests::sample::{CHAT, chat, events, recorded};
    let whole = recorded("openai-chat-completions/whole.sse");
    let answer = whole.clone();
    let upstream = Upstream::start(move |_| Reply::events(answer.clone())).await;
    let (_redis, one, other) = sharing(&upstream).await;
    one.client().ask(CHAT, &chat(true)).await;
    one.has_written(1).await;
    let mut caller = Raw::open(&other.address).await;
    caller.post(CHAT, &chat(true).to_string()).await;
    let head = caller.head().await.to_ascii_lowercase();
    assert!(head.contains("; detail=redis"), "{head}");
    assert_eq!(caller.chunks().await, events(&whole));
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn an_entry_lives_in_redis_until_the_end_of_its_last_use() {
    let redis = Redis::start().await;
    // Ten minutes beyond the fresh end somebody may take it stale.
    for (fields, seconds) in [
        (&[("cache-control", "max-age=900")][..], 1500),
        (&[("cache-control", "max-age=900"), ("age", "100")], 1400),
        (&[("cache-control", "max-age=60, stale-while-revalidate=900")], 960),
        (&[("cache-control", "max-age=60, stale-if-error=900")], 960),
        (&[("cache-control", "max-age=900, must-revalidate")], 900),
    ] {
        let upstream = counting(fields).await;
        let server = server_of(&upstream, &redis).await;
        get(&server, "/page", &[]).await;
        server.has_written(1).await;
        lives_for(&redis, seconds, &format!("{fields:?}")).await;
        redis.call(&["FLUSHALL"]).await;
    }
    // A week fresh, and a week in place of an error.
    let upstream = Upstream::saying(embedding(0.25)).await;
    let server = server_of(&upstream, &redis).await;
    server.client().ask(EMBEDDINGS, &question("how long?")).await;
    server.has_written(1).await;
    lives_for(&redis, 14 * 24 * 3600, "a model's answer").await;
}

/// The one key lives for so long, or a little less.
async fn lives_for(redis: &Redis, seconds: i64, what: &str) {
    let lives_ms = redis.call(&["PTTL", &redis.only_key().await]).await.number();
    let expected = (seconds - 20) * 1000..=seconds * 1000;
    assert!(expected.contains(&lives_ms), "{what}: {lives_ms} ms");
}

#[tokio::test]
async fn a_stale_entry_from_redis_answers_within_its_windows() {
    // For a server that may answer with it while it is refreshed, and one whose upstream is gone.
    for window in ["stale-while-revalidate", "stale-if-error"] {
        let upstream = upstream_by_call(move |count, _| {
            let lifetime = format!("max-age=1, {window}=600");
            let reply = Reply::bytes(format!("answer {count}")).with("connection", "close");
            reply.with("cache-control", &lifetime)
        })
        .await;
        let (_redis, one, other) = sharing(&upstream).await;
        get(&one, "/page", &[]).await;
        one.has_written(1).await;
        // It gets stale in this server's memory too, where nobody asks for it meanwhile.
        let own = eventually("a stale entry", || async {
            let answer = cached(&one, "/page").await;
            (answer.status == 504 || answer.cache_status().contains("ttl=-")).then_some(answer)
        });
        own.await;
        if window == "stale-if-error" {
            upstream.stop().await;
        }
        let answer = get(&other, "/page", &[]).await;
        let status = answer.cache_status();
        assert_eq!(answer.status, 200, "{window}: {status}");
        let says = match window {
            "stale-if-error" => status.ends_with("detail=stale-if-error"),
            _ => status.starts_with("cache-server; hit; ttl=-"),
        };
        assert!(says, "{window}: {status}");
        assert!(text(&answer).starts_with("answer "), "{window}");
    }
}

#[tokio::test]
async fn what_another_server_has_refreshed_is_taken_instead_of_asking_the_upstream_again() {
    for window in ["0", "600"] {
        let upstream = upstream_by_call(move |count, _| {
            let lifetime = match count {
                0 => format!("max-age=1, stale-while-revalidate={window}"),
                _ => "max-age=600".to_owned(),
            };
            Reply::bytes(format!("answer {count}")).with("cache-control", &lifetime)
        })
        .await;
        let (_redis, one, other) = sharing(&upstream).await;
        assert_eq!(text(&get(&one, "/page", &[]).await), "answer 0");
        one.has_written(1).await;
        eventually("a refresh on one server", || async {
            (text(&get(&other, "/page", &[]).await) == "answer 1").then_some(())
        })
        .await;
        other.has_written(1).await;
        // One is stale by now: it has the same entry as the other.
        let taken = eventually("the newer one", || async {
            let answer = get(&one, "/page", &[]).await;
            assert!(answer.is_hit(), "nobody asks upstream: {}", answer.cache_status());
            (text(&answer) == "answer 1").then_some(answer)
        });
        let taken = taken.await;
        assert!(taken.ttl_s() > 500, "{}", taken.cache_status());
        assert_eq!(upstream.calls(), 2, "window {window}");
    }
}

#[tokio::test]
async fn variants_are_shared_each_with_whom_it_is_for() {
    let upstream = Upstream::start(|received: &Received| {
        let language = plain::field(received, "accept-language");
        Reply::bytes(format!("in {language}"))
            .with("cache-control", "max-age=600")
            .with("vary", "accept-language")
    })
    .await;
    let (redis, mut one, other) = sharing(&upstream).await;
    let languages = ["en", "de", "fr"];
    for language in languages {
        get(&one, "/page", &[("accept-language", language)]).await;
    }
    // It writes what waits before it ends.
    one.stop().await;
    assert!(redis.keys().await.len() >= languages.len());
    for tier in ["redis", "memory"] {
        for language in languages {
            let answer = get(&other, "/page", &[("accept-language", language)]).await;
            assert_from(tier, &answer);
            assert_eq!(text(&answer), format!("in {language}"));
        }
    }
    assert_eq!(upstream.calls(), 3);
    let answer = get(&other, "/page", &[("accept-language", "it")]).await;
    assert_eq!((answer.is_hit(), text(&answer)), (false, "in it"));
}

#[tokio::test]
async fn what_is_larger_than_a_value_may_be_stays_local() {
    let (small, large) = (noise(1000), noise(20_000));
    let (short, long) = (small.clone(), large.clone());
    let upstream = Upstream::start(move |received| {
        let body = if received.uri.path() == "/large" { &long } else { &short };
        Reply::bytes(body.clone()).with("cache-control", "max-age=600")
    })
    .await;
    let redis = Redis::start().await;
    let bounded = || Setup::in_front_of(&upstream).sharing(&redis.url());
    let bounded = || bounded().redis("value_bytes_max", "8KiB");
    let (one, other) = (Server::start(bounded()).await, Server::start(bounded()).await);
    for path in ["/large", "/small"] {
        get(&one, path, &[]).await;
    }
    one.has_written(1).await;
    redis.has_keys(1).await;
    eventually("what is too large is dropped", || async {
        (one.redis_drops("too-large").await > 0.0).then_some(())
    })
    .await;
    assert_from("memory", &get(&one, "/large", &[]).await);
    assert_from("redis", &get(&other, "/small", &[]).await);
    let again = get(&other, "/large", &[]).await;
    assert_eq!((again.is_hit(), text(&again)), (false, &large[..]));

    // Another server may write what is too large for this one to read.
    let wide = server_of(&upstream, &redis).await;
    get(&wide, "/large", &[]).await;
    wide.has_written(1).await;
    let third = Server::start(bounded().redis("shared_flights", "false")).await;
    let answer = get(&third, "/large", &[]).await;
    assert_eq!((answer.is_hit(), text(&answer)), (false, &large[..]));
    assert!((third.redis_errors("damaged").await - 1.0).abs() < f64::EPSILON);
    assert_eq!(third.readiness().await, "ready");
}

#[tokio::test]
async fn large_text_takes_fewer_bytes_in_redis_and_comes_back_equal() {
    let whole = page("/text").repeat(300);
    let body = whole.clone();
    let upstream = Upstream::start(move |_| {
        Reply::bytes(body.clone()).with("cache-control", "public, max-age=600")
    })
    .await;
    for (from, is_small) in [("4KiB", true), ("0", false), ("100MiB", false)] {
        let redis = Redis::start().await;
        let setup = || Setup::in_front_of(&upstream).sharing(&redis.url());
        let setup = || setup().redis("compress_bytes_min", from);
        let (one, other) = (Server::start(setup()).await, Server::start(setup()).await);
        get(&one, "/text", &[]).await;
        one.has_written(1).await;
        let value = redis.value(&redis.only_key().await).await;
        let expected = if is_small { 1..whole.len() / 5 } else { whole.len()..whole.len() * 2 };
        assert!(expected.contains(&value.len()), "{from}: {} bytes", value.len());
        assert_eq!(value[..2], [2, u8::from(is_small)], "{from}: version and encoding");
        let answer = get(&other, "/text", &[]).await;
        assert_from("redis", &answer);
        assert!(answer.body == whole, "{from}: the bytes differ");
    }
}

#[tokio::test]
async fn a_hundred_callers_of_what_redis_has_cost_one_read_and_no_call_upstream() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let one = server_of(&upstream, &redis).await;
    get(&one, "/page", &[]).await;
    one.has_written(1).await;

    let relay = Relay::to(&redis.address()).await;
    let other = Server::start(Setup::in_front_of(&upstream).sharing(&relay.url())).await;
    // All of them have come before the first answer does.
    relay.will(Manner::Delay(Duration::from_millis(500)));
    let callers = join_all((0..100).map(|_| async {
        let answer = get(&other, "/page", &[]).await;
        assert!(answer.is_hit(), "{}", answer.cache_status());
        assert_eq!(answer.body, page("/page"));
    }));
    callers.await;
    assert!((other.redis_reads("found").await - 1.0).abs() < f64::EPSILON);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn prefix_and_database_keep_servers_apart() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let at = |prefix: &str, database: &str| {
        let url = format!("{}{database}", redis.url());
        Server::start(Setup::in_front_of(&upstream).sharing(&url).redis("prefix", prefix))
    };
    let first = at("one", "").await;
    get(&first, "/page", &[]).await;
    first.has_written(1).await;
    let key = redis.only_key().await;
    let digits = key.strip_prefix("one:2.4:ks1_").expect("the versions");
    assert_eq!(digits.len(), 64);
    assert!(digits.bytes().all(|digit| b"0123456789abcdef".contains(&digit)), "{key}");

    for (prefix, database, is_shared) in
        [("one", "", true), ("one", "/0", true), ("two", "", false), ("one", "/3", false)]
    {
        let server = at(prefix, database).await;
        let answer = ask_page(&server.client(), "/page").await;
        assert_eq!(is_from_redis(&answer), is_shared, "{prefix}{database}");
        if !is_shared {
            server.has_written(1).await;
        }
    }
    assert_eq!(upstream.calls(), 3);
    redis.has_keys(2).await;
    let mut third = redis.commands().await;
    third.call(&["SELECT", "3"]).await.expect("an answer");
    assert_eq!(entries_in(&mut third).await.len(), 1, "its key is in its database");
}

#[tokio::test]
async fn tenants_are_told_apart_in_redis_too() {
    let upstream = upstream_by_call(|count, _| {
        Reply::json(&embedding(f64::from(u32::try_from(count).expect("a few")) / 8.0))
    })
    .await;
    let redis = Redis::start().await;
    let (one, two) = (credential_digest("sk-one").await, credential_digest("sk-two").await);
    let team =
        format!("[[tenant]]\nname = \"team\"\ncredential_digests = [\"{one}\", \"{two}\"]\n");
    let setup = || Setup::in_front_of(&upstream).config(&team).sharing(&redis.url());
    let (here, there) = (Server::start(setup()).await, Server::start(setup()).await);
    let asked = question("whose?");
    let ask = async |client: Client, credential: &str| {
        client.ask_as(EMBEDDINGS, &asked, credential).await
    };
    let of_team = ask(here.client(), "sk-one").await;
    let of_stranger = ask(here.client(), "sk-stranger").await;
    here.has_written(2).await;

    let shared = ask(there.client(), "sk-two").await;
    assert_from("redis", &shared);
    assert_eq!(shared.body, of_team.body, "one tenant, whichever of its credentials");
    let shared = ask(there.client(), "sk-stranger").await;
    assert_from("redis", &shared);
    assert_eq!(shared.body, of_stranger.body);
    assert_eq!(upstream.calls(), 2);
    assert!(!ask(there.client(), "sk-other").await.is_hit(), "a third is nobody's");
}

#[tokio::test]
async fn that_there_is_nothing_stays_with_the_server_that_was_told() {
    let upstream = Upstream::start(|received| {
        let status = if received.uri.path() == "/page" { 200 } else { 404 };
        let reply = Reply::bytes("said").status(status);
        if status == 200 { reply.with("cache-control", "max-age=600") } else { reply }
    })
    .await;
    let redis = Redis::start().await;
    let route = "[[route]]\nendpoint = \"http\"\nnegative_for = \"1h\"\n";
    let setup = || Setup::in_front_of(&upstream).config(route).sharing(&redis.url());
    let (one, other) = (Server::start(setup()).await, Server::start(setup()).await);
    get(&one, "/none", &[]).await;
    let negative = get(&one, "/none", &[]).await;
    assert!(negative.is_hit(), "{}", negative.cache_status());
    get(&one, "/page", &[]).await;
    one.has_written(1).await;
    redis.has_keys(1).await;
    assert!(!get(&other, "/none", &[]).await.is_hit());
    assert_from("redis", &get(&other, "/page", &[]).await);
}

#[tokio::test]
async fn what_may_not_be_stored_is_not_in_redis_and_who_asks_past_the_cache_asks_past_redis() {
    let upstream = upstream_by_call(|count, received| {
        let reply = Reply::bytes(format!("answer {count}"));
        match received.uri.path() {
            "/never" => reply.with("cache-control", "no-store"),
            "/private" => reply.with("cache-control", "private, max-age=600"),
            _ => reply.with("cache-control", "max-age=600"),
        }
    })
    .await;
    let (redis, one, other) = sharing(&upstream).await;
    for path in ["/never", "/private"] {
        get(&one, path, &[]).await;
    }
    get(&one, "/unstored", &[("cache-control", "no-store")]).await;
    assert_eq!(text(&get(&one, "/page", &[]).await), "answer 3");
    one.has_written(1).await;
    redis.has_keys(1).await;

    let found = other.redis_reads("found").await;
    let answer = get(&other, "/page", &[("cache-control", "no-store")]).await;
    assert_eq!((answer.is_hit(), text(&answer)), (false, "answer 4"));
    assert!(other.redis_reads("found").await <= found, "it does not want what is there");
    let answer = get(&other, "/page", &[("cache-control", "no-cache")]).await;
    assert_eq!((answer.is_hit(), text(&answer)), (false, "answer 5"));
    // What the second brought is newer than what was there.
    other.has_written(1).await;
    redis.has_keys(1).await;
    let third = server_of(&upstream, &redis).await;
    let answer = get(&third, "/page", &[]).await;
    assert_from("redis", &answer);
    assert_eq!(text(&answer), "answer 5");
    assert_eq!(upstream.calls(), 6);
}

#[tokio::test]
async fn what_is_only_wanted_from_the_cache_comes_from_redis_too() {
    let upstream = Upstream::of_pages().await;
    let (_redis, one, other) = sharing(&upstream).await;
    get(&one, "/page", &[]).await;
    one.has_written(1).await;
    assert_eq!(cached(&other, "/other").await.status, 504);
    assert_from("redis", &cached(&other, "/page").await);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn an_entry_from_redis_answers_conditions_ranges_and_heads() {
    let upstream = counting(&[("cache-control", "max-age=600"), ("etag", "\"v1\"")]).await;
    let (redis, one, _) = sharing(&upstream).await;
    get(&one, "/page", &[]).await;
    one.has_written(1).await;
    for (method, fields, status, body) in [
        (Method::GET, &[("if-none-match", "\"v1\"")][..], 304, ""),
        (Method::GET, &[("range", "bytes=0-2")], 206, "ans"),
        (Method::HEAD, &[], 200, ""),
        (Method::GET, &[], 200, "answer 0"),
    ] {
        let cold = server_of(&upstream, &redis).await;
        let answer = plain::ask(&cold.client(), method, "/page", fields).await;
        assert_eq!((answer.status.as_u16(), text(&answer)), (status, body), "{fields:?}");
        assert!(is_from_redis(&answer), "{fields:?}: {}", answer.cache_status());
        assert_eq!(answer.field("etag"), "\"v1\"", "{fields:?}");
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn a_server_that_ends_writes_first_what_waits() {
    let upstream = Upstream::of_pages().await;
    let redis = Redis::start().await;
    let relay = Relay::to(&redis.address()).await;
    let mut server = Server::start(Setup::in_front_of(&upstream).sharing(&relay.url())).await;
    relay.will(Manner::Delay(Duration::from_millis(20)));
    let client = server.client();
    join_all((0..60).map(|number| {
        let client = client.clone();
        async move { ask_page(&client, &format!("/page/{number}")).await }
    }))
    .await;
    server.stop().await;
    assert_eq!(redis.keys().await.len(), 60);
}

/// An upstream that counts its answers in their bodies and tags them.
async fn tagged() -> Upstream {
    counting(&[
        ("cache-control", "max-age=600, stale-while-revalidate=600"),
        ("surrogate-key", "all shop"),
    ])
    .await
}

async fn purge(server: &Server, targets: &Value) {
    let answer = Answer::of(server.admin_client().post("/purge", targets)).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
}

#[tokio::test]
async fn what_was_in_a_servers_tiers_and_in_redis_is_gone_from_both_by_one_order() {
    let upstream = tagged().await;
    let (_redis, one, other) = sharing(&upstream).await;
    get(&one, "/page", &[]).await;
    one.has_written(1).await;
    for tier in ["redis", "memory"] {
        assert_from(tier, &get(&other, "/page", &[]).await);
    }
    purge(&other, &json!({ "tags": ["shop"] })).await;
    let anew = get(&other, "/page", &[]).await;
    assert_eq!((anew.is_hit(), text(&anew)), (false, "answer 1"), "{}", anew.cache_status());
    assert_eq!(text(&get(&other, "/page", &[]).await), "answer 1");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn what_was_purged_and_fetched_anew_is_shared_again() {
    let upstream = tagged().await;
    let redis = Redis::start().await;
    let one = server_of(&upstream, &redis).await;
    get(&one, "/page", &[]).await;
    one.has_written(1).await;
    // Without a disk, its own tiers are empty after a restart, and its orders are not.
    let no_disk = "[cache]\ndisk_bytes_max = \"0\"";
    let setup = Setup::in_front_of(&upstream).config(no_disk).sharing(&redis.url());
    let mut other = Server::start(setup).await;
    purge(&other, &json!({ "urls": ["/page"] })).await;
    assert_eq!(text(&get(&other, "/page", &[]).await), "answer 1");
    other.has_written(1).await;
    other.stop().await;
    let other = other.start_again().await;
    let cold = server_of(&upstream, &redis).await;
    for server in [&other, &cold] {
        let answer = get(server, "/page", &[]).await;
        assert_from("redis", &answer);
        assert_eq!(text(&answer), "answer 1");
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn what_a_server_has_purged_softly_is_stale_when_it_comes_from_redis() {
    let upstream = tagged().await;
    let (_redis, one, other) = sharing(&upstream).await;
    get(&one, "/page", &[]).await;
    one.has_written(1).await;
    purge(&other, &json!({ "tags": ["shop"], "soft": true })).await;
    let stale = get(&other, "/page", &[]).await;
    assert!(stale.cache_status().contains("hit; ttl=-"), "{}", stale.cache_status());
    assert_eq!(text(&stale), "answer 0");
    eventually("the refreshed answer", || async {
        (text(&get(&other, "/page", &[]).await) == "answer 1").then_some(())
    })
    .await;
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn what_is_purged_while_redis_is_asked_is_not_confirmed_but_fetched() {
    let upstream = plain::confirming("no-cache").await;
    let redis = Redis::start().await;
    let relay = Relay::to(&redis.address()).await;
    let setup = Setup::in_front_of(&upstream).sharing(&relay.url());
    let setup = setup.redis("deadline", "10s").redis("shared_flights", "false");
    let server = Server::start(setup).await;
    server.is_ready("ready").await;
    server.client().get("/page").await;
    let looked =
        async || server.metric("cache_server_tier_read_seconds_count{tier=\"memory\"}").await;
    let before = looked().await;
    relay.will(Manner::Delay(Duration::from_secs(2)));
    let client = server.client();
    let purged = async {
        let has_looked = || async { (looked().await > before).then_some(()) };
        eventually("it has looked in memory", has_looked).await;
        let order = server.admin_client().post("/purge", &json!({ "everything": true }));
        assert_eq!(Answer::of(order).await.status, 200);
    };
    tokio::join!(client.get("/page"), purged);
    assert_eq!(upstream.received().iter().filter(|one| plain::is_conditional(one)).count(), 0);
    assert_eq!(upstream.calls(), 2);
}
