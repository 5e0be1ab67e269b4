//! The load: what it is given to do. What it does is in a file for each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::shared::process;
use crate::{purge, storm, traffic};

/// What a load has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Storm(storm::Job),
    Purge(purge::Job),
    Traffic(traffic::Job),
}

impl Job {
    /// Gives it to a load on this core, and takes its outcome.
    pub(crate) async fn run<O: serde::de::DeserializeOwned>(
        &self,
        core: Option<usize>,
    ) -> anyhow::Result<O> {
        process::run_load(self, self.duration(), core).await
    }

    /// How long it takes at most, about.
    fn duration(&self) -> Duration {
        match self {
            Job::Storm(job) => job.duration(),
            Job::Purge(job) => job.duration(),
            Job::Traffic(_) => traffic::PATIENCE,
        }
    }
}

/// Takes a job from standard input, and gives its outcome on standard output.
pub(crate) async fn run() -> anyhow::Result<()> {
    let outcome = match process::take_job()? {
        Job::Storm(job) => serde_json::to_string(&storm::work(job).await?),
        Job::Purge(job) => serde_json::to_string(&purge::work(job).await?),
        Job::Traffic(job) => serde_json::to_string(&traffic::work(job).await?),
    };
    println!("{}", outcome?);
    Ok(())
}
