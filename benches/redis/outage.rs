//! A load on a server whose Redis stops for a while in the middle, as if it hung: hits from memory
//! by a timetable, questions that nobody has asked before one after the other, and questions whose
//! answers are in Redis alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::exchange::{Questions, Source};
use crate::shared::spread::{Spread, count};
use crate::shared::wire::Connection;

/// Callers of hits from memory, and how often each asks.
const HOT_CALLERS: u64 = 8;
const HOT_GAP: Duration = Duration::from_millis(4);
/// Callers of new questions, each in a closed loop.
const COLD_CALLERS: u64 = 8;
/// Callers of what is in Redis, and how often each asks at most.
const SHARED_CALLERS: u64 = 4;
const SHARED_GAP: Duration = Duration::from_millis(40);
/// The first answers find new connections; they are checked and not counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// How often the server is asked whether its Redis is up, while that is about to change.
const LOOK: Duration = Duration::from_millis(2);
/// How much more than the upstream a question takes that has waited for a deadline, of the deadline.
const PAID: f64 = 0.75;

/// What to ask, and when Redis stops.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) server: SocketAddr,
    /// Its listener for operators.
    pub(crate) admin: SocketAddr,
    /// Redis's process.
    pub(crate) redis: i32,
    /// How long the upstream thinks.
    pub(crate) delay_ms: u64,
    /// The deadline of a read, as the server has it.
    pub(crate) deadline_ms: u64,
    /// How long each of the three times lasts: before, while it is stopped, and after.
    pub(crate) millis: u64,
    /// The first number of those in memory, and how many there are.
    pub(crate) hot: (u64, u64),
    /// The same of those in Redis alone.
    pub(crate) shared: (u64, u64),
    /// The first number of those that nobody has asked for.
    pub(crate) cold: u64,
}

impl Job {
    /// How long it takes.
    pub(crate) fn duration(&self) -> Duration {
        WARM_UP + 3 * self.third()
    }

    fn third(&self) -> Duration {
        Duration::from_millis(self.millis)
    }
}

/// Questions that are asked once each, to fill something.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Fill {
    pub(crate) server: SocketAddr,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

/// Asks each once; says how many the upstream answered.
pub(crate) async fn fill(fill: Fill) -> anyhow::Result<u64> {
    let mut asker = Asker::open(fill.server, 0).await?;
    let mut fetched = 0;
    for number in fill.first..fill.first + fill.count {
        let source = asker.ask(number).await?;
        fetched += u64::from(source == Source::Upstream);
    }
    Ok(fetched)
}

/// What callers saw in the parts of the time, and when what happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Before; stopped, until it is left alone; while it is left alone; after.
    pub(crate) parts: [Part; 4],
    pub(crate) marks: Marks,
}

/// What callers saw in a part of the time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    /// Hits from memory.
    pub(crate) hits: Option<Spread>,
    pub(crate) hits_count: f64,
    /// What the upstream answered: the time beyond the upstream's.
    pub(crate) misses: Option<Spread>,
    pub(crate) misses_count: f64,
    /// Those of them that took so much longer that they have waited for a deadline.
    pub(crate) paid: f64,
    /// Hits from Redis.
    pub(crate) redis_hits: f64,
    /// Answers that were none, or wrong.
    pub(crate) errors: f64,
}

/// When what happened.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// From when Redis stopped until it was left alone.
    pub(crate) down_ms: f64,
    /// From when it went on until it was asked again.
    pub(crate) up_ms: f64,
    /// From when it went on to the first answer from it.
    pub(crate) first_hit_ms: Option<f64>,
}

/// When it stopped, was left alone, went on, and was asked again.
#[derive(Clone, Copy, Debug)]
struct Times {
    stopped: Instant,
    down: Instant,
    went_on: Instant,
    up: Instant,
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hot,
    Cold,
    Shared,
}

/// One exchange.
#[derive(Clone, Copy, Debug)]
struct Sample {
    kind: Kind,
    asked: Instant,
    answered: Instant,
    /// From when it was to be asked, where its caller was not late by another's fault.
    took: Duration,
    /// Where from; nothing for an error.
    source: Option<Source>,
}

