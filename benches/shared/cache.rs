//! A server under test that shares a Redis: what its listener for operators says of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Pid;
use tokio::process::Command;

use crate::shared::process::{self, Server};

/// How long what waits may take to be written.
const PATIENCE: Duration = Duration::from_secs(30);
/// What is before the address of the listener for operators where a server says it.
const ADMIN: &str = "Health, metrics and stats on http://";
/// Entries written to Redis, as the server counts them.
const WRITTEN: &str = "cache_server_redis_writes_total{outcome=\"written\"}";
/// Entries that it did not write, by reason.
const DROPPED: &str = "cache_server_redis_write_drops_total";

/// A server under test.
#[derive(Debug)]
pub(crate) struct CacheServer {
    server: Server,
    /// Its listener for operators.
    pub(crate) admin: SocketAddr,
}

impl CacheServer {
    /// Starts one on a core.
    pub(crate) async fn start(
        name: &'static str,
        command: Command,
        core: Option<usize>,
    ) -> anyhow::Result<CacheServer> {
        let server = Server::start(name, command, core).await?;
        let admin = admin(&server.said()).with_context(|| server.state())?;
        Ok(CacheServer { server, admin })
    }

    /// Its listener for callers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What one of its metrics says, by its name and labels.
    pub(crate) async fn metric(&self, series: &str) -> anyhow::Result<f64> {
        let metrics = process::look_at(self.admin, "/metrics").await?;
        value(&metrics, series).with_context(|| format!("there is no {series}"))
    }

    /// The sum of one of its metrics over all labels.
    pub(crate) async fn total(&self, name: &str) -> anyhow::Result<f64> {
        Ok(total(&process::look_at(self.admin, "/metrics").await?, name))
    }

    /// How many entries it has written to Redis.
    pub(crate) async fn written(&self) -> anyhow::Result<f64> {
        self.metric(WRITTEN).await
    }

    /// What it says of entries that it did not write to Redis.
    pub(crate) async fn drops(&self) -> anyhow::Result<Vec<String>> {
        let metrics = process::look_at(self.admin, "/metrics").await?;
        let some =
            metrics.lines().filter(|line| line.starts_with(DROPPED) && !line.ends_with(" 0"));
        Ok(some.map(str::to_owned).collect())
    }

    /// Its process.
    pub(crate) fn process(&self) -> anyhow::Result<Pid> {
        Pid::from_raw(i32::try_from(self.server.id()?)?).context("process 0 is nobody's")
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

/// Waits until these servers have written so many entries to Redis, all in all, or dropped them; gives
/// how many were dropped.
pub(crate) async fn have_written(servers: &[CacheServer], entries: f64) -> anyhow::Result<f64> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (mut written, mut dropped) = (0.0, 0.0);
        for server in servers {
            written += server.written().await?;
            dropped += server.total(DROPPED).await?;
        }
        if written + dropped >= entries {
            return Ok(dropped);
        }
        let state = || servers.iter().map(CacheServer::state).collect::<String>();
        ensure!(
            Instant::now() < deadline,
            "{written} of {entries} are written, {dropped} dropped; {}",
            state()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
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

fn total(metrics: &str, name: &str) -> f64 {
    let of = |line: &str| -> Option<f64> {
        let (_, value) = line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' ')?;
        value.parse().ok()
    };
    metrics.lines().filter_map(of).sum()
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
        let metrics = "a{b=\"c\"} 7\na{b=\"d\"} 2\na_b{c=\"d\"} 9\n";
        assert!((total(metrics, "a") - 9.0).abs() < 1e-9);
    }
}
