//! Redis's time, by which servers whose clocks differ agree when an entry ends.
//!
//! Each server measures how far its own clock is off, and converts the times of what it writes and reads.
//! What a measurement may be wrong by, half of how long Redis took to answer, is far below
//! `TOLERATED`; below that nothing is converted, so that times do not jitter.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::cache::entry::Entry;
use crate::cache::freshness::Ends;
use crate::clock::{Clock, Timestamp};

/// Clocks that differ by no more are taken to agree.
const TOLERATED: Duration = Duration::from_millis(250);

/// Redis's time, as far as it is known.
#[derive(Debug)]
pub struct RedisTime {
    clock: Clock,
    /// Milliseconds that Redis's clock is ahead of this server's.
    ahead_ms: AtomicI64,
}

impl RedisTime {
    /// It is taken to be this clock's until it is heard.
    #[must_use]
    pub fn new(clock: Clock) -> RedisTime {
        RedisTime { clock, ahead_ms: AtomicI64::new(0) }
    }

    /// Notes what Redis said, in microseconds since the Unix epoch, between two times of this server's.
    /// An answer that was long on its way says nothing.
    pub fn note(&self, said_us: u64, asked: Timestamp, answered: Timestamp) {
        if answered.since(asked) > TOLERATED {
            return;
        }
        let own = i64::try_from(asked.0.midpoint(answered.0)).unwrap_or(i64::MAX);
        let said = i64::try_from(said_us / 1000).unwrap_or(i64::MAX);
        self.ahead_ms.store(said.saturating_sub(own), Ordering::Relaxed);
    }

    /// Milliseconds that Redis's clock is ahead of this server's.
    #[must_use]
    pub fn ahead_ms(&self) -> i64 {
        self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Redis's time now, in microseconds since the Unix epoch, near enough to tell fetches apart.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.clock.now().0.saturating_add_signed(self.ahead_ms()).saturating_mul(1000)
    }

    /// A time of this server's as Redis's clock shows it.
    #[must_use]
    pub fn shared(&self, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add_signed(self.converted_ms()))
    }

    /// A time of Redis's as this server's clock shows it.
    #[must_use]
    pub fn own(&self, time: Timestamp) -> Timestamp {
        Timestamp(time.0.saturating_add_signed(-self.converted_ms()))
    }

    /// Turns the times of an entry of this server's into Redis's.
    pub(super) fn share(&self, entry: &mut Entry) {
        shift(entry, |time| self.shared(time));
    }

    /// Turns the times of an entry that was read into this server's.
    pub(super) fn take(&self, entry: &mut Entry) {
        shift(entry, |time| self.own(time));
    }

    fn converted_ms(&self) -> i64 {
        let ahead = self.ahead_ms();
        if u128::from(ahead.unsigned_abs()) <= TOLERATED.as_millis() { 0 } else { ahead }
    }
}

fn shift(entry: &mut Entry, shifted: impl Fn(Timestamp) -> Timestamp) {
    let Ends { fresh, stale_while_revalidate, stale_if_error, validate } = entry.ends;
    entry.stored = shifted(entry.stored);
    entry.generated = shifted(entry.generated);
    entry.ends = Ends {
        fresh: shifted(fresh),
        stale_while_revalidate: shifted(stale_while_revalidate),
        stale_if_error: shifted(stale_if_error),
        validate: shifted(validate),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::entry::tests::sample;

    const NOON: Timestamp = Timestamp(1_800_000_000_000);

    fn ahead_by(ms: i64) -> RedisTime {
        let time = RedisTime::new(Clock::standing_at(NOON));
        time.note(NOON.0.saturating_add_signed(ms) * 1000, NOON, NOON);
        time
    }

    #[test]
    fn what_a_server_writes_another_reads_with_as_long_to_live() {
        let (writer, reader) = (ahead_by(90_000), ahead_by(-3_600_000));
        let own = sample([1; 32], b"x");
        let mut entry = own.clone();
        writer.share(&mut entry);
        reader.take(&mut entry);
        // The reader's clock shows 3,690 s more than the writer's.
        let later = |time: Timestamp| time.plus(Duration::from_secs(3_690));
        assert_eq!(entry.ends.fresh, later(own.ends.fresh));
        assert_eq!(entry.ends.validate, later(own.ends.validate));
        assert_eq!((entry.stored, entry.generated), (later(own.stored), later(own.generated)));
    }

    #[test]
    fn clocks_that_nearly_agree_are_left_alone() {
        let time = ahead_by(250);
        let own = sample([1; 32], b"x");
        let mut entry = own.clone();
        time.share(&mut entry);
        assert_eq!(entry, own);
        assert_eq!(time.ahead_ms(), 250);
    }

    #[test]
    fn half_of_the_answers_way_is_taken_off() {
        let time = RedisTime::new(Clock::standing_at(NOON));
        time.note((NOON.0 + 5) * 1000, NOON, NOON.plus(Duration::from_millis(10)));
        assert_eq!(time.ahead_ms(), 0);
        assert_eq!(time.now_us(), NOON.0 * 1000);
        time.note(0, NOON, NOON.plus(Duration::from_millis(251)));
        assert_eq!(time.ahead_ms(), 0);
    }
}
