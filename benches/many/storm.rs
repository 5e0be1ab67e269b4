//! The storm: many callers of several servers who ask the same at the same moment, which nobody has.
//! Just before, as many callers ask the upstream itself, so that a busy machine makes both slower.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::exchange::{Kind, Questions, Source};
use crate::load;
use crate::measure::UPSTREAM_MS;
use crate::redis_server::Redis;
use crate::shared::process;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::{Rounds, order};
use crate::shared::spread::Spread;
use crate::shared::wire::Connection;
use crate::stage::{self, Stage};
use crate::upstream::CALLS_PATH;

/// Callers of all servers together.
const CALLERS: usize = 1000;
/// Questions that each server is asked before, one after the other: a route whose fills are known.
const WARM_UP: u64 = 10;
/// Keys of a round, and of a round of a smoke run.
const KEYS: u64 = 10;
const FEW_KEYS: u64 = 2;
/// After connecting, and between keys: time for a server to put away what there was to do.
const SETTLE: Duration = Duration::from_millis(200);

/// Storms on these servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    servers: Vec<SocketAddr>,
    upstream: SocketAddr,
    /// Of all servers together.
    callers: usize,
    /// The first number.
    first: u64,
    keys: u64,
}

impl Job {
    /// How long it takes at most, about.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_millis(UPSTREAM_MS) * u32::try_from(WARM_UP + 4 * self.keys).unwrap_or(1)
    }
}

/// What they were like.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Upstream calls for a key, and the most for one.
    calls: f64,
    most_calls: f64,
    /// What callers took who asked the upstream directly, on average.
    direct_ms: f64,
    /// From each caller's own request to the whole of its answer, beyond that, on average.
    mean_over_ms: f64,
    /// The same of each, where it is more.
    over: Spread,
    /// The mean of the worst key.
    worst_mean_ms: f64,
    /// From the first caller's request to the last one's, at most.
    moment_ms: f64,
}

/// One storm: of callers who ask the upstream directly, and then of those who ask the cache.
#[derive(Debug)]
struct Storm {
    calls: f64,
    direct_ms: f64,
    /// What each caller of the cache took.
    took: Vec<Duration>,
    moment: Duration,
}

impl Storm {
    /// What callers took beyond a direct call, in milliseconds. Some may have taken less.
    fn over_ms(&self) -> impl Iterator<Item = f64> {
        self.took.iter().map(|took| millis(*took) - self.direct_ms)
    }
}

