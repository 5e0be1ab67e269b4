//! Rounds: contenders alternate, so that whatever disturbs the machine disturbs them alike.

use anyhow::Context;

use crate::contenders::{Contender, Door};
use crate::load::Outcome;
use crate::load::job::{Job, Until};
use crate::shared::rounds::{Rounds, order};
use crate::stage::Stage;

/// What one round gave for one contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// What the load saw.
    pub(crate) outcome: Outcome,
    /// Processor time that the server took for one answer, in microseconds.
    pub(crate) server_us: Option<f64>,
    /// How often the upstream was asked.
    pub(crate) upstream_calls: f64,
}

/// How much is asked of each contender in a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// How many callers at once.
    pub(crate) callers: u64,
    /// When it is enough.
    pub(crate) until: Until,
    /// Whether the load may spin where it has a core of its own.
    pub(crate) may_spin: bool,
}

impl Load {
    /// So many callers for so long, and for longer where they are so many that a short time is over
    /// before each has been answered twice.
    pub(crate) fn lasting(callers: u64, millis: u64) -> Load {
        let millis = millis.max(2 * callers);
        Load { callers, until: Until::Elapsed { millis }, may_spin: true }
    }
}

/// Runs the rounds of those who are there.
pub(crate) async fn run(
    stage: &Stage,
    contenders: &[Contender<'_>],
    rounds: u16,
    load: Load,
) -> anyhow::Result<Rounds<Measured>> {
    let mut measured = Rounds::of(contenders.len());
    for round in 0..rounds {
        for index in order(round, contenders.len()) {
            let contender = &contenders[index];
            let Some(door) = contender.door else { continue };
            let (numbers, mixed) = contender.prompts.chosen(stage);
            let job = Job {
                address: door.address,
                protocol: contender.protocol,
                question: contender.question,
                answer_bytes: contender.answer_bytes,
                numbers,
                callers: load.callers,
                until: load.until,
                expected: contender.expected,
                mixed,
                spin: load.may_spin && stage.cores.load.is_some(),
            };
            let one = measure(stage, door, &job).await;
            measured.add(index, one.with_context(|| contender.name)?);
        }
    }
    Ok(measured)
}

async fn measure(stage: &Stage, door: Door<'_>, job: &Job) -> anyhow::Result<Measured> {
    let server = door.server;
    let (calls, busy) = (stage.upstream_calls().await?, server.processor_seconds()?);
    let outcome = stage.load(job).await.with_context(|| server.state())?;
    let (calls_then, busy_then) = (stage.upstream_calls().await?, server.processor_seconds()?);
    let took = busy_then.zip(busy).map(|(then, before)| then - before);
    Ok(Measured {
        outcome,
        server_us: took.map(|seconds| seconds * 1e6 / outcome.answers),
        upstream_calls: calls_then - calls,
    })
}
