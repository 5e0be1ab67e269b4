//! Every metric in one place: its name, its labels, its handle.
//!
//! Handles live here and not in a global recorder. Label values come from closed sets (routes,
//! outcomes and reasons are words of this program; upstreams are named by the config), so the
//! number of series is bounded by construction.

pub mod flights;
pub mod foyer;
pub mod latency;
pub mod log;
pub mod models;
pub mod redis;
pub mod requests;
mod totals;
pub mod trace;
pub mod upstream;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keyspec::{ModelRoute, Route};
use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::cache::entry::Usage;
use flights::FlightMetrics;
pub use flights::{Refresh, RefreshedAs};
use latency::Latency;
use models::Models;
use requests::{Ended, RequestLines};
pub use totals::{Levels, Totals};

/// How a request ended, as metrics, `/stats` and logs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered by a fresh entry.
    Hit,
    /// Answered by a stale entry.
    Stale,
    /// Fetched from the upstream for the cache.
    Miss,
    /// Answered by a fetch that another request had begun.
    Collapsed,
    /// Passed through without the cache.
    Bypass,
    /// Refused by us.
    Refused,
    /// The upstream failed.
    Failed,
}

impl Outcome {
    /// Every outcome, in the order of their numbers.
    pub const ALL: [Outcome; 7] = [
        Outcome::Hit,
        Outcome::Stale,
        Outcome::Miss,
        Outcome::Collapsed,
        Outcome::Bypass,
        Outcome::Refused,
        Outcome::Failed,
    ];

    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Hit => "hit",
            Outcome::Stale => "stale",
            Outcome::Miss => "miss",
            Outcome::Collapsed => "collapsed",
            Outcome::Bypass => "bypass",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        }
    }
}

/// Which tier answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TierName {
    /// Memory.
    Memory,
    /// Disk.
    Disk,
    /// The Redis that servers share.
    Redis,
}

impl TierName {
    /// All of them, in the order of their numbers.
    pub const ALL: [TierName; 3] = [TierName::Memory, TierName::Disk, TierName::Redis];

    /// The label's value, also the `detail` of a hit.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            TierName::Memory => "memory",
            TierName::Disk => "disk",
            TierName::Redis => "redis",
        }
    }
}

/// Who gave a purge order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgedBy {
    /// The admin listener was asked.
    Admin,
    /// A PURGE was sent to the data listener.
    Method,
    /// An unsafe method, a HEAD or a negative answer made it invalid.
    Invalidation,
    /// Another model began to answer.
    ModelChange,
}

impl PurgedBy {
    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PurgedBy::Admin => "admin",
            PurgedBy::Method => "method",
            PurgedBy::Invalidation => "invalidation",
            PurgedBy::ModelChange => "model-change",
        }
    }
}

/// Why a connection was closed before it could ask, or for how it asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its address has as many as it may have.
    PerAddress,
    /// It had to begin with a PROXY header, and did not in time.
    ProxyHeader,
    /// There was no TLS handshake in time.
    Handshake,
    /// What it sent is no HTTP, or more of a header than is read.
    BadRequest,
}

impl Refused {
    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Refused::PerAddress => "per-address",
            Refused::ProxyHeader => "proxy-header",
            Refused::Handshake => "tls-handshake",
            Refused::BadRequest => "bad-request",
        }
    }
}

/// The label of a route: a model route's name, `declared` for what the config declares, or `other`
/// for all that is passed through.
#[must_use]
pub fn route_label(route: Option<Route>) -> &'static str {
    route.map_or("other", Route::name)
}

/// The reason of a stale answer that stands in for a failed call: that call was made.
pub const STALE_IF_ERROR: &str = "if-error";

const TIER_READS: &str = "cache_server_tier_read_seconds";

const REPEATS: &str = "cache_server_repeats_total";

const CONFIG_RELOADS: &str = "cache_server_config_reloads_total";

const METADATA: Metadata<'static> = Metadata::new("cache_server::telemetry", Level::INFO, None);

/// Seconds; from a memory lookup to a long generation.
const BUCKETS: [f64; 18] = [
    0.000_001, 0.000_005, 0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5,
    1.0, 2.5, 5.0, 10.0, 60.0, 300.0,
];

/// A counter that `/stats` can read as well.
#[derive(Debug)]
struct Tally {
    counter: Counter,
    count: AtomicU64,
}

