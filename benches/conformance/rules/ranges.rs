//! Ranges: parts of what is stored, and parts that are stored (RFC 9110 sections 13.1.5, 14 and 15.3.7,
//! RFC 9111 sections 3.3 and 3.4).

use super::{FRESH, LONG_AGO};
use crate::rule::{Ask, Reply, Rule, ask, fresh, get, may, must, ok, should, status};

const PART: &str = "a range of what is stored is cut out of it";
const IF_RANGE: &str = "If-Range with the stored tag gets the range";
const STORED_PART: &str = "a range that was stored is reused for the same range";
const DIGITS: &str = "0123456789";

pub(super) fn rules() -> Vec<Rule> {
    [parts(), what_a_part_has(), conditions(), what_is_none(), partial_answers()].concat()
}

fn stored() -> Reply {
    let tagged = fresh().with("etag", "\"v1\"").with("last-modified", LONG_AGO);
    // Whoever gives parts says so; some caches ask for that.
    tagged.with("accept-ranges", "bytes").content(DIGITS)
}

fn range(range: &str) -> Ask {
    get().with("range", range)
}

/// All digits are stored, and this is asked.
fn asked(rule: Rule, ask: Ask) -> Rule {
    rule.ask(get().reply(stored())).ask(ask.hit())
}

fn parts() -> Vec<Rule> {
    let part = |id: &str, of: &str, content, at: &str| {
        let ask = range(of).status(206).brings(content).is("content-range", at);
        asked(must("9110 14.1.2", id).given(PART), ask)
    };
    vec![
        asked(may("9110 14.2", PART).given(FRESH), range("bytes=2-4").status(206).brings("234")),
        part("a range from the first byte is cut", "bytes=0-0", "0", "bytes 0-0/10"),
        part("a range without an end goes to the end", "bytes=7-", "789", "bytes 7-9/10"),
        part("a range of the last bytes is cut", "bytes=-3", "789", "bytes 7-9/10"),
        part(
            "a range of more last bytes than there are is all",
            "bytes=-99",
            DIGITS,
            "bytes 0-9/10",
        ),
        part(
            "a range that ends beyond the end goes to the end",
            "bytes=8-99",
            "89",
            "bytes 8-9/10",
        ),
        asked(
            should("9110 14.2", "a range beyond the end gets a 416 with the length").given(PART),
            range("bytes=10-20").status(416).is("content-range", "bytes */10"),
        ),
        asked(
            may("9110 14.2", "two ranges get both, or the whole").given(PART),
            range("bytes=0-1, 8-9").status_of(&[200, 206]),
        ),
    ]
}

fn what_a_part_has() -> Vec<Rule> {
    let has = |name: &'static str| {
        asked(
            must("9110 15.3.7", format!("a part of what is stored has its {name}")).given(PART),
            range("bytes=2-4").status(206).has(name),
        )
    };
    let mut rules: Vec<Rule> = ["date", "etag", "cache-control"].map(has).into();
    rules.push(asked(
        must("9110 8.6", "a part of what is stored has its own length").given(PART),
        range("bytes=2-4").status(206).is("content-length", "3").whole(true),
    ));
    rules.push(asked(
        must("9111 4", "a part of what is stored tells its age").given(PART),
        range("bytes=2-4").status(206).has("age"),
    ));
    rules
}

