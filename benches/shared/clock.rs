//! One clock for all processes of a run: the system's monotonic one, in nanoseconds.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Now.
pub(crate) fn now_ns() -> u64 {
    let now = Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default();
    nanos(now)
}

/// Tells instants of this process on the common clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    instant: Instant,
    ns: u64,
}

impl Clock {
    /// Compares the two clocks.
    pub(crate) fn new() -> Clock {
        Clock { instant: Instant::now(), ns: now_ns() }
    }

    /// An instant after the comparison.
    pub(crate) fn ns(self, at: Instant) -> u64 {
        self.ns + nanos(at.saturating_duration_since(self.instant))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
