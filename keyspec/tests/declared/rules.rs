//! What of a spec itself is in its keys, and what of a request beside its body.

use keyspec::{
    Because, BodyForm, Ignored, Key, KeySpec, KeySpecs, NotReused, PRESET_VERSION, Reason,
    ReusePolicy,
};

use super::{Request, json, one, specs};

fn key(text: &str) -> Key {
    json(r#"{"model":"m","a":1}"#).key(&specs(text)).expect("keyable")
}

#[test]
fn a_change_of_what_counts_changes_every_key() {
    let rules = [
        "",
        "body = \"raw\"",
        "body = \"by-type\"",
        "preset = \"openai.chat_completions\"",
        "preset = \"mcp\"",
        "headers = [\"x-a\"]",
        "headers = [\"x-b\"]",
        "headers = [\"x-a\", \"x-b\"]",
        "ignore_query = [\"q\"]",
        "ignore_query = [\"r\"]",
        "only_query = [\"q\"]",
        "only_query = []",
        "ignore_members = [\"q\"]",
        "ignore_members = [\"q\", \"r\"]",
        "only_members = [\"q\"]",
        "only_members = []",
        "keep_members = [\"q\"]",
        "ordered_members = [\"q\"]",
        "set_members = [\"q\"]",
        "defaults = { q = 1 }",
        "defaults = { q = 2 }",
        "defaults = { q = \"1\" }",
    ];
    let keys = rules.map(|rules| key(&one(rules)));
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{}", rules[index]);
    }
    let raised = one("").replace("name = \"one\"\nversion = 1", "name = \"one\"\nversion = 2");
    assert!(!keys.contains(&key(&raised)));
}

#[test]
fn the_order_of_lists_reasons_and_what_decides_on_reuse_alone_change_no_key() {
    let base = "ignore_members = [\"p\", \"q\"]\nheaders = [\"x-a\", \"x-b\"]";
    for same in [
        "ignore_members = [\"q\", \"p\"]\nheaders = [\"x-b\", \"x-a\"]",
        "ignore_members = [{ path = \"p\", why = \"b\" }, \"q\"]\nheaders = [\"x-a\", \"x-b\"]",
        "deterministic = true\nignore_members = [\"p\", \"q\"]\nheaders = [\"x-a\", \"x-b\"]",
        "model_member = \"engine\"\nignore_members = [\"p\", \"q\"]\nheaders = [\"x-a\", \"x-b\"]",
        "methods = [\"PUT\", \"POST\"]\nignore_members = [\"p\", \"q\"]\nheaders = [\"x-a\", \"x-b\"]",
        "keep_members = []\ndefaults = {}\nignore_members = [\"p\", \"q\"]\nheaders = [\"x-a\", \"x-b\"]",
    ] {
        assert_eq!(key(&one(same)), key(&one(base)), "{same}");
    }
    let tools = |tools: &str| key(&one(&format!("preset = \"mcp\"\ntools = [{tools}]")));
    assert_eq!(tools("\"a\""), tools(""));
    let reason =
        |why: &str| key(&one(&format!("ignore_query = [{{ path = \"q\", why = \"{why}\" }}]")));
    assert_eq!(reason("one"), reason("other"));
}

/// The path that is written is in a key only where part of the request's own is not.
#[test]
fn a_spec_with_ignored_parameters_has_keys_by_its_own_path() {
    let at = |path: &str, more: &str| {
        let text = one(more).replace("path = \"/x\"", &format!("path = \"{path}\""));
        Request { path: "/a/b", ..json("{}") }.key(&specs(&text)).expect("keyable")
    };
    assert_eq!(at("/{p}/b", ""), at("/a/{q}", ""));
    let ignoring = |path, name: &str| at(path, &format!("ignore_parameters = [\"{name}\"]"));
    assert_ne!(ignoring("/{p}/b", "p"), ignoring("/{p}/{q}", "p"));
    assert_ne!(ignoring("/{p}/b", "p"), at("/{p}/b", ""));
}

#[test]
fn specs_of_two_names_never_share_a_key() {
    let named = |name: &str, more: &str| {
        key(&one(more).replace("name = \"one\"", &format!("name = \"{name}\"")))
    };
    for more in ["", "preset = \"openai.chat_completions\"", "only_members = []"] {
        let names = ["one", "two", "One", "on", "one.", "openai.chat_completions", "http", "mcp"];
        let keys = names.map(|name| named(name, more));
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{} {more}", names[index]);
        }
    }
}

