//! Deception: a URL that looks as if it were for all makes no answer so, and nobody learns what another
//! tenant has stored.

use black_box_tests::plain::{ask, field, text};
use black_box_tests::{Answer, Client, Raw, Received, Reply, Server, Setup, Upstream};
use http::{HeaderName, HeaderValue, Method};

use super::{SHARED, get, get_raw, is_raw_hit, stored};

/// Paths of a page of one's own that end like something public.
const DISGUISED: [&str; 22] = [
    "/account/settings.css",
    "/account/settings.js",
    "/account/settings/x.css",
    "/account;x.js",
    "/account/;x.css",
    "/account%3bx.js",
    "/account%00.png",
    "/account%0a.css",
    "/account%09.css",
    "/account%20.css",
    "/account%23.css",
    "/account%3f.css",
    "/account%2f.css",
    "/account%2fx.css",
    "/account/..%2fstatic/app.js",
    "/account/%2e%2e%2fstatic/app.js",
    "/static/..%2faccount",
    "/static/..%2f..%2faccount/x.css",
    "/account?x.css",
    "/account?/static/app.js",
    "/account/robots.txt",
    "/account/favicon.ico",
];

/// Ways to show who one is: a field, or nothing but the query.
const CREDENTIALS: [&str; 6] = [
    "authorization: Bearer alice\r\n",
    "cookie: id=alice\r\n",
    "x-api-key: alice\r\n",
    "api-key: alice\r\n",
    "x-goog-api-key: alice\r\n",
    "cookie: theme=dark; id=alice\r\nx-api-key: alice\r\n",
];

/// An upstream that shows each caller its own page.
async fn of_ones_own(cache_control: &'static [(&'static str, &'static str)]) -> Upstream {
    Upstream::start(move |received: &Received| {
        let names = ["authorization", "cookie", "x-api-key", "api-key", "x-goog-api-key"];
        let mut shown: Vec<_> = names.iter().map(|name| field(received, name)).collect();
        shown.push(received.uri.query().unwrap_or(""));
        let is_alice = shown.iter().any(|shown| shown.contains("alice"));
        let reply = Reply::bytes(if is_alice { "alice" } else { "nobody" });
        black_box_tests::plain::with(reply, cache_control)
    })
    .await
}

#[tokio::test]
async fn no_ending_of_a_path_makes_an_answer_one_that_is_kept() {
    for says in [
        &[][..],
        &[("content-type", "text/css")],
        &[("etag", "\"1\""), ("last-modified", "Tue, 24 Nov 2020 00:00:00 GMT")],
        &[("cache-control", "private, max-age=600")],
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=600"), ("set-cookie", "id=alice")],
        &[("cache-control", "max-age=600"), ("vary", "*")],
    ] {
        for config in ["", SHARED] {
            let upstream = of_ones_own(says).await;
            let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
            let mut alice = Raw::open(&server.address).await;
            let mut other = Raw::open(&server.address).await;
            for path in DISGUISED {
                let answer = get_raw(&mut alice, path, CREDENTIALS[1]).await;
                assert_eq!(answer.text(), "alice", "{path}: {}", answer.head);
                let answer = get_raw(&mut other, path, "").await;
                assert_eq!(answer.text(), "nobody", "{path} with {says:?}: {}", answer.head);
                assert!(!is_raw_hit(&answer), "{path}: {}", answer.head);
                let again = get_raw(&mut alice, path, CREDENTIALS[1]).await;
                assert!(!is_raw_hit(&again), "{path} with {says:?}: {}", again.head);
            }
        }
    }
}

/// The upstream's mistake of a `public` is one that a tenant makes for itself alone.
#[tokio::test]
async fn a_personal_answer_that_calls_itself_public_stays_with_its_tenant() {
    let upstream = of_ones_own(&[("cache-control", "public, max-age=600")]).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let mut caller = Raw::open(&server.address).await;
    for (number, credential) in CREDENTIALS.into_iter().enumerate() {
        for path in DISGUISED {
            let path = format!("{path}{}own={number}", if path.contains('?') { '&' } else { '?' });
            assert_eq!(get_raw(&mut caller, &path, credential).await.text(), "alice");
            let own = get_raw(&mut caller, &path, credential).await;
            assert!(is_raw_hit(&own), "{path}: {}", own.head);
            for others in ["", "x-api-key: bob\r\n", "cookie: id=bob\r\n"] {
                let answer = get_raw(&mut caller, &path, others).await;
                assert_eq!(answer.text(), "nobody", "{credential} {path} {}", answer.head);
            }
        }
    }
}

#[tokio::test]
async fn a_personal_answer_to_a_key_in_the_query_is_nobody_elses() {
    for config in ["", SHARED] {
        let upstream = of_ones_own(&[("cache-control", "public, max-age=600")]).await;
        let server = Server::start(Setup::in_front_of(&upstream).config(config)).await;
        for path in
            ["/a.css?key=alice", "/b.css?k%65y=alice", "/c.css?x=1&key=alice", "/d?key=alice&"]
        {
            assert_eq!(text(&get(&server, path, &[]).await), "alice");
            for others in [path.replace("alice", "bob"), path.replace("alice", "")] {
                assert_eq!(text(&get(&server, &others, &[]).await), "nobody", "{others}");
            }
            let without = path.split('?').next().expect("a path");
            assert_eq!(text(&get(&server, without, &[]).await), "nobody", "{path}");
        }
    }
}

