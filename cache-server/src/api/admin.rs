//! Health, readiness, metrics and stats. All of it reads; nothing here changes state.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use crate::app::App;
use crate::cache::coherence::CoherenceReport;
use crate::cache::tiers::redis::RedisReport;
use crate::telemetry::{Levels, Outcome, Totals};
use crate::upstream::health::HealthReport;

/// `GET /healthz`: the process is alive.
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: it takes requests. 503 once it drains, so that a load balancer looks elsewhere. A
/// fault of Redis or of the disk is told and no reason to look elsewhere: the others have the same.
pub async fn readyz(State(app): State<Arc<App>>) -> impl IntoResponse {
    if app.draining.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned());
    }
    let (redis, coherence) = (app.redis_report(), app.coherence_report());
    let faults = redis.iter().flat_map(RedisReport::faults);
    let faults = faults.chain(coherence.iter().flat_map(CoherenceReport::faults));
    let faults: Vec<String> = faults.chain(app.tiers.local.fault().map(Into::into)).collect();
    if faults.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::OK, format!("ready, degraded: {}\n", faults.join(", ")))
    }
}

/// `GET /metrics`: in Prometheus' text format.
pub async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let text = app.telemetry.render(&app.levels());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// `GET /stats`: the totals since start, as JSON.
pub async fn stats(State(app): State<Arc<App>>) -> impl IntoResponse {
    Json(Stats::of(&app))
}

/// What `/stats` shows.
#[derive(Debug, Serialize)]
pub struct Stats {
    version: &'static str,
    /// What it was built from.
    commit: &'static str,
    uptime_seconds: u64,
    /// Hits among all that could have been hits, 0 to 1.
    hit_ratio: f64,
    #[serde(flatten)]
    totals: Totals,
    #[serde(flatten)]
    levels: Levels,
    upstreams: BTreeMap<String, HealthReport>,
    /// The tier that servers share, if there is one.
    redis: Option<RedisReport>,
    /// What servers tell each other by it.
    coherence: Option<CoherenceReport>,
    /// Lines of the log that were dropped because nobody read them in time.
    log_lines_dropped: usize,
}

impl Stats {
    /// Reads the totals and levels now.
    #[must_use]
    pub fn of(app: &App) -> Stats {
        let totals = app.telemetry.totals();
        Stats {
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("CACHE_SERVER_COMMIT"),
            uptime_seconds: app.started.elapsed().as_secs(),
            hit_ratio: hit_ratio(&totals),
            levels: app.levels(),
            upstreams: app.upstream_health(),
            redis: app.redis_report(),
            coherence: app.coherence_report(),
            totals,
            log_lines_dropped: app.log.dropped_lines(),
        }
    }
}

/// Answers that were not paid for, among all that the cache was asked for.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a ratio for people; counts stay below 2^53")]
pub fn hit_ratio(totals: &Totals) -> f64 {
    let saved = [Outcome::Hit, Outcome::Stale, Outcome::Collapsed]
        .map(|outcome| totals.ended(outcome))
        .iter()
        .sum::<u64>();
    let asked = saved + totals.ended(Outcome::Miss);
    if asked == 0 { 0.0 } else { saved as f64 / asked as f64 }
}
