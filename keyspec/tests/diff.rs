//! What tells two requests apart, and what does not.

mod spelling;

use http::{HeaderMap, HeaderValue};
use keyspec::{
    DIFFERENCES_MAX, Difference, How, KeySpec, KeySpecs, KeyedRequest, ModelRoute, Part, Side,
    TenantScope, Verdict, Why,
};
use proptest::prelude::*;
use spelling::{Json, Speller, any_object};

fn request(headers: &HeaderMap) -> KeyedRequest<'_> {
    KeyedRequest {
        tenant: &TenantScope::Anonymous,
        upstream: "https://api.openai.com",
        method: "POST",
        path: "/x",
        query: None,
        headers,
    }
}

fn diff_by(spec: &KeySpec, content_type: Option<&str>, one: &str, other: &str) -> Difference {
    let headers = HeaderMap::new();
    let side = |body| Side { request: request(&headers), content_type, body: str::as_bytes(body) };
    spec.diff(&side(one), &side(other))
}

fn chat() -> KeySpec {
    KeySpec::preset(ModelRoute::OpenAiChatCompletions)
}

fn diff(one: &str, other: &str) -> Difference {
    diff_by(&chat(), None, one, other)
}

fn declared(toml: &str) -> KeySpec {
    let text =
        format!("version = 1\n[[key_spec]]\nname = \"x\"\nversion = 1\npath = \"/x\"\n{toml}");
    let specs = KeySpecs::from_toml(&text).expect("a spec");
    KeySpec::clone(specs.find("POST", "/x").expect("the spec is for it").spec)
}

fn places(difference: &Difference) -> Vec<(&str, How)> {
    difference.separating.iter().map(|place| (&*place.at, place.how)).collect()
}

fn whys(difference: &Difference) -> Vec<Why> {
    difference.joined.iter().map(|joined| joined.why).collect()
}

/// A spec that does all that a spec can do, to names that generated members may have.
fn busy_spec() -> KeySpec {
    declared(
        "ignore_members = [\"ma\", \"mb.ma\"]\nset_members = [\"mc\", \"mb.mb[].mc\"]\n\
         ordered_members = [\"mab\"]\ndefaults = { m = 10, mbc = [1, 2] }",
    )
}

/// The laws of a comparison, for any two sides.
fn check(spec: &KeySpec, a: &Side<'_>, b: &Side<'_>) -> Result<(), TestCaseError> {
    let key = |side: &Side<'_>| {
        spec.key(&side.request, &spec.read_as(side.content_type, side.body).expect("keyable"))
    };
    let found = spec.diff(a, b);
    let is_one = key(a) == key(b);
    prop_assert_eq!(found.separating.is_empty(), is_one, "{:?}", found);
    prop_assert_eq!(found.verdict == Verdict::DifferentKeys, !is_one);
    let is_identical = a.body == b.body
        && a.content_type == b.content_type
        && a.request.query == b.request.query
        && a.request.headers == b.request.headers;
    if is_one {
        prop_assert_eq!(found.joined.is_empty(), is_identical, "{:?}", found);
        prop_assert_eq!(found.verdict == Verdict::Identical, is_identical);
    } else {
        prop_assert!(found.joined.is_empty());
    }
    let turned = spec.diff(b, a);
    prop_assert_eq!(turned.verdict, found.verdict);
    prop_assert_eq!(turned.separating.len(), found.separating.len());
    Ok(())
}

fn check_bodies(spec: &KeySpec, one: &str, other: &str) -> Result<(), TestCaseError> {
    let headers = HeaderMap::new();
    let side =
        |body| Side { request: request(&headers), content_type: None, body: str::as_bytes(body) };
    check(spec, &side(one), &side(other))
}

/// The same JSON without white space between values.
fn dense(json: &str) -> String {
    let (mut is_in_string, mut is_escaped) = (false, false);
    let keep = |character: &char| {
        let keeps = is_in_string || !character.is_ascii_whitespace();
        is_in_string ^= *character == '"' && !is_escaped;
        is_escaped = *character == '\\' && !is_escaped;
        keeps
    };
    json.chars().filter(keep).collect()
}

