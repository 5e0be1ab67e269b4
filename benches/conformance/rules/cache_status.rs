//! Cache-Status: how a cache tells what it did (RFC 9211).

use super::{FRESH, TAGGED};
use crate::rule::{
    Ask, Check, Rule, ask, brief, confirms, fresh, get, may, must, ok, says, should, status,
};

const TOLD: &str = "a cache tells what it did in Cache-Status";
const NAME: &str = "cache-status";

pub(super) fn rules() -> Vec<Rule> {
    [hits(), forwards(), list()].concat()
}

fn says_so(ask: Ask, parameter: &'static str) -> Ask {
    ask.check(Check::Parameter(NAME, parameter))
}

fn says_nothing_of(ask: Ask, parameter: &'static str) -> Ask {
    ask.check(Check::NamesNo(NAME, parameter))
}

fn told(section: &str, id: &str) -> Rule {
    should(section, id).given(TOLD)
}

fn hits() -> Vec<Rule> {
    let stored = |rule: Rule| rule.given(FRESH).ask(get().reply(fresh()));
    vec![
        may("9211 2", TOLD).ask(get().reply(fresh()).forwarded().has(NAME)),
        stored(told("9211 2.1", "a hit says hit")).ask(says_so(get().hit(), "hit")),
        stored(told("9211 2.2", "a hit says nothing of being forwarded"))
            .ask(says_nothing_of(get().hit(), "fwd")),
        stored(may("9211 2.4", "a hit says for how long it is fresh yet").given(TOLD))
            .ask(get().hit().check(Check::Names(NAME, "ttl"))),
        may("9211 2.3", "what is forwarded says what the upstream said")
            .given(TOLD)
            .ask(says_so(get().reply(status(404)).forwarded(), "fwd-status=404")),
        told("9211 2.1", "what is given stale says hit")
            .given("stale-while-revalidate permits an answer that is stale")
            .ask(get().reply(says("max-age=1, stale-while-revalidate=60")))
            .pause()
            .ask(says_so(get().hit(), "hit")),
        told("9211 2.1", "a 304 of the cache says hit")
            .given("If-None-Match with the stored tag is answered with 304")
            .ask(get().reply(fresh().with("etag", "\"v1\"")))
            .ask(says_so(get().with("if-none-match", "\"v1\"").hit().status(304), "hit")),
    ]
}

fn forwards() -> Vec<Rule> {
    let first = || get().reply(fresh()).forwarded();
    let varied = || fresh().with("vary", "x-choice");
    vec![
        must("9211 2.1", "what is forwarded does not say hit")
            .given(TOLD)
            .ask(says_nothing_of(first(), "hit")),
        told("9211 2.2", "what is forwarded says why")
            .ask(first().check(Check::Parameter(NAME, "fwd=miss"))),
        told("9211 2.2", "an unsafe method is forwarded for its method")
            .ask(says_so(ask("POST").content("a=1").forwarded(), "fwd=method")),
        told("9211 2.2", "what is revalidated is forwarded for being stale")
            .given(TAGGED)
            .ask(get().reply(brief("\"v1\"")))
            .pause()
            .ask(says_so(get().reply(confirms()).revalidated_by("if-none-match"), "fwd=stale")),
        told("9211 2.3", "what is revalidated says what the upstream said")
            .given(TAGGED)
            .ask(get().reply(brief("\"v1\"")))
            .pause()
            .ask(says_so(
                get().reply(confirms()).revalidated_by("if-none-match"),
                "fwd-status=304",
            )),
        told("9211 2.2", "a request that wants no stored answer is forwarded for that")
            .given("a request that says no-cache is not answered from what is stored")
            .ask(get().reply(fresh()))
            .ask(says_so(get().with("cache-control", "no-cache").forwarded(), "fwd=request")),
        told("9211 2.2", "a request that chooses otherwise is forwarded for that")
            .given("an answer that varies is reused for a request that chooses alike")
            .ask(get().with("x-choice", "1").reply(varied()))
            .ask(says_so(get().with("x-choice", "2").reply(varied()).forwarded(), "fwd=vary-miss")),
        told("9211 2.5", "what is stored says so").given(FRESH).ask(says_so(first(), "stored")),
        told("9211 2.5", "what is not stored does not say so")
            .ask(says_nothing_of(get().reply(says("no-store")).forwarded(), "stored")),
    ]
}

fn list() -> Vec<Rule> {
    let before = || ok().with(NAME, "origin; hit");
    vec![
        told("9211 2", "what another cache told is kept, and ours comes after it").ask(
            get()
                .reply(before())
                .forwarded()
                .check(Check::NamesNo(NAME, "hit"))
                .check(Check::Begins(NAME, "origin; hit, ")),
        ),
        told("9211 2", "what another cache told is stored with the answer")
            .given(FRESH)
            .ask(get().reply(fresh().with(NAME, "origin; fwd=miss")))
            .ask(says_so(get().hit(), "hit").check(Check::Begins(NAME, "origin; fwd=miss, "))),
    ]
}
