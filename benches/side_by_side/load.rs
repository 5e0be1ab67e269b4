//! The load: callers in a closed loop, each on a connection of its own, who check every answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::shared::exchange::{Question, Request};
use crate::shared::process;
use crate::shared::spread::{Spread, count};
use crate::shared::wire::{Answer, Connection};
use crate::upstream;

/// Why there are no times to tell of.
const NOTHING: &str = "nothing was measured: the round is too short";

/// What a load has to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Whom to ask.
    pub(crate) address: SocketAddr,
    /// What to ask.
    pub(crate) question: Question,
    /// Which prompts.
    pub(crate) numbers: Numbers,
    /// How many callers at once.
    pub(crate) callers: u64,
    /// When it is enough.
    pub(crate) until: Until,
    /// What the answers must be.
    pub(crate) expected: Expected,
    /// Whether to spin instead of sleeping. A load that sleeps has to be woken for an answer,
    /// and the waking costs the server: the slower it is, the more often. With a core of its own
    /// the load takes that cost from all servers alike.
    pub(crate) spin: bool,
}

impl Job {
    /// How long it takes, where it says so.
    pub(crate) fn duration(&self) -> Duration {
        match self.until {
            Until::Asked { .. } => Duration::ZERO,
            Until::Elapsed { millis } => Duration::from_millis(millis) + self.warm_up(),
        }
    }

    /// The first answers find cold caches and new connections; they are checked and not counted.
    fn warm_up(&self) -> Duration {
        match self.until {
            Until::Asked { .. } => Duration::ZERO,
            Until::Elapsed { millis } => Duration::from_millis((millis / 5).min(200)),
        }
    }

    fn counts(&self, asked: Instant, warm: Instant) -> bool {
        matches!(self.until, Until::Asked { .. }) || asked >= warm
    }
}

/// The numbers of the prompts: so many from the first, over and over. The callers start evenly
/// spread over them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Numbers {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Numbers {
    fn of(self, caller: u64, callers: u64, turn: u64) -> u64 {
        let start = caller * (self.count / callers);
        self.first + (start + turn) % self.count
    }
}

/// When a load ends.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Until {
    /// Each caller has asked so often.
    Asked { times: u64 },
    /// So much time has passed after the warm-up.
    Elapsed { millis: u64 },
}

/// Where the answers must come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Expected {
    /// Nobody in between.
    Direct,
    /// Past the cache.
    Bypass,
    /// The upstream, through the cache, as a leader or a follower.
    Miss,
    /// The memory tier.
    Memory,
    /// The disk tier.
    Disk,
}

impl Expected {
    fn is_met(self, cache_status: Option<&str>) -> bool {
        let Some(said) = cache_status else { return self == Expected::Direct };
        match self {
            Expected::Direct => false,
            Expected::Bypass => said.starts_with("cache-server; fwd=bypass;"),
            Expected::Miss => said.starts_with("cache-server; fwd=miss;"),
            Expected::Memory => is_hit(said) && said.ends_with("; detail=memory"),
            Expected::Disk => is_hit(said) && said.ends_with("; detail=disk"),
        }
    }
}

fn is_hit(said: &str) -> bool {
    said.starts_with("cache-server; hit;")
}

/// What a load measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Answers, those of the warm-up included.
    pub(crate) answers: f64,
    /// Answers a second after the warm-up.
    pub(crate) per_second: f64,
    /// Share of the time after the warm-up in which the load was not waiting for answers.
    pub(crate) busy: f64,
    /// From the request to the whole answer.
    pub(crate) whole: Spread,
    /// From the request to the first byte of the body.
    pub(crate) first_byte: Spread,
}

