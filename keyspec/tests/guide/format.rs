//! The bytes: canonical forms, the preimage, its tags, and the worked example.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderValue};
use keyspec::{Credentials, TenantScope};
use serde_json::Value;

use crate::{blocks, code, guide, key, rows, section, shown, spec, specs, text};

/// `Name = number` in an enum of a source.
fn numbers<'s>(source: &'s str, opening: &str) -> BTreeMap<&'s str, u8> {
    let (_, body) = source.split_once(opening).expect("the enum");
    let (body, _) = body.split_once("\n}").expect("its end");
    let one = |line: &'s str| {
        let (name, number) = line.trim().trim_end_matches(',').split_once(" = ")?;
        Some((name, number.parse().ok()?))
    };
    body.lines().filter_map(one).collect()
}

#[test]
fn the_tags_are_those_of_the_code() {
    let source = text("keyspec/src/key.rs");
    let tags = numbers(&source, "enum Tag {").into_iter();
    let tags: BTreeMap<String, u8> = tags.map(|(name, tag)| (name.to_owned(), tag)).collect();
    assert_eq!(crate::preimage::tags(), tags);
}

/// The bytes and the lines of the worked example.
fn worked() -> (Vec<u8>, Vec<String>) {
    let block = blocks(&section("A worked example"), "text").remove(0);
    let mut bytes = Vec::new();
    for line in block.lines() {
        let hex: String = line.split("  #").next().unwrap_or("").split(' ').collect();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        bytes.extend((0..hex.len()).step_by(2).map(byte));
    }
    (bytes, block.lines().map(str::to_owned).collect())
}

#[test]
fn the_worked_preimage_has_the_key_that_is_stated_and_that_of_its_vector() {
    let (preimage, lines) = worked();
    let stated = format!("ks1_{}", blake3::hash(&preimage).to_hex());
    let section = section("A worked example");
    assert!(section.contains(&format!("`{stated}`")), "{stated}");
    assert!(section.contains(&format!("{} bytes", preimage.len())), "{}", preimage.len());
    let vectors: Value =
        serde_json::from_str(&text("keyspec/vectors/requests.json")).expect("JSON");
    let vectors = vectors["vectors"].as_array().expect("vectors");
    let plain = vectors.iter().find(|vector| vector["name"] == "plain").expect("plain");
    assert_eq!(plain["key"], stated.as_str());
    let canonical = "{\"messages\":[],\"model\":\"m\"}";
    assert!(section.contains(&format!("`{canonical}`")));
    let digest = blake3::hash(canonical.as_bytes()).to_hex();
    assert!(lines.last().is_some_and(|line| line.contains(digest.as_str())));
}

#[test]
fn each_line_of_the_worked_preimage_bears_the_tag_that_it_names() {
    let source = text("keyspec/src/key.rs");
    let tags = numbers(&source, "enum Tag {");
    for line in worked().1 {
        let (bytes, remark) = line.split_once("  # ").expect("a remark");
        let name = remark.split(':').next().unwrap_or(remark);
        let tag = u8::from_str_radix(&bytes[..2], 16).expect("hex");
        assert_eq!(tags.get(name), Some(&tag), "{line}");
    }
}

#[test]
fn the_rules_of_the_search_have_the_digest_that_explain_tells() {
    let rules = blocks(&section("The preimage"), "json").remove(0);
    let digest = blake3::hash(rules.trim_end().as_bytes()).to_hex();
    let told = format!("digest {}\n", &digest[..8]);
    let guide = guide();
    let rules_line = guide.split("declared rules").nth(1).expect("explain tells it");
    assert!(rules_line.trim_start().starts_with(&told), "{told}");
    assert!(shown("search.toml").contains("limit = 10"));
}

#[test]
fn the_digest_of_credentials_is_made_as_told() {
    let source = text("keyspec/src/tenant.rs");
    let context = source.split("const SCOPE_CONTEXT: &str = \"").nth(1).expect("the context");
    let context = context.split('"').next().expect("its end");
    let section = section("The preimage");
    assert!(section.contains(&format!("`{context}`")), "{context}");
    let rows = rows("The preimage");
    let sources: Vec<_> = rows.iter().filter(|row| row.len() == 3).collect();
    let told: Vec<(String, u8)> = sources
        .iter()
        .filter_map(|row| Some((code(&row[0]).first()?.to_lowercase(), row[1].parse().ok()?)))
        .collect();
    assert_eq!(told.len(), 14);
    let mut headers = HeaderMap::new();
    let mut bytes = Vec::new();
    for (name, number) in &told {
        let value = if name == "key" { "q%" } else { " v " };
        if name != "key" {
            let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            let value = if matches!(number, 1 | 10 | 13) { "bearer  v" } else { value };
            headers.insert(name, HeaderValue::from_static(value));
        }
        let value = value.trim().as_bytes();
        bytes.push(*number);
        bytes.extend((value.len() as u64).to_le_bytes());
        bytes.extend(value);
    }
    let expected = TenantScope::Credential(blake3::derive_key(context, &bytes));
    let scope = Credentials::from_request(&headers, Some("a=1&key=q%")).own_scope();
    assert!(scope == expected, "{scope:?}");
}

#[test]
fn numbers_have_the_forms_that_are_told() {
    let spec = spec("openai.chat_completions");
    let section = section("JSON");
    for (written, told) in
        [("9007199254740993", "9007199254740993E0"), ("1e400", "1E400"), ("0.70", "0.7")]
    {
        let body = format!("{{\"x\":{written}}}");
        let canonical = spec.canonical(None, body.as_bytes()).expect("keyable");
        assert_eq!(String::from_utf8(canonical).expect("text"), format!("{{\"x\":{told}}}"));
        assert!(
            section.contains(&format!("`{written}`")) && section.contains(&format!("`{told}`"))
        );
    }
}

#[test]
fn of_two_treatments_of_one_path_the_last_counts() {
    let toml = "version = 1\n[[key_spec]]\nname = 'a'\nversion = 1\npath = '/a'\n\
                preset = 'openai.embeddings'\nset_members = ['user']\n";
    let specs = keyspec::KeySpecs::from_toml(toml).expect("specs");
    let spec = specs.declared().next().expect("one");
    assert_ne!(key(spec, "{\"user\":[1]}"), key(spec, "{}"));
    assert_eq!(key(spec, "{\"user\":[1,2]}"), key(spec, "{\"user\":[2,1,1]}"));
}

#[test]
fn parts_have_the_line_that_is_told() {
    let specs = specs("audio.toml");
    let spec = specs.declared().next().expect("one");
    let body = "--b\r\nContent-Disposition: form-data; name=\"a b\"; filename=\"f\"\r\n\
                Content-Type: Audio/WAV; x=1\r\n\r\nRIFF\r\n--b--";
    let canonical = spec.canonical(Some("multipart/form-data; boundary=b"), body.as_bytes());
    let line = section("Parts");
    let line = blocks(&line, "text").remove(0);
    let expected = line
        .replace("FILENAME", "f")
        .replace("NAME", "a%20b")
        .replace("TYPE", "audio%2Fwav%3Bx%3D1")
        .replace("LENGTH", "4")
        .replace("DIGEST", blake3::hash(b"RIFF").to_hex().as_str());
    assert_eq!(String::from_utf8(canonical.expect("keyable")).expect("text"), expected);
}
