//! A CDN in front: the real nginx and the real Varnish, set up by the files of docs/examples.

use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use black_box_tests::front::{is_kept, is_stale, members};
use black_box_tests::plain::{self, field, text, with};
use black_box_tests::sample::{CHAT, chat, events, recorded};
use black_box_tests::upstream::Received;
use black_box_tests::{
    Answer, Client, Front, Product, Reading, Reply, Server, Setup, Upstream, eventually,
};
use futures_util::future::join_all;
use http::Method;
use serde_json::json;

/// What the upstream says of a page that is for all.
const FRESH: &[(&str, &str)] = &[
    ("cache-control", "max-age=600, public"),
    ("etag", "\"v1\""),
    ("surrogate-key", "shop page-1"),
    ("content-type", "text/plain"),
];

/// The settings by which a front refreshes what is stale behind its answer.
const REFRESHES: &[&str] = &["cdn_stale_while_revalidate", "browser_stale_while_revalidate"];

/// "in gzip", zipped: Varnish looks whether it is.
const ZIPPED: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\xcc\x53\x48\xaf\xca\x2c\x00\x00\x88\x14\xd0\x6b\x07\x00\x00\x00";

/// An upstream, the server, and a cache in front of it.
struct Chain {
    upstream: Upstream,
    server: Server,
    front: Front,
}

impl Chain {
    /// With the route that the cache in front's example asks for, or what `change` makes of it. The
    /// upstream's replies are numbered.
    async fn start(
        product: Product,
        change: impl Fn(String) -> String,
        reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
    ) -> Chain {
        let upstream = plain::upstream_by_call(reply).await;
        let route = change(product.route());
        let config = format!("[[route]]\nendpoint = \"http\"\nrefresh_ahead = 0.0\n{route}");
        let server = Server::start(Setup::in_front_of(&upstream).config(&config)).await;
        let front = Front::start(product, &server.address).await;
        Chain { upstream, server, front }
    }

    /// In front of pages that say which reply they are.
    async fn of_pages(product: Product, change: impl Fn(String) -> String) -> Chain {
        Chain::start(product, change, |count, _| with(Reply::bytes(format!("page {count}")), FRESH))
            .await
    }

    async fn get(&self, fields: &[(&str, &str)]) -> Answer {
        get(&self.front.client(), fields).await
    }

    /// How many requests have reached the server so far.
    async fn reached(&self) -> u64 {
        let stats = self.server.stats().await;
        let outcomes = stats["requests"].as_object().expect("the outcomes");
        outcomes.values().map(|count| count.as_u64().expect("a number")).sum()
    }
}

async fn get(client: &Client, fields: &[(&str, &str)]) -> Answer {
    plain::ask(client, Method::GET, "/page", fields).await
}

/// Waits behind both at once.
async fn behind_both(test: impl AsyncFn(Product)) {
    join_all(Product::ALL.map(|product| test(product))).await;
}

fn unchanged(route: String) -> String {
    route
}

/// The route without the lines that begin like this.
fn without(route: &str, beginnings: &[&str]) -> String {
    let is_kept = |line: &&str| !beginnings.iter().any(|beginning| line.starts_with(beginning));
    route.lines().filter(is_kept).collect::<Vec<_>>().join("\n")
}

/// The cache in front keeps answers for a second.
fn for_a_second(route: &str) -> String {
    let short = route.replace("cdn = \"1h\"", "cdn = \"1s\"");
    assert_ne!(short, route, "the example keeps answers for an hour");
    short
}

/// And answers with nothing that is stale.
fn for_a_second_alone(route: &str) -> String {
    without(&for_a_second(route), &["cdn_stale", "browser_stale"])
}

#[tokio::test]
async fn a_public_answer_is_kept_in_front() {
    for product in Product::ALL {
        let chain = Chain::of_pages(product, unchanged).await;
        let first = chain.get(&[]).await;
        assert!(!is_kept(&first), "{product:?}: {:?}", members(&first));
        let reached = chain.reached().await;
        // Who asks makes no difference to what is for all.
        for fields in [&[][..], &[("x-api-key", "a")], &[("authorization", "Bearer a")]] {
            let again = chain.get(fields).await;
            assert!(is_kept(&again), "{product:?}: {:?}", members(&again));
            assert_eq!(text(&again), "page 0");
            assert_eq!(again.field("etag"), "\"v1\"");
        }
        assert_eq!(chain.reached().await, reached, "{product:?}");
    }
}

