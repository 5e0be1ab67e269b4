//! What is known of an upstream's health from the exchanges that took place anyway: no probe is
//! ever sent, since each would cost money or quota.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::clock::{Clock, Timestamp};
use crate::telemetry::upstream::{ExchangeEnd, UpstreamMetrics};

/// Failures in a row after which an upstream is called down.
const DOWN_AFTER_FAILURES: u32 = 3;

/// The health of one upstream. Any number of exchanges note their ends at once.
#[derive(Debug)]
pub struct Health {
    upstream: String,
    metrics: UpstreamMetrics,
    clock: Clock,
    ends: [AtomicU64; 6],
    waiting: AtomicU64,
    failures_in_a_row: AtomicU32,
    /// Milliseconds since the epoch; 0 for never.
    last_answer: AtomicU64,
    last_failure: Mutex<Option<(Timestamp, ExchangeEnd)>>,
}

/// What operators see of it.
#[derive(Clone, Debug, Serialize)]
pub struct HealthReport {
    /// `unknown` before the first exchange, then `up` or `down`.
    pub state: &'static str,
    /// Requests that wait for its headers.
    pub waiting: u64,
    /// Exchanges by their ends.
    pub exchanges: std::collections::BTreeMap<&'static str, u64>,
    /// Failures since its last answer.
    pub failures_in_a_row: u32,
    /// Seconds since its last answer that was no error of its own.
    pub last_answer_s_ago: Option<u64>,
    /// How its last failure looked.
    pub last_failure: Option<&'static str>,
    /// Seconds since its last failure.
    pub last_failure_s_ago: Option<u64>,
}

/// A request that waits for headers; it is counted until it is dropped.
#[derive(Debug)]
pub struct Waiting<'h>(&'h Health);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Health {
    /// Of an upstream that nobody has asked yet. It is taken to be up.
    #[must_use]
    pub fn new(upstream: &str, metrics: UpstreamMetrics, clock: Clock) -> Health {
        Health {
            upstream: upstream.to_owned(),
            metrics,
            clock,
            ends: Default::default(),
            waiting: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            last_answer: AtomicU64::new(0),
            last_failure: Mutex::new(None),
        }
    }

    /// The upstream's metric handles.
    #[must_use]
    pub fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Counts a request that waits for headers.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(self)
    }

    /// Notes that an answer has begun, whose end will tell how the exchange went.
    pub fn answering(&self) {
        self.last_answer.store(self.clock.now().0, Ordering::Relaxed);
    }

    /// Shows in the metrics whether it is up.
    pub fn show(&self) {
        self.metrics.show(!self.is_down());
    }

    fn is_down(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) >= DOWN_AFTER_FAILURES
    }

    /// Notes how an exchange went; a change between up and down is logged.
    pub fn note(&self, end: ExchangeEnd) {
        self.metrics.ended(end);
        self.ends[end as usize].fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        if end.is_failure() {
            *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, end));
            let failures = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
            if failures == DOWN_AFTER_FAILURES {
                let (upstream, end) = (&self.upstream, end.name());
                tracing::warn!(upstream, end, failures, "an upstream is down");
            }
            return;
        }
        self.last_answer.store(now.0, Ordering::Relaxed);
        let failures = self.failures_in_a_row.swap(0, Ordering::Relaxed);
        if failures >= DOWN_AFTER_FAILURES {
            tracing::info!(upstream = self.upstream, failures, "an upstream answers again");
        }
    }

    /// What is known now.
    #[must_use]
    pub fn report(&self) -> HealthReport {
        let now = self.clock.now();
        let failures_in_a_row = self.failures_in_a_row.load(Ordering::Relaxed);
        let last_answer = self.last_answer.load(Ordering::Relaxed);
        let last_failure = *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match (last_answer, last_failure) {
            (0, None) => "unknown",
            _ if self.is_down() => "down",
            _ => "up",
        };
        HealthReport {
            state,
            waiting: self.waiting.load(Ordering::Relaxed),
            exchanges: ExchangeEnd::ALL
                .map(|end| (end.name(), self.ends[end as usize].load(Ordering::Relaxed)))
                .into(),
            failures_in_a_row,
            last_answer_s_ago: (last_answer != 0)
                .then(|| now.since(Timestamp(last_answer)).as_secs()),
            last_failure: last_failure.map(|(_, end)| end.name()),
            last_failure_s_ago: last_failure.map(|(at, _)| now.since(at).as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Telemetry;

    fn health() -> (Health, Clock) {
        let clock = Clock::standing_at(Timestamp(1_000_000));
        let metrics = Telemetry::silent().upstream("u");
        (Health::new("u", metrics, clock.clone()), clock)
    }

    #[test]
    fn an_upstream_is_down_after_three_failures_in_a_row_and_up_with_the_next_answer() {
        let (health, clock) = health();
        assert_eq!(health.report().state, "unknown");
        health.note(ExchangeEnd::Answered);
        clock.advance(Duration::from_secs(5));
        for end in [ExchangeEnd::ServerError, ExchangeEnd::TimedOut] {
            health.note(end);
            assert_eq!(health.report().state, "up");
        }
        health.note(ExchangeEnd::Unreachable);
        clock.advance(Duration::from_secs(2));
        let report = health.report();
        assert_eq!((report.state, report.failures_in_a_row), ("down", 3));
        assert_eq!(report.last_failure, Some("unreachable"));
        assert_eq!((report.last_answer_s_ago, report.last_failure_s_ago), (Some(7), Some(2)));
        health.note(ExchangeEnd::Limited);
        assert_eq!((health.report().state, health.report().failures_in_a_row), ("up", 0));
    }

    #[test]
    fn a_request_waits_until_its_headers_are_here_or_it_is_given_up() {
        let (health, _) = health();
        let waiting = health.wait();
        assert_eq!(health.report().waiting, 1);
        drop(waiting);
        assert_eq!(health.report().waiting, 0);
    }
}
