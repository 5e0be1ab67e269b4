//! Laws of the canonical form: what never changes a key, and what always does.

mod spelling;

use keyspec::{KeySpec, KeyedRequest, ModelRoute, TenantScope};
use proptest::prelude::*;
use spelling::{Json, Speller, any_object};

fn key(body: &str) -> keyspec::Key {
    let spec = KeySpec::preset(ModelRoute::OpenAiChatCompletions);
    let request = KeyedRequest {
        tenant: &TenantScope::Anonymous,
        upstream: "https://api.openai.com",
        method: "POST",
        path: "/v1/chat/completions",
        query: None,
        headers: &http::HeaderMap::new(),
    };
    let meaning = spec.read(body.as_bytes()).expect("a spelled value is keyable");
    spec.key(&request, &meaning)
}

fn canonical(body: &[u8]) -> Vec<u8> {
    KeySpec::preset(ModelRoute::OpenAiResponses).canonical(None, body).expect("keyable")
}

/// Whether two values mean the same: numbers by value. Members are sorted as they are made.
fn same(left: &Json, right: &Json) -> bool {
    match (left, right) {
        (Json::Number(a, x), Json::Number(b, y)) => {
            let least = (*x).min(*y);
            let scaled = |digits: i64, exponent: i8| {
                i128::from(digits) * 10_i128.pow(u32::from((exponent - least).unsigned_abs()))
            };
            scaled(*a, *x) == scaled(*b, *y)
        }
        (Json::Array(a), Json::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|((m, a), (n, b))| m == n && same(a, b))
        }
        (left, right) => left == right,
    }
}

/// All places in a value, as ways to write the value with that one place changed.
fn changed_everywhere(value: &Json) -> Vec<Json> {
    let mut all = vec![changed(value)];
    match value {
        Json::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                for other in changed_everywhere(element) {
                    let mut elements = elements.clone();
                    elements[index] = other;
                    all.push(Json::Array(elements));
                }
                let mut fewer = elements.clone();
                fewer.remove(index);
                all.push(Json::Array(fewer));
            }
        }
        Json::Object(members) => {
            for (index, (name, member)) in members.iter().enumerate() {
                for other in changed_everywhere(member) {
                    let mut members = members.clone();
                    members[index].1 = other;
                    all.push(Json::Object(members));
                }
                let mut renamed = members.clone();
                renamed[index].0 = format!("{name} ");
                if !members.iter().any(|(other, _)| *other == renamed[index].0) {
                    all.push(Json::Object(renamed));
                }
                let mut fewer = members.clone();
                fewer.remove(index);
                all.push(Json::Object(fewer));
            }
        }
        _ => {}
    }
    all
}

fn changed(value: &Json) -> Json {
    match value {
        Json::Null => Json::Bool(false),
        Json::Bool(value) => Json::Bool(!value),
        Json::Number(digits, exponent) => Json::Number(digits + 1, *exponent),
        Json::Text(text) => Json::Text(format!("{text} ")),
        Json::Array(elements) => Json::Array([&elements[..], &[Json::Null]].concat()),
        Json::Object(members) => {
            Json::Object([&members[..], &[("more".to_owned(), Json::Null)]].concat())
        }
    }
}

proptest! {
    #[test]
    fn member_order_white_space_escapes_and_number_spelling_never_change_a_key(
        value in any_object(), one in any::<u64>(), other in any::<u64>(),
    ) {
        let (one, other) = (Speller::new(one).spell(&value), Speller::new(other).spell(&value));
        prop_assert_eq!(key(&one), key(&other), "{} and {}", one, other);
    }

    #[test]
    fn a_change_of_any_place_changes_the_key(value in any_object(), seed in any::<u64>()) {
        let before = key(&Speller::new(seed).spell(&value));
        for after in changed_everywhere(&value) {
            let spelled = Speller::new(seed).spell(&after);
            prop_assert_ne!(before, key(&spelled), "{:?} and {:?}", value, after);
        }
    }

    #[test]
    fn two_values_have_one_canonical_form_exactly_when_they_mean_the_same(
        one in any_object(), other in any_object(), seed in any::<u64>(),
    ) {
        let form = |value| canonical(Speller::new(seed).spell(value).as_bytes());
        prop_assert_eq!(form(&one) == form(&other), same(&one, &other));
    }

    #[test]
    fn any_two_numbers_have_one_canonical_form_exactly_when_they_are_equal(
        digits in any::<i64>(), more in -2..3_i64, exponent in -20..20_i8, shift in 0..3_i8,
    ) {
        let one = Json::Number(digits, exponent);
        let other = Json::Number(digits.saturating_add(more) , exponent - shift);
        let form = |number: &Json| {
            let Json::Number(digits, exponent) = number else { unreachable!() };
            canonical(format!("{{\"a\":{digits}e{exponent}}}").as_bytes())
        };
        prop_assert_eq!(form(&one) == form(&other), same(&one, &other));
    }

    #[test]
    fn the_canonical_form_is_its_own_canonical_form(value in any_object(), seed in any::<u64>()) {
        let once = canonical(Speller::new(seed).spell(&value).as_bytes());
        prop_assert_eq!(canonical(&once), once);
    }

    #[test]
    fn the_digest_is_that_of_the_canonical_form(value in any_object(), seed in any::<u64>()) {
        let body = Speller::new(seed).spell(&value);
        let spec = KeySpec::preset(ModelRoute::AnthropicMessages);
        let digest = blake3::hash(&spec.canonical(None, body.as_bytes()).unwrap());
        prop_assert_eq!(spec.read(body.as_bytes()).unwrap().digest, *digest.as_bytes());
    }

    /// RFC 8785 and this form agree wherever a double holds every number exactly.
    #[test]
    fn the_canonical_form_is_that_of_rfc_8785(value in any_object(), seed in any::<u64>()) {
        let body = Speller::new(seed).spell(&value);
        let parsed: serde_json::Value = serde_json::from_str(&body).unwrap();
        let oracle = serde_json_canonicalizer::to_string(&parsed).unwrap();
        prop_assert_eq!(String::from_utf8(canonical(body.as_bytes())).unwrap(), oracle);
    }

    #[test]
    fn every_double_is_printed_as_rfc_8785_prints_it(bits in any_bits()) {
        assert_printed_as_rfc_8785_prints_it(bits);
    }
}

