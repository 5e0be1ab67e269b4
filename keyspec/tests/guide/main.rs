//! docs/keys.md says what the code does: its tables, its examples, and what it prints.
//!
//! What it says of the server is tested with the server: in tests/key_specs.rs (what is declared,
//! MCP, the key of the command line in `Cache-Status`), tests/keys.rs (tenants, upstreams, mounts,
//! what a route ignores and keeps) and tests/reuse.rs (policies and declarations).

mod format;
mod preimage;
#[cfg(feature = "cli")]
mod program;
mod reuse;
mod tables;

use std::path::Path;

use keyspec::{KeySpec, KeySpecs, KeyedRequest, TenantScope};

/// The text of a file of this repository.
fn text(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).expect("a file of this repository")
}

fn guide() -> String {
    text("docs/keys.md")
}

/// What stands under a heading, up to the next one.
fn section(title: &str) -> String {
    let guide = guide();
    let mut is_in = false;
    let mut lines = Vec::new();
    let mut is_code = false;
    for line in guide.lines() {
        is_code ^= line.starts_with("```");
        if line.starts_with('#') && !is_code {
            is_in = line.trim_start_matches('#').trim() == title;
        } else if is_in {
            lines.push(line);
        }
    }
    assert!(!lines.is_empty(), "there is no section {title}");
    lines.join("\n")
}

/// The rows of the tables in a section, without their heads.
fn rows(title: &str) -> Vec<Vec<String>> {
    let section = section(title);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut is_body = false;
    for line in section.lines() {
        if !line.starts_with('|') {
            is_body = false;
        } else if line.starts_with("|---") {
            is_body = true;
        } else if is_body {
            let line = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
            let cells = line.expect("a row").split('|');
            rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
        }
    }
    assert!(!rows.is_empty(), "there is no table in {title}");
    rows
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The blocks of a language, without their fences.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let of = |piece: &str| piece.split("```").next().map(str::to_owned);
    text.split(&opening).skip(1).filter_map(of).collect()
}

fn spec(preset: &str) -> KeySpec {
    KeySpec::named_preset(preset).unwrap_or_else(|| panic!("{preset} is no preset"))
}

/// The specs of the file that the guide shows under this name.
fn specs(file: &str) -> KeySpecs {
    KeySpecs::from_toml(&shown(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The files that the guide shows: a name alone on a line, then the text.
fn files() -> Vec<(String, String)> {
    let guide = guide();
    let mut files = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix('`').and_then(|line| line.strip_suffix("`:"));
        let Some(name) = name else { continue };
        assert_eq!(lines.next(), Some(""), "{name}");
        assert!(lines.next().is_some_and(|line| line.starts_with("```")), "{name}");
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        files.push((name.to_owned(), format!("{}\n", text.join("\n"))));
    }
    files
}

fn shown(file: &str) -> String {
    let files = files();
    let found = files.iter().find(|(name, _)| name == file);
    found.unwrap_or_else(|| panic!("the guide shows no {file}")).1.clone()
}

/// The key of an anonymous POST of JSON.
fn key(spec: &KeySpec, body: &str) -> String {
    let keyed = KeyedRequest {
        tenant: &TenantScope::Anonymous,
        upstream: "https://api.example.com",
        method: "POST",
        path: "/v1/x",
        query: None,
        headers: &http::HeaderMap::new(),
    };
    let meaning = spec.read_as(Some("application/json"), body.as_bytes());
    let meaning = meaning.unwrap_or_else(|why| panic!("{body}: {why}"));
    spec.key(&keyed, &meaning).to_string()
}
