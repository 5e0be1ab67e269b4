//! The storm: many callers who ask the same at the same moment, on connections that are open and
//! stay so: one who hangs up would give the server work while it answers the others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use crate::load::Target;
use crate::shared::exchange;
use crate::shared::spread::Spread;
use crate::shared::wire::Connection;

/// A storm.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) target: Target,
    pub(crate) callers: usize,
}

/// What it was like for its callers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From each caller's own request to the whole of its answer.
    pub(crate) whole: Spread,
    /// From the first caller's request to the last one's: a moment takes that long.
    pub(crate) moment_us: f64,
}

pub(crate) async fn work(job: Job) -> anyhow::Result<Outcome> {
    let connections = job.target.connect(job.callers).await?;
    let start = Arc::new(Barrier::new(job.callers));
    let body = exchange::answer_body()?;
    let mut callers = JoinSet::new();
    for connection in connections {
        callers.spawn(ask(job.target, connection, Arc::clone(&start), body.clone()));
    }
    let mut asked = Vec::with_capacity(job.callers);
    let mut whole = Vec::with_capacity(job.callers);
    let mut open = Vec::with_capacity(job.callers);
    while let Some(ended) = callers.join_next().await {
        let (at, took, connection) = ended??;
        open.push(connection);
        asked.push(at);
        whole.push(took);
    }
    let (first, last) = (asked.iter().min(), asked.iter().max());
    let moment = first.zip(last).map_or(Duration::ZERO, |(first, last)| *last - *first);
    let whole = Spread::of(whole.into_iter()).context("a storm without callers")?;
    Ok(Outcome { whole, moment_us: moment.as_secs_f64() * 1e6 })
}

async fn ask(
    target: Target,
    mut connection: Connection,
    start: Arc<Barrier>,
    body: Bytes,
) -> anyhow::Result<(Instant, Duration, Connection)> {
    let mut request = target.request()?;
    let request = request.numbered(target.number);
    start.wait().await;
    let asked = Instant::now();
    let answer = connection.ask(request).await?;
    let took = asked.elapsed();
    target.check(&answer)?;
    ensure!(answer.body == body, "the answer's body is not the upstream's");
    Ok((asked, took, connection))
}
