//! Targeted fields: what is said to caches of one kind alone (RFC 9213). `CDN-Cache-Control` is for any
//! cache that an origin's operator runs.

use super::FRESH;
use crate::rule::{Reply, Rule, fresh, get, hangs_up, may, must, ok, says, should};

const TARGETED: &str = "a long targeted lifetime counts before a short one";
const CDN: &str = "cdn-cache-control";

pub(super) fn rules() -> Vec<Rule> {
    [what_counts(), what_forbids(), what_is_no_dictionary()].concat()
}

fn targeted(directives: &str) -> Reply {
    ok().with(CDN, directives)
}

fn beside(cache_control: &str, directives: &str) -> Reply {
    says(cache_control).with(CDN, directives)
}

fn what_counts() -> Vec<Rule> {
    let of = |id: &str| must("9213 2.2", id).given(TARGETED);
    vec![
        may("9213 2.2", TARGETED).hits_later(beside("max-age=1", "max-age=3600")),
        of("an answer with a targeted lifetime alone is reused").hits(targeted("max-age=3600")),
        of("a short targeted lifetime counts before a long one")
            .misses_later(beside("max-age=3600", "max-age=1")),
        of("a targeted lifetime counts before no-store").hits(beside("no-store", "max-age=3600")),
        of("a targeted lifetime counts before private").hits(beside("private", "max-age=3600")),
        of("a targeted lifetime counts before s-maxage=0")
            .hits(beside("s-maxage=0", "max-age=3600")),
        of("a targeted lifetime counts before an Expires that has passed")
            .hits(targeted("max-age=3600").date("expires", -3_600)),
        of("a targeted max-age=0 counts before a later Expires")
            .misses(targeted("max-age=0").date("expires", 3_600)),
        of("the age that an answer came with counts against a targeted lifetime")
            .misses(targeted("max-age=3600").with("age", "7200")),
        must("9213 2.2", "a field that is targeted at others changes nothing and is passed on")
            .given(FRESH)
            .ask(get().reply(fresh().with("othercdn-cache-control", "no-store")))
            .ask(get().hit().is("othercdn-cache-control", "no-store")),
        of("a targeted must-revalidate is obeyed")
            .given("stale-if-error permits an answer that is stale if the upstream hangs up")
            .ask(get().reply(beside("max-age=1", "max-age=1, stale-if-error=60, must-revalidate")))
            .pause()
            .ask(get().reply(hangs_up()).status_of(&[502, 503, 504])),
        must("9213 2.2", "a targeted field without a lifetime leaves none to Cache-Control")
            .given(TARGETED)
            .misses_later(beside("max-age=3600", "must-revalidate, x-y")),
        must("9213 2.1", "a targeted directive that nobody knows is ignored")
            .given(TARGETED)
            .hits(targeted("x-y=1, max-age=3600")),
        must("9213 2.1", "parameters of a targeted directive are ignored")
            .given(TARGETED)
            .hits(targeted("max-age=3600;x=1")),
        must("9213 2.1", "targeted directives on two lines are one dictionary")
            .given(TARGETED)
            .misses(targeted("max-age=3600").with(CDN, "no-store")),
        must("9213 2.1", "of a targeted directive that is said twice the last counts")
            .given(TARGETED)
            .misses_later(targeted("max-age=3600, max-age=1")),
        should("9213 2.2", "a targeted stale-while-revalidate permits what is stale")
            .given(TARGETED)
            .given("stale-while-revalidate permits an answer that is stale")
            .hits_later(beside("no-store", "max-age=1, stale-while-revalidate=60")),
    ]
}

fn what_forbids() -> Vec<Rule> {
    let forbids = |directive: &'static str| {
        must("9213 2.2", format!("a targeted {directive} counts before a long max-age"))
            .given(TARGETED)
            .misses(beside("max-age=3600", directive))
    };
    let mut rules: Vec<Rule> = ["no-store", "private", "no-cache", "max-age=0"].map(forbids).into();
    rules.push(
        should("9213 2.2", "a targeted s-maxage=0 counts before a targeted max-age")
            .given(TARGETED)
            .misses(beside("max-age=3600", "s-maxage=0, max-age=60")),
    );
    rules
}

fn what_is_no_dictionary() -> Vec<Rule> {
    let ignored = |what: &str, directives: &str| {
        [
            must("9213 2.1", format!("a targeted field that is {what} leaves no-store to count"))
                .given(TARGETED)
                .misses(beside("no-store", directives)),
            must("9213 2.1", format!("a targeted field that is {what} leaves max-age to count"))
                .given(TARGETED)
                .given(FRESH)
                .hits(beside("max-age=3600", directives)),
        ]
    };
    let mut rules = [
        ignored("no dictionary", "max-age=60, &&&"),
        ignored("empty", ""),
        ignored("in capitals", "MAX-AGE=60"),
        ignored("cut in a string", "no-store, x=\"y"),
    ]
    .concat();
    rules.push(
        should("9213 2.1", "a targeted lifetime that is a string is ignored")
            .given(TARGETED)
            .misses(beside("no-store", "max-age=\"3600\"")),
    );
    rules.push(
        should("9213 2.1", "a targeted lifetime with a fraction is ignored")
            .given(TARGETED)
            .misses(beside("no-store", "max-age=3600.5")),
    );
    rules
}
