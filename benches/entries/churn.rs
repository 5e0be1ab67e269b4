//! How well the bound on memory holds while entries come and go: many times as much is written as memory
//! may hold, as in a week of traffic.

use crate::exchange::Lengths;
use crate::load::Job;
use crate::measure::{Extent, mean};
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Rounds;
use crate::stage::Stage;
use crate::taken;

/// Bounds of the server.
const MEMORY_MIB: u32 = 256;
const DISK: &str = "2GiB";
/// How many times what memory may hold is written, and in a smoke run.
const TIMES: u64 = 20;
const QUICK_TIMES: u64 = 2;
/// How often a question is one that was asked before.
const AGAIN_EVERY: u64 = 8;

/// What the server took while it went on.
#[derive(Clone, Copy, Debug)]
struct Churned {
    entries: f64,
    written_mib: f64,
    /// In the end, as the server counts.
    weight_mib: f64,
    held: f64,
    /// Resident memory before, in the end, and at most.
    before_mib: f64,
    after_mib: f64,
    peak_mib: f64,
    again: f64,
    per_second: f64,
}

/// Measures with and without a disk.
pub(crate) async fn measure(stage: &mut Stage, extent: Extent) -> anyhow::Result<Section> {
    let kinds = [
        ("small, no disk", Lengths::SMALL, "0B"),
        ("usual, no disk", Lengths::USUAL, "0B"),
        ("usual, disk", Lengths::USUAL, DISK),
    ];
    let mut churned = Rounds::of(kinds.len());
    for (index, (name, lengths, disk)) in kinds.into_iter().enumerate() {
        eprintln!("  {name} …");
        churned.add(index, churn(stage, lengths, disk, extent.is_quick).await?);
    }
    let columns: [Column<Churned>; 10] = [
        Column::median("entries", 0, |of| Some(of.entries)),
        Column::median("bodies MiB", 0, |of| Some(of.written_mib)),
        Column::median("held", 0, |of| Some(of.held)),
        Column::median("weight MiB", 0, |of| Some(of.weight_mib)),
        Column::median("rss MiB before", 0, |of| Some(of.before_mib)),
        Column::median("after", 0, |of| Some(of.after_mib)),
        Column::median("peak", 0, |of| Some(of.peak_mib)),
        Column::median("peak ÷ bound", 2, |of| Some(of.peak_mib / f64::from(MEMORY_MIB))),
        Column::median("again, hits %", 1, |of| Some(of.again * 100.0)),
        Column::median("asked/s", 0, |of| Some(of.per_second)),
    ];
    let title = format!(
        "Entries that come and go: bodies of {} times memory_bytes_max of {MEMORY_MIB} MiB are \
         written, on disk of {DISK}, and every {AGAIN_EVERY}th question was asked shortly before. \
         Rss is of the whole process, with its connections, buffers and the index of the disk.",
        if extent.is_quick { QUICK_TIMES } else { TIMES },
    );
    Ok(Section::new(title, kinds.map(|(name, _, _)| name.to_owned()), &churned, &columns))
}

async fn churn(
    stage: &mut Stage,
    lengths: Lengths,
    disk: &str,
    is_quick: bool,
) -> anyhow::Result<Churned> {
    let setting = stage.setting(&format!("{MEMORY_MIB}MiB"), disk);
    let (server, _) = stage.start(&setting).await?;
    let before = taken::memory(server.process()?)?;
    let times = if is_quick { QUICK_TIMES } else { TIMES };
    let mean_bytes = u64::midpoint(lengths.shortest, lengths.longest);
    let entries = times * u64::from(MEMORY_MIB) * (1 << 20) / mean_bytes;
    // Those asked again are no new ones.
    let count = entries + entries / (AGAIN_EVERY - 1);
    let job = Job {
        server: server.address(),
        lengths,
        first: 0,
        count,
        step: 1,
        again_every: AGAIN_EVERY,
    };
    let outcome = job.run().await?;
    let after = taken::memory(server.process()?)?;
    let weight = server.metric("cache_server_memory_bytes").await?;
    let held = server.metric("cache_server_memory_entries").await?;
    server.stop().await?;
    let mib = |bytes: f64| bytes / f64::from(1 << 20);
    Ok(Churned {
        entries: outcome.from_upstream,
        written_mib: mib(mean(entries * mean_bytes, 1)),
        weight_mib: mib(weight),
        held,
        before_mib: mib(before.rss_bytes),
        after_mib: mib(after.rss_bytes),
        peak_mib: mib(after.peak_bytes),
        again: (outcome.from_memory + outcome.from_disk)
            / (outcome.answers() / mean(AGAIN_EVERY, 1)),
        per_second: outcome.answers() / outcome.seconds,
    })
}
