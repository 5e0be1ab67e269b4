//! What entries take in memory.

use anyhow::ensure;

use crate::cache::CacheServer;
use crate::exchange::Lengths;
use crate::load::Job;
use crate::measure::{Extent, mean};
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Rounds;
use crate::stage::{self, Stage};

/// Asked before anything is measured: connections, threads and buffers take memory, too.
pub(crate) const WARM_UP: u64 = 5000;
const BYTES: &str = "cache_server_memory_bytes";
const ENTRIES: &str = "cache_server_memory_entries";

/// What so many entries took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    entries: f64,
    /// Bytes an entry.
    body: f64,
    rss: f64,
    weight: f64,
    per_second: f64,
}

/// What a server says and what it takes, at a moment.
struct Moment {
    rss: f64,
    weight: f64,
    entries: f64,
}

/// Measures small entries and usual ones.
pub(crate) async fn measure(stage: &mut Stage, extent: Extent) -> anyhow::Result<Section> {
    let sizes = [("small", Lengths::SMALL, 1), ("usual", Lengths::USUAL, 4)];
    let mut taken = Rounds::of(sizes.len());
    for (index, (name, lengths, fewer)) in sizes.into_iter().enumerate() {
        eprintln!("  {name} …");
        taken.add(index, fill(stage, lengths, extent.entries / fewer).await?);
    }
    let columns: [Column<Taken>; 7] = [
        Column::median("entries", 0, |taken| Some(taken.entries)),
        Column::median("body bytes", 0, |taken| Some(taken.body)),
        Column::median("rss bytes/entry", 0, |taken| Some(taken.rss)),
        Column::median("overhead", 0, |taken| Some(taken.rss - taken.body)),
        Column::median("weight bytes/entry", 0, |taken| Some(taken.weight)),
        Column::median("rss ÷ weight", 3, |taken| Some(taken.rss / taken.weight)),
        Column::median("stored/s", 0, |taken| Some(taken.per_second)),
    ];
    let title = "What entries take in memory: chat completions whose lengths are spread evenly from \
                 350 to 650 bytes (small) or from 1,400 to 4,200 (usual), with the fields of a \
                 provider; no disk, no memo, nothing is evicted. Rss is by how much the resident \
                 memory of the process has grown from the first 5,000 on, overhead what of it is no \
                 body, weight what the server counts against memory_bytes_max."
        .into();
    Ok(Section::new(title, sizes.map(|(name, _, _)| name.to_owned()), &taken, &columns))
}

async fn fill(stage: &mut Stage, lengths: Lengths, entries: u64) -> anyhow::Result<Taken> {
    let setting = stage.setting("16GiB", "0B");
    let (server, _) = stage.start(&setting).await?;
    let job = |first, count| Job {
        server: server.address(),
        lengths,
        first,
        count,
        step: 1,
        again_every: 0,
    };
    job(0, WARM_UP).run().await?;
    let before = moment(&server).await?;
    let outcome = job(WARM_UP, entries).run().await?;
    let after = moment(&server).await?;
    let there = after.entries - before.entries;
    #[expect(clippy::float_cmp, reason = "both are whole numbers")]
    let all_are_there = there == outcome.from_upstream && outcome.answers() == there;
    ensure!(all_are_there, "{there} entries are there: {outcome:?}");
    server.stop().await?;
    Ok(Taken {
        entries: there,
        body: mean(lengths.sum(WARM_UP, entries), entries),
        rss: (after.rss - before.rss) / there,
        weight: (after.weight - before.weight) / there,
        per_second: there / outcome.seconds,
    })
}

async fn moment(server: &CacheServer) -> anyhow::Result<Moment> {
    let rss = stage::at_rest(server).await?.rss_bytes;
    let (weight, entries) = (server.metric(BYTES).await?, server.metric(ENTRIES).await?);
    Ok(Moment { rss, weight, entries })
}
