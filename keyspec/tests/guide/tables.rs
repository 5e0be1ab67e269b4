//! The tables on what counts, what is left out, what has no key, and what can be declared.

use std::collections::BTreeSet;

use keyspec::{
    BODY_BYTES_MAX, DEPTH_MAX, FORM_ENTRIES_MAX, KEY_SCHEMA_VERSION, KeySpec, KeySpecs,
    PRESET_VERSION, VALUES_MAX,
};

use crate::{blocks, code, guide, key, rows, section, spec, specs, text};

#[test]
fn every_preset_is_listed_with_the_end_of_its_paths() {
    let rows = rows("Which requests have a key");
    let listed: Vec<&str> = rows.iter().map(|row| code(&row[0])[0]).collect();
    assert_eq!(listed, KeySpec::preset_names().collect::<Vec<_>>());
    let specs = KeySpecs::default();
    for row in &rows {
        let Some(end) = code(&row[1]).first().map(|end| end.replace("NAME", "m")) else { continue };
        let path = format!("/base{end}");
        let found = specs.find("POST", &path).map(|found| found.spec.name().to_owned());
        assert_eq!(found.as_deref(), Some(code(&row[0])[0]), "{path}");
    }
}

#[test]
fn the_keyed_headers_are_those_of_the_presets() {
    let rows = rows("What is in a key");
    for name in KeySpec::preset_names() {
        let is_its = |row: &&Vec<String>| match code(&row[0]).first() {
            Some(pattern) => {
                *pattern == name
                    || pattern.strip_suffix('*').is_some_and(|stem| name.starts_with(stem))
            }
            None => false,
        };
        let row = rows.iter().find(is_its).unwrap_or_else(|| panic!("{name} is not listed"));
        let spec = spec(name);
        let keyed: Vec<&str> = spec.keyed_headers().iter().map(http::HeaderName::as_str).collect();
        assert_eq!(code(&row[1]), keyed, "{name}");
    }
}

#[test]
fn what_is_left_out_and_why_is_what_the_presets_leave_out() {
    let mut told = BTreeSet::new();
    for row in &rows("What is left out") {
        for preset in code(&row[0]) {
            for path in code(&row[1]) {
                let is_new = told.insert((preset.to_owned(), path.to_owned(), row[2].clone()));
                assert!(is_new, "{preset} {path} is listed twice");
            }
        }
    }
    let mut left_out = BTreeSet::new();
    let text = section("What is left out");
    for name in KeySpec::preset_names() {
        let all: Vec<_> = spec(name).left_out_by_preset().collect();
        if all.is_empty() {
            let (_, after) = text.split_once("leaves nothing out").expect("a sentence on them");
            let is_told = after.contains(&format!("`{name}`")) || name == "openai.responses";
            assert!(is_told, "{name} leaves nothing out");
        }
        left_out.extend(
            all.iter().map(|one| (name.to_owned(), one.path.to_owned(), one.why.to_owned())),
        );
    }
    assert_eq!(told, left_out);
}

/// The schema paths of each preset, as the guide lists them.
fn schema_paths() -> Vec<(String, String)> {
    let block = blocks(&section("When two bodies are the same"), "text").remove(0);
    let mut presets = Vec::new();
    let mut paths = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("  ") {
            None => presets = line.split(", ").map(str::to_owned).collect(),
            Some(path) => {
                paths.extend(presets.iter().map(|preset| (preset.clone(), path.to_owned())));
            }
        }
    }
    paths
}

/// A body in which `value` stands at a path, by the `choice`th of its names.
fn wrapped(path: &str, choice: usize, value: &str) -> String {
    path.split('.').rev().fold(value.to_owned(), |inner, step| {
        let names: Vec<&str> = step.trim_end_matches("[]").split('|').collect();
        let name = names[choice % names.len()];
        let inner = if step.ends_with("[]") { format!("[{inner}]") } else { inner };
        format!("{{\"{name}\":{inner}}}")
    })
}

