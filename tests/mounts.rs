//! Several upstreams: which one a request is for, by prefix and by host; and how each one does.

use black_box_tests::wire::Wire;
use black_box_tests::{Raw, Reply, Server, Setup, Upstream, eventually};
use http::Method;
use serde_json::{Value, json};

fn mount(name: &str, upstream: &Upstream, more: &str) -> String {
    format!("[[upstream]]\nname = \"{name}\"\nurl = \"{}\"\n{more}\n", upstream.url())
}

async fn saying(name: &'static str) -> Upstream {
    Upstream::start(move |_| Reply::bytes(name)).await
}

/// What a request of this target to this host is answered.
async fn get(server: &Server, host: &str, target: &str) -> String {
    let mut caller = Raw::open(&server.address).await;
    caller.send(format!("GET {target} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
    let answer = caller.answer().await;
    let status = answer.head.split(' ').nth(1).unwrap_or("").to_owned();
    if status == "200" { answer.text() } else { status }
}

#[tokio::test]
async fn the_longest_prefix_takes_a_request() {
    let (all, api, beta) = (saying("all").await, saying("api").await, saying("beta").await);
    let lines = mount("all", &all, "prefix = \"/\"")
        + &mount("api", &api, "prefix = \"/api\"")
        + &mount("beta", &beta, "prefix = \"/api/beta\"");
    let server = Server::start(Setup::default().config(&lines)).await;
    for (target, expected) in [
        ("/api/x", "api"),
        ("/api", "api"),
        ("/apix", "all"),
        ("/api/beta/x", "beta"),
        ("/api/betax", "api"),
        ("/x", "all"),
    ] {
        assert_eq!(get(&server, "cache", target).await, expected, "{target}");
    }
}

#[tokio::test]
async fn a_host_chooses_among_upstreams_and_unknown_hosts_get_those_without_one() {
    let (one, two, rest) = (saying("one").await, saying("two").await, saying("rest").await);
    let lines = mount("one", &one, "hosts = [\"one.internal\", \"ONE.example\", \"[::1]\"]")
        + &mount("two", &two, "hosts = [\"two.internal\"]\nprefix = \"/v1\"")
        + &mount("rest", &rest, "prefix = \"/\"");
    let server = Server::start(Setup::default().config(&lines)).await;
    for (host, target, expected) in [
        ("one.internal", "/x", "one"),
        ("One.Internal:8080", "/x", "one"),
        ("one.example", "/x", "one"),
        ("[::1]", "/x", "one"),
        ("[::1]:8080", "/x", "one"),
        ("two.internal", "/v1/x", "two"),
        ("two.internal", "/v2/x", "rest"),
        ("elsewhere", "/v1/x", "rest"),
    ] {
        assert_eq!(get(&server, host, target).await, expected, "{host}{target}");
    }
    // A target that names the host goes before the field (RFC 9112 section 3.2.2).
    assert_eq!(get(&server, "elsewhere", "http://one.internal/x").await, "one");
    let seen = one.received();
    let own = one.url().replace("http://", "");
    assert!(seen.iter().all(|received| received.headers["host"] == own.as_str()), "{seen:?}");
}

#[tokio::test]
async fn a_host_that_no_upstream_answers_to_is_told_so() {
    let one = saying("one").await;
    let lines = mount("one", &one, "hosts = [\"one.internal\"]");
    let server = Server::start(Setup::default().config(&lines)).await;
    assert_eq!(get(&server, "one.internal", "/x").await, "one");
    assert_eq!(get(&server, "other.internal", "/x").await, "404");
    assert_eq!(one.calls(), 1);
}

#[tokio::test]
async fn hosts_that_could_not_be_meant_are_refused() {
    for (lines, named) in [
        ("hosts = [\"http://a\"]", "upstream[0].hosts"),
        ("hosts = [\"a:80\"]", "upstream[0].hosts"),
        ("hosts = [\"a/b\"]", "upstream[0].hosts"),
    ] {
        let config = format!("[[upstream]]\nname = \"a\"\nurl = \"http://u\"\n{lines}\n");
        let checked = Server::check(&config).await;
        assert_eq!(checked.status.code(), Some(2), "{lines}");
        assert!(checked.stderr.contains(named), "{lines}: {}", checked.stderr);
    }
    let twice = "[[upstream]]\nname = \"a\"\nurl = \"http://u\"\nhosts = [\"h\"]\n\
                 [[upstream]]\nname = \"b\"\nurl = \"http://v\"\nhosts = [\"x\", \"H\"]\n";
    assert!(Server::check(twice).await.stderr.contains("upstream[1].prefix"));
}

async fn health(server: &Server) -> Value {
    server.stats().await["upstreams"]["u"].clone()
}

#[tokio::test]
async fn the_health_of_an_upstream_shows_in_stats_metrics_and_log() {
    let failing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = std::sync::Arc::clone(&failing);
    let upstream = Upstream::start(move |_| {
        let fails = told.load(std::sync::atomic::Ordering::Relaxed);
        Reply::json(&json!({})).status(if fails { 500 } else { 200 })
    })
    .await;
    let lines = mount("u", &upstream, "prefix = \"/\"");
    let server = Server::start(Setup::default().config(&lines)).await;
    assert_eq!(health(&server).await["state"], "unknown");
    server.client().get("/x").await;
    let up = health(&server).await;
    assert_eq!((&up["state"], &up["exchanges"]["answered"]), (&json!("up"), &json!(1)));

    failing.store(true, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..3 {
        assert_eq!(server.client().get("/x").await.status, 500);
    }
    let down = health(&server).await;
    assert_eq!((&down["state"], &down["last_failure"]), (&json!("down"), &json!("server-error")));
    assert_eq!(down["failures_in_a_row"], 3);
    assert_eq!(server.metric("cache_server_upstream_up{upstream=\"u\"}").await, 0.0);
    let series = "cache_server_upstream_exchanges_total{upstream=\"u\",end=\"server-error\"}";
    assert_eq!(server.metric(series).await, 3.0);
    let said = || async { server.log().contains("an upstream is down").then_some(()) };
    eventually("a line in the log", said).await;

    failing.store(false, std::sync::atomic::Ordering::Relaxed);
    server.client().get("/x").await;
    assert_eq!(health(&server).await["state"], "up");
    assert_eq!(server.metric("cache_server_upstream_up{upstream=\"u\"}").await, 1.0);
}

#[tokio::test]
async fn an_upstream_whose_answers_break_off_is_down() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\nhalf";
    let upstream = Wire::start(move |_| half.into()).await;
    let lines =
        format!("[[upstream]]\nname = \"u\"\nurl = \"{}\"\nprefix = \"/\"\n", upstream.url());
    let server = Server::start(Setup::default().config(&lines)).await;
    let client = server.client();
    // Two that are fetched for all, and one that is passed through.
    for (method, path) in [(Method::GET, "/a"), (Method::GET, "/b"), (Method::POST, "/c")] {
        if let Ok(answer) = client.request(method, path).send().await {
            assert!(answer.status() == 502 || answer.bytes().await.is_err());
        }
    }
    let down = health(&server).await;
    assert_eq!((&down["state"], &down["last_failure"]), (&json!("down"), &json!("broken")));
    let exchanges = &down["exchanges"];
    assert_eq!((&exchanges["broken"], &exchanges["answered"]), (&json!(3), &json!(0)));
    assert_eq!(server.metric("cache_server_upstream_up{upstream=\"u\"}").await, 0.0);
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_told_from_one_that_fails() {
    let upstream = saying("gone").await;
    let lines = mount("u", &upstream, "prefix = \"/\"");
    upstream.stop().await;
    let server = Server::start(Setup::default().config(&lines)).await;
    assert_eq!(server.client().get("/x").await.status, 502);
    let report = health(&server).await;
    assert_eq!(report["last_failure"], "unreachable");
    assert_eq!((&report["state"], &report["failures_in_a_row"]), (&json!("up"), &json!(1)));
}

#[tokio::test]
async fn a_caller_that_breaks_off_its_body_is_no_failure_of_the_upstream() {
    let upstream = saying("fine").await;
    let lines = mount("u", &upstream, "prefix = \"/\"");
    let server = Server::start(Setup::default().config(&lines)).await;
    let mut caller = Raw::open(&server.address).await;
    caller.send("POST /x HTTP/1.1\r\nhost: cache\r\ncontent-length: 100\r\n\r\nhalf").await;
    eventually("it to be asked", || async {
        (health(&server).await["waiting"] == 1).then_some(())
    })
    .await;
    drop(caller);
    eventually("it to be given up", || async {
        (health(&server).await["waiting"] == 0).then_some(())
    })
    .await;
    assert_eq!(health(&server).await["exchanges"]["broken"], 0);
}