fn conditions() -> Vec<Rule> {
    let with = |name, value: &str| range("bytes=2-4").with(name, value);
    let of_part = |section: &str, id: &str| must(section, id).given(PART);
    let weak = fresh().with("accept-ranges", "bytes").with("etag", "W/\"v1\"").content(DIGITS);
    vec![
        asked(
            may("9110 13.1.5", IF_RANGE).given(PART),
            with("if-range", "\"v1\"").status(206).brings("234"),
        ),
        must("9110 13.1.5", "If-Range with another tag gets the whole")
            .given(PART)
            .ask(get().reply(stored()))
            .ask(with("if-range", "\"v2\"").reply(stored()).status(200).brings(DIGITS)),
        must("9110 13.1.5", "If-Range with a weak tag gets the whole")
            .given(PART)
            .ask(get().reply(weak))
            .ask(with("if-range", "W/\"v1\"").reply(stored()).status(200).brings(DIGITS)),
        must("9110 13.1.5", "If-Range with another date gets the whole")
            .given(PART)
            .ask(get().reply(stored()))
            .ask(
                with("if-range", "Fri, 01 Jan 2021 00:00:00 GMT")
                    .reply(stored())
                    .status(200)
                    .brings(DIGITS),
            ),
        asked(
            of_part("9110 13.2.2", "If-None-Match with the stored tag counts before a range"),
            with("if-none-match", "\"v1\"").status(304),
        ),
        asked(
            of_part("9110 13.2.2", "a range counts where If-None-Match has another tag"),
            with("if-none-match", "\"v2\"").status(206).brings("234"),
        ),
    ]
}

fn what_is_none() -> Vec<Rule> {
    let asked = |id: &str, of: &str, statuses: &[u16]| {
        must("9110 14.2", id)
            .given(PART)
            .ask(get().reply(stored()))
            .ask(range(of).reply(stored()).status_of(statuses))
    };
    vec![
        asked("a range in a unit that nobody knows is ignored", "pages=1-2", &[200]),
        asked(
            "a range that ends before it begins is ignored or refused",
            "bytes=4-2",
            &[200, 400, 416],
        ),
        asked("a range of no number is ignored or refused", "bytes=a-b", &[200, 400, 416]),
        must("9110 14.2", "a range of a HEAD is ignored")
            .given(PART)
            .given("a HEAD is answered from what a GET has stored")
            .ask(get().reply(stored()))
            .ask(ask("HEAD").with("range", "bytes=2-4").reply(stored()).status(200)),
    ]
}

fn partial_answers() -> Vec<Rule> {
    let part = |at: &str, content: &str| {
        status(206)
            .with("cache-control", "max-age=3600")
            .with("etag", "\"v1\"")
            .with("content-range", at)
            .content(content)
            .or_whole(DIGITS)
    };
    let middle = || range("bytes=2-4").reply(part("bytes 2-4/10", "234"));
    let other_part = status(206)
        .with("cache-control", "max-age=3600")
        .with("etag", "\"v2\"")
        .with("content-range", "bytes 5-9/10")
        .content("fghij")
        .or_whole("abcdefghij");
    let first = |rule: Rule| rule.ask(middle().status_of(&[200, 206]).prepares());
    vec![
        first(must(
            "9111 3.3",
            "a part that the upstream gave does not answer a request for the whole",
        ))
        .ask(get().reply(stored()).status(200).brings(DIGITS)),
        first(must("9111 3.4", "a part that the upstream gave does not answer for another part"))
            .ask(
                range("bytes=5-6")
                    .reply(part("bytes 5-6/10", "56"))
                    .status_of(&[200, 206])
                    .brings("56")
                    .brings(DIGITS),
            ),
        first(may("9111 3.3", STORED_PART)).ask(range("bytes=2-4").hit().status(206).brings("234")),
        first(
            may("9111 3.3", "a range within one that was stored is cut out of it")
                .given(STORED_PART),
        )
        .ask(range("bytes=3-3").hit().status(206).brings("3")),
        must("9111 3.4", "parts of different answers are not put together")
            .ask(
                range("bytes=0-4")
                    .reply(part("bytes 0-4/10", "01234"))
                    .status_of(&[200, 206])
                    .prepares(),
            )
            .ask(range("bytes=5-9").reply(other_part).forwarded().status_of(&[200, 206]).prepares())
            .ask(get().reply(ok().content("abcdefghij")).status(200).brings("abcdefghij")),
        may("9110 14.2", "a range of what is not stored is answered as a part")
            .ask(middle().status(206).brings("234")),
        must("9110 15.5.17", "a 416 does not answer a request for the whole")
            .ask(
                range("bytes=20-30")
                    .reply(status(416).with("content-range", "bytes */10").or_whole(DIGITS))
                    .status_of(&[200, 416])
                    .prepares(),
            )
            .ask(get().reply(stored()).status(200).brings(DIGITS)),
    ]
}
