//! Traffic as callers make it, by Zipf's law, to servers in turn: like a load balancer, a caller asks
//! the next one where a connection is refused, or fails before an answer has begun.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::clock::now_ns;
use crate::draw::Draw;
use crate::exchange::{Kind, Questions, Source};
use crate::shared::spread::{Spread, count};
use crate::shared::wire::{Connection, Unanswered};

/// How long it may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// Spreads the turns over the seeds (the golden ratio of 64 bits).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// What to ask, whom, and for how long.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) kind: Kind,
    pub(crate) callers: usize,
    pub(crate) questions: Drawn,
    /// How many a second, by a timetable; else each caller asks when it has its answer.
    pub(crate) per_second: Option<u32>,
    /// How long the upstream thinks.
    pub(crate) delay_ms: u64,
    pub(crate) end: End,
}

/// Which questions are asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Drawn {
    /// The number of the most frequent one. It says which order is drawn, too.
    pub(crate) first: u64,
    /// How many different ones there are.
    pub(crate) keys: usize,
    /// Each once, instead of by Zipf's law.
    pub(crate) in_turn: bool,
    /// Every how many are new, and the first number of those.
    pub(crate) new: Option<(u64, u64)>,
}

/// When it is over.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum End {
    /// After so many questions.
    After(usize),
    /// When this file is there.
    When(PathBuf),
}

/// What was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    /// How often the next server had to be asked.
    pub(crate) retries: f64,
}

/// One question.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Sample {
    /// When it was answered, on the clock of all processes.
    pub(crate) at_ns: u64,
    /// From when it was due, or asked, in nanoseconds.
    pub(crate) took_ns: u64,
    /// Who answered; nobody, or with an error, if nothing.
    pub(crate) source: Option<Source>,
    /// Whether it was one of the new ones.
    pub(crate) is_new: bool,
}

/// Which part of the answers came from where.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Shares {
    pub(crate) local: f64,
    pub(crate) redis: f64,
    pub(crate) upstream: f64,
    pub(crate) failed: f64,
}

impl Shares {
    /// Of these; all zero if there are none.
    pub(crate) fn of<'s>(samples: impl Iterator<Item = &'s Sample>) -> Shares {
        let (mut shares, mut all) = (Shares::default(), 0.0);
        for sample in samples {
            all += 1.0;
            *match sample.source {
                Some(Source::Local) => &mut shares.local,
                Some(Source::Redis) => &mut shares.redis,
                Some(Source::Upstream) => &mut shares.upstream,
                None => &mut shares.failed,
            } += 1.0;
        }
        let of_all = |share: f64| if all > 0.0 { share / all } else { 0.0 };
        Shares {
            local: of_all(shares.local),
            redis: of_all(shares.redis),
            upstream: of_all(shares.upstream),
            failed: of_all(shares.failed),
        }
    }

    /// The share of hits.
    pub(crate) fn hits(self) -> f64 {
        self.local + self.redis
    }
}

impl Outcome {
    /// How many came to nothing.
    pub(crate) fn failed(&self) -> f64 {
        count(self.samples.iter().filter(|sample| sample.source.is_none()).count())
    }

    /// How many were new.
    pub(crate) fn of_new(&self) -> f64 {
        count(self.samples.iter().filter(|sample| sample.is_new).count())
    }

    /// How long answers took.
    pub(crate) fn took(&self) -> anyhow::Result<Spread> {
        let took = self.samples.iter().map(|sample| Duration::from_nanos(sample.took_ns));
        Spread::of(took).context("nothing was asked")
    }

    /// Answers a second.
    pub(crate) fn per_second(&self) -> f64 {
        let begun = self.samples.iter().map(|sample| sample.at_ns - sample.took_ns).min();
        let ended = self.samples.iter().map(|sample| sample.at_ns).max();
        let lasted = begun.zip(ended).map_or(0, |(begun, ended)| ended - begun);
        count(self.samples.len()) / Duration::from_nanos(lasted).as_secs_f64()
    }
}

impl Drawn {
    /// The number of the question of this turn, and whether it is a new one.
    fn number(&self, draw: &Draw, turn: u64) -> (u64, bool) {
        if let Some((every, first)) = self.new
            && turn.is_multiple_of(every)
        {
            return (first + turn / every, true);
        }
        let rank = if self.in_turn {
            turn % u64::try_from(self.keys).unwrap_or(1)
        } else {
            draw.rank(Rng::with_seed((self.first ^ turn).wrapping_mul(GOLDEN)).f64())
        };
        (self.first + rank, false)
    }
}

impl End {
    fn is_here(&self, turn: u64) -> bool {
        match self {
            End::After(questions) => usize::try_from(turn).is_ok_and(|turn| turn >= *questions),
            End::When(file) => file.exists(),
        }
    }
}

pub(crate) async fn work(job: Job) -> anyhow::Result<Outcome> {
    let draw = Arc::new(Draw::new(job.questions.keys));
    let (job, next, begun) = (Arc::new(job), Arc::new(AtomicU64::new(0)), Instant::now());
    let mut calling = JoinSet::new();
    for _ in 0..job.callers {
        let caller = Caller::of(&job)?;
        calling.spawn(caller.call(Arc::clone(&job), Arc::clone(&draw), Arc::clone(&next), begun));
    }
    let mut outcome = Outcome { samples: Vec::new(), retries: 0.0 };
    while let Some(ended) = calling.join_next().await {
        let (samples, retries) = ended??;
        outcome.samples.extend(samples);
        outcome.retries += retries;
    }
    Ok(outcome)
}

