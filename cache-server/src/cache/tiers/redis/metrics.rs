//! What is counted of the Redis tier. How it is named is for `telemetry`, which makes the handles.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

/// What a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedisRead {
    /// There was an entry.
    Found,
    /// There was none.
    Absent,
    /// It failed: a miss.
    Failed,
    /// Nobody was asked, because the breaker was open: a miss.
    Skipped,
}

impl RedisRead {
    /// The labels' values, in the order of their numbers.
    pub const NAMES: [&str; 4] = ["found", "absent", "failed", "skipped"];
}

/// Why an entry was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The queue was full: it was the oldest.
    Full,
    /// Redis refused it.
    Refused,
    /// Writing it failed twice.
    Failed,
    /// It is larger than a value may be.
    TooLarge,
    /// It was of no use any more when its turn came.
    Expired,
    /// The server ended before its turn came.
    Closing,
    /// A later fetch has stored, or is about to.
    Fenced,
}

impl Dropped {
    /// The labels' values, in the order of their numbers.
    pub const NAMES: [&str; 7] =
        ["full", "refused", "failed", "too-large", "expired", "closing", "fenced"];
}

/// The handles, which whoever names the metrics makes.
pub struct RedisMetrics {
    /// Reads, by what they came to.
    pub reads: [Counter; 4],
    /// Writes that were done.
    pub written: Counter,
    /// Writes that failed.
    pub write_failed: Counter,
    /// How long a write took.
    pub write_seconds: Histogram,
    /// Entries that were not written, by why.
    pub drops: [Counter; 7],
    /// 0 while all of it is left alone.
    pub up: Gauge,
    /// The share of it that is left alone.
    pub breaker_open: Gauge,
    /// 1 while it refuses to be written to.
    pub writes_paused: Gauge,
    /// Entries that wait to be written.
    pub queue_entries: Gauge,
    /// Their bytes.
    pub queue_bytes: Gauge,
    /// Counts a fault of this kind.
    pub errors: Box<dyn Fn(&'static str) + Send + Sync>,
}

impl std::fmt::Debug for RedisMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisMetrics")
    }
}

impl RedisMetrics {
    /// Counts a read.
    pub fn read(&self, came_to: RedisRead) {
        self.reads[came_to as usize].increment(1);
    }

    /// Counts a fault of this kind, a word of this program.
    pub fn error(&self, kind: &'static str) {
        (self.errors)(kind);
    }

    /// Counts an entry that was written, and how long that took.
    pub fn written(&self, took: Duration) {
        self.written.increment(1);
        self.write_seconds.record(took);
    }

    /// Counts an attempt to write that failed.
    pub fn write_failed(&self) {
        self.write_failed.increment(1);
    }

    /// Counts an entry that was not written.
    pub fn dropped(&self, why: Dropped) {
        self.drops[why as usize].increment(1);
    }

    /// Shows how much of Redis is left alone, 0 to 1.
    pub fn show_breaker(&self, open: usize, sections: usize) {
        self.breaker_open.set(as_f64(open) / as_f64(sections));
        self.up.set(f64::from(u8::from(open < sections)));
    }

    /// Shows whether writes wait because Redis refuses them.
    pub fn show_writes_paused(&self, are_paused: bool) {
        self.writes_paused.set(f64::from(u8::from(are_paused)));
    }

    /// Shows what waits to be written.
    pub fn show_queue(&self, entries: usize, bytes: usize) {
        self.queue_entries.set(as_f64(entries));
        self.queue_bytes.set(as_f64(bytes));
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; levels stay far below 2^53")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
