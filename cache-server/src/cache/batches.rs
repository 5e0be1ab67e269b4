//! Batches: answers that are stored together, after a deploy or a flush, and that would end
//! together. What is stored alone is none of them.

use std::sync::{Mutex, PoisonError};

use crate::clock::Timestamp;

/// How many answers stored within one second are no batch.
pub const ALONE_MAX: u32 = 100;

/// How much is being stored.
#[derive(Debug, Default)]
pub struct Batches {
    /// The second that is under way, and what was stored in it.
    lately: Mutex<(u64, u32)>,
}

impl Batches {
    /// Notes that something is stored, and says whether it is one of a batch.
    pub fn note(&self, now: Timestamp) -> bool {
        let second = now.0 / 1000;
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.0 != second {
            *lately = (second, 0);
        }
        lately.1 = lately.1.saturating_add(1);
        lately.1 > ALONE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_beyond_a_few_within_a_second_is_one_of_a_batch() {
        let batches = Batches::default();
        let in_batch = |at_ms| (0..102).filter(|_| batches.note(Timestamp(at_ms))).count();
        assert_eq!(in_batch(5_000), 2);
        assert_eq!(in_batch(5_999), 102);
        assert_eq!(in_batch(6_000), 2);
    }
}