#[tokio::test]
async fn an_answer_tells_of_both_caches() {
    for product in Product::ALL {
        let chain = Chain::of_pages(product, unchanged).await;
        for is_hit in [false, true] {
            let answer = chain.get(&[]).await;
            let [ours, fronts] = &members(&answer)[..] else { panic!("{:?}", members(&answer)) };
            assert!(ours.starts_with("cache-server; fwd=miss; fwd-status=200; stored"), "{ours}");
            assert_eq!(fronts.contains("; hit"), is_hit, "{product:?}: {fronts}");
            assert!(answer.field("cache-control").starts_with("public, max-age=60"));
            assert!(answer.field("via").contains("cache-server"));
        }
        let asked = &chain.upstream.received()[0];
        assert_eq!(field(asked, "x-stale"), "", "what is between the steps of one stays there");
    }
}

#[tokio::test]
async fn a_public_answer_is_kept_no_longer_than_is_said() {
    behind_both(async |product| {
        let chain = Chain::of_pages(product, |route| for_a_second_alone(&route)).await;
        let first = chain.get(&[]).await;
        assert!(!is_kept(&first) && !first.field("cache-status").is_empty());
        let reached = chain.reached().await;
        eventually("the end of what is kept in front", || async {
            let answer = chain.get(&[]).await;
            assert!(!is_stale(&answer), "{product:?}: {:?}", members(&answer));
            (!is_kept(&answer)).then_some(())
        })
        .await;
        assert_eq!(chain.reached().await, reached + 1, "{product:?}");
        assert_eq!(chain.upstream.calls(), 1, "the server has it for longer");
    })
    .await;
}

#[tokio::test]
async fn an_answer_in_a_tenants_scope_is_kept_by_no_cache_in_front() {
    let callers: [&[(&str, &str)]; 7] = [
        &[],
        &[("x-api-key", "one")],
        &[("x-api-key", "two")],
        &[("authorization", "Bearer one")],
        &[("authorization", "Bearer two")],
        &[("cookie", "session=one")],
        &[("cookie", "session=two")],
    ];
    for product in Product::ALL {
        let in_tenants = |route: String| without(&route, &["scope", "allow_unverified_callers"]);
        // It is said to be for all: our word goes before that.
        let chain = Chain::start(product, in_tenants, |_, received| {
            let names = ["x-api-key", "authorization", "cookie"];
            let who: Vec<&str> = names.iter().map(|name| field(received, name)).collect();
            with(Reply::bytes(format!("for {}", who.concat())), FRESH)
        })
        .await;
        for round in 0..2 {
            for fields in callers {
                let reached = chain.reached().await;
                let answer = chain.get(fields).await;
                let who = fields.first().map_or("", |(_, value)| *value);
                assert_eq!(text(&answer), format!("for {who}"), "{product:?}");
                assert!(!is_kept(&answer), "{product:?} {who}: {:?}", members(&answer));
                assert!(answer.field("cache-control").starts_with("private, max-age=60"));
                assert_eq!(chain.reached().await, reached + 1, "{product:?} {who}");
                let ours = &members(&answer)[0];
                assert_eq!(ours.starts_with("cache-server; hit"), round == 1, "{who}: {ours}");
            }
        }
        assert_eq!(chain.upstream.calls(), callers.len());
    }
}

