//! What flights, refreshes and stale answers are counted by.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{Counter, Histogram, Key, KeyName, Label, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::METADATA;
use super::requests::CutBy;

/// Followers of one flight.
pub const FOLLOWERS: &str = "cache_server_flight_followers";

/// The upper edges of its buckets.
pub const FOLLOWERS_BUCKETS: [f64; 9] =
    [0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0];

/// How long a follower waited for the head.
const WAIT_SECONDS: &str = "cache_server_flight_wait_seconds";
const REFRESHES: &str = "cache_server_refreshes_total";
const READERS_ABORTED: &str = "cache_server_readers_aborted_total";
const HIT_FOR_MISS: &str = "cache_server_hit_for_miss_total";
const COOL_DOWNS: &str = "cache_server_cool_downs_total";
const NEGATIVE_HITS: &str = "cache_server_negative_hits_total";
const HIT_AGE: &str = "cache_server_hit_age_seconds";

/// Why an entry is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshedAs {
    /// It is stale.
    Stale,
    /// It soon will be.
    Ahead,
}

/// What became of a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The upstream answered.
    Fetched,
    /// It failed, or answered by an error.
    Failed,
    /// It was not asked: a cool-down, a back-off, or no room for another flight.
    Held,
    /// It was not asked: another server had refreshed what they share.
    Shared,
}

/// The handles.
#[derive(Debug)]
pub struct FlightMetrics {
    followers: Histogram,
    wait_seconds: Histogram,
    refreshes: [[Counter; 4]; 2],
    readers_aborted: [Counter; 3],
    hit_for_miss: Counter,
    cool_downs: Counter,
    negative_hits: Counter,
    ages: Ages,
}

impl FlightMetrics {
    /// Registers every handle.
    #[must_use]
    pub fn new(recorder: &PrometheusRecorder) -> FlightMetrics {
        let counter =
            |name, labels| recorder.register_counter(&Key::from_parts(name, labels), &METADATA);
        let histogram = |name| recorder.register_histogram(&Key::from_static_name(name), &METADATA);
        let refreshes = |why: &'static str| {
            ["fetched", "failed", "held", "shared"].map(|outcome| {
                let labels = vec![Label::new("why", why), Label::new("outcome", outcome)];
                counter(REFRESHES, labels)
            })
        };
        let aborted = |by: CutBy| counter(READERS_ABORTED, vec![Label::new("by", by.name())]);
        FlightMetrics {
            followers: histogram(FOLLOWERS),
            wait_seconds: histogram(WAIT_SECONDS),
            refreshes: ["stale", "ahead"].map(refreshes),
            readers_aborted: CutBy::ALL.map(aborted),
            hit_for_miss: counter(HIT_FOR_MISS, vec![]),
            cool_downs: counter(COOL_DOWNS, vec![]),
            negative_hits: counter(NEGATIVE_HITS, vec![]),
            ages: Ages::default(),
        }
    }

    /// Says what they are.
    pub fn describe(recorder: &PrometheusRecorder) {
        for (name, what) in [
            (REFRESHES, "Entries refreshed behind an answer, by why and how that ended"),
            (READERS_ABORTED, "Answers of flights that did not reach a caller whole, by what cut"),
            (HIT_FOR_MISS, "Requests that waited for nobody, as the last answer was for one alone"),
            (COOL_DOWNS, "Times that an upstream said when to come back"),
            (NEGATIVE_HITS, "Hits that said that there is nothing"),
        ] {
            recorder.describe_counter(KeyName::from_const_str(name), None, what.into());
        }
        for (name, what) in [
            (FOLLOWERS, "Requests that joined a flight, by flight"),
            (WAIT_SECONDS, "How long they waited for its headers"),
        ] {
            recorder.describe_histogram(KeyName::from_const_str(name), None, what.into());
        }
    }

    /// Counts a flight that has ended.
    pub fn ended(&self, followers: u64) {
        self.followers.record(u32::try_from(followers).unwrap_or(u32::MAX));
    }

    /// Counts a follower's wait for the head.
    pub fn waited(&self, wait: Duration) {
        self.wait_seconds.record(wait);
    }

    /// Counts a refresh.
    pub fn refreshed(&self, why: RefreshedAs, outcome: Refresh) {
        self.refreshes[why as usize][outcome as usize].increment(1);
    }

    /// Counts an answer of a flight that did not reach its caller whole.
    pub fn reader_aborted(&self, by: CutBy) {
        self.readers_aborted[by as usize].increment(1);
    }

    /// Counts a request that waited for nobody.
    pub fn hit_for_miss(&self) {
        self.hit_for_miss.increment(1);
    }

    /// Counts an upstream's word that it is not to be asked for a while.
    pub fn cool_down_begun(&self) {
        self.cool_downs.increment(1);
    }

    /// Counts a hit by the age of its entry.
    pub fn hit(&self, age_s: u64, is_negative: bool) {
        self.ages.record(age_s);
        if is_negative {
            self.negative_hits.increment(1);
        }
    }

    /// Appends what is counted here without the exporter, in Prometheus' text format.
    pub fn render(&self, text: &mut String) {
        self.ages.render(text);
    }
}

/// The upper edges of ages in seconds: from a second to a month.
const AGES_S: [u64; 9] = [1, 10, 60, 600, 3_600, 21_600, 86_400, 604_800, 2_592_000];

/// Ages at hits, counted without a lock: a hit is too quick for the exporter's histograms.
#[derive(Debug, Default)]
struct Ages {
    /// The last is for what is older than any edge.
    counts: [AtomicU64; AGES_S.len() + 1],
    sum_s: AtomicU64,
}

impl Ages {
    fn record(&self, age_s: u64) {
        let bucket = AGES_S.iter().position(|edge| age_s <= *edge).unwrap_or(AGES_S.len());
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_s.fetch_add(age_s, Ordering::Relaxed);
    }

    fn render(&self, text: &mut String) {
        let _ = writeln!(text, "# HELP {HIT_AGE} How old entries were when they answered");
        let _ = writeln!(text, "# TYPE {HIT_AGE} histogram");
        let mut below = 0;
        for (index, count) in self.counts.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            let edge = AGES_S.get(index).map_or_else(|| "+Inf".to_owned(), u64::to_string);
            let _ = writeln!(text, "{HIT_AGE}_bucket{{le=\"{edge}\"}} {below}");
        }
        let _ = writeln!(text, "{HIT_AGE}_sum {}", self.sum_s.load(Ordering::Relaxed));
        let _ = writeln!(text, "{HIT_AGE}_count {below}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_counted_up_to_their_edges() {
        let ages = Ages::default();
        [0, 1, 2, 61, 3_000_000].into_iter().for_each(|age_s| ages.record(age_s));
        let mut text = String::new();
        ages.render(&mut text);
        for line in [
            "cache_server_hit_age_seconds_bucket{le=\"1\"} 2",
            "cache_server_hit_age_seconds_bucket{le=\"10\"} 3",
            "cache_server_hit_age_seconds_bucket{le=\"600\"} 4",
            "cache_server_hit_age_seconds_bucket{le=\"2592000\"} 4",
            "cache_server_hit_age_seconds_bucket{le=\"+Inf\"} 5",
            "cache_server_hit_age_seconds_sum 3000064",
            "cache_server_hit_age_seconds_count 5",
        ] {
            assert!(text.contains(line), "missing {line} in:\n{text}");
        }
    }
}
