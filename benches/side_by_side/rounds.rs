//! Rounds: contenders alternate, so that whatever disturbs the machine disturbs them alike.

use anyhow::Context;

use crate::load::Outcome;
use crate::load::job::{Expected, Job, Numbers, Protocol, Until};
use crate::shared::exchange::{ANSWER_BYTES, Question};
use crate::shared::process::Server;
use crate::shared::rounds::{Rounds, order};
use crate::stage::Stage;

/// Someone who is measured.
#[derive(Debug)]
pub(crate) struct Contender {
    /// As the table calls it.
    pub(crate) name: &'static str,
    /// Who answers.
    pub(crate) server: fn(&Stage) -> &Server,
    /// What is asked.
    pub(crate) question: Question,
    /// Which prompts.
    pub(crate) prompts: Prompts,
    /// Where the answers must come from.
    pub(crate) expected: Expected,
}

/// Which prompts a contender is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prompts {
    /// These, in every round.
    These(Numbers),
    /// New ones with every question.
    New,
    /// One new one in every round.
    OneNew,
}

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

/// Runs the rounds.
pub(crate) async fn run(
    stage: &mut Stage,
    contenders: &[Contender],
    rounds: u16,
    callers: u64,
    until: Until,
) -> anyhow::Result<Rounds<Measured>> {
    let mut measured = Rounds::of(contenders.len());
    for round in 0..rounds {
        for index in order(round, contenders.len()) {
            let contender = &contenders[index];
            let numbers = match contender.prompts {
                Prompts::These(numbers) => numbers,
                Prompts::New => stage.new_numbers(),
                Prompts::OneNew => Numbers { count: 1, ..stage.new_numbers() },
            };
            let job = Job {
                address: (contender.server)(stage).address,
                protocol: Protocol::Http1,
                question: contender.question,
                answer_bytes: ANSWER_BYTES,
                numbers,
                callers,
                until,
                expected: contender.expected,
                mixed: None,
                spin: stage.cores.load.is_some(),
            };
            measured.add(index, measure(stage, contender, &job).await?);
        }
    }
    Ok(measured)
}

async fn measure(stage: &Stage, contender: &Contender, job: &Job) -> anyhow::Result<Measured> {
    let server = (contender.server)(stage);
    let (calls, busy) = (stage.upstream_calls().await?, server.processor_seconds()?);
    let outcome =
        stage.load(job).await.with_context(|| format!("{}: {}", contender.name, server.state()))?;
    let (calls_then, busy_then) = (stage.upstream_calls().await?, server.processor_seconds()?);
    let took = busy_then.zip(busy).map(|(then, before)| then - before);
    Ok(Measured {
        outcome,
        server_us: took.map(|seconds| seconds * 1e6 / outcome.answers),
        upstream_calls: calls_then - calls,
    })
}
