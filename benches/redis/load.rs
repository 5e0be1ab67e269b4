//! The load: what it is given to do. What it does is in a file for each.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::shared::{listen, process, single_thread};
use crate::{outage, tier, zipf};

/// What a load has to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Job {
    Write(tier::Writing),
    Read(tier::Reading),
    Fill(outage::Fill),
    Outage(outage::Job),
    Zipf(zipf::Job),
}

impl Job {
    /// How long it takes at most, about.
    pub(crate) fn duration(&self) -> Duration {
        match self {
            Job::Write(writing) => writing.duration(),
            Job::Read(reading) => reading.duration(),
            // There are a few thousand questions at most, which the upstream answers at once.
            Job::Fill(_) => Duration::ZERO,
            Job::Outage(job) => job.duration(),
            Job::Zipf(_) => zipf::PATIENCE,
        }
    }
}

/// Takes a job from standard input, and gives its outcome on standard output.
pub(crate) fn run() -> anyhow::Result<()> {
    let outcome = match process::take_job()? {
        // The tier runs on the kind of runtime that it has in the server.
        Job::Write(writing) => {
            serde_json::to_string(&listen::runtime()?.block_on(tier::write(writing))?)
        }
        Job::Read(reading) => {
            serde_json::to_string(&listen::runtime()?.block_on(tier::read(reading))?)
        }
        Job::Fill(job) => serde_json::to_string(&single_thread()?.block_on(outage::fill(job))?),
        Job::Outage(job) => serde_json::to_string(&single_thread()?.block_on(outage::work(job))?),
        Job::Zipf(job) => serde_json::to_string(&single_thread()?.block_on(zipf::work(job))?),
    };
    println!("{}", outcome?);
    Ok(())
}
