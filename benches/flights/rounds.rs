//! Contenders, and how their rounds alternate.

use std::ops::AsyncFn;

use anyhow::Context;

use crate::ask::Asked;
use crate::calls::Call;
use crate::held_up;
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
    /// What the server took and waited for. A peer's work is in processes of its own.
    pub(crate) server: Option<Effort>,
}

/// What a server took of the processor, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Processor time.
    pub(crate) busy_ms: f64,
    /// Time in which it could have run, but others had its core.
    pub(crate) held_up_ms: f64,
}

impl Effort {
    /// So far; nothing where the system does not say.
    fn of(server: &Server) -> anyhow::Result<Option<Effort>> {
        let times = server.processor_seconds()?.zip(held_up::seconds(server.id()?)?);
        Ok(times.map(|(busy, held_up)| Effort { busy_ms: busy * 1e3, held_up_ms: held_up * 1e3 }))
    }

    fn since(self, before: Effort) -> Effort {
        let busy_ms = self.busy_ms - before.busy_ms;
        Effort { busy_ms, held_up_ms: self.held_up_ms - before.held_up_ms }
    }
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
            let before = Effort::of(server)?;
            let outcome = load(target, stage).await;
            let outcome =
                outcome.with_context(|| format!("{}, {}", contender.name, server.state()))?;
            let effort = Effort::of(server)?.zip(before).map(|(then, before)| then.since(before));
            let effort = effort.filter(|_| contender.source != Source::Peer);
            let calls = stage.take_calls().await?;
            measured.add(index, Measured { outcome, calls, server: effort });
        }
    }
    Ok(measured)
}
