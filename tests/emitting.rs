//! What the answers of a route say on their way out: to caches in front of us, and to browsers.

use std::sync::Arc;

use black_box_tests::plain::{self, text, with};
use black_box_tests::upstream::{Gate, Received};
use black_box_tests::{Answer, Reply, Server, Setup, Upstream};
use http::Method;

const SHARED: &str = "scope = \"shared\"\nallow_unverified_callers = true\n";

const EMIT: &str = "[route.emit]\nbrowser = \"1m\"\ncdn = \"1h\"\n\
    cdn_stale_while_revalidate = \"30s\"\ncdn_stale_if_error = \"1d\"\n\
    cdn_fields = [\"CDN-Cache-Control\", \"Surrogate-Control\", \"Cache-Control\"]\n\
    tag_fields = [\"Surrogate-Key\", \"Cache-Tag\"]\nvary = [\"Accept-Encoding\"]\n\
    strip = [\"X-Powered-By\"]\n";

/// What the upstream says of its own accord.
const SAYS: &[(&str, &str)] = &[
    ("cache-control", "max-age=600, public"),
    ("cdn-cache-control", "max-age=700"),
    ("expires", "Tue, 24 Nov 2020 00:00:00 GMT"),
    ("date", "Tue, 24 Nov 2026 00:00:00 GMT"),
    ("age", "100"),
    ("surrogate-key", "front page"),
    ("x-powered-by", "elves"),
    ("last-modified", "Tue, 24 Nov 2020 00:00:00 GMT"),
];

async fn with_route(
    route: &str,
    reply: impl Fn(usize, &Received) -> Reply + Send + Sync + 'static,
) -> (Upstream, Server) {
    let upstream = plain::upstream_by_call(reply).await;
    let config = format!("[[route]]\nendpoint = \"http\"\nrefresh_ahead = 0.0\n{route}");
    let server = Server::start(Setup::in_front_of(&upstream).config(&config)).await;
    (upstream, server)
}

async fn get(server: &Server, fields: &[(&str, &str)]) -> Answer {
    plain::ask(&server.client(), Method::GET, "/page", fields).await
}

/// A date of this hour, so that what the upstream says is fresh.
fn dated(reply: Reply) -> Reply {
    let now = httpdate::fmt_http_date(std::time::SystemTime::now());
    let fields: Vec<(&str, &str)> = SAYS
        .iter()
        .map(|(name, value)| (*name, if *name == "date" { &*now } else { value }))
        .collect();
    with(reply, &fields)
}

fn assert_is_public(answer: &Answer) {
    assert_eq!(answer.field("cache-control"), "public, max-age=60, s-maxage=3600");
    let cdn = "max-age=3600, stale-while-revalidate=30, stale-if-error=86400";
    assert_eq!(answer.field("cdn-cache-control"), cdn);
    assert_eq!(answer.field("surrogate-control"), cdn);
    assert_eq!((answer.field("age"), answer.field("expires")), ("0", ""));
    let date = httpdate::parse_http_date(answer.field("date")).expect("a date");
    assert!(date.elapsed().is_ok_and(|ago| ago.as_secs() < 60), "it is as of now");
    assert_eq!(answer.field("surrogate-key"), "front page");
    assert_eq!(answer.field("cache-tag"), "front,page");
    assert_eq!(answer.field("vary"), "accept-encoding");
    assert_eq!(answer.field("x-powered-by"), "");
}

