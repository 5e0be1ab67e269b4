//! Updating: what a confirmation, or the answer to HEAD, changes (RFC 9111 sections 3.2, 4.3.4 and
//! 4.3.5).

use super::{FRESH, LONG_AGO, TAGGED};
use crate::rule::{Reply, Rule, ask, brief, confirms, fresh, get, may, must, says, should};

const HEAD: &str = "a HEAD is answered from what a GET has stored";
const HEAD_ASKED: &str = "a HEAD for what is stale is asked of the upstream as a HEAD";

pub(super) fn rules() -> Vec<Rule> {
    [changed(), kept(), head(), head_updates()].concat()
}

fn confirmation() -> Reply {
    confirms().with("etag", "\"v1\"")
}

/// Stored with one value of a field; confirmed with another.
fn confirmed(rule: Rule, name: &'static str, old: &str, new: &str) -> Rule {
    let lasting = || confirmation().with("cache-control", "max-age=3600");
    let stored = brief("\"v1\"").with(name, old);
    rule.given(TAGGED)
        .ask(get().reply(stored))
        .pause()
        .ask(get().reply(lasting().with(name, new)).revalidated_by("if-none-match").prepares())
}

fn changed() -> Vec<Rule> {
    let fields = [
        ("x-nobody-knows-it", "old", "new"),
        ("content-language", "de", "en"),
        ("content-security-policy", "default-src 'self'", "default-src 'none'"),
        ("expires", "Thu, 18 Aug 2050 02:01:18 GMT", "Fri, 18 Aug 2051 02:01:18 GMT"),
        ("link", "</a>; rel=next", "</b>; rel=next"),
    ];
    let mut rules: Vec<Rule> = Vec::new();
    for (name, old, new) in fields {
        let id = format!("a confirmation changes the stored {name}");
        rules.push(confirmed(must("9111 3.2", id), name, old, new).ask(get().hit().is(name, new)));
    }
    let given = |cache_control: &str| {
        confirmation().with("cache-control", cache_control).with("x-new", "1")
    };
    rules.push(
        must("9111 3.2", "a confirmation's fields are in the answer that it lets through")
            .given(TAGGED)
            .ask(get().reply(brief("\"v1\"").with("x-new", "0")))
            .pause()
            .ask(
                get().reply(given("max-age=3600")).revalidated_by("if-none-match").is("x-new", "1"),
            ),
    );
    rules.push(
        must("9111 3.2", "a confirmation's new fields are added")
            .given(TAGGED)
            .ask(get().reply(brief("\"v1\"")))
            .pause()
            .ask(get().reply(given("max-age=3600")).revalidated_by("if-none-match").prepares())
            .ask(get().hit().is("x-new", "1")),
    );
    rules
}

fn kept() -> Vec<Rule> {
    let stays = |rule: Rule, name: &'static str, old: &'static str, new: &'static str| {
        confirmed(rule, name, old, new).ask(get().hit().is(name, old))
    };
    let digest = ["sha-256=:AAAA:", "sha-256=:BBBB:"];
    let length = confirmation().with("cache-control", "max-age=3600").with("content-length", "3");
    let hop = confirmation()
        .with("cache-control", "max-age=3600")
        .with("connection", "x-hop")
        .with("x-hop", "1");
    vec![
        confirmed(must("9111 3.2", "fields that a confirmation lacks stay"), "x-new", "0", "1")
            .ask(get().hit().is("etag", "\"v1\"").has("content-length")),
        must("9111 3.2", "a confirmation does not change the length")
            .given(TAGGED)
            .ask(get().reply(brief("\"v1\"").content("ten digits")))
            .pause()
            .ask(get().reply(length).revalidated_by("if-none-match").prepares())
            .ask(get().hit().brings("ten digits").whole(true)),
        must("9111 3.1", "a field that the Connection of a confirmation names is not stored")
            .given(TAGGED)
            .ask(get().reply(brief("\"v1\"")))
            .pause()
            .ask(get().reply(hop).revalidated_by("if-none-match").prepares())
            .ask(get().hit().lacks("x-hop")),
        stays(
            should("9111 3.2", "a confirmation does not change the coding of what is stored"),
            "content-encoding",
            "br",
            "gzip",
        ),
        stays(
            should("9111 3.2", "a confirmation does not change the digest of what is stored"),
            "content-digest",
            digest[0],
            digest[1],
        ),
    ]
}

fn head() -> Vec<Rule> {
    vec![
        may("9110 9.3.2", HEAD).ask(get().reply(fresh())).ask(ask("HEAD").hit().brings("")),
        should("9110 9.3.2", "a HEAD that is answered from what is stored has its fields")
            .given(HEAD)
            .ask(get().reply(fresh().with("x-one", "1").content("ten digits")))
            .ask(ask("HEAD").hit().is("x-one", "1").is("content-length", "10")),
        must("9110 9.3.2", "the answer to a HEAD does not answer a GET without content")
            .given(FRESH)
            .ask(ask("HEAD").reply(fresh().content("ten digits")))
            .ask(get().reply(fresh().content("ten digits")).status(200).brings("ten digits")),
    ]
}

fn head_updates() -> Vec<Rule> {
    let stored = || brief("\"v1\"").with("last-modified", LONG_AGO).with("x-one", "old");
    let then = |rule: Rule, reply: Reply| {
        rule.given(TAGGED)
            .given(HEAD_ASKED)
            .ask(get().reply(stored().content("ten digits")))
            .pause()
            .ask(ask("HEAD").reply(reply.content("ten digits")).forwarded().prepares())
    };
    let alike = || says("max-age=3600").with("etag", "\"v1\"").with("last-modified", LONG_AGO);
    vec![
        may("9111 4.3.5", HEAD_ASKED)
            .ask(get().reply(says("max-age=1")))
            .pause()
            .ask(ask("HEAD").reply(fresh()).forwarded()),
        then(
            should("9111 4.3.5", "a HEAD with the stored validators renews what is stored"),
            alike(),
        )
        .ask(get().hit().brings("ten digits")),
        then(
            should("9111 4.3.5", "a HEAD with the stored validators changes the stored fields"),
            alike().with("x-one", "new"),
        )
        .ask(get().hit().is("x-one", "new")),
        then(
            should("9111 4.3.5", "a HEAD with another tag does not renew what is stored"),
            says("max-age=3600").with("etag", "\"v2\""),
        )
        .ask(get().forwarded()),
    ]
}
