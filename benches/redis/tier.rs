//! The tier as a library: what a server does with Redis, without the server around it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cache_server::cache::leases::Fence;
use cache_server::cache::purge::{PurgeSettings, Purges};
use cache_server::cache::tiers::redis::metrics::RedisMetrics;
use cache_server::cache::tiers::redis::settings::{Address, Place, RedisSettings};
use cache_server::cache::tiers::redis::{Form, RedisTier};
use cache_server::clock::Clock;
use fastrand::Rng;
use metrics::{Counter, Gauge, Histogram};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::entries::{self, Bodies};
use crate::shared::spread::{Spread, count};

/// As in a server's settings, and large enough for every entry here.
const VALUE_BYTES_MAX: usize = 2 << 20;
/// A machine that is not quiet is to slow a call down, not to fail it.
const DEADLINE: Duration = Duration::from_secs(2);
/// Entries on their way at most: writing is slower than making them.
const AHEAD: u64 = 4000;
/// The first calls find new connections; they are checked and not counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long writing may take.
const WRITING: Duration = Duration::from_secs(600);

/// Entries to write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Writing {
    pub(crate) redis: std::net::SocketAddr,
    pub(crate) bodies: Bodies,
    /// Bytes of a body.
    pub(crate) bytes: usize,
    /// How many: the numbers from 0.
    pub(crate) entries: u32,
    /// Entries are compressed from this size on; 0 for none.
    pub(crate) compress_bytes_min: usize,
    /// Every how many are read back and compared byte for byte.
    pub(crate) check_every: u32,
}

impl Writing {
    /// How long it may take.
    pub(crate) fn duration(&self) -> Duration {
        WRITING
    }
}

/// What writing took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Entries a second.
    pub(crate) per_second: f64,
}

/// Entries to read, over and over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub(crate) redis: std::net::SocketAddr,
    /// Connections for reads.
    pub(crate) connections: usize,
    /// Who read at once, each keys that no other reads: the tier reads a key once for all who want it.
    pub(crate) callers: u32,
    /// How many there are.
    pub(crate) entries: u32,
    /// Bytes of a body.
    pub(crate) bytes: usize,
    /// How long it lasts after the warm-up.
    pub(crate) millis: u64,
}

impl Reading {
    /// How long it takes.
    pub(crate) fn duration(&self) -> Duration {
        WARM_UP + Duration::from_millis(self.millis)
    }
}

/// What reading took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Reads {
    /// All that were answered, those of the warm-up included.
    pub(crate) answers: f64,
    /// Reads a second after the warm-up.
    pub(crate) per_second: f64,
    /// From asking the tier to having the entry.
    pub(crate) took: Spread,
}

/// The counters that are looked at; the others count, too, as in a server.
#[derive(Clone, Debug, Default)]
struct Counted {
    written: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
}

