//! What an upstream says to caches such as this one alone (RFC 9213): it decides in the place of
//! `Cache-Control`.

use std::sync::atomic::{AtomicUsize, Ordering};

use black_box_tests::plain::{self, text, with};
use black_box_tests::sample::{EMBEDDINGS, embedding, question};
use black_box_tests::{Answer, Received, Reply, Server, Setup, Upstream};
use http::Method;

const OURS: &str = "cache-server-cache-control";
const CDN: &str = "cdn-cache-control";
const FRESH: (&str, &str) = ("cache-control", "public, max-age=10000");
const EXPIRES: (&str, &str) = ("expires", "Thu, 01 Jan 2099 00:00:00 GMT");

/// A server in front of an upstream that counts its answers in their bodies.
async fn counting(
    reply: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> (Upstream, Server) {
    let upstream = Upstream::start(reply).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    (upstream, server)
}

/// The same, each answer with these fields.
async fn saying(fields: &'static [(&'static str, &'static str)]) -> (Upstream, Server) {
    let calls = AtomicUsize::new(0);
    counting(move |_| {
        let count = calls.fetch_add(1, Ordering::Relaxed);
        with(Reply::bytes(format!("answer {count}")), fields)
    })
    .await
}

async fn get(server: &Server, fields: &[(&str, &str)]) -> Answer {
    plain::ask(&server.client(), Method::GET, "/page", fields).await
}

#[tokio::test]
async fn what_is_said_to_us_decides_and_all_else_of_the_answer_does_not() {
    for fields in [
        &[(CDN, "max-age=3600")][..],
        &[(CDN, "max-age=99999999999")],
        &[(CDN, "foobar, max-age=3600;x")],
        &[(CDN, "max-age=3600"), ("expires", "0")],
        &[(CDN, "max-age=3600"), ("cache-control", "no-store"), ("pragma", "no-cache")],
        &[(CDN, "max-age=3600"), ("cache-control", "private, max-age=1")],
        &[(OURS, "max-age=3600"), (CDN, "no-store")],
        &[(OURS, "max-age =3600"), (CDN, "max-age=3600"), ("cache-control", "no-store")],
    ] {
        let (upstream, server) = saying(fields).await;
        get(&server, &[]).await;
        let hit = get(&server, &[]).await;
        assert!(hit.is_hit(), "{fields:?}: {}", hit.cache_status());
        for (name, value) in fields {
            assert_eq!(hit.field(name), *value, "it is passed on as it came");
        }
        assert_eq!(upstream.calls(), 1);
    }
}

#[tokio::test]
async fn what_is_said_to_us_forbids_and_nothing_else_permits() {
    for (fields, reason) in [
        (&[(CDN, "no-store"), FRESH, EXPIRES][..], "no-store"),
        (&[(CDN, "private"), FRESH, EXPIRES], "private"),
        (&[(CDN, "no-cache"), FRESH, EXPIRES], "no-cache"),
        (&[(CDN, "max-age=0"), FRESH, EXPIRES], "expired"),
        (&[(CDN, "max-age=-5"), FRESH, EXPIRES], "expired"),
        (&[(CDN, "max-age=3600"), ("age", "7200"), FRESH], "expired"),
        (&[(CDN, "none"), FRESH, EXPIRES], "no-lifetime"),
        (&[(CDN, "max-age=60"), FRESH, ("set-cookie", "a=1")], "set-cookie"),
        (&[(OURS, "no-store"), (CDN, "max-age=60")], "no-store"),
        // A wrong type is no invalid field, and never permits.
        (&[(CDN, "max-age=\"10000\""), ("cache-control", "no-store")], "expired"),
        (&[(CDN, "max-age=1.5"), FRESH], "expired"),
        (&[(CDN, "max-age"), FRESH], "expired"),
        (&[(CDN, "no-store=5"), FRESH], "no-store"),
    ] {
        let (upstream, server) = saying(fields).await;
        for _ in 0..2 {
            let answer = get(&server, &[]).await;
            let status = answer.cache_status().to_owned();
            assert!(status.contains(&format!("detail={reason}")), "{fields:?}: {status}");
        }
        assert_eq!(upstream.calls(), 2, "{fields:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_as_if_it_were_not_there() {
    for invalid in ["", "max-age=10000, &&&&&", "MaX-aGe=3600", "max-age=5,"] {
        for (cache_control, is_hit) in [("no-store", false), ("max-age=60", true)] {
            let calls = AtomicUsize::new(0);
            let (_upstream, server) = counting(move |_| {
                let count = calls.fetch_add(1, Ordering::Relaxed);
                let reply = Reply::bytes(format!("answer {count}")).with(CDN, invalid);
                reply.with("cache-control", cache_control)
            })
            .await;
            get(&server, &[]).await;
            let second = get(&server, &[]).await;
            assert_eq!(second.is_hit(), is_hit, "{invalid:?}: {}", second.cache_status());
        }
    }
}

#[tokio::test]
async fn permission_to_share_comes_from_the_field_that_decides() {
    let key = [("authorization", "Basic dXNlcjpwYXNz")];
    for (fields, is_hit) in [
        (&[(CDN, "max-age=60"), ("cache-control", "public")][..], false),
        (&[(CDN, "max-age=60, public"), ("cache-control", "no-store")], true),
        (&[(CDN, "s-maxage=60")], true),
    ] {
        let (_upstream, server) = saying(fields).await;
        get(&server, &key).await;
        let second = get(&server, &key).await;
        assert_eq!(second.is_hit(), is_hit, "{fields:?}: {}", second.cache_status());
    }
}

#[tokio::test]
async fn an_update_is_judged_by_the_whole_that_it_leaves() {
    for (newer, is_hit) in [
        // The stored field stays, and decides.
        (("cache-control", "no-store"), false),
        ((CDN, "max-age=600"), true),
    ] {
        let (upstream, server) = counting(move |received: &Received| {
            let is_known = received.headers.contains_key("if-none-match");
            let reply = Reply::bytes(if is_known { "" } else { "the body" }).with("etag", "\"a\"");
            if is_known {
                return reply.status(304).with(newer.0, newer.1);
            }
            reply.with(CDN, "no-cache").with("cache-control", "max-age=600")
        })
        .await;
        get(&server, &[]).await;
        let validated = get(&server, &[]).await;
        assert_eq!((validated.status.as_u16(), text(&validated)), (200, "the body"));
        let third = get(&server, &[]).await;
        assert_eq!(third.is_hit(), is_hit, "{newer:?}: {}", third.cache_status());
        assert_eq!(text(&third), "the body");
        assert_eq!(upstream.calls(), if is_hit { 2 } else { 3 });
    }
}

#[tokio::test]
async fn a_head_updates_a_targeted_lifetime() {
    let (upstream, server) = counting(|received: &Received| {
        let reply = Reply::bytes("the body").with("etag", "\"a\"");
        match received.method.as_str() {
            "HEAD" => reply.with(CDN, "max-age=600"),
            _ => reply.with(CDN, "no-cache").with("cache-control", "max-age=600"),
        }
    })
    .await;
    get(&server, &[]).await;
    plain::ask(&server.client(), Method::HEAD, "/page", &[]).await;
    let hit = get(&server, &[]).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn a_304_tells_caches_behind_us_what_is_said_to_them() {
    let (_upstream, server) = saying(&[(CDN, "max-age=600"), ("etag", "\"a\"")]).await;
    get(&server, &[]).await;
    let known = get(&server, &[("if-none-match", "\"a\"")]).await;
    assert_eq!((known.status.as_u16(), known.field(CDN)), (304, "max-age=600"));
}

#[tokio::test]
async fn a_model_route_that_obeys_its_upstream_listens_too() {
    let reply = |value: &'static str| {
        move |_: &Received| {
            Reply::json(&embedding(0.5)).with("cache-control", "no-store").with(CDN, value)
        }
    };
    for (value, obeys, is_hit) in [
        ("max-age=60", true, true),
        ("no-store", true, false),
        ("max-age=0", true, false),
        ("no-store", false, true),
    ] {
        let upstream = Upstream::start(reply(value)).await;
        let config = format!("[[route]]\nobey_upstream = {obeys}");
        let server = Server::start(Setup::in_front_of(&upstream).config(&config)).await;
        server.client().ask(EMBEDDINGS, &question("a")).await;
        let second = server.client().ask(EMBEDDINGS, &question("a")).await;
        assert_eq!(second.is_hit(), is_hit, "{value} {obeys}: {}", second.cache_status());
    }
}
