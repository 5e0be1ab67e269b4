//! The exchange of purge orders with Redis: one script that publishes some and reads those after a
//! number, at once or not at all.
//!
//! An order is a member of a sorted set by its number: `h` or `s` for hard and soft, then the selector,
//! or nothing for everything. None expires, so that an eviction among what does spares them. A hash
//! beside it knows the newest number, and the *generation*: it changes when Redis may have lost orders,
//! and then every server tells again what it knows.

use redis::{FromRedisValue, Value};

use crate::cache::entry::Selector;
use crate::cache::purge::{Manner, SharedOrder, Target};
use crate::cache::tiers::TierError;
use crate::cache::tiers::redis::control::Control;

const SCRIPT: &str = include_str!("exchange.lua");
/// Orders that are read at once.
pub(super) const READ_MAX: usize = 1_000;
/// Orders that are published at once.
pub(super) const PUBLISH_MAX: usize = 500;
/// All keys of this are in one slot of a cluster.
pub(super) const TAG: &str = "{purges}";
/// What of it decides on the slot.
pub(super) const SLOT: &[u8] = b"purges";

/// What a server asks.
#[derive(Debug)]
pub(super) struct Question<'q> {
    /// The greatest shared number that it knows.
    pub(super) known: u64,
    /// A generation that nobody has had.
    pub(super) fresh: &'q str,
    /// Orders with a greater number are read.
    pub(super) after: u64,
    /// Orders that are kept; beyond, the oldest become a floor.
    pub(super) kept_max: usize,
    /// What is published: 0 for an order that has no number yet.
    pub(super) orders: &'q [SharedOrder],
}

/// What it is told.
#[derive(Debug)]
pub(super) struct Told {
    /// Since when nothing was lost.
    pub(super) generation: String,
    /// The newest number.
    pub(super) newest: u64,
    /// How often an order was told again; it is then read that all was not.
    pub(super) seeds: u64,
    /// Orders up to this number were dropped for want of room.
    pub(super) floor: u64,
    /// Redis's clock, in microseconds since the Unix epoch.
    pub(super) clock_us: u64,
    /// The numbers of what was published.
    pub(super) given: Vec<u64>,
    /// Orders with greater numbers, the least first.
    pub(super) read: Vec<SharedOrder>,
    /// Whether there may be more.
    pub(super) is_cut: bool,
}

/// The channel on which servers hear that there is something new.
pub(super) fn channel(prefix: &str) -> String {
    format!("{prefix}:{TAG}")
}

/// Asks Redis.
///
/// # Errors
/// Those of Redis, and an answer that is none of this script's.
pub(super) async fn ask(control: &Control, question: &Question<'_>) -> Result<Told, TierError> {
    let prefix = control.prefix();
    let mut command = redis::cmd("EVAL");
    command.arg(SCRIPT).arg(2);
    command.arg(format!("{prefix}:{TAG}:meta")).arg(format!("{prefix}:{TAG}:orders"));
    command.arg(question.known).arg(question.fresh).arg(question.after).arg(READ_MAX);
    command.arg(question.kept_max).arg(channel(prefix));
    for order in question.orders {
        command.arg(member(order)).arg(order.shared);
    }
    let answer = control.call(SLOT, &command).await?;
    told(answer).ok_or_else(malformed)
}

/// An answer that is none of our scripts'.
pub(super) fn malformed() -> TierError {
    TierError::Read("an answer of another form".into())
}

fn told(answer: Value) -> Option<Told> {
    let parts: [Value; 7] = Vec::<Value>::from_redis_value(answer).ok()?.try_into().ok()?;
    let [generation, newest, seeds, floor, clock_us, given, read] = parts;
    let number = |value| u64::from_redis_value(value).ok();
    let pairs: Vec<(Vec<u8>, f64)> = Vec::from_redis_value(read).ok()?;
    let is_cut = pairs.len() >= READ_MAX;
    Some(Told {
        generation: String::from_redis_value(generation).ok()?,
        newest: number(newest)?,
        seeds: number(seeds)?,
        floor: number(floor)?,
        clock_us: number(clock_us)?,
        given: Vec::from_redis_value(given).ok()?,
        read: pairs.iter().filter_map(|(member, score)| order(member, *score)).collect(),
        is_cut,
    })
}

fn member(order: &SharedOrder) -> Vec<u8> {
    let mut member = vec![match order.manner {
        Manner::Hard => b'h',
        Manner::Soft => b's',
    }];
    if let Target::Selector(selector) = order.target {
        member.extend_from_slice(selector.as_bytes());
    }
    member
}

/// Nothing if it is none: whoever writes there may write anything.
fn order(member: &[u8], score: f64) -> Option<SharedOrder> {
    let (manner, selector) = member.split_first()?;
    let manner = match manner {
        b'h' => Manner::Hard,
        b's' => Manner::Soft,
        _ => return None,
    };
    let target = match selector {
        [] => Target::Everything,
        bytes => Target::Selector(Selector::of_bytes(bytes.try_into().ok()?)),
    };
    let is_number = (0.0..9.0e15).contains(&score);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "just looked at")]
    is_number.then_some(SharedOrder { target, manner, shared: score as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_back_as_it_was_published() {
        for target in [Target::Everything, Target::Selector(Selector::tag("a"))] {
            for manner in [Manner::Hard, Manner::Soft] {
                let published = SharedOrder { target, manner, shared: 1_800_000_000_000_001 };
                let read = order(&member(&published), 1_800_000_000_000_001.0);
                assert_eq!(read, Some(published));
            }
        }
    }

    #[test]
    fn what_is_no_order_is_passed_over() {
        for (member, score) in
            [(&b""[..], 1.0), (b"x", 1.0), (b"h123", 1.0), (b"h", -1.0), (b"h", 1e18)]
        {
            assert_eq!(order(member, score), None);
        }
    }
}
