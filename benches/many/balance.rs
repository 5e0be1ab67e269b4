//! Ways of balancing: nginx before three servers, round robin, and by a hash of what is asked.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::cache::CacheServer;
use crate::exchange::Kind;
use crate::front::{self, Balance};
use crate::load;
use crate::measure::UPSTREAM_MS;
use crate::shared::process::Server;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::{Rounds, order};
use crate::shared::spread::{Spread, count};
use crate::stage::{self, Stage};
use crate::traffic::{self, Drawn, End, Outcome, Shares};

/// Servers that are one cache.
const SERVERS: usize = 3;
/// Different questions; their entries are more than one server's memory holds, and less than three's.
const KEYS: usize = 6000;
const SETTINGS: [&str; 2] = ["cache.memory_bytes_max=12MiB", "cache.disk_bytes_max=0"];
/// Callers of what is measured, and of what is only filled.
const CALLERS: usize = 64;
const FILLERS: usize = 256;
/// The first questions, which find nothing; and those of the steady time.
const COLD: usize = 4000;
const STEADY: usize = 40_000;
/// How often callers ask around a kill, and how long before and after.
const PER_SECOND: u32 = 1000;
const BEFORE_KILL: Duration = Duration::from_secs(1);
const AFTER_KILL: Duration = Duration::from_secs(3);
/// A gauge, and a counter by outcome, as servers name them.
const MEMORY: &str = "cache_server_memory_bytes";
const READS: &str = "cache_server_redis_reads_total";

/// What is measured.
const CONTENDERS: [(&str, Balance, Kind); 4] = [
    ("POST, round robin", Balance::RoundRobin, Kind::Chat),
    ("POST, hash of X-Cache-Affinity", Balance::Hash, Kind::Chat),
    ("GET, round robin", Balance::RoundRobin, Kind::Page),
    ("GET, hash of the URI", Balance::Hash, Kind::Page),
];

/// What it gave.
#[derive(Clone, Debug)]
struct Measured {
    cold_calls: f64,
    /// Upstream calls of the first questions and of all the others, beyond one for each.
    fetched_twice: f64,
    steady: Shares,
    reads_a_request: f64,
    per_second: f64,
    took: Spread,
    memory_bytes: f64,
    kill: Kill,
}

/// What a kill of one server gave.
#[derive(Clone, Copy, Debug)]
struct Kill {
    calls: f64,
    failed: f64,
    shares: Shares,
    max_ms: f64,
}

/// Measures both ways with both kinds of questions.
pub(crate) async fn measure(
    stage: &mut Stage,
    rounds: u16,
    is_quick: bool,
) -> anyhow::Result<Vec<Section>> {
    let steady = if is_quick { STEADY / 8 } else { STEADY };
    let mut measured = Rounds::of(CONTENDERS.len());
    for round in 0..rounds {
        for index in order(round, CONTENDERS.len()) {
            let (name, balance, kind) = CONTENDERS[index];
            let one = one(stage, balance, kind, steady).await;
            measured.add(index, one.with_context(|| name.to_owned())?);
        }
    }
    let names = || CONTENDERS.map(|(name, ..)| name.to_owned());
    Ok(vec![
        Section::new(title(steady), names(), &measured, &columns()),
        Section::new(title_of_kill(), names(), &measured, &columns_of_kill()),
    ])
}

async fn one(
    stage: &mut Stage,
    balance: Balance,
    kind: Kind,
    steady: usize,
) -> anyhow::Result<Measured> {
    let redis = stage.redis().await?;
    let members = stage.members(SERVERS, &redis, &SETTINGS)?;
    let servers = stage.start_all(&members).await?;
    let folder = stage.new_folder();
    let core = stage.cores.servers;
    let nginx = front::nginx(&folder, &stage::addresses(&servers), balance, core).await?;
    let traffic = Traffic { kind, first: stage.new_numbers(), nginx: &nginx };

    let calls = stage.upstream_calls().await?;
    let cold = traffic.cold().run::<Outcome>(stage.cores.load).await?;
    let cold_calls = stage.upstream_calls().await? - calls;
    let filled = traffic.fill().run::<Outcome>(stage.cores.load).await?;
    ensure!(cold.failed() + filled.failed() == 0.0, "what is to be asked again was not fetched");
    let fetched_twice = stage.upstream_calls().await? - calls - count(KEYS);
    stage::all_written(&servers, KEYS).await?;

    let reads = reads(&servers).await?;
    let outcome = traffic.steady(steady).run::<Outcome>(stage.cores.load).await?;
    ensure!(outcome.failed() == 0.0, "what is there was not given");
    let reads = self::reads(&servers).await? - reads;
    let memory_bytes = memory_bytes(&servers).await?;
    let kill = killed(stage, &traffic, servers).await?;
    nginx.stop().await?;
    Ok(Measured {
        cold_calls,
        fetched_twice,
        steady: Shares::of(outcome.samples.iter()),
        reads_a_request: reads / count(outcome.samples.len()),
        per_second: outcome.per_second(),
        took: outcome.took()?,
        memory_bytes,
        kill,
    })
}

/// What nginx is asked.
struct Traffic<'n> {
    kind: Kind,
    first: u64,
    nginx: &'n Server,
}