#[tokio::test]
async fn what_is_not_stored_here_is_not_kept_in_front() {
    let answers: [&[(&str, &str)]; 8] = [
        &[("cache-control", "no-store")],
        &[("cache-control", "private, max-age=600")],
        &[("cache-control", "private"), ("surrogate-control", "max-age=600")],
        &[("cache-control", "no-cache")],
        &[("cache-control", "max-age=600"), ("set-cookie", "session=1")],
        // The first caller alone is given its cookie.
        &[("cache-control", "public, max-age=600"), ("set-cookie", "session=1")],
        &[],
        // To a request with a credential, this is for nobody else (RFC 9111 section 3.5).
        &[("cache-control", "max-age=600")],
    ];
    for product in Product::ALL {
        let chain = Chain::start(product, unchanged, move |count, received| {
            let which: usize = received.uri.path()[1..].parse().expect("a number");
            with(Reply::bytes(format!("answer {count}")), answers[which])
        })
        .await;
        for (which, says) in answers.iter().enumerate() {
            for _ in 0..2 {
                let (reached, path) = (chain.reached().await, format!("/{which}"));
                let key = [("x-api-key", "one")];
                let answer = plain::ask(&chain.front.client(), Method::GET, &path, &key).await;
                let told = members(&answer);
                assert!(!is_kept(&answer), "{product:?} {says:?}: {told:?}");
                assert_eq!(chain.reached().await, reached + 1, "{product:?}");
            }
        }
        assert!(is_kept(&chain.front.client().get("/5").await), "without a cookie it is for all");
    }
}

#[tokio::test]
async fn a_stale_answer_is_refreshed_behind_it_and_looks_new_to_browsers() {
    behind_both(async |product| {
        let chain = Chain::of_pages(product, |route| for_a_second(&route)).await;
        chain.get(&[]).await;
        eventually("a stale answer", || async {
            let asked = SystemTime::now();
            let answer = chain.get(&[]).await;
            assert!(is_kept(&answer), "{product:?}: nobody waits: {:?}", members(&answer));
            // To a browser it begins anew, however old it is.
            assert!(matches!(answer.field("age"), "" | "0"), "{product:?}");
            let date = httpdate::parse_http_date(answer.field("date")).expect("a date");
            assert!(date + Duration::from_secs(1) > asked, "{product:?}: whole seconds");
            is_stale(&answer).then_some(())
        })
        .await;
        eventually("what was fetched behind it", || async {
            let answer = chain.get(&[]).await;
            assert!(is_kept(&answer), "{product:?}: nobody waits: {:?}", members(&answer));
            (!is_stale(&answer)).then_some(())
        })
        .await;
        assert!(chain.reached().await > 1, "{product:?}");
    })
    .await;
}

#[tokio::test]
async fn the_front_answers_while_the_server_is_stopped() {
    behind_both(async |product| {
        let short = |route: String| without(&for_a_second(&route), REFRESHES);
        let mut chain = Chain::of_pages(product, short).await;
        chain.get(&[]).await;
        chain.server.stop().await;
        eventually("a stale answer", || async {
            let answer = chain.get(&[]).await;
            assert_eq!((answer.status.as_u16(), text(&answer)), (200, "page 0"), "{product:?}");
            is_stale(&answer).then_some(())
        })
        .await;
        let other = chain.front.client().get("/other").await;
        assert!(other.status.is_server_error(), "{product:?}: nothing is kept of it");
        let address = chain.front.address.clone();
        drop(chain.front);
        eventually("the end of all its processes", || async {
            TcpStream::connect(&address).is_err().then_some(())
        })
        .await;
    })
    .await;
}

/// A chain that keeps a page whose upstream fails from then on. The server has nothing left to answer
/// with either, once its own second is over.
async fn with_failing_upstream(product: Product, change: impl Fn(String) -> String) -> Chain {
    let chain = Chain::start(product, change, |count, _| match count {
        0 => Reply::bytes("page 0").with("cache-control", "max-age=1"),
        _ => Reply::bytes("broken").status(503),
    })
    .await;
    assert_eq!(text(&chain.get(&[]).await), "page 0");
    chain
}

