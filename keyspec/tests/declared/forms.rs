//! Bodies that are no JSON: forms, parts, bytes and none at all.

use keyspec::{BodyForm, FORM_ENTRIES_MAX, Key, KeySpec, KeySpecs, NotKeyable};
use proptest::prelude::*;

use super::{Request, json, one, specs};

const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

fn read(specs: &KeySpecs, content_type: Option<&str>, body: &[u8]) -> Result<Key, NotKeyable> {
    Request { content_type, body, ..json("") }.key(specs)
}

fn form(more: &str) -> impl Fn(&str) -> Key {
    let specs = specs(&one(&format!("body = \"form\"\n{more}")));
    move |body| read(&specs, FORM, body.as_bytes()).expect("keyable")
}

#[test]
fn the_order_of_a_forms_names_and_their_spelling_do_not_count() {
    let key = form("");
    for same in ["b=2&a=1+x", "a=1%20x&b=2", "&&b=2&a=1+x&", "%61=1+x&b=%32", "a=%31%20%78&b=2"] {
        assert_eq!(key(same), key("a=1+x&b=2"), "{same}");
    }
    assert_eq!(key("a"), key("a="));
    assert_eq!(key("a=%c3%a9"), key("a=é"));
}

#[test]
fn all_else_of_a_form_counts() {
    let key = form("");
    let forms = [
        "",
        "a=1",
        "a=2",
        "A=1",
        "a=",
        "a=1&a=1",
        "a=1&a=2",
        "a=2&a=1",
        "a=1&b=2",
        "a=1%26b%3D2",
        "a=1%2Bx",
        "a=1+x",
        "a==1",
        "b=1",
        "a=1;b=2",
        "a=%00",
    ];
    let keys = forms.map(key);
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{}", forms[index]);
    }
}

