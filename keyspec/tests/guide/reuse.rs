//! The tables on which calls are reused, and which never are.

use std::collections::BTreeSet;

use keyspec::{Because, KeySpec, KeySpecs, NotReused, ReusePolicy};

use crate::{code, rows, spec, text};

fn decide(spec: &KeySpec, method: &str, body: &str, policy: ReusePolicy, declared: bool) -> String {
    let meaning = spec.read(body.as_bytes()).unwrap_or_else(|why| panic!("{body}: {why}"));
    match spec.reusable(method, &meaning.facts, policy, declared) {
        Ok(because) => format!("yes: `{}`", because.code()),
        Err(why) => format!("no: `{}`", why.code()),
    }
}

#[test]
fn each_policy_reuses_what_the_table_says_and_all_of_it_where_declared() {
    for row in &rows("Which calls are reused") {
        let (spec, body) = (spec(code(&row[1])[0]), code(&row[2])[0]);
        let policies = [ReusePolicy::Deterministic, ReusePolicy::Declared, ReusePolicy::Any];
        for (policy, told) in policies.into_iter().zip(&row[3..]) {
            assert_eq!(&decide(&spec, "POST", body, policy, false), told, "{body} {policy}");
            let declared = decide(&spec, "POST", body, policy, true);
            assert_eq!(declared, format!("yes: `{}`", Because::Declared.code()), "{body}");
        }
    }
}

#[test]
fn no_temperature_is_not_zero_and_geminis_stands_in_its_config() {
    let gemini = spec("gemini.generate_content");
    let by_itself = |body| decide(&gemini, "POST", body, ReusePolicy::Deterministic, false);
    assert_eq!(by_itself(r#"{"generationConfig":{"temperature":0}}"#), "yes: `temperature-zero`");
    assert_eq!(by_itself(r#"{"temperature":0}"#), "no: `not-deterministic`");
}

#[test]
fn a_spec_of_ones_own_is_reused_as_it_says() {
    let declared = |more: &str| {
        let toml =
            format!("version = 1\n[[key_spec]]\nname = 'a'\nversion = 1\npath = '/a'\n{more}");
        let specs = KeySpecs::from_toml(&toml).expect("specs");
        KeySpec::clone(specs.declared().next().expect("one"))
    };
    let by = |spec: &KeySpec, policy, said| decide(spec, "POST", "{}", policy, said);
    let sure = declared("deterministic = true");
    assert_eq!(by(&sure, ReusePolicy::Deterministic, false), "yes: `spec-deterministic`");
    let unsure = declared("");
    assert_eq!(by(&unsure, ReusePolicy::Deterministic, false), "no: `spec-not-deterministic`");
    assert_eq!(by(&unsure, ReusePolicy::Deterministic, true), "yes: `declared`");
    assert_eq!(by(&unsure, ReusePolicy::Any, false), "yes: `policy-any`");
    let tools = declared("preset = 'mcp'\ntools = ['t']");
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"t"}}"#;
    for policy in [ReusePolicy::Deterministic, ReusePolicy::Any] {
        assert_eq!(decide(&tools, "POST", call, policy, false), "yes: `tool-listed`");
    }
}

#[test]
fn under_bare_http_the_method_alone_decides() {
    let http = KeySpec::http();
    for policy in [ReusePolicy::Deterministic, ReusePolicy::Declared, ReusePolicy::Any] {
        for declared in [false, true] {
            for method in ["GET", "HEAD", "QUERY"] {
                assert_eq!(decide(&http, method, "", policy, declared), "yes: `safe-method`");
            }
            assert_eq!(decide(&http, "POST", "", policy, declared), "no: `unsafe-method`");
        }
    }
}

#[test]
fn what_is_never_reused_is_not_even_where_declared() {
    for row in &rows("Which never are") {
        for preset in code(&row[1]) {
            for body in code(&row[2]) {
                for policy in [ReusePolicy::Deterministic, ReusePolicy::Any] {
                    let told = decide(&spec(preset), "POST", body, policy, true);
                    assert_eq!(told, format!("no: {}", row[0]), "{preset} {body}");
                }
            }
        }
    }
}

#[test]
fn every_reason_for_reusing_nothing_is_told() {
    let source = text("keyspec/src/never.rs");
    let (_, reasons) = source.split_once("pub enum NeverReason {").expect("the reasons");
    let (reasons, _) = reasons.split_once("\n}").expect("their end");
    let count = reasons.lines().filter(|line| line.ends_with(',') && !line.contains("///")).count();
    let rows = rows("Which never are");
    let told: BTreeSet<&str> = rows.iter().map(|row| code(&row[0])[0]).collect();
    assert_eq!(told.len(), count);
    assert!(told.contains(NotReused::Never(keyspec::NeverReason::NoCall).code()));
}

#[test]
fn tools_that_run_at_the_caller_hinder_nothing() {
    let openai = spec("openai.responses");
    let anthropic = spec("anthropic.messages");
    let gemini = spec("gemini.generate_content");
    let reused = |spec: &KeySpec, tool: &str| {
        let body = format!("{{\"tools\":[{tool}]}}");
        assert_eq!(
            decide(spec, "POST", &body, ReusePolicy::Any, true),
            "yes: `declared`",
            "{tool}"
        );
    };
    reused(&openai, r#"{"type":"function"}"#);
    for tool in ["bash_20250124", "text_editor_20250728", "computer_20250124", "memory_20250818"] {
        reused(&anthropic, &format!("{{\"type\":\"{tool}\"}}"));
    }
    reused(&gemini, r#"{"functionDeclarations":[]}"#);
    reused(&gemini, r#"{"computerUse":{}}"#);
}
