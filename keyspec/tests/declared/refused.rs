//! Specs that cannot be meant: each is refused by the path of a field, what it says, and what is
//! allowed.

use keyspec::{KeySpecs, SPECS_MAX};

use super::{one, refusal};

/// What the fields of the only spec say, and the refusal: the field, its value, and a part of
/// what is allowed.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("preset = \"openai\"", "preset", "openai", "one of openai.chat_completions, "),
    ("methods = [\"POST\", \"get\"]", "methods[1]", "get", "a method in capitals"),
    ("methods = [\"A B\"]", "methods[0]", "A B", "a method in capitals"),
    ("preset = \"mcp\"\nbody = \"form\"", "body", "Form", "json, which the preset reads"),
    ("preset = \"openai.embeddings\"\nbody = \"by-type\"", "body", "ByType", "json"),
    ("preset = \"mcp\"\nmodel_member = \"m\"", "model_member", "m", "not with a preset"),
    ("ignore_members = [\"a\"]\nkeep_members = [\"a\"]", "keep_members", "a", "it is in ignore"),
    ("ignore_members = ['\"a.b\"']\nset_members = ['\"a.b\"']", "set_members", "\"a.b\"", "it is"),
    ("ordered_members = [\"a\"]\ndefaults = { \"a.b\" = 1 }", "defaults", "a.b", "nothing in a,"),
    ("ordered_members = [\"a\"]\nignore_members = [\"a.b\"]", "ignore_members", "a.b", "in a"),
    ("body = \"form\"\nset_members = [\"a\"]", "set_members", "a", "only where JSON is read"),
    ("body = \"raw\"\nordered_members = [\"a\"]", "ordered_members", "a", "only where JSON"),
    ("defaults = { a = nan }", "defaults.a", "null", "a value that JSON has"),
    (
        "defaults = { a = [1979-05-27] }",
        "defaults.a",
        "[{\"$__toml_private_datetime\":\"1979-05-27\"}]",
        "JSON",
    ),
    ("tools = [\"a\"]", "tools[0]", "a", "only with preset = \"mcp\""),
    ("headers = [\"x\", \"a b\"]", "headers[1]", "a b", "the name of a header field"),
    ("headers = [\"Authorization\"]", "headers[0]", "Authorization", "not a credential"),
    ("headers = [\"x-api-key\"]", "headers[0]", "x-api-key", "not a credential"),
    ("headers = [\"api-key\"]", "headers[0]", "api-key", "not a credential"),
    ("headers = [\"x-goog-api-key\"]", "headers[0]", "x-goog-api-key", "not a credential"),
    ("headers = [\"cookie\"]", "headers[0]", "cookie", "not a credential"),
    ("headers = [\"connection\"]", "headers[0]", "connection", "not a credential"),
    ("headers = [\"cache-server-reuse\"]", "headers[0]", "cache-server-reuse", "not a"),
    ("ignore_query = [\"a\"]\nonly_query = [\"b\"]", "only_query", "set", "not together with"),
    ("ignore_parameters = [\"p\"]", "ignore_parameters[0]", "p", "a parameter of /x"),
    ("ignore_members = [\"a\", \"b..c\"]", "ignore_members[1]", "b..c", "names between points"),
    ("ignore_members = [\"a[]\"]", "ignore_members[0]", "a[]", "ends in a member"),
    ("only_members = [\"a.\"]", "only_members[0]", "a.", "names between points"),
    ("ordered_members = [\"\"]", "ordered_members[0]", "", "names between points"),
    ("set_members = [\"a[0]\"]", "set_members[0]", "a[0]", "names between points"),
    ("defaults = { \"a..b\" = 1 }", "defaults.a..b", "a..b", "names between points"),
    ("defaults = { \"a[]\" = 1 }", "defaults.a[]", "a[]", "ends in a member"),
    (
        "ignore_members = [\"a\"]\nset_members = [\"a\"]",
        "set_members",
        "a",
        "it is in ignore_members already",
    ),
    (
        "ordered_members = [\"a|b\"]\nset_members = [\"b|c\"]",
        "set_members",
        "b|c",
        "it is in ordered_members already",
    ),
    (
        "ignore_members = [\"a\", \"\\\"a\\\"\"]",
        "ignore_members",
        "a",
        "it is in ignore_members already",
    ),
    (
        "ignore_members = [\"a.b\"]\ndefaults = { \"a.b\" = 1 }",
        "defaults",
        "a.b",
        "it is in ignore_members already",
    ),
    ("defaults = { a = 1, \"a|b\" = 2 }", "defaults", "a|b", "it is in defaults already"),
    ("body = \"form\"\nignore_members = [\"a.b\"]", "body", "a.b", "forms have names"),
    ("body = \"multipart\"\nonly_members = [\"a[].b\"]", "body", "a[].b", "forms have names"),
    ("body = \"form\"\nset_members = [\"a|b\"]", "body", "a|b", "forms have names"),
    ("body = \"form\"\ndefaults = { \"a.b\" = 1 }", "body", "a.b", "forms have names"),
    ("body = \"by-type\"\nonly_members = [\"a\", \"b.c\"]", "body", "b.c", "forms have names"),
];

