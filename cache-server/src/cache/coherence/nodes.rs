//! The servers that share a Redis: each says now and then that it is there, and in which version.

use redis::FromRedisValue;
use serde::Serialize;

use super::exchange::{SLOT, TAG, malformed};
use crate::cache::tiers::TierError;
use crate::cache::tiers::redis::control::Control;

const SCRIPT: &str = include_str!("nodes.lua");
/// For how long a server is remembered that says nothing.
const REMEMBERED_S: u64 = 10;
/// Servers that are told of.
const NODES_MAX: usize = 1_000;

/// A server, as the others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// What it calls itself.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Seconds since it was seen.
    pub seen_age_s: u64,
}

/// Says that this process is there, and gives all that are.
///
/// # Errors
/// Those of Redis, and an answer that is none of the script's.
pub(super) async fn exchange(control: &Control, process: &str) -> Result<Vec<Node>, TierError> {
    let mut command = redis::cmd("EVAL");
    command.arg(SCRIPT).arg(1).arg(format!("{}:{TAG}:nodes", control.prefix()));
    command.arg(process).arg(REMEMBERED_S).arg(NODES_MAX);
    let answer = control.call(SLOT, &command).await?;
    let told: Option<(u64, Vec<(String, f64)>)> = FromRedisValue::from_redis_value(answer).ok();
    let (now, seen) = told.ok_or_else(malformed)?;
    Ok(seen.iter().filter_map(|(process, seen)| node(process, *seen, now)).collect())
}

/// What a process says of itself: its name, its version, and what tells it from all others.
pub(super) fn process(name: &str) -> String {
    format!("{name}|{}|{:016x}", env!("CARGO_PKG_VERSION"), fastrand::u64(..))
}

fn node(process: &str, seen: f64, now: u64) -> Option<Node> {
    let mut parts = process.split('|');
    let (name, version) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of now")]
    let seen_age_s = now.saturating_sub(seen as u64);
    Some(Node { name, version, seen_age_s })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_its_name_and_version_and_is_like_no_other() {
        assert_ne!(process("a"), process("a"));
        let node = node(&process("a"), 7.0, 9).unwrap();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        assert_eq!(node, Node { name: "a".into(), version, seen_age_s: 2 });
    }
}