#[test]
fn the_names_of_a_form_are_ignored_allowed_and_defaulted() {
    let ignoring = form(r#"ignore_members = ["trace", "\"x.y\""]"#);
    assert_eq!(ignoring("a=1&trace=2&trace=3&x.y=4&tr%61ce=5"), ignoring("a=1"));
    assert_ne!(ignoring("a=1&x=4"), ignoring("a=1"));
    let only = form(r#"only_members = ["a", "b"]"#);
    assert_eq!(only("c=1&a=1&d=2"), only("a=1"));
    assert_ne!(only("a=1&b=1"), only("a=1"));
    let defaults = form(r#"defaults = { limit = 10, mode = "fa st", on = true }"#);
    assert_eq!(defaults("limit=10&mode=fa+st&on=true&q=1"), defaults("q=1"));
    for other in ["limit=11&q=1", "limit=10.0&q=1", "mode=&q=1", "on=1&q=1", "limit&q=1"] {
        assert_ne!(defaults(other), defaults("q=1"), "{other}");
    }
}

/// Servers take the first, the last or all.
#[test]
fn a_default_among_several_of_one_name_counts() {
    let key = form("defaults = { limit = 10 }");
    let forms = ["", "limit=20", "limit=10&limit=20", "limit=20&limit=10", "limit=10&limit=10"];
    let keys = forms.map(key);
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{}", forms[index]);
    }
}

#[test]
fn a_form_of_another_type_or_malformed_is_not_keyable() {
    let specs = specs(&one("body = \"form\""));
    let code = |content_type, body: &[u8]| {
        read(&specs, content_type, body).expect_err("not keyable").code()
    };
    for other in [None, Some("application/json"), Some("multipart/form-data; boundary=b"), Some("")]
    {
        assert_eq!(code(other, b"a=1"), "other-media-type", "{other:?}");
    }
    for malformed in ["a=%", "a=%4", "%zz=1", "a=1&b=%4g"] {
        assert_eq!(code(FORM, malformed.as_bytes()), "malformed-form", "{malformed}");
    }
    assert_eq!(code(FORM, b"a=\xff"), "invalid-utf8");
    let typed = Some(" Application/X-WWW-Form-URLencoded ; charset=utf-8");
    assert_eq!(read(&specs, typed, b"a=1"), read(&specs, FORM, b"a=1"));
}

#[test]
fn a_form_in_another_charset_is_not_keyable() {
    let form = "application/x-www-form-urlencoded";
    let parts = multipart("x", &[field("a", "1")]);
    for body in ["form", "multipart", "by-type"] {
        let specs = specs(&one(&format!("body = \"{body}\"")));
        for (charset, code) in [
            ("utf-8", None),
            ("\"UTF-8\"", None),
            ("latin1", Some("other-media-type")),
            ("utf-8; charset=utf-16", Some("other-media-type")),
            ("utf-8; what", Some("other-media-type")),
        ] {
            let (content_type, bytes) = match body {
                "multipart" => ("multipart/form-data; boundary=x", &parts[..]),
                _ => (form, &b"a=%E9"[..]),
            };
            let content_type = format!("{content_type}; charset={charset}");
            let error = read(&specs, Some(&content_type), bytes).err();
            assert_eq!(error.map(|error| error.code()), code, "{body}: {content_type}");
        }
    }
}

#[test]
fn a_form_has_so_many_pairs_and_no_more() {
    let specs = specs(&one("body = \"form\""));
    let most = vec!["a=1"; FORM_ENTRIES_MAX].join("&");
    assert!(read(&specs, FORM, most.as_bytes()).is_ok());
    let error = read(&specs, FORM, format!("{most}&a=1").as_bytes()).expect_err("too many");
    assert_eq!(error, NotKeyable::TooManyValues { at: most.len() + 1 });
}

/// A part as it is written: the lines of its head, and its content.
fn part(head: &str, content: &str) -> String {
    format!("{}\r\n\r\n{content}", head.replace('\n', "\r\n"))
}

fn field(name: &str, content: &str) -> String {
    part(&format!("Content-Disposition: form-data; name=\"{name}\""), content)
}

fn multipart(boundary: &str, parts: &[String]) -> Vec<u8> {
    let parts: String = parts.iter().map(|part| format!("--{boundary}\r\n{part}\r\n")).collect();
    format!("{parts}--{boundary}--\r\n").into_bytes()
}

fn read_parts(specs: &KeySpecs, boundary: &str, parts: &[String]) -> Result<Key, NotKeyable> {
    let content_type = format!("multipart/form-data; boundary={boundary}");
    read(specs, Some(&content_type), &multipart(boundary, parts))
}

fn multipart_spec(more: &str) -> KeySpecs {
    specs(&one(&format!("body = \"multipart\"\n{more}")))
}

#[test]
fn the_boundary_and_the_order_of_different_names_do_not_count() {
    let specs = multipart_spec("");
    let (a, b) = (field("a", "1"), field("b", "2\r\n--x\r\n"));
    let key = |boundary, parts: &[&String]| {
        let parts: Vec<_> = parts.iter().copied().cloned().collect();
        read_parts(&specs, boundary, &parts).expect("keyable")
    };
    let first = key("x1", &[&a, &b]);
    assert_eq!(key("----WebKitFormBoundary7MA4YWxkTrZu0gW", &[&a, &b]), first);
    assert_eq!(key("x1", &[&b, &a]), first);
    assert_ne!(key("x1", &[&a]), first);
    assert_ne!(key("x1", &[&a, &b, &b]), first);
    let (one, other) = (field("a", "1"), field("a", "2"));
    assert_ne!(key("x1", &[&one, &other]), key("x1", &[&other, &one]));
}

#[test]
fn quotes_around_a_boundary_and_the_last_line_break_do_not_count() {
    let specs = multipart_spec("");
    let body = multipart("x", &[field("a", "1")]);
    let key = |content_type, body: &[u8]| read(&specs, Some(content_type), body).expect("keyable");
    let first = key("multipart/form-data; boundary=x", &body);
    assert_eq!(key("multipart/form-data; boundary=\"x\"", &body), first);
    assert_eq!(key("Multipart/Form-Data;charset=utf-8;BOUNDARY=x ", &body), first);
    assert_eq!(key("multipart/form-data; boundary=x", &body[..body.len() - 2]), first);
}

#[test]
fn the_name_file_name_type_and_content_of_a_part_count() {
    let specs = multipart_spec("");
    let parts = [
        field("f", "abc"),
        field("g", "abc"),
        field("f", "abd"),
        field("f", ""),
        field("f", "abc\r\n"),
        part("Content-Disposition: form-data; name=\"f\"; filename=\"a.txt\"", "abc"),
        part("Content-Disposition: form-data; name=\"f\"; filename=\"b.txt\"", "abc"),
        part("Content-Disposition: form-data; name=\"f\"; filename=\"\"", "abc"),
        part("Content-Disposition: form-data; name=\"f\"\nContent-Type: image/png", "abc"),
        part("Content-Disposition: form-data; name=\"f\"\nContent-Type: text/plain;a=B", "abc"),
        part("Content-Disposition: form-data; name=\"f\"\nContent-Type: text/plain;a=b", "abc"),
        part("Content-Disposition: form-data; name=\"f\"\nContent-Type: a/b;c=\"d; e\"", "abc"),
        part("Content-Disposition: form-data; name=\"f\"\nContent-Type: a/b;c=\"d;e\"", "abc"),
    ];
    let keys: Vec<_> = parts
        .iter()
        .map(|part| read_parts(&specs, "x", std::slice::from_ref(part)).expect("keyable"))
        .collect();
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{}", parts[index]);
    }
}

#[test]
fn how_the_head_of_a_part_is_written_does_not_count() {
    let specs = multipart_spec("");
    let key = |head| read_parts(&specs, "x", &[part(head, "1")]).expect("keyable");
    let first = key("Content-Disposition: form-data; name=\"a\"; filename=\"q\\\"\"");
    for head in [
        "content-disposition:form-data;name=\"a\";filename=\"q\\\"\"",
        "CONTENT-DISPOSITION: Form-Data ; filename=\"q\\\"\" ; NAME=a",
        "Content-Type: Text/Plain\nContent-Disposition: form-data; name=a; filename=\"q\\\"\"",
        "Content-Length: 1\nContent-Disposition: form-data; name=a; filename=\"q\\\"\"\nX-A: b",
    ] {
        assert_eq!(key(head), first, "{head}");
    }
}

#[test]
fn parts_are_ignored_allowed_and_defaulted_by_name() {
    let key = |specs: &KeySpecs, parts: &[String]| read_parts(specs, "x", parts).expect("keyable");
    let (a, b) = (field("a", "1"), field("b", "2"));
    let base = std::slice::from_ref(&a);
    let ignoring = multipart_spec("ignore_members = [\"b\"]");
    assert_eq!(key(&ignoring, &[b.clone(), a.clone()]), key(&ignoring, base));
    let only = multipart_spec("only_members = [\"a\"]");
    assert_eq!(key(&only, &[b.clone(), a.clone()]), key(&only, base));
    let defaults = multipart_spec("defaults = { b = 2 }");
    assert_eq!(key(&defaults, &[b.clone(), a.clone()]), key(&defaults, base));
    let file = part("Content-Disposition: form-data; name=\"b\"; filename=\"b\"", "2");
    let typed = part("Content-Disposition: form-data; name=\"b\"\nContent-Type: a/b", "2");
    for other in [field("b", "3"), field("b", ""), file, typed] {
        assert_ne!(key(&defaults, &[a.clone(), other.clone()]), key(&defaults, base), "{other}");
    }
    // Which of two is taken is for the upstream.
    let two = [b.clone(), field("b", "3"), a.clone()];
    assert_ne!(key(&defaults, &two), key(&defaults, &[field("b", "3"), a.clone()]));
}

#[test]
fn a_part_that_servers_read_differently_is_not_keyable() {
    let specs = multipart_spec("");
    for head in [
        "",
        "Content-Type: text/plain",
        "Content-Disposition: attachment; name=\"a\"",
        "Content-Disposition: form-data",
        "Content-Disposition: form-data; filename=\"a\"",
        "Content-Disposition: form-data; name=\"a",
        "Content-Disposition: form-data; name=\"a\"; name=\"b\"",
        "Content-Disposition: form-data; name=\"a\"; filename=\"a\"; filename=\"b\"",
        "Content-Disposition: form-data; name=\"a\"; filename=\"a\"; filename*=UTF-8''b",
        "Content-Disposition: form-data; name=\"a\"; filename*=UTF-8''b",
        "Content-Disposition: form-data; name=\"a\"; filename=\"C:\\dir\\a\"",
        "Content-Disposition: form-data; name=\"a\"b",
        "Content-Disposition: form-data; name=\"a\";\n filename=\"a:b\"",
        "Content-Disposition: form-data; name=\"a\"\nContent-Disposition: form-data; name=\"b\"",
        "Content-Disposition: form-data; name=\"a\"\nContent-Type: a/b\nContent-Type: a/c",
        "Content-Disposition: form-data; name=\"a\"\nContent-Transfer-Encoding: base64",
        "Content-Disposition: form-data; name=\"a\"\nContent-Type : a/b",
        "Content-Disposition: form-data; name=\"a\"\nno field",
    ] {
        let error = read_parts(&specs, "x", &[part(head, "1")]).expect_err(head);
        assert_eq!(error.code(), "malformed-form", "{head}");
    }
}

#[test]
fn a_multipart_body_that_is_not_what_its_type_says_is_not_keyable() {
    let specs = multipart_spec("");
    let body = "--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--";
    let typed = |parameter: &str| Some(format!("multipart/form-data{parameter}"));
    let long = format!("; boundary={}", "x".repeat(71));
    for (content_type, body, code) in [
        (typed("; boundary=x"), body.to_owned(), None),
        (typed(""), body.to_owned(), Some("no-boundary")),
        (typed("; boundary="), body.to_owned(), Some("no-boundary")),
        (typed("; boundary=x; boundary=y"), body.to_owned(), Some("no-boundary")),
        (typed(&long), body.to_owned(), Some("no-boundary")),
        (typed("; boundary=y"), body.to_owned(), Some("malformed-form")),
        (typed("; boundary=x"), format!("before\r\n{body}"), Some("malformed-form")),
        (typed("; boundary=x"), format!("{body}\r\nafter"), Some("malformed-form")),
        (typed("; boundary=x"), body.replace("--x--", "--x"), Some("malformed-form")),
        (typed("; boundary=x"), body.replace("\r\n", "\n"), Some("malformed-form")),
        (typed("; boundary=x"), String::new(), Some("malformed-form")),
        (Some("multipart/mixed; boundary=x".into()), body.to_owned(), Some("other-media-type")),
        (None, body.to_owned(), Some("other-media-type")),
    ] {
        let read = read(&specs, content_type.as_deref(), body.as_bytes());
        assert_eq!(read.err().map(|error| error.code()), code, "{content_type:?}: {body}");
    }
}

#[test]
fn a_multipart_body_has_so_many_parts_and_no_more() {
    let specs = multipart_spec("");
    let mut parts = vec![field("a", "1"); FORM_ENTRIES_MAX];
    assert!(read_parts(&specs, "x", &parts).is_ok());
    parts.push(field("a", "1"));
    let error = read_parts(&specs, "x", &parts).expect_err("too many");
    assert_eq!(error.code(), "too-many-values");
}

#[test]
fn raw_bytes_count_with_their_media_type() {
    let specs = specs(&one("body = \"raw\""));
    let key = |content_type, body: &[u8]| read(&specs, content_type, body).expect("keyable");
    let keys = [
        key(None, b""),
        key(None, b"{}"),
        key(None, b"{ }"),
        key(Some("application/json"), b"{}"),
        key(Some("text/plain"), b"{}"),
        key(Some("text/plain; charset=utf-8"), b"{}"),
        key(None, b"\xff\x00"),
    ];
    for (index, one) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(one), "key {index} repeats another");
    }
    assert_eq!(key(Some("Text/PLAIN;charset=utf-8 ;"), b"{}"), keys[5]);
}

