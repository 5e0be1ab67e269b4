//! Negatives: under which keys there was nothing lately, and so for how long the next answer that
//! there is nothing answers others.
//!
//! What was not there once may be there soon, what was not there again and again hardly: the time
//! doubles with each such answer in a row, from a quarter of what the route allows to all of it. An
//! answer that there is something ends the row. The table is bounded; at the bound the row that was
//! noted longest ago is forgotten, and its key begins anew.

use std::time::Duration;

use keyspec::Key;

use super::recent::Recent;
use crate::clock::Timestamp;

/// Most keys that are remembered.
pub const KEYS_MAX: usize = 10_000;

/// How often the time doubles until it is all that a route allows.
const DOUBLINGS: u32 = 2;

/// Answers in a row that there is nothing.
#[derive(Clone, Copy, Debug)]
struct Row {
    count: u32,
    last: Timestamp,
}

/// The keys under which there was nothing lately.
#[derive(Debug)]
pub struct Negatives {
    rows: Recent<Key, Row>,
}

impl Default for Negatives {
    fn default() -> Negatives {
        Negatives { rows: Recent::new(KEYS_MAX) }
    }
}

impl Negatives {
    /// How long the next such answer under this key holds, of at most `longest`.
    #[must_use]
    pub fn next(&self, key: &Key, now: Timestamp, longest: Duration) -> Duration {
        let count = self.rows.get(key).filter(|row| is_in_a_row(*row, now, longest));
        let doublings = count.map_or(0, |row| row.count).min(DOUBLINGS);
        longest / (1 << (DOUBLINGS - doublings))
    }

    /// Notes such an answer.
    pub fn note(&self, key: Key, now: Timestamp, longest: Duration) {
        self.rows.note(key, |before| {
            let before = before.filter(|row| is_in_a_row(*row, now, longest));
            let count = before.map_or(0, |row| row.count).saturating_add(1);
            Row { count, last: now }
        });
    }

    /// Notes an answer that there is something.
    pub fn clear(&self, key: &Key) {
        self.rows.forget(key);
    }
}

/// Whether an answer now goes on with a row: nobody has asked for long otherwise.
fn is_in_a_row(row: Row, now: Timestamp, longest: Duration) -> bool {
    now < row.last.plus(longest * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::from_bytes([1; 32]);
    const NOW: Timestamp = Timestamp(1_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn next_s(negatives: &Negatives, now: Timestamp) -> u64 {
        negatives.next(&KEY, now, MINUTE).as_secs()
    }

    #[test]
    fn the_time_doubles_with_each_answer_in_a_row_up_to_what_is_allowed() {
        let negatives = Negatives::default();
        for expected in [15, 30, 60, 60] {
            assert_eq!(next_s(&negatives, NOW), expected);
            negatives.note(KEY, NOW, MINUTE);
        }
        assert_eq!(negatives.next(&Key::from_bytes([2; 32]), NOW, MINUTE).as_secs(), 15);
    }

    #[test]
    fn an_answer_that_there_is_something_ends_the_row() {
        let negatives = Negatives::default();
        negatives.note(KEY, NOW, MINUTE);
        negatives.clear(&KEY);
        assert_eq!(next_s(&negatives, NOW), 15);
    }

    #[test]
    fn what_nobody_has_asked_for_in_a_while_begins_anew() {
        let negatives = Negatives::default();
        negatives.note(KEY, NOW, MINUTE);
        let later = NOW.plus(4 * MINUTE);
        assert_eq!(next_s(&negatives, later), 15);
        negatives.note(KEY, later, MINUTE);
        assert_eq!(next_s(&negatives, later), 30);
    }
}