/// Takes a job from standard input, and gives its outcome on standard output.
pub(crate) async fn run() -> anyhow::Result<()> {
    let outcome = work(process::take_job()?).await?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

async fn work(job: Job) -> anyhow::Result<Outcome> {
    let shared = Arc::new(Shared {
        job,
        body: upstream::expected_body(job.question)?,
        start: Barrier::new(usize::try_from(job.callers)? + 1),
        answers: AtomicU64::new(0),
        idle_ns: AtomicU64::new(0),
        began: Instant::now(),
    });
    let mut callers = JoinSet::new();
    for caller in 0..job.callers {
        callers.spawn(call(Arc::clone(&shared), caller));
    }
    tokio::select! {
        _ = shared.start.wait() => {}
        // Nobody ends before the start but by a failure to connect.
        Some(ended) = callers.join_next() => {
            ended??;
        }
    }
    if job.spin {
        tokio::spawn(spin(Arc::clone(&shared)));
    }
    tokio::time::sleep(job.warm_up()).await;
    let (warm, idle_before) = (Instant::now(), shared.idle());
    let mut samples = Vec::new();
    while let Some(ended) = callers.join_next().await {
        samples.extend(ended??);
    }
    let (elapsed, idle) = (warm.elapsed().as_secs_f64(), shared.idle() - idle_before);
    let counted: Vec<Sample> =
        samples.iter().copied().filter(|sample| job.counts(sample.asked, warm)).collect();
    Ok(Outcome {
        answers: count(samples.len()),
        per_second: count(counted.len()) / elapsed,
        busy: 1.0 - idle.as_secs_f64() / elapsed,
        whole: Spread::of(counted.iter().map(|sample| sample.whole)).context(NOTHING)?,
        first_byte: Spread::of(counted.iter().map(|sample| sample.first_byte)).context(NOTHING)?,
    })
}

/// One exchange.
#[derive(Clone, Copy, Debug)]
struct Sample {
    asked: Instant,
    first_byte: Duration,
    whole: Duration,
}

/// One caller.
async fn call(shared: Arc<Shared>, caller: u64) -> anyhow::Result<Vec<Sample>> {
    let job = shared.job;
    let mut request = Request::new(job.question, job.address)?;
    let mut connection = Connection::open(job.address).await?;
    let mut samples = Vec::with_capacity(16 << 10);
    shared.start.wait().await;
    let end = Instant::now() + job.duration();
    for turn in 0_u64.. {
        let asked = Instant::now();
        let enough = match job.until {
            Until::Asked { times } => turn >= times,
            Until::Elapsed { .. } => asked >= end,
        };
        if enough {
            break;
        }
        let number = job.numbers.of(caller, job.callers, turn);
        let answer = connection.ask(request.numbered(number)).await?;
        let whole = asked.elapsed();
        shared.answers.fetch_add(1, Ordering::Relaxed);
        check(&answer, job.expected, &shared.body)?;
        let first = answer.arrivals.first().context("the answer has no body")?;
        samples.push(Sample { asked, first_byte: first.at - asked, whole });
    }
    Ok(samples)
}

fn check(answer: &Answer<'_>, expected: Expected, body: &[u8]) -> anyhow::Result<()> {
    let (status, said) = (answer.status, answer.cache_status);
    let text = || String::from_utf8_lossy(answer.body);
    ensure!(status == "200", "{status} instead of 200: {}", text());
    ensure!(expected.is_met(said), "not what is to be measured, {expected:?}: {said:?}");
    ensure!(answer.body == body, "the answer's body is not the upstream's: {}", text());
    Ok(())
}

/// What the callers of a load share.
#[derive(Debug)]
struct Shared {
    job: Job,
    body: Bytes,
    /// Nobody asks before everybody is connected.
    start: Barrier,
    /// Answers so far.
    answers: AtomicU64,
    /// Nanoseconds spun without an answer in between.
    idle_ns: AtomicU64,
    began: Instant,
}

impl Shared {
    /// How long the load has waited for answers so far.
    fn idle(&self) -> Duration {
        if self.job.spin {
            return Duration::from_nanos(self.idle_ns.load(Ordering::Relaxed));
        }
        let busy = clock_gettime(ClockId::ProcessCPUTime);
        self.began.elapsed().saturating_sub(Duration::try_from(busy).unwrap_or_default())
    }
}

/// Keeps the load awake. It runs when no caller can; a turn in which no answer came was idle.
async fn spin(shared: Arc<Shared>) {
    let mut turn = Instant::now();
    let mut answers = 0;
    loop {
        tokio::task::yield_now().await;
        let now = Instant::now();
        let answers_now = shared.answers.load(Ordering::Relaxed);
        if answers_now == answers {
            let idle = u64::try_from((now - turn).as_nanos()).unwrap_or(0);
            shared.idle_ns.fetch_add(idle, Ordering::Relaxed);
        }
        (turn, answers) = (now, answers_now);
    }
}
