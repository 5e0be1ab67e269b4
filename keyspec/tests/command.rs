//! The program: what it prints, and how it ends.
#![cfg(feature = "cli")]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const CHAT: &str =
    r#"{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}],"temperature":0}"#;
/// The same, spelled another way.
const CHAT_AGAIN: &str = "{ \"temperature\": 0.0,\n \"messages\": [{\"content\":\"H\\u0069\",\"role\":\"user\"}], \"model\":\"gpt-4o\" }";

fn keyspec(arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyspec"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // It may end without reading.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    child.wait_with_output().expect("the program ends")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// The key of a body, printed alone on a line.
fn key(arguments: &[&str], body: &str) -> String {
    let output = keyspec(&[&["key"], arguments, &["-"]].concat(), body);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let printed = out(&output);
    let key = printed.strip_suffix('\n').expect("a line");
    assert!(key.parse::<keyspec::Key>().is_ok() && err(&output).is_empty(), "{printed}");
    key.to_owned()
}

struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(TempDir::new().expect("a folder"))
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }
}

#[test]
fn a_key_stands_alone_on_a_line_and_is_one_for_one_meaning() {
    assert_eq!(key(&[], CHAT), key(&[], CHAT_AGAIN));
    assert_ne!(key(&[], CHAT), key(&[], &CHAT.replace("Hi", "Ho")));
    let files = Files::new();
    let file = files.write("a.json", CHAT);
    assert_eq!(out(&keyspec(&["key", &file], "")).trim_end(), key(&[], CHAT));
}

#[test]
fn whatever_is_keyed_can_be_said() {
    let plain = key(&[], CHAT);
    for arguments in [
        &["--path", "/v2/chat/completions"][..],
        &["--path", "/v1/chat/completions?api-version=1"],
        &["--upstream", "https://example.com"],
        &["--tenant", "search-team"],
        &["--header", "authorization: Bearer k"],
        &["--header", "openai-beta: x"],
    ] {
        assert_ne!(key(arguments, CHAT), plain, "{arguments:?}");
    }
    for arguments in [
        &["--header", "user-agent: x"][..],
        &["--upstream", "https://api.openai.com/"],
        &["--path", "/x/../v1/chat/completions"],
        &["--reuse", "any"],
    ] {
        assert_eq!(key(arguments, CHAT), plain, "{arguments:?}");
    }
    let named = key(&["--tenant", "t"], CHAT);
    let with_credential = ["--tenant", "t", "--header", "authorization: Bearer k"];
    assert_eq!(key(&with_credential, CHAT), named, "a name stands in for the credential");
}

#[test]
fn what_may_not_be_cached_or_has_no_key_ends_with_3_and_says_why() {
    let sampled = CHAT.replace(",\"temperature\":0", "");
    for (arguments, body, reason) in [
        (&[][..], sampled.as_str(), "not-deterministic"),
        (&[], "{\"a\":1,\"a\":2}", "duplicate-member"),
        (&[], "", "empty-body"),
        (&["--reuse", "declared"], CHAT, "not-declared"),
        (&["--header", "cache-server-reuse: no"], CHAT, "reuse-no"),
        (&["--path", "/anything"], "{}", "unsafe-method"),
    ] {
        let output = keyspec(&[&["key"], arguments, &["-"]].concat(), body);
        assert_eq!((output.status.code(), out(&output).as_str()), (Some(3), ""), "{reason}");
        assert!(err(&output).contains(reason), "{}", err(&output));
    }
    assert!(!key(&["--header", "cache-server-reuse: yes"], &sampled).is_empty());
    assert!(!key(&["--reuse", "any"], &sampled).is_empty());
}

#[test]
fn force_prints_the_key_of_what_is_keyable_and_of_nothing_else() {
    let sampled = CHAT.replace(",\"temperature\":0", "");
    assert_eq!(key(&["--force"], &sampled), key(&["--reuse", "any"], &sampled));
    assert_eq!(keyspec(&["key", "--force", "-"], "[").status.code(), Some(3));
}

