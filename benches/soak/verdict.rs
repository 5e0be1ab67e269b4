//! The rules that a soak must keep, and whether it did.

use std::fmt::Write as _;

use crate::watch::Sample;

/// Resident memory may grow by so much from the second quarter to the last: by then every cache
/// and table is full, and what still grows has no bound.
const RSS_GROWTH_MAX: f64 = 1.15;
/// Descriptors that may be open after the load beyond those before it.
const DESCRIPTORS_MORE: u64 = 5;
/// Upstream calls that a storm may cost, in the mean. One is the rule; a caller that comes after
/// the others were answered may find the entry evicted again.
const STORM_CALLS_MAX: f64 = 1.02;
/// What must have happened, or the load has shown nothing.
const HAPPENED: [(&str, &str); 8] = [
    ("hits in memory", "/hits_by_tier/memory"),
    ("hits on disk", "/hits_by_tier/disk"),
    ("stale answers", "/requests/stale"),
    ("misses", "/requests/miss"),
    ("coalesced requests", "/coalesced"),
    ("evictions", "/evictions"),
    ("answers too large to store", "/not_stored/too-large"),
    ("failed requests", "/requests/failed"),
];

/// The rules, checked one by one.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    text: String,
    broken: u64,
}

impl Verdict {
    /// Whether every rule was kept.
    pub(crate) fn is_kept(&self) -> bool {
        self.broken == 0
    }

    /// A line for each rule.
    pub(crate) fn table(&self) -> &str {
        &self.text
    }

    /// Notes whether a rule was kept.
    pub(crate) fn rule(&mut self, is_kept: bool, what: &str) {
        self.broken += u64::from(!is_kept);
        let _ = writeln!(self.text, "{} {what}", if is_kept { "kept  " } else { "BROKEN" });
    }

    /// Memory must not grow once everything is full.
    pub(crate) fn memory(&mut self, samples: &[Sample]) {
        let quarters = quarters(samples);
        let [Some(_), Some(second), _, Some(last)] = quarters else {
            self.rule(false, "too few samples to judge memory by");
            return;
        };
        let what = format!(
            "the last quarter's median RSS is at most {RSS_GROWTH_MAX} times the second's: \
             {last:.1} to {second:.1} MiB",
        );
        self.rule(last <= RSS_GROWTH_MAX * second, &what);
    }

    /// Everything that a soak is to show must have happened.
    pub(crate) fn happened(&mut self, last: &Sample, idle: &[&str]) {
        for (what, path) in HAPPENED {
            let count = last.figure(path);
            self.rule(count > 0, &format!("there were {what}: {count}"));
        }
        self.rule(idle.is_empty(), &format!("every kind of caller took turns; idle: {idle:?}"));
    }

    /// A storm costs one upstream call.
    #[expect(clippy::cast_precision_loss, reason = "a ratio; counts stay below 2^53")]
    pub(crate) fn storms(&mut self, storms: u64, calls: u64) {
        let is_kept = calls as f64 <= STORM_CALLS_MAX * storms as f64;
        self.rule(is_kept, &format!("{storms} storms cost {calls} upstream calls"));
    }
}

/// The quarters' medians of resident memory in MiB, where there are samples.
pub(crate) fn quarters(samples: &[Sample]) -> [Option<f64>; 4] {
    let count = samples.len();
    [0, 1, 2, 3].map(|quarter| {
        let quarter = &samples[count * quarter / 4..count * (quarter + 1) / 4];
        let mut figures: Vec<f64> = quarter.iter().map(Sample::rss_mib).collect();
        figures.sort_by(f64::total_cmp);
        figures.get(figures.len() / 2).copied()
    })
}

/// What is still open of what the load had opened; nothing once the server is at rest.
pub(crate) fn unrest(before: &Sample, now: &Sample) -> Vec<String> {
    let mut open = Vec::new();
    for level in ["/flights_open", "/buffered_bytes", "/connections_open", "/tunnels_open"] {
        if now.figure(level) > 0 {
            open.push(format!("{level} is {}", now.figure(level)));
        }
    }
    if now.descriptors > before.descriptors + DESCRIPTORS_MORE {
        open.push(format!("{} descriptors, {} before", now.descriptors, before.descriptors));
    }
    open
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};

    use super::*;

    fn sample(rss_mib: u64, descriptors: u64, stats: Value) -> Sample {
        Sample { at: Duration::ZERO, rss_bytes: rss_mib << 20, descriptors, stats }
    }

    fn verdict_on_memory(rss_mib: &[u64]) -> bool {
        let samples: Vec<Sample> =
            rss_mib.iter().map(|rss_mib| sample(*rss_mib, 0, Value::Null)).collect();
        let mut verdict = Verdict::default();
        verdict.memory(&samples);
        verdict.is_kept()
    }

    #[test]
    fn memory_may_fill_in_the_first_quarter_and_not_grow_after_the_second() {
        assert!(verdict_on_memory(&[10, 50, 99, 100, 101, 90, 110, 114]));
        assert!(!verdict_on_memory(&[10, 50, 99, 100, 110, 112, 110, 116]));
        assert!(!verdict_on_memory(&[100, 100, 100]), "too few to say");
    }

    #[test]
    fn a_server_at_rest_holds_nothing_and_few_descriptors_more_than_before() {
        let before = sample(0, 30, Value::Null);
        let rests = json!({"flights_open": 0, "buffered_bytes": 0, "connections_open": 0, "tunnels_open": 0});
        assert!(unrest(&before, &sample(0, 35, rests.clone())).is_empty());
        assert_eq!(unrest(&before, &sample(0, 36, rests)).len(), 1);
        for level in ["flights_open", "buffered_bytes", "connections_open", "tunnels_open"] {
            assert_eq!(unrest(&before, &sample(0, 30, json!({level: 1}))).len(), 1);
        }
    }

    #[test]
    fn one_call_in_fifty_more_than_storms_is_too_many() {
        for (calls, is_kept) in [(100, true), (102, true), (103, false)] {
            let mut verdict = Verdict::default();
            verdict.storms(100, calls);
            assert_eq!(verdict.is_kept(), is_kept, "{calls}");
        }
    }

    #[test]
    fn a_soak_in_which_nothing_happened_has_shown_nothing() {
        let mut verdict = Verdict::default();
        verdict.happened(&sample(0, 0, json!({"requests": {"miss": 3}})), &[]);
        assert!(!verdict.is_kept());
        assert!(verdict.table().contains("kept   there were misses: 3\n"), "{}", verdict.table());
    }
}
