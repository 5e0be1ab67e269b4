//! What holds for any body, checked by the fuzz target and by a test that replays its corpus.
//!
//! An input is two bytes and a body: the first byte chooses a spec, the second a media type.

use std::sync::OnceLock;

use keyspec::{BodyForm, KeySpec, KeySpecs, NotKeyable};

/// Specs of one's own: every body form, and everything that can be said of members.
const DECLARED: &str = r#"
version = 1

[[key_spec]]
name = "json"
version = 1
path = "/json"
ignore_members = ["x", "a.x", "s[].x", "p|q"]
ordered_members = ["o", "a.o[]"]
set_members = ["s", "s[].t", "n", "n[]"]

[key_spec.defaults]
d = 1
"a.d" = { e = [1.0, "é"] }
"s[].d" = false
s = []

[[key_spec]]
name = "only"
version = 1
path = "/only"
only_members = ["a.b", "c[].d", "s"]
set_members = ["s"]

[[key_spec]]
name = "form"
version = 1
path = "/form"
body = "form"
ignore_members = ["x"]
defaults = { d = 1 }

[[key_spec]]
name = "multipart"
version = 1
path = "/multipart"
body = "multipart"
only_members = ["a", "d"]
defaults = { d = "1" }

[[key_spec]]
name = "raw"
version = 1
path = "/raw"
body = "raw"

[[key_spec]]
name = "none"
version = 1
path = "/none"
body = "none"

[[key_spec]]
name = "by-type"
version = 1
path = "/by-type"
body = "by-type"
ignore_members = ["x"]
"#;

const MEDIA_TYPES: [Option<&str>; 10] = [
    None,
    Some("application/json"),
    Some("application/problem+json; charset=utf-8"),
    Some("application/x-www-form-urlencoded"),
    Some("multipart/form-data; boundary=b"),
    Some("multipart/form-data; boundary=\"b c\"; charset=utf-8"),
    Some("multipart/form-data"),
    Some("text/plain"),
    Some("multipart/form-data; boundary=b; boundary=c"),
    Some("\u{0}; =\""),
];

/// The presets, then the declared specs in the order of their names.
pub(crate) fn specs() -> &'static [KeySpec] {
    static SPECS: OnceLock<Vec<KeySpec>> = OnceLock::new();
    SPECS.get_or_init(|| {
        let named = |name| KeySpec::named_preset(name).expect("a preset has its name");
        let mut all: Vec<KeySpec> = KeySpec::preset_names().map(named).collect();
        let declared = KeySpecs::from_toml(DECLARED).expect("they are fine");
        let mut declared: Vec<KeySpec> =
            declared.declared().map(|spec| KeySpec::clone(spec)).collect();
        declared.sort_by(|one, other| one.name().cmp(other.name()));
        all.extend(declared);
        all
    })
}

/// Checks one input.
pub(crate) fn check(input: &[u8]) {
    let [spec, media_type, body @ ..] = input else { return };
    let spec = &specs()[usize::from(*spec) % specs().len()];
    let media_type = MEDIA_TYPES[usize::from(*media_type) % MEDIA_TYPES.len()];
    let canonical = spec.canonical(media_type, body);
    let meaning = match (spec.read_as(media_type, body), &canonical) {
        (Ok(meaning), Ok(canonical)) => {
            assert_eq!(meaning.digest, *blake3::hash(canonical).as_bytes(), "digest and form");
            meaning
        }
        (Err(error), Err(other)) => {
            assert_eq!(error, *other, "one reason");
            check_refusal(error, spec, body);
            return;
        }
        (meaning, form) => panic!("read: {meaning:?}, canonical: {form:?}"),
    };
    assert_ne!(meaning.facts.body, BodyForm::ByType, "a body is read in one way");
    if meaning.facts.body == BodyForm::Json {
        check_json(spec, media_type, body, &canonical.expect("it was read"));
    }
}

/// A plain parser reads what is keyed, and the canonical form means the same.
fn check_json(spec: &KeySpec, media_type: Option<&str>, body: &[u8], canonical: &[u8]) {
    assert!(may_be_json(body), "keyed, but no JSON");
    let again = spec.canonical(media_type, canonical).expect("a canonical form is keyable");
    assert_eq!(again, canonical, "the canonical form of itself");
    let spec_of_all = KeySpec::http();
    let all = spec_of_all.canonical(Some("application/json"), canonical).expect("it is JSON");
    let order_may_count = spec.name().contains('.') || spec.name() == "json";
    assert!(order_may_count || all == canonical, "RFC 8785 has it so");
}

/// What is refused is no JSON, or has more than one meaning, or is beyond a bound.
fn check_refusal(error: NotKeyable, spec: &KeySpec, body: &[u8]) {
    let strict = matches!(
        error,
        NotKeyable::DuplicateMember { .. }
            | NotKeyable::NotAnObject
            | NotKeyable::NumberOutOfRange { .. }
            | NotKeyable::TooDeep { .. }
            | NotKeyable::TooManyValues { .. }
            | NotKeyable::TooLong
    );
    let reads_json = spec.body_form() == BodyForm::Json;
    let is_json = serde_json::from_slice::<serde_json::Value>(body).is_ok();
    assert!(!reads_json || strict || !is_json, "not keyed without need: {error}");
}

/// Whether a plain parser reads it, or stops at what is fine here: numbers beyond a double, which
/// are exact, and nesting that is one deeper. Skipping over values, it does not look at either.
fn may_be_json(body: &[u8]) -> bool {
    let fine = match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(_) => true,
        Err(error) => {
            let error = error.to_string();
            error.starts_with("number out of range") || error.starts_with("recursion limit")
        }
    };
    fine && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}