#[test]
fn a_spec_that_cannot_be_meant_is_refused_by_the_path_of_the_field() {
    for (more, field, value, allowed) in REFUSED {
        let error = refusal(&one(more));
        assert_eq!(error.field, format!("key_spec[0].{field}"), "{more}");
        assert_eq!(error.value, *value, "{more}");
        assert!(error.allowed.contains(allowed), "{more}: {}", error.allowed);
        let said = format!("{}: {} — {}", error.field, error.value, error.allowed);
        assert_eq!(error.to_string(), said);
    }
}

#[test]
fn a_name_is_short_and_plain() {
    let named = |name: &str| one("").replace("name = \"one\"", &format!("name = \"{name}\""));
    let long = "a".repeat(65);
    for bad in ["", "a b", "a/b", "é", "a\\n", &long] {
        let error = refusal(&named(bad));
        assert_eq!(error.field, "key_spec[0].name", "{bad}");
        assert_eq!(error.allowed, "1 to 64 letters, digits, points, - and _", "{bad}");
    }
    for good in ["a", "A.b-c_9", &long[..64]] {
        assert!(KeySpecs::from_toml(&named(good)).is_ok(), "{good}");
    }
}

#[test]
fn a_path_is_a_pattern() {
    let at = |path: &str| one("").replace("path = \"/x\"", &format!("path = \"{path}\""));
    let parameters: String = (0..33).map(|index| format!("/{{p{index}}}")).collect();
    for (bad, allowed) in [
        ("", "a path that begins with /"),
        ("x", "a path that begins with /"),
        ("/a?b", "a path without query or fragment"),
        ("/a#b", "a path without query or fragment"),
        ("/{a", "a } for each {"),
        ("/a}", "text, one {name} a segment, or ** for any segments"),
        ("/*", "text, one {name} a segment, or ** for any segments"),
        ("/{}", "parameters named by a-z, 0-9 and _"),
        ("/{Model}", "parameters named by a-z, 0-9 and _"),
        ("/{a}{b}", "one {name} a segment"),
        ("/{a}*", "one {name} a segment"),
        ("/a/**/b", "** once, as the first or the last segment"),
        ("/**/a/**", "** once, as the first or the last segment"),
        ("/{a}/{a}", "each parameter once"),
        (&parameters, "at most 32 segments"),
    ] {
        let error = refusal(&at(bad));
        assert_eq!((error.field.as_str(), error.value.as_str()), ("key_spec[0].path", bad));
        assert_eq!(error.allowed, allowed, "{bad}");
    }
    let most: String = (0..32).map(|index| format!("/{{p{index}}}")).collect();
    assert!(KeySpecs::from_toml(&at(&most)).is_ok());
}

#[test]
fn a_path_into_a_body_has_so_many_steps_and_no_more() {
    let ignoring =
        |steps: usize| one(&format!("ignore_members = [\"{}\"]", vec!["a"; steps].join(".")));
    assert!(KeySpecs::from_toml(&ignoring(32)).is_ok());
    assert_eq!(refusal(&ignoring(33)).field, "key_spec[0].ignore_members[0]");
}

