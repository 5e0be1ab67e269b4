//! The load: asks numbered questions over some connections, and checks every answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::exchange::{self, Lengths, Source};
use crate::shared::wire::Connection;
use crate::shared::{process, single_thread};

/// Connections that ask at the same time.
const CONNECTIONS: usize = 64;
/// The slowest that is believed, in questions a second.
const PER_SECOND_MIN: u64 = 200;

/// What to ask.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) server: SocketAddr,
    pub(crate) lengths: Lengths,
    /// The first number, how many are asked, and how far each is from the one before.
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) step: u64,
    /// After how many questions one is asked that was asked before; never, if 0.
    pub(crate) again_every: u64,
}

/// Where the answers came from, and how long all took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) from_memory: f64,
    pub(crate) from_disk: f64,
    pub(crate) from_upstream: f64,
    pub(crate) seconds: f64,
}

impl Outcome {
    /// All answers.
    pub(crate) fn answers(&self) -> f64 {
        self.from_memory + self.from_disk + self.from_upstream
    }

    fn add(&mut self, source: Source) {
        *match source {
            Source::Memory => &mut self.from_memory,
            Source::Disk => &mut self.from_disk,
            Source::Upstream => &mut self.from_upstream,
        } += 1.0;
    }

    fn and(self, other: Outcome) -> Outcome {
        Outcome {
            from_memory: self.from_memory + other.from_memory,
            from_disk: self.from_disk + other.from_disk,
            from_upstream: self.from_upstream + other.from_upstream,
            seconds: self.seconds.max(other.seconds),
        }
    }
}

impl Job {
    /// Runs it in a process of its own.
    pub(crate) async fn run(&self) -> anyhow::Result<Outcome> {
        let duration = Duration::from_secs(self.count / PER_SECOND_MIN);
        process::run_load(self, duration, None).await
    }

    /// The number of the question at this place.
    fn number(&self, place: u64) -> u64 {
        let is_again = self.again_every > 0 && place % self.again_every == self.again_every - 1;
        // Far enough back to have been answered, and near enough to be in memory.
        let place = if is_again { place - place.min(20 * self.again_every + 1) } else { place };
        self.first + place * self.step
    }
}

/// Takes a job from standard input, and gives its outcome on standard output.
pub(crate) fn run() -> anyhow::Result<()> {
    let outcome = single_thread()?.block_on(work(process::take_job()?))?;
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(())
}

async fn work(job: Job) -> anyhow::Result<Outcome> {
    let next = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let connection = Connection::open(job.server).await?;
        callers.spawn(call(job, connection, Arc::clone(&next)));
    }
    let mut all = Outcome::default();
    while let Some(called) = callers.join_next().await {
        all = all.and(called??);
    }
    Ok(all)
}

async fn call(
    job: Job,
    mut connection: Connection,
    next: Arc<AtomicU64>,
) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    loop {
        let place = next.fetch_add(1, Ordering::Relaxed);
        if place >= job.count {
            outcome.seconds = begun.elapsed().as_secs_f64();
            return Ok(outcome);
        }
        let number = job.number(place);
        let bytes = job.lengths.of(number);
        let request = exchange::request(job.server, number, bytes);
        let answer = connection.ask(&request).await?;
        let source = exchange::check(&answer, number, bytes);
        outcome.add(source.with_context(|| format!("of question {number}"))?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_again_was_asked_before() {
        let server = "127.0.0.1:1".parse().unwrap();
        let lengths = Lengths::SMALL;
        let job = Job { server, lengths, first: 100, count: 1000, step: 2, again_every: 8 };
        let places = |is_again| (0..1000).filter(move |place| (place % 8 == 7) == is_again);
        let new: Vec<u64> = places(false).map(|place| job.number(place)).collect();
        assert!(new.is_sorted_by(|one, next| one < next));
        assert!(places(true).all(|place| new.contains(&job.number(place))));
    }
}