#[tokio::test]
async fn what_all_callers_share_says_what_browsers_and_the_cache_in_front_keep() {
    let (upstream, server) =
        with_route(&format!("{SHARED}{EMIT}"), |_, _| dated(Reply::bytes("page"))).await;
    for is_hit in [false, true] {
        let answer = get(&server, &[]).await;
        assert_eq!((answer.is_hit(), text(&answer)), (is_hit, "page"));
        assert_is_public(&answer);
    }
    let part = get(&server, &[("range", "bytes=0-1")]).await;
    assert_eq!(part.status.as_u16(), 206);
    assert_is_public(&part);
    let none = get(&server, &[("range", "bytes=99-")]).await;
    assert_eq!((none.status.as_u16(), none.field("cache-control")), (416, "no-store"));
    assert_eq!((none.field("cdn-cache-control"), none.field("surrogate-control")), ("", ""));
    let condition = [("if-modified-since", "Tue, 24 Nov 2020 00:00:00 GMT")];
    let not_modified = get(&server, &condition).await;
    assert_eq!(not_modified.status.as_u16(), 304);
    assert_is_public(&not_modified);
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn an_answer_in_a_tenants_scope_is_never_made_public() {
    for scope in
        ["", "scope = \"shared\"\n", "scope = \"tenant\"\nallow_unverified_callers = true\n"]
    {
        let (_upstream, server) =
            with_route(&format!("{scope}{EMIT}"), |_, _| dated(Reply::bytes("page"))).await;
        for is_hit in [false, true] {
            for fields in [&[][..], &[("x-api-key", "secret")], &[("cookie", "a=b")]] {
                let answer = get(&server, fields).await;
                assert_eq!(answer.is_hit(), is_hit, "{}", answer.cache_status());
                assert_eq!(answer.field("cache-control"), "private, max-age=60");
                assert_eq!(answer.field("cdn-cache-control"), "no-store");
                assert_eq!(answer.field("surrogate-control"), "no-store");
                assert_eq!((answer.field("surrogate-key"), answer.field("cache-tag")), ("", ""));
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_stored_goes_out_as_the_upstream_said_it() {
    let (_upstream, server) = with_route(&format!("{SHARED}{EMIT}"), |_, received| {
        let reply = Reply::bytes("mine").with("x-powered-by", "elves");
        let says = if received.uri.path().ends_with("/private") { "private" } else { "no-store" };
        reply.with("cache-control", says).with("surrogate-control", "max-age=5")
    })
    .await;
    for (method, path, says) in [
        (Method::GET, "/private", "private"),
        (Method::GET, "/page", "no-store"),
        (Method::POST, "/page", "no-store"),
    ] {
        let answer = plain::ask(&server.client(), method, path, &[]).await;
        assert_eq!(answer.field("cache-control"), says);
        assert_eq!(answer.field("surrogate-control"), "max-age=5");
        assert_eq!(answer.field("x-powered-by"), "", "but for what is stripped");
    }
}

#[tokio::test]
async fn what_is_one_tenants_and_says_nothing_is_said_to_be_private() {
    let (_upstream, server) = with_route(EMIT, |_, _| Reply::bytes("mine")).await;
    for (method, detail) in [(Method::GET, "no-lifetime"), (Method::POST, "not-a-model-route")] {
        let answer = plain::ask(&server.client(), method, "/page", &[("x-api-key", "k")]).await;
        assert!(answer.cache_status().contains(detail), "{}", answer.cache_status());
        assert_eq!(answer.field("cache-control"), "private");
        assert_eq!(answer.field("cdn-cache-control"), "no-store");
    }
}

#[tokio::test]
async fn who_reads_along_is_told_the_same() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let (upstream, server) = with_route(&format!("{SHARED}{EMIT}"), move |_, _| {
        dated(Reply::bytes("page")).held_by(&holds)
    })
    .await;
    let server = Arc::new(server);
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { get(&server, &[]).await })
        })
        .collect();
    server.misses_looked_up(3).await;
    gate.open();
    for caller in callers {
        assert_is_public(&caller.await.expect("an answer"));
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn what_is_stale_here_is_stale_for_all_others() {
    let (_upstream, server) = with_route(&format!("{SHARED}{EMIT}"), |count, _| match count {
        0 => Reply::bytes("page")
            .with("cache-control", "max-age=60, stale-if-error=600")
            .with("age", "61"),
        _ => Reply::bytes("").status(503),
    })
    .await;
    get(&server, &[]).await;
    let stale = get(&server, &[]).await;
    assert!(stale.cache_status().contains("detail=stale-if-error"), "{}", stale.cache_status());
    assert_eq!(stale.field("cache-control"), "public, max-age=0, s-maxage=0");
    assert!(stale.field("cdn-cache-control").starts_with("max-age=0, "));
}

#[tokio::test]
async fn what_was_purged_softly_is_stale_for_all_others() {
    let gate = Arc::new(Gate::closed());
    let holds = Arc::clone(&gate);
    let (_upstream, server) = with_route(&format!("{SHARED}{EMIT}"), move |count, _| {
        let directives = "max-age=600, stale-while-revalidate=600";
        let reply = Reply::bytes("page").with("cache-control", directives);
        if count == 0 { reply.with("etag", "\"a\"") } else { reply.held_by(&holds) }
    })
    .await;
    get(&server, &[]).await;
    server.purge(&serde_json::json!({ "urls": ["/page"], "soft": true })).await;
    for (fields, status) in [(&[][..], 200), (&[("if-none-match", "\"a\"")], 304)] {
        let stale = get(&server, fields).await;
        assert_eq!(stale.status, status, "{}", stale.cache_status());
        assert_eq!(stale.field("cache-control"), "public, max-age=0, s-maxage=0");
        assert!(stale.field("cdn-cache-control").starts_with("max-age=0, "));
    }
    gate.open();
}

#[tokio::test]
async fn what_has_fields_for_one_caller_beside_it_is_not_public() {
    for (control, field) in [
        ("max-age=600, private=\"X-User\"", ("x-user", "alice")),
        ("max-age=600, no-cache=\"X-User\"", ("x-user", "alice")),
        ("max-age=600, public", ("set-cookie", "session=1")),
    ] {
        let (_upstream, server) = with_route(&format!("{SHARED}{EMIT}"), move |_, _| {
            with(Reply::bytes("page"), &[("cache-control", control), field])
        })
        .await;
        let first = get(&server, &[]).await;
        assert_eq!(first.field(field.0), field.1, "who asked is given it");
        assert_eq!(first.field("cache-control"), "private, max-age=60", "{control}");
        assert_eq!(first.field("cdn-cache-control"), "no-store", "{control}");
        let hit = get(&server, &[]).await;
        assert!(hit.is_hit() && hit.field(field.0).is_empty(), "{control}");
        assert!(hit.field("cache-control").starts_with("public, max-age=60"), "{control}");
    }
}

#[tokio::test]
async fn an_answer_without_a_tag_of_its_own_gets_one_that_the_upstream_never_sees() {
    let emit = "[route.emit]\netag = true\n";
    let (upstream, server) = with_route(emit, |count, received| match count {
        0 => Reply::bytes("page")
            .with("cache-control", "max-age=60")
            .with("age", "61")
            .with("last-modified", "Tue, 24 Nov 2020 00:00:00 GMT"),
        _ => {
            assert_eq!(plain::field(received, "if-none-match"), "");
            Reply::bytes("").status(304).with("cache-control", "max-age=600")
        }
    })
    .await;
    let first = get(&server, &[]).await;
    let tag = first.field("etag").to_owned();
    assert!(tag.len() > 20 && tag.starts_with('"'), "{tag}");
    let confirmed = get(&server, &[]).await;
    assert_eq!((confirmed.field("etag"), text(&confirmed)), (&*tag, "page"));
    let hit = get(&server, &[]).await;
    assert_eq!((hit.is_hit(), hit.field("etag")), (true, &*tag));
    assert_eq!(get(&server, &[("if-none-match", &tag)]).await.status.as_u16(), 304);
    let part = get(&server, &[("range", "bytes=0-1"), ("if-range", &tag)]).await;
    assert_eq!(part.status.as_u16(), 206, "it is a strong one");
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_tag_of_the_upstream_stays_and_other_bytes_have_another_tag() {
    let emit = "[route.emit]\netag = true\n";
    let (_upstream, server) = with_route(emit, |_, received| {
        let path = received.uri.path();
        let reply = Reply::bytes(path.to_owned()).with("cache-control", "max-age=60");
        if path.ends_with("tagged") { reply.with("etag", "W/\"v1\"") } else { reply }
    })
    .await;
    let tag = async |path: &str| server.client().get(path).await.field("etag").to_owned();
    assert_eq!(tag("/tagged").await, "W/\"v1\"");
    assert_ne!(tag("/one").await, tag("/two").await);
    assert_eq!(tag("/one").await, tag("/one").await);
}

#[tokio::test]
async fn our_own_errors_are_kept_by_no_cache_in_front() {
    let (upstream, server) = with_route("", |_, _| Reply::bytes("page")).await;
    upstream.stop().await;
    let failed = get(&server, &[]).await;
    assert_eq!((failed.status.as_u16(), failed.field("cache-control")), (502, "no-store"));
}

#[tokio::test]
async fn an_emission_that_cannot_be_meant_is_refused_by_field() {
    for (route, expected) in [
        ("[route.emit]\ncdn = \"1h\"", "emit.cdn: set — not without route[0].emit.browser"),
        ("[route.emit]\ncdn_fields = []", "emit.cdn_fields: set — not without"),
        ("[route.emit]\nbrowser = \"1m\"\ncdn_stale_if_error = \"1m\"", "cdn_stale_if_error: set"),
        ("[route.emit]\nbrowser_stale_if_error = \"1m\"", "browser_stale_if_error: set — not"),
        (
            "[route.emit]\nbrowser = \"1m\"\ncdn = \"1m\"\ncdn_fields = [\"X\"]",
            "emit.cdn_fields: X — some of cache-control, cdn-cache-control,",
        ),
        ("[route.emit]\ntag_fields = [\"X\"]", "emit.tag_fields: X — some of surrogate-key,"),
        ("[route.emit]\nvary = [\"a b\"]", "emit.vary: a b — the name of a field"),
        ("[route.emit]\nstrip = [\"content-type\"]", "emit.strip: content-type — the name of"),
        ("[route.emit]\nkeep = 1", "unknown field `keep`"),
    ] {
        let config = format!("[[route]]\nendpoint = \"http\"\n{route}\n");
        let ended = Server::check(&config).await;
        assert!(ended.stderr.contains(expected), "{route}\n{}", ended.stderr);
    }
    let other = "[[route]]\nendpoint = \"openai.embeddings\"\n[route.emit]\n";
    assert!(
        Server::check(other).await.stderr.contains("endpoint: openai.embeddings — http, or no")
    );
}