pub(crate) async fn work(job: Job) -> anyhow::Result<Outcome> {
    let mut admin = Admin::open(job.admin).await?;
    let begun = Instant::now();
    let end = begun + job.duration();
    let mut callers = JoinSet::new();
    let next = Arc::new(AtomicU64::new(0));
    for caller in 0..HOT_CALLERS + COLD_CALLERS + SHARED_CALLERS {
        callers.spawn(Caller::open(job, caller, Arc::clone(&next)).await?.call(begun, end));
    }
    tokio::time::sleep_until((begun + WARM_UP + job.third()).into()).await;
    let times = admin.stop_and_go_on(&job).await?;
    let mut samples = Vec::new();
    while let Some(ended) = callers.join_next().await {
        samples.extend(ended??);
    }
    samples.retain(|sample| sample.asked >= begun + WARM_UP);
    Ok(outcome(&job, &samples, times))
}

fn outcome(job: &Job, samples: &[Sample], times: Times) -> Outcome {
    let millis = |from: Instant, to: Instant| (to - from).as_secs_f64() * 1e3;
    let is_late_hit =
        |sample: &&Sample| sample.source == Some(Source::Redis) && sample.answered > times.went_on;
    let first_hit = samples.iter().filter(is_late_hit).map(|sample| sample.answered).min();
    let part = |index| Part::of(job, samples.iter().filter(|of| times.part(of) == index));
    Outcome {
        parts: [part(0), part(1), part(2), part(3)],
        marks: Marks {
            down_ms: millis(times.stopped, times.down),
            up_ms: millis(times.went_on, times.up),
            first_hit_ms: first_hit.map(|at| millis(times.went_on, at)),
        },
    }
}

impl Times {
    /// In which part of the time an exchange was.
    fn part(&self, sample: &Sample) -> usize {
        if sample.answered <= self.stopped {
            0
        } else if sample.asked <= self.down {
            1
        } else if sample.asked <= self.went_on {
            2
        } else {
            3
        }
    }
}

impl Part {
    fn of<'s>(job: &Job, samples: impl Iterator<Item = &'s Sample>) -> Part {
        let delay = Duration::from_millis(job.delay_ms);
        let paid = Duration::from_millis(job.deadline_ms).mul_f64(PAID);
        let (mut hits, mut misses, mut redis_hits, mut errors) = (Vec::new(), Vec::new(), 0, 0);
        for sample in samples {
            match (sample.kind, sample.source) {
                (Kind::Hot, Some(Source::Local)) => hits.push(sample.took),
                (Kind::Cold | Kind::Shared, Some(Source::Upstream)) => {
                    misses.push(sample.took.saturating_sub(delay));
                }
                (Kind::Shared, Some(Source::Redis)) => redis_hits += 1,
                _ => errors += 1,
            }
        }
        Part {
            hits: Spread::of(hits.iter().copied()),
            hits_count: count(hits.len()),
            paid: count(misses.iter().filter(|over| **over >= paid).count()),
            misses: Spread::of(misses.iter().copied()),
            misses_count: count(misses.len()),
            redis_hits: count(redis_hits),
            errors: count(errors),
        }
    }
}

/// A caller's connection and its questions.
#[derive(Debug)]
struct Asker {
    server: SocketAddr,
    connection: Connection,
    questions: Questions,
}

impl Asker {
    async fn open(server: SocketAddr, delay_ms: u64) -> anyhow::Result<Asker> {
        let connection = Connection::open(server).await?;
        Ok(Asker { server, connection, questions: Questions::to(server, delay_ms)? })
    }

    async fn ask(&mut self, number: u64) -> anyhow::Result<Source> {
        let answer = self.connection.ask(self.questions.numbered(number)).await?;
        self.questions.check(&answer, number)
    }

    /// The same, where an error is counted and not the end.
    async fn try_to_ask(&mut self, number: u64) -> anyhow::Result<Option<Source>> {
        match self.ask(number).await {
            Ok(source) => Ok(Some(source)),
            Err(error) => {
                eprintln!("an error at a caller: {error:#}");
                self.connection = Connection::open(self.server).await?;
                Ok(None)
            }
        }
    }
}

