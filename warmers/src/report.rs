//! What came of the requests: counts and the closing report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::cache_status::CacheStatus;

/// Different reasons that are counted one by one; further ones are counted together.
const REASONS_MAX: usize = 32;

/// What came of one line of the file.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// An answer below status 400 came whole.
    Answered(CacheStatus),
    /// None did.
    Failed { line: u64, why: String },
}

/// The counts so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    hits: u64,
    fills: u64,
    bypasses: u64,
    failures: u64,
    /// Bypasses that no cache-server spoke of.
    unmarked: u64,
    /// Why answers are no entries: bypasses, and fills that were not stored.
    reasons: BTreeMap<String, u64>,
}

impl Tally {
    /// Counts an outcome.
    pub(crate) fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Failed { .. } => self.failures += 1,
            Outcome::Answered(CacheStatus::Hit) => self.hits += 1,
            Outcome::Answered(CacheStatus::Fill { kept_out }) => {
                self.fills += 1;
                self.count_reason(kept_out.as_deref());
            }
            Outcome::Answered(CacheStatus::Bypass { why }) => {
                self.bypasses += 1;
                self.count_reason(why.as_deref());
            }
            Outcome::Answered(CacheStatus::Unmarked) => {
                self.bypasses += 1;
                self.unmarked += 1;
            }
        }
    }

    fn count_reason(&mut self, reason: Option<&str>) {
        let Some(reason) = reason else { return };
        let is_known = self.reasons.contains_key(reason);
        let reason = if is_known || self.reasons.len() < REASONS_MAX { reason } else { "other" };
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    /// Requests that failed and lines that hold none.
    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// Requests that have ended, whatever came of them.
    pub(crate) fn requests(&self) -> u64 {
        self.hits + self.fills + self.bypasses + self.failures
    }

    /// The closing report, several lines.
    pub(crate) fn report(&self, time: Duration) -> String {
        let rows = [
            ("requests", self.requests()),
            ("hits", self.hits),
            ("fills", self.fills),
            ("bypasses", self.bypasses),
            ("failures", self.failures),
        ];
        let mut text = String::new();
        for (name, count) in rows {
            let _ = writeln!(text, "{name:<10}{count:>10}");
        }
        let _ = writeln!(text, "{:<10}{:>10.1} s", "time", time.as_secs_f64());
        if !self.reasons.is_empty() {
            let reasons: Vec<String> =
                self.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            let _ = writeln!(text, "not stored because of: {}", reasons.join(", "));
        }
        if self.unmarked > 0 {
            let _ = writeln!(
                text,
                "{} answers have no Cache-Status of a cache-server: is that its address?",
                self.unmarked
            );
        }
        text
    }

    /// What the requests came to so far, in one line.
    pub(crate) fn counts(&self) -> String {
        format!(
            "{} hits, {} fills, {} bypasses, {} failures",
            self.hits, self.fills, self.bypasses, self.failures,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bypass(why: &str) -> Outcome {
        Outcome::Answered(CacheStatus::Bypass { why: Some(why.to_owned()) })
    }

    #[test]
    fn the_report_has_every_count_and_why_answers_are_no_entries() {
        let mut tally = Tally::default();
        let fill = CacheStatus::Fill { kept_out: Some("length".to_owned()) };
        let outcomes = [
            Outcome::Answered(CacheStatus::Hit),
            Outcome::Answered(CacheStatus::Fill { kept_out: None }),
            Outcome::Answered(fill),
            bypass("not-deterministic"),
            Outcome::Answered(CacheStatus::Unmarked),
            Outcome::Failed { line: 3, why: "status 503".to_owned() },
        ];
        outcomes.iter().for_each(|outcome| tally.count(outcome));
        let expected = "\
requests           6
hits               1
fills              2
bypasses           2
failures           1
time             1.5 s
not stored because of: length 1, not-deterministic 1
1 answers have no Cache-Status of a cache-server: is that its address?
";
        assert_eq!(tally.report(Duration::from_millis(1500)), expected);
        assert_eq!(tally.counts(), "1 hits, 2 fills, 2 bypasses, 1 failures");
    }

    #[test]
    fn reasons_above_the_bound_are_counted_together() {
        let mut tally = Tally::default();
        for number in 0..REASONS_MAX + 10 {
            tally.count(&bypass(&format!("reason-{number:02}")));
        }
        tally.count(&bypass("reason-00"));
        assert_eq!(tally.reasons.len(), REASONS_MAX + 1);
        assert_eq!((tally.reasons["other"], tally.reasons["reason-00"]), (10, 2));
    }
}
