//! How long callers waited for the head of their answer, by outcome: log-linear histograms that
//! are counted without a lock.
//!
//! Each power of two of microseconds is cut into eight equal buckets, so that a duration read
//! back is off by 1/16 at most (6.25 %). Durations over 2^32 µs (71 minutes) count as that long.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::Outcome;

/// The name of the histogram that Prometheus scrapes.
const METRIC: &str = "cache_server_request_seconds";

/// Buckets in a power of two: 2^3.
const CUT_BITS: u32 = 3;
const CUTS: usize = 1 << CUT_BITS;
/// The longest duration that is told from longer ones.
const LONGEST_US: u64 = (1 << 32) - 1;
/// The powers 2^3 to 2^31 are cut, and what is below 2^3 has a bucket for each microsecond.
const BUCKETS: usize = (32 - CUT_BITS as usize + 1) * CUTS;

/// What Prometheus is shown: every other power of two, from 16 µs to 268 s. They are edges of our
/// own buckets, so that nothing is estimated.
const SHOWN_POWERS: [u32; 13] = [4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28];

/// A histogram for each outcome.
#[derive(Debug)]
pub struct Latency {
    by_outcome: [Histogram; Outcome::ALL.len()],
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { by_outcome: std::array::from_fn(|_| Histogram::default()) }
    }
}

impl Latency {
    /// Counts one answer: two relaxed additions.
    pub fn record(&self, outcome: Outcome, took: Duration) {
        self.by_outcome[outcome as usize].record(took);
    }

    /// What `/stats` shows, for the outcomes that came.
    #[must_use]
    pub fn figures(&self) -> BTreeMap<&'static str, LatencyFigures> {
        let figures = |outcome: &Outcome| {
            let buckets = self.by_outcome[*outcome as usize].filled();
            (!buckets.is_empty()).then(|| (outcome.name(), LatencyFigures::of(buckets)))
        };
        Outcome::ALL.iter().filter_map(figures).collect()
    }

    /// Appends the histograms in Prometheus' text format.
    pub fn render(&self, text: &mut String) {
        let _ = writeln!(text, "# HELP {METRIC} From a request's header to its answer's header");
        let _ = writeln!(text, "# TYPE {METRIC} histogram");
        for outcome in Outcome::ALL {
            let label = format!("outcome=\"{}\"", outcome.name());
            self.by_outcome[outcome as usize].render(METRIC, &label, text);
        }
    }
}

/// Durations that belong together, counted without a lock; none is lost while they are read.
#[derive(Debug)]
pub(super) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: [const { AtomicU64::new(0) }; BUCKETS], sum_us: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one: two relaxed additions.
    pub(super) fn record(&self, took: Duration) {
        let whole = took.as_secs().saturating_mul(1_000_000);
        let took_us = whole.saturating_add(u64::from(took.subsec_micros())).min(LONGEST_US);
        self.counts[index_of(took_us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(took_us, Ordering::Relaxed);
    }

    /// The buckets that are not empty, ascending: lower edge and count.
    fn filled(&self) -> Vec<(u64, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(index, n)| (lower_edge(index), n)).collect()
    }

    /// Appends them in Prometheus' text format, with this label.
    pub(super) fn render(&self, metric: &str, label: &str, text: &mut String) {
        let filled = self.filled();
        let below = |edge: u64| -> u64 {
            filled.iter().take_while(|(low, _)| *low < edge).map(|(_, count)| count).sum()
        };
        for power in SHOWN_POWERS {
            let edge = 1 << power;
            let seconds = Duration::from_micros(edge).as_secs_f64();
            let count = below(edge);
            let _ = writeln!(text, "{metric}_bucket{{{label},le=\"{seconds}\"}} {count}");
        }
        let all = below(u64::MAX);
        let sum = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(text, "{metric}_bucket{{{label},le=\"+Inf\"}} {all}");
        let _ = writeln!(text, "{metric}_sum{{{label}}} {sum}");
        let _ = writeln!(text, "{metric}_count{{{label}}} {all}");
    }
}

/// The durations of one outcome since the start, as `/stats` shows them.
#[derive(Clone, Debug, Serialize)]
pub struct LatencyFigures {
    /// Answers counted.
    pub count: u64,
    /// Half took at most this many microseconds.
    pub p50_us: u64,
    /// 95 of 100 took at most this many.
    pub p95_us: u64,
    /// 99 of 100 took at most this many.
    pub p99_us: u64,
    /// The buckets that are not empty: lower edge in microseconds, and count. Whoever subtracts
    /// an earlier reading has the durations of the time between.
    pub buckets: Vec<(u64, u64)>,
}

impl LatencyFigures {
    fn of(buckets: Vec<(u64, u64)>) -> LatencyFigures {
        let percentile = |per_mille| percentile_us(&buckets, per_mille).unwrap_or(0);
        LatencyFigures {
            count: buckets.iter().map(|(_, count)| count).sum(),
            p50_us: percentile(500),
            p95_us: percentile(950),
            p99_us: percentile(990),
            buckets,
        }
    }
}

