//! Hits: the floor, the cache and its peers with the same prompts stored, by connections, by sizes of
//! answers, by HTTP/2, and from disk.

use crate::chart::Group;
use crate::contenders::{Contender, Prompts, STREAMS, front, nginx, nginx_cache, varnish};
use crate::load::job::{Expected, Numbers, Protocol};
use crate::measure::{Extent, Found};
use crate::rounds::{self, Load, Measured};
use crate::shared::exchange::{ANSWER_BYTES, QUESTION_BYTES};
use crate::shared::process::Server;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::{Figure, Rounds};
use crate::sized::ANSWER_SIZES;
use crate::stage::Stage;

/// The prompts that are stored, but for large answers.
pub(crate) const STORED: u64 = 1000;
/// Keep-alive connections that a table each is for.
const CONNECTIONS: [u64; 5] = [1, 8, 64, 256, 1024];
/// Those of answers of other sizes, and how many prompts have them: what is stored of each size is to
/// fit into memory.
const SIZED_CONNECTIONS: u64 = 64;
const SIZED_PROMPTS: [u64; ANSWER_SIZES.len()] = [1000, 1000, 512, 32];
/// Connections of HTTP/2.
const HTTP2_CONNECTIONS: u64 = 16;
/// Connections to disk.
const DISK_CONNECTIONS: [u64; 2] = [1, 64];

/// Memory hits by connections.
pub(crate) async fn memory(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let floor = stage.floor(ANSWER_BYTES, Protocol::Http1).await?;
    let contenders = stored(stage, &floor, ANSWER_BYTES, STORED).await?;
    let mut found = Found::default();
    for connections in CONNECTIONS {
        let title = format!(
            "Memory hits, {}, keep-alive: {STORED} prompts of {QUESTION_BYTES} bytes, \
             {ANSWER_BYTES} answered.",
            counted(connections)
        );
        let label = format!("2.8 KB, {}", counted(connections));
        let load = Load::lasting(connections, extent.millis);
        found.add(table(stage, &contenders, extent, load, (title, label)).await?);
    }
    Ok(found)
}

/// Memory hits by the size of answers.
pub(crate) async fn sizes(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let mut found = Found::default();
    for (bytes, prompts) in ANSWER_SIZES.into_iter().zip(SIZED_PROMPTS) {
        let floor = stage.floor(bytes, Protocol::Http1).await?;
        let contenders = stored(stage, &floor, bytes, prompts).await?;
        let title = format!(
            "Answers of {bytes} bytes: {prompts} prompts from memory, {SIZED_CONNECTIONS} connections."
        );
        let label = format!("{}, {}", shown(bytes), counted(SIZED_CONNECTIONS));
        let load = Load::lasting(SIZED_CONNECTIONS, extent.millis);
        let mut one = table(stage, &contenders, extent, load, (title, label)).await?;
        if bytes == ANSWER_BYTES {
            // The chart has these among the hits by connections.
            one.groups.clear();
        }
        found.add(one);
    }
    Ok(found)
}

/// Memory hits by HTTP/2.
pub(crate) async fn http2(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let protocol = Protocol::Http2 { streams: STREAMS };
    let floor = stage.floor(ANSWER_BYTES, protocol).await?;
    let numbers = Numbers { count: STORED, ..stage.new_numbers() };
    let prompts = Prompts::These(numbers);
    let contenders = [
        Contender::new("floor: bare hyper", front(&floor), prompts, Expected::Direct),
        Contender::new("cache-server", front(&stage.cache), prompts, Expected::Memory),
        Contender::new("nginx", nginx(stage, |nginx| nginx.http2), prompts, Expected::PeerHit),
    ]
    .map(Contender::by_http2);
    fill(stage, &contenders, numbers).await?;
    let title = format!(
        "Memory hits by HTTP/2 in clear: {HTTP2_CONNECTIONS} connections of {STREAMS} streams, \
         {STORED} prompts, {ANSWER_BYTES} bytes answered."
    );
    let label = format!("HTTP/2, {HTTP2_CONNECTIONS} × {STREAMS} streams");
    let load = Load::lasting(HTTP2_CONNECTIONS * STREAMS, extent.millis);
    table(stage, &contenders, extent, load, (title, label)).await
}

/// Disk hits, page cache warm.
pub(crate) async fn disk(stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    let numbers = Numbers { count: STORED, ..stage.new_numbers() };
    let prompts = Prompts::These(numbers);
    let floor = stage.floor(ANSWER_BYTES, Protocol::Http1).await?;
    let before = stage.disk().await?;
    for (contender, miss) in on_disk(stage, &floor, &before, prompts).iter().zip(MISSES) {
        stage.ask_each(contender, numbers, miss).await?;
    }
    before.stop().await?;
    let disk = stage.disk().await?;
    let contenders = on_disk(stage, &floor, &disk, prompts);
    let mut found = Found::default();
    for contender in &contenders {
        stage.ask_each(contender, numbers, contender.expected).await?;
    }
    for connections in DISK_CONNECTIONS {
        let title = format!(
            "Disk hits, page cache warm, {}: {STORED} prompts, {ANSWER_BYTES} bytes answered; the \
             cache has a memory too small for them.",
            counted(connections)
        );
        let label = format!("from disk, {}", counted(connections));
        let load = Load::lasting(connections, extent.millis);
        found.add(table(stage, &contenders, extent, load, (title, label)).await?);
    }
    Ok(found)
}

