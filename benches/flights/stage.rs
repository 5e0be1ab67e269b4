//! The stage: the upstream, the cache in front of it with and without a short lifetime, and the
//! peers that are installed.

use std::path::Path;

use anyhow::Context;
use tempfile::TempDir;

use crate::ask::LIFETIME;
use crate::calls::{CALLS_PATH, Call};
use crate::peers;
use crate::shared::cores::{self, Cores};
use crate::shared::process::{self, Server};

/// Numbers that one measurement may use up.
const RANGE: u64 = 1_000_000;

/// Everyone who takes part.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The model.
    pub(crate) upstream: Server,
    /// The cache with default settings.
    pub(crate) cache: Server,
    /// A cache whose model answers are fresh for a [`LIFETIME`].
    pub(crate) brief: Server,
    /// nginx, if it is installed.
    pub(crate) nginx: Option<Server>,
    /// Varnish, if it is installed.
    pub(crate) varnish: Option<Server>,
    /// Where everyone runs.
    pub(crate) cores: Cores,
    ranges_used: u64,
    _folder: TempDir,
}

impl Stage {
    /// Starts everyone.
    pub(crate) async fn set(server: Option<&Path>) -> anyhow::Result<Stage> {
        let binary = process::binary(server, "bench-flights")?;
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let cores = cores::choose()?;
        let core = cores.servers;
        let upstream = Server::start("the upstream", process::ourselves("upstream")?, core).await?;
        let config = folder.path().join("brief.toml");
        std::fs::write(&config, brief_config())?;
        let command =
            |name| process::cache_server(&binary, &folder.path().join(name), upstream.address);
        let cache = Server::start("cache-server", command("cache"), core).await?;
        let mut command = command("brief");
        command.arg("--config").arg(&config);
        let brief = Server::start("cache-server with short lifetimes", command, core).await?;
        let nginx = peers::nginx(folder.path(), upstream.address, core).await?;
        let varnish = peers::varnish(folder.path(), upstream.address, core).await?;
        let (ranges_used, _folder) = (0, folder);
        Ok(Stage { upstream, cache, brief, nginx, varnish, cores, ranges_used, _folder })
    }

    /// The first of some numbers that nobody has asked for yet.
    pub(crate) fn new_numbers(&mut self) -> u64 {
        self.ranges_used += 1;
        self.ranges_used * RANGE
    }

    /// The upstream's calls since this was asked last.
    pub(crate) async fn take_calls(&self) -> anyhow::Result<Vec<Call>> {
        let calls = self.upstream.look_at(CALLS_PATH).await?;
        serde_json::from_str(&calls).context("no record of calls")
    }

    /// Stops everyone; those in front before the upstream.
    pub(crate) async fn clear(self) -> anyhow::Result<()> {
        let peers = self.nginx.into_iter().chain(self.varnish);
        for server in [self.cache, self.brief].into_iter().chain(peers) {
            server.stop().await?;
        }
        // The upstream ends with its standard input.
        drop(self.upstream);
        Ok(())
    }
}

fn brief_config() -> String {
    let (fresh_s, stale) = (LIFETIME.as_secs(), "1h");
    format!(
        "version = 1\n[[route]]\nfresh_for = \"{fresh_s}s\"\nstale_while_revalidate = \"{stale}\"\n"
    )
}
