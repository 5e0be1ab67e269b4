//! Overrides among servers: a hash in Redis of all that any of them knows.

use std::collections::HashMap;
use std::sync::Arc;

use redis::{FromRedisValue, Value};

use super::Shares;
use super::exchange::{SLOT, TAG, channel, malformed};
use crate::cache::overrides::{Override, Overrides, SharedOverride};
use crate::cache::tiers::TierError;
use crate::clock::Timestamp;

const SCRIPT: &str = include_str!("overrides.lua");
/// Overrides in the hash, those included that were let go before their time.
const KEPT_MAX: usize = 2_000;
/// Overrides that are told at once.
const TOLD_MAX: usize = 100;

/// What was last read of the hash.
#[derive(Debug, Default)]
pub(super) struct LeverView {
    version: String,
    /// What Redis has, by number, and whether it was let go.
    known: HashMap<u64, bool>,
}

/// Tells Redis what it lacks, and takes over what this server lacks.
///
/// # Errors
/// Those of Redis, and an answer that is none of the script's.
pub(super) async fn exchange(
    shares: &Shares,
    view: &mut LeverView,
    now: Timestamp,
) -> Result<(), TierError> {
    let Shares { control, overrides, time, .. } = shares;
    let lacks = |told: &SharedOverride| match view.known.get(&told.id()) {
        None => true,
        Some(was_let_go) => !was_let_go && matches!(told, SharedOverride::LetGo { .. }),
    };
    let lacking: Vec<_> = overrides.known().into_iter().filter(lacks).take(TOLD_MAX).collect();
    let prefix = control.prefix();
    let mut command = redis::cmd("EVAL");
    command.arg(SCRIPT).arg(1).arg(format!("{prefix}:{TAG}:overrides"));
    command.arg(&view.version).arg(format!("{:032x}", fastrand::u128(..))).arg(time.shared(now).0);
    command.arg(KEPT_MAX).arg(channel(prefix));
    for told in &lacking {
        let told = told.clone().by_clock(|own| time.shared(own));
        command.arg(told.id()).arg(text(&told));
    }
    let answer = control.call(SLOT, &command).await?;
    let Some((version, all)) = read(answer).ok_or_else(malformed)? else { return Ok(()) };
    let is_let_go = |told: &SharedOverride| matches!(told, SharedOverride::LetGo { .. });
    view.known = all.iter().map(|told| (told.id(), is_let_go(told))).collect();
    view.version = version;
    let all = all.into_iter().map(|told| told.by_clock(|shared| time.own(shared))).collect();
    take_over(overrides, all).await;
    Ok(())
}

/// It waits for the disk, and the task that calls it must not.
async fn take_over(overrides: &Arc<Overrides>, all: Vec<SharedOverride>) {
    let overrides = Arc::clone(overrides);
    match tokio::task::spawn_blocking(move || overrides.take_over(&all)).await {
        Ok(Ok(true)) => tracing::info!("overrides of other servers were taken over"),
        Ok(Ok(false)) | Err(_) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "overrides of other servers are in force, and were not written");
        }
    }
}

fn text(told: &SharedOverride) -> String {
    let what = match told {
        SharedOverride::Pulled(pulled) => serde_json::to_string(pulled).unwrap_or_default(),
        SharedOverride::LetGo { .. } => String::new(),
    };
    format!("{}|{what}", told.until().0)
}

/// The version and all overrides, or nothing more if the version is known. What is no override is passed
/// over: whoever writes there may write anything.
fn read(answer: Value) -> Option<Option<(String, Vec<SharedOverride>)>> {
    let mut parts = Vec::<Value>::from_redis_value(answer).ok()?.into_iter();
    let version = String::from_redis_value(parts.next()?).ok()?;
    let Some(all) = parts.next() else { return Some(None) };
    let all: HashMap<String, String> = FromRedisValue::from_redis_value(all).ok()?;
    let mut told: Vec<_> = all.iter().filter_map(|(id, what)| parse(id, what)).collect();
    // Where there are more than may be, all servers keep the same.
    told.sort_unstable_by_key(SharedOverride::id);
    Some(Some((version, told)))
}

fn parse(id: &str, what: &str) -> Option<SharedOverride> {
    let id: u64 = id.parse().ok()?;
    let (until, what) = what.split_once('|')?;
    if what.is_empty() {
        return Some(SharedOverride::LetGo { id, until: Timestamp(until.parse().ok()?) });
    }
    let pulled: Override = serde_json::from_str(what).ok()?;
    (pulled.id == id).then(|| SharedOverride::Pulled(Box::new(pulled)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::overrides::Lever;

    fn pulled() -> SharedOverride {
        SharedOverride::Pulled(Box::new(Override {
            id: 1_800_000_000_000_001,
            lever: Lever::Lifetimes(2.5),
            selects: Default::default(),
            since: Timestamp(1_800_000_000_000),
            until: Timestamp(1_800_000_060_000),
            who: "kim".into(),
            why: "a | in it".into(),
        }))
    }

    #[test]
    fn an_override_is_read_back_as_it_was_told() {
        let let_go = SharedOverride::LetGo { id: 7, until: Timestamp(9) };
        for told in [pulled(), let_go] {
            assert_eq!(parse(&told.id().to_string(), &text(&told)), Some(told));
        }
    }

    #[test]
    fn what_is_no_override_is_passed_over() {
        let whole = text(&pulled());
        for (id, what) in
            [("version", "abc"), ("8", &whole), ("7", "x|"), ("7", "9|{}"), ("7", "9")]
        {
            assert_eq!(parse(id, what), None, "{id} {what}");
        }
    }
}
