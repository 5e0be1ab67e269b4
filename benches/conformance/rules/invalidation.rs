//! Invalidation: what an unsafe method makes of what is stored (RFC 9111 section 4.4).

use super::FRESH;
use crate::rule::{Ask, Reply, Rule, ask, fresh, get, may, must, ok, status};

const BY_POST: &str = "what is stored for a URL is not reused once a POST to it succeeded";
const BY_LOCATION: &str = "what is stored for the Location of a POST is not reused";

pub(super) fn rules() -> Vec<Rule> {
    [by_method(), by_status(), by_location(), what_stays()].concat()
}

fn post() -> Ask {
    ask("POST").content("a=1")
}

/// Stored; then changed by a method; then asked for again.
fn changed(rule: Rule, change: Ask, then: fn(Ask) -> Ask) -> Rule {
    rule.ask(get().reply(fresh())).ask(change.forwarded().prepares()).ask(then(get()))
}

fn by_method() -> Vec<Rule> {
    let mut rules = vec![changed(must("9111 4.4", BY_POST).given(FRESH), post(), Ask::forwarded)];
    for method in ["PUT", "DELETE", "PATCH", "FROBNICATE"] {
        let id = format!("what is stored for a URL is not reused once a {method} to it succeeded");
        let change = ask(method).content("a=1");
        rules.push(changed(must("9111 4.4", id).given(FRESH), change, Ask::forwarded));
    }
    for method in ["HEAD", "OPTIONS"] {
        let id = format!("what is stored for a URL is reused after a {method}");
        // A HEAD may be answered from what is stored.
        rules.push(may("9111 4.4", id).ask(get().reply(fresh())).ask(ask(method)).ask(get().hit()));
    }
    rules
}

fn by_status() -> Vec<Rule> {
    let mut rules = Vec::new();
    for code in [201, 204, 303] {
        let id = format!("what is stored for a URL is not reused once a POST to it got a {code}");
        let change = post().reply(status(code));
        rules.push(changed(must("9111 4.4", id).given(BY_POST), change, Ask::forwarded));
    }
    for code in [400, 404, 500] {
        let id = format!("what is stored for a URL is reused if a POST to it got a {code}");
        let change = post().reply(status(code));
        rules.push(changed(may("9111 4.4", id).given(BY_POST), change, Ask::hit));
    }
    rules
}

/// Another target is stored; a POST to the page names it; it is asked for again.
fn named(rule: Rule, reply: Reply, then: fn(Ask) -> Ask) -> Rule {
    rule.ask(get().target("other").reply(fresh()))
        .ask(post().reply(reply).forwarded().prepares())
        .ask(then(get().target("other")))
}

fn by_location() -> Vec<Rule> {
    let created = || status(201);
    let abroad = |name| created().with(name, "http://elsewhere.example/other");
    vec![
        named(
            may("9111 4.4", BY_LOCATION).given(BY_POST),
            created().pointing("location", "other"),
            Ask::forwarded,
        ),
        named(
            may("9111 4.4", "what is stored for the Content-Location of a POST is not reused")
                .given(BY_POST),
            ok().pointing("content-location", "other"),
            Ask::forwarded,
        ),
        named(
            must("9111 4.4", "a Location at another origin invalidates nothing").given(BY_LOCATION),
            abroad("location"),
            Ask::hit,
        ),
        named(
            must("9111 4.4", "a Content-Location at another origin invalidates nothing")
                .given(BY_LOCATION),
            abroad("content-location"),
            Ask::hit,
        ),
        named(
            may("9111 4.4", "a Location of a POST that failed invalidates nothing")
                .given(BY_LOCATION),
            status(500).pointing("location", "other"),
            Ask::hit,
        ),
    ]
}

fn what_stays() -> Vec<Rule> {
    let varied = || fresh().with("vary", "x-choice");
    let choice = |value: &str| get().with("x-choice", value);
    vec![
        must("9111 4.4", "all variants of a URL are not reused once a POST to it succeeded")
            .given(BY_POST)
            .given("two variants are kept beside each other")
            .ask(choice("1").reply(varied()))
            .ask(choice("2").reply(varied()).forwarded().prepares())
            .ask(post().forwarded().prepares())
            .ask(choice("1").reply(varied()).forwarded())
            .ask(choice("2").reply(varied()).forwarded()),
        named(may("9111 4.4", "other URLs are reused after a POST").given(BY_POST), ok(), Ask::hit),
        may("9111 4.4", "a URL with a query is reused after a POST to the one without")
            .given(BY_POST)
            .ask(get().target("page?a=1").reply(fresh()))
            .ask(post().forwarded().prepares())
            .ask(get().target("page?a=1").hit()),
        must("9111 4", "an unsafe method is asked of the upstream whatever is stored")
            .given(FRESH)
            .ask(get().reply(fresh()))
            .ask(post().forwarded().asks_content("a=1")),
    ]
}