/// A small value of which two are often alike, with the names that the busy spec knows.
fn small() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        Just(Json::Bool(true)),
        (1..3_i64).prop_map(|digits| Json::Number(digits, 0)),
        Just(Json::Number(1, 1)),
        "[a-b]{0,1}".prop_map(Json::Text),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            small_members(inner),
        ]
    });
    small_members(value)
}

fn small_members(value: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    let name = prop_oneof![Just(""), Just("a"), Just("b"), Just("c"), Just("ab"), Just("bc")];
    prop::collection::btree_map(name.prop_map(|name| format!("m{name}")), value, 0..4)
        .prop_map(|members| Json::Object(members.into_iter().collect()))
}

proptest! {
    #[test]
    fn keys_differ_exactly_if_a_place_is_told(
        one in any_object(), other in any_object(), seed in any::<u64>(),
    ) {
        let (one, other) = (Speller::new(seed).spell(&one), Speller::new(seed).spell(&other));
        check_bodies(&chat(), &one, &other)?;
    }

    #[test]
    fn bytes_that_differ_under_one_key_are_always_accounted_for(
        value in any_object(), one in any::<u64>(), other in any::<u64>(),
    ) {
        let (one, other) = (Speller::new(one).spell(&value), Speller::new(other).spell(&value));
        check_bodies(&chat(), &one, &other)?;
    }

    /// Without the white space that nearly always differs as well.
    #[test]
    fn dense_bytes_that_differ_under_one_key_are_always_accounted_for(
        value in any_object(), one in any::<u64>(), other in any::<u64>(),
    ) {
        let spell = |seed| dense(&Speller::new(seed).spell(&value));
        check_bodies(&chat(), &spell(one), &spell(other))?;
    }

    #[test]
    fn both_hold_for_a_spec_with_sets_orders_defaults_and_members_left_out(
        one in small(), other in small(), first in any::<u64>(), second in any::<u64>(),
    ) {
        let spec = busy_spec();
        let spell = |value, seed| Speller::new(seed).spell(value);
        check_bodies(&spec, &spell(&one, first), &spell(&other, second))?;
        check_bodies(&spec, &spell(&one, first), &spell(&one, second))?;
        check_bodies(&spec, &spell(&one, first), &spell(&other, first))?;
        check_bodies(&spec, &dense(&spell(&one, first)), &dense(&spell(&one, second)))?;
    }

    #[test]
    fn both_hold_for_queries(one in "([a-c](=[%1+b]{0,2})?&?){0,4}", other in "([a-c](=[%1+b]{0,2})?&?){0,4}") {
        let spec = declared("ignore_query = [\"b\"]");
        let headers = HeaderMap::new();
        let side = |query| Side {
            request: KeyedRequest { query: Some(query), ..request(&headers) },
            content_type: None,
            body: b"{}",
        };
        check(&spec, &side(&one), &side(&other))?;
        let turned: Vec<_> = one.split('&').rev().collect();
        check(&spec, &side(&one), &side(&turned.join("&")))?;
    }

    #[test]
    fn both_hold_for_forms(one in "([a-c](=(%31|1|[+b]){0,2})?&?){0,4}", other in "([a-c](=(%31|1|[+b]){0,2})?&?){0,4}") {
        let spec = declared("body = \"form\"\nignore_members = [\"b\"]\ndefaults = { c = 1 }");
        let headers = HeaderMap::new();
        let content_type = Some("application/x-www-form-urlencoded");
        let side = |body| Side { request: request(&headers), content_type, body: str::as_bytes(body) };
        check(&spec, &side(&one), &side(&other))?;
        let turned: Vec<_> = one.split('&').rev().collect();
        check(&spec, &side(&one), &side(&turned.join("&")))?;
    }
}

