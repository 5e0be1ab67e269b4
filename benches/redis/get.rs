//! Reads: `RedisTier::get` beside `redis-benchmark`, the same values over as many connections.

use anyhow::{Context, ensure};

use crate::benchmark;
use crate::entries::{self, Bodies};
use crate::load::Job;
use crate::redis_server::Redis;
use crate::shared::cores::Cores;
use crate::shared::process;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::{Figure, Rounds, order};
use crate::tier::{Reading, Reads, Writing, Written};

/// What is wanted of the tier, of what `redis-benchmark` does.
const WANTED: f64 = 0.8;
/// Bytes of a body, and how many entries there are: more than callers.
const SIZES: [(usize, u32, &str); 4] = [
    (512, 10_000, "0.5 KiB"),
    (2800, 10_000, "2.8 KB"),
    (64 << 10, 2000, "64 KiB"),
    (1 << 20, 256, "1 MiB"),
];
const CONNECTIONS: [usize; 3] = [1, 4, 50];
/// Callers a connection, where there are more than one: the tier has many calls under way on each.
const CROWD: u32 = 4;
/// What the tier reads more of than an entry, so that `redis-benchmark` reads as much by the same
/// command.
const BEYOND: &str = "2097152";
/// Calls of the run that says how many there are to be in a round.
const TRIAL: u64 = 500;

/// Who takes turns.
#[derive(Clone, Copy, Debug)]
enum Contender {
    /// `redis-benchmark` with the simplest command.
    Get,
    /// `redis-benchmark` with the tier's command.
    GetRange,
    /// The tier, a caller a connection.
    Tier,
    /// The tier, more callers.
    Crowd,
}

const CONTENDERS: [Contender; 4] =
    [Contender::Get, Contender::GetRange, Contender::Tier, Contender::Crowd];

/// What one turn gave.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    per_second: f64,
    median_us: f64,
    p99_us: f64,
    /// Processor time of Redis for one answer.
    redis_us: Option<f64>,
    /// Processor time of who asked, for one answer.
    load_us: Option<f64>,
}

/// A round: one turn of each.
type Round = [Turn; CONTENDERS.len()];

const GET: usize = Contender::Get as usize;
const GET_RANGE: usize = Contender::GetRange as usize;
const TIER: usize = Contender::Tier as usize;
const CROWDED: usize = Contender::Crowd as usize;

/// Measures all sizes over all numbers of connections.
pub(crate) async fn measure(cores: Cores, rounds: u16, millis: u64) -> anyhow::Result<Section> {
    let mut names = Vec::new();
    let mut measured = Rounds::of(SIZES.len() * CONNECTIONS.len());
    for (bytes, entries, size) in SIZES {
        let redis = Redis::start(cores.servers).await?;
        let names_of_keys = fill(&redis, bytes, entries, cores).await?;
        for connections in CONNECTIONS {
            let row =
                Row { redis: &redis, names: &names_of_keys, bytes, entries, connections, millis };
            let index = names.len();
            names.push(format!("{size}, {connections}"));
            let mut per_second = row.benchmark(&["GET", row.names], TRIAL, cores).await?.per_second;
            for round in 0..rounds {
                let turns = row.round(round, per_second, cores).await;
                let turns = turns.with_context(|| names[index].clone())?;
                per_second = turns[GET].per_second;
                measured.add(index, turns);
            }
        }
    }
    Ok(Section::new(title(), names, &measured, &columns()))
}

fn title() -> String {
    format!(
        "Reads by body and connections: RedisTier::get (deadline, breaker, decoding, checksum and all) \
         beside redis-benchmark -P 1 with GET, as many callers as connections. Values as the cache \
         writes them, not compressed; keys at random. By GETRANGE: redis-benchmark with the command \
         that the tier reads by, in place of GET. ×{CROWD} callers: the tier with {CROWD} times as many callers as \
         connections. µs/read is processor time. Wanted: tier ÷ redis-benchmark ≥ {WANTED}."
    )
}

fn columns() -> [Column<Round>; 13] {
    let ratio: Figure<Round> = |round| Some(round[TIER].per_second / round[GET].per_second);
    [
        Column::median("redis-benchmark/s", 0, |round: &Round| Some(round[GET].per_second)),
        Column::median("tier/s", 0, |round| Some(round[TIER].per_second)),
        Column::median("ratio", 2, ratio),
        Column::spread(ratio),
        Column::median("by GETRANGE", 2, |round| {
            Some(round[GET_RANGE].per_second / round[GET].per_second)
        }),
        Column::median("×4 callers", 2, |round| {
            Some(round[CROWDED].per_second / round[GET].per_second)
        }),
        Column::median("rb p50 µs", 0, |round| Some(round[GET].median_us)),
        Column::median("tier p50 µs", 0, |round| Some(round[TIER].median_us)),
        Column::median("rb p99 µs", 0, |round| Some(round[GET].p99_us)),
        Column::median("tier p99 µs", 0, |round| Some(round[TIER].p99_us)),
        Column::median("redis µs/read", 1, |round| round[TIER].redis_us),
        Column::median("rb µs/read", 1, |round| round[GET].load_us),
        Column::median("tier µs/read", 1, |round| round[TIER].load_us),
    ]
}

