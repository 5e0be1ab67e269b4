//! The only reader of wall time and monotonic time.
//!
//! Everything that depends on time takes a [`Timestamp`] or an [`Instant`] as a value, so that
//! it can be tested without waiting. Whoever needs "now" asks the [`Clock`] held by the app.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Wall time in milliseconds since the Unix epoch; what entries are stamped with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time plus `duration`, saturating at the end of time.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This time less `duration`, saturating at the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The same as the system has it, at most the year 9999: later times are not written.
    #[must_use]
    pub fn as_system_time(self) -> SystemTime {
        const LATEST_MS: u64 = 253_402_300_799_999;
        UNIX_EPOCH + Duration::from_millis(self.0.min(LATEST_MS))
    }

    /// How long ago `earlier` was; zero if it lies ahead (wall clocks step backwards).
    #[must_use]
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// From when something was noted until it is over. A wall clock that is set back ends it: it must not last
/// longer by as much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// When it was noted.
    pub from: Timestamp,
    /// When it is over.
    pub until: Timestamp,
}

impl Period {
    /// So long from now on.
    #[must_use]
    pub fn of(now: Timestamp, lasts: Duration) -> Period {
        Period { from: now, until: now.plus(lasts) }
    }

    /// Whether it is not over.
    #[must_use]
    pub fn has(self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

/// Reads the time. Cheap to clone; one is made at start and handed to whoever needs it.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Milliseconds of wall time set by a test; `None` reads the system's clock.
    set: Option<Arc<AtomicU64>>,
}

impl Clock {
    /// A clock that stands still until [`Clock::advance`] moves it.
    #[must_use]
    pub fn standing_at(now: Timestamp) -> Clock {
        Clock { set: Some(Arc::new(AtomicU64::new(now.0))) }
    }

    /// Moves a standing clock on; the system's clock ignores it.
    pub fn advance(&self, by: Duration) {
        if let Some(set) = &self.set {
            set.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    /// Wall time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.set {
            Some(set) => Timestamp(set.load(Ordering::Relaxed)),
            None => {
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Timestamp(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
            }
        }
    }

    /// Monotonic time now, for measuring durations.
    #[must_use]
    pub fn instant(&self) -> Instant {
        Instant::now()
    }
}
