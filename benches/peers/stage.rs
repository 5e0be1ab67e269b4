//! The stage: the upstream, the cache and its peers, each empty. Every subject has a stage of its own,
//! so that none finds what another has left.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use crate::contenders::Contender;
use crate::load::Outcome;
use crate::load::job::{Expected, Job, Numbers, Protocol, Until};
use crate::products::{self, Nginx, Varnish};
use crate::shared::cores::{self, Cores};
use crate::shared::process::{self, Server};
use crate::upstream::CALLS_PATH;

/// Numbers that one job may use up.
const RANGE: u64 = 1_000_000_000;
/// Callers who fill a cache; they divide how many prompts there are.
const FILLERS: u64 = 8;

/// Everyone who takes part.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The model.
    pub(crate) upstream: Server,
    /// The cache with default settings.
    pub(crate) cache: Server,
    /// nginx, if it is installed.
    pub(crate) nginx: Option<Nginx>,
    /// Varnish, if it is there.
    pub(crate) varnish: Varnish,
    /// Where everyone runs.
    pub(crate) cores: Cores,
    binary: PathBuf,
    ranges_used: Cell<u64>,
    folder: TempDir,
    _memory: TempDir,
}

/// Where Linux has files in memory.
const MEMORY: &str = "/dev/shm";

impl Stage {
    /// Starts everyone.
    pub(crate) async fn set(binary: &Path) -> anyhow::Result<Stage> {
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let cores = cores::choose()?;
        let core = cores.servers;
        let upstream = Server::start("the upstream", process::ourselves("upstream")?, core).await?;
        let command = process::cache_server(binary, &folder.path().join("data"), upstream.address);
        let cache = Server::start("cache-server", command, core).await?;
        let memory = TempDir::new_in(MEMORY).or_else(|_| TempDir::new())?;
        let nginx = products::nginx(folder.path(), memory.path(), upstream.address, core).await?;
        let varnish = products::varnish(folder.path(), upstream.address, core).await?;
        Ok(Stage {
            upstream,
            cache,
            nginx,
            varnish,
            cores,
            binary: binary.to_owned(),
            ranges_used: Cell::new(0),
            folder,
            _memory: memory,
        })
    }

    /// Starts a floor that answers so many bytes, by this protocol.
    pub(crate) async fn floor(&self, bytes: usize, protocol: Protocol) -> anyhow::Result<Server> {
        let mut command = process::ourselves("floor")?;
        command.arg("--answer-bytes").arg(bytes.to_string());
        if protocol != Protocol::Http1 {
            command.arg("--http2");
        }
        Server::start("the floor", command, self.cores.servers).await
    }

    /// Starts the least proxy in front of the upstream.
    pub(crate) async fn forwarder(&self) -> anyhow::Result<Server> {
        let mut command = process::ourselves("forwarder")?;
        command.arg("--to").arg(self.upstream.address.to_string());
        Server::start("the least proxy", command, self.cores.servers).await
    }

    /// Starts a cache that keeps no entry in memory. After it was stopped, another one starts with
    /// what it has stored: nothing then answers from a write queue, it is the disk or nothing.
    pub(crate) async fn disk(&self) -> anyhow::Result<Server> {
        // No entry of our size is let into a memory as small as this.
        let config = self.folder.path().join("disk.toml");
        std::fs::write(&config, "version = 1\n[cache]\nmemory_bytes_max = \"64KiB\"\n")?;
        let data_dir = self.folder.path().join("disk");
        let mut command = process::cache_server(&self.binary, &data_dir, self.upstream.address);
        command.arg("--config").arg(&config);
        Server::start("cache-server on disk", command, self.cores.servers).await
    }

    /// Prompts that nobody has asked yet.
    pub(crate) fn new_numbers(&self) -> Numbers {
        self.ranges_used.set(self.ranges_used.get() + 1);
        Numbers { first: self.ranges_used.get() * RANGE, count: RANGE }
    }

    /// How often the upstream was asked so far.
    pub(crate) async fn upstream_calls(&self) -> anyhow::Result<f64> {
        self.upstream.look_at(CALLS_PATH).await?.parse().context("no count of calls")
    }

    /// Runs a job on the load's core.
    pub(crate) async fn load(&self, job: &Job) -> anyhow::Result<Outcome> {
        process::run_load(job, job.duration(), self.cores.load).await
    }

    /// Has a contender asked for each of these prompts once, by those who come first.
    pub(crate) async fn ask_each(
        &self,
        contender: &Contender<'_>,
        numbers: Numbers,
        expected: Expected,
    ) -> anyhow::Result<()> {
        let Some(door) = contender.door else { return Ok(()) };
        let job = Job {
            address: door.address,
            protocol: contender.protocol,
            question: contender.question,
            answer_bytes: contender.answer_bytes,
            numbers,
            callers: FILLERS,
            until: Until::Asked { times: numbers.count / FILLERS },
            expected,
            mixed: None,
            spin: false,
        };
        let asked = self.load(&job).await;
        asked.map(|_| ()).with_context(|| {
            format!("the prompts of {} as {expected:?}, {}", contender.name, door.server.state())
        })
    }

    /// Stops everyone; those in front before the upstream.
    pub(crate) async fn clear(self) -> anyhow::Result<()> {
        self.cache.stop().await?;
        if let Some(nginx) = self.nginx {
            nginx.server.stop().await?;
        }
        if let Varnish::Runs(varnish) = self.varnish {
            varnish.stop().await?;
        }
        // The upstream ends with its standard input.
        drop(self.upstream);
        Ok(())
    }
}