pub(crate) async fn work(job: Job) -> anyhow::Result<Outcome> {
    warm_up(&job).await?;
    let mut callers = Caller::open_many(&job.servers, job.callers).await?;
    let mut direct_callers = Caller::open_many(&[job.upstream], job.callers).await?;
    let mut storms = Vec::new();
    for key in 0..job.keys {
        tokio::time::sleep(SETTLE).await;
        // Of two numbers, one is for the upstream itself.
        let number = job.first + 2 * key;
        let direct;
        (direct, direct_callers) = storm(direct_callers, number, Whom::Upstream).await?;
        let before = calls(job.upstream).await?;
        let by_cache;
        (by_cache, callers) = storm(callers, number + 1, Whom::Cache).await?;
        let calls = calls(job.upstream).await? - before;
        let direct_ms = mean(direct.took.iter().map(|took| millis(*took)));
        storms.push(Storm { calls, direct_ms, took: by_cache.took, moment: by_cache.moment });
    }
    outcome(&storms)
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mean(of: impl Iterator<Item = f64>) -> f64 {
    let (sum, number) = of.fold((0.0, 0.0), |(sum, number), of| (sum + of, number + 1.0));
    sum / number
}

fn outcome(storms: &[Storm]) -> anyhow::Result<Outcome> {
    // A spread has no negative times: those who took less than a direct call took nothing beyond it.
    let beyond = |ms: f64| Duration::from_secs_f64(ms.max(0.0) / 1e3);
    let over = Spread::of(storms.iter().flat_map(Storm::over_ms).map(beyond));
    let means = storms.iter().map(|of| mean(of.over_ms()));
    Ok(Outcome {
        calls: mean(storms.iter().map(|of| of.calls)),
        most_calls: storms.iter().map(|of| of.calls).fold(0.0, f64::max),
        direct_ms: mean(storms.iter().map(|of| of.direct_ms)),
        mean_over_ms: mean(means.clone()),
        over: over.context("a storm without callers")?,
        worst_mean_ms: means.fold(f64::NEG_INFINITY, f64::max),
        moment_ms: storms.iter().map(|of| millis(of.moment)).fold(0.0, f64::max),
    })
}

async fn calls(upstream: SocketAddr) -> anyhow::Result<f64> {
    process::look_at(upstream, CALLS_PATH).await?.parse().context("no count of calls")
}

/// Asks each server some questions one after the other, so that it knows how long a fill takes.
async fn warm_up(job: &Job) -> anyhow::Result<()> {
    let mut warming = JoinSet::new();
    let mut first = job.first + 2 * job.keys;
    for server in job.servers.clone() {
        let numbers = first..first + WARM_UP;
        first = numbers.end;
        warming.spawn(async move {
            let mut caller = Caller::open(server).await?;
            for number in numbers {
                let source = caller.ask(number).await?;
                ensure!(source == Source::Upstream, "what was to be new was there already");
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = warming.join_next().await {
        ended??;
    }
    Ok(())
}

/// Whom a storm asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Cache,
    Upstream,
}

/// What became of callers who asked at once.
#[derive(Debug)]
struct Answered {
    took: Vec<Duration>,
    /// From the first request to the last.
    moment: Duration,
}

/// All callers ask this at once. Gives the callers back: one who hangs up would give servers work.
async fn storm(
    callers: Vec<Caller>,
    number: u64,
    whom: Whom,
) -> anyhow::Result<(Answered, Vec<Caller>)> {
    let start = Arc::new(Barrier::new(callers.len()));
    let mut asking = JoinSet::new();
    for mut caller in callers {
        let start = Arc::clone(&start);
        asking.spawn(async move {
            start.wait().await;
            let asked = Instant::now();
            let source = match whom {
                Whom::Cache => caller.ask(number).await?,
                Whom::Upstream => caller.ask_directly(number).await?,
            };
            anyhow::Ok((asked, asked.elapsed(), source, caller))
        });
    }
    let (mut asked, mut took, mut callers, mut fetched) = (Vec::new(), Vec::new(), Vec::new(), 0);
    while let Some(ended) = asking.join_next().await {
        let (at, time, source, caller) = ended??;
        asked.push(at);
        took.push(time);
        callers.push(caller);
        fetched += usize::from(source == Source::Upstream);
    }
    ensure!(fetched > 0, "nobody fetched what was to be new");
    let (first, last) = (asked.iter().min(), asked.iter().max());
    let moment = first.zip(last).map_or(Duration::ZERO, |(first, last)| *last - *first);
    Ok((Answered { took, moment }, callers))
}

/// A connection and its questions.
#[derive(Debug)]
struct Caller {
    connection: Connection,
    questions: Questions,
}

impl Caller {
    /// So many, who ask these in turn.
    async fn open_many(addresses: &[SocketAddr], count: usize) -> anyhow::Result<Vec<Caller>> {
        let mut callers = Vec::with_capacity(count);
        for address in addresses.iter().cycle().take(count) {
            callers.push(Caller::open(*address).await?);
        }
        Ok(callers)
    }

    async fn open(address: SocketAddr) -> anyhow::Result<Caller> {
        let connection = Connection::open(address).await?;
        Ok(Caller { connection, questions: Questions::of(Kind::Chat, address, UPSTREAM_MS)? })
    }

    async fn ask(&mut self, number: u64) -> anyhow::Result<Source> {
        let answer = self.connection.ask(self.questions.numbered(number)).await?;
        self.questions.check(&answer, number)
    }

    async fn ask_directly(&mut self, number: u64) -> anyhow::Result<Source> {
        let answer = self.connection.ask(self.questions.numbered(number)).await?;
        self.questions.check_direct(&answer, number)?;
        Ok(Source::Upstream)
    }
}

/// How many servers, and what is set besides.
const CONTENDERS: [(&str, usize, &[&str]); 3] = [
    ("1 server × 1,000 callers", 1, &[]),
    ("4 servers × 250, flights shared", 4, &[]),
    ("4 servers × 250, each for itself", 4, &["redis.shared_flights=false"]),
];

/// Measures storms on one server, on four that fetch once for all, and on four that do not.
pub(crate) async fn measure(
    stage: &mut Stage,
    rounds: u16,
    is_quick: bool,
) -> anyhow::Result<Section> {
    let mut measured = Rounds::of(CONTENDERS.len());
    let keys = if is_quick { FEW_KEYS } else { KEYS };
    for round in 0..rounds {
        for index in order(round, CONTENDERS.len()) {
            let (_, servers, settings) = CONTENDERS[index];
            let redis = stage.redis().await?;
            measured.add(index, one(stage, &redis, servers, settings, keys).await?);
        }
    }
    let names = CONTENDERS.map(|(name, ..)| name.to_owned());
    Ok(Section::new(title(keys), names, &measured, &columns()))
}

async fn one(
    stage: &mut Stage,
    redis: &Redis,
    count: usize,
    settings: &[&str],
    keys: u64,
) -> anyhow::Result<Outcome> {
    let members = stage.members(count, redis, settings)?;
    let servers = stage.start_all(&members).await?;
    let job = load::Job::Storm(Job {
        servers: stage::addresses(&servers),
        upstream: stage.upstream.address,
        callers: CALLERS,
        first: stage.new_numbers(),
        keys,
    });
    let outcome = job.run(stage.cores.load).await?;
    stage::stop_all(servers).await?;
    Ok(outcome)
}

fn title(keys: u64) -> String {
    format!(
        "Storm: {CALLERS} callers at once on a key that nobody has, on connections that stood before; \
         {keys} keys a round, after {WARM_UP} single fills on each server. The upstream takes {UPSTREAM_MS} ms; \
         before each storm as many callers asked it directly, on connections of their own, and direct is \
         their mean. Over is what callers took beyond that, from their own request to the whole answer. \
         Wanted of four that share: 1 call a key, a mean of at most 30 ms over."
    )
}

fn columns() -> [Column<Outcome>; 9] {
    [
        Column::median("calls a key", 2, |of| Some(of.calls)),
        Column::largest("most", 0, |of| Some(of.most_calls)),
        Column::median("direct ms", 1, |of| Some(of.direct_ms)),
        Column::median("mean over ms", 1, |of| Some(of.mean_over_ms)),
        Column::difference("− 1 server ms", 1, |of| Some(of.mean_over_ms)),
        Column::largest("most of a key ms", 1, |of| Some(of.worst_mean_ms)),
        Column::median("p99 over ms", 1, |of| Some(of.over.p99 / 1e3)),
        Column::largest("max over ms", 1, |of| Some(of.over.max / 1e3)),
        Column::largest("moment ms", 1, |of| Some(of.moment_ms)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_storms_took_is_over_the_direct_calls_of_each() {
        let storm = |calls, took: [u64; 2]| Storm {
            calls,
            direct_ms: 410.0,
            took: took.map(Duration::from_millis).to_vec(),
            moment: Duration::from_millis(3),
        };
        let outcome = outcome(&[storm(1.0, [400, 420]), storm(4.0, [440, 470])]).unwrap();
        assert!((outcome.calls - 2.5).abs() < 1e-9 && (outcome.most_calls - 4.0).abs() < 1e-9);
        assert!((outcome.mean_over_ms - 22.5).abs() < 1e-6, "{outcome:?}");
        assert!((outcome.worst_mean_ms - 45.0).abs() < 1e-6, "{outcome:?}");
        assert!((outcome.over.max - 60e3).abs() < 1.0, "{outcome:?}");
        assert!(super::outcome(&[]).is_err(), "no storm at all");
    }
}