/// All that a stranger's answer shows, but for what tells of its own hour and of its own key.
fn shown(answer: &Answer) -> Vec<String> {
    let fields = answer.headers.iter().filter(|(name, _)| *name != "date");
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        let line = format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
        line.split("key=").next().unwrap_or_default().to_owned()
    };
    let mut shown: Vec<_> = fields.map(line).collect();
    shown.sort();
    shown.push(answer.status.to_string());
    shown
}

/// A stranger probes a path that a tenant has an entry for, and one that nobody has ever asked for,
/// by every question that is answered from what is stored.
#[tokio::test]
async fn a_stranger_cannot_tell_whether_a_tenant_has_an_entry() {
    let upstream = Upstream::start(|received: &Received| {
        let is_part = !field(received, "range").is_empty();
        let reply = Reply::bytes(if is_part { "pa" } else { "page" });
        let reply =
            if is_part { reply.status(206).with("content-range", "bytes 0-1/4") } else { reply };
        reply.with("cache-control", "public, max-age=600").with("etag", "\"1\"")
    })
    .await;
    let probes: [(&str, &[(&str, &str)]); 9] = [
        ("GET", &[("cache-control", "only-if-cached")]),
        ("GET", &[("cache-control", "only-if-cached, max-stale")]),
        ("GET", &[("range", "bytes=0-1")]),
        ("GET", &[("range", "bytes=9-")]),
        ("GET", &[("range", "bytes=0-1"), ("cache-control", "only-if-cached")]),
        ("GET", &[("if-none-match", "\"1\""), ("cache-control", "only-if-cached")]),
        ("HEAD", &[("cache-control", "only-if-cached")]),
        ("HEAD", &[]),
        // Last, as it stores the stranger's own.
        ("GET", &[("if-none-match", "\"1\"")]),
    ];
    let owners: [&[(&str, &str)]; 4] = [
        &[("authorization", "Bearer alice")],
        &[("cookie", "id=alice")],
        &[("x-api-key", "alice")],
        &[],
    ];
    let strangers: [&[(&str, &str)]; 3] =
        [&[("x-api-key", "bob")], &[("cookie", "id=bob")], &[("authorization", "Bearer bob")]];
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    let clients = [("1", server.client()), ("2", Client::h2c(&server.address))];
    for (version, client) in &clients {
        for (number, owner) in owners.iter().enumerate() {
            for (other, stranger) in strangers.iter().enumerate() {
                let held = format!("/held/{version}/{number}/{other}");
                let none = format!("/none/{version}/{number}/{other}");
                ask(client, Method::GET, &held, owner).await;
                assert!(ask(client, Method::GET, &held, owner).await.is_hit());
                for (method, probe) in probes {
                    let method = Method::from_bytes(method.as_bytes()).expect("a method");
                    let fields = [stranger, probe].concat();
                    let of_held = ask(client, method.clone(), &held, &fields).await;
                    let of_none = ask(client, method, &none, &fields).await;
                    assert_eq!(shown(&of_held), shown(&of_none), "{probe:?}");
                    assert!(!of_held.is_hit(), "{probe:?}: {}", of_held.cache_status());
                }
            }
        }
    }
}

/// What is about one tenant's URL and not about its bytes: an order by URL reaches all tenants, and
/// tells nobody whether there was anything.
#[tokio::test]
async fn an_unsafe_request_tells_nobody_whether_there_was_anything_to_invalidate() {
    let upstream = of_ones_own(&[("cache-control", "public, max-age=600")]).await;
    let server = Server::start(Setup::in_front_of(&upstream)).await;
    get(&server, "/held", &[("x-api-key", "alice")]).await;
    let client = server.client();
    for method in ["POST", "DELETE", "PURGE", "OPTIONS", "WHATEVER"] {
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let fields = [("x-api-key", "bob")];
        let of_held = ask(&client, method.clone(), "/held", &fields).await;
        let of_none = ask(&client, method, "/none", &fields).await;
        assert_eq!(shown(&of_held), shown(&of_none));
        get(&server, "/held", &[("x-api-key", "alice")]).await;
    }
}

#[tokio::test]
async fn where_answers_are_shared_a_personal_one_is_kept_only_where_it_calls_itself_public() {
    for (says, is_kept) in [
        (&[("cache-control", "max-age=600")][..], false),
        (&[("cache-control", "max-age=600"), ("set-cookie", "a=b")], false),
        (&[("cache-control", "max-age=600"), ("vary", "cookie")], false),
        (&[("cache-control", "public, max-age=600")], true),
    ] {
        for credential in CREDENTIALS {
            let upstream = of_ones_own(says).await;
            let server = Server::start(Setup::in_front_of(&upstream).config(SHARED)).await;
            let mut alice = Raw::open(&server.address).await;
            get_raw(&mut alice, "/page.css", credential).await;
            let is_stored = stored(&server, "/page.css").await.is_hit();
            assert_eq!(is_stored, is_kept, "{says:?} {credential}");
        }
    }
}
