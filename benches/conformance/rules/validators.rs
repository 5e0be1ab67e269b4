//! Validation towards the upstream: what it is asked with, and what its answer does (RFC 9111 sections
//! 4.3.1, 4.3.3 and 4.3.4).

use super::{LONG_AGO, TAGGED};
use crate::rule::{
    Check, Rule, brief, confirms, confirms_what_it_is_not, get, may, must, says, should, status,
};

const DATED: &str = "a stale answer with a Last-Modified is revalidated";

pub(super) fn rules() -> Vec<Rule> {
    [what_is_asked(), what_comes_back(), what_it_does()].concat()
}

fn what_is_asked() -> Vec<Rule> {
    let dated = || says("max-age=1").with("last-modified", LONG_AGO);
    let both = || brief("\"v1\"").with("last-modified", LONG_AGO);
    let revalidated = |rule: Rule, reply, check: Check| {
        let mut ask = get().reply(confirms()).forwarded();
        ask.expect.source = None;
        ask.expect.asked.push(check);
        rule.ask(get().reply(reply)).pause().ask(ask)
    };
    vec![
        may("9111 4.3.1", TAGGED)
            .ask(get().reply(brief("\"v1\"")))
            .pause()
            .ask(get().reply(confirms()).revalidated_by("if-none-match")),
        may("9111 4.3.1", DATED)
            .ask(get().reply(dated()))
            .pause()
            .ask(get().reply(confirms()).revalidated_by("if-modified-since")),
        may("9111 5.2.2.4", "an answer with no-cache is stored, and revalidated for each use")
            .ask(get().reply(says("no-cache").with("etag", "\"v1\"")))
            .ask(get().reply(confirms()).revalidated_by("if-none-match")),
        revalidated(
            must("9111 4.3.1", "the upstream is asked with the entity tag as it was").given(TAGGED),
            brief("\"a,b\""),
            Check::Is("if-none-match", "\"a,b\"".into()),
        ),
        revalidated(
            must("9111 4.3.1", "the upstream is asked with a weak entity tag as it was")
                .given(TAGGED),
            brief("W/\"v1\""),
            Check::Is("if-none-match", "W/\"v1\"".into()),
        ),
        revalidated(
            must("9110 13.1.3", "the upstream is asked with the Last-Modified as it was")
                .given(DATED),
            dated(),
            Check::Is("if-modified-since", LONG_AGO.into()),
        ),
        revalidated(
            should(
                "9111 4.3.1",
                "the upstream is asked with the Last-Modified beside an entity tag",
            )
            .given(TAGGED),
            both(),
            Check::Is("if-modified-since", LONG_AGO.into()),
        ),
        revalidated(
            must("9111 4.3.1", "the upstream is asked with the entity tag beside a Last-Modified")
                .given(TAGGED),
            both(),
            Check::Is("if-none-match", "\"v1\"".into()),
        ),
    ]
}

fn what_comes_back() -> Vec<Rule> {
    let stale = |rule: Rule| rule.given(TAGGED).ask(get().reply(brief("\"v1\""))).pause();
    vec![
        stale(must("9111 4.3.3", "a whole answer to a validation is given"))
            .ask(get().reply(brief("\"v2\"")).forwarded().is("etag", "\"v2\"")),
        stale(must("9111 4.3.3", "a whole answer to a validation takes the place of the old one"))
            .ask(get().reply(says("max-age=3600").with("etag", "\"v2\"")))
            .ask(get().hit().is("serial", "2")),
        stale(must("9111 4.3.3", "an error to a validation is not hidden without a permission"))
            .ask(get().reply(status(500)).forwarded().status(500)),
        stale(must("9111 4.3.3", "a 404 to a validation is given"))
            .ask(get().reply(status(404)).forwarded().status(404)),
        stale(must("9111 4.3.4", "a 304 with another strong tag is not taken for a confirmation"))
            .ask(
                get()
                    .reply(confirms_what_it_is_not().with("etag", "\"v2\""))
                    .forwarded()
                    .status(200),
            ),
        stale(should("9111 4.3.4", "a 304 without validators confirms what was asked about"))
            .ask(get().reply(confirms()).revalidated_by("if-none-match").status(200)),
        must("9111 4.3.4", "a 304 with the same weak tag confirms")
            .given(TAGGED)
            .ask(get().reply(brief("W/\"v1\"")))
            .pause()
            .ask(get().reply(confirms().with("etag", "W/\"v1\"")).revalidated_by("if-none-match")),
    ]
}

fn what_it_does() -> Vec<Rule> {
    let confirmed = |rule: Rule, cache_control: &str| {
        let confirmation = confirms().with("etag", "\"v1\"").with("cache-control", cache_control);
        rule.given(TAGGED)
            .ask(get().reply(brief("\"v1\"")))
            .pause()
            .ask(get().reply(confirmation).revalidated_by("if-none-match").prepares())
    };
    let renewed = "an answer that was confirmed is fresh again";
    let aged = must("9111 4.2.3", "an answer that was confirmed has a new age").given(renewed);
    vec![
        confirmed(may("9111 4.3.4", renewed), "max-age=3600").ask(get().hit()),
        confirmed(aged, "max-age=3600").ask(get().hit().check(Check::Below("age", 2))),
        confirmed(
            must("9111 4.3.4", "a confirmation with a shorter lifetime shortens it").given(renewed),
            "max-age=0",
        )
        .ask(get().forwarded()),
    ]
}
