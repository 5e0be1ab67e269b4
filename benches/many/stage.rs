//! The stage: an upstream, and servers in front of it that share a Redis.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::cache::{CacheServer, have_written};
use crate::redis_server::Redis;
use crate::shared::cores::Cores;
use crate::shared::process::{self, Server};
use crate::shared::spread::count;
use crate::upstream::CALLS_PATH;

/// Numbers that one measurement may use up.
const RANGE: u64 = 1_000_000;
/// Below the ports that the system gives to whoever asks for any: nobody gets one of these by chance
/// while the server that has it is away.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Everyone who takes part but for the servers and their Redis, which are new for a measurement.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Where everyone runs.
    pub(crate) cores: Cores,
    binary: PathBuf,
    /// The model.
    pub(crate) upstream: Server,
    ranges_used: u64,
    folders_used: u32,
    next_port: u16,
    folder: TempDir,
}

/// A server that can be started again as it was: its addresses, its data folder, its settings.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    listen: String,
    admin: String,
    data_dir: PathBuf,
    settings: Vec<String>,
}

impl Stage {
    /// Starts the upstream.
    pub(crate) async fn set(server: Option<&Path>, cores: Cores) -> anyhow::Result<Stage> {
        let binary = process::binary(server, "bench-many")?;
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let command = process::ourselves("upstream")?;
        let upstream = Server::start("the upstream", command, cores.servers).await?;
        // Another run at the same time begins elsewhere.
        let ports = u32::from(PORTS.end - PORTS.start);
        let next_port = PORTS.start + u16::try_from(std::process::id() % ports)?;
        let (ranges_used, folders_used) = (0, 0);
        Ok(Stage { cores, binary, upstream, ranges_used, folders_used, next_port, folder })
    }

    /// Starts a Redis.
    pub(crate) async fn redis(&self) -> anyhow::Result<Redis> {
        Redis::start(self.cores.servers).await
    }

    /// So many servers that are one cache, with these settings (`SECTION.FIELD=VALUE`) besides.
    pub(crate) fn members(
        &mut self,
        count: usize,
        redis: &Redis,
        settings: &[&str],
    ) -> anyhow::Result<Vec<Member>> {
        let member = |number| {
            let own = [format!("redis.url=redis://{}", redis.address())]
                .into_iter()
                .chain([format!("redis.node=server-{number}")]);
            anyhow::Ok(Member {
                listen: self.free_address()?,
                admin: self.free_address()?,
                data_dir: self.new_folder(),
                settings: own.chain(settings.iter().map(|of| (*of).to_owned())).collect(),
            })
        };
        (0..count).map(member).collect()
    }

    /// Starts one of them.
    pub(crate) async fn start(&self, member: &Member) -> anyhow::Result<CacheServer> {
        let addresses = [member.listen.as_str(), member.admin.as_str()];
        let (data_dir, upstream) = (&member.data_dir, self.upstream.address);
        let mut command = process::cache_server_on(addresses, &self.binary, data_dir, upstream);
        for setting in &member.settings {
            command.args(["--set", setting]);
        }
        CacheServer::start("cache-server", command, self.cores.servers).await
    }

    /// Starts all of them, one after the other.
    pub(crate) async fn start_all(&self, members: &[Member]) -> anyhow::Result<Vec<CacheServer>> {
        let mut servers = Vec::with_capacity(members.len());
        for member in members {
            servers.push(self.start(member).await?);
        }
        Ok(servers)
    }

    /// The first of some numbers that nobody has asked for yet.
    pub(crate) fn new_numbers(&mut self) -> u64 {
        self.ranges_used += 1;
        self.ranges_used * RANGE
    }

    /// The path of a folder that is not there yet.
    pub(crate) fn new_folder(&mut self) -> PathBuf {
        self.folders_used += 1;
        self.folder.path().join(self.folders_used.to_string())
    }

    /// How often the upstream was asked so far.
    pub(crate) async fn upstream_calls(&self) -> anyhow::Result<f64> {
        self.upstream.look_at(CALLS_PATH).await?.parse().context("no count of calls")
    }

    /// A free port of loopback that stays so when its server is away.
    fn free_address(&mut self) -> anyhow::Result<String> {
        for _ in PORTS {
            let port = self.next_port;
            self.next_port = if port + 1 < PORTS.end { port + 1 } else { PORTS.start };
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(format!("127.0.0.1:{port}"));
            }
        }
        bail!("no port is free")
    }
}

/// Where these servers listen for callers.
pub(crate) fn addresses(servers: &[CacheServer]) -> Vec<SocketAddr> {
    servers.iter().map(CacheServer::address).collect()
}

/// Stops them all.
pub(crate) async fn stop_all(servers: Vec<CacheServer>) -> anyhow::Result<()> {
    for server in servers {
        server.stop().await?;
    }
    Ok(())
}

/// Ends it as a crash does.
pub(crate) fn kill(server: &CacheServer) -> anyhow::Result<()> {
    kill_process(server.process()?, Signal::KILL).with_context(|| server.state())
}

/// Waits until these have put so many entries into Redis. One that is not there is no wrong answer,
/// and is said.
pub(crate) async fn all_written(servers: &[CacheServer], entries: usize) -> anyhow::Result<()> {
    let dropped = have_written(servers, count(entries)).await?;
    if dropped > 0.0 {
        eprintln!("servers have not written {dropped} of {entries} entries to Redis:");
        for server in servers {
            eprintln!("{}", server.drops().await?.join(", "));
        }
    }
    Ok(())
}
