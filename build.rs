//! Tells the binaries which commit they are built from, as `CACHE_SERVER_COMMIT` at compile time.
//!
//! A variable of that name around the build decides, for builds without a checkout; else git is
//! asked; else it is `unknown`. It is the build script of every package with a `--version`.

use std::path::Path;
use std::process::Command;

const VARIABLE: &str = "CACHE_SERVER_COMMIT";

fn main() {
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let commit = given().or_else(asked_of_git).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env={VARIABLE}={commit}");
}

/// What the environment says. Set to nothing is not set: so container builds pass what they
/// were not given.
fn given() -> Option<String> {
    let commit = std::env::var(VARIABLE).ok()?;
    let is_word = |commit: &str| commit.bytes().all(|byte| byte.is_ascii_alphanumeric());
    assert!(is_word(&commit), "{VARIABLE} must be letters and digits");
    (!commit.is_empty()).then_some(commit)
}

fn asked_of_git() -> Option<String> {
    // Sources that lie in somebody else's checkout have no commit of their own.
    if git(&["rev-parse", "--show-cdup"])? != "../" {
        return None;
    }
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    let moves_with_a_commit = ["HEAD", "logs/HEAD", "packed-refs"].into_iter();
    for file in moves_with_a_commit.chain(branch.as_deref()) {
        // In a worktree they lie in several places, and git knows which.
        let path = git(&["rev-parse", "--git-path", file])?;
        // Watching a file that is not there would run this in every build.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// What git says, if there is a git, a checkout, and an answer.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}