/// Who asks one kind of question.
struct Caller {
    job: Job,
    kind: Kind,
    /// Its number among all.
    number: u64,
    asker: Asker,
    /// How many of those in Redis were asked for.
    next: Arc<AtomicU64>,
}

impl Caller {
    async fn open(job: Job, number: u64, next: Arc<AtomicU64>) -> anyhow::Result<Caller> {
        let kind = match number {
            _ if number < HOT_CALLERS => Kind::Hot,
            _ if number < HOT_CALLERS + COLD_CALLERS => Kind::Cold,
            _ => Kind::Shared,
        };
        let asker = Asker::open(job.server, job.delay_ms).await?;
        Ok(Caller { job, kind, number, asker, next })
    }

    async fn call(mut self, begun: Instant, end: Instant) -> anyhow::Result<Vec<Sample>> {
        let (gap, callers) = match self.kind {
            Kind::Hot => (HOT_GAP, HOT_CALLERS),
            Kind::Cold => (Duration::ZERO, COLD_CALLERS),
            Kind::Shared => (SHARED_GAP, SHARED_CALLERS),
        };
        let mut due = begun + gap * u32::try_from(self.number % callers)? / u32::try_from(callers)?;
        let mut samples = Vec::new();
        for turn in 0.. {
            let was_free = Instant::now() <= due;
            if was_free {
                tokio::time::sleep_until(due.into()).await;
            }
            let asked = Instant::now();
            if asked >= end {
                break;
            }
            let source = self.asker.try_to_ask(self.question(turn)?).await?;
            let answered = Instant::now();
            // A hit that holds its caller up counts against the next one, too.
            let from = if was_free || self.kind != Kind::Hot { asked } else { due };
            let kind = self.kind;
            samples.push(Sample { kind, asked, answered, took: answered - from, source });
            due = if self.kind == Kind::Hot { due + gap } else { asked + gap };
        }
        Ok(samples)
    }

    fn question(&self, turn: u64) -> anyhow::Result<u64> {
        Ok(match self.kind {
            Kind::Hot => self.job.hot.0 + (turn * HOT_CALLERS + self.number) % self.job.hot.1,
            Kind::Cold => self.job.cold + turn * COLD_CALLERS + self.number,
            Kind::Shared => {
                let next = self.next.fetch_add(1, Ordering::Relaxed);
                ensure!(next < self.job.shared.1, "too few entries were put into redis");
                self.job.shared.0 + next
            }
        })
    }
}

/// What the server says of itself.
struct Admin {
    address: SocketAddr,
    connection: Connection,
}

impl Admin {
    async fn open(address: SocketAddr) -> anyhow::Result<Admin> {
        Ok(Admin { address, connection: Connection::open(address).await? })
    }

    async fn look_at(&mut self, path: &str) -> anyhow::Result<String> {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address);
        let answer = self.connection.ask(request.as_bytes()).await?;
        Ok(String::from_utf8_lossy(answer.body).into_owned())
    }

    /// Looks until the server says that its Redis is `up` or `down`, and says when that was.
    async fn until(&mut self, state: &str, end: Instant) -> anyhow::Result<Instant> {
        loop {
            let stats: serde_json::Value = serde_json::from_str(&self.look_at("/stats").await?)?;
            let now = Instant::now();
            if stats["redis"]["state"] == state {
                return Ok(now);
            }
            ensure!(now < end, "redis is not {state} in time: {}", stats["redis"]);
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops Redis, and lets it go on after a third of the time.
    async fn stop_and_go_on(&mut self, job: &Job) -> anyhow::Result<Times> {
        let redis = Pid::from_raw(job.redis).context("process 0 is nobody's")?;
        let stopped = Instant::now();
        kill_process(redis, Signal::STOP).context("redis cannot be stopped")?;
        let _goes_on = GoesOn(redis);
        let went_on = stopped + job.third();
        let down = self.until("down", went_on).await?;
        tokio::time::sleep_until(went_on.into()).await;
        let went_on = Instant::now();
        kill_process(redis, Signal::CONT).context("redis cannot go on")?;
        let up = self.until("up", went_on + job.third()).await?;
        Ok(Times { stopped, down, went_on, up })
    }
}

/// Whatever goes wrong, Redis goes on.
struct GoesOn(Pid);

impl Drop for GoesOn {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}
