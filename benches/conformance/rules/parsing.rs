//! Parsing: `Cache-Control` as it comes (RFC 9111 sections 4.2.1, 5.2 and 5.2.3, RFC 9110 section 5.6).

use super::FRESH;
use crate::rule::{Rule, fresh, must, says, should};

pub(super) fn rules() -> Vec<Rule> {
    [names_and_lists(), quotes_and_extensions(), lifetimes()].concat()
}

fn names_and_lists() -> Vec<Rule> {
    vec![
        must("9111 5.2", "no-store is found in any case")
            .given(FRESH)
            .misses(says("max-age=3600, nO-sToRe")),
        must("9111 5.2", "private is found in any case")
            .given(FRESH)
            .misses(says("max-age=3600, PRIVATE")),
        must("9111 5.2", "no-cache is found in any case")
            .given(FRESH)
            .misses(says("max-age=3600, No-Cache")),
        must("9111 5.2", "max-age is found in any case").given(FRESH).hits(says("MaX-aGe=3600")),
        must("9110 5.3", "directives on several lines are one list")
            .given(FRESH)
            .misses(fresh().with("cache-control", "no-store")),
        must("9110 5.3", "directives on several lines are one list in any order")
            .given(FRESH)
            .misses(says("no-store").with("cache-control", "max-age=3600")),
        must("9110 5.6.1", "empty members of a list hide nothing")
            .given(FRESH)
            .misses(says(",max-age=3600, ,no-store,,")),
        must("9110 5.6.1", "a list needs no space")
            .given(FRESH)
            .misses(says("max-age=3600,no-store")),
        must("9110 5.6.3", "a tab is as good as a space")
            .given(FRESH)
            .misses(says("max-age=3600,\tno-store")),
        must("9110 5.6.1", "space before a comma is none of a directive")
            .given(FRESH)
            .misses(says("no-store , max-age=3600")),
    ]
}

fn quotes_and_extensions() -> Vec<Rule> {
    vec![
        must("9111 5.2.3", "a directive that nobody knows is ignored")
            .given(FRESH)
            .hits(says("foobar, max-age=3600")),
        must("9111 5.2.3", "a directive that nobody knows is ignored with its argument")
            .given(FRESH)
            .hits(says("foobar=1, max-age=3600, x=\"y\"")),
        must("9111 5.2.3", "a directive that begins like no-store is another one")
            .given(FRESH)
            .hits(says("no-storex, x-no-store, max-age=3600")),
        must("9111 5.2", "what stands in quotes is no directive")
            .given(FRESH)
            .hits(says("ext=\"no-store, private\", max-age=3600")),
        must("9111 5.2", "a max-age in quotes before the real one is no lifetime")
            .given(FRESH)
            .misses_later(says("ext=\"max-age=3600\", max-age=1")),
        must("9111 5.2", "a max-age in quotes after the real one is no lifetime")
            .given(FRESH)
            .misses_later(says("max-age=1, ext=\"max-age=3600\"")),
        must("9110 5.6.4", "an escaped quote ends no quoted string")
            .given(FRESH)
            .misses_later(says("max-age=1, ext=\"a\\\", max-age=3600\"")),
        should("9111 5.2", "a max-age is read with quotes, too")
            .given(FRESH)
            .hits(says("max-age=\"3600\"")),
        must("9110 5.6.4", "a directive after an argument in quotes is found")
            .given(FRESH)
            .misses(says("max-age=3600, ext=\"a, b\", no-store")),
    ]
}

fn lifetimes() -> Vec<Rule> {
    let mut rules = vec![
        must("9111 1.2.2", "a max-age with zeros before it is read")
            .given(FRESH)
            .hits(says("max-age=003600")),
        should("9111 4.2.1", "of several lifetimes the first counts, or the answer is stale")
            .given(FRESH)
            .misses_later(says("max-age=1, max-age=3600")),
        should(
            "9111 4.2.1",
            "of lifetimes on several lines the first counts, or the answer is stale",
        )
        .given(FRESH)
        .misses_later(says("max-age=1").with("cache-control", "max-age=3600")),
        must("9111 4.2.1", "an answer with conflicting directives obeys the strictest")
            .given(FRESH)
            .misses(says("public, max-age=3600, no-cache")),
    ];
    let invalid = [
        ("a word", "max-age=long"),
        ("a negative number", "max-age=-3600"),
        ("a number in other quotes", "max-age='3600'"),
        ("a number and letters", "max-age=3600a"),
        ("letters and a number", "max-age=a3600"),
        ("nothing", "max-age="),
        ("nothing at all", "max-age"),
    ];
    rules.extend(invalid.map(|(what, value)| {
        should("9111 4.2.1", format!("an answer whose max-age is {what} is stale"))
            .given(FRESH)
            .misses(says(value))
    }));
    rules
}
