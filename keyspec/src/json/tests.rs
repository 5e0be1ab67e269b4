//! What the scan refuses, where it says so, and what it does at its bounds.

use super::*;
use crate::number::NUMBER_BYTES_MAX;

fn refusal(body: impl AsRef<[u8]>) -> NotKeyable {
    Document::scan(body.as_ref()).err().expect("this body should not be keyable")
}

fn is_keyable(body: impl AsRef<[u8]>) -> bool {
    Document::scan(body.as_ref()).is_ok()
}

#[test]
fn a_body_of_white_space_is_empty() {
    assert_eq!(refusal(""), NotKeyable::EmptyBody);
    assert_eq!(refusal(" \r\n\t"), NotKeyable::EmptyBody);
}

#[test]
fn a_byte_order_mark_is_refused() {
    assert_eq!(refusal("\u{feff}{}"), NotKeyable::ByteOrderMark);
    assert!(is_keyable("{\"a\":\"\u{feff}\"}"));
}

#[test]
fn invalid_utf8_is_refused_where_it_is() {
    assert_eq!(refusal(b"{\"a\":\"\xff\"}"), NotKeyable::InvalidUtf8 { at: 6 });
    assert_eq!(refusal(b"{\"a\":\"\xed\xa0\x80\"}"), NotKeyable::InvalidUtf8 { at: 6 });
}

#[test]
fn malformed_json_is_refused_where_it_breaks() {
    let cases: [(&str, usize); 22] = [
        ("{", 1),
        ("{\"a\"", 4),
        ("{\"a\":}", 5),
        ("{\"a\":1,}", 7),
        ("{,}", 1),
        ("{a:1}", 1),
        ("{'a':1}", 1),
        ("{\"a\" 1}", 5),
        ("[1,]", 3),
        ("[1 2]", 3),
        ("{\"a\":01}", 6),
        ("{\"a\":+1}", 5),
        ("{\"a\":.5}", 5),
        ("{\"a\":1.}", 7),
        ("{\"a\":1e}", 7),
        ("{\"a\":-}", 6),
        ("{\"a\":NaN}", 5),
        ("{\"a\":tru}", 5),
        ("{\"a\":\"\n\"}", 6),
        ("{\"a\":\"\\x\"}", 6),
        ("{\"a\":\"", 6),
        ("{/**/}", 1),
    ];
    for (body, at) in cases {
        assert_eq!(refusal(body), NotKeyable::Malformed { at }, "{body}");
    }
}

#[test]
fn bytes_after_the_value_are_refused() {
    assert_eq!(refusal("{} x"), NotKeyable::TrailingBytes { at: 3 });
    assert_eq!(refusal("{}{}"), NotKeyable::TrailingBytes { at: 2 });
    assert_eq!(refusal("{}\0"), NotKeyable::TrailingBytes { at: 2 });
    assert!(is_keyable(" {} \n"));
}

