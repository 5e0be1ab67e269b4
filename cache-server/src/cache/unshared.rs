//! Unshared: keys whose last answer was for one caller alone ("hit for miss").
//!
//! Whoever waits for such an answer is let go at its headers and asks for itself: it has waited for
//! nothing. So for a short while after one, nobody waits for anybody under its key. Each fetch may
//! still store, and an answer that does ends the marker. The table is bounded: at the bound the key
//! that was noted first is forgotten, and the next who ask under it wait once more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyspec::Key;

use crate::clock::Timestamp;

/// Most keys that are remembered.
pub const KEYS_MAX: usize = 10_000;

/// How long one is.
pub const LASTS: Duration = Duration::from_secs(10);

/// Under which keys nobody waits.
#[derive(Debug, Default)]
pub struct Unshared {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    until: HashMap<Key, Timestamp>,
    /// The one noted first in front; some of these are forgotten already.
    order: VecDeque<Key>,
}

impl Unshared {
    /// Notes that an answer under this key was for one caller.
    pub fn note(&self, key: Key, now: Timestamp) {
        let mut table = self.table();
        if table.until.insert(key, now.plus(LASTS)).is_some() {
            return;
        }
        if table.order.len() == KEYS_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.until.remove(&oldest);
        }
        table.order.push_back(key);
    }

    /// Forgets this key: an answer under it was for all.
    pub fn forget(&self, key: &Key) {
        self.table().until.remove(key);
    }

    /// Whether it is noted.
    #[must_use]
    pub fn has(&self, key: &Key, now: Timestamp) -> bool {
        self.table().until.get(key).is_some_and(|until| now < *until)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Key::from_bytes(bytes)
    }

    #[test]
    fn a_key_is_remembered_for_a_while_or_until_it_is_forgotten() {
        let unshared = Unshared::default();
        let began = Timestamp(1_000_000);
        unshared.note(key(1), began);
        assert!(unshared.has(&key(1), began) && !unshared.has(&key(2), began));
        assert!(!unshared.has(&key(1), began.plus(LASTS)));
        unshared.note(key(1), began.plus(LASTS));
        assert!(unshared.has(&key(1), began.plus(LASTS)));
        unshared.forget(&key(1));
        assert!(!unshared.has(&key(1), began.plus(LASTS)));
    }

    #[test]
    fn at_the_bound_the_key_noted_first_is_forgotten() {
        let unshared = Unshared::default();
        (0..=KEYS_MAX).for_each(|number| unshared.note(key(number), Timestamp(0)));
        assert!(!unshared.has(&key(0), Timestamp(0)));
        assert!(unshared.has(&key(1), Timestamp(0)) && unshared.has(&key(KEYS_MAX), Timestamp(0)));
        for _ in 0..3 * KEYS_MAX {
            unshared.forget(&key(1));
            unshared.note(key(1), Timestamp(0));
        }
        let table = unshared.table();
        assert!(table.until.len() <= KEYS_MAX && table.order.len() <= KEYS_MAX);
    }
}