#[test]
fn wrong_usage_ends_with_2() {
    let files = Files::new();
    let bad_spec =
        files.write("bad.toml", "version = 1\n[[key_spec]]\nname = 'a'\nversion = 1\npath = 'x'");
    for arguments in [
        &["key", "--nonsense"][..],
        &["key", "/no/such/file"],
        &["key", "--path", "v1", "-"],
        &["key", "--header", "nonsense", "-"],
        &["key", "--upstream", "nonsense", "-"],
        &["key", "--reuse", "sometimes", "-"],
        &["key", "--spec", &bad_spec, "-"],
        &["check-spec", &bad_spec],
        &["diff", "-"],
        &["vectors", "/no/such/file"],
        &[],
    ] {
        let output = keyspec(arguments, "{}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
    }
    let refused = err(&keyspec(&["check-spec", &bad_spec], ""));
    assert!(refused.contains("key_spec[0].path: x"), "{refused}");
    let secret = err(&keyspec(&["key", "--header", "Bearer-sk-secret", "-"], ""));
    assert!(!secret.contains("sk-secret"), "{secret}");
}

#[test]
fn a_spec_of_ones_own_reads_its_requests() {
    let files = Files::new();
    let spec = files.write(
        "specs.toml",
        "version = 1\n[[key_spec]]\nname = 'acme.search'\nversion = 1\npath = '/search'\n\
         deterministic = true\nset_members = ['tags']\n",
    );
    let arguments = ["--spec", &spec, "--path", "/search"];
    assert_eq!(
        key(&arguments, "{\"tags\":[\"a\",\"b\"]}"),
        key(&arguments, "{\"tags\":[\"b\",\"a\",\"a\"]}")
    );
    let checked = keyspec(&["check-spec", &spec], "");
    assert!(out(&checked).contains("acme.search version 1: POST /search"), "{}", out(&checked));
    let told = out(&keyspec(&["check-spec", "--json", &spec], ""));
    assert_eq!(
        serde_json::from_str::<Value>(&told).expect("JSON")["overlaps"],
        serde_json::json!([])
    );
}

#[test]
fn a_diff_says_in_words_what_keeps_two_apart_or_joins_them() {
    let files = Files::new();
    let one = files.write("a.json", CHAT);
    let other = files.write("b.json", &CHAT.replace("Hi", "It is 2026-07-28T10:00:01Z"));
    let later = files.write("c.json", &CHAT.replace("Hi", "It is 2026-07-28T10:00:02Z"));
    let again = files.write("d.json", CHAT_AGAIN);
    let told = out(&keyspec(&["diff", &other, &later], ""));
    for part in ["different keys", "messages[0].content", "which look like a timestamp"] {
        assert!(told.contains(part), "{told}");
    }
    let told = out(&keyspec(&["diff", &one, &again], ""));
    assert!(told.contains("one key") && told.contains("white space"), "{told}");

    let code = |arguments: &[&str]| keyspec(&[&["diff"], arguments].concat(), "").status.code();
    assert_eq!(code(&[&one, &other]), Some(0));
    assert_eq!(code(&["--exit-code", &one, &other]), Some(1));
    assert_eq!(code(&["--exit-code", &one, &again]), Some(0));
    let broken = files.write("e.json", "{");
    assert_eq!(code(&[&one, &broken]), Some(3));
}

#[test]
fn every_answer_is_also_there_as_json_and_shows_no_secret() {
    let files = Files::new();
    let one =
        files.write("a.json", &CHAT.replace("Hi", "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789"));
    let other = files.write("b.json", CHAT);
    let secret = [
        "--header",
        "authorization: Bearer sk-hunter2",
        "--path",
        "/v1/chat/completions?key=hunter3",
    ];
    for arguments in [
        &["key", "--json", &one][..],
        &["explain", "--json", &one],
        &["explain", &one],
        &["diff", "--json", &one, &other],
        &["diff", &one, &other],
    ] {
        let output = keyspec(&[arguments, &secret].concat(), "");
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let told = out(&output);
        for secret in ["hunter2", "hunter3", "abcdefghijklmnopqrstuvwxyz"] {
            assert!(!told.contains(secret), "{arguments:?}: {told}");
        }
        if arguments.contains(&"--json") {
            assert!(serde_json::from_str::<Value>(&told).is_ok(), "{told}");
        }
    }
}

#[test]
fn the_vectors_hold_and_a_wrong_one_is_named() {
    let output = keyspec(&["vectors"], "");
    assert_eq!(output.status.code(), Some(0), "{}", out(&output));
    let count: usize = out(&output)
        .lines()
        .map(|line| {
            line.rsplit(' ').nth(1).and_then(|count| count.parse::<usize>().ok()).unwrap_or(0)
        })
        .sum();
    assert!(count > 300, "{count} vectors");

    let files = Files::new();
    let printed = out(&keyspec(&["vectors", "--print"], ""));
    let mut groups: Vec<Value> = serde_json::from_str(&printed).expect("JSON");
    groups[0]["vectors"][3]["canonical"] = "00".into();
    let name = groups[0]["vectors"][3]["name"].as_str().expect("a name").to_owned();
    let file = files.write("wrong.json", &groups[0].to_string());
    let output = keyspec(&["vectors", &file], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains(&name), "{}", out(&output));
    assert_eq!(keyspec(&["vectors", "--fill", &file], "").status.code(), Some(0));
    assert_eq!(keyspec(&["vectors", &file], "").status.code(), Some(0));
}