/// Also where one is named as a preset is and says nothing more.
#[test]
fn a_declared_spec_never_shares_a_key_with_a_preset() {
    let text = "version = 1\n[[key_spec]]\nname = \"openai.embeddings\"\nversion = 1\n\
                preset = \"openai.embeddings\"\npath = \"/v1/embeddings\"";
    let request = Request { path: "/v1/embeddings", ..json("{}") };
    let declared = request.key(&specs(text)).expect("keyable");
    assert_ne!(declared, request.key(&KeySpecs::default()).expect("keyable"));
}

#[test]
fn listed_headers_count_with_those_of_the_preset_and_no_others_do() {
    let names = ["accept-language", "x-tenant", "openai-beta", "user-agent", "authorization"];
    for (more, counting) in [
        ("", &[][..]),
        ("headers = [\"Accept-Language\", \"x-tenant\"]", &["accept-language", "x-tenant"]),
        ("preset = \"openai.embeddings\"\nheaders = [\"x-tenant\"]", &["x-tenant", "openai-beta"]),
    ] {
        let specs = specs(&one(more));
        let key = |headers: &[(&str, &str)]| {
            Request { headers, ..json("{}") }.key(&specs).expect("keyable")
        };
        for name in names {
            let counts = key(&[(name, "1")]) != key(&[]);
            assert_eq!(counts, counting.contains(&name), "{name}: {more}");
            assert_eq!(key(&[(name, "1")]) != key(&[(name, "2")]), counts, "{name}: {more}");
            assert_eq!(key(&[(name, "1")]) != key(&[(name, "1"), (name, "1")]), counts);
        }
    }
}

