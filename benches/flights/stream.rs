//! The stream: one caller begins it, the others join at random moments while it is being said.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::Context;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::clock::Clock;
use crate::load::Target;
use crate::said::{self, Heard, LASTS};
use crate::shared::spread::{Spread, count};
use crate::shared::wire::Connection;

/// One stream.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) target: Target,
    pub(crate) callers: usize,
}

/// What its callers heard.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// From asking to the first byte of the body.
    pub(crate) first_byte: Spread,
    /// From asking until all was there that had been said before; nothing if nobody joined midway.
    pub(crate) caught_up: Option<Spread>,
    /// How long after it was said each later event came; nothing if none did.
    pub(crate) late: Option<Spread>,
    /// Callers who joined when something had been said.
    pub(crate) joined_midway: f64,
    /// Different bodies that callers got.
    pub(crate) bodies: f64,
}

pub(crate) async fn work(job: Job) -> anyhow::Result<Outcome> {
    let clock = Clock::new();
    let connections = job.target.connect(job.callers).await?;
    let mut rng = Rng::with_seed(job.target.number);
    let mut callers = JoinSet::new();
    for (caller, connection) in connections.into_iter().enumerate() {
        let moment = if caller == 0 { Duration::ZERO } else { LASTS.mul_f64(rng.f64()) };
        callers.spawn(ask(job.target, connection, moment, clock));
    }
    let (mut heard, mut bodies, mut open) = (Vec::new(), HashSet::new(), Vec::new());
    while let Some(ended) = callers.join_next().await {
        let (what, body, connection) = ended??;
        open.push(connection);
        heard.push(what);
        bodies.insert(body);
    }
    let first_byte = Spread::of(heard.iter().map(|(first_byte, _)| *first_byte));
    let midway = || heard.iter().filter_map(|(_, heard)| heard.caught_up);
    Ok(Outcome {
        first_byte: first_byte.context("a stream without callers")?,
        caught_up: Spread::of(midway()),
        late: Spread::of(heard.iter().flat_map(|(_, heard)| heard.late.iter().copied())),
        joined_midway: count(midway().count()),
        bodies: count(bodies.len()),
    })
}

/// Asks at its moment; gives the time to the first byte and what was heard, the body, and the
/// connection, which stays open until all are done.
async fn ask(
    target: Target,
    mut connection: Connection,
    moment: Duration,
    clock: Clock,
) -> anyhow::Result<((Duration, Heard), Vec<u8>, Connection)> {
    let mut request = target.request()?;
    let request = request.numbered(target.number);
    tokio::time::sleep(moment).await;
    let asked = Instant::now();
    let answer = connection.ask(request).await?;
    target.check(&answer)?;
    let first_byte = answer.arrivals.first().context("an empty body")?.at - asked;
    let arrivals: Vec<(u64, usize)> =
        answer.arrivals.iter().map(|arrival| (clock.ns(arrival.at), arrival.bytes)).collect();
    let heard = said::heard(clock.ns(asked), answer.body, &arrivals)?;
    let body = answer.body.to_vec();
    Ok(((first_byte, heard), body, connection))
}