#[test]
fn differences_are_told_path_by_path() {
    let found = diff(
        r#"{"model":"a","n":1,"messages":[{"role":"user","content":"hi"}],"only":1,"t":1}"#,
        r#"{"model":"b","n":1,"messages":[{"role":"user","content":"ho"}],"t":"1","too":2}"#,
    );
    let expected = [
        ("messages[0].content", How::Value),
        ("model", How::Value),
        ("only", How::OnlyInFirst),
        ("t", How::Type),
        ("too", How::OnlyInSecond),
    ];
    assert_eq!(places(&found), expected);
    assert_eq!(found.separating[0].first.as_deref(), Some("\"hi\""));
    assert_eq!(found.separating[0].second.as_deref(), Some("\"ho\""));
}

#[test]
fn an_element_in_the_middle_is_one_difference() {
    let found = diff(r#"{"a":[1,2,3,4]}"#, r#"{"a":[1,2,"new",3,4]}"#);
    assert_eq!(places(&found), [("a", How::Count), ("a[2]", How::OnlyInSecond)]);
    assert_eq!(found.separating[0].second.as_deref(), Some("5 elements"));
}

#[test]
fn an_order_that_counts_is_told_as_an_order() {
    assert_eq!(places(&diff(r#"{"a":[1,2]}"#, r#"{"a":[2,1]}"#)), [("a", How::Order)]);
    let schema = |members| format!(r#"{{"guided_json":{{{members}}}}}"#);
    let found = diff(&schema(r#""a":1,"b":2"#), &schema(r#""b":2,"a":1"#));
    assert_eq!(places(&found), [("guided_json", How::Order)]);
    assert_eq!(found.separating[0].first.as_deref(), Some("a, b"));
}

#[test]
fn a_set_tells_what_one_side_lacks() {
    let spec = declared("set_members = [\"tags\"]");
    let found = diff_by(&spec, None, r#"{"tags":["a","b"]}"#, r#"{"tags":["c","a","c"]}"#);
    assert_eq!(places(&found), [("tags[]", How::OnlyInFirst), ("tags[]", How::OnlyInSecond)]);
}

#[test]
fn each_spelling_is_named_by_itself() {
    let cases = [
        (r#"{"a":1}"#, r#"{ "a": 1 }"#, Why::WhiteSpace),
        (r#"{"a":1}"#, "{\"a\":1}\n", Why::WhiteSpace),
        (r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#, Why::MemberOrder),
        (r#"{"a": 1, "b": 2}"#, r#"{"b": 2, "a": 1}"#, Why::MemberOrder),
        (r#"{"a":"A"}"#, r#"{"a":"\u0041"}"#, Why::Escapes),
        (r#"{"a":1}"#, r#"{"\u0061":1}"#, Why::Escapes),
        (r#"{"a":1}"#, r#"{"a":1.0}"#, Why::NumberSpelling),
        (r#"{"a":1}"#, r#"{"a":1,"user":"u"}"#, Why::LeftOut),
        (r#"{"user":"v"}"#, r#"{"user":"u"}"#, Why::LeftOut),
        (r#"{"user":{"x":1}}"#, r#"{"user":{"x":1.0}}"#, Why::NumberSpelling),
    ];
    for (one, other, why) in cases {
        let found = diff(one, other);
        assert_eq!(whys(&found), [why], "{one} and {other}");
        assert_eq!(found.verdict, Verdict::SameKey);
    }
    let left_out = diff(r#"{}"#, r#"{"user":"u"}"#);
    assert_eq!(left_out.joined[0].at.as_deref(), Some("user"));
    assert!(left_out.joined[0].reason.as_deref().unwrap().contains("abuse"));
}

#[test]
fn sets_and_defaults_are_named() {
    let spec = declared("set_members = [\"s\"]\ndefaults = { limit = 10 }");
    let whys = |one, other| whys(&diff_by(&spec, None, one, other));
    assert_eq!(whys(r#"{"s":[1,2]}"#, r#"{"s":[2,1]}"#), [Why::SetOrder]);
    assert_eq!(whys(r#"{"s":[1,2]}"#, r#"{"s":[1,2,2]}"#), [Why::SetRepeats]);
    assert_eq!(whys(r#"{"s":[1,2,1]}"#, r#"{"s":[1,1,2]}"#), [Why::SetOrder]);
    assert_eq!(whys(r#"{}"#, r#"{"limit":10}"#), [Why::SaysDefault]);
    let found = diff_by(&spec, None, r#"{"limit":10}"#, r#"{"limit":11}"#);
    assert_eq!(places(&found), [("limit", How::Value)]);
    let found = diff_by(&spec, None, r#"{"limit":11}"#, r#"{"limit":10}"#);
    assert_eq!(places(&found), [("limit", How::Value)]);
    assert_eq!(whys(r#"{"limit":1e1}"#, r#"{"limit":10}"#), [Why::NumberSpelling]);
}

#[test]
fn multipart_bodies_are_compared_part_by_part() {
    let spec = declared("body = \"multipart\"\nignore_members = [\"t\"]");
    let body = |boundary: &str, parts: &[(&str, &str)]| {
        let part = |(name, value): &(&str, &str)| {
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
        };
        format!("{}--{boundary}--", parts.iter().map(part).collect::<String>())
    };
    let headers = HeaderMap::new();
    let compare = |one: (&str, String), other: (&str, String)| {
        let types = [one.0, other.0].map(|b| format!("multipart/form-data; boundary={b}"));
        let side = |content_type, body| Side {
            request: request(&headers),
            content_type: Some(content_type),
            body: str::as_bytes(body),
        };
        let sides = [side(&*types[0], &one.1), side(&*types[1], &other.1)];
        check(&spec, &sides[0], &sides[1]).unwrap();
        spec.diff(&sides[0], &sides[1])
    };
    let ab = ("x", body("x", &[("a", "1"), ("b", "2")]));
    let other_boundary = ("y", body("y", &[("a", "1"), ("b", "2")]));
    assert_eq!(whys(&compare(ab.clone(), other_boundary)), [Why::Boundary]);
    let turned = ("x", body("x", &[("b", "2"), ("a", "1")]));
    assert_eq!(whys(&compare(ab.clone(), turned)), [Why::PartOrder]);
    let more = ("x", body("x", &[("a", "1"), ("b", "2"), ("t", "3")]));
    assert_eq!(whys(&compare(ab.clone(), more)), [Why::LeftOut]);
    let spelled = ("x", ab.1.replace("form-data", "Form-Data"));
    assert_eq!(whys(&compare(ab.clone(), spelled)), [Why::PartSpelling]);
    let changed = ("x", body("x", &[("a", "1"), ("b", "3")]));
    assert_eq!(places(&compare(ab, changed)), [("b", How::Value)]);
}

#[test]
fn all_beside_the_body_is_compared() {
    let (none, mut beta) = (HeaderMap::new(), HeaderMap::new());
    beta.append("openai-beta", HeaderValue::from_static("x"));
    let other = TenantScope::Credential([7; 32]);
    let first = Side { request: request(&none), content_type: None, body: b"{}" };
    let variants = [
        (Part::Tenant, KeyedRequest { tenant: &other, ..request(&none) }),
        (Part::Upstream, KeyedRequest { upstream: "https://b", ..request(&none) }),
        (Part::Method, KeyedRequest { method: "PUT", ..request(&none) }),
        (Part::Path, KeyedRequest { path: "/y", ..request(&none) }),
        (Part::Query, KeyedRequest { query: Some("a"), ..request(&none) }),
        (Part::Header, KeyedRequest { headers: &beta, ..request(&none) }),
    ];
    for (part, request) in variants {
        let found = chat().diff(&first, &Side { request, ..first });
        let parts: Vec<_> = found.separating.iter().map(|place| place.part).collect();
        assert_eq!(parts, [part]);
    }
}

#[test]
fn headers_and_parameters_that_do_not_count_are_named() {
    let (none, mut more) = (HeaderMap::new(), HeaderMap::new());
    more.append("accept", HeaderValue::from_static("x"));
    let first = Side { request: request(&none), content_type: None, body: b"{}" };
    let second = KeyedRequest { headers: &more, query: Some("key=k"), ..request(&none) };
    let second = Side { request: second, content_type: Some("text/plain"), ..first };
    let found = chat().diff(&first, &second);
    assert_eq!(whys(&found), [Why::LeftOut, Why::Header, Why::MediaType]);

    let get = KeyedRequest { method: "GET", ..request(&none) };
    let head = KeyedRequest { method: "HEAD", ..request(&none) };
    let side = |request| Side { request, content_type: None, body: b"" };
    assert_eq!(whys(&KeySpec::http().diff(&side(get), &side(head))), [Why::HeadIsGet]);
}

#[test]
fn each_way_of_writing_a_query_is_named_by_itself() {
    let spec = declared("ignore_query = [\"b\"]");
    let headers = HeaderMap::new();
    let side = |query| Side {
        request: KeyedRequest { query: Some(query), ..request(&headers) },
        content_type: None,
        body: b"{}",
    };
    let cases = [
        ("a=1&c=1", "c=1&a=1", Why::QueryOrder),
        ("a=1&b=1", "b=1&a=1", Why::QueryOrder),
        ("a=1", "a=%31", Why::QuerySpelling),
        ("a=1", "&a=1", Why::QuerySpelling),
        ("a=1", "a=1&b", Why::LeftOut),
        ("a=1&b=1&b=1&b=2", "a=1&b=1&b=2&b=2", Why::LeftOut),
        ("a=1&b=1&b=1", "a=1&b=1", Why::LeftOut),
    ];
    for (one, other, why) in cases {
        assert_eq!(whys(&spec.diff(&side(one), &side(other))), [why], "{one} and {other}");
    }
}

#[test]
fn secrets_are_never_shown_in_a_comparison() {
    let body = |secret: &str| {
        format!(
            r#"{{"api_key":"{secret}","a":"Bearer {secret}","b":"use sk-{secret} now",
            "tools":[{{"headers":{{"X-Mine":"{secret}"}}}}],"password":{{"deep":["{secret}"]}},
            "text":"{{\"token\": \"{secret}\"}}"}}"#
        )
    };
    let found = diff(&body("hunter2"), &body("hunter3"));
    assert_eq!(found.separating.len(), 6, "{found:#?}");
    let text = format!("{found}{}", serde_json::to_string(&found).unwrap());
    assert!(!text.contains("hunter"), "{text}");
    let whole = diff(r#"{"a":{"b":1}}"#, r#"{"a":{"b":1,"secret":"hunter2"}}"#);
    assert!(!whole.to_string().contains("hunter"), "{whole}");
}

#[test]
fn differences_are_bounded_and_the_rest_is_counted() {
    let body = |value: usize| {
        let members: Vec<_> =
            (0..DIFFERENCES_MAX + 7).map(|i| format!("\"m{i}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let found = diff(&body(1), &body(2));
    assert_eq!((found.separating.len(), found.more_separating), (DIFFERENCES_MAX, 7));
}

#[test]
fn a_request_without_a_key_is_told() {
    let found = diff("{}", "{");
    assert_eq!(found.verdict, Verdict::NotKeyable);
    assert!(found.first_key.is_some() && found.second_key.is_none());
    assert_eq!(
        found.to_string(),
        "The second has no key, because malformed JSON at byte 1 (malformed-json).\n"
    );
}

#[test]
fn a_comparison_reads_as_plain_words() {
    let found = diff(r#"{"model":"a","n":1}"#, r#"{"model":"b"}"#).to_string();
    assert!(
        found.ends_with(
            "because they differ in:\n  model: \"a\" in the first, \"b\" in the second\n  n: only in the first, 1\n"
        ),
        "{found}"
    );
    let found = diff(r#"{"n":1}"#, r#"{"n": 1.0}"#).to_string();
    assert!(
        found.ends_with(
            "What differs does not count:\n  white space between values\n  how numbers are spelled, first in n\n"
        ),
        "{found}"
    );
}

#[test]
fn a_long_text_is_shown_where_it_differs() {
    let body =
        |word: &str| format!(r#"{{"a":"{} {word} {}"}}"#, "x ".repeat(500), "y ".repeat(500));
    let found = diff(&body("here"), &body("there"));
    let place = &found.separating[0];
    assert!(place.first.as_deref().unwrap().contains("here y"), "{place:?}");
    assert!(place.second.as_deref().unwrap().contains("there y"), "{place:?}");
}
