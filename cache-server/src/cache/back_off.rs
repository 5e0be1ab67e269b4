//! Back-off: a key whose fill failed is not fetched again at once. The wait doubles with each
//! failure in a row, from [`FIRST`] to what the config allows, and a fill that succeeds ends it.
//!
//! The table is bounded; at the bound the failure that was noted longest ago is forgotten, so that
//! its key is fetched anew. `E` is why a fill failed.

use std::time::Duration;

use keyspec::Key;

use super::recent::Recent;
use crate::clock::{Period, Timestamp};

/// Most keys that are remembered.
pub const KEYS_MAX: usize = 10_000;

/// The wait after a first failure.
pub const FIRST: Duration = Duration::from_millis(100);

/// The failures of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackOff<E> {
    /// From the last failure of the row until it may be fetched again.
    pub period: Period,
    /// How it failed last; nothing where the upstream gave an answer, and that was an error.
    pub error: Option<E>,
    /// How often it has failed in a row.
    failures: u32,
}

/// The keys whose fills failed.
#[derive(Debug)]
pub struct BackOffs<E> {
    noted: Recent<Key, BackOff<E>>,
}

impl<E> Default for BackOffs<E>
where
    E: Clone,
{
    fn default() -> BackOffs<E> {
        BackOffs { noted: Recent::new(KEYS_MAX) }
    }
}

impl<E: Clone> BackOffs<E> {
    /// Whether there are none at all, which is the rule and costs next to nothing to ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Notes the failure of a fetch that `began` then. The wait is at most `longest`; with none,
    /// nothing is remembered.
    pub fn failed(
        &self,
        key: Key,
        error: Option<E>,
        began: Timestamp,
        now: Timestamp,
        longest: Duration,
    ) {
        if longest.is_zero() {
            return;
        }
        self.noted.note(key, |before| {
            // One that lies as far back as the longest wait is another story.
            let is_in_a_row = |before: &BackOff<E>| now < before.period.until.plus(longest);
            let (failures, from) = match before.filter(is_in_a_row) {
                // They were under way together: it is the same failure once more.
                Some(before) if began < before.period.from => (before.failures, before.period.from),
                before => (before.map_or(0, |before| before.failures).saturating_add(1), now),
            };
            let until = now.plus(wait_after(failures, longest));
            BackOff { period: Period { from, until }, error, failures }
        });
    }

    /// Notes that a fetch brought an answer.
    pub fn succeeded(&self, key: &Key) {
        self.noted.forget(key);
    }

    /// The one that holds at `now`.
    #[must_use]
    pub fn of(&self, key: &Key, now: Timestamp) -> Option<BackOff<E>> {
        self.noted.get(key).filter(|back_off| back_off.period.has(now))
    }
}

/// How long to wait after so many failures in a row, at least one.
fn wait_after(failures: u32, longest: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(30);
    FIRST.saturating_mul(1 << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Key = Key::from_bytes([1; 32]);
    const NOW: Timestamp = Timestamp(1_000_000);
    const LONGEST: Duration = Duration::from_secs(5);

    fn wait(back_offs: &BackOffs<&str>, now: Timestamp) -> Option<u64> {
        Some(back_offs.of(&KEY, now)?.period.until.0 - now.0)
    }

    #[test]
    fn the_wait_doubles_with_each_failure_in_a_row_and_ends_with_a_success() {
        let back_offs = BackOffs::default();
        let mut now = NOW;
        for expected_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            back_offs.failed(KEY, Some("refused"), now, now, LONGEST);
            assert_eq!(wait(&back_offs, now), Some(expected_ms));
            now = now.plus(Duration::from_millis(expected_ms));
            assert_eq!(wait(&back_offs, now), None, "it is over");
        }
        back_offs.succeeded(&KEY);
        assert!(back_offs.is_empty());
        back_offs.failed(KEY, None, now, now, LONGEST);
        assert_eq!(wait(&back_offs, now), Some(100));
    }

    #[test]
    fn fetches_that_were_under_way_together_fail_once() {
        let back_offs = BackOffs::default();
        let later = NOW.plus(Duration::from_millis(1));
        back_offs.failed(KEY, Some("refused"), NOW, later, LONGEST);
        back_offs.failed(KEY, Some("refused"), NOW, later.plus(FIRST), LONGEST);
        assert_eq!(wait(&back_offs, later.plus(FIRST)), Some(100), "from the last of them on");
        back_offs.failed(KEY, Some("refused"), later, later.plus(FIRST), LONGEST);
        assert_eq!(wait(&back_offs, later.plus(FIRST)), Some(200), "one that began after it");
    }

    #[test]
    fn failures_far_apart_are_not_in_a_row() {
        let back_offs = BackOffs::default();
        back_offs.failed(KEY, Some("refused"), NOW, NOW, LONGEST);
        let later = NOW.plus(FIRST).plus(LONGEST);
        back_offs.failed(KEY, Some("refused"), later, later, LONGEST);
        assert_eq!(wait(&back_offs, later), Some(100));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_wait() {
        let back_offs = BackOffs::default();
        back_offs.failed(KEY, Some("refused"), NOW, NOW, LONGEST);
        assert_eq!(wait(&back_offs, NOW.minus(LONGEST)), None);
    }

    #[test]
    fn the_last_failure_is_the_one_that_is_told() {
        let back_offs = BackOffs::default();
        back_offs.failed(KEY, Some("refused"), NOW, NOW, LONGEST);
        back_offs.failed(KEY, None, NOW, NOW, LONGEST);
        assert_eq!(back_offs.of(&KEY, NOW).unwrap().error, None);
    }

    #[test]
    fn without_a_wait_nothing_is_remembered() {
        let back_offs = BackOffs::default();
        back_offs.failed(KEY, Some("refused"), NOW, NOW, Duration::ZERO);
        assert!(back_offs.is_empty());
    }

    proptest! {
        #[test]
        fn no_wait_is_shorter_than_the_one_before_or_longer_than_it_may_be(
            failures in 1..u32::MAX - 1, longest_ms in 1_u64..1 << 40,
        ) {
            let longest = Duration::from_millis(longest_ms);
            let (one, next) = (wait_after(failures, longest), wait_after(failures + 1, longest));
            prop_assert!(one <= next && next <= longest && !one.is_zero());
        }
    }
}