impl Counted {
    fn metrics(&self) -> RedisMetrics {
        let counter = || Counter::from_arc(Arc::new(AtomicU64::new(0)));
        let lost = || Counter::from_arc(Arc::clone(&self.lost));
        let gauge = || Gauge::from_arc(Arc::new(AtomicU64::new(0)));
        RedisMetrics {
            reads: std::array::from_fn(|_| counter()),
            written: Counter::from_arc(Arc::clone(&self.written)),
            write_failed: counter(),
            write_seconds: Histogram::noop(),
            drops: std::array::from_fn(|_| lost()),
            up: gauge(),
            breaker_open: gauge(),
            writes_paused: gauge(),
            queue_entries: gauge(),
            queue_bytes: gauge(),
            errors: Box::new(|kind| eprintln!("redis: {kind}")),
        }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

async fn start(
    redis: std::net::SocketAddr,
    connections: usize,
    compress_bytes_min: usize,
    counted: &Counted,
) -> anyhow::Result<RedisTier> {
    let settings = RedisSettings {
        address: Address::One(Place { host: redis.ip().to_string(), port: redis.port() }),
        username: None,
        password: None,
        sentinel_password: None,
        database: 0,
        tls: None,
        prefix: "cache-server".into(),
        deadline: DEADLINE,
        write_deadline: DEADLINE,
        connections,
        form: Form {
            value_bytes_max: VALUE_BYTES_MAX,
            compress_bytes_min,
            entry_bytes_max: VALUE_BYTES_MAX,
        },
        node: "bench".into(),
        shared_flights: false,
        coherence_lifetime: Duration::MAX,
        write_queue_entries_max: 10_000,
        write_queue_bytes_max: 1 << 30,
    };
    let bounds = PurgeSettings { orders_max: 1_000, entry_life_max: Duration::MAX };
    let purges = Arc::new(Purges::open(None, bounds, Clock::default(), false)?);
    let tier = RedisTier::start(settings, purges, Clock::default(), counted.metrics());
    tier.started().await;
    ensure!(tier.is_up(), "the tier does not reach redis");
    Ok(tier)
}

/// Writes entries through the tier, and reads some of them back.
pub(crate) async fn write(writing: Writing) -> anyhow::Result<Written> {
    let counted = Counted::default();
    let tier = start(writing.redis, 1, writing.compress_bytes_min, &counted).await?;
    let clock = Clock::default();
    let begun = Instant::now();
    for number in 0..writing.entries {
        while u64::from(number) > counted.written() + AHEAD {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let body = writing.bodies.body(number, writing.bytes);
        let entry = Arc::new(entries::entry(number, body, clock.now()));
        tier.put_soon(entry, Fence::now(tier.time()));
    }
    tier.close(tokio::time::Instant::now() + WRITING).await;
    let took = begun.elapsed();
    let (written, lost) = (counted.written(), counted.lost.load(Ordering::Relaxed));
    ensure!(written == u64::from(writing.entries) && lost == 0, "{lost} entries were not written");
    let numbers = (0..writing.entries).step_by(usize::try_from(writing.check_every)?);
    for number in numbers {
        let read = tier.get(&entries::key(number)).await?.context("an entry is not there")?;
        let body = writing.bodies.body(number, writing.bytes);
        ensure!(read.body == body, "entry {number} is not what was written");
    }
    Ok(Written { per_second: f64::from(writing.entries) / took.as_secs_f64() })
}

/// Reads entries through the tier.
pub(crate) async fn read(reading: Reading) -> anyhow::Result<Reads> {
    let tier = start(reading.redis, reading.connections, 0, &Counted::default()).await?;
    let (tier, reading) = (Arc::new(tier), Arc::new(reading));
    let warm = Instant::now() + WARM_UP;
    let end = warm + Duration::from_millis(reading.millis);
    let mut callers = JoinSet::new();
    for caller in 0..reading.callers {
        callers.spawn(call(Arc::clone(&tier), Arc::clone(&reading), caller, warm..end));
    }
    let (mut answers, mut times) = (0, Vec::new());
    while let Some(ended) = callers.join_next().await {
        let (asked, counted) = ended??;
        answers += asked;
        times.extend(counted);
    }
    Ok(Reads {
        answers: count(answers),
        per_second: count(times.len()) / warm.elapsed().as_secs_f64(),
        took: Spread::of(times.into_iter()).context("nothing was read: the round is too short")?,
    })
}

/// One caller: how many answers there were, and how long those took that count.
async fn call(
    tier: Arc<RedisTier>,
    reading: Arc<Reading>,
    caller: u32,
    counts: std::ops::Range<Instant>,
) -> anyhow::Result<(usize, Vec<Duration>)> {
    let mut rng = Rng::with_seed(u64::from(caller));
    let (mut answers, mut times) = (0, Vec::with_capacity(1 << 12));
    loop {
        let number = caller + reading.callers * rng.u32(..reading.entries / reading.callers);
        let key = entries::key(number);
        let asked = Instant::now();
        if asked >= counts.end {
            return Ok((answers, times));
        }
        let read = tier.get(&key).await;
        let took = asked.elapsed();
        let read = read?.context("an entry is not there")?;
        entries::check(&read, number, reading.bytes)?;
        answers += 1;
        if asked >= counts.start {
            times.push(took);
        }
    }
}
