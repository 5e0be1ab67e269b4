//! The load: what it is given to do, whom it asks, and how an answer is checked. What it does is
//! in a file for each scenario.
//!
//! It sleeps when there is nothing to do. To be woken costs a few µs, which is little beside the
//! times here; and one that spins is the first to be put aside where the machine is not quiet.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use serde::{Deserialize, Serialize};

use crate::ask::Asked;
use crate::shared::exchange::Request;
use crate::shared::process;
use crate::shared::wire::{Answer, Connection};
use crate::{expiry, storm, stream};

/// After connecting: time for a server to take its connections from the kernel's queue.
const SETTLE: Duration = Duration::from_millis(200);

/// What a load has to do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Storm(storm::Job),
    Stream(stream::Job),
    Expiry(expiry::Job),
}

impl Job {
    /// How long it takes, about.
    pub(crate) fn duration(&self) -> Duration {
        match self {
            Job::Storm(_) => Duration::from_millis(500),
            Job::Stream(_) => 2 * crate::said::LASTS,
            Job::Expiry(job) => Duration::from_millis(job.millis),
        }
    }
}

/// Who is asked, and what.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) asked: Asked,
    /// The number of the only question, or of the first.
    pub(crate) number: u64,
    /// What the answers must look like.
    pub(crate) source: Source,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// The upstream, asked directly.
    Upstream,
    /// The cache under test; it says so.
    Cache,
    /// Another cache.
    Peer,
}

impl Target {
    /// So many connections that the server has taken.
    pub(crate) async fn connect(&self, callers: usize) -> anyhow::Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(callers);
        for _ in 0..callers {
            connections.push(Connection::open(self.address).await?);
        }
        tokio::time::sleep(SETTLE).await;
        Ok(connections)
    }

    /// What is asked, without its number.
    pub(crate) fn request(&self) -> anyhow::Result<Request> {
        self.asked.request(self.address)
    }

    /// Whether this is an answer of whom it was asked from.
    pub(crate) fn check(&self, answer: &Answer<'_>) -> anyhow::Result<()> {
        let (status, said) = (answer.status, answer.cache_status);
        ensure!(status == "200", "{status}: {}", String::from_utf8_lossy(answer.body));
        let is_ours = said.is_some_and(|said| said.starts_with("cache-server; "));
        ensure!(is_ours == (self.source == Source::Cache), "an answer from elsewhere: {said:?}");
        Ok(())
    }
}

/// Takes a job from standard input, and gives its outcome on standard output.
pub(crate) async fn run() -> anyhow::Result<()> {
    let outcome = match process::take_job()? {
        Job::Storm(job) => serde_json::to_string(&storm::work(job).await?),
        Job::Stream(job) => serde_json::to_string(&stream::work(job).await?),
        Job::Expiry(job) => serde_json::to_string(&expiry::work(job).await?),
    };
    println!("{}", outcome?);
    Ok(())
}
