//! What `/stats` shows of the metrics: totals since the start, and levels now.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Outcome;
use super::latency::LatencyFigures;
use super::models::ModelFigures;

/// What is measured when asked, not counted as it happens.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Levels {
    /// Flights under way.
    pub flights_open: usize,
    /// Bytes of answers that flights hold.
    pub flight_bytes: usize,
    /// Bytes of request bodies and flights held.
    pub buffered_bytes: usize,
    /// Connections of callers.
    pub connections_open: usize,
    /// WebSockets of callers.
    pub tunnels_open: usize,
    /// Credentials that an upstream refuses.
    pub suspensions: usize,
    /// Purge orders in force.
    pub purge_orders: usize,
    /// Bytes of entries in memory.
    pub memory_bytes: usize,
    /// Entries in memory.
    pub memory_entries: usize,
}

/// Totals since start, as `/stats` shows them.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Requests by outcome.
    pub requests: BTreeMap<&'static str, u64>,
    /// Requests by route, then outcome.
    pub routes: BTreeMap<&'static str, BTreeMap<&'static str, u64>>,
    /// Why requests bypassed the cache.
    pub bypass_reasons: BTreeMap<&'static str, u64>,
    /// Hits by the tier that answered.
    pub hits_by_tier: BTreeMap<&'static str, u64>,
    /// What became of the answers to misses, as far as that was known at their heads.
    pub miss_reasons: BTreeMap<&'static str, u64>,
    /// Why fetched answers were not stored.
    pub not_stored: BTreeMap<&'static str, u64>,
    /// Answers stored.
    pub stores: u64,
    /// Requests that joined another's fetch.
    pub coalesced: u64,
    /// Requests that were answered without a call upstream of their own.
    pub upstream_calls_saved: u64,
    /// Entries that left memory for want of space.
    pub evictions: u64,
    /// Body bytes sent from the cache.
    pub bytes_from_cache: u64,
    /// Body bytes sent from upstreams.
    pub bytes_from_upstream: u64,
    /// Input tokens not paid for again.
    pub input_tokens_saved: u64,
    /// Output tokens not paid for again.
    pub output_tokens_saved: u64,
    /// Upstream time that callers did not wait for.
    pub milliseconds_saved: u64,
    /// From a request's header to its answer's header, by outcome.
    pub latency: BTreeMap<&'static str, LatencyFigures>,
    /// Figures by model; [`super::models`] says which are told apart.
    pub models: BTreeMap<String, ModelFigures>,
}

impl Totals {
    /// Requests that ended so.
    #[must_use]
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.requests.get(outcome.name()).copied().unwrap_or(0)
    }

    /// Adds the requests of one route that ended so.
    pub(super) fn count_request(
        &mut self,
        route: &'static str,
        outcome: &'static str,
        reason: &'static str,
        count: u64,
    ) {
        if count == 0 {
            return;
        }
        *self.requests.entry(outcome).or_default() += count;
        *self.routes.entry(route).or_default().entry(outcome).or_default() += count;
        match outcome {
            "hit" => *self.hits_by_tier.entry(reason).or_default() += count,
            "miss" => *self.miss_reasons.entry(reason).or_default() += count,
            "bypass" => *self.bypass_reasons.entry(reason).or_default() += count,
            _ => {}
        }
    }
}
