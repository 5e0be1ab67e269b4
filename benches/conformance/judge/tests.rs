//! Tests of judging.

use super::*;
use crate::message::{Content, Head};
use crate::rule::{brief, confirms, fresh, get, hangs_up};

fn fields(lines: &[(&str, &str)]) -> Fields {
    let owned = lines.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Fields(owned.collect())
}

fn answer(status: u16, lines: &[(&str, &str)], content: &str) -> Answer {
    let head = Head { start_line: String::new(), fields: fields(lines) };
    let content = Content { text: content.into(), is_whole: true, ..Content::default() };
    Answer { status, head, content, ..Answer::default() }
}

fn call(status: u16, lines: &[(&str, &str)], said: &str) -> Call {
    let (fields, content, said) = (fields(lines), String::new(), said.to_owned());
    Call { fields, content, status: Some(status), said }
}

#[test]
fn an_answer_of_an_earlier_call_is_a_hit_and_one_of_a_later_call_is_not() {
    let all = [call(200, &[], "one"), call(200, &[], "two")];
    let old = answer(200, &[("serial", "1")], "one");
    let new = answer(200, &[("serial", "2")], "two");
    let calls = Calls { all: &all, before: 1 };
    assert!(judge(&get().hit(), &old, calls).is_ok());
    assert!(judge(&get().forwarded(), &new, calls).is_ok());
    assert!(judge(&get().hit(), &new, calls).is_err());
    assert!(judge(&get().forwarded(), &old, calls).is_err());
}

#[test]
fn an_answer_that_brings_the_content_of_another_call_is_wrong() {
    let all = [call(200, &[], "one")];
    let mixed = answer(200, &[("serial", "1")], "another");
    assert!(judge(&get().hit(), &mixed, Calls { all: &all, before: 1 }).is_err());
}

#[test]
fn an_error_of_the_cache_is_neither_a_hit_nor_forwarded() {
    let all = [call(200, &[], "one")];
    let calls = Calls { all: &all, before: 1 };
    let error = answer(502, &[], "no");
    assert!(judge(&get().hit(), &error, calls).is_err());
    assert!(judge(&get().forwarded(), &error, calls).is_err());
    assert!(judge(&get().reply(hangs_up()).status_of(&[502, 504]), &error, calls).is_ok());
}

#[test]
fn what_is_revalidated_was_asked_with_the_condition_and_is_the_old_one() {
    let old = answer(200, &[("serial", "1")], "one");
    let asked = [call(200, &[], "one"), call(304, &[("if-none-match", "\"a\"")], "")];
    let ask = get().reply(confirms()).revalidated_by("if-none-match");
    assert!(judge(&ask, &old, Calls { all: &asked, before: 1 }).is_ok());
    let unasked = Calls { all: &asked[..1], before: 1 };
    assert!(judge(&ask, &old, unasked).is_err());
    let otherwise = [call(200, &[], "one"), call(200, &[], "two")];
    assert!(judge(&ask, &old, Calls { all: &otherwise, before: 1 }).is_err());
}

#[test]
fn a_first_answer_has_the_status_of_its_reply_unless_the_upstream_hung_up() {
    let calls = Calls { all: &[], before: 0 };
    assert!(judge(&get().reply(fresh()), &answer(503, &[], ""), calls).is_err());
    assert!(judge(&get().reply(hangs_up()), &answer(502, &[], ""), calls).is_ok());
    assert!(judge(&get().reply(brief("\"a\"")), &answer(200, &[], ""), calls).is_ok());
}

#[test]
fn checks_of_fields_say_what_is_wrong() {
    let said =
        fields(&[("age", "3"), ("cache-status", "a; hit, b; fwd=stale; key=\";,\"; ttl=-1")]);
    let good = [
        Check::Has("age"),
        Check::Lacks("etag"),
        Check::Is("age", "3".into()),
        Check::IsNot("age", "4"),
        Check::AtLeast("age", 3),
        Check::Below("age", 4),
        Check::Parameter("cache-status", "fwd=stale"),
        Check::Names("cache-status", "ttl"),
        Check::NamesNo("cache-status", "hit"),
        Check::Begins("cache-status", "a; hit"),
        Check::Once("age"),
    ];
    for check in &good {
        assert_eq!(holds(check, &said), Ok(()));
    }
    let bad = [
        Check::Has("etag"),
        Check::Lacks("age"),
        Check::Is("age", "4".into()),
        Check::IsNot("age", "3"),
        Check::AtLeast("age", 4),
        Check::Below("age", 3),
        Check::Parameter("cache-status", "hit"),
        Check::Names("cache-status", "hit"),
        Check::NamesNo("cache-status", "fwd"),
        Check::Begins("cache-status", "b"),
        Check::Once("etag"),
    ];
    for check in &bad {
        assert!(holds(check, &said).is_err(), "{check:?}");
    }
    let wrong = holds(&Check::AtLeast("age", 4), &said).unwrap_err();
    assert_eq!(wrong, "age is \"3\", and should be at least 4");
}

#[test]
fn interim_responses_cuts_and_calls_are_looked_at() {
    let all = [call(200, &[], "one")];
    let calls = Calls { all: &all, before: 0 };
    let first = answer(200, &[("serial", "1")], "one");
    assert!(judge(&get().interim(&[103]), &first, calls).is_err());
    assert!(judge(&get().interim(&[]), &first, calls).is_ok());
    assert!(judge(&get().whole(false), &first, calls).is_err());
    assert!(judge(&get().calls(1), &first, calls).is_ok());
    assert!(judge(&get().calls(2), &first, calls).is_err());
    assert!(judge(&get().asks("if-none-match", "\"a\""), &first, calls).is_err());
}
