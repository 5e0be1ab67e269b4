//! What the program prints is what the guide shows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{blocks, code, files, guide, rows};

/// A folder with the files that the guide shows.
fn folder() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let shown = files();
    assert!(shown.len() > 8, "{} files", shown.len());
    for (name, text) in shown {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

/// Runs a line of shell: what it prints, errors among it, and its exit code.
fn run(folder: &Path, line: &str) -> (String, i32) {
    let program = Path::new(env!("CARGO_BIN_EXE_keyspec"));
    let beside = program.parent().expect("its folder").display();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{{ {line}; }} 2>&1")]).current_dir(folder).env("PATH", path);
    let output = shell.output().expect("sh runs");
    let printed = String::from_utf8(output.stdout).expect("text");
    (printed, output.status.code().expect("an exit code"))
}

#[test]
fn every_command_prints_what_stands_below_it() {
    let folder = folder();
    let mut count = 0;
    for block in blocks(&guide(), "console") {
        let mut last_code = 0;
        for command in block.split("$ ").skip(1) {
            let (line, expected) = command.split_once('\n').expect("a line");
            if line == "echo $?" {
                assert_eq!(expected.trim(), last_code.to_string(), "{block}");
                continue;
            }
            let (printed, code) = run(folder.path(), line);
            assert_eq!(printed.trim_end(), expected.trim_end(), "{line}");
            last_code = code;
            count += 1;
        }
    }
    assert!(count > 15, "{count} commands");
}

#[test]
fn the_exit_codes_are_those_that_are_told() {
    let folder = folder();
    let code_of = |line: &str| run(folder.path(), line).1;
    let seen = BTreeMap::from([
        (code_of("keyspec key chat.json"), "key"),
        (code_of("keyspec diff --exit-code chat.json sampled.json"), "diff"),
        (code_of("keyspec key --no-such-flag"), "usage"),
        (code_of("keyspec key sampled.json"), "no key"),
    ]);
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(code_of("keyspec check-spec chat.json"), 2);
    assert_eq!(code_of("echo '[' | keyspec diff chat.json -"), 3);
    let rows = rows("The program `keyspec`");
    let told: Vec<i32> = rows.iter().filter_map(|row| row[0].parse().ok()).collect();
    assert_eq!(told, [0, 1, 2, 3]);
}

#[test]
fn every_flag_that_tells_it_of_the_request_is_one() {
    let (help, _) = run(folder().path(), "keyspec help key");
    for row in &rows("The same key as in `Cache-Status`") {
        for told in code(&row[1]).into_iter().filter(|told| told.starts_with("--")) {
            let flag = told.split(' ').next().expect("a flag");
            assert!(help.contains(flag), "{flag}");
        }
    }
}
