//! Expiry: hot keys with a short lifetime under a constant load that waits for nobody.
//!
//! The load is open: each caller asks by its own timetable. An answer that keeps a caller past the
//! time of its next question counts against that question, too.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::ask::LIFETIME;
use crate::load::{Source, Target};
use crate::shared::exchange::{self, Request};
use crate::shared::spread::{Spread, count};
use crate::shared::wire::Connection;

/// Whoever waits so long, waits for the upstream: it takes 200 ms, and no hit takes that long.
const WAITED: Duration = Duration::from_millis(100);

/// Why there are no times to tell of.
const NOTHING: &str = "nothing was asked";

/// A load on keys that have been filled just before.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Its number is that of the first key.
    pub(crate) target: Target,
    pub(crate) callers: u32,
    pub(crate) keys: u64,
    /// Requests a second, of all callers together.
    pub(crate) per_second: u32,
    /// How long it lasts after the fill.
    pub(crate) millis: u64,
}

/// What it was like after the fill.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// How many lifetimes it lasted.
    pub(crate) lifetimes: f64,
    /// Requests a second that were answered.
    pub(crate) per_second: f64,
    /// Those that waited for the upstream, by the time that they took.
    pub(crate) waited: f64,
    /// Those that were not answered from the cache, by its own word; a peer does not say.
    pub(crate) fetched: Option<f64>,
    /// From the time when a request was to be sent to the whole of its answer.
    pub(crate) whole: Spread,
    /// How late requests were sent although their connection was free: the load's own fault.
    pub(crate) late: Spread,
}

/// When a caller asks: one after the other, evenly.
#[derive(Clone, Copy, Debug)]
struct Timetable {
    callers: u32,
    per_second: u32,
}

impl Timetable {
    /// When a caller's turn is due, from the beginning.
    fn due(self, caller: u32, turn: u32) -> Duration {
        let ask = u64::from(turn) * u64::from(self.callers) + u64::from(caller);
        Duration::from_nanos(ask * 1_000_000_000 / u64::from(self.per_second))
    }
}

/// One exchange.
#[derive(Clone, Copy, Debug)]
struct Sample {
    is_hit: bool,
    whole: Duration,
    late: Option<Duration>,
}

pub(crate) async fn work(job: Job) -> anyhow::Result<Outcome> {
    let connections = job.target.connect(usize::try_from(job.callers)?).await?;
    let body = exchange::answer_body()?;
    let mut filling = JoinSet::new();
    for (connection, caller) in connections.into_iter().zip(0..) {
        let caller = Caller::new(job, caller, connection, body.clone())?;
        filling.spawn(caller.fill());
    }
    let mut filled = Vec::new();
    while let Some(ended) = filling.join_next().await {
        filled.push(ended??);
    }
    let begun = Instant::now();
    let mut asking = JoinSet::new();
    filled.into_iter().for_each(|caller| {
        asking.spawn(caller.ask(begun));
    });
    let mut samples = Vec::new();
    while let Some(ended) = asking.join_next().await {
        samples.extend(ended??);
    }
    let waited = samples.iter().filter(|sample| sample.whole >= WAITED).count();
    let fetched = samples.iter().filter(|sample| !sample.is_hit).count();
    Ok(Outcome {
        lifetimes: Duration::from_millis(job.millis).div_duration_f64(LIFETIME),
        per_second: count(samples.len()) / begun.elapsed().as_secs_f64(),
        waited: count(waited),
        fetched: (job.target.source == Source::Cache).then(|| count(fetched)),
        whole: Spread::of(samples.iter().map(|sample| sample.whole)).context(NOTHING)?,
        late: Spread::of(samples.iter().filter_map(|sample| sample.late)).context(NOTHING)?,
    })
}

struct Caller {
    job: Job,
    number: u32,
    connection: Connection,
    request: Request,
    body: Bytes,
}

impl Caller {
    fn new(job: Job, number: u32, connection: Connection, body: Bytes) -> anyhow::Result<Caller> {
        Ok(Caller { job, number, connection, request: job.target.request()?, body })
    }

    /// Asks for one key, and takes nothing but the right answer. Whether it is a hit, by the
    /// server's word.
    async fn ask_for(&mut self, key: u64) -> anyhow::Result<bool> {
        let request = self.request.numbered(self.job.target.number + key);
        let answer = self.connection.ask(request).await?;
        self.job.target.check(&answer)?;
        ensure!(answer.body == self.body, "the answer's body is not the upstream's");
        Ok(answer.cache_status.is_some_and(|said| said.starts_with("cache-server; hit;")))
    }

    /// Asks for its share of the keys, as fast as it can: they all expire at about the same time.
    async fn fill(mut self) -> anyhow::Result<Caller> {
        let (first, callers) = (u64::from(self.number), u64::from(self.job.callers));
        for key in (first..self.job.keys).step_by(usize::try_from(callers)?) {
            self.ask_for(key).await?;
        }
        Ok(self)
    }

    /// Asks for any keys by the timetable, until the time is over.
    async fn ask(mut self, begun: Instant) -> anyhow::Result<Vec<Sample>> {
        let Job { callers, per_second, keys, millis, .. } = self.job;
        let timetable = Timetable { callers, per_second };
        let mut rng = Rng::with_seed(self.job.target.number + u64::from(self.number));
        let mut samples = Vec::new();
        for turn in 0.. {
            let due = timetable.due(self.number, turn);
            if due >= Duration::from_millis(millis) {
                break;
            }
            let due = begun + due;
            let was_free = Instant::now() <= due;
            if was_free {
                tokio::time::sleep_until(due.into()).await;
            }
            let sent = Instant::now();
            let is_hit = self.ask_for(rng.u64(..keys)).await?;
            let from = if was_free { sent } else { due };
            let late = was_free.then(|| sent - due);
            samples.push(Sample { is_hit, whole: from.elapsed(), late });
        }
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_take_turns_evenly() {
        let timetable = Timetable { callers: 4, per_second: 2_000 };
        let step = Duration::from_micros(500);
        assert_eq!(timetable.due(0, 0), Duration::ZERO);
        assert_eq!(timetable.due(1, 0), step);
        assert_eq!(timetable.due(3, 0) + step, timetable.due(0, 1));
        assert_eq!(timetable.due(0, 500), Duration::from_secs(1));
    }
}
