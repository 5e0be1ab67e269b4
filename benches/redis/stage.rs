//! The stage: an upstream, and servers in front of it that share a Redis.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::awake::Awake;
use crate::redis_server::Redis;
use crate::shared::cores::Cores;
use crate::shared::process::{self, Server};
use crate::upstream::CALLS_PATH;

/// Numbers that one measurement may use up.
const RANGE: u64 = 1_000_000;
/// How long what waits may take to be written.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is before the address of the listener for operators where a server says it.
const ADMIN: &str = "Health, metrics and stats on http://";
/// Entries written to Redis, as the server counts them.
const WRITTEN: &str = "cache_server_redis_writes_total{outcome=\"written\"}";

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
        let server = Server::start(name, command, self.cores.servers).await?;
        let admin = admin(&server.said()).with_context(|| server.state())?;
        Ok(CacheServer { server, admin })
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

/// A server under test.
#[derive(Debug)]
pub(crate) struct CacheServer {
    server: Server,
    /// Its listener for operators.
    pub(crate) admin: SocketAddr,
}

impl CacheServer {
    /// Its listener for callers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What one of its metrics says, by its name and labels.
    pub(crate) async fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let metrics = process::look_at(self.admin, "/metrics").await?;
        value(&metrics, series).with_context(|| format!("there is no {series}"))
    }

    /// How many entries it has written to Redis.
    pub(crate) async fn written(&self) -> anyhow::Result<f64> {
        self.metric(WRITTEN).await
    }

    /// Waits until it has written so many.
    pub(crate) async fn has_written(&self, entries: f64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.written().await? < entries {
            ensure!(Instant::now() < deadline, "redis lacks entries; {}", self.state());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// For whom something went wrong: how it is, and what it has said.
    pub(crate) fn state(&self) -> String {
        self.server.state()
    }

    /// Stops it and waits for a clean end.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.server.stop().await
    }
}

fn admin(said: &str) -> Option<SocketAddr> {
    let (_, rest) = said.split_once(ADMIN)?;
    rest.split(['"', '\n']).next()?.trim_end().parse().ok()
}

fn value(metrics: &str, series: &str) -> Option<f64> {
    let of = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
    metrics.lines().find_map(of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_say_is_read() {
        let said = "a\nHealth, metrics and stats on http://127.0.0.1:81\nListening on http://x\n";
        assert_eq!(admin(said), Some("127.0.0.1:81".parse().unwrap()));
        let metrics = "# HELP a\na{b=\"c\"} 7\na_sum 3\na 2.5\n";
        assert_eq!(value(metrics, "a{b=\"c\"}"), Some(7.0));
        assert_eq!(value(metrics, "a"), Some(2.5));
        assert_eq!(value(metrics, "b"), None);
    }
}
