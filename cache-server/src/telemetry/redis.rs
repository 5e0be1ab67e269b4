//! The metrics of the Redis tier, and of what servers tell each other by it. What it has in common with the other tiers is counted with them.

use std::sync::Arc;

use metrics::{Key, KeyName, Label, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;

use super::{METADATA, Telemetry, TierName, count_tier_error};
use crate::cache::coherence::CoherenceMetrics;
use crate::cache::leases::{ClaimOutcome, LeaseMetrics, WaitOutcome};
use crate::cache::tiers::redis::metrics::{Dropped, RedisMetrics, RedisRead};

impl Telemetry {
    /// The handles of the Redis tier.
    #[must_use]
    pub fn redis(&self) -> RedisMetrics {
        describe(&self.recorder);
        let counter = |name, label: &'static str, value: &'static str| {
            let key = Key::from_parts(name, vec![Label::new(label, value)]);
            self.recorder.register_counter(&key, &METADATA)
        };
        let gauge = |name| self.recorder.register_gauge(&Key::from_static_name(name), &METADATA);
        let written = |outcome| counter("cache_server_redis_writes_total", "outcome", outcome);
        let seconds = Key::from_static_name("cache_server_redis_write_seconds");
        let recorder = Arc::clone(&self.recorder);
        let error = move |kind| count_tier_error(&recorder, TierName::Redis, kind);
        RedisMetrics {
            reads: RedisRead::NAMES
                .map(|name| counter("cache_server_redis_reads_total", "outcome", name)),
            written: written("written"),
            write_failed: written("failed"),
            write_seconds: self.recorder.register_histogram(&seconds, &METADATA),
            drops: Dropped::NAMES
                .map(|name| counter("cache_server_redis_write_drops_total", "reason", name)),
            up: gauge("cache_server_redis_up"),
            breaker_open: gauge("cache_server_redis_breaker_open"),
            writes_paused: gauge("cache_server_redis_writes_paused"),
            queue_entries: gauge("cache_server_redis_write_queue_entries"),
            queue_bytes: gauge("cache_server_redis_write_queue_bytes"),
            errors: Box::new(error),
        }
    }
}

impl Telemetry {
    /// The handles of leases.
    #[must_use]
    pub fn leases(&self) -> LeaseMetrics {
        let by_outcome = |name, outcome| {
            let key = Key::from_parts(name, vec![Label::new("outcome", outcome)]);
            self.recorder.register_counter(&key, &METADATA)
        };
        let describe = |name, what: &'static str| {
            self.recorder.describe_counter(KeyName::from_const_str(name), None, what.into());
        };
        describe(LEASES, "Claims of keys that are about to be fetched, by what they came to");
        describe(LEASE_WAITS, "Waits for another server's fetch, by what they came to");
        let (name, what) = (KeyName::from_const_str(LEASE_WAIT_SECONDS), "How long they took");
        self.recorder.describe_histogram(name, None, what.into());
        let seconds = Key::from_static_name(LEASE_WAIT_SECONDS);
        LeaseMetrics {
            claims: ClaimOutcome::NAMES.map(|outcome| by_outcome(LEASES, outcome)),
            waits: WaitOutcome::NAMES.map(|outcome| by_outcome(LEASE_WAITS, outcome)),
            wait_seconds: self.recorder.register_histogram(&seconds, &METADATA),
        }
    }

    /// The handles of coherence.
    #[must_use]
    pub fn coherence(&self) -> CoherenceMetrics {
        let gauge = |name, what: &'static str| {
            self.recorder.describe_gauge(KeyName::from_const_str(name), None, what.into());
            self.recorder.register_gauge(&Key::from_static_name(name), &METADATA)
        };
        let what = "Times that Redis had lost purge orders, and was told them again";
        let generations = KeyName::from_const_str(GENERATIONS);
        self.recorder.describe_counter(generations, None, what.into());
        let generations = Key::from_static_name(GENERATIONS);
        CoherenceMetrics {
            generations: self.recorder.register_counter(&generations, &METADATA),
            orders_behind: gauge(
                "cache_server_purge_orders_behind",
                "Purge orders given here that Redis does not have yet",
            ),
            contact_age: gauge(
                "cache_server_coherence_contact_age_seconds",
                "Time since what other servers ordered was last known",
            ),
            clock_offset: gauge(
                "cache_server_clock_offset_seconds",
                "How far this server's clock is behind Redis's",
            ),
            nodes: gauge("cache_server_nodes", "Servers that share the Redis, with this one"),
        }
    }
}

const LEASES: &str = "cache_server_leases_total";
const LEASE_WAITS: &str = "cache_server_lease_waits_total";
const LEASE_WAIT_SECONDS: &str = "cache_server_lease_wait_seconds";
const GENERATIONS: &str = "cache_server_coherence_generations_total";

fn describe(recorder: &PrometheusRecorder) {
    for (name, what) in [
        ("cache_server_redis_reads_total", "Reads of Redis by what they came to"),
        ("cache_server_redis_writes_total", "Attempts to write to Redis by their outcome"),
        ("cache_server_redis_write_drops_total", "Entries not written to Redis, and why"),
    ] {
        recorder.describe_counter(KeyName::from_const_str(name), None, what.into());
    }
    for (name, what) in [
        ("cache_server_redis_up", "0 while Redis is left alone"),
        ("cache_server_redis_breaker_open", "The share of Redis that is left alone, 0 to 1"),
        ("cache_server_redis_writes_paused", "1 while Redis refuses to be written to"),
        ("cache_server_redis_write_queue_entries", "Entries that wait to be written to Redis"),
        ("cache_server_redis_write_queue_bytes", "Bytes that wait to be written to Redis"),
    ] {
        recorder.describe_gauge(KeyName::from_const_str(name), None, what.into());
    }
    let what = "How long a write to Redis took";
    let seconds = KeyName::from_const_str("cache_server_redis_write_seconds");
    recorder.describe_histogram(seconds, None, what.into());
}
