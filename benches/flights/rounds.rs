//! Contenders, and how their rounds alternate.

use std::ops::AsyncFn;

use anyhow::Context;

use crate::ask::Asked;
use crate::calls::Call;
use crate::load::{Source, Target};
use crate::shared::process::Server;
use crate::shared::rounds::{Rounds, order};
use crate::stage::Stage;

/// Someone who is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Contender {
    /// As the table calls it.
    pub(crate) name: &'static str,
    /// Who answers; a peer may not be installed.
    pub(crate) server: fn(&Stage) -> Option<&Server>,
    /// What is asked.
    pub(crate) asked: Asked,
    /// Who the answers must be from.
    pub(crate) source: Source,
}

impl Contender {
    /// Its name in the table of this stage.
    pub(crate) fn shown(&self, stage: &Stage) -> String {
        match (self.server)(stage) {
            Some(_) => self.name.into(),
            None => format!("{}: not installed", self.name),
        }
    }
}

/// What one round gave for one contender.
#[derive(Debug)]
pub(crate) struct Measured<O> {
    /// What the load saw.
    pub(crate) outcome: O,
    /// What the upstream was asked.
    pub(crate) calls: Vec<Call>,
    /// Processor time of the server in milliseconds. A peer's is in processes of its own.
    pub(crate) server_ms: Option<f64>,
}

/// Runs the rounds of those who are there.
pub(crate) async fn run<O>(
    stage: &mut Stage,
    contenders: &[Contender],
    rounds: u16,
    load: impl AsyncFn(Target, &Stage) -> anyhow::Result<O>,
) -> anyhow::Result<Rounds<Measured<O>>> {
    let mut measured = Rounds::of(contenders.len());
    for round in 0..rounds {
        for index in order(round, contenders.len()) {
            let contender = contenders[index];
            let number = stage.new_numbers();
            let Some(server) = (contender.server)(stage) else { continue };
            let target = Target {
                address: server.address,
                asked: contender.asked,
                number,
                source: contender.source,
            };
            stage.take_calls().await?;
            let busy = server.processor_seconds()?;
            let outcome = load(target, stage).await;
            let outcome =
                outcome.with_context(|| format!("{}, {}", contender.name, server.state()))?;
            let busy = server.processor_seconds()?.zip(busy).map(|(then, before)| then - before);
            let server_ms = busy.filter(|_| contender.source != Source::Peer).map(|s| s * 1e3);
            measured.add(index, Measured { outcome, calls: stage.take_calls().await?, server_ms });
        }
    }
    Ok(measured)
}
