//! A load as callers make it: some questions are asked often, most seldom.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::draw::Draw;
use crate::exchange::{Questions, Source};
use crate::shared::spread::{Spread, count};
use crate::shared::wire::Connection;

/// How long it may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// Questions after which it is looked whether it is enough.
const STEP: usize = 1000;

/// Questions to ask, until enough of them are hits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) address: SocketAddr,
    pub(crate) callers: usize,
    /// How many different ones there are.
    pub(crate) keys: usize,
    /// The number of the most frequent one. It says which order is drawn, too.
    pub(crate) first: u64,
    /// How long the upstream thinks.
    pub(crate) delay_ms: u64,
    /// The share of hits of the last thousand at which it ends.
    pub(crate) enough: f64,
    /// Where it ends in any case.
    pub(crate) requests_max: usize,
}

/// What was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From where, a thousand questions a step.
    pub(crate) steps: Vec<Step>,
    /// How long hits from Redis took.
    pub(crate) redis: Option<Spread>,
    /// How long hits from the local tiers took.
    pub(crate) local: Option<Spread>,
}

/// Where the answers of one step came from.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) local: usize,
    pub(crate) redis: usize,
    pub(crate) upstream: usize,
}

impl Outcome {
    /// The share of hits of the first questions.
    pub(crate) fn hits_of_first(&self, requests: usize) -> f64 {
        let first = self.first(requests);
        count(first.local + first.redis) / count(first.local + first.redis + first.upstream)
    }

    /// Where the first answers came from, altogether.
    pub(crate) fn first(&self, requests: usize) -> Step {
        let steps = self.steps.iter().take(requests / STEP);
        steps.fold(Step::default(), |sum, step| Step {
            local: sum.local + step.local,
            redis: sum.redis + step.redis,
            upstream: sum.upstream + step.upstream,
        })
    }

    /// The share of hits of the last step.
    pub(crate) fn hits_of_last(&self) -> f64 {
        self.steps.last().map_or(0.0, |last| count(last.local + last.redis) / count(STEP))
    }

    /// How many questions were asked.
    pub(crate) fn requests(&self) -> usize {
        self.steps.len() * STEP
    }
}

pub(crate) async fn work(job: Job) -> anyhow::Result<Outcome> {
    let mut connections = Vec::new();
    for _ in 0..job.callers {
        connections.push((
            Connection::open(job.address).await?,
            Questions::to(job.address, job.delay_ms)?,
        ));
    }
    let draw = Draw::new(job.keys);
    let mut rng = Rng::with_seed(job.first);
    let mut outcome = Outcome { steps: Vec::new(), redis: None, local: None };
    let mut times = Vec::new();
    while outcome.requests() < job.requests_max && outcome.hits_of_last() < job.enough {
        let numbers: Vec<u64> = (0..STEP).map(|_| job.first + draw.rank(rng.f64())).collect();
        let (answers, back) = step(connections, numbers).await?;
        connections = back;
        ensure!(answers.len() == STEP, "questions were left out");
        let from = |source| answers.iter().filter(|(of, _)| *of == source).count();
        outcome.steps.push(Step {
            local: from(Source::Local),
            redis: from(Source::Redis),
            upstream: from(Source::Upstream),
        });
        times.extend(answers);
    }
    let of =
        |source| Spread::of(times.iter().filter(|(of, _)| *of == source).map(|(_, took)| *took));
    (outcome.redis, outcome.local) = (of(Source::Redis), of(Source::Local));
    Ok(outcome)
}

type Callers = Vec<(Connection, Questions)>;
type Answers = Vec<(Source, Duration)>;

/// Asks these, each by whichever caller is free.
async fn step(callers: Callers, numbers: Vec<u64>) -> anyhow::Result<(Answers, Callers)> {
    let (numbers, next) = (Arc::new(numbers), Arc::new(AtomicUsize::new(0)));
    let mut asking = JoinSet::new();
    for (mut connection, mut questions) in callers {
        let (numbers, next) = (Arc::clone(&numbers), Arc::clone(&next));
        asking.spawn(async move {
            let mut answers = Vec::new();
            while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let asked = Instant::now();
                let answer = connection.ask(questions.numbered(*number)).await?;
                let took = asked.elapsed();
                answers.push((questions.check(&answer, *number)?, took));
            }
            anyhow::Ok((answers, (connection, questions)))
        });
    }
    let (mut answers, mut callers) = (Vec::new(), Vec::new());
    while let Some(ended) = asking.join_next().await {
        let (more, caller) = ended??;
        answers.extend(more);
        callers.push(caller);
    }
    Ok((answers, callers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_first_steps() {
        let step = |local, redis, upstream| Step { local, redis, upstream };
        let steps = vec![step(300, 200, 500), step(900, 0, 100)];
        let outcome = Outcome { steps, redis: None, local: None };
        assert!((outcome.hits_of_first(1000) - 0.5).abs() < 1e-9);
        assert!((outcome.hits_of_first(5000) - 0.7).abs() < 1e-9);
        assert!((outcome.hits_of_last() - 0.9).abs() < 1e-9);
        assert_eq!((outcome.requests(), outcome.first(2000).upstream), (2000, 600));
    }
}