impl Tally {
    fn add(&self, by: u64) {
        self.counter.increment(by);
        self.count.fetch_add(by, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

type RequestLabels = (&'static str, &'static str, &'static str);

/// All metric handles.
pub struct Telemetry {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    /// Hits by route and tier, counted without a lock.
    hits: Vec<(&'static str, [Tally; 3])>,
    /// All other requests by route, outcome and reason: closed sets, so bounded.
    requests: Mutex<BTreeMap<RequestLabels, Tally>>,
    not_stored: Mutex<BTreeMap<RequestLabels, Tally>>,
    /// What flights, refreshes and stale answers are counted by.
    pub flights: FlightMetrics,
    latency: Latency,
    models: Models,
    lines: RequestLines,
    stores: Tally,
    coalesced: Tally,
    repeats: Counter,
    bytes_from_cache: Tally,
    bytes_from_upstream: Tally,
    input_tokens_saved: Tally,
    output_tokens_saved: Tally,
    milliseconds_saved: Tally,
    /// Set when it is asked for: what it is made of is counted already.
    upstream_calls_saved: Counter,
    evictions: Tally,
    /// By tier, in the order of their numbers.
    tier_reads: [latency::Histogram; 3],
    flights_open: Gauge,
    flight_bytes: Gauge,
    buffered_bytes: Gauge,
    connections_open: Gauge,
    tunnels_open: Gauge,
    suspensions: Gauge,
    purge_orders: Gauge,
    config_successful: Gauge,
    memory_bytes: Gauge,
    memory_entries: Gauge,
}

impl Telemetry {
    /// Builds a recorder of our own and registers every handle. Requests are told of by `lines`.
    ///
    /// # Errors
    /// When the exporter refuses the buckets.
    pub fn new(lines: RequestLines) -> Result<Telemetry, BuildError> {
        let recorder = Arc::new(build_recorder()?);
        describe(&recorder);
        FlightMetrics::describe(&recorder);
        let counter = |name, labels| tally(&recorder, name, labels);
        let saved =
            |kind| counter("cache_server_tokens_saved_total", vec![Label::new("kind", kind)]);
        let served =
            |source| counter("cache_server_served_bytes_total", vec![Label::new("source", source)]);
        let gauge = |name| recorder.register_gauge(&Key::from_name(name), &METADATA);
        Ok(Telemetry {
            hits: hit_tallies(&recorder),
            requests: Mutex::default(),
            not_stored: Mutex::default(),
            flights: FlightMetrics::new(&recorder),
            latency: Latency::default(),
            models: Models::default(),
            lines,
            stores: counter("cache_server_stores_total", vec![]),
            coalesced: counter("cache_server_coalesced_total", vec![]),
            repeats: recorder.register_counter(&Key::from_name(REPEATS), &METADATA),
            bytes_from_cache: served("cache"),
            bytes_from_upstream: served("upstream"),
            input_tokens_saved: saved("input"),
            output_tokens_saved: saved("output"),
            milliseconds_saved: counter("cache_server_time_saved_milliseconds_total", vec![]),
            upstream_calls_saved: recorder.register_counter(
                &Key::from_name("cache_server_upstream_calls_saved_total"),
                &METADATA,
            ),
            evictions: counter(
                "cache_server_evictions_total",
                vec![Label::new("tier", TierName::Memory.name())],
            ),
            tier_reads: <[latency::Histogram; 3]>::default(),
            flights_open: gauge("cache_server_flights_open"),
            flight_bytes: gauge("cache_server_flight_bytes"),
            buffered_bytes: gauge("cache_server_buffered_bytes"),
            connections_open: gauge("cache_server_connections_open"),
            tunnels_open: gauge("cache_server_tunnels_open"),
            suspensions: gauge("cache_server_suspensions"),
            purge_orders: gauge("cache_server_purge_orders"),
            config_successful: {
                let gauge = gauge("cache_server_config_last_reload_successful");
                gauge.set(1.0);
                gauge
            },
            memory_bytes: gauge("cache_server_memory_bytes"),
            memory_entries: gauge("cache_server_memory_entries"),
            handle: recorder.handle(),
            recorder,
        })
    }

    /// One that tells of no request, for tests of others.
    #[cfg(test)]
    pub(crate) fn silent() -> Telemetry {
        let lines = RequestLines::new(log::Form::Text, 0, std::time::Instant::now());
        Telemetry::new(lines).expect("the buckets are fine")
    }

    /// foyer's own metrics, into the same recorder.
    #[must_use]
    pub fn foyer_registry(&self) -> foyer::Registry {
        foyer::Registry(Arc::clone(&self.recorder))
    }

    /// The counter of spans that were lost for this reason, a word of this program.
    pub fn spans_dropped(&self, reason: &'static str) -> Counter {
        let labels = vec![Label::new("reason", reason)];
        let key = Key::from_parts("cache_server_spans_dropped_total", labels);
        self.recorder.register_counter(&key, &METADATA)
    }

    /// Counts a hit of an entry that is so old.
    pub fn hit(&self, route: Route, tier: TierName, age_s: u64, is_negative: bool) {
        self.flights.hit(age_s, is_negative);
        let label = route.name();
        if let Some((_, tallies)) = self.hits.iter().find(|(name, _)| *name == label) {
            tallies[tier as usize].add(1);
        }
    }

    /// Counts a request that was no hit. `reason` is a word of this program, or empty.
    pub fn request(&self, route: Option<Route>, outcome: Outcome, reason: &'static str) {
        let labels = (route_label(route), outcome.name(), reason);
        let mut requests = lock(&self.requests);
        let tally = requests.entry(labels).or_insert_with(|| {
            tally(&self.recorder, "cache_server_requests_total", request_labels(labels))
        });
        tally.add(1);
    }

    /// Counts how long a caller waited for the head of its answer.
    pub fn answered(&self, outcome: Outcome, took: Duration) {
        self.latency.record(outcome, took);
    }

    /// Counts a request that has ended for its model, and writes its line.
    pub fn ended(&self, ended: &Ended<'_>) {
        self.models.count(ended);
        self.lines.tell(ended);
    }

    /// The request lines, for those who change their bound or call for the count of the rest.
    #[must_use]
    pub fn lines(&self) -> &RequestLines {
        &self.lines
    }

    /// Counts an answer that was fetched for the cache and not stored.
    pub fn not_stored(&self, route: Route, reason: &'static str) {
        let mut not_stored = lock(&self.not_stored);
        let tally = not_stored.entry((route.name(), "not-stored", reason)).or_insert_with(|| {
            let labels = vec![Label::new("route", route.name()), Label::new("reason", reason)];
            tally(&self.recorder, "cache_server_not_stored_total", labels)
        });
        tally.add(1);
    }

    /// Counts an answer that was stored.
    pub fn stored(&self) {
        self.stores.add(1);
    }

    /// Counts a follower.
    pub fn coalesced(&self) {
        self.coalesced.add(1);
    }

    /// Counts a hit whose request was known by its bytes.
    pub fn repeat(&self) {
        self.repeats.increment(1);
    }

    /// Counts an entry that left memory for want of space.
    pub fn evicted(&self) {
        self.evictions.add(1);
    }

    /// Counts body bytes sent to callers from the cache.
    pub fn served_from_cache(&self, bytes: u64) {
        self.bytes_from_cache.add(bytes);
    }

    /// Counts body bytes sent to callers from an upstream.
    pub fn served_from_upstream(&self, bytes: u64) {
        self.bytes_from_upstream.add(bytes);
    }

    /// Counts what one answer that was not paid for again saved.
    pub fn saved(&self, usage: Usage, time: Duration) {
        self.input_tokens_saved.add(usage.input_tokens);
        self.output_tokens_saved.add(usage.output_tokens);
        self.milliseconds_saved.add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    }

    /// Records how long a tier took to answer.
    pub fn tier_read(&self, tier: TierName, took: Duration) {
        self.tier_reads[tier as usize].record(took);
    }

    /// Counts a fault of a tier. `kind` is a word of this program.
    pub fn tier_error(&self, tier: TierName, kind: &'static str) {
        count_tier_error(&self.recorder, tier, kind);
    }

    /// Counts an attempt to read the config anew.
    pub fn config_reloaded(&self, applied: bool) {
        let outcome = if applied { "applied" } else { "refused" };
        let key = Key::from_parts(CONFIG_RELOADS, vec![Label::new("outcome", outcome)]);
        self.recorder.register_counter(&key, &METADATA).increment(1);
        self.config_successful.set(f64::from(u8::from(applied)));
    }

    /// Counts a purge order, by who gave it.
    pub fn purge_ordered(&self, by: PurgedBy) {
        let labels = vec![Label::new("by", by.name())];
        let key = Key::from_parts("cache_server_purge_orders_total", labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    /// Counts a connection that was closed before it could ask, or for how it asked.
    pub fn connection_refused(&self, reason: Refused) {
        let labels = vec![Label::new("reason", reason.name())];
        let key = Key::from_parts("cache_server_connections_refused_total", labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_error(&self) {
        let key = Key::from_name("cache_server_accept_errors_total");
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn render(&self, levels: &Levels) -> String {
        self.flights_open.set(count_as_f64(levels.flights_open));
        self.flight_bytes.set(count_as_f64(levels.flight_bytes));
        self.buffered_bytes.set(count_as_f64(levels.buffered_bytes));
        self.connections_open.set(count_as_f64(levels.connections_open));
        self.tunnels_open.set(count_as_f64(levels.tunnels_open));
        self.suspensions.set(count_as_f64(levels.suspensions));
        self.purge_orders.set(count_as_f64(levels.purge_orders));
        self.upstream_calls_saved.absolute(self.calls_saved());
        self.memory_bytes.set(count_as_f64(levels.memory_bytes));
        self.memory_entries.set(count_as_f64(levels.memory_entries));
        let mut text = self.handle.render();
        self.latency.render(&mut text);
        self.render_tier_reads(&mut text);
        self.flights.render(&mut text);
        text
    }

    fn render_tier_reads(&self, text: &mut String) {
        let _ = writeln!(text, "# HELP {TIER_READS} How long a tier took to answer a read");
        let _ = writeln!(text, "# TYPE {TIER_READS} histogram");
        for tier in TierName::ALL {
            let label = format!("tier=\"{}\"", tier.name());
            self.tier_reads[tier as usize].render(TIER_READS, &label, text);
        }
    }

    /// Drains the histograms' buffers; they grow until this is called.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Calls to upstreams that were not made: answers from entries and from others' fetches.
    fn calls_saved(&self) -> u64 {
        let hits: u64 = self.hits.iter().flat_map(|(_, tallies)| tallies).map(Tally::get).sum();
        let stale = |(_, outcome, reason): &RequestLabels| {
            *outcome == Outcome::Stale.name() && *reason != STALE_IF_ERROR
        };
        let requests = lock(&self.requests);
        let stale: u64 =
            requests.iter().filter(|(labels, _)| stale(labels)).map(|(_, tally)| tally.get()).sum();
        hits + stale + self.coalesced.get()
    }

    /// The totals since start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals {
            stores: self.stores.get(),
            coalesced: self.coalesced.get(),
            upstream_calls_saved: self.calls_saved(),
            evictions: self.evictions.get(),
            bytes_from_cache: self.bytes_from_cache.get(),
            bytes_from_upstream: self.bytes_from_upstream.get(),
            input_tokens_saved: self.input_tokens_saved.get(),
            output_tokens_saved: self.output_tokens_saved.get(),
            milliseconds_saved: self.milliseconds_saved.get(),
            latency: self.latency.figures(),
            models: self.models.figures(),
            ..Totals::default()
        };
        for (route, tallies) in &self.hits {
            for (tier, tally) in TierName::ALL.into_iter().zip(tallies) {
                totals.count_request(route, "hit", tier.name(), tally.get());
            }
        }
        for ((route, outcome, reason), tally) in lock(&self.requests).iter() {
            totals.count_request(route, outcome, reason, tally.get());
        }
        for ((_, _, reason), tally) in lock(&self.not_stored).iter() {
            *totals.not_stored.entry(reason).or_default() += tally.get();
        }
        totals
    }
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telemetry")
    }
}

fn hit_tallies(recorder: &PrometheusRecorder) -> Vec<(&'static str, [Tally; 3])> {
    let hits = |route: Route| {
        TierName::ALL.map(|tier| {
            let labels = request_labels((route.name(), Outcome::Hit.name(), tier.name()));
            tally(recorder, "cache_server_requests_total", labels)
        })
    };
    let models = ModelRoute::ALL.into_iter().map(Route::Model);
    models
        .chain([Route::Declared, Route::Generic])
        .map(|route| (route.name(), hits(route)))
        .collect()
}

fn count_tier_error(recorder: &PrometheusRecorder, tier: TierName, kind: &'static str) {
    let labels = vec![Label::new("tier", tier.name()), Label::new("kind", kind)];
    let key = Key::from_parts("cache_server_tier_errors_total", labels);
    recorder.register_counter(&key, &METADATA).increment(1);
}

fn request_labels((route, outcome, reason): RequestLabels) -> Vec<Label> {
    vec![Label::new("route", route), Label::new("outcome", outcome), Label::new("reason", reason)]
}

fn tally(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<Label>) -> Tally {
    let counter = recorder.register_counter(&Key::from_parts(name, labels), &METADATA);
    Tally { counter, count: AtomicU64::new(0) }
}

fn build_recorder() -> Result<PrometheusRecorder, BuildError> {
    let followers = Matcher::Full(flights::FOLLOWERS.into());
    let builder = PrometheusBuilder::new()
        .set_buckets(&BUCKETS)?
        .set_buckets_for_metric(followers, &flights::FOLLOWERS_BUCKETS)?;
    Ok(builder.build_recorder())
}

fn describe(recorder: &PrometheusRecorder) {
    for (name, what) in [
        (
            "cache_server_requests_total",
            "Requests by route, outcome and reason (a hit's tier, a bypass's cause)",
        ),
        ("cache_server_not_stored_total", "Answers fetched for the cache and not stored, and why"),
        ("cache_server_stores_total", "Answers stored"),
        (REPEATS, "Hits of requests that came before, byte for byte"),
        ("cache_server_coalesced_total", "Requests that joined another's fetch"),
        (
            "cache_server_upstream_calls_saved_total",
            "Requests that were answered without a call upstream of their own",
        ),
        ("cache_server_served_bytes_total", "Body bytes sent to callers, by where they came from"),
        ("cache_server_tokens_saved_total", "Tokens not paid for again, from the answers' usage"),
        (
            "cache_server_time_saved_milliseconds_total",
            "Upstream time that callers did not wait for",
        ),
        ("cache_server_evictions_total", "Entries that left a tier for want of space"),
        ("cache_server_tier_errors_total", "Faults of a tier, each of which became a miss"),
        ("cache_server_spans_dropped_total", "Spans that did not reach the collector, and why"),
        (CONFIG_RELOADS, "Attempts to read the config anew, by outcome"),
        ("cache_server_upstream_exchanges_total", "Exchanges with an upstream by how they ended"),
        (
            "cache_server_connections_refused_total",
            "Connections closed before they could ask, and why",
        ),
        ("cache_server_accept_errors_total", "Connections that could not be accepted"),
    ] {
        recorder.describe_counter(KeyName::from_const_str(name), None, what.into());
    }
    for (name, what) in [
        ("cache_server_flights_open", "Fetches under way for the cache"),
        ("cache_server_flight_bytes", "Bytes of answers that these hold"),
        ("cache_server_buffered_bytes", "Bytes of request bodies and fetches held in memory"),
        ("cache_server_connections_open", "Connections of callers"),
        ("cache_server_tunnels_open", "WebSockets of callers"),
        ("cache_server_config_last_reload_successful", "0 while the config file is not usable"),
        ("cache_server_suspensions", "Credentials that an upstream refuses"),
        ("cache_server_purge_orders", "Purge orders in force"),
        ("cache_server_purge_orders_total", "Purge orders given, by whom"),
        ("cache_server_memory_bytes", "Bytes of entries in memory"),
        ("cache_server_memory_entries", "Entries in memory"),
        ("cache_server_upstream_up", "0 after three failures in a row, else 1"),
    ] {
        recorder.describe_gauge(KeyName::from_const_str(name), None, what.into());
    }
    let upstream_seconds = KeyName::from_const_str("cache_server_upstream_seconds");
    let what = "From asking an upstream to its headers or its end";
    recorder.describe_histogram(upstream_seconds, None, what.into());
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats; levels stay far below 2^53")]
fn count_as_f64(count: usize) -> f64 {
    count as f64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_numbered_in_their_order() {
        for (number, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, number, "{outcome:?}");
        }
    }

    #[test]
    fn what_is_counted_is_rendered_and_totalled() {
        let telemetry = Telemetry::silent();
        telemetry.hit(Route::Model(ModelRoute::OpenAiEmbeddings), TierName::Disk, 5, false);
        telemetry.request(Some(Route::Model(ModelRoute::OpenAiEmbeddings)), Outcome::Miss, "");
        telemetry.request(None, Outcome::Bypass, "not-a-model-route");
        telemetry.request(None, Outcome::Bypass, "not-a-model-route");
        let usage = Usage { input_tokens: 3, output_tokens: 5 };
        telemetry.saved(usage, Duration::from_millis(70));

        let totals = telemetry.totals();
        assert_eq!(totals.ended(Outcome::Hit), 1);
        assert_eq!(totals.bypass_reasons["not-a-model-route"], 2);
        assert_eq!(totals.hits_by_tier["disk"], 1);
        assert_eq!((totals.input_tokens_saved, totals.milliseconds_saved), (3, 70));

        let text = telemetry.render(&Levels { flights_open: 4, ..Levels::default() });
        for line in [
            "cache_server_requests_total{route=\"openai.embeddings\",outcome=\"hit\",reason=\"disk\"} 1",
            "cache_server_requests_total{route=\"other\",outcome=\"bypass\",reason=\"not-a-model-route\"} 2",
            "cache_server_tokens_saved_total{kind=\"output\"} 5",
            "cache_server_flights_open 4",
        ] {
            assert!(text.contains(line), "missing {line} in:\n{text}");
        }
    }
}