#[test]
fn a_spec_without_bodies_reads_none() {
    let specs = specs(&one("body = \"none\"\nmethods = [\"GET\"]"));
    let get =
        |content_type, body| Request { method: "GET", content_type, body, ..json("") }.key(&specs);
    assert_eq!(get(None, b""), get(Some("text/plain"), b""));
    assert_eq!(get(None, b" ").expect_err("a body").code(), "unexpected-body");
}

#[test]
fn a_body_is_read_as_its_media_type_says_where_the_spec_leaves_it_to_that() {
    let specs = specs(&one("body = \"by-type\"\nignore_members = [\"trace\"]"));
    let spec = specs.find("POST", "/x").expect("there").spec;
    let form_of =
        |content_type, body: &[u8]| spec.read_as(content_type, body).expect("fine").facts.body;
    let parts = multipart("x", &[field("a", "1")]);
    for (content_type, body, form) in [
        (Some("application/json"), &b"{}"[..], BodyForm::Json),
        (Some("Application/JSON ; charset=utf-8"), b"[1]", BodyForm::Json),
        (Some("application/x-www-form-urlencoded"), b"a=1", BodyForm::Form),
        (Some("multipart/form-data; boundary=x"), &parts, BodyForm::Multipart),
        (Some("application/json; odata=verbose"), b"{}", BodyForm::Json),
        (Some("application/json; charset=utf-16"), b"{}", BodyForm::Raw),
        (Some("application/json-patch+json"), b"[]", BodyForm::Raw),
        (Some("text/plain"), b"a=1", BodyForm::Raw),
        (None, b"{}", BodyForm::Raw),
        (Some("application/json"), b"", BodyForm::None),
    ] {
        assert_eq!(form_of(content_type, body), form, "{content_type:?}");
    }
    let key = |content_type, body: &str| read(&specs, Some(content_type), body.as_bytes());
    let json = "application/json";
    assert_eq!(key(json, r#"{"a":1,"trace":2}"#), key(json, r#"{"a":1}"#));
    let form = "application/x-www-form-urlencoded";
    assert_eq!(key(form, "a=1&trace=2"), key(form, "trace=3&a=1"));
    // The same bytes in another type mean another thing.
    let types = [json, form, "text/plain", "application/json-patch+json", "application/a+json"];
    let keys = types.map(|content_type| key(content_type, "1").expect("keyable"));
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{}", types[index]);
    }
}

#[test]
fn a_parameter_that_nobody_knows_counts_where_nobody_has_declared_what_does() {
    let spec = KeySpec::http();
    let form_of = |content_type, body: &[u8]| spec.read_as(Some(content_type), body).expect("fine");
    let json = form_of("application/json;charset=utf-8", b"{}");
    assert_eq!(json.facts.body, BodyForm::Json);
    let one = form_of("application/json;profile=a", b"{}");
    let other = form_of("application/json;profile=b", b"{}");
    assert_eq!((one.facts.body, other.facts.body), (BodyForm::Raw, BodyForm::Raw));
    assert_ne!(one.digest, other.digest);
    let form = form_of("application/x-www-form-urlencoded;v=2", b"a=b");
    assert_eq!(form.facts.body, BodyForm::Raw);
}

/// Pairs of few names, so that some repeat.
fn any_pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("[ab&=]{1,2}", "[ab +%é]{0,3}"), 0..6)
}

