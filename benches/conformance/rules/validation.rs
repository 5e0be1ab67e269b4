//! Validation towards callers: their conditions (RFC 9111 section 4.3.2, RFC 9110 sections 13.1, 13.2
//! and 15.4.5).

use super::{FRESH, LONG_AGO, TAGGED};
use crate::rule::{Check, Reply, Rule, ask, brief, confirms, fresh, get, must, ok, says, should};

const BY_TAG: &str = "If-None-Match with the stored tag is answered with 304";
const BY_DATE: &str = "If-Modified-Since with the stored date is answered with 304";
const YEARS_LATER: &str = "Fri, 01 Jan 2021 00:00:00 GMT";
const YEARS_BEFORE: &str = "Tue, 01 Jan 2019 00:00:00 GMT";

pub(super) fn rules() -> Vec<Rule> {
    [tags(), dates(), both(), what_a_304_has(), while_stale(), at_a_miss()].concat()
}

fn tagged() -> Reply {
    fresh().with("etag", "\"v1\"")
}

fn dated() -> Reply {
    fresh().with("last-modified", LONG_AGO)
}

/// What is stored is this, and is then asked for with these fields: the status is that.
fn asked(rule: Rule, stored: Reply, with: &[(&'static str, &str)], status: u16) -> Rule {
    let asked = with.iter().fold(get(), |asked, (name, value)| asked.with(name, *value));
    rule.ask(get().reply(stored)).ask(asked.hit().status(status))
}

fn tags() -> Vec<Rule> {
    let to = |rule, value, status| asked(rule, tagged(), &[("if-none-match", value)], status);
    let of_tag = |id: &str| must("9110 13.1.2", id).given(BY_TAG);
    let found = |id: &str| should("9111 4.3.2", id).given(BY_TAG);
    let weak = || fresh().with("etag", "W/\"v1\"");
    vec![
        to(should("9111 4.3.2", BY_TAG).given(FRESH), "\"v1\"", 304),
        to(found("If-None-Match finds the stored tag first in its list"), "\"v1\", \"v2\"", 304),
        to(
            found("If-None-Match finds the stored tag within its list"),
            "\"v0\", \"v1\",\"v2\"",
            304,
        ),
        to(found("If-None-Match finds the stored tag last in its list"), "\"v0\", \"v1\"", 304),
        to(found("If-None-Match compares a weak tag with a strong one"), "W/\"v1\"", 304),
        to(found("If-None-Match with a star is answered with 304"), "*", 304),
        to(of_tag("If-None-Match with another tag is answered with the whole"), "\"v2\"", 200),
        to(of_tag("If-None-Match takes no part of a tag for it"), "\"v\", \"v11\", \"xv1\"", 200),
        to(of_tag("If-None-Match tells tags by their case"), "\"V1\"", 200),
        asked(
            found("If-None-Match compares a strong tag with a weak one"),
            weak(),
            &[("if-none-match", "\"v1\"")],
            304,
        ),
        asked(
            found("If-None-Match finds a tag with a comma in it"),
            fresh().with("etag", "\"a,b\""),
            &[("if-none-match", "\"x\", \"a,b\"")],
            304,
        ),
        asked(
            found("If-None-Match on two lines is one list"),
            tagged(),
            &[("if-none-match", "\"v0\""), ("if-none-match", "\"v1\"")],
            304,
        ),
        should("9111 4.3.2", "If-None-Match of a HEAD is answered from what is stored")
            .given(BY_TAG)
            .given("a HEAD is answered from what a GET has stored")
            .ask(get().reply(tagged()))
            .ask(ask("HEAD").with("if-none-match", "\"v1\"").hit().status(304)),
    ]
}

fn dates() -> Vec<Rule> {
    let to = |rule, value, status| asked(rule, dated(), &[("if-modified-since", value)], status);
    let of_date = |id: &str| must("9110 13.1.3", id).given(BY_DATE);
    vec![
        to(should("9111 4.3.2", BY_DATE).given(FRESH), LONG_AGO, 304),
        to(
            should("9111 4.3.2", "If-Modified-Since with a later date is answered with 304")
                .given(BY_DATE),
            YEARS_LATER,
            304,
        ),
        to(
            of_date("If-Modified-Since with an earlier date is answered with the whole"),
            YEARS_BEFORE,
            200,
        ),
        to(
            of_date("If-Modified-Since is read as RFC 850 wrote it"),
            "Wednesday, 01-Jan-20 00:00:00 GMT",
            304,
        ),
        to(
            of_date("If-Modified-Since is read as asctime writes it"),
            "Wed Jan  1 00:00:00 2020",
            304,
        ),
        to(of_date("If-Modified-Since that is no date is ignored"), "yesterday", 200),
        should(
            "9111 4.3.2",
            "If-Modified-Since is compared with Date where Last-Modified is missing",
        )
        .given(BY_DATE)
        .ask(get().reply(fresh()))
        .ask(get().date("if-modified-since", 60).hit().status(304)),
        must(
            "9110 13.1.3",
            "If-Modified-Since before the Date of what has no Last-Modified gets the whole",
        )
        .given(BY_DATE)
        .ask(get().reply(fresh()))
        .ask(get().date("if-modified-since", -3_600).hit().status(200)),
    ]
}

fn both() -> Vec<Rule> {
    let stored = || tagged().with("last-modified", LONG_AGO);
    let to = |id: &str, tag, date, status| {
        let rule = must("9110 13.2.2", id).given(BY_TAG).given(BY_DATE);
        asked(rule, stored(), &[("if-none-match", tag), ("if-modified-since", date)], status)
    };
    let stored_with = |id: &str, name: &'static str, value: &'static str| {
        must("9111 4.3.2", id)
            .given(FRESH)
            .ask(get().reply(stored()))
            .ask(get().with(name, value).status(200))
    };
    vec![
        to("If-None-Match counts before a date that would match", "\"v2\"", YEARS_LATER, 200),
        to("If-None-Match counts before a date that would not match", "\"v1\"", YEARS_BEFORE, 304),
        stored_with("If-Match is not looked at by a cache", "if-match", "\"v2\""),
        stored_with(
            "If-Unmodified-Since is not looked at by a cache",
            "if-unmodified-since",
            YEARS_BEFORE,
        ),
    ]
}

fn what_a_304_has() -> Vec<Rule> {
    let stored = || {
        tagged()
            .with("vary", "x-choice")
            .with("content-location", "/elsewhere")
            .with("expires", "Thu, 18 Aug 2050 02:01:18 GMT")
    };
    let has = |name: &'static str| {
        must("9110 15.4.5", format!("a 304 of the cache has the stored {name}"))
            .given(BY_TAG)
            .ask(get().reply(stored()))
            .ask(get().with("if-none-match", "\"v1\"").hit().status(304).has(name))
    };
    let names = ["etag", "cache-control", "content-location", "date", "expires", "vary"];
    let mut rules: Vec<Rule> = names.map(has).into();
    rules.push(
        must("9111 4", "a 304 of the cache tells the age of what is stored")
            .given(BY_TAG)
            .ask(get().reply(tagged()))
            .pause()
            .ask(
                get()
                    .with("if-none-match", "\"v1\"")
                    .hit()
                    .status(304)
                    .check(Check::AtLeast("age", 2)),
            ),
    );
    rules
}

fn while_stale() -> Vec<Rule> {
    let stale = |rule: Rule| rule.given(TAGGED).ask(get().reply(brief("\"v1\""))).pause();
    let confirmation = || confirms().with("etag", "\"v1\"").with("cache-control", "max-age=3600");
    vec![
        stale(should("9111 4.3.3", "a caller with the stored tag gets a 304 once it is confirmed"))
            .ask(get().with("if-none-match", "\"v1\"").reply(confirmation()).status(304)),
        stale(must(
            "9111 4.3.2",
            "a caller with an older tag gets the whole once the stored one is confirmed",
        ))
        .ask(get().with("if-none-match", "\"v0\"").reply(confirmation()).status(200)),
        stale(must("9111 4.3.2", "a caller without a condition never gets a 304"))
            .ask(get().reply(confirmation()).status(200)),
    ]
}

fn at_a_miss() -> Vec<Rule> {
    let first = |condition: &'static str, value: &str| {
        get().with(condition, value).reply(confirms().with("cache-control", "max-age=3600"))
    };
    vec![
        must("9111 3", "a 304 to a caller's own condition is not stored as an answer")
            .ask(first("if-none-match", "\"v1\"").status_of(&[200, 304]).prepares())
            .ask(get().reply(ok()).status(200)),
        must("9111 3", "a 304 to a caller's own date is not stored as an answer")
            .ask(first("if-modified-since", LONG_AGO).status_of(&[200, 304]).prepares())
            .ask(get().reply(ok()).status(200)),
        must("9111 4.3.2", "a condition on what is not stored is not answered by the cache").ask(
            get()
                .with("if-none-match", "*")
                .reply(says("max-age=3600"))
                .forwarded()
                .calls(1)
                .status_of(&[200, 304]),
        ),
    ]
}
