//! The stage: an upstream, and a server in front of it that can be stopped and started again.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use tempfile::TempDir;

use crate::cache::CacheServer;
use crate::shared::process::{self, Server};
use crate::taken::{self, Memory};

/// How long a server may take to be ready, and how often it is asked whether it is.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);
/// Between two looks at memory that is to come to rest, and how many of them there are at most.
const REST: Duration = Duration::from_millis(500);
const RESTS_MAX: u32 = 20;
/// Memory that changes by less than this share from one look to the next is at rest.
const UNREST: f64 = 0.001;

/// Everyone who takes part but for the load.
#[derive(Debug)]
pub(crate) struct Stage {
    binary: PathBuf,
    upstream: Server,
    folders_used: u32,
    folder: TempDir,
}

/// A server with its data folder and its settings.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) data_dir: PathBuf,
    /// `SECTION.FIELD=VALUE`.
    settings: Vec<String>,
}

impl Stage {
    /// Starts the upstream.
    pub(crate) async fn set(server: Option<&Path>) -> anyhow::Result<Stage> {
        let binary = process::binary(server, "bench-entries")?;
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let upstream = Server::start("the upstream", process::ourselves("upstream")?, None).await?;
        Ok(Stage { binary, upstream, folders_used: 0, folder })
    }

    /// A server with a new data folder and these bounds. What it reads it forgets: bodies that are
    /// remembered would be counted as entries.
    pub(crate) fn setting(&mut self, memory: &str, disk: &str) -> Setting {
        self.folders_used += 1;
        let data_dir = self.folder.path().join(self.folders_used.to_string());
        let settings = vec![
            format!("cache.memory_bytes_max={memory}"),
            format!("cache.disk_bytes_max={disk}"),
            "cache.memo_bytes_max=0B".into(),
        ];
        Setting { data_dir, settings }
    }

    /// Starts it, and waits until it is ready. Says how long that took.
    pub(crate) async fn start(&self, setting: &Setting) -> anyhow::Result<(CacheServer, Duration)> {
        let begun = Instant::now();
        let data_dir = &setting.data_dir;
        let mut command = process::cache_server(&self.binary, data_dir, self.upstream.address);
        for of in &setting.settings {
            command.args(["--set", of]);
        }
        let server = CacheServer::start("cache-server", command, None).await?;
        let ready = async {
            while process::look_at(server.admin, "/readyz").await.is_err() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(PATIENCE, ready).await.with_context(|| server.state())?;
        Ok((server, begun.elapsed()))
    }
}

/// Memory of a server when it is at rest: what is freed is given back a little later.
pub(crate) async fn at_rest(server: &CacheServer) -> anyhow::Result<Memory> {
    let mut before = taken::memory(server.process()?)?;
    for _ in 0..RESTS_MAX {
        tokio::time::sleep(REST).await;
        let now = taken::memory(server.process()?)?;
        let changed = (now.rss_bytes - before.rss_bytes).abs();
        before = now;
        if changed < before.rss_bytes * UNREST {
            break;
        }
    }
    Ok(before)
}
