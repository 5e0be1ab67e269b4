//! The load: callers in a closed loop who check every answer.
//!
//! - [`job`]: what it has to do;
//! - [`link`]: a caller's way to a server;
//! - [`activity`]: how busy the load is.

mod activity;
#[path = "../draw.rs"]
mod draw;
pub(crate) mod job;
mod link;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::shared::process;
use crate::shared::spread::{Spread, count};
use crate::upstream;
use activity::Activity;
use draw::Draw;
use job::{Expected, Job, Until};
use link::Link;

/// Why there are no times to tell of.
const NOTHING: &str = "nothing was measured: the round is too short";
/// From so many callers on a server is given time to take its connections from the kernel's queue.
const CROWD: u64 = 100;
const SETTLE: Duration = Duration::from_millis(200);

/// What a load measured.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Answers, those of the warm-up included.
    pub(crate) answers: f64,
    /// Answers a second after the warm-up.
    pub(crate) per_second: f64,
    /// Share of the time after the warm-up in which the load had something to do.
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
    let activity = Arc::new(Activity::new(job.spin));
    let links = link::open(&job, &activity).await?;
    if job.callers >= CROWD {
        tokio::time::sleep(SETTLE).await;
    }
    let shared = Arc::new(Shared {
        job,
        draw: job.mixed.map(|_| usize::try_from(job.numbers.count).map(Draw::new)).transpose()?,
        body: upstream::expected_body(job.question, job.answer_bytes)?,
        start: Barrier::new(links.len() + 1),
    });
    let mut callers = JoinSet::new();
    for (caller, link) in (0..).zip(links) {
        let (shared, activity) = (Arc::clone(&shared), Arc::clone(&activity));
        callers.spawn(async move { activity.counting(call(shared, caller, link)).await });
    }
    shared.start.wait().await;
    let spinning = Arc::clone(&activity);
    tokio::spawn(async move { spinning.spin().await });
    tokio::time::sleep(job.warm_up()).await;
    let (warm, idle_before) = (Instant::now(), activity.idle());
    let mut samples = Vec::new();
    // Nobody hangs up before all are done: that would give the server work.
    let mut open = Vec::new();
    while let Some(ended) = callers.join_next().await {
        let (theirs, link) = ended??;
        samples.extend(theirs);
        open.push(link);
    }
    let (elapsed, idle) = (warm.elapsed().as_secs_f64(), activity.idle() - idle_before);
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

/// One caller. It gives its link back, which is then still open.
async fn call(
    shared: Arc<Shared>,
    caller: u64,
    mut link: Link,
) -> anyhow::Result<(Vec<Sample>, Link)> {
    let job = shared.job;
    let mut rng = Rng::with_seed(caller);
    let mut samples = Vec::with_capacity(1 << 10);
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
        let (number, expected) = shared.choose(caller, turn, &mut rng);
        let seen = link.ask(number).await?;
        let whole = asked.elapsed();
        expected.check(seen.status, seen.cache_status, seen.body, &shared.body)?;
        samples.push(Sample { asked, first_byte: seen.first_byte - asked, whole });
    }
    Ok((samples, link))
}

/// What the callers of a load share.
#[derive(Debug)]
struct Shared {
    job: Job,
    /// How often which prompt is asked, where that is mixed.
    draw: Option<Draw>,
    body: Bytes,
    /// Nobody asks before everybody is connected.
    start: Barrier,
}

impl Shared {
    /// Which prompt a caller asks next, and where its answer must come from.
    fn choose(&self, caller: u64, turn: u64, rng: &mut Rng) -> (u64, Expected) {
        let Job { numbers, callers, expected, mixed, .. } = self.job;
        match (&self.draw, mixed) {
            (Some(_), Some(mix)) if rng.u8(..100) < mix.new_percent => {
                (mix.new.of(caller, callers, turn), mix.expected)
            }
            (Some(draw), _) => (numbers.first + draw.rank(rng.f64()), expected),
            (None, _) => (numbers.of(caller, callers, turn), expected),
        }
    }
}
