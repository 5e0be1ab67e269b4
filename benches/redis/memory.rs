//! What entries take in Redis.

use anyhow::ensure;

use crate::entries::Bodies;
use crate::load::Job;
use crate::redis_server::Redis;
use crate::shared::cores::Cores;
use crate::shared::process;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Rounds;
use crate::tier::{Writing, Written};

/// Bytes of a body, and how many are written.
const SIZES: [(usize, u32, &str); 3] =
    [(512, 1_000_000, "0.5 KiB"), (2800, 1_000_000, "2.8 KB"), (16 << 10, 100_000, "16 KiB")];
/// A smoke run has fewer.
const QUICK_SHARE: u32 = 50;
/// Entries that are looked at one by one.
const LOOKED_AT: u32 = 1000;

/// What a Redis with so many entries takes.
#[derive(Clone, Copy, Debug)]
struct Taken {
    entries: f64,
    body: f64,
    /// Bytes of a value and its name, on the average.
    value: f64,
    name: f64,
    /// Bytes that Redis has allocated for an entry, and that the process has grown by.
    used: f64,
    rss: f64,
    written_per_second: f64,
}

/// Measures all sizes, as they are and compressed.
pub(crate) async fn measure(cores: Cores, quick: bool) -> anyhow::Result<Section> {
    let mut names = Vec::new();
    let mut taken = Rounds::of(2 * SIZES.len());
    for (bytes, entries, size) in SIZES {
        let entries = if quick { entries / QUICK_SHARE } else { entries };
        for (compress_bytes_min, how) in [(0, "as is"), (1, "zstd")] {
            let index = names.len();
            names.push(format!("{size} {how}"));
            eprintln!("  {}: {entries} entries …", names[index]);
            taken.add(index, fill(bytes, entries, compress_bytes_min, cores).await?);
        }
    }
    let columns: [Column<Taken>; 9] = [
        Column::median("entries", 0, |taken| Some(taken.entries)),
        Column::median("body bytes", 0, |taken| Some(taken.body)),
        Column::median("value bytes", 0, |taken| Some(taken.value)),
        Column::median("used bytes/entry", 0, |taken| Some(taken.used)),
        Column::median("beyond the value", 0, |taken| Some(taken.used - taken.value)),
        Column::median("beyond it and the name", 0, |taken| {
            Some(taken.used - taken.value - taken.name)
        }),
        Column::median("rss bytes/entry", 0, |taken| Some(taken.rss)),
        Column::median("used ÷ body", 2, |taken| Some(taken.used / taken.body)),
        Column::median("written/s", 0, |taken| Some(taken.written_per_second)),
    ];
    let title = "What entries take in Redis, written through the tier: chat completions in JSON with \
                 words drawn at random, each with an end. Used is used_memory, rss is \
                 used_memory_rss, both less what an empty Redis has; values are the mean of 1,000. Names are those that the cache \
                 gives. One round: nothing else is measured by time here but written/s."
        .into();
    Ok(Section::new(title, names, &taken, &columns))
}

async fn fill(
    bytes: usize,
    entries: u32,
    compress_bytes_min: usize,
    cores: Cores,
) -> anyhow::Result<Taken> {
    let redis = Redis::start(cores.servers).await?;
    let (used, rss) = (redis.said("used_memory").await?, redis.said("used_memory_rss").await?);
    let job = Job::Write(Writing {
        redis: redis.address(),
        bodies: Bodies::Chat,
        bytes,
        entries,
        compress_bytes_min,
        check_every: (entries / LOOKED_AT).max(1),
    });
    let written: Written = process::run_load(&job, job.duration(), cores.load).await?;
    let there: u32 = redis.ask("DBSIZE").await?;
    ensure!(there == entries, "{there} entries are there instead of {entries}");
    let each = |bytes: f64| bytes / f64::from(entries);
    let taken = (redis.said("used_memory").await?, redis.said("used_memory_rss").await?);
    let (value, name) = mean_bytes(&redis).await?;
    #[expect(clippy::cast_precision_loss, reason = "bytes of a body")]
    let body = bytes as f64;
    Ok(Taken {
        entries: f64::from(entries),
        body,
        value,
        name,
        used: each(taken.0 - used),
        rss: each(taken.1 - rss),
        written_per_second: written.per_second,
    })
}

/// Mean bytes of a value, and of its name, of some entries.
async fn mean_bytes(redis: &Redis) -> anyhow::Result<(f64, f64)> {
    let (mut values, mut names) = (0.0, 0.0);
    for _ in 0..LOOKED_AT {
        let name: String = redis.ask("RANDOMKEY").await?;
        values += redis.ask::<f64>(&format!("STRLEN {name}")).await?;
        names += f64::from(u32::try_from(name.len())?);
    }
    Ok((values / f64::from(LOOKED_AT), names / f64::from(LOOKED_AT)))
}