fn encoded(text: &str, all: bool) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' if !all => char::from(byte).to_string(),
            b' ' if !all => "+".to_owned(),
            byte => format!("%{byte:02x}"),
        })
        .collect()
}

/// Equal pairs but for the order of different names.
fn same_pairs(one: &[(String, String)], other: &[(String, String)]) -> bool {
    let sorted = |pairs: &[(String, String)]| {
        let mut pairs = pairs.to_vec();
        pairs.sort_by(|one, other| one.0.cmp(&other.0));
        pairs
    };
    sorted(one) == sorted(other)
}

/// Moves the pair at `place` to the front of those before it that have other names.
fn moved<T: Clone>(pairs: &[(String, T)], place: usize) -> Vec<(String, T)> {
    let mut pairs = pairs.to_vec();
    if let Some(name) = pairs.get(place).map(|pair| pair.0.clone()) {
        let mut at = place;
        while at > 0 && pairs[at - 1].0 != name {
            pairs.swap(at - 1, at);
            at -= 1;
        }
    }
    pairs
}

proptest! {
    #[test]
    fn two_forms_have_one_key_exactly_when_each_name_has_the_same_values_in_order(
        one in any_pairs(), other in any_pairs(), place in 0..6_usize,
    ) {
        let key = form("");
        let spell = |pairs: &[(String, String)], all| {
            let pair = |(name, value): &(String, String)| {
                format!("{}={}", encoded(name, all), encoded(value, all))
            };
            pairs.iter().map(pair).collect::<Vec<_>>().join("&")
        };
        prop_assert_eq!(key(&spell(&moved(&one, place), true)), key(&spell(&one, false)));
        prop_assert_eq!(
            key(&spell(&one, false)) == key(&spell(&other, true)),
            same_pairs(&one, &other)
        );
    }

    #[test]
    fn two_multipart_bodies_have_one_key_exactly_when_each_name_has_the_same_parts_in_order(
        one in any_pairs(), other in any_pairs(), place in 0..6_usize, boundary in "[A-Z]{4,70}",
    ) {
        let specs = multipart_spec("");
        let key = |boundary: &str, pairs: &[(String, String)]| {
            let parts: Vec<_> = pairs.iter().map(|(name, value)| field(name, value)).collect();
            read_parts(&specs, boundary, &parts).expect("keyable")
        };
        prop_assert_eq!(key(&boundary, &moved(&one, place)), key("x", &one));
        prop_assert_eq!(key(&boundary, &one) == key("x", &other), same_pairs(&one, &other));
    }
}

#[test]
fn a_media_type_that_is_said_twice_or_is_no_text_has_no_one_reading() {
    let raw = specs(&one("body = \"raw\""));
    let spec = raw.declared().next().expect("there is one");
    let said = |values: &[&[u8]]| {
        let mut headers = http::HeaderMap::new();
        for value in values {
            let value = http::HeaderValue::from_bytes(value).expect("a value");
            headers.append(http::header::CONTENT_TYPE, value);
        }
        spec.content_type(&headers).map(|text| text.map(str::to_owned))
    };
    assert_eq!(said(&[]), Ok(None));
    assert_eq!(said(&[b"text/a"]), Ok(Some("text/a".to_owned())));
    assert_eq!(said(&[b"text/a", b"text/b"]), Err(NotKeyable::OtherMediaType));
    assert_eq!(said(&[b"text/a; x=\xe9"]), Err(NotKeyable::OtherMediaType));
}
