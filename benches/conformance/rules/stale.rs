//! Stale answers: when they may be given, and when not (RFC 5861, RFC 9111 sections 4.2.4 and 5.2.2).

use super::{FRESH, S_MAXAGE};
use crate::rule::{
    Ask, Check, PAUSE, Reply, Rule, fresh, get, hangs_up, may, must, says, should, status,
};

const WHILE: &str = "stale-while-revalidate permits an answer that is stale";
const IF_CLOSED: &str = "stale-if-error permits an answer that is stale if the upstream hangs up";
/// What a cache says itself for an upstream that does not answer.
const ERRORS: [u16; 4] = [500, 502, 503, 504];

pub(super) fn rules() -> Vec<Rule> {
    [while_revalidate(), if_error(), not_if_error(), forbidden()].concat()
}

/// Stored; stale; and then the upstream says this.
fn then(rule: Rule, stored: &str, ask: Ask) -> Rule {
    rule.ask(get().reply(says(stored).with("etag", "\"v1\""))).pause().ask(ask)
}

fn while_revalidate() -> Vec<Rule> {
    let windowed = "max-age=1, stale-while-revalidate=60";
    let later = fresh().after(PAUSE / 2);
    vec![
        then(may("5861 3", WHILE).given(FRESH), windowed, get().hit()),
        then(
            should("5861 3", "what is given while it is revalidated is new the next time")
                .given(WHILE),
            windowed,
            get().reply(fresh()).hit().prepares(),
        )
        .pause()
        .ask(get().hit().is("serial", "2")),
        then(
            should("5861 3", "nobody waits for what is revalidated meanwhile").given(WHILE),
            windowed,
            get().reply(later).callers(3).hit(),
        ),
        then(
            must("9111 4", "what is given while it is revalidated tells its age").given(WHILE),
            windowed,
            get().hit().check(Check::AtLeast("age", 2)),
        ),
        then(
            must("5861 3", "nothing is given once stale-while-revalidate is over").given(WHILE),
            "max-age=0, stale-while-revalidate=1",
            get().forwarded(),
        ),
        then(
            must("9111 4.2.4", "stale-while-revalidate does not count against must-revalidate")
                .given(WHILE),
            "max-age=1, stale-while-revalidate=60, must-revalidate",
            get().forwarded(),
        ),
        then(
            must("9111 4.2.4", "stale-while-revalidate does not count against proxy-revalidate")
                .given(WHILE),
            "max-age=1, stale-while-revalidate=60, proxy-revalidate",
            get().forwarded(),
        ),
        then(
            must("9111 4.2.4", "stale-while-revalidate does not count against no-cache")
                .given(WHILE),
            "max-age=1, stale-while-revalidate=60, no-cache",
            get().forwarded(),
        ),
    ]
}

fn if_error() -> Vec<Rule> {
    let windowed = "max-age=1, stale-if-error=60";
    let fails =
        |reply: Reply| get().reply(reply).status(200).check(Check::Is("serial", "1".into()));
    let mut rules = vec![
        then(may("5861 4", IF_CLOSED).given(FRESH), windowed, fails(hangs_up())),
        then(
            must("9111 4", "what is given for an error tells its age").given(IF_CLOSED),
            windowed,
            fails(hangs_up()).check(Check::AtLeast("age", 2)),
        ),
        then(
            may("5861 4", "a request's stale-if-error permits an answer that is stale")
                .given(FRESH),
            "max-age=1",
            fails(hangs_up()).with("cache-control", "stale-if-error=60"),
        ),
    ];
    for code in [500, 502, 503, 504] {
        let id =
            format!("stale-if-error permits an answer that is stale if the upstream says {code}");
        rules.push(then(may("5861 4", id).given(FRESH), windowed, fails(status(code))));
    }
    rules
}

fn not_if_error() -> Vec<Rule> {
    let permitted = "max-age=1, stale-if-error=60";
    let passes = |code| get().reply(status(code)).forwarded().status(code);
    vec![
        then(
            must("5861 4", "a 404 is no error that stale-if-error is for").given(IF_CLOSED),
            permitted,
            passes(404),
        ),
        then(
            must("5861 4", "a 403 is no error that stale-if-error is for").given(IF_CLOSED),
            permitted,
            passes(403),
        ),
        then(
            must("5861 4", "nothing is given once stale-if-error is over").given(IF_CLOSED),
            "max-age=0, stale-if-error=1",
            passes(500),
        ),
        then(
            must("5861 4", "an answer is new where the upstream does not fail").given(IF_CLOSED),
            permitted,
            get().reply(fresh()).forwarded(),
        ),
        then(
            must("9111 4.2.4", "an error is not hidden without a permission").given(FRESH),
            "max-age=1",
            passes(500),
        ),
        then(
            must("9111 4.2.4", "a 503 is not hidden without a permission").given(FRESH),
            "max-age=1",
            passes(503),
        ),
    ]
}

fn forbidden() -> Vec<Rule> {
    let fails = |reply: Reply| get().reply(reply).status_of(&ERRORS);
    let mut rules = Vec::new();
    for directive in ["must-revalidate", "proxy-revalidate", "s-maxage=1", "no-cache"] {
        let id = format!("stale-if-error does not count against {directive}");
        let section = if directive == "no-cache" { "9111 5.2.2.4" } else { "9111 4.2.4" };
        let stored = format!("max-age=1, stale-if-error=60, {directive}");
        rules.push(then(must(section, id).given(IF_CLOSED), &stored, fails(hangs_up())));
    }
    for (section, directive) in
        [("9111 5.2.2.2", "must-revalidate"), ("9111 5.2.2.8", "proxy-revalidate")]
    {
        let id = format!("what says {directive} is an error while the upstream cannot be asked");
        let stored = format!("max-age=1, {directive}");
        rules.push(then(must(section, id).given(FRESH), &stored, fails(hangs_up())));
    }
    rules.push(then(
        must("9111 5.2.2.10", "what says s-maxage is an error while the upstream cannot be asked")
            .given(S_MAXAGE),
        "s-maxage=1",
        fails(hangs_up()),
    ));
    rules.push(then(
        should(
            "9111 5.2.2.2",
            "the error for what must be revalidated is a 504, or one that fits better",
        )
        .given(FRESH),
        "max-age=1, must-revalidate",
        get().reply(hangs_up()).status_of(&[502, 504]),
    ));
    rules
}
