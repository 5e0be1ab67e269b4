//! Touch: whether what other servers have purged is known. Entries are read only while it is: one that was
//! purged while nobody could tell this server of it must not be taken for good.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What was heard longer ago is not relied on.
const LASTS: Duration = Duration::from_secs(5);

/// When all that is purged was last known.
#[derive(Debug)]
pub(super) struct Touch {
    began: Instant,
    is_needed: AtomicBool,
    /// On which connections it was heard.
    connection: AtomicU64,
    /// When that was, in milliseconds since `began`.
    at_ms: AtomicU64,
}

impl Default for Touch {
    fn default() -> Touch {
        Touch {
            began: Instant::now(),
            is_needed: AtomicBool::new(false),
            connection: AtomicU64::new(0),
            at_ms: AtomicU64::new(0),
        }
    }
}

impl Touch {
    /// From now on nothing is read without it.
    pub(super) fn need(&self) {
        self.is_needed.store(true, Ordering::Relaxed);
    }

    /// All that is purged is known, as of an exchange that began on these connections.
    pub(super) fn note(&self, connection: u64) {
        self.at_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        self.connection.store(connection, Ordering::Release);
    }

    /// Whether entries may be read on these connections.
    pub(super) fn is_kept(&self, connection: u64) -> bool {
        if !self.is_needed.load(Ordering::Relaxed) {
            return true;
        }
        let is_heard = self.connection.load(Ordering::Acquire) == connection;
        let age_ms = self.elapsed_ms().saturating_sub(self.at_ms.load(Ordering::Relaxed));
        is_heard && u128::from(age_ms) <= LASTS.as_millis()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_until_all_that_is_purged_is_known() {
        let touch = Touch::default();
        assert!(touch.is_kept(1), "where nobody else purges there is nothing to know");
        touch.need();
        assert!(!touch.is_kept(1));
        touch.note(1);
        assert!(touch.is_kept(1));
        assert!(!touch.is_kept(2), "what was told while there was no connection is missed");
    }

    #[test]
    fn what_was_heard_long_ago_is_not_relied_on() {
        let Some(began) = Instant::now().checked_sub(Duration::from_secs(60)) else { return };
        let touch = Touch { began, ..Touch::default() };
        touch.need();
        touch.note(1);
        assert!(touch.is_kept(1));
        touch.at_ms.store(54_000, Ordering::Relaxed);
        assert!(!touch.is_kept(1));
    }
}
