//! Crowds: a storm on a cold key, and many callers who ask what is stored and what is new, mixed.

use crate::chart::Group;
use crate::contenders::{Contender, Prompts, REUSED, front, nginx_cache, varnish};
use crate::load::job::{Expected, Numbers, Until};
use crate::measure::{Extent, Found};
use crate::rounds::{self, Load, Measured};
use crate::shared::exchange::Question;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Figure;
use crate::stage::Stage;

/// Callers of the storm, and how long its upstream thinks.
const STORM_CALLERS: u64 = 1000;
const STORM_DELAY_MS: u64 = 400;
const STORM: Question = Question { delay_ms: STORM_DELAY_MS, ..REUSED };
/// Prompts that are stored where requests are mixed, callers, and how many of a hundred requests are new.
const MIXED_PROMPTS: u64 = 10_000;
const MIXED_CALLERS: u64 = 64;
const NEW_PERCENT: u8 = 5;

/// Many callers on one cold key.
pub(crate) async fn storm(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let one = Prompts::OneNew;
    let contenders = [
        Contender::new("direct", front(&stage.upstream), one, Expected::Direct),
        Contender::new("cache-server", front(&stage.cache), one, Expected::Cache),
        Contender::new("nginx", nginx_cache(stage), one, Expected::Peer),
        Contender::new("Varnish", varnish(stage), one, Expected::Peer),
    ]
    .map(|contender| contender.asking(STORM));
    // Beside 400 ms it matters little that a load has to be woken.
    let until = Until::Asked { times: 1 };
    let load = Load { callers: STORM_CALLERS, until, may_spin: false };
    let measured = rounds::run(stage, &contenders, extent.rounds, load).await?;
    let mean: Figure<Measured> = |measured| Some(measured.outcome.whole.mean / 1e3);
    let columns: [Column<Measured>; 7] = [
        Column::largest("most calls", 0, |measured| Some(measured.upstream_calls)),
        Column::median("mean ms", 1, mean),
        Column::difference("− direct ms", 1, mean),
        Column::spread(mean),
        Column::median("p50 ms", 1, |measured| Some(measured.outcome.whole.median / 1e3)),
        Column::median("p99 ms", 1, |measured| Some(measured.outcome.whole.p99 / 1e3)),
        Column::largest("max ms", 1, |measured| Some(measured.outcome.whole.max / 1e3)),
    ];
    let title = format!(
        "Storm: {STORM_CALLERS} callers on open connections ask the same at once; nobody has it, \
         and the upstream takes {STORM_DELAY_MS} ms."
    );
    let names = contenders.iter().map(Contender::shown);
    let section = Section::new(title, names, &measured, &columns);
    Ok(Found { sections: vec![section], groups: Vec::new() })
}

/// Stored prompts by Zipf's law, and some that are new.
pub(crate) async fn mixed(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let stored = Numbers { count: MIXED_PROMPTS, ..stage.new_numbers() };
    let prompts = |expected| Prompts::Mixed { stored, new_percent: NEW_PERCENT, expected };
    let (ours, peers) = (prompts(Expected::Miss), prompts(Expected::PeerMiss));
    let contenders = [
        Contender::new("cache-server", front(&stage.cache), ours, Expected::Hit),
        Contender::new("nginx", nginx_cache(stage), peers, Expected::PeerHit),
        Contender::new("Varnish", varnish(stage), peers, Expected::PeerHit),
    ];
    for (contender, miss) in
        contenders.iter().zip([Expected::Miss, Expected::PeerMiss, Expected::PeerMiss])
    {
        stage.ask_each(contender, stored, miss).await?;
    }
    let load = Load::lasting(MIXED_CALLERS, extent.millis);
    let measured = rounds::run(stage, &contenders, extent.rounds, load).await?;
    let per_second: Figure<Measured> = |measured| Some(measured.outcome.per_second);
    let columns = [
        Column::median("requests/s", 0, per_second),
        Column::ratio_to(1, "× nginx", per_second),
        Column::ratio_to(2, "× Varnish", per_second),
        Column::spread(per_second),
        Column::median("upstream calls/100", 2, |measured| {
            Some(measured.upstream_calls / measured.outcome.answers * 100.0)
        }),
        Column::median("median µs", 0, |measured| Some(measured.outcome.whole.median)),
        Column::median("p99 µs", 0, |measured| Some(measured.outcome.whole.p99)),
        Column::median("server µs/request", 2, |measured| measured.server_us),
        Column::median("load busy", 2, |measured| Some(measured.outcome.busy)),
    ];
    let title = format!(
        "Mixed: {MIXED_CALLERS} callers; {MIXED_PROMPTS} stored prompts by Zipf's law, and \
         {NEW_PERCENT} of a hundred requests new. The upstream answers at once, and shares the \
         servers' core."
    );
    let names = contenders.iter().map(Contender::shown);
    let section = Section::new(title, names, &measured, &columns);
    // There is no floor of this.
    let bars = (0..3).map(|row| measured.median(row, per_second));
    let bars = [None].into_iter().chain(bars).collect();
    let label = format!("{NEW_PERCENT} % new, {MIXED_CALLERS} connections");
    Ok(Found { sections: vec![section], groups: vec![Group { label, bars }] })
}