#[test]
fn order_counts_under_the_listed_paths_and_no_others() {
    let listed = schema_paths();
    let paths: BTreeSet<&String> = listed.iter().map(|(_, path)| path).collect();
    for name in KeySpec::preset_names() {
        let spec = spec(name);
        for path in &paths {
            let is_listed = listed.contains(&(name.to_owned(), (*path).clone()));
            // A path of another preset may lead into one of this one's.
            for choice in 0..2 {
                let at = |value| key(&spec, &wrapped(path, choice, value));
                let counts = at(r#"{"a":1,"b":2}"#) != at(r#"{"b":2,"a":1}"#);
                assert_eq!(counts, is_listed, "{name} {path}");
            }
        }
    }
}

#[test]
fn every_schema_path_of_the_code_is_listed() {
    let source = text("keyspec/src/preset.rs");
    let (_, source) = source.split_once("fn schema_paths_of_model").expect("their function");
    let (source, _) = source.split_once("/// Headers that change").expect("what comes after");
    let code: BTreeSet<&str> = source.split('"').skip(1).step_by(2).collect();
    let listed = schema_paths();
    assert_eq!(listed.iter().map(|(_, path)| path.as_str()).collect::<BTreeSet<_>>(), code);
}

#[test]
fn what_is_one_and_what_is_two_is_so() {
    let spec = spec("openai.chat_completions");
    let key = |value: &str| key(&spec, &format!("{{\"x\":{value}}}"));
    let one = [("0.70", "0.7"), ("1e2", "100"), ("-0", "0"), ("\"\\u0041\"", "\"A\"")];
    for (one, other) in
        one.into_iter().chain([("[ 1 ]", "[1]"), ("{\"a\":1,\"b\":2}", "{\"b\":2,\"a\":1}")])
    {
        assert_eq!(key(one), key(other), "{one}");
    }
    let two = [
        ("9007199254740993", "9007199254740992"),
        ("\"a b\"", "\"a  b\""),
        ("[1,2]", "[2,1]"),
        ("\"a\"", "\"A\""),
        ("\"\u{e9}\"", "\"e\u{301}\""),
    ];
    for (one, other) in two {
        assert_ne!(key(one), key(other), "{one}");
    }
    assert_ne!(crate::key(&spec, "{\"x\":null}"), crate::key(&spec, "{}"));
    let table = section("When two bodies are the same");
    for told in ["`0.70` is `0.7`", "`1e2` is `100`", "`-0` is `0`", "`9007199254740993` is not"] {
        assert!(table.contains(told), "{told}");
    }
}

#[test]
fn every_reason_for_having_no_key_is_listed_with_its_bound() {
    let source = text("keyspec/src/not_keyable.rs");
    let codes: BTreeSet<&str> =
        source.split(" => \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let rows = rows("What has no key");
    let told: BTreeSet<&str> = rows.iter().map(|row| code(&row[0])[0]).collect();
    assert_eq!(told, codes);
    let says = |reason: &str, bound: usize| {
        let row = rows.iter().find(|row| code(&row[0])[0] == reason).expect("its row");
        assert!(row[1].contains(&bound.to_string()), "{reason}: {bound}");
    };
    says("body-too-long", BODY_BYTES_MAX);
    says("too-deep", DEPTH_MAX);
    says("too-many-values", VALUES_MAX);
    says("too-many-values", FORM_ENTRIES_MAX);
    says("number-out-of-range", 1024);
    says("number-out-of-range", 9999);
}

#[test]
fn every_field_of_a_key_spec_is_listed() {
    let source = text("keyspec/src/declared.rs");
    let (_, fields) = source.split_once("pub struct DeclaredSpec {").expect("the fields");
    let (fields, _) = fields.split_once("\n}").expect("their end");
    let names = fields.lines().filter_map(|line| line.trim().strip_prefix("pub "));
    let names: Vec<&str> = names.filter_map(|line| line.split(':').next()).collect();
    let rows = rows("Declaring your own");
    assert_eq!(rows.iter().map(|row| code(&row[0])[0]).collect::<Vec<_>>(), names);
}

#[test]
fn every_spec_that_is_shown_can_be_meant() {
    let shown = blocks(&guide(), "toml");
    assert!(shown.len() >= 4);
    for toml in shown {
        assert!(KeySpecs::from_toml(&toml).is_ok(), "{toml}");
    }
}

#[test]
fn a_search_is_one_whatever_does_not_count_and_at_null_another() {
    let specs = specs("search.toml");
    let spec = specs.declared().next().expect("one");
    let limits = ["", ",\"limit\":10", ",\"limit\":10.0", ",\"limit\":1e1"];
    let keys: BTreeSet<String> =
        limits.iter().map(|limit| key(spec, &format!("{{\"q\":1{limit}}}"))).collect();
    assert_eq!(keys.len(), 1);
    assert!(!keys.contains(&key(spec, "{\"q\":1,\"limit\":null}")));
}

#[test]
fn the_versions_are_those_of_the_code() {
    let rows = rows("Versions and upgrades");
    let now = |what: &str| rows.iter().find(|row| row[0] == what).map(|row| row[2].clone());
    assert_eq!(now("key-schema version"), Some(KEY_SCHEMA_VERSION.to_string()));
    assert_eq!(now("preset version"), Some(PRESET_VERSION.to_string()));
}

#[test]
fn what_changes_a_specs_keys_is_what_the_table_says() {
    let base = "name = 'a'\nversion = 1\npath = '/v1/{x}'\n";
    let of = |toml: String| {
        let specs = KeySpecs::from_toml(&format!("version = 1\n[[key_spec]]\n{toml}"));
        let specs = specs.unwrap_or_else(|error| panic!("{toml}: {error}"));
        key(specs.declared().next().expect("one"), "{}")
    };
    let plain = of(base.to_owned());
    for same in ["deterministic = true", "model_member = 'm'", "methods = ['PUT']"] {
        assert_eq!(of(format!("{base}{same}")), plain, "{same}");
    }
    assert_eq!(of(base.replace("/v1/{x}", "/v1/**")), plain);
    let ignoring = |why: &str| of(format!("{base}ignore_members = [{why}]"));
    assert_eq!(ignoring("'t'"), ignoring("{ path = 't', why = 'w' }"));
    let mcp = format!("{base}preset = 'mcp'\n");
    assert_eq!(of(format!("{mcp}tools = ['t']")), of(mcp));
    for other in [
        base.replace("version = 1", "version = 2"),
        base.replace("'a'", "'b'"),
        format!("{base}ignore_members = ['t']"),
        format!("{base}headers = ['x-a']"),
        format!("{base}ignore_parameters = ['x']"),
    ] {
        assert_ne!(of(other.clone()), plain, "{other}");
    }
}

#[test]
fn changes_of_a_route_change_its_keys() {
    let plain = spec("openai.embeddings");
    let ignoring = plain.clone().ignoring(&["t".to_owned()]);
    let keeping = plain.clone().keeping(&["user".to_owned()]);
    assert_ne!(key(&plain, "{}"), key(&ignoring, "{}"));
    assert_ne!(key(&plain, "{}"), key(&keeping, "{}"));
}

#[test]
fn every_link_within_the_guide_leads_to_a_heading() {
    let guide = guide();
    let plain = |title: &str| {
        let letters = title.trim_start_matches('#').trim().to_lowercase();
        letters.replace(' ', "-").replace(['`', ',', '?'], "")
    };
    let headings: Vec<String> =
        guide.lines().filter(|line| line.starts_with('#')).map(plain).collect();
    for link in guide.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(headings.iter().any(|heading| heading == link), "{link}");
    }
}
