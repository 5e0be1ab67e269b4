//! Unshared: keys whose last answer was for one caller alone ("hit for miss").
//!
//! Whoever waits for such an answer is let go at its headers and asks for itself: it has waited for
//! nothing. So for a short while after one, nobody waits for anybody under its key. Each fetch may
//! still store, and an answer that does ends the marker. The table is bounded: at the bound the key
//! that was noted longest ago is forgotten, and the next who ask under it wait once more.

use std::time::Duration;

use keyspec::Key;

use super::recent::Recent;
use crate::clock::{Period, Timestamp};

/// Most keys that are remembered.
pub const KEYS_MAX: usize = 10_000;

/// Under which keys nobody waits, and until when.
#[derive(Debug)]
pub struct Unshared {
    noted: Recent<Key, Period>,
}

impl Default for Unshared {
    fn default() -> Unshared {
        Unshared { noted: Recent::new(KEYS_MAX) }
    }
}

impl Unshared {
    /// Notes for so long that an answer under this key was for one caller.
    pub fn note(&self, key: Key, now: Timestamp, lasts: Duration) {
        if !lasts.is_zero() {
            self.noted.note(key, |_| Period::of(now, lasts));
        }
    }

    /// Forgets this key: an answer under it was for all.
    pub fn forget(&self, key: &Key) {
        self.noted.forget(key);
    }

    /// Whether it is noted.
    #[must_use]
    pub fn has(&self, key: &Key, now: Timestamp) -> bool {
        self.noted.get(key).is_some_and(|period| period.has(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(10);

    fn key(number: usize) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Key::from_bytes(bytes)
    }

    #[test]
    fn a_key_is_remembered_for_a_while_or_until_it_is_forgotten() {
        let unshared = Unshared::default();
        let began = Timestamp(1_000_000);
        unshared.note(key(1), began, LASTS);
        assert!(unshared.has(&key(1), began) && !unshared.has(&key(2), began));
        assert!(!unshared.has(&key(1), began.plus(LASTS)));
        assert!(!unshared.has(&key(1), Timestamp(999_999)), "the clock was set back");
        unshared.note(key(1), began.plus(LASTS), LASTS);
        assert!(unshared.has(&key(1), began.plus(LASTS)));
        unshared.forget(&key(1));
        assert!(!unshared.has(&key(1), began.plus(LASTS)));
    }

    #[test]
    fn at_the_bound_the_key_noted_longest_ago_is_forgotten() {
        let unshared = Unshared::default();
        (0..=KEYS_MAX).for_each(|number| unshared.note(key(number), Timestamp(0), LASTS));
        assert!(!unshared.has(&key(0), Timestamp(0)));
        assert!(unshared.has(&key(1), Timestamp(0)) && unshared.has(&key(KEYS_MAX), Timestamp(0)));
    }
}
