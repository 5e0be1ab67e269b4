//! What presets know of requests: each documented top-level member has a decision, and it is
//! what the canonical form does.

mod payload;

use keyspec::{KeySpec, Known};
use payload::{Tree, payloads};

fn spec(name: &str) -> KeySpec {
    KeySpec::named_preset(name).unwrap_or_else(|| panic!("{name} is a preset"))
}

fn canonical(spec: &KeySpec, body: &Tree) -> Vec<u8> {
    spec.canonical(None, body.to_string().as_bytes()).expect("keyable")
}

fn without(body: &Tree, name: &str) -> Tree {
    let Tree::Object(members) = body else { panic!("a request is an object") };
    Tree::Object(members.iter().filter(|(other, _)| other != name).cloned().collect())
}

fn names(body: &Tree) -> impl Iterator<Item = &str> {
    let Tree::Object(members) = body else { panic!("a request is an object") };
    members.iter().map(|(name, _)| name.as_str())
}

/// A member that is new here is new to a table of `src/shapes.rs`: decide there whether the
/// answer depends on it.
#[test]
fn every_member_of_every_payload_has_a_decision_and_the_canonical_form_agrees() {
    for payload in payloads() {
        let spec = spec(&payload.spec);
        for name in names(&payload.body) {
            let known = spec.known_member(name);
            let file = &payload.file;
            let is_left_out =
                canonical(&spec, &payload.body) == canonical(&spec, &without(&payload.body, name));
            match known {
                None => panic!("{file}: {name} has no decision in src/shapes.rs"),
                Some(Known::Keyed) => assert!(!is_left_out, "{file}: {name} should be keyed"),
                Some(Known::LeftOut(_)) => assert!(is_left_out, "{file}: {name} should not be"),
            }
        }
    }
}

#[test]
fn every_known_member_is_in_a_payload_so_that_it_is_tested() {
    let payloads = payloads();
    for name in KeySpec::preset_names() {
        for (member, _) in spec(name).known_members() {
            // A stream takes the same request, so what is spelled otherwise is there once.
            let reads = match name {
                "gemini.stream_generate_content" => "gemini.generate_content",
                other => other,
            };
            let mut of_spec = payloads.iter().filter(|payload| payload.spec == reads);
            let found = of_spec.any(|payload| names(&payload.body).any(|name| name == member));
            assert!(found, "{name}: no payload has {member}");
        }
    }
}

#[test]
fn every_preset_but_http_knows_members_each_once_and_says_why_it_leaves_one_out() {
    for name in KeySpec::preset_names() {
        let spec = spec(name);
        let known: Vec<_> = spec.known_members().collect();
        assert_eq!(known.is_empty(), name == "http", "{name}");
        for (index, (member, decision)) in known.iter().enumerate() {
            assert!(known[..index].iter().all(|(other, _)| other != member), "{name}: {member}");
            assert_eq!(spec.known_member(member), Some(*decision), "{name}: {member}");
            if let Known::LeftOut(why) = decision {
                let said = spec.left_out_by_preset().find(|left_out| left_out.path == *member);
                assert_eq!(said.map(|left_out| left_out.why), Some(*why), "{name}: {member}");
            }
        }
    }
}

#[test]
fn a_member_that_nobody_has_heard_of_is_unknown_and_keyed() {
    for name in KeySpec::preset_names() {
        let spec = spec(name);
        assert_eq!(spec.known_member("a_member_of_the_future"), None, "{name}");
        let body = br#"{"a_member_of_the_future":1}"#;
        let form = spec.canonical(Some("application/json"), body).expect("keyable");
        assert_eq!(form, body, "{name}");
    }
}

#[test]
fn changes_of_a_preset_do_not_change_what_it_knows() {
    let chat = spec("openai.chat_completions");
    let changed = chat.clone().keeping(&["user".into()]).ignoring(&["seed".into(), "x".into()]);
    assert!(chat.known_members().eq(changed.known_members()));
    assert_eq!(changed.known_member("x"), None);
}
