//! What entries take on disk, and how soon a server serves them that has just been started.

use std::time::Instant;

use anyhow::ensure;

use crate::exchange::Lengths;
use crate::load::Job;
use crate::measure::{Extent, mean};
use crate::memory::WARM_UP;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Rounds;
use crate::stage::{self, Setting, Stage};
use crate::taken;

/// Entries that are asked for after a restart, spread over all of them.
const LOOKED_AT: u64 = 20_000;
/// The first of them, before anything else.
const FIRST_LOOKED_AT: u64 = 64;
/// A small part of what is on disk, so that what is asked for is not in memory.
const MEMORY: &str = "32MiB";

/// What so many entries took, and what the server was like that found them.
#[derive(Clone, Copy, Debug)]
struct Taken {
    entries: f64,
    /// Bytes an entry.
    body: f64,
    disk: f64,
    /// Memory an entry, beyond what memory holds of entries.
    index: f64,
    per_second: f64,
}

/// A restart.
#[derive(Clone, Copy, Debug)]
struct Restart {
    ready_s: f64,
    /// From ready to the end of the first answers.
    first_s: f64,
    hits: f64,
    hits_per_second: f64,
    /// Before it is asked anything, and the most until then.
    rss: f64,
    peak: f64,
}

/// Measures both.
pub(crate) async fn measure(stage: &mut Stage, extent: Extent) -> anyhow::Result<Vec<Section>> {
    let setting = stage.setting(MEMORY, "16GiB");
    eprintln!("  writing …");
    let taken = fill(stage, &setting, extent.entries).await?;
    let mut restarts = Rounds::of(1);
    for _ in 0..extent.rounds {
        eprintln!("  restarting …");
        restarts.add(0, restart(stage, &setting, extent.entries).await?);
    }
    let mut rounds = Rounds::of(1);
    rounds.add(0, taken);
    Ok(vec![disk_section(&rounds), restart_section(&restarts)])
}

fn disk_section(taken: &Rounds<Taken>) -> Section {
    let columns: [Column<Taken>; 6] = [
        Column::median("entries", 0, |taken| Some(taken.entries)),
        Column::median("body bytes", 0, |taken| Some(taken.body)),
        Column::median("disk bytes/entry", 0, |taken| Some(taken.disk)),
        Column::median("overhead", 0, |taken| Some(taken.disk - taken.body)),
        Column::median("memory bytes/entry", 0, |taken| Some(taken.index)),
        Column::median("stored/s", 0, |taken| Some(taken.per_second)),
    ];
    let title = format!(
        "What entries take on disk: the small ones, and memory for {MEMORY} of them. Disk is what the \
         files take, memory is by how much the process has grown while memory was full: the index \
         of the disk."
    );
    Section::new(title, ["small".to_owned()], taken, &columns)
}

fn restart_section(restarts: &Rounds<Restart>) -> Section {
    let columns: [Column<Restart>; 7] = [
        Column::median("ready s", 2, |of| Some(of.ready_s)),
        Column::largest("most s", 2, |of| Some(of.ready_s)),
        Column::median("first 64 ms", 1, |of| Some(of.first_s * 1e3)),
        Column::median("hits %", 2, |of| Some(of.hits * 100.0)),
        Column::median("hits/s", 0, |of| Some(of.hits_per_second)),
        Column::median("rss MiB", 0, |of| Some(of.rss / f64::from(1 << 20))),
        Column::largest("peak MiB", 0, |of| Some(of.peak / f64::from(1 << 20))),
    ];
    let title = format!(
        "A restart with those on disk, as the system has them in its page cache: from the start of \
         the process until /readyz says 200, the first {FIRST_LOOKED_AT} answers at once after it, and \
         {LOOKED_AT} spread over all. Rss and peak are before the first question."
    );
    Section::new(title, ["restart".to_owned()], restarts, &columns)
}

async fn fill(stage: &Stage, setting: &Setting, entries: u64) -> anyhow::Result<Taken> {
    let lengths = Lengths::SMALL;
    let (server, _) = stage.start(setting).await?;
    let job = |first, count| Job {
        server: server.address(),
        lengths,
        first,
        count,
        step: 1,
        again_every: 0,
    };
    // Memory is full by then.
    let warm_up = (entries / 4).max(WARM_UP).min(entries - 1);
    job(0, warm_up).run().await?;
    let before = stage::at_rest(&server).await?;
    let outcome = job(warm_up, entries - warm_up).run().await?;
    let after = stage::at_rest(&server).await?;
    server.stop().await?;
    Ok(Taken {
        entries: mean(entries, 1),
        body: mean(lengths.sum(0, entries), entries),
        disk: mean(taken::disk_bytes(&setting.data_dir.join("entries"))?, entries),
        index: (after.rss_bytes - before.rss_bytes) / outcome.from_upstream,
        per_second: outcome.answers() / outcome.seconds,
    })
}

async fn restart(stage: &Stage, setting: &Setting, entries: u64) -> anyhow::Result<Restart> {
    let (server, ready) = stage.start(setting).await?;
    let memory = taken::memory(server.process()?)?;
    let job = |first, step, count: u64| Job {
        server: server.address(),
        lengths: Lengths::SMALL,
        first,
        count,
        step,
        again_every: 0,
    };
    let begun = Instant::now();
    let first = job(0, entries / FIRST_LOOKED_AT, FIRST_LOOKED_AT).run().await?;
    let first_s = begun.elapsed().as_secs_f64();
    let looked_at = LOOKED_AT.min(entries / 2);
    let outcome = job(1, entries / looked_at, looked_at).run().await?;
    let hits = outcome.from_disk + outcome.from_memory;
    ensure!(first.from_disk > 0.0, "there is nothing on disk: {first:?}");
    server.stop().await?;
    Ok(Restart {
        ready_s: ready.as_secs_f64(),
        first_s,
        hits: hits / outcome.answers(),
        hits_per_second: outcome.answers() / outcome.seconds,
        rss: memory.rss_bytes,
        peak: memory.peak_bytes,
    })
}
