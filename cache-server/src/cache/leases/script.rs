//! What is asked of Redis about leases: four scripts, each of which sees and changes a lease at once.

use std::time::Duration;

use keyspec::Key;
use redis::{FromRedisValue, Value};

use super::WaitOutcome;
use crate::cache::tiers::TierError;
use crate::cache::tiers::redis::control::Control;

const CLAIM: &str = include_str!("claim.lua");
const RENEW: &str = include_str!("renew.lua");
const END: &str = include_str!("end.lua");
const DISOWN: &str = include_str!("disown.lua");

/// What Redis says to a claim. Times are its own.
#[derive(Debug)]
pub(super) enum Answer {
    Won { token: u64 },
    Stored { token: u64 },
    Held { token: u64, left: Duration },
}

/// The channel on which ends are told.
pub(super) fn channel(prefix: &str) -> String {
    format!("{prefix}:leases")
}

/// Claims a key; `known` is the token of an end that is known.
///
/// # Errors
/// Those of Redis, and an answer that is none of this script's.
pub(super) async fn claim(
    control: &Control,
    key: &Key,
    life: Duration,
    known: u64,
) -> Result<Answer, TierError> {
    let mut command = redis::cmd("EVAL");
    command.arg(CLAIM).arg(1).arg(control.lease_name(key));
    command.arg(control.process()).arg(millis(life)).arg(known);
    let answer = control.ask(key, &command).await?;
    answered(answer).ok_or_else(|| TierError::Read("an answer of another form".into()))
}

fn answered(answer: Value) -> Option<Answer> {
    let (came_to, token, left): (String, u64, i64) =
        FromRedisValue::from_redis_value(answer).ok()?;
    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
    match came_to.as_str() {
        "won" => Some(Answer::Won { token }),
        "stored" => Some(Answer::Stored { token }),
        "held" => Some(Answer::Held { token, left }),
        _ => None,
    }
}

/// Lets a lease live on; says whether it is the claimer's still.
///
/// # Errors
/// Those of Redis.
pub(super) async fn renew(
    control: &Control,
    key: &Key,
    claim: &str,
    life: Duration,
) -> Result<bool, TierError> {
    let mut command = redis::cmd("EVAL");
    command.arg(RENEW).arg(1).arg(control.lease_name(key)).arg(claim).arg(millis(life));
    Ok(control.ask(key, &command).await? == Value::Int(1))
}

/// Ends a lease; an end by an entry is remembered for a while.
///
/// # Errors
/// Those of Redis.
pub(super) async fn end(
    control: &Control,
    key: &Key,
    claim: &str,
    word: WaitOutcome,
    remember: Duration,
) -> Result<(), TierError> {
    let mut command = redis::cmd("EVAL");
    command.arg(END).arg(1).arg(control.lease_name(key)).arg(claim).arg(word.name());
    command.arg(millis(remember)).arg(channel(control.prefix())).arg(said(key, word));
    control.ask(key, &command).await.map(|_| ())
}

/// Lets go a lease that this process may have without knowing of it.
///
/// # Errors
/// Those of Redis.
pub(super) async fn disown(control: &Control, key: &Key) -> Result<(), TierError> {
    let mut command = redis::cmd("EVAL");
    command.arg(DISOWN).arg(1).arg(control.lease_name(key)).arg(control.process());
    command.arg(channel(control.prefix())).arg(said(key, WaitOutcome::Abandoned));
    control.ask(key, &command).await.map(|_| ())
}

/// What is said of a key on the channel.
fn said(key: &Key, word: WaitOutcome) -> String {
    format!("{} {key}", word.name())
}

/// What was said; nothing if it is none of ours.
pub(super) fn heard(said: &[u8]) -> Option<(Key, WaitOutcome)> {
    let (word, key) = str::from_utf8(said).ok()?.split_once(' ')?;
    Some((key.parse().ok()?, WaitOutcome::told(word)?))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let key = Key::from_bytes([7; 32]);
        for word in [WaitOutcome::Stored, WaitOutcome::Unshared, WaitOutcome::Abandoned] {
            assert_eq!(heard(said(&key, word).as_bytes()), Some((key, word)));
        }
    }

    #[test]
    fn what_others_say_there_is_passed_over() {
        for said in [&b""[..], b"stored", b"stored ks1_12", b"\xff \xff", b"nonsense ks1_"] {
            assert_eq!(heard(said), None);
        }
    }

    #[test]
    fn an_answer_of_another_form_is_none() {
        for answer in [Value::Nil, Value::Okay, Value::Array(vec![]), Value::Int(1)] {
            assert!(answered(answer).is_none());
        }
    }
}
