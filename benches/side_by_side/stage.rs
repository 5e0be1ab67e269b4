//! The stage: all servers started, filled and checked.

use std::path::Path;

use anyhow::Context;
use tempfile::TempDir;

use crate::load::Outcome;
use crate::load::job::{Expected, Job, Numbers, Protocol, Until};
use crate::shared::cores::{self, Cores};
use crate::shared::exchange::{ANSWER_BYTES, Question};
use crate::shared::process::{self, Server};
use crate::upstream::CALLS_PATH;

/// A whole answer that is reused.
pub(crate) const REUSED: Question = Question { reusable: true, stream: false, delay_ms: 0 };
/// A streamed answer that is reused.
pub(crate) const REUSED_STREAM: Question = Question { stream: true, ..REUSED };
/// The prompts that are in the cache.
pub(crate) const STORED: Numbers = Numbers { first: 0, count: 1000 };
/// The prompts whose streams are in the cache; they are slow to fill.
pub(crate) const STORED_STREAMS: Numbers = Numbers { first: 0, count: 20 };
/// Numbers that one job may use up.
const RANGE: u64 = 1_000_000_000;

/// Everyone who takes part.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Bare hyper.
    pub(crate) floor: Server,
    /// The model.
    pub(crate) upstream: Server,
    /// The cache with default settings; it holds the stored prompts in memory.
    pub(crate) cache: Server,
    /// A cache that keeps no entry in memory, with the same prompts.
    pub(crate) disk: Server,
    /// Where everyone runs.
    pub(crate) cores: Cores,
    ranges_used: u64,
    _folder: TempDir,
}

impl Stage {
    /// Starts everyone and fills the caches.
    pub(crate) async fn set(server: Option<&Path>) -> anyhow::Result<Stage> {
        let binary = process::binary(server, "bench")?;
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let cores = cores::choose()?;
        let core = cores.servers;
        let floor = Server::start("the floor", process::ourselves("floor")?, core).await?;
        let upstream = Server::start("the upstream", process::ourselves("upstream")?, core).await?;
        let command =
            process::cache_server(&binary, &folder.path().join("memory"), upstream.address);
        let cache = Server::start("cache-server", command, core).await?;
        // No entry of our size is let into a memory as small as this.
        let config = folder.path().join("disk.toml");
        std::fs::write(&config, "version = 1\n[cache]\nmemory_bytes_max = \"64KiB\"\n")?;
        let on_disk = || {
            let data_dir = folder.path().join("disk");
            let mut command = process::cache_server(&binary, &data_dir, upstream.address);
            command.arg("--config").arg(&config);
            Server::start("cache-server on disk", command, core)
        };
        let disk = on_disk().await?;
        fill(&cache, REUSED, STORED, cores).await?;
        fill(&cache, REUSED_STREAM, STORED_STREAMS, cores).await?;
        fill(&disk, REUSED, STORED, cores).await?;
        // After a restart nothing answers from a write queue: it is the disk or nothing.
        disk.stop().await?;
        let disk = on_disk().await?;
        let stage = Stage { floor, upstream, cache, disk, cores, ranges_used: 0, _folder: folder };
        stage.check().await?;
        Ok(stage)
    }

    /// Asks for everything stored once. It also warms the page cache.
    async fn check(&self) -> anyhow::Result<()> {
        let memory = each_once(&self.cache, REUSED, STORED, Expected::Memory);
        let streams = each_once(&self.cache, REUSED_STREAM, STORED_STREAMS, Expected::Memory);
        let disk = each_once(&self.disk, REUSED, STORED, Expected::Disk);
        for (what, job) in [("memory", memory), ("streams in memory", streams), ("disk", disk)] {
            self.load(&job).await.with_context(|| format!("the check of {what}"))?;
        }
        Ok(())
    }

    /// Runs a job on the load's core.
    pub(crate) async fn load(&self, job: &Job) -> anyhow::Result<Outcome> {
        process::run_load(job, job.duration(), self.cores.load).await
    }

    /// Prompts that nobody has asked yet.
    pub(crate) fn new_numbers(&mut self) -> Numbers {
        self.ranges_used += 1;
        Numbers { first: self.ranges_used * RANGE, count: RANGE }
    }

    /// How often the upstream was asked so far.
    pub(crate) async fn upstream_calls(&self) -> anyhow::Result<f64> {
        self.upstream.look_at(CALLS_PATH).await?.parse().context("no count of calls")
    }
}

async fn fill(
    server: &Server,
    question: Question,
    numbers: Numbers,
    cores: Cores,
) -> anyhow::Result<()> {
    let job = each_once(server, question, numbers, Expected::Miss);
    let filled = process::run_load(&job, job.duration(), cores.load).await;
    filled.map(|_: Outcome| ()).context("the cache cannot be filled")
}

fn each_once(server: &Server, question: Question, numbers: Numbers, expected: Expected) -> Job {
    let until = Until::Asked { times: numbers.count };
    Job {
        address: server.address,
        protocol: Protocol::Http1,
        question,
        answer_bytes: ANSWER_BYTES,
        numbers,
        callers: 1,
        until,
        expected,
        mixed: None,
        spin: false,
    }
}
