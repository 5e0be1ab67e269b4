//! Judgement: whether an entry that was found is still of use, by its times and by the purge orders.

use std::hint::black_box;
use std::time::Duration;

use anyhow::ensure;
use cache_server::cache::entry::Selector;
use cache_server::cache::freshness::cache_control::RequestDirectives;
use cache_server::cache::freshness::serve::{Decision, decide};
use cache_server::cache::purge::{Manner, PurgeSettings, Purges, TARGETS_MAX, Target, Verdict};
use cache_server::clock::Clock;
use criterion::Criterion;
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};

use crate::NOW;
use crate::entries::{self, Bodies};

/// Purge orders in force, none of which names the entry.
const ORDERS: usize = 100_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Measures the decision and the verdict.
pub(crate) fn measure(criterion: &mut Criterion) -> anyhow::Result<()> {
    decision(criterion)?;
    verdict(criterion)
}

fn decision(criterion: &mut Criterion) -> anyhow::Result<()> {
    let stored = entries::entry(1, Bodies::Plain.body(1, 100), NOW).facts();
    let now = NOW.plus(Duration::from_secs(60));
    let nothing_said = HeaderMap::new();
    let mut wishes = HeaderMap::new();
    wishes.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=600, min-fresh=10"));
    let mut group = criterion.benchmark_group("freshness decision");
    for (name, fields) in [("nothing said", nothing_said), ("max-age, min-fresh", wishes)] {
        let answer =
            || decide(black_box(&stored), &RequestDirectives::parse(black_box(&fields)), now);
        ensure!(matches!(answer(), Decision::Fresh { .. }), "the entry is not fresh");
        group.bench_function(name, |bencher| bencher.iter(answer));
    }
    group.finish();
    Ok(())
}

fn verdict(criterion: &mut Criterion) -> anyhow::Result<()> {
    let entry = entries::entry(1, Bodies::Plain.body(1, 100), NOW);
    let settings = PurgeSettings { orders_max: 2 * ORDERS, entry_life_max: 7 * DAY };
    let purges = Purges::open(None, settings, Clock::standing_at(NOW), false)?;
    let tags: Vec<Target> = (0..ORDERS)
        .map(|number| Target::Selector(Selector::tag(&format!("product-{number}"))))
        .collect();
    for order in tags.chunks(TARGETS_MAX) {
        purges.order_soon(order, Manner::Hard);
    }
    let mut group = criterion.benchmark_group("purge verdict");
    let ages = [("filled after all orders", purges.sequence()), ("filled before them", 0)];
    for (name, sequence) in ages {
        let verdict = || purges.verdict(black_box(&entry.selectors), black_box(sequence));
        ensure!(verdict() == Verdict::Alive, "{name}: the entry is purged");
        group.bench_function(name, |bencher| bencher.iter(verdict));
    }
    group.finish();
    Ok(())
}
