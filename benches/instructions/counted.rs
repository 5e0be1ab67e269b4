//! A server whose instructions valgrind counts, from one moment to another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::setting;
use crate::shared::process::{self, Server};

/// What is before the count in what valgrind's callgrind writes.
const TOTALS: &str = "totals: ";

/// How long valgrind may take for an order.
const PATIENCE: Duration = Duration::from_secs(30);

/// Large copies are one instruction of the processor, which valgrind counts once for each byte: a
/// future that grows by a few bytes beyond where they begin would be worth ten thousand. Where that is
/// depends on the processor, too. A loop counts as one does.
const COPY_BY_LOOPS: &str = "glibc.cpu.x86_rep_movsb_threshold=0x40000000:\
    glibc.cpu.x86_rep_stosb_threshold=0x40000000";

/// How servers are run here, counted or not. A small disk is opened sooner, and a read of it in valgrind
/// on a busy machine may take its time. In valgrind requests come a hundred times slower, so that as
/// many lines on them as there may be in a second would be a hundred times as many for each, and the
/// slower the machine the more.
const SETTINGS: &str = "version = 1\n[log]\nrequests_per_second_max = 1\n[cache]\n\
    disk_bytes_max = \"64MiB\"\ndisk_deadline = \"10s\"\n";
/// No entry of our size is let into a memory as small as this.
const NEXT_TO_NO_MEMORY: &str = "memory_bytes_max = \"64KiB\"\n";

/// What a server is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    /// The server under test.
    pub(crate) binary: &'a Path,
    /// Its own, and where its profile goes.
    pub(crate) folder: &'a Path,
    /// Whom it asks.
    pub(crate) upstream: SocketAddr,
    /// Whether it keeps entries on the disk alone.
    pub(crate) is_on_disk: bool,
}

impl Settings<'_> {
    /// A server that nobody counts.
    pub(crate) async fn start(self) -> anyhow::Result<Server> {
        Server::start("cache-server", self.command()?, None).await
    }

    /// A server in valgrind.
    pub(crate) async fn start_counted(self) -> anyhow::Result<Counted> {
        let server = self.command()?;
        let server = server.as_std();
        let valgrind = setting::valgrind()?;
        let orders = self.folder.join("orders");
        let profile = self.folder.join("profile");
        let mut command = Command::new(&valgrind);
        command
            .args(["--quiet", "--tool=callgrind", "--fair-sched=yes"])
            .arg(prefix(&orders))
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(server.get_program())
            .args(server.get_args())
            // What is said there lies on the stack, and may change what is run.
            .env_clear()
            // Which of several workers takes a task, and how often they look for one, is chance.
            .env("TOKIO_WORKER_THREADS", "1")
            .env("GLIBC_TUNABLES", COPY_BY_LOOPS);
        let server = Server::start("cache-server in valgrind", command, None).await?;
        // The first profile that is asked for has a number; the last one, at the end, has none.
        let profile = profile.with_extension("1");
        Ok(Counted { server, vgdb: valgrind.with_file_name("vgdb"), orders, profile })
    }

    fn command(self) -> anyhow::Result<Command> {
        let config = self.folder.join("config.toml");
        let memory = if self.is_on_disk { NEXT_TO_NO_MEMORY } else { "" };
        std::fs::write(&config, format!("{SETTINGS}{memory}"))?;
        let data = self.folder.join("data");
        let mut command = process::cache_server(self.binary, &data, self.upstream);
        command.arg("--config").arg(&config);
        Ok(command)
    }
}

/// A server in valgrind.
#[derive(Debug)]
pub(crate) struct Counted {
    server: Server,
    /// What gives orders to valgrind, and by which files.
    vgdb: PathBuf,
    orders: PathBuf,
    profile: PathBuf,
}

impl Counted {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// For whom something went wrong: how it is, and what it has said.
    pub(crate) fn state(&self) -> String {
        self.server.state()
    }

    /// Counts from here on. What it took to start is forgotten: libraries spin then, for some time by
    /// the clock, to find out how fast the processor's own counter runs.
    pub(crate) async fn begin(&self) -> anyhow::Result<()> {
        self.order("zero").await
    }

    /// How many instructions it took since the beginning. Once only.
    pub(crate) async fn count(&self) -> anyhow::Result<u64> {
        self.order("dump").await?;
        let profile = std::fs::read_to_string(&self.profile).context("valgrind wrote nothing")?;
        total(&profile).context("valgrind did not count")
    }

    /// Copies what valgrind wrote when it was asked for the count.
    pub(crate) fn keep_profile(&self, copy: &Path) -> anyhow::Result<()> {
        std::fs::copy(&self.profile, copy).context("the profile cannot be kept")?;
        Ok(())
    }

    /// Stops it.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.server.stop().await
    }

    async fn order(&self, order: &str) -> anyhow::Result<()> {
        let mut command = Command::new(&self.vgdb);
        command
            .arg(prefix(&self.orders))
            .arg(format!("--pid={}", self.server.id()?))
            .arg(order)
            .env_clear()
            .kill_on_drop(true);
        let why = "vgdb reaches no server that waits, unless it may trace processes (ptrace)";
        let output = tokio::time::timeout(PATIENCE, command.output()).await.context(why)??;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "vgdb {order}: {}, {said}", output.status);
        Ok(())
    }
}

/// Both ends have to be told.
fn prefix(orders: &Path) -> String {
    format!("--vgdb-prefix={}", orders.display())
}

fn total(profile: &str) -> Option<u64> {
    profile.lines().rev().find_map(|line| line.strip_prefix(TOTALS)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_a_profile() {
        let profile = "version: 1\nsummary: 12\nfn=(1) totals\n1 12\n\ntotals: 62585497\n";
        assert_eq!(total(profile), Some(62_585_497));
        assert_eq!(total("version: 1\n"), None);
    }
}
