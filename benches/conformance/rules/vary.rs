//! Vary: which of several answers a request chooses (RFC 9111 section 4.1, RFC 9110 section 12.5.5).

use super::TAGGED;
use crate::rule::{Ask, Reply, Rule, brief, confirms, fresh, get, may, must};

const CHOSEN: &str = "an answer that varies is reused for a request that chooses alike";
const OF_TWO: &str =
    "an answer that varies by two fields is reused for a request that chooses alike";

pub(super) fn rules() -> Vec<Rule> {
    [one_field(), two_fields(), stars(), spellings(), variants()].concat()
}

fn varies(names: &str) -> Reply {
    fresh().with("vary", names)
}

fn with(fields: &[(&'static str, &str)]) -> Ask {
    fields.iter().fold(get(), |ask, (name, value)| ask.with(name, *value))
}

fn one_field() -> Vec<Rule> {
    let choice = |value: &str| get().with("x-choice", value);
    let of_one = |id: &str| must("9111 4.1", id).given(CHOSEN);
    let first = || choice("1").reply(varies("x-choice"));
    vec![
        may("9111 4.1", CHOSEN).ask(first()).ask(choice("1").hit()),
        of_one("a request that chooses otherwise is not answered from what is stored")
            .ask(first())
            .ask(choice("2").forwarded()),
        of_one("a request without the field that was there is not answered from what is stored")
            .ask(first())
            .ask(get().forwarded()),
        of_one("a request with the field that was missing is not answered from what is stored")
            .ask(get().reply(varies("x-choice")))
            .ask(choice("1").forwarded()),
        may("9111 4.1", "a request without the field that was missing, too, is answered")
            .ask(get().reply(varies("x-choice")))
            .ask(get().hit()),
        of_one("a value with another case is another value")
            .ask(choice("a").reply(varies("x-choice")))
            .ask(choice("A").forwarded()),
        of_one("the names in Vary are read in any case")
            .ask(choice("1").reply(varies("X-CHOICE")))
            .ask(choice("2").forwarded()),
        may("9111 4.1", "fields that Vary does not name make no difference")
            .ask(choice("1").with("x-other", "1").reply(varies("x-choice")))
            .ask(choice("1").with("x-other", "2").hit()),
    ]
}

fn two_fields() -> Vec<Rule> {
    let both = |one: &str, two: &str| with(&[("x-one", one), ("x-two", two)]);
    let of_two = |id: &str| must("9111 4.1", id).given(OF_TWO);
    let first = || both("1", "2").reply(varies("x-one, x-two"));
    vec![
        may("9111 4.1", OF_TWO).ask(first()).ask(both("1", "2").hit()),
        of_two("a request that differs in the first of two fields is not answered")
            .ask(first())
            .ask(both("0", "2").forwarded()),
        of_two("a request that differs in the second of two fields is not answered")
            .ask(first())
            .ask(both("1", "0").forwarded()),
        of_two("a request that swaps the values of two fields is not answered")
            .ask(first())
            .ask(both("2", "1").forwarded()),
        of_two("a request that has one of two fields is not answered")
            .ask(first())
            .ask(get().with("x-one", "1").forwarded()),
        of_two("Vary on two lines is one list")
            .ask(both("1", "2").reply(varies("x-one").with("vary", "x-two")))
            .ask(both("1", "0").forwarded()),
        may("9111 4.1", "two fields in another order choose alike")
            .ask(first())
            .ask(with(&[("x-two", "2"), ("x-one", "1")]).hit()),
    ]
}

fn stars() -> Vec<Rule> {
    let star = |id: &str, reply: Reply| must("9111 4.1", id).given(CHOSEN).misses(reply);
    vec![
        star("a star is chosen by nothing", varies("*")),
        star("two stars are chosen by nothing", varies("*, *")),
        star("a star before a name is chosen by nothing", varies("*, x-choice")),
        star("a star after a name is chosen by nothing", varies("x-choice, *")),
        star("a star after an empty member is chosen by nothing", varies(", *")),
        star(
            "a star on a line of its own is chosen by nothing",
            varies("x-choice").with("vary", "*"),
        ),
    ]
}

fn spellings() -> Vec<Rule> {
    let alike = |id: &str, name: &'static str, one: &str, other: &[&str]| {
        let second = other.iter().fold(get(), |ask, value| ask.with(name, *value));
        may("9111 4.1", id).ask(get().with(name, one).reply(varies(name))).ask(second.hit())
    };
    vec![
        alike(
            "a list on several lines chooses like one on a line",
            "x-choice",
            "1, 2",
            &["1", "2"],
        ),
        alike("white space in a list makes no difference", "x-choice", "1,2", &["1 ,  2"]),
        alike("languages in another order choose alike", "accept-language", "en, de", &["de, en"]),
        alike("languages in another case choose alike", "accept-language", "en, de", &["EN, de"]),
        alike(
            "codings in another order choose alike",
            "accept-encoding",
            "gzip, br",
            &["br, gzip"],
        ),
    ]
}

fn variants() -> Vec<Rule> {
    let choice = |value: &str| get().with("x-choice", value);
    vec![
        may("9111 4.1", "two variants are kept beside each other")
            .ask(choice("1").reply(varies("x-choice")))
            .ask(choice("2").reply(varies("x-choice")).forwarded())
            .ask(choice("1").hit().is("serial", "1"))
            .ask(choice("2").hit().is("serial", "2")),
        must("9111 4.1", "an answer without Vary does not hide that others vary")
            .given(CHOSEN)
            .ask(choice("1").reply(varies("x-choice")))
            .ask(choice("2").reply(varies("x-choice")).forwarded().prepares())
            .ask(choice("1").hit().is("serial", "1")),
        must("9111 4.3.1", "a variant is validated with the fields that choose it")
            .given(TAGGED)
            .ask(choice("1").reply(brief("\"v1\"").with("vary", "x-choice")))
            .pause()
            .ask(choice("1").reply(confirms()).asks("x-choice", "1")),
        must("9111 4.1", "a variant that is confirmed for one choice does not answer another")
            .given(TAGGED)
            .ask(choice("1").reply(brief("\"v1\"").with("vary", "x-choice")))
            .pause()
            .ask(
                choice("1")
                    .reply(confirms().with("cache-control", "max-age=3600"))
                    .prepares()
                    .status(200),
            )
            .ask(choice("2").forwarded()),
    ]
}