#[test]
fn ignored_pairs_of_a_query_do_not_count() {
    let specs = specs(&one(r#"ignore_query = ["utm", { path = "ts", why = "the time" }]"#));
    let key = |query| Request { query: Some(query), ..json("{}") }.key(&specs).expect("keyable");
    for same in ["utm=1&a=1", "a=1&ts=2&ts", "%75tm=&a=1", "a=1&key=secret"] {
        assert_eq!(key(same), key("a=1"), "{same}");
    }
    for other in ["a=2", "a=1&UTM=1", "a=1&utm.x=1", "a=1&ut+m=1", ""] {
        assert_ne!(key(other), key("a=1"), "{other}");
    }
}

#[test]
fn only_the_listed_pairs_of_a_query_count() {
    let of_list = specs(&one(r#"only_query = ["page", "q"]"#));
    let key = |query| Request { query: Some(query), ..json("{}") }.key(&of_list).expect("keyable");
    assert_eq!(key("utm=1&page=2&q=a&x"), key("q=a&page=2"));
    for other in ["page=2", "page=2&q=b", "page=2&q=a&q=a", "page=2&q", ""] {
        assert_ne!(key(other), key("page=2&q=a"), "{other}");
    }
    let none = specs(&one("only_query = []"));
    let key = |query| Request { query, ..json("{}") }.key(&none).expect("keyable");
    assert_eq!(key(Some("a=1&b")), key(None));
}

#[test]
fn a_get_and_a_head_share_a_key_under_http_and_other_methods_have_their_own() {
    let specs = specs(&one("methods = [\"GET\", \"HEAD\", \"QUERY\", \"POST\"]"));
    let key = |method| Request { method, ..json("{}") }.key(&specs).expect("keyable");
    assert_eq!(key("GET"), key("HEAD"));
    assert_ne!(key("GET"), key("QUERY"));
    assert_ne!(key("POST"), key("QUERY"));
}

#[test]
fn a_spec_begins_with_its_preset_and_says_so() {
    let find = |more: &str| KeySpec::clone(specs(&one(more)).find("POST", "/x").expect("one").spec);
    let plain = find("");
    assert_eq!((plain.name(), plain.version(), plain.body_form()), ("one", 1, BodyForm::Json));
    assert!(plain.is_declared() && !plain.is_mcp() && plain.model_route().is_none());
    assert_eq!(find("preset = \"http\"").body_form(), BodyForm::Json);
    assert!(find("preset = \"mcp\"").is_mcp());
    for route in keyspec::ModelRoute::ALL {
        let spec = find(&format!("preset = \"{}\"", route.name()));
        assert_eq!(spec.model_route(), Some(route));
        assert!(spec.left_out_by_preset().eq(KeySpec::preset(route).left_out_by_preset()));
        assert_eq!(spec.keyed_headers(), KeySpec::preset(route).keyed_headers());
    }
    for name in KeySpec::preset_names() {
        let preset = KeySpec::named_preset(name).expect("it has its name");
        assert_eq!((preset.name(), preset.version()), (name, PRESET_VERSION));
        assert!(!preset.is_declared());
    }
    assert!(KeySpec::named_preset("openai").is_none());
    assert_eq!(KeySpec::http().body_form(), BodyForm::ByType);
}

#[test]
fn the_model_is_read_from_the_member_that_the_spec_names() {
    let model = |more: &str, body: &str| {
        let specs = specs(&one(more));
        let found = specs.find("POST", "/x").expect("one");
        found.spec.read(body.as_bytes()).expect("keyable").facts.model
    };
    let body = r#"{"model":"m","engine":"e","n":1}"#;
    assert_eq!(model("", body).as_deref(), Some("m"));
    assert_eq!(model("model_member = \"engine\"", body).as_deref(), Some("e"));
    assert_eq!(model("model_member = \"n\"", body), None);
    assert_eq!(model("model_member = \"absent\"", body), None);
}

#[test]
fn a_spec_that_says_that_it_is_deterministic_is_reused_by_itself() {
    let decide = |more: &str, policy, declared| {
        let specs = specs(&one(more));
        let spec = specs.find("POST", "/x").expect("one").spec;
        spec.reusable("POST", &spec.read(b"{}").expect("keyable").facts, policy, declared)
    };
    use ReusePolicy::{Any, Declared, Deterministic};
    let exact = "deterministic = true";
    let sampled = "deterministic = true\npreset = \"openai.chat_completions\"";
    for (more, policy, expected) in [
        ("", Deterministic, Err(NotReused::SpecNotDeterministic)),
        ("deterministic = false", Deterministic, Err(NotReused::SpecNotDeterministic)),
        (exact, Deterministic, Ok(Because::SpecDeterministic)),
        (sampled, Deterministic, Ok(Because::SpecDeterministic)),
        (exact, Declared, Err(NotReused::NotDeclared)),
        ("", Any, Ok(Because::PolicyAny)),
    ] {
        assert_eq!(decide(more, policy, false), expected, "{more} under {policy}");
        assert_eq!(decide(more, policy, true), Ok(Because::Declared), "{more} under {policy}");
    }
}

#[test]
fn http_at_large_reuses_what_is_asked_for_by_a_safe_method_whatever_is_declared() {
    let http = KeySpec::http();
    let meaning = http.read_as(None, b"").expect("keyable");
    for (method, expected) in [
        ("GET", Ok(Because::SafeMethod)),
        ("HEAD", Ok(Because::SafeMethod)),
        ("QUERY", Ok(Because::SafeMethod)),
        ("POST", Err(NotReused::UnsafeMethod)),
        ("DELETE", Err(NotReused::UnsafeMethod)),
    ] {
        for policy in [ReusePolicy::Deterministic, ReusePolicy::Declared, ReusePolicy::Any] {
            for declared in [false, true] {
                assert_eq!(
                    http.reusable(method, &meaning.facts, policy, declared),
                    expected,
                    "{method}"
                );
            }
        }
    }
}

#[test]
fn specs_can_be_declared_without_a_file() {
    let declared = keyspec::DeclaredSpec {
        name: "one".into(),
        version: 1,
        path: "/x".into(),
        ignore_members: vec![Ignored::Because(Reason { path: "q".into(), why: "it is so".into() })],
        ..Default::default()
    };
    let specs = KeySpecs::declare(&[declared]).expect("fine");
    let written = one("ignore_members = [\"q\"]");
    assert_eq!(json("{}").key(&specs), json("{\"q\":1}").key(&super::specs(&written)));
}

#[test]
fn a_declared_spec_stands_as_it_is_whatever_is_done_to_presets() {
    let toml = one("ordered_members = [\"s\"]");
    let specs = specs(&toml);
    let spec = specs.declared().next().expect("there is one");
    let changed = KeySpec::clone(spec).ignoring(&["s".into()]).keeping(&["t".into()]);
    let body = br#"{"s":{"b":1,"a":2}}"#;
    assert_eq!(changed.canonical(None, body), spec.canonical(None, body));
}

#[test]
fn a_spec_of_gets_alone_has_no_body_unless_it_says_so() {
    let form = |more: &str| {
        let specs = specs(&one(more));
        specs.declared().next().expect("there is one").body_form()
    };
    assert_eq!(form("methods = [\"GET\"]"), BodyForm::None);
    assert_eq!(form("methods = [\"GET\"]\nbody = \"json\""), BodyForm::Json);
    assert_eq!(form("methods = [\"GET\", \"POST\"]"), BodyForm::Json);
}