#[test]
fn a_repeated_name_is_refused_at_its_second_place() {
    assert_eq!(refusal(r#"{"a":1,"b":2,"a":1}"#), NotKeyable::DuplicateMember { at: 13 });
    assert_eq!(refusal(r#"{"x":[{"b":2,"b":2}]}"#), NotKeyable::DuplicateMember { at: 13 });
}

#[test]
fn names_are_compared_unescaped() {
    assert_eq!(refusal(r#"{"a":1,"\u0061":1}"#), NotKeyable::DuplicateMember { at: 7 });
    assert_eq!(refusal("{\"😀\":1,\"\\ud83d\\ude00\":1}").code(), "duplicate-member");
    assert!(is_keyable(r#"{"a":1,"A":1,"":1," ":1}"#));
}

#[test]
fn half_a_surrogate_pair_is_refused_in_names_and_values() {
    assert_eq!(refusal(r#"{"a":"\ud800"}"#), NotKeyable::LoneSurrogate { at: 6 });
    assert_eq!(refusal(r#"{"\udc00":1}"#), NotKeyable::LoneSurrogate { at: 2 });
    assert!(is_keyable(r#"{"a":"\ud83d\ude00"}"#));
}

#[test]
fn the_top_level_must_be_an_object_where_one_is_asked_for() {
    for body in ["[]", "1", "\"a\"", "null", "[{}]"] {
        let refused = Document::scan_object(body.as_bytes()).err();
        assert_eq!(refused, Some(NotKeyable::NotAnObject), "{body}");
    }
}

#[test]
fn nesting_is_keyable_up_to_its_bound_and_not_beyond() {
    let nested = |depth: usize| {
        let inner = depth - 1;
        format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner))
    };
    assert!(is_keyable(nested(DEPTH_MAX)));
    assert_eq!(refusal(nested(DEPTH_MAX + 1)).code(), "too-deep");
    assert_eq!(refusal("[".repeat(1_000_000)), NotKeyable::TooDeep { at: DEPTH_MAX });
    assert_eq!(refusal("{\"a\":".repeat(1_000_000)).code(), "too-deep");
}

#[test]
fn values_are_keyable_up_to_their_number_and_not_beyond() {
    // The object, the name and the array are three of them.
    let with_elements = |count: usize| {
        let elements = "1,".repeat(count - 1);
        format!("{{\"a\":[{elements}1]}}")
    };
    assert!(is_keyable(with_elements(VALUES_MAX - 3)));
    assert_eq!(refusal(with_elements(VALUES_MAX - 2)).code(), "too-many-values");
}

#[test]
fn a_body_too_long_is_refused_unread() {
    assert_eq!(refusal(vec![0; BODY_BYTES_MAX + 1]), NotKeyable::TooLong);
}

#[test]
fn numbers_are_keyable_up_to_their_length_and_not_beyond() {
    let digits = |count: usize| format!("{{\"a\":{}}}", "1".repeat(count));
    assert!(is_keyable(digits(NUMBER_BYTES_MAX)));
    assert_eq!(refusal(digits(NUMBER_BYTES_MAX + 1)), NotKeyable::NumberOutOfRange { at: 5 });
}

#[test]
fn exponents_are_keyable_up_to_their_bound_and_not_beyond() {
    for exponent in ["9999", "-9999", "+0009999"] {
        assert!(is_keyable(format!("{{\"a\":1e{exponent}}}")), "{exponent}");
    }
    for exponent in ["10000", "-10000", "99999999999999999999"] {
        let body = format!("{{\"a\":1e{exponent}}}");
        assert_eq!(refusal(body), NotKeyable::NumberOutOfRange { at: 5 }, "{exponent}");
    }
}

#[test]
fn a_message_says_where_and_never_what() {
    let message = refusal(r#"{"secret":"hunter2","secret":"hunter2"}"#).to_string();
    assert_eq!(message, "a member's name is repeated at byte 20");
}

#[test]
fn members_are_found_by_name_however_spelled() {
    let document = Document::scan(br#"{"z":1,"\u006dodel":"m","n":null,"a":2}"#).unwrap();
    let object = document.object().unwrap();
    assert!(matches!(object.get("model").unwrap().view(), View::String(text) if text.is("m")));
    assert!(object.get("n").is_none(), "null is as good as absent");
    assert!(object.get("b").is_none());
}

#[test]
fn many_members_sort_alike_with_and_without_escapes() {
    let body = |letter: &str| {
        let members: Vec<_> =
            (0..100).map(|i| format!("\"{letter}{}\":{i}", (i * 37) % 100)).collect();
        format!("{{{}}}", members.join(","))
    };
    let sorted = |body: &str| -> Vec<String> {
        let document = Document::scan(body.as_bytes()).unwrap();
        document
            .object()
            .unwrap()
            .sorted_members()
            .map(|(name, _)| name.unescaped().into())
            .collect()
    };
    let plain = sorted(&body("a"));
    assert!(plain.is_sorted() && plain.len() == 100);
    assert_eq!(sorted(&body("\\u0061")), plain);
    assert_eq!(refusal(body("a").replace("a99", "\\u00610")).code(), "duplicate-member");
}
