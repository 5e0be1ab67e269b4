//! Groups: answers that are invalidated together (RFC 9875). Their names hold for all of the upstream, so
//! that each rule has its own.

use super::FRESH;
use crate::rule::{Ask, Reply, Rule, ask, fresh, get, may, must, ok};

const INVALIDATED: &str = "a group that the answer to a POST names is not reused";
const GROUPED: &str = "what shares a group with what a POST changed is not reused";

pub(super) fn rules() -> Vec<Rule> {
    [by_name(), by_what_changed(), bounds()].concat()
}

/// Another target with these groups is stored; an answer to a POST names groups.
fn named(rule: Rule, groups: &str, invalidated: &str, then: fn(Ask) -> Ask) -> Rule {
    let answer = ok().with("cache-group-invalidation", invalidated);
    after(rule, groups, ask("POST").content("a=1").reply(answer), then)
}

fn after(rule: Rule, groups: &str, change: Ask, then: fn(Ask) -> Ask) -> Rule {
    rule.ask(get().target("other").reply(grouped(groups)))
        .ask(change.forwarded().prepares())
        .ask(then(get().target("other")))
}

fn grouped(groups: &str) -> Reply {
    fresh().with("cache-groups", groups)
}

fn by_name() -> Vec<Rule> {
    let of_group = |id: &str| must("9875 2.1", id).given(INVALIDATED);
    let by_get = ask("GET").reply(ok().with("cache-group-invalidation", "\"{rule}-a\""));
    vec![
        named(
            may("9875 3", INVALIDATED).given(FRESH),
            "\"{rule}-a\"",
            "\"{rule}-a\"",
            Ask::forwarded,
        ),
        named(
            of_group("any of several groups counts"),
            "\"{rule}-x\", \"{rule}-a\"",
            "\"{rule}-b\", \"{rule}-a\"",
            Ask::forwarded,
        ),
        named(
            of_group("groups with other names are not the same"),
            "\"{rule}-a\"",
            "\"{rule}-b\"",
            Ask::hit,
        ),
        named(
            of_group("groups are told by the case of their names"),
            "\"{rule}-a\"",
            "\"{rule}-A\"",
            Ask::hit,
        ),
        named(
            of_group("a group is no part of another's name"),
            "\"{rule}-ab\"",
            "\"{rule}-a\", \"{rule}-b\"",
            Ask::hit,
        ),
        named(
            of_group("a comma in the name of a group divides nothing"),
            "\"{rule}-a, {rule}-b\"",
            "\"{rule}-b\"",
            Ask::hit,
        ),
        named(
            must("9875 2", "parameters of a group are ignored").given(INVALIDATED),
            "\"{rule}-a\";x=1",
            "\"{rule}-a\";y",
            Ask::forwarded,
        ),
        named(
            must("9875 3", "a list that is none names no group").given(INVALIDATED),
            "\"{rule}-a\"",
            "\"{rule}-a\", \"{rule}-b",
            Ask::hit,
        ),
        named(
            must("9875 3", "a token names no group").given(INVALIDATED),
            "\"{rule}-a\"",
            "{rule}-a",
            Ask::hit,
        ),
        after(
            must("9875 3", "the answer to a GET invalidates no group").given(INVALIDATED),
            "\"{rule}-a\"",
            by_get,
            Ask::hit,
        ),
        after(
            must("9875 3", "the answer to an OPTIONS invalidates no group").given(INVALIDATED),
            "\"{rule}-a\"",
            ask("OPTIONS").reply(ok().with("cache-group-invalidation", "\"{rule}-a\"")),
            Ask::hit,
        ),
    ]
}

fn by_what_changed() -> Vec<Rule> {
    let two = |rule: Rule, one: &str, other: &str| {
        rule.ask(get().reply(grouped(one)))
            .ask(get().target("other").reply(grouped(other)))
            .ask(ask("POST").content("a=1").forwarded().prepares())
    };
    let other = || get().target("other");
    let chain = must("9875 2.2", "what is invalidated by its group invalidates no other group");
    vec![
        two(may("9875 2.2", GROUPED).given(FRESH), "\"{rule}-a\"", "\"{rule}-b\", \"{rule}-a\"")
            .ask(other().forwarded()),
        two(
            must("9875 2.1", "what shares no group with what a POST changed is reused")
                .given(GROUPED),
            "\"{rule}-a\"",
            "\"{rule}-b\"",
        )
        .ask(other().hit()),
        two(
            chain.given(GROUPED).ask(get().target("third").reply(grouped("\"{rule}-b\""))),
            "\"{rule}-a\"",
            "\"{rule}-a\", \"{rule}-b\"",
        )
        .ask(get().target("third").hit()),
    ]
}

fn bounds() -> Vec<Rule> {
    // So many must be taken. They are told by a letter, as all rules run at once.
    let names = |letter: &str| -> Vec<String> {
        (10..42).map(|number| format!("\"{}{number}\"", letter.repeat(30))).collect()
    };
    let (stored, invalidated) = (names("s"), names("i"));
    let last = |names: &[String]| names.last().cloned().unwrap_or_default();
    vec![
        named(
            must("9875 2", "32 groups with names of 32 characters are taken").given(INVALIDATED),
            &stored.join(", "),
            &last(&stored),
            Ask::forwarded,
        ),
        named(
            must("9875 3", "32 groups with names of 32 characters are invalidated")
                .given(INVALIDATED),
            &last(&invalidated),
            &invalidated.join(", "),
            Ask::forwarded,
        ),
    ]
}