#[tokio::test]
async fn varnish_answers_an_error_with_what_is_stale_and_nginx_passes_it_on() {
    let asks_first = |route: String| without(&for_a_second(&route), REFRESHES);
    let (nginx, varnish, refreshing) = tokio::join!(
        with_failing_upstream(Product::Nginx, asks_first),
        with_failing_upstream(Product::Varnish, asks_first),
        with_failing_upstream(Product::Varnish, |route| for_a_second(&route)),
    );
    eventually("an error", || async {
        let answer = nginx.get(&[]).await;
        (answer.status.as_u16() == 503).then_some(())
    })
    .await;
    for chain in [varnish, refreshing] {
        eventually("a stale answer instead of an error", || async {
            let answer = chain.get(&[]).await;
            assert_eq!((answer.status.as_u16(), text(&answer)), (200, "page 0"));
            (is_stale(&answer) && chain.upstream.calls() > 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_range_is_cut_out_by_the_front_whether_it_has_the_whole_or_not() {
    let whole: String = (0..50_000).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
    for product in Product::ALL {
        let body = whole.clone();
        let chain = Chain::start(product, unchanged, move |_, received| {
            let says = if received.uri.path() == "/private" {
                &[("cache-control", "private")][..]
            } else {
                FRESH
            };
            with(Reply::bytes(body.clone()), says)
        })
        .await;
        let client = chain.front.client();
        for (path, is_known) in [("/page", false), ("/page", true), ("/private", false)] {
            let range = [("range", "bytes=30000-30009")];
            let part = plain::ask(&client, Method::GET, path, &range).await;
            assert_eq!((part.status.as_u16(), text(&part)), (206, &whole[30_000..30_010]));
            assert_eq!(part.field("content-range"), "bytes 30000-30009/50000", "{product:?}");
            assert_eq!(is_kept(&part), is_known, "{product:?}: {:?}", members(&part));
            let all = client.get(path).await;
            assert_eq!((all.status.as_u16(), text(&all)), (200, &*whole), "{product:?}");
        }
        assert_eq!(chain.upstream.received().iter().filter(|r| r.uri.path() == "/page").count(), 1);
        let beyond = get(&client, &[("range", "bytes=50000-")]).await;
        assert_eq!(beyond.status.as_u16(), 416, "{product:?}");
    }
}

#[tokio::test]
async fn a_condition_is_answered_by_the_front() {
    for product in Product::ALL {
        let chain = Chain::of_pages(product, unchanged).await;
        // The front does not have it yet, and neither have we.
        for _ in 0..2 {
            let answer = chain.get(&[("if-none-match", "\"v1\"")]).await;
            assert_eq!((answer.status.as_u16(), text(&answer)), (304, ""), "{product:?}");
            assert_eq!(answer.field("etag"), "\"v1\"");
        }
        assert_eq!(chain.reached().await, 1, "{product:?}");
        let other = chain.get(&[("if-none-match", "\"v0\"")]).await;
        assert_eq!((other.status.as_u16(), text(&other)), (200, "page 0"));
        assert!(is_kept(&other), "{product:?}: {:?}", members(&other));
    }
}

#[tokio::test]
async fn variants_by_accept_encoding_are_kept_apart() {
    for product in Product::ALL {
        let chain = Chain::start(product, unchanged, |_, received| {
            let reply = match field(received, "accept-encoding") {
                "gzip" => Reply::bytes(ZIPPED).with("content-encoding", "gzip"),
                "br" => Reply::bytes("in br").with("content-encoding", "br"),
                _ => Reply::bytes("as it is"),
            };
            with(reply, FRESH).with("vary", "Accept-Encoding")
        })
        .await;
        for is_known in [false, true] {
            for (coding, bytes) in [("gzip", ZIPPED), ("br", b"in br")] {
                let answer = chain.get(&[("accept-encoding", coding)]).await;
                assert_eq!(answer.body, bytes, "{product:?}: as it came");
                assert_eq!(answer.field("content-encoding"), coding);
                assert_eq!(answer.field("vary").to_ascii_lowercase(), "accept-encoding");
                assert_eq!(is_kept(&answer), is_known, "{product:?}: {:?}", members(&answer));
            }
            let plain = chain.get(&[]).await;
            assert_eq!((text(&plain), plain.field("content-encoding")), ("as it is", ""));
        }
        assert_eq!(chain.upstream.calls(), 3);
    }
}

#[tokio::test]
async fn a_stream_passes_event_by_event() {
    let whole = recorded("openai-chat-completions/whole.sse");
    for product in Product::ALL {
        let replies: Arc<Mutex<Vec<Reply>>> = Arc::default();
        let gives = Arc::clone(&replies);
        let chain = Chain::start(product, unchanged, move |_, _| {
            gives.lock().expect("the replies").pop().expect("asked once")
        })
        .await;
        let client = chain.front.client();
        // A model call, and an event stream of HTTP at large.
        let call = client.post(CHAT, &chat(true));
        let get = client.request(Method::GET, "/events").header("accept", "text/event-stream");
        for request in [call, get] {
            let (live, reply) = Reply::live("text/event-stream");
            replies.lock().expect("the replies").push(reply);
            let mut caller = Reading::of(request).await;
            for event in events(&whole) {
                live.send(Ok(event.clone())).expect("the upstream reads");
                caller.expect(&event).await;
            }
            assert!(!is_kept(&caller.head), "{product:?}");
            drop(live);
            assert_eq!(caller.rest().await.expect("a clean end"), "", "{product:?}");
        }
    }
}

#[tokio::test]
async fn a_model_call_goes_past_the_front_and_is_answered_by_the_server() {
    let whole = recorded("openai-chat-completions/whole.json");
    for product in Product::ALL {
        let answer = whole.clone();
        let chain = Chain::start(product, unchanged, move |_, _| {
            Reply::bytes(answer.clone()).with("content-type", "application/json")
        })
        .await;
        for is_hit in [false, true] {
            let answer = chain.front.client().ask(CHAT, &chat(false)).await;
            assert_eq!(answer.body, whole, "{product:?}");
            let [ours, fronts] = &members(&answer)[..] else { panic!("{:?}", members(&answer)) };
            assert_eq!(ours.starts_with("cache-server; hit"), is_hit, "{product:?}: {ours}");
            assert!(fronts.contains("; fwd=bypass"), "{product:?}: {fronts}");
        }
        assert_eq!(chain.upstream.calls(), 1);
        let asked = &chain.upstream.received()[0];
        assert_eq!(asked.body, chat(false).to_string(), "{product:?}: not a byte differs");
        assert_eq!(field(asked, "authorization"), "Bearer sk-test");
        let via: Vec<_> = asked.headers.get_all("via").iter().collect();
        let via = format!("{via:?}").to_lowercase();
        let name = format!("{product:?}").to_lowercase();
        assert!(via.contains(&name) && via.contains("cache-server"), "{via}");
    }
}

#[tokio::test]
async fn what_is_purged_here_and_then_in_front_is_fetched_anew() {
    let chain = Chain::of_pages(Product::Varnish, unchanged).await;
    let ban = Method::from_bytes(b"BAN").expect("a method");
    let in_front = async |tag: &str| {
        let tag = [("surrogate-key", tag)];
        plain::ask(&chain.front.client(), ban.clone(), "/", &tag).await.status.as_u16()
    };
    let first = chain.get(&[]).await;
    assert_eq!((text(&first), first.field("surrogate-key")), ("page 0", ""));

    // In front alone it brings what we have.
    assert_eq!(in_front("shop").await, 200);
    let again = chain.get(&[]).await;
    assert_eq!((text(&again), is_kept(&again)), ("page 0", false));

    // Here alone it changes nothing in front.
    let order = json!({"tags": ["page-1"]});
    let purged = Answer::of(chain.server.admin_client().post("/purge", &order)).await;
    assert_eq!(purged.status.as_u16(), 200);
    assert_eq!(text(&chain.get(&[]).await), "page 0");

    for other in ["sho", "page", "page-11"] {
        assert_eq!(in_front(other).await, 200);
        assert!(is_kept(&chain.get(&[]).await), "{other} is another tag");
    }
    for no_tag in ["", "shop page-1", ".*|(", "a\" || obj.status == 200"] {
        assert_eq!(in_front(no_tag).await, 400, "{no_tag}");
    }
    assert_eq!(in_front("page-1").await, 200);
    assert_eq!(text(&chain.get(&[]).await), "page 1");
}
