//! A second server: what it is spared by the Redis that a first one has filled.

use std::slice;

use anyhow::ensure;

use crate::cache::have_written;
use crate::load::Job;
use crate::redis_server::Redis;
use crate::shared::process;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Rounds;
use crate::shared::spread::count;
use crate::stage::Stage;
use crate::zipf::{self, Outcome};

/// Different questions, and who asks them.
const KEYS: usize = 10_000;
const CALLERS: usize = 8;
/// How long the upstream thinks.
const DELAY_MS: u64 = 5;
/// The share of hits at which the first server is called warm, and where it must be in any case.
const WARM: f64 = 0.95;
const WARM_AFTER_MAX: usize = 300_000;
/// The first requests, of which hits are counted.
const FIRST: usize = 1000;
const FIRST_FEW: usize = 5000;

/// What one server gave.
#[derive(Clone, Debug)]
struct Measured {
    outcome: Outcome,
    upstream_calls: f64,
}

/// Measures the first server from the start until it is warm, then a second one.
pub(crate) async fn measure(stage: &mut Stage, rounds: u16) -> anyhow::Result<Section> {
    let mut measured = Rounds::of(2);
    for _ in 0..rounds {
        let redis = stage.redis().await?;
        let first = stage.new_numbers();
        let warm = one(stage, &redis, first, WARM, WARM_AFTER_MAX).await?;
        ensure!(warm.outcome.hits_of_last() >= WARM, "the first server does not become warm");
        // It never has more than all hits: this one asks so many and no more.
        let second = one(stage, &redis, first, 2.0, FIRST_FEW).await?;
        measured.add(0, warm);
        measured.add(1, second);
    }
    let names = ["first server, empty Redis", "second server, its Redis"].map(str::to_owned);
    Ok(Section::new(title(), names, &measured, &columns()))
}

/// A server with empty local tiers under the load of these numbers.
async fn one(
    stage: &mut Stage,
    redis: &Redis,
    first: u64,
    enough: f64,
    requests_max: usize,
) -> anyhow::Result<Measured> {
    let server = stage.server("cache-server", redis).await?;
    let job = Job::Zipf(zipf::Job {
        address: server.address(),
        callers: CALLERS,
        keys: KEYS,
        first,
        delay_ms: DELAY_MS,
        enough,
        requests_max,
    });
    let calls = stage.upstream_calls().await?;
    let outcome = process::run_load(&job, job.duration(), stage.cores.load).await?;
    let upstream_calls = stage.upstream_calls().await? - calls;
    // What it has fetched is in Redis before another one asks.
    let dropped = have_written(slice::from_ref(&server), upstream_calls).await?;
    ensure!(dropped == 0.0, "redis lacks entries");
    server.stop().await?;
    Ok(Measured { outcome, upstream_calls })
}

fn title() -> String {
    format!(
        "A second server: {KEYS} questions by Zipf's law from {CALLERS} callers, the upstream takes {DELAY_MS} ms. The \
         first server is asked until {:.0} % of the last 1,000 are hits; then a second one with empty \
         local tiers and the same Redis is asked the same {FIRST_FEW}, in the same order. Upstream calls \
         are those of the first {FIRST} and {FIRST_FEW} requests, then all.",
        WARM * 100.0
    )
}

fn columns() -> [Column<Measured>; 12] {
    [
        Column::median("hit % of 1,000", 1, |of| Some(of.outcome.hits_of_first(FIRST) * 100.0)),
        Column::median("hit % of 5,000", 1, |of| Some(of.outcome.hits_of_first(FIRST_FEW) * 100.0)),
        Column::median("of them Redis %", 1, |of| {
            let first = of.outcome.first(FIRST_FEW);
            Some(count(first.redis) / count(FIRST_FEW) * 100.0)
        }),
        Column::median("last 1,000 %", 1, |of| Some(of.outcome.hits_of_last() * 100.0)),
        Column::median("requests", 0, |of| Some(count(of.outcome.requests()))),
        Column::median("calls of 1,000", 0, |of| Some(count(of.outcome.first(FIRST).upstream))),
        Column::median("of 5,000", 0, |of| Some(count(of.outcome.first(FIRST_FEW).upstream))),
        Column::median("all calls", 0, |of| Some(of.upstream_calls)),
        Column::median("Redis hit p50 µs", 0, |of| Some(of.outcome.redis?.median)),
        Column::median("p99 µs", 0, |of| Some(of.outcome.redis?.p99)),
        Column::median("local hit p50 µs", 0, |of| Some(of.outcome.local?.median)),
        Column::median("local p99 µs", 0, |of| Some(of.outcome.local?.p99)),
    ]
}