/// Writes the entries, each checked by reading it back, and says how `redis-benchmark` names them.
async fn fill(redis: &Redis, bytes: usize, entries: u32, cores: Cores) -> anyhow::Result<String> {
    let job = Job::Write(Writing {
        redis: redis.address(),
        bodies: Bodies::Plain,
        bytes,
        entries,
        compress_bytes_min: 0,
        check_every: 1,
    });
    let _: Written = process::run_load(&job, job.duration(), cores.load).await?;
    let name: String = redis.ask("RANDOMKEY").await?;
    entries::marked(&name)
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
struct Row<'r> {
    redis: &'r Redis,
    names: &'r str,
    bytes: usize,
    entries: u32,
    connections: usize,
    millis: u64,
}

impl Row<'_> {
    /// A turn of each, in the order of this round.
    async fn round(self, round: u16, per_second: f64, cores: Cores) -> anyhow::Result<Round> {
        let mut turns = Round::default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some 100,000")]
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a round")]
        let calls = (per_second * self.millis as f64 / 1e3) as u64;
        for index in order(round, CONTENDERS.len()) {
            turns[index] = match CONTENDERS[index] {
                Contender::Get => self.benchmark(&["GET", self.names], calls, cores).await?,
                Contender::GetRange => {
                    let command = ["GETRANGE", self.names, "0", BEYOND];
                    self.benchmark(&command, calls, cores).await?
                }
                Contender::Tier => self.tier(1, cores).await?,
                Contender::Crowd => self.tier(CROWD, cores).await?,
            };
        }
        Ok(turns)
    }

    /// `redis-benchmark` looks at no answer: that all were values is what Redis says.
    async fn benchmark(self, command: &[&str], calls: u64, cores: Cores) -> anyhow::Result<Turn> {
        let calls = calls.max(TRIAL);
        let Row { redis, entries, connections, .. } = self;
        let (hits, misses) = (redis.said("keyspace_hits").await?, self.misses().await?);
        let sent = redis.said("total_net_output_bytes").await?;
        let used = Used::so_far(redis)?;
        let found =
            benchmark::run(redis.address(), connections, calls, entries, command, cores.load)
                .await?;
        let used = used.since(redis)?;
        let answers = redis.said("keyspace_hits").await? - hits;
        let sent = redis.said("total_net_output_bytes").await? - sent;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let (calls, bytes) = (calls as f64, self.bytes as f64);
        ensure!(
            answers >= calls && self.misses().await? <= misses && sent >= answers * bytes,
            "redis-benchmark did not read what it was to read"
        );
        Ok(Turn {
            per_second: found.per_second,
            median_us: found.median_us,
            p99_us: found.p99_us,
            redis_us: used.redis_s.map(|seconds| seconds * 1e6 / answers),
            load_us: used.load_s.map(|seconds| seconds * 1e6 / answers),
        })
    }

    async fn misses(self) -> anyhow::Result<f64> {
        self.redis.said("keyspace_misses").await
    }

    async fn tier(self, callers_each: u32, cores: Cores) -> anyhow::Result<Turn> {
        let job = Job::Read(Reading {
            redis: self.redis.address(),
            connections: self.connections,
            callers: u32::try_from(self.connections)? * callers_each,
            entries: self.entries,
            bytes: self.bytes,
            millis: self.millis,
        });
        let used = Used::so_far(self.redis)?;
        let reads: Reads = process::run_load(&job, job.duration(), cores.load).await?;
        let used = used.since(self.redis)?;
        Ok(Turn {
            per_second: reads.per_second,
            median_us: reads.took.median,
            p99_us: reads.took.p99,
            redis_us: used.redis_s.map(|seconds| seconds * 1e6 / reads.answers),
            load_us: used.load_s.map(|seconds| seconds * 1e6 / reads.answers),
        })
    }
}

/// Processor time.
#[derive(Clone, Copy, Debug)]
struct Used {
    redis_s: Option<f64>,
    load_s: Option<f64>,
}

impl Used {
    fn so_far(redis: &Redis) -> anyhow::Result<Used> {
        Ok(Used { redis_s: redis.processor_seconds()?, load_s: children_seconds()? })
    }

    fn since(self, redis: &Redis) -> anyhow::Result<Used> {
        let now = Used::so_far(redis)?;
        let between = |now: Option<f64>, before: Option<f64>| Some(now? - before?);
        Ok(Used {
            redis_s: between(now.redis_s, self.redis_s),
            load_s: between(now.load_s, self.load_s),
        })
    }
}

/// What all children of this process have used that have ended; nothing where the system does not say.
#[cfg(target_os = "linux")]
fn children_seconds() -> anyhow::Result<Option<f64>> {
    let line = std::fs::read_to_string("/proc/self/stat").context("cannot read the times")?;
    // The name before it may hold spaces; proc_pid_stat(5) counts cutime as field 16.
    let (_, fields) = line.rsplit_once(") ").context("no process name")?;
    let ticks = |index: usize| -> anyhow::Result<u32> {
        Ok(fields.split(' ').nth(index).context("too few fields")?.parse()?)
    };
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
    Ok(Some(f64::from(ticks(13)? + ticks(14)?) / f64::from(per_second)))
}

#[cfg(not(target_os = "linux"))]
fn children_seconds() -> anyhow::Result<Option<f64>> {
    Ok(None)
}