#[test]
fn a_default_is_bounded_as_a_body_is() {
    let nested = |depth: usize| {
        one(&format!("defaults = {{ a = {}{} }}", "[".repeat(depth), "]".repeat(depth)))
    };
    assert!(KeySpecs::from_toml(&nested(60)).is_ok());
    // Where a reader of TOML gives up first, it says so.
    assert!(KeySpecs::from_toml(&nested(200)).is_err());
}

#[test]
fn versions_begin_at_one_and_the_file_has_its_own() {
    let text = "version = 1\n[[key_spec]]\nname = \"a\"\npath = \"/x\"";
    let error = refusal(text);
    assert_eq!((error.field.as_str(), error.value.as_str()), ("key_spec[0].version", "0"));
    assert_eq!(error.allowed, "1 or more");
    let error = refusal("version = 2");
    assert_eq!((error.field.as_str(), error.value.as_str()), ("version", "2"));
    assert_eq!(error.allowed, "1");
    assert!(KeySpecs::from_toml("version = 1").is_ok());
}

#[test]
fn what_is_no_file_of_specs_is_refused_with_its_line() {
    let spec = "version = 1\n\n[[key_spec]]\nname = \"a\"\nversion = 1\npath = \"/x\"\n";
    for (text, line, said) in [
        ("version = ".to_owned(), 1, ""),
        ("version = 1\nversions = 2".to_owned(), 2, "unknown field `versions`"),
        (format!("{spec}headrs = []"), 7, "unknown field `headrs`"),
        (format!("{spec}headers = \"a\""), 7, "invalid type"),
        (format!("{spec}\n\nbody = \"xml\""), 9, "unknown variant `xml`"),
        (format!("{spec}version = 70000"), 7, ""),
        (format!("{spec}ignore_members = [1]"), 7, ""),
        (format!("{spec}ignore_query = [{{ path = \"a\" }}]"), 7, ""),
        (format!("{spec}ignore_query = [{{ path = \"a\", why = \"b\", x = 1 }}]"), 7, ""),
    ] {
        let error = refusal(&text);
        assert_eq!(error.field, format!("line {line}"), "{text}: {error}");
        assert!(error.value.contains(said), "{text}: {error}");
        assert_eq!(error.allowed, "a file of key specs");
    }
    assert_eq!(refusal("[[key_spec]]").value, "missing field `version`");
}

#[test]
fn a_refusal_names_the_spec_by_its_place() {
    let spec = |name: &str, path: &str, more: &str| {
        format!("[[key_spec]]\nname = \"{name}\"\nversion = 1\npath = \"{path}\"\n{more}\n")
    };
    let file = |specs: &[String]| format!("version = 1\n{}", specs.concat());
    let (a, b) = (spec("a", "/a", ""), spec("b", "/b", "headers = [\"ok\", \"cookie\"]"));
    assert_eq!(refusal(&file(&[a.clone(), b])).field, "key_spec[1].headers[1]");
    let error = refusal(&file(&[spec("c", "/c", ""), a, spec("a", "/d", "")]));
    assert_eq!((error.field.as_str(), error.value.as_str()), ("key_spec[2].name", "a"));
    assert_eq!(error.allowed, "key_spec[1] has it already");
}

#[test]
fn a_file_has_so_many_specs_and_no_more() {
    let file = |count: usize| {
        let spec = |index: usize| {
            format!("[[key_spec]]\nname = \"s{index}\"\nversion = 1\npath = \"/{index}\"\n")
        };
        format!("version = 1\n{}", (0..count).map(spec).collect::<String>())
    };
    let most = KeySpecs::from_toml(&file(SPECS_MAX)).expect("so many are fine");
    assert_eq!(most.declared().count(), SPECS_MAX);
    let error = refusal(&file(SPECS_MAX + 1));
    assert_eq!((error.field.as_str(), error.value.as_str()), ("key_spec", "257"));
    assert_eq!(error.allowed, "at most 256");
}