/// The duration in microseconds that so many of a thousand did not exceed, from buckets as
/// [`LatencyFigures`] has them, ascending. Nothing if they are empty.
#[must_use]
pub fn percentile_us(buckets: &[(u64, u64)], per_mille: u64) -> Option<u64> {
    let count = buckets.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count));
    let rank = count.saturating_mul(per_mille).div_ceil(1000).max(1);
    let mut passed = 0_u64;
    buckets.iter().find_map(|(low, count)| {
        passed = passed.saturating_add(*count);
        (passed >= rank).then(|| middle_of(*low))
    })
}

/// A duration as people read it: three digits and a unit.
#[must_use]
pub fn in_words(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match took.as_micros() {
        0..1_000 => format!("{} µs", took.as_micros()),
        1_000..10_000 => format!("{:.1} ms", seconds * 1e3),
        10_000..1_000_000 => format!("{:.0} ms", seconds * 1e3),
        1_000_000..10_000_000 => format!("{seconds:.2} s"),
        10_000_000..100_000_000 => format!("{seconds:.1} s"),
        _ => format!("{seconds:.0} s"),
    }
}

/// The bucket of a duration of at most [`LONGEST_US`].
fn index_of(took_us: u64) -> usize {
    let small = usize::try_from(took_us).unwrap_or(usize::MAX);
    if small < CUTS {
        return small;
    }
    let shift = took_us.ilog2() - CUT_BITS;
    // The top bit and the three below it: 8 to 15.
    let leading = small >> shift;
    shift as usize * CUTS + leading
}

fn lower_edge(index: usize) -> u64 {
    if index < CUTS {
        return index as u64;
    }
    let shift = index / CUTS - 1;
    ((CUTS + index % CUTS) as u64) << shift
}

/// The middle of the bucket with this lower edge.
fn middle_of(low: u64) -> u64 {
    let width = if low < CUTS as u64 { 1 } else { 1 << (low.ilog2() - CUT_BITS) };
    low + (width - 1) / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_buckets_cover_everything_without_gap_or_overlap() {
        let mut expected = 0;
        for index in 0..BUCKETS {
            let low = lower_edge(index);
            assert_eq!(low, expected, "bucket {index}");
            assert_eq!(index_of(low), index);
            expected = low + if index < CUTS { 1 } else { 1 << (index / CUTS - 1) };
            assert_eq!(index_of(expected - 1), index);
        }
        assert_eq!(expected, LONGEST_US + 1);
    }

    proptest! {
        #[test]
        fn a_duration_read_back_is_off_by_a_sixteenth_at_most(took_us in 0..=LONGEST_US) {
            let histogram = Histogram::default();
            histogram.record(Duration::from_micros(took_us));
            let read = percentile_us(&histogram.filled(), 500).unwrap();
            prop_assert!(read.abs_diff(took_us) <= took_us / 16, "{took_us} was read as {read}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let latency = Latency::default();
        for milliseconds in 1..=100 {
            latency.record(Outcome::Miss, Duration::from_millis(milliseconds));
        }
        let figures = &latency.figures()["miss"];
        assert_eq!(figures.count, 100);
        for (read, expected) in
            [(figures.p50_us, 50_000), (figures.p95_us, 95_000), (figures.p99_us, 99_000)]
        {
            assert!(u64::abs_diff(read, expected) <= expected / 16, "{read} for {expected}");
        }
        assert_eq!(latency.figures().len(), 1, "what never came is not shown");
    }

    #[test]
    fn what_is_longer_than_the_longest_is_counted_there() {
        let histogram = Histogram::default();
        histogram.record(Duration::MAX);
        assert_eq!(histogram.filled(), [(lower_edge(BUCKETS - 1), 1)]);
    }

    #[test]
    fn nothing_recorded_has_no_percentile() {
        assert_eq!(percentile_us(&[], 990), None);
    }

    #[test]
    fn prometheus_sees_cumulative_buckets_that_end_with_the_count() {
        let latency = Latency::default();
        for took_us in [15, 16, 1_000, 400_000_000] {
            latency.record(Outcome::Hit, Duration::from_micros(took_us));
        }
        let mut text = String::new();
        latency.render(&mut text);
        for line in [
            "cache_server_request_seconds_bucket{outcome=\"hit\",le=\"0.000016\"} 1",
            "cache_server_request_seconds_bucket{outcome=\"hit\",le=\"0.000064\"} 2",
            "cache_server_request_seconds_bucket{outcome=\"hit\",le=\"0.001024\"} 3",
            "cache_server_request_seconds_bucket{outcome=\"hit\",le=\"268.435456\"} 3",
            "cache_server_request_seconds_bucket{outcome=\"hit\",le=\"+Inf\"} 4",
            "cache_server_request_seconds_sum{outcome=\"hit\"} 400.001031",
            "cache_server_request_seconds_count{outcome=\"hit\"} 4",
            "cache_server_request_seconds_count{outcome=\"failed\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "missing {line} in:\n{text}");
        }
    }

    #[test]
    fn durations_are_written_with_three_digits_at_most() {
        for (took_us, words) in [
            (412, "412 µs"),
            (3_449, "3.4 ms"),
            (812_000, "812 ms"),
            (1_234_000, "1.23 s"),
            (75_000_000, "75.0 s"),
            (600_000_000, "600 s"),
        ] {
            assert_eq!(in_words(Duration::from_micros(took_us)), words);
        }
    }
}