/// Someone who asks one thing at a time, of servers in turn.
#[derive(Debug)]
struct Caller {
    /// One a server, if it stands.
    connections: Vec<Option<Connection>>,
    servers: Vec<(SocketAddr, Questions)>,
    retries: f64,
}

/// Why a server gave no answer that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// None had begun: another server may be asked.
    Unanswered,
    /// It was an error, or broke off.
    Failed,
}

impl Caller {
    fn of(job: &Job) -> anyhow::Result<Caller> {
        let servers = job
            .servers
            .iter()
            .map(|server| anyhow::Ok((*server, Questions::of(job.kind, *server, job.delay_ms)?)));
        Ok(Caller {
            connections: job.servers.iter().map(|_| None).collect(),
            servers: servers.collect::<anyhow::Result<_>>()?,
            retries: 0.0,
        })
    }

    async fn call(
        mut self,
        job: Arc<Job>,
        draw: Arc<Draw>,
        next: Arc<AtomicU64>,
        begun: Instant,
    ) -> anyhow::Result<(Vec<Sample>, f64)> {
        let mut samples = Vec::new();
        loop {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if job.end.is_here(turn) {
                return Ok((samples, self.retries));
            }
            let due = due(begun, turn, job.per_second);
            tokio::time::sleep_until(due.into()).await;
            let (number, is_new) = job.questions.number(&draw, turn);
            let source = self.ask(turn, number).await?;
            let took_ns = u64::try_from(due.elapsed().as_nanos())?;
            samples.push(Sample { at_ns: now_ns(), took_ns, source, is_new });
        }
    }

    /// Who answered. It is an error if it was a wrong answer.
    async fn ask(&mut self, turn: u64, number: u64) -> anyhow::Result<Option<Source>> {
        let servers = self.servers.len();
        let first = usize::try_from(turn)? % servers;
        for attempt in 0..servers {
            match self.ask_one((first + attempt) % servers, number).await? {
                Ok(source) => return Ok(Some(source)),
                Err(Failure::Failed) => return Ok(None),
                Err(Failure::Unanswered) => self.retries += 1.0,
            }
        }
        eprintln!("no server answered");
        Ok(None)
    }

    async fn ask_one(
        &mut self,
        server: usize,
        number: u64,
    ) -> anyhow::Result<Result<Source, Failure>> {
        let (address, questions) = &mut self.servers[server];
        let opened = match self.connections[server].take() {
            Some(connection) => Ok(connection),
            None => Connection::open(*address).await,
        };
        let Ok(mut connection) = opened else { return Ok(Err(Failure::Unanswered)) };
        let source = match connection.ask(questions.numbered(number)).await {
            Ok(answer) if answer.status != "200" => {
                eprintln!("{}: {}", answer.status, String::from_utf8_lossy(answer.body));
                Err(Failure::Failed)
            }
            Ok(answer) => Ok(questions.check(&answer, number)?),
            Err(error) if error.is::<Unanswered>() => return Ok(Err(Failure::Unanswered)),
            Err(error) => {
                eprintln!("an error at a caller: {error:#}");
                return Ok(Err(Failure::Failed));
            }
        };
        self.connections[server] = Some(connection);
        Ok(source)
    }
}

/// When the question of this turn is due: now, if there is no timetable.
fn due(begun: Instant, turn: u64, per_second: Option<u32>) -> Instant {
    per_second.map_or_else(Instant::now, |per_second| {
        let nanos = turn.saturating_mul(1_000_000_000) / u64::from(per_second);
        begun + Duration::from_nanos(nanos)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_so_many_questions_are_new_and_the_others_drawn_alike_each_time() {
        let drawn = Drawn { first: 1000, keys: 50, in_turn: false, new: Some((20, 9000)) };
        let draw = Draw::new(50);
        let numbers: Vec<(u64, bool)> = (0..2000).map(|turn| drawn.number(&draw, turn)).collect();
        assert_eq!(numbers[20], (9001, true));
        assert_eq!(numbers.iter().filter(|(_, is_new)| *is_new).count(), 100);
        let of = |number| numbers.iter().filter(|(of, _)| *of == number).count();
        assert!(of(1000) > of(1001) && of(1001) > of(1010), "{} {}", of(1000), of(1001));
        assert_eq!(drawn.number(&draw, 77), numbers[77]);
        let each = Drawn { in_turn: true, new: None, ..drawn };
        assert_eq!(each.number(&draw, 51), (1001, false));
    }

    #[test]
    fn shares_are_of_all_answers() {
        let sample = |source| Sample { at_ns: 0, took_ns: 0, source, is_new: false };
        let sources = [Some(Source::Local), Some(Source::Redis), Some(Source::Upstream), None];
        let samples = sources.map(sample);
        let shares = Shares::of(samples.iter());
        assert_eq!(shares, Shares { local: 0.25, redis: 0.25, upstream: 0.25, failed: 0.25 });
        assert!((shares.hits() - 0.5).abs() < 1e-9);
        assert_eq!(Shares::of([].iter()), Shares::default());
    }
}