/// The floor, a cache that reads from disk, and nginx.
fn on_disk<'s>(
    stage: &'s Stage,
    floor: &'s Server,
    disk: &'s Server,
    prompts: Prompts,
) -> [Contender<'s>; 3] {
    [
        Contender::new("floor: bare hyper", front(floor), prompts, Expected::Direct),
        Contender::new("cache-server", front(disk), prompts, Expected::Disk),
        Contender::new("nginx", nginx(stage, |nginx| nginx.disk), prompts, Expected::PeerHit),
    ]
}

/// What those who take part say of what they had not stored, in the order of the rows.
const MISSES: [Expected; 4] =
    [Expected::Direct, Expected::Miss, Expected::PeerMiss, Expected::PeerMiss];

/// The floor, the cache and its peers, filled with so many prompts whose answers have this size.
async fn stored<'s>(
    stage: &'s Stage,
    floor: &'s Server,
    bytes: usize,
    prompts: u64,
) -> anyhow::Result<[Contender<'s>; 4]> {
    let numbers = Numbers { count: prompts, ..stage.new_numbers() };
    let prompts = Prompts::These(numbers);
    let contenders = [
        Contender::new("floor: bare hyper", front(floor), prompts, Expected::Direct),
        Contender::new("cache-server", front(&stage.cache), prompts, Expected::Memory),
        Contender::new("nginx", nginx_cache(stage), prompts, Expected::PeerHit),
        Contender::new("Varnish", varnish(stage), prompts, Expected::PeerHit),
    ]
    .map(|contender| contender.answering(bytes));
    fill(stage, &contenders, numbers).await?;
    Ok(contenders)
}

/// Asks everyone for all prompts, which nobody has, and again, when everybody must.
async fn fill(stage: &Stage, contenders: &[Contender<'_>], numbers: Numbers) -> anyhow::Result<()> {
    for (contender, miss) in contenders.iter().zip(MISSES) {
        stage.ask_each(contender, numbers, miss).await?;
        stage.ask_each(contender, numbers, contender.expected).await?;
    }
    Ok(())
}

/// One table of these contenders, the floor first, the cache second, nginx third.
async fn table(
    stage: &Stage,
    contenders: &[Contender<'_>],
    extent: Extent,
    load: Load,
    (title, label): (String, String),
) -> anyhow::Result<Found> {
    let measured = rounds::run(stage, contenders, extent.rounds, load).await?;
    let names = contenders.iter().map(Contender::shown);
    let section = Section::new(title, names, &measured, &columns(contenders.len()));
    Ok(Found { sections: vec![section], groups: vec![group(label, &measured, contenders.len())] })
}

/// The bars of a table, in the order of the rows.
fn group(label: String, measured: &Rounds<Measured>, rows: usize) -> Group {
    let bars = (0..rows).map(|row| measured.median(row, per_second)).collect();
    Group { label, bars }
}

fn per_second(measured: &Measured) -> Option<f64> {
    Some(measured.outcome.per_second)
}

/// The columns of a table of so many rows.
fn columns(rows: usize) -> Vec<Column<Measured>> {
    let per_second: Figure<Measured> = per_second;
    let mut columns = vec![
        Column::median("requests/s", 0, per_second),
        Column::ratio("of the floor", per_second),
        Column::ratio_to(2, "× nginx", per_second),
    ];
    if rows > 3 {
        columns.push(Column::ratio_to(3, "× Varnish", per_second));
    }
    columns.extend([
        Column::spread(per_second),
        Column::median("median µs", 0, |measured| Some(measured.outcome.whole.median)),
        Column::median("p99 µs", 0, |measured| Some(measured.outcome.whole.p99)),
        Column::median("server µs/request", 2, |measured| measured.server_us),
        Column::median("load busy", 2, |measured| Some(measured.outcome.busy)),
    ]);
    columns
}

fn counted(connections: u64) -> String {
    if connections == 1 { "1 connection".into() } else { format!("{connections} connections") }
}

/// A size as people say it.
fn shown(bytes: usize) -> String {
    match bytes {
        512 => "0.5 KB".into(),
        ANSWER_BYTES => "2.8 KB".into(),
        _ if bytes >= 1 << 20 => format!("{} MB", bytes >> 20),
        _ => format!("{} KB", bytes >> 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_said_as_people_do() {
        assert_eq!(ANSWER_SIZES.map(shown), ["0.5 KB", "2.8 KB", "64 KB", "1 MB"]);
    }
}
