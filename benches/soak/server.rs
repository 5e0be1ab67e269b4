//! The server under test: a process with small bounds, and what it takes of the machine.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::question::{SHORT_LIVED, STORED_BYTES_MAX};

/// How long it may take to start, to answer about itself, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of its log that are kept for a report.
const LOG_LINES: usize = 30;

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    process: u32,
    /// Where callers connect.
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    asker: Client,
    log: Arc<Mutex<Log>>,
    _folder: TempDir,
}

/// What it takes of the machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident memory.
    pub(crate) rss_bytes: u64,
    /// Open file descriptors.
    pub(crate) descriptors: u64,
}

#[derive(Debug, Default)]
struct Log {
    last: VecDeque<String>,
    panics: u64,
    addresses: Vec<SocketAddr>,
}

/// Bounds small enough to be reached within minutes, and waits short enough to be run into.
fn config(upstream: SocketAddr) -> String {
    format!(
        r#"
version = 1
[server]
header_timeout = "2s"
body_timeout = "5s"
write_timeout = "5s"
[cache]
memory_bytes_max = "32MiB"
memo_bytes_max = "4MiB"
disk_bytes_max = "256MiB"
entry_bytes_max = {STORED_BYTES_MAX}
slow_reader_timeout = "3s"
[[upstream]]
name = "soak"
url = "http://{upstream}"
prefix = "/"
read_timeout = "5s"
[[route]]
model = "{SHORT_LIVED}"
fresh_for = "3s"
stale_while_revalidate = "10s"
stale_if_error = "20s"
"#
    )
}

impl Server {
    /// Starts one in front of this upstream and waits until it listens.
    pub(crate) async fn start(binary: &Path, upstream: SocketAddr) -> anyhow::Result<Server> {
        let folder = TempDir::new().context("cannot make a temporary folder")?;
        let config_file = folder.path().join("config.toml");
        std::fs::write(&config_file, config(upstream))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config_file);
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(folder.path().join("data"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CACHE_SERVER_") {
                command.env_remove(name);
            }
        }
        // Every request has a line, as in production; what is read of it is the last words.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().context("cannot start the server")?;
        let process = child.id().context("the server has no id")?;
        let log = Arc::new(Mutex::new(Log::default()));
        follow(&mut child, Arc::clone(&log))?;
        let (admin, address) = addresses(&mut child, &log).await?;
        // A connection for each question, so that none of ours is open between two.
        let asker =
            Client::builder().no_proxy().tls_certs_only([]).pool_max_idle_per_host(0).build()?;
        Ok(Server { child, process, address, admin, asker, log, _folder: folder })
    }

    /// Its figures.
    pub(crate) async fn stats(&mut self) -> anyhow::Result<Value> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server has ended with {status}");
        }
        let asking = self.asker.get(format!("http://{}/stats", self.admin)).timeout(PATIENCE);
        let text = asking.send().await.context("no figures")?.text().await?;
        serde_json::from_str(&text).context("the figures are no JSON")
    }

    /// What it takes of the machine now.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let folder = format!("/proc/{}", self.process);
        let status = std::fs::read_to_string(format!("{folder}/status"))
            .context("no /proc of the server")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
            .context("no RSS")?;
        let descriptors = std::fs::read_dir(format!("{folder}/fd"))?.count();
        Ok(Usage { rss_bytes: kib << 10, descriptors: u64::try_from(descriptors)? })
    }

    /// How often it has panicked.
    pub(crate) fn panics(&self) -> u64 {
        held(&self.log).panics
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        held(&self.log).last.iter().map(|line| format!("  {line}\n")).collect()
    }

    /// Stops it by SIGTERM and waits for a clean end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        let id = Pid::from_raw(i32::try_from(self.process)?).context("process 0 is nobody's")?;
        kill_process(id, Signal::TERM).context("the server is gone")?;
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.context("the server does not stop")??;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// Waits until both addresses are said: that of the admin listener, then that for callers.
async fn addresses(
    child: &mut Child,
    log: &Mutex<Log>,
) -> anyhow::Result<(SocketAddr, SocketAddr)> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let [admin, data, ..] = held(log).addresses[..] {
            return Ok((admin, data));
        }
        let ended = child.try_wait()?;
        let waits = ended.is_none() && Instant::now() < deadline;
        ensure!(waits, "the server does not listen: {:#?}", held(log).last);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn follow(child: &mut Child, log: Arc<Mutex<Log>>) -> anyhow::Result<()> {
    let stderr = child.stderr.take().context("standard error is not piped")?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            held(&log).take(line);
        }
    });
    Ok(())
}

impl Log {
    fn take(&mut self, line: String) {
        self.panics += u64::from(line.contains("panicked at"));
        for announcement in ["stats on http://", "Listening on http://"] {
            let Some((_, rest)) = line.split_once(announcement) else { continue };
            // A log in JSON has a quote behind it.
            let address = rest.split('"').next().unwrap_or_default();
            self.addresses.extend(address.trim_end_matches('/').parse::<SocketAddr>().ok());
        }
        if self.last.len() == LOG_LINES {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }
}

fn held(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
