//! Freshness: for how long an answer may be used (RFC 9111 sections 4.2, 5.1, 5.2.2 and 5.3).

use super::{EXPIRES, FRESH, LONG_AGO, S_MAXAGE};
use crate::rule::{Check, Rule, fresh, get, may, must, ok, says, should};

pub(super) fn rules() -> Vec<Rule> {
    [max_age(), s_maxage(), expires(), age(), the_age_that_is_told()].concat()
}

fn max_age() -> Vec<Rule> {
    let beyond = |age: &str| fresh().with("age", age);
    vec![
        may("9111 5.2.2.1", FRESH).hits(fresh()),
        must("9111 4.2", "an answer is not reused once it is older than its max-age")
            .given(FRESH)
            .misses_later(says("max-age=1")),
        must("9111 4.2", "an answer with max-age=0 is not reused")
            .given(FRESH)
            .misses(says("max-age=0")),
        must("9111 1.2.2", "a max-age of 2^31 is a long time")
            .given(FRESH)
            .hits(says("max-age=2147483648")),
        must("9111 1.2.2", "a max-age that overflows is a long time")
            .given(FRESH)
            .hits(says("max-age=99999999999999999999")),
        may("9111 4.2.3", "an answer that came with some age is reused").hits(beyond("100")),
        must("9111 4.2.3", "an answer that came older than its max-age is not reused")
            .given(FRESH)
            .misses(beyond("7200")),
        must("9111 1.2.2", "an Age of 2^31 is old").given(FRESH).misses(beyond("2147483648")),
        must("9111 1.2.2", "an Age that overflows is old")
            .given(FRESH)
            .misses(beyond("99999999999999999999")),
    ]
}

fn s_maxage() -> Vec<Rule> {
    let two_lines = says("max-age=3600").with("cache-control", "s-maxage=1");
    vec![
        may("9111 5.2.2.10", S_MAXAGE).hits(says("s-maxage=3600")),
        must("9111 5.2.2.10", "a short s-maxage counts before a long max-age")
            .given(S_MAXAGE)
            .misses_later(says("max-age=3600, s-maxage=1")),
        must("9111 5.2.2.10", "a short s-maxage counts also where it is said first")
            .given(S_MAXAGE)
            .misses_later(says("s-maxage=1, max-age=3600")),
        must("9111 5.2.2.10", "a short s-maxage counts also on a line of its own")
            .given(S_MAXAGE)
            .misses_later(two_lines),
        must("9111 5.2.2.10", "s-maxage=0 counts before a long max-age")
            .given(S_MAXAGE)
            .misses(says("max-age=3600, s-maxage=0")),
        must("9111 5.2.2.10", "a long s-maxage counts before a short max-age")
            .given(S_MAXAGE)
            .hits_later(says("max-age=1, s-maxage=3600")),
        must("9111 5.2.2.10", "a long s-maxage counts before an Expires that has passed")
            .given(S_MAXAGE)
            .hits(says("s-maxage=3600").date("expires", -10)),
        must("9111 5.2.2.10", "a short s-maxage counts before a later Expires")
            .given(S_MAXAGE)
            .misses_later(says("s-maxage=1").date("expires", 3_600)),
    ]
}

fn expires() -> Vec<Rule> {
    vec![
        may("9111 5.3", EXPIRES).hits(ok().date("expires", 3_600)),
        must("9111 5.3", "an answer whose Expires has passed is not reused")
            .given(EXPIRES)
            .misses(ok().date("expires", -3_600)),
        must("9111 5.3", "an answer that expires when it was made is not reused")
            .given(EXPIRES)
            .misses(ok().date("date", 0).date("expires", 0)),
        must("9111 4.2.1", "an Expires counts from the Date of the answer")
            .given(EXPIRES)
            .misses(ok().date("date", 7_200).date("expires", 3_600)),
        must("9111 4.2.3", "an answer with Expires is not reused once its Age is beyond that")
            .given(EXPIRES)
            .misses(ok().date("expires", 3_600).with("age", "7200")),
        must("9111 4.2", "an answer is not reused once its Expires has passed")
            .given(EXPIRES)
            .misses_later(ok().date("expires", 1)),
        must("9111 5.3", "an Expires that has passed is ignored beside max-age")
            .given(FRESH)
            .hits(fresh().date("expires", -3_600)),
        must("9111 5.3", "an Expires that is no date is ignored beside max-age")
            .given(FRESH)
            .hits(fresh().with("expires", "0")),
        must("9111 5.3", "a later Expires is ignored beside max-age=0")
            .given(FRESH)
            .misses(says("max-age=0").date("expires", 3_600)),
    ]
}

fn age() -> Vec<Rule> {
    let with_age = |age: &str| fresh().with("age", age);
    let then = |first: &str, second: &str| with_age(first).with("age", second);
    vec![
        should("9111 4.2.3", "the age of an answer is no less than its Date says")
            .given(FRESH)
            .misses(fresh().date("date", -7_200)),
        should("9111 5.1", "an Age that is no number is ignored")
            .given(FRESH)
            .hits(with_age("old")),
        should("9111 5.1", "a negative Age is ignored").given(FRESH).hits(with_age("-7200")),
        should("9111 5.1", "an Age with a fraction is ignored")
            .given(FRESH)
            .hits(with_age("7200.5")),
        should("9111 5.1", "the first member of a list of Ages counts: young")
            .given(FRESH)
            .hits(with_age("0, 7200")),
        should("9111 5.1", "the first member of a list of Ages counts: old")
            .given(FRESH)
            .misses(with_age("7200, 0")),
        should("9111 5.1", "the first of several lines of Age counts: young")
            .given(FRESH)
            .hits(then("0", "7200")),
        should("9111 5.1", "the first of several lines of Age counts: old")
            .given(FRESH)
            .misses(then("7200", "0")),
    ]
}

fn the_age_that_is_told() -> Vec<Rule> {
    let later =
        |seconds| get().hit().check(Check::AtLeast("age", seconds)).check(Check::Once("age"));
    vec![
        must("9111 4", "an answer that is reused tells its age")
            .given(FRESH)
            .ask(get().reply(fresh()))
            .pause()
            .ask(later(2)),
        must("9111 4", "an answer that is reused adds to the age that it came with")
            .given(FRESH)
            .ask(get().reply(fresh().with("age", "30")))
            .pause()
            .ask(later(32)),
        must("9111 4", "an answer with Expires that is reused tells its age")
            .given(EXPIRES)
            .ask(get().reply(ok().date("expires", 3_600)))
            .pause()
            .ask(later(2)),
        must("9110 6.6.1", "an answer that is reused keeps its Date")
            .given(FRESH)
            .ask(get().reply(says("max-age=2000000000").with("date", LONG_AGO)))
            .ask(get().hit().is("date", LONG_AGO)),
        must("9110 6.6.1", "an answer without a Date is given one")
            .ask(get().reply(fresh().undated()).forwarded().has("date")),
    ]
}
