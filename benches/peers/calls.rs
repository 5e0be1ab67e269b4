//! Calls that reach the upstream: what is passed through, what is missed and stored, and when the first
//! byte of a stream comes.

use crate::contenders::{Contender, Prompts, REUSED, front, nginx, nginx_cache, varnish};
use crate::load::job::{Expected, Numbers};
use crate::measure::{Extent, Found};
use crate::rounds::{self, Load, Measured};
use crate::shared::exchange::Question;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Figure;
use crate::stage::Stage;

/// A question that is never answered from the cache, and otherwise the same.
const PASSED: Question = Question { reusable: false, ..REUSED };
/// Streams.
const REUSED_STREAM: Question = Question { stream: true, ..REUSED };
const PASSED_STREAM: Question = Question { stream: true, ..PASSED };
/// Prompts whose streams are stored: they are slow to fill.
const STORED_STREAMS: u64 = 24;
/// One caller for the time of a call, and many for how many there can be.
const CONNECTIONS: [u64; 2] = [1, 64];

/// Requests that are never reused.
pub(crate) async fn passed(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let proxy = nginx(stage, |nginx| nginx.plain);
    let forwarder = stage.forwarder().await?;
    let contenders = [
        Contender::new("direct", front(&stage.upstream), Prompts::New, Expected::Direct),
        Contender::new("cache-server", front(&stage.cache), Prompts::New, Expected::Bypass),
        Contender::new("nginx, no cache", proxy, Prompts::New, Expected::PeerBypass),
        Contender::new("bare hyper proxy", front(&forwarder), Prompts::New, Expected::Direct),
    ]
    .map(|contender| contender.asking(PASSED));
    by_connections(stage, &contenders, extent, "Passed through, never reused").await
}

/// New prompts, whose answers are stored.
pub(crate) async fn misses(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let disk = nginx(stage, |nginx| nginx.disk);
    let contenders = [
        Contender::new("direct", front(&stage.upstream), Prompts::New, Expected::Direct),
        Contender::new("cache-server", front(&stage.cache), Prompts::New, Expected::Miss),
        Contender::new("nginx", nginx_cache(stage), Prompts::New, Expected::PeerMiss),
        Contender::new("Varnish", varnish(stage), Prompts::New, Expected::PeerMiss),
        Contender::new("nginx, on disk", disk, Prompts::New, Expected::PeerMiss),
    ];
    let what = "Misses, stored: by the cache in memory and on disk, by its peers in memory alone \
                but for the last row";
    by_connections(stage, &contenders, extent, what).await
}

async fn by_connections(
    stage: &Stage,
    contenders: &[Contender<'_>],
    extent: Extent,
    what: &str,
) -> anyhow::Result<Found> {
    let per_second: Figure<Measured> = |measured| Some(measured.outcome.per_second);
    let median: Figure<Measured> = |measured| Some(measured.outcome.whole.median);
    let mut found = Found::default();
    for connections in CONNECTIONS {
        let load = Load::lasting(connections, extent.millis);
        let measured = rounds::run(stage, contenders, extent.rounds, load).await?;
        let columns = [
            Column::median("requests/s", 0, per_second),
            Column::ratio("of direct", per_second),
            Column::ratio_to(2, "× nginx", per_second),
            Column::spread(per_second),
            Column::median("median µs", 1, median),
            Column::difference("− direct µs", 1, median),
            Column::median("p99 µs", 0, |measured| Some(measured.outcome.whole.p99)),
            Column::median("server µs/request", 1, |measured| measured.server_us),
            Column::median("load busy", 2, |measured| Some(measured.outcome.busy)),
        ];
        let title = format!(
            "{what}; connections: {connections}. The upstream answers at once, and shares the \
             servers' core."
        );
        let names = contenders.iter().map(Contender::shown);
        found.sections.push(Section::new(title, names, &measured, &columns));
    }
    Ok(found)
}

/// The first byte of a stream.
pub(crate) async fn streams(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let numbers = Numbers { count: STORED_STREAMS, ..stage.new_numbers() };
    let stored = Prompts::These(numbers);
    let proxy = nginx(stage, |nginx| nginx.plain);
    let of = Contender::new;
    let hits = [
        of("hit: cache-server", front(&stage.cache), stored, Expected::Memory),
        of("hit: nginx", nginx_cache(stage), stored, Expected::PeerHit),
        of("hit: Varnish", varnish(stage), stored, Expected::PeerHit),
    ]
    .map(|contender| contender.asking(REUSED_STREAM));
    for (contender, miss) in
        hits.iter().zip([Expected::Miss, Expected::PeerMiss, Expected::PeerMiss])
    {
        stage.ask_each(contender, numbers, miss).await?;
    }
    let misses = [
        of("miss: cache-server", front(&stage.cache), Prompts::New, Expected::Miss),
        of("miss: nginx", nginx_cache(stage), Prompts::New, Expected::PeerMiss),
        of("miss: Varnish", varnish(stage), Prompts::New, Expected::PeerMiss),
    ]
    .map(|contender| contender.asking(REUSED_STREAM));
    let passed = [
        of("direct", front(&stage.upstream), Prompts::New, Expected::Direct),
        of("passed: cache-server", front(&stage.cache), Prompts::New, Expected::Bypass),
        of("passed: nginx, no cache", proxy, Prompts::New, Expected::PeerBypass),
    ]
    .map(|contender| contender.asking(PASSED_STREAM));
    let contenders = [passed, misses, hits].concat();
    let load = Load::lasting(1, extent.millis);
    let measured = rounds::run(stage, &contenders, extent.rounds, load).await?;
    let title =
        "The first byte of a stream, one caller: the upstream's first event comes at once, \
                 the others in steps of a millisecond or two."
            .into();
    let names = contenders.iter().map(Contender::shown);
    let section = Section::new(title, names, &measured, &stream_columns());
    Ok(Found { sections: vec![section], groups: Vec::new() })
}

fn stream_columns() -> [Column<Measured>; 5] {
    let first: Figure<Measured> = |measured| Some(measured.outcome.first_byte.median);
    [
        Column::median("first byte µs", 0, first),
        Column::difference("− direct µs", 0, first),
        Column::spread(first),
        Column::median("p99 µs", 0, |measured| Some(measured.outcome.first_byte.p99)),
        Column::median("whole µs", 0, |measured| Some(measured.outcome.whole.median)),
    ]
}
