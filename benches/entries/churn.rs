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
/// Entries that are written: of the usual ones twenty times as many bytes as memory may have.
const ENTRIES: u64 = 2_000_000;
/// A smoke run has fewer.
const QUICK_SHARE: u64 = 10;
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
        ("usual, disk", Lengths::USUAL, DISK),
        ("usual, no disk", Lengths::USUAL, "0B"),
        ("small, no disk", Lengths::SMALL, "0B"),
    ];
    let mut churned = Rounds::of(kinds.len());
    for (index, (name, lengths, disk)) in kinds.into_iter().enumerate() {
        eprintln!("  {name} …");
        let entries = if extent.is_quick { ENTRIES / QUICK_SHARE } else { ENTRIES };
        churned.add(index, churn(stage, lengths, disk, entries).await?);
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
        "Entries that come and go, with memory_bytes_max of {MEMORY_MIB} MiB and a disk of {DISK}, or \
         none; every {AGAIN_EVERY}th question was asked shortly before. Rss is of the whole process, \
         with its connections, its buffers and the index of the disk."
    );
    Ok(Section::new(title, kinds.map(|(name, _, _)| name.to_owned()), &churned, &columns))
}

async fn churn(
    stage: &mut Stage,
    lengths: Lengths,
    disk: &str,
    entries: u64,
) -> anyhow::Result<Churned> {
    let setting = stage.setting(&format!("{MEMORY_MIB}MiB"), disk);
    let (server, _) = stage.start(&setting).await?;
    let before = taken::memory(server.process()?)?;
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
        written_mib: mib(outcome.from_upstream * mean(lengths.shortest + lengths.longest, 2)),
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
