//! Taste, where it can be a test: imports run one way, and every file says what it is for.

use std::fs;
use std::path::{Path, PathBuf};

/// The server's modules, each allowed to import itself and those before it.
const LAYERS: [&str; 11] = [
    "clock",
    "cache",
    "telemetry",
    "upstream",
    "config",
    "app",
    "request",
    "api",
    "routes",
    "server",
    "simulation",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Every Rust file below `folder`, build output left out.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn imports_run_one_way() {
    let root = workspace().join("cache-server/src");
    let mut checked = 0;
    for path in sources(&root) {
        let inside = path.strip_prefix(&root).expect("inside").to_owned();
        let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs");
        let Some(own) = LAYERS.iter().position(|layer| *layer == module) else { continue };
        let text = fs::read_to_string(&path).expect("a source");
        // Tests may reach anywhere.
        let code = text.split("#[cfg(test)]\nmod tests").next().expect("some code");
        for (number, line) in code.lines().enumerate() {
            let Some((_, import)) = line.split_once("crate::") else { continue };
            let name =
                import.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
            let Some(imported) = LAYERS.iter().position(|layer| *layer == name) else { continue };
            let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
            assert!(
                imported <= own || is_test,
                "{}:{}: {module} may not import {name}",
                inside.display(),
                number + 1
            );
            checked += 1;
        }
    }
    assert!(checked > 50, "only {checked} imports were found: has the layout moved?");
}

#[test]
fn every_file_says_what_it_is_for() {
    let sources = sources(&workspace());
    assert!(sources.len() > 50, "only {} sources were found", sources.len());
    for path in sources {
        let text = fs::read_to_string(&path).expect("a source");
        assert!(text.starts_with("//! "), "{} does not open with its purpose", path.display());
    }
}

#[test]
fn dependencies_keep_off_the_features_that_would_change_bytes() {
    let root = workspace();
    let mut manifests = vec![root.join("Cargo.toml")];
    for member in ["keyspec", "cache-server", "warmers", "tests", "benches"] {
        manifests.push(root.join(member).join("Cargo.toml"));
    }
    for manifest in manifests {
        let text = fs::read_to_string(&manifest).expect("a manifest");
        let code = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        for line in code {
            for feature in ["arbitrary_precision", "preserve_order", "gzip", "brotli", "zstd"] {
                let quoted = format!("\"{feature}\"");
                assert!(!line.contains(&quoted), "{}: {line}", manifest.display());
            }
        }
    }
}

/// Rows in each table of docs/http.md, one a rule. One that is taken out needs a reason.
const RULES_MIN: [(&str, usize); 7] = [
    ("RFC 9110", 34),
    ("RFC 9111", 87),
    ("RFC 5861", 7),
    ("RFC 9211", 20),
    ("RFC 9213", 14),
    ("RFC 9875", 9),
    ("RFC 10008", 12),
];

#[test]
fn every_rule_in_the_guide_is_proved_by_a_test_that_exists() {
    let root = workspace();
    let guide = fs::read_to_string(root.join("docs/http.md")).expect("the guide");
    let all: String = sources(&root)
        .iter()
        .map(|path| fs::read_to_string(path).expect("a source"))
        .filter(|source| source.contains("#[test]") || source.contains("#[tokio::test]"))
        .collect();
    for (name, rows_min) in RULES_MIN {
        let rows = proved_rules(&guide, name, &all);
        assert!(rows >= rows_min, "only {rows} rules are left in the table of {name}");
    }
}

/// Checks the table of one document, and counts its rows.
fn proved_rules(guide: &str, name: &str, all: &str) -> usize {
    let behind = guide.split(&format!("## {name} line by line\n")).nth(1).expect("the table");
    let table = behind.split("\n## ").next().expect("its text");
    let mut rows = 0;
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| Section |");
    for row in table.lines().filter(is_row) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [section, rule, choice, proofs] = &cells[..] else { panic!("not four cells: {row}") };
        assert!([section, rule, choice].iter().all(|cell| !cell.is_empty()), "{row}");
        let named: Vec<_> = proofs.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test proves this: {row}");
        for name in named {
            assert!(all.contains(&format!("fn {name}(")), "{section}: there is no test {name}");
        }
        rows += 1;
    }
    rows
}

/// The quoted words behind `mark` in a source.
fn words_behind<'s>(source: &'s str, mark: &str) -> Vec<&'s str> {
    let quoted = |rest: &'s str| rest.split('"').next().unwrap_or("");
    source.split(mark).skip(1).map(quoted).collect()
}

#[test]
fn every_reason_for_not_caching_is_explained_in_the_guide() {
    let root = workspace();
    let read = |path: &str| fs::read_to_string(root.join(path)).expect("a file");
    let guide = read("docs/caching.md");
    let reuse = read("keyspec/src/reuse.rs");
    let not_reused = reuse.split("impl NotReused").nth(1).expect("its codes");
    let key = read("cache-server/src/request/key.rs");
    let store = read("cache-server/src/request/store.rs");
    let mut codes = words_behind(not_reused, " => \"");
    let not_keyable = read("keyspec/src/not_keyable.rs");
    codes.extend(words_behind(&not_keyable, " => \""));
    let answer = read("cache-server/src/upstream/answer/mod.rs");
    codes.extend(words_behind(&answer, " => \""));
    codes.extend(words_behind(&key, "Cause::ours(\""));
    codes.extend(words_behind(&key, "Cause::callers(\""));
    codes.extend(words_behind(&store, "Err(\""));
    let fetch = read("cache-server/src/request/fetch.rs");
    codes.extend(words_behind(&fetch, "Err(\""));
    assert!(codes.len() > 40, "only {} codes were found", codes.len());
    for code in codes {
        assert!(guide.contains(&format!("`{code}`")), "docs/caching.md does not explain {code}");
    }
}
