//! Processes: servers that say where they listen, and the load that is given a job.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

use crate::cores;
use crate::listen::ANNOUNCEMENT;
use crate::load::{Job, Outcome};

/// How long a process may take to start, to stop, or beyond the time of its job.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Mutex<Child>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Server {
    /// Starts one on a core and waits until it listens.
    pub(crate) async fn start(
        name: &'static str,
        mut command: Command,
        core: Option<usize>,
    ) -> anyhow::Result<Server> {
        // Ours end with their standard input, however the conductor ends.
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        without_our_environment(&mut command);
        let mut child = cores::spawn_on(&mut command, core)
            .with_context(|| format!("{name} cannot be started"))?;
        let said = Arc::new(Mutex::new(String::new()));
        listen_to(&mut child, Arc::clone(&said))?;
        let deadline = Instant::now() + PATIENCE;
        let address = loop {
            if let Some(address) = announced(&heard(&said)) {
                break address;
            }
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended with {status}:\n{}", heard(&said));
            }
            ensure!(Instant::now() < deadline, "{name} does not listen:\n{}", heard(&said));
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let address = address.parse().with_context(|| format!("{name} listens on {address}"))?;
        Ok(Server { name, child: Mutex::new(child), address, said })
    }

    /// Stops it by SIGTERM and waits for a clean end.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let id = i32::try_from(self.id()?)?;
        let id = Pid::from_raw(id).context("process 0 is nobody's")?;
        kill_process(id, Signal::TERM).with_context(|| format!("{} is gone", self.name))?;
        let said = self.said();
        let mut child = self.child.into_inner().unwrap_or_else(PoisonError::into_inner);
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = ended.with_context(|| format!("{} does not stop", self.name))??;
        ensure!(status.success(), "{} ended with {status}; it had said:\n{said}", self.name);
        Ok(())
    }

    /// Seconds of processor time used so far.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<Option<f64>> {
        cores::processor_seconds(self.id()?).with_context(|| self.state())
    }

    /// For whom something went wrong: how it is, and what it has said.
    pub(crate) fn state(&self) -> String {
        let now = match self.child().try_wait() {
            Ok(None) => "runs".into(),
            Ok(Some(status)) => format!("has ended with {status}"),
            Err(error) => format!("cannot be asked ({error})"),
        };
        format!("{} {now}; it has said:\n{}", self.name, self.said())
    }

    fn said(&self) -> String {
        heard(&self.said)
    }

    fn id(&self) -> anyhow::Result<u32> {
        let id = self.child().id();
        id.with_context(|| self.state())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// This binary, in another part.
pub(crate) fn ourselves(part: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part);
    Ok(command)
}

/// The server under test.
pub(crate) fn cache_server(binary: &Path, data_dir: &Path, upstream: SocketAddr) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(data_dir)
        .arg("--upstream")
        .arg(format!("http://{upstream}"));
    command
}

/// Runs one job of load to its end.
pub(crate) async fn run_load(job: &Job, core: Option<usize>) -> anyhow::Result<Outcome> {
    let mut command = ourselves("load")?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    without_our_environment(&mut command);
    let mut child = cores::spawn_on(&mut command, core).context("the load cannot be started")?;
    let mut stdin = child.stdin.take().context("the load has no standard input")?;
    stdin.write_all(&serde_json::to_vec(job)?).await.context("the load takes no job")?;
    drop(stdin);
    let patience = PATIENCE + job.duration();
    let output = tokio::time::timeout(patience, child.wait_with_output()).await;
    let output = output.context("the load does not end")??;
    ensure!(output.status.success(), "the load failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("the load's outcome cannot be read")
}

/// Settings around us are not for the processes that are measured.
fn without_our_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CACHE_SERVER_") {
            command.env_remove(name);
        }
    }
}

/// Keeps what it says, and keeps its pipe from filling up.
fn listen_to(child: &mut Child, said: Arc<Mutex<String>>) -> anyhow::Result<()> {
    let stderr = child.stderr.take().context("standard error is not piped")?;
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.push_str(&line);
            said.push('\n');
        }
    });
    Ok(())
}

fn heard(said: &Mutex<String>) -> String {
    said.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn announced(said: &str) -> Option<String> {
    let (_, rest) = said.split_once(ANNOUNCEMENT)?;
    // A log in JSON has a quote behind it.
    Some(rest.split(['"', '\n']).next()?.trim_end_matches('/').to_owned())
}