impl Traffic<'_> {
    fn job(&self) -> traffic::Job {
        traffic::Job {
            servers: vec![self.nginx.address],
            kind: self.kind,
            callers: CALLERS,
            questions: Drawn { first: self.first, keys: KEYS, in_turn: false, new: None },
            per_second: None,
            delay_ms: UPSTREAM_MS,
            end: End::After(COLD),
        }
    }

    /// By Zipf's law, when nothing is there yet.
    fn cold(&self) -> load::Job {
        load::Job::Traffic(traffic::Job { callers: FILLERS, ..self.job() })
    }

    /// Each once.
    fn fill(&self) -> load::Job {
        let job = self.job();
        let questions = Drawn { in_turn: true, ..job.questions };
        let end = End::After(KEYS);
        load::Job::Traffic(traffic::Job { questions, delay_ms: 0, end, ..job })
    }

    /// By Zipf's law, when everything is there.
    fn steady(&self, requests: usize) -> load::Job {
        load::Job::Traffic(traffic::Job { end: End::After(requests), ..self.job() })
    }
}

/// Kills one server under load.
async fn killed(
    stage: &mut Stage,
    traffic: &Traffic<'_>,
    mut servers: Vec<CacheServer>,
) -> anyhow::Result<Kill> {
    let over = stage.new_folder();
    let job = traffic::Job {
        callers: FILLERS,
        per_second: Some(PER_SECOND),
        end: End::When(over.clone()),
        ..traffic.job()
    };
    let calls = stage.upstream_calls().await?;
    let job = load::Job::Traffic(job);
    let kill = async {
        tokio::time::sleep(BEFORE_KILL).await;
        stage::kill(&servers.remove(0))?;
        tokio::time::sleep(AFTER_KILL).await;
        std::fs::write(&over, "").context("cannot tell callers to end")
    };
    let (outcome, ()) = tokio::try_join!(job.run::<Outcome>(stage.cores.load), kill)?;
    let calls = stage.upstream_calls().await? - calls;
    stage::stop_all(servers).await?;
    Ok(Kill {
        calls,
        failed: outcome.failed(),
        shares: Shares::of(outcome.samples.iter()),
        max_ms: outcome.took()?.max / 1e3,
    })
}

/// Reads of Redis by all of them so far.
async fn reads(servers: &[CacheServer]) -> anyhow::Result<f64> {
    let mut reads = 0.0;
    for server in servers {
        reads += server.total(READS).await?;
    }
    Ok(reads)
}

/// What all of them hold in memory.
async fn memory_bytes(servers: &[CacheServer]) -> anyhow::Result<f64> {
    let mut bytes = 0.0;
    for server in servers {
        bytes += server.metric(MEMORY).await?;
    }
    Ok(bytes)
}

fn title(steady: usize) -> String {
    format!(
        "Balance: nginx before {SERVERS} servers of 12 MiB of memory each, without disk; {KEYS} questions by \
         Zipf's law. The first {COLD} of {FILLERS} callers find nothing, and the upstream takes \
         {UPSTREAM_MS} ms (cold); then each question is asked once, wanted: none fetched twice; and {steady} are asked by \
         {CALLERS} callers in a closed loop, and counted."
    )
}

fn columns() -> [Column<Measured>; 12] {
    [
        Column::median("cold calls", 0, |of| Some(of.cold_calls)),
        Column::largest("most fetched twice", 0, |of| Some(of.fetched_twice)),
        Column::median("memory %", 1, |of| Some(of.steady.local * 100.0)),
        Column::median("Redis %", 1, |of| Some(of.steady.redis * 100.0)),
        Column::median("miss %", 1, |of| Some(of.steady.upstream * 100.0)),
        Column::median("Redis reads/request", 3, |of| Some(of.reads_a_request)),
        Column::median("memory MiB", 1, |of| Some(of.memory_bytes / f64::from(1 << 20))),
        Column::median("requests/s", 0, |of| Some(of.per_second)),
        Column::ratio("×", |of| Some(of.per_second)),
        Column::spread(|of| Some(of.per_second)),
        Column::median("p50 µs", 0, |of| Some(of.took.median)),
        Column::median("p99 µs", 0, |of| Some(of.took.p99)),
    ]
}

fn title_of_kill() -> String {
    format!(
        "Balance, when one of {SERVERS} is killed (SIGKILL) {} s into {PER_SECOND} requests a second of \
         the same questions; {} s more are counted. nginx asks another server where one refuses, \
         or breaks before an answer (error timeout non_idempotent).",
        BEFORE_KILL.as_secs(),
        AFTER_KILL.as_secs()
    )
}

fn columns_of_kill() -> [Column<Measured>; 6] {
    [
        Column::median("upstream calls", 0, |of| Some(of.kill.calls)),
        Column::largest("most", 0, |of| Some(of.kill.calls)),
        Column::largest("most failed", 0, |of| Some(of.kill.failed)),
        Column::median("hit %", 2, |of| Some(of.kill.shares.hits() * 100.0)),
        Column::median("Redis %", 1, |of| Some(of.kill.shares.redis * 100.0)),
        Column::largest("max ms", 1, |of| Some(of.kill.max_ms)),
    ]
}
