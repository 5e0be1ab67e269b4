//! A server's figures as `/stats` shows them, and what happened between two looks at them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

/// Figures, and when they were taken.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) taken: Instant,
    pub(super) figures: Figures,
}

/// Counts by name.
pub(super) type Counts = BTreeMap<String, u64>;

/// What is read of `/stats`. What is missing, as from an older server, counts as zero.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Figures {
    pub(super) version: String,
    pub(super) uptime_seconds: u64,
    pub(super) requests: Counts,
    pub(super) routes: BTreeMap<String, Counts>,
    pub(super) bypass_reasons: Counts,
    pub(super) not_stored: Counts,
    pub(super) latency: BTreeMap<String, Latency>,
    pub(super) models: BTreeMap<String, Model>,
    pub(super) bytes_from_cache: u64,
    pub(super) bytes_from_upstream: u64,
    pub(super) input_tokens_saved: u64,
    pub(super) output_tokens_saved: u64,
    pub(super) connections_open: u64,
    pub(super) flights_open: u64,
    pub(super) buffered_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) memory_entries: u64,
    /// By name, or a list: shown as it comes.
    pub(super) upstreams: Value,
}

/// The latencies of one outcome: lower edge in microseconds, and count.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Latency {
    pub(super) buckets: Vec<(u64, u64)>,
}

/// The figures of one model.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Model {
    pub(super) asked: u64,
    pub(super) hits: u64,
    pub(super) tokens_saved: u64,
}

/// What happened between two looks; or since the start of the server, if there was one look.
pub(super) struct Between<'s> {
    before: Option<&'s Figures>,
    after: &'s Figures,
    /// How long that was; at least a millisecond, so that there is always a rate.
    pub(super) time: Duration,
}

impl<'s> Between<'s> {
    pub(super) fn of(previous: Option<&'s Sample>, current: &'s Sample) -> Between<'s> {
        // A server that was started anew counts from zero.
        let since_start = Duration::from_secs(current.figures.uptime_seconds.max(1));
        let before =
            previous.filter(|p| p.figures.uptime_seconds <= current.figures.uptime_seconds);
        let time = before.map_or(since_start, |before| current.taken - before.taken);
        Between {
            before: before.map(|before| &before.figures),
            after: &current.figures,
            time: time.max(Duration::from_millis(1)),
        }
    }

    /// Whether it is the time since the start.
    pub(super) fn is_since_start(&self) -> bool {
        self.before.is_none()
    }

    /// How much one count grew.
    pub(super) fn growth(&self, count: impl Fn(&Figures) -> u64) -> u64 {
        count(self.after).saturating_sub(self.before.map_or(0, count))
    }

    /// How much each of these counts grew.
    pub(super) fn growths(&self, counts: impl Fn(&Figures) -> &Counts) -> Counts {
        let of = |name: &String| self.growth(|figures| counted(counts(figures), name));
        counts(self.after).keys().map(|name| (name.clone(), of(name))).collect()
    }

    /// What these buckets took in.
    pub(super) fn buckets(&self, outcome: &str) -> Vec<(u64, u64)> {
        let of = |figures: &Figures| {
            figures.latency.get(outcome).map(|latency| latency.buckets.clone()).unwrap_or_default()
        };
        let before: BTreeMap<u64, u64> =
            self.before.map(of).unwrap_or_default().into_iter().collect();
        let mut buckets = of(self.after);
        for (low, count) in &mut buckets {
            *count = count.saturating_sub(before.get(low).copied().unwrap_or(0));
        }
        buckets.retain(|(_, count)| *count > 0);
        buckets
    }

    /// What it is now.
    pub(super) fn now(&self) -> &'s Figures {
        self.after
    }
}

/// The count of this name.
pub(super) fn counted(counts: &Counts, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or(0)
}