/// Bits of any double, and of those around which printing changes: powers of two and of ten.
fn any_bits() -> impl Strategy<Value = u64> {
    let double = |integer: u64| integer.to_string().parse::<f64>().expect("a double");
    let ten =
        (-323..309_i32).prop_map(|power| format!("1e{power}").parse::<f64>().expect("a double"));
    let near = |bits: u64, off: i64| bits.wrapping_add_signed(off);
    prop_oneof![
        any::<u64>(),
        (0..0x7ff_u64, -3..3_i64).prop_map(move |(power, off)| near(power << 52, off)),
        (ten, -3..3_i64).prop_map(move |(ten, off)| near(ten.to_bits(), off)),
        (0..1_u64 << 54).prop_map(move |integer| double(integer).to_bits()),
    ]
}

/// The shortest digits that a double is told by, in two spellings.
fn assert_printed_as_rfc_8785_prints_it(bits: u64) {
    let double = f64::from_bits(bits);
    if !double.is_finite() {
        return;
    }
    let value = serde_json::json!({ "a": double });
    let oracle = serde_json_canonicalizer::to_string(&value).expect("printable");
    for spelled in [oracle.clone(), value.to_string()] {
        let form = String::from_utf8(canonical(spelled.as_bytes())).expect("UTF-8");
        assert_eq!(form, oracle, "{bits:#x}");
    }
}

#[test]
fn doubles_at_the_edges_are_printed_as_rfc_8785_prints_them() {
    // Appendix B, and where the shortest digits are hard to find.
    for bits in [
        0x0000_0000_0000_0000,
        0x8000_0000_0000_0000,
        0x0000_0000_0000_0001,
        0x8000_0000_0000_0001,
        0x7fef_ffff_ffff_ffff,
        0xffef_ffff_ffff_ffff,
        0x4340_0000_0000_0000,
        0xc340_0000_0000_0000,
        0x4430_0000_0000_0000,
        0x44b5_2d02_c7e1_4af5,
        0x44b5_2d02_c7e1_4af6,
        0x44b5_2d02_c7e1_4af7,
        0x444b_1ae4_d6e2_ef4e,
        0x444b_1ae4_d6e2_ef4f,
        0x444b_1ae4_d6e2_ef50,
        0x3eb0_c6f7_a0b5_ed8c,
        0x3eb0_c6f7_a0b5_ed8d,
        0x41b3_de43_5555_5553,
        0x41b3_de43_5555_5557,
        0xbecb_f647_612f_3696,
        0x4314_3ff3_c1cb_0959,
        0x0010_0000_0000_0000,
        0x000f_ffff_ffff_ffff,
    ] {
        assert_printed_as_rfc_8785_prints_it(bits);
    }
}

#[test]
fn members_sort_by_utf16_as_in_the_example_of_rfc_8785() {
    // Section 3.2.3.
    let body = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}"#;
    let form = String::from_utf8(canonical(body.as_bytes())).unwrap();
    let values = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"];
    let places: Vec<_> = values.iter().map(|value| form.find(value).unwrap()).collect();
    assert!(places.is_sorted(), "{form}");
}

#[test]
fn strings_are_never_trimmed_lowered_or_normalised() {
    let texts = ["US", "us", " us", "us ", "u\u{0308}s", "\u{fc}s", ""];
    let forms: Vec<_> =
        texts.iter().map(|text| canonical(format!("{{\"a\":\"{text}\"}}").as_bytes())).collect();
    for (index, form) in forms.iter().enumerate() {
        assert!(!forms[..index].contains(form), "{:?} repeats another", texts[index]);
    }
}

#[test]
fn the_order_of_array_elements_counts() {
    assert_ne!(canonical(b"{\"a\":[1,2]}"), canonical(b"{\"a\":[2,1]}"));
}

#[test]
fn types_are_never_mixed_up() {
    let forms =
        ["1", "\"1\"", "[1]", "{\"1\":1}", "true", "\"true\"", "null", "\"null\"", "{}", "[]"]
            .map(|value| canonical(format!("{{\"a\":{value}}}").as_bytes()));
    for (index, form) in forms.iter().enumerate() {
        assert!(!forms[..index].contains(form));
    }
    assert_ne!(canonical(b"{\"a\":null}"), canonical(b"{}"));
}
