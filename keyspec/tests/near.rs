//! Near misses: how far two requests are apart, and what is said of it.

use http::HeaderMap;
use keyspec::{
    Distance, KeySpec, KeyedRequest, Look, ModelRoute, NearMiss, Side, TenantScope, near_miss,
};

fn request(headers: &HeaderMap) -> KeyedRequest<'_> {
    KeyedRequest {
        tenant: &TenantScope::Anonymous,
        upstream: "https://api.openai.com",
        method: "POST",
        path: "/v1/chat/completions",
        query: None,
        headers,
    }
}

fn near(one: &str, other: &str) -> NearMiss {
    let headers = HeaderMap::new();
    let side =
        |body| Side { request: request(&headers), content_type: None, body: str::as_bytes(body) };
    let spec = KeySpec::preset(ModelRoute::OpenAiChatCompletions);
    near_miss(&spec, &side(one), &side(other)).expect("both are keyable")
}

fn with_content(one: &str, other: &str) -> NearMiss {
    let body = |content| format!(r#"{{"model":"m","messages":[{{"content":"{content}"}}]}}"#);
    near(&body(one), &body(other))
}

#[test]
fn a_timestamp_within_a_prompt_is_found_with_its_bytes() {
    let near = with_content(
        "You are kind. It is 2026-07-28T10:00:01Z now.",
        "You are kind. It is 2026-07-28T10:00:02Z now.",
    );
    assert_eq!(
        near.sentence,
        "They differ only in messages[0].content, bytes 20–39, which look like a timestamp."
    );
    assert_eq!(
        near.suggestion.as_deref(),
        Some(
            "Take the changing part out of the text if the answer does not depend on it, or send \
             it in metadata, which is not keyed."
        )
    );
    assert_eq!(near.distance, Distance { places: 1, bytes: 1 });
}

#[test]
fn bytes_are_those_of_the_string_without_escapes() {
    let near = with_content(r"\u00e9\n\n 10:00:01", r"é\n\n 10:00:02");
    assert_eq!(
        near.sentence,
        "They differ only in messages[0].content, bytes 5–12, which look like a time of the day."
    );
}

#[test]
fn what_differs_is_told_by_its_looks() {
    let pairs = [
        ("at 1785232800 x", "at 1785232801 x", Some(Look::UnixSeconds)),
        ("at 1785232800123 x", "at 1785232801555 x", Some(Look::UnixMillis)),
        ("on 2026-07-28 x", "on 2026-07-29 x", Some(Look::Date)),
        (
            "id 6fa459ea-ee8a-3ca4-894e-db77e160355e",
            "id 7fa459ea-ee8a-3ca4-894e-db77e160355f",
            Some(Look::Uuid),
        ),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "01BX5ZZKBKACTAV9WEVGEMMVRZ", Some(Look::Ulid)),
        ("call 41 of many", "call 42 of many", Some(Look::Number)),
        ("req_8f3k2j9d", "req_1a2b3c4d", Some(Look::RandomId)),
        ("a b", "a  b", Some(Look::WhiteSpace)),
        ("Hello you", "hello You", Some(Look::LetterCase)),
        ("Hello", "Goodbye", None),
    ];
    for (one, other, look) in pairs {
        let near = with_content(one, other);
        assert_eq!(near.places[0].looks_like, look, "{one} and {other}");
    }
}

#[test]
fn a_member_that_labels_the_request_may_be_left_out() {
    let near = near(r#"{"trace_id":"one"}"#, r#"{"trace_id":"two"}"#);
    assert_eq!(near.sentence, "They differ only in trace_id.");
    assert_eq!(
        near.suggestion.as_deref(),
        Some(
            "Leave it out with ignore_members = [\"trace_id\"] if the answer does not depend on it."
        )
    );
}

#[test]
fn a_suggested_path_is_one_that_a_spec_takes() {
    let near = near(r#"{"a":[1,{"nonce":1}]}"#, r#"{"a":[1,{"nonce":2}]}"#);
    assert!(near.suggestion.unwrap().contains("ignore_members = [\"a[].nonce\"]"));
}

#[test]
fn nothing_is_suggested_for_what_is_asked() {
    let temperature = near(r#"{"temperature":1}"#, r#"{"temperature":0}"#);
    assert_eq!(temperature.suggestion, None);
    let model = near(r#"{"model":"a"}"#, r#"{"model":"b"}"#);
    assert_eq!(model.sentence, "They differ only in the model (model).");
    assert_eq!(model.suggestion, None);
}

#[test]
fn the_order_of_an_array_is_told_as_such() {
    let near = near(r#"{"tags":["a","b","c"]}"#, r#"{"tags":["c","b","a"]}"#);
    assert_eq!(near.sentence, "They differ only in the order of what is in tags.");
    assert!(near.suggestion.unwrap().contains("set_members = [\"tags\"]"));
}

#[test]
fn what_is_beside_the_body_is_told_too() {
    let (none, mut beta) = (HeaderMap::new(), HeaderMap::new());
    beta.append("openai-beta", http::HeaderValue::from_static("x"));
    let spec = KeySpec::preset(ModelRoute::OpenAiChatCompletions);
    let other = TenantScope::Named("other".into());
    let variants = [
        (
            KeyedRequest { headers: &beta, ..request(&none) },
            "the header openai-beta, which only the second has",
        ),
        (
            KeyedRequest { query: Some("x=1"), ..request(&none) },
            "the query parameter x, which only the second has",
        ),
        (KeyedRequest { tenant: &other, ..request(&none) }, "the tenant"),
        (KeyedRequest { upstream: "https://b", ..request(&none) }, "the upstream"),
        (KeyedRequest { path: "/v2", ..request(&none) }, "the path"),
    ];
    let first = Side { request: request(&none), content_type: None, body: b"{}" };
    for (request, words) in variants {
        let near = near_miss(&spec, &first, &Side { request, ..first }).unwrap();
        assert_eq!(near.sentence, format!("They differ only in {words}."));
    }
}

#[test]
fn many_places_are_counted_and_the_nearer_pair_sorts_first() {
    let base = r#"{"a":1,"b":1,"c":1,"d":1,"e":1}"#;
    let far = near(base, r#"{"a":2,"b":2,"c":2,"d":2,"e":2}"#);
    let close = near(base, r#"{"a":2,"b":1,"c":1,"d":1,"e":1}"#);
    assert_eq!(
        far.sentence,
        "They differ in 5 places, the first of them a, which looks like a number or a counter."
    );
    assert!(close.distance < far.distance);
    assert_eq!(near(base, base).distance, Distance { places: 0, bytes: 0 });
}

#[test]
fn a_request_without_a_key_is_refused() {
    let headers = HeaderMap::new();
    let side = |body| Side { request: request(&headers), content_type: None, body };
    let spec = KeySpec::preset(ModelRoute::OpenAiChatCompletions);
    assert!(near_miss(&spec, &side(b"{}"), &side(b"{")).is_err());
}
