//! The local tier: an entry out of memory, and one out of the disk while the page cache is warm.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use cache_server::cache::entry::Entry;
use cache_server::cache::tiers::local::{LocalSettings, LocalTier};
use cache_server::clock::Clock;
use criterion::{BenchmarkId, Criterion, Throughput};
use keyspec::Key;
use mixtrics::registry::noop::NoopMetricsRegistry;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::NOW;
use crate::entries::{self, Bodies};

/// Entries of a size, asked for in turn: as many as fit the tier, so that the processor's caches hold
/// no single one.
const ENTRIES: [(&str, usize, u32); 2] = [("2.8 KB", 2_800, 1_000), ("1 MB", 1 << 20, 32)];
const MEMORY_BYTES: usize = 1 << 30;
/// No entry of our sizes is let into a memory as small as this.
const NEXT_TO_NO_MEMORY_BYTES: usize = 8 << 10;
const DISK_BYTES: usize = 256 << 20;
const ENTRY_BYTES_MAX: usize = 8 << 20;
/// A busy machine is to slow a read down, not to fail it.
const DEADLINE: Duration = Duration::from_secs(10);

/// Measures reads of memory and of the disk.
pub(crate) fn measure(criterion: &mut Criterion) -> anyhow::Result<()> {
    // As in the server: the disk is read by threads beside the runtime's own.
    let runtime = Runtime::new()?;
    for (name, bytes, count) in ENTRIES {
        memory(criterion, &runtime, (name, bytes, count))?;
        disk(criterion, &runtime, (name, bytes, count))?;
    }
    Ok(())
}

fn memory(
    criterion: &mut Criterion,
    runtime: &Runtime,
    (name, bytes, count): (&str, usize, u32),
) -> anyhow::Result<()> {
    let tier = runtime.block_on(open(Path::new(""), MEMORY_BYTES, 0))?;
    let keys = fill(&tier, bytes, count)?;
    for key in &keys {
        tier.get_memory(key).context("an entry is not in memory")?;
    }
    let mut keys = keys.iter().cycle();
    let mut group = criterion.benchmark_group("memory hit");
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter(|| keys.next().and_then(|key| tier.get_memory(key)));
    });
    group.finish();
    Ok(())
}

fn disk(
    criterion: &mut Criterion,
    runtime: &Runtime,
    (name, bytes, count): (&str, usize, u32),
) -> anyhow::Result<()> {
    let folder = TempDir::new().context("cannot make a temporary folder")?;
    let open = || runtime.block_on(open(folder.path(), NEXT_TO_NO_MEMORY_BYTES, DISK_BYTES));
    let tier = open()?;
    let keys = fill(&tier, bytes, count)?;
    // Once it was closed nothing answers from the write queue: it is the disk or nothing.
    runtime.block_on(tier.close());
    drop(tier);
    let tier = open()?;
    for key in &keys {
        let entry = runtime.block_on(tier.get_disk(key))?.context("an entry is not on disk")?;
        ensure!(entry.body.len() == bytes, "an entry has changed on disk");
        ensure!(tier.get_memory(key).is_none(), "memory keeps what is to come from the disk");
    }
    let mut keys = keys.iter().cycle();
    let mut group = criterion.benchmark_group("disk hit, page cache warm");
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter(|| keys.next().map(|key| runtime.block_on(tier.get_disk(key))));
    });
    group.finish();
    runtime.block_on(tier.close());
    Ok(())
}

async fn open(folder: &Path, memory: usize, disk: usize) -> anyhow::Result<LocalTier> {
    let settings = LocalSettings {
        data_dir: folder.to_owned(),
        memory_bytes_max: memory,
        disk_bytes_max: disk,
        entry_bytes_max: ENTRY_BYTES_MAX,
        disk_deadline: DEADLINE,
    };
    let registry = Box::new(NoopMetricsRegistry);
    Ok(LocalTier::open(settings, Clock::standing_at(NOW), registry, || {}).await?)
}

fn fill(tier: &LocalTier, bytes: usize, count: u32) -> anyhow::Result<Vec<Key>> {
    (0..count)
        .map(|number| {
            let key = key(number);
            let entry = entries::entry(number, Bodies::Chat.body(number, bytes), NOW);
            ensure!(tier.put(&Entry { key, ..entry }), "an entry is not stored");
            Ok(key)
        })
        .collect()
}

/// Keys are uniform hashes, and the tier relies on it: those of other benchmarks are numbers.
fn key(number: u32) -> Key {
    Key::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}
