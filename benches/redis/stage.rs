//! The stage: an upstream, and servers in front of it that share a Redis.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

use crate::awake::Awake;
use crate::cache::CacheServer;
use crate::redis_server::Redis;
use crate::shared::cores::Cores;
use crate::shared::process::{self, Server};
use crate::upstream::CALLS_PATH;

/// Numbers that one measurement may use up.
const RANGE: u64 = 1_000_000;

/// Everyone who takes part but for the servers and their Redis, which are new for a measurement.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Where everyone runs.
    pub(crate) cores: Cores,
    binary: PathBuf,
    _awake: Awake,
    upstream: Server,
    ranges_used: u64,
    servers_started: u32,
    folder: TempDir,
}

impl Stage {
    /// Starts the upstream.
    pub(crate) async fn set(server: Option<&Path>, cores: Cores) -> anyhow::Result<Stage> {
        let binary = process::binary(server, "bench-redis")?;
        let awake = Awake::keep(cores)?;
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let command = process::ourselves("upstream")?;
        let upstream = Server::start("the upstream", command, cores.servers).await?;
        let (ranges_used, servers_started) = (0, 0);
        Ok(Stage { cores, binary, _awake: awake, upstream, ranges_used, servers_started, folder })
    }

    /// Starts a Redis.
    pub(crate) async fn redis(&self) -> anyhow::Result<Redis> {
        Redis::start(self.cores.servers).await
    }

    /// Starts a server with empty local tiers in front of the upstream and a Redis.
    pub(crate) async fn server(
        &mut self,
        name: &'static str,
        redis: &Redis,
    ) -> anyhow::Result<CacheServer> {
        self.servers_started += 1;
        let data_dir = self.folder.path().join(self.servers_started.to_string());
        let mut command = process::cache_server(&self.binary, &data_dir, self.upstream.address);
        command.arg("--redis").arg(format!("redis://{}", redis.address()));
        CacheServer::start(name, command, self.cores.servers).await
    }

    /// The first of some numbers that nobody has asked for yet.
    pub(crate) fn new_numbers(&mut self) -> u64 {
        self.ranges_used += 1;
        self.ranges_used * RANGE
    }

    /// How often the upstream was asked so far.
    pub(crate) async fn upstream_calls(&self) -> anyhow::Result<f64> {
        self.upstream.look_at(CALLS_PATH).await?.parse().context("no count of calls")
    }
}
