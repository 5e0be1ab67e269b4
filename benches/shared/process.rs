//! Processes: servers that say where they listen, and the load that is given a job.

use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::cores;
use super::listen::ANNOUNCEMENT;

/// How long a process may take to start, to stop, or beyond the time of its job.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It is told to end when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    child: Mutex<Child>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    said: Arc<Mutex<String>>,
}

impl Server {
    /// Starts one of ours on a core and waits until it says where it listens.
    pub(crate) async fn start(
        name: &'static str,
        mut command: Command,
        core: Option<usize>,
    ) -> anyhow::Result<Server> {
        // Ours end with their standard input, however the conductor ends.
        command.stdin(Stdio::piped()).kill_on_drop(true);
        Server::start_and_wait(name, command, core, announced).await
    }

    /// Starts one on a core and waits until it listens: until `listens` knows where, by what the
    /// server has said so far or otherwise.
    pub(crate) async fn start_and_wait(
        name: &'static str,
        mut command: Command,
        core: Option<usize>,
        listens: impl Fn(&str) -> Option<SocketAddr>,
    ) -> anyhow::Result<Server> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        without_our_environment(&mut command);
        let mut child = cores::spawn_on(&mut command, core)
            .with_context(|| format!("{name} cannot be started"))?;
        let said = Arc::new(Mutex::new(String::new()));
        listen_to(&mut child, Arc::clone(&said))?;
        let deadline = Instant::now() + PATIENCE;
        let address = loop {
            if let Some(address) = listens(&heard(&said)) {
                break address;
            }
            if let Some(status) = child.try_wait()? {
                bail!("{name} ended with {status}:\n{}", heard(&said));
            }
            ensure!(Instant::now() < deadline, "{name} does not listen:\n{}", heard(&said));
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Ok(Server { name, child: Mutex::new(child), address, said })
    }

    /// Stops it by SIGTERM and waits for a clean end.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        self.tell_to_end()?;
        let said = self.said();
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status = ended.with_context(|| format!("{} does not stop", self.name))??;
        ensure!(status.success(), "{} ended with {status}; it had said:\n{said}", self.name);
        Ok(())
    }

    fn tell_to_end(&self) -> anyhow::Result<()> {
        let id = i32::try_from(self.id()?)?;
        let id = Pid::from_raw(id).context("process 0 is nobody's")?;
        kill_process(id, Signal::TERM).with_context(|| format!("{} is gone", self.name))
    }

    /// What it says at a path.
    pub(crate) async fn look_at(&self, path: &str) -> anyhow::Result<String> {
        look_at(self.address, path).await.with_context(|| self.state())
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

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        heard(&self.said)
    }

    /// Its process.
    pub(crate) fn id(&self) -> anyhow::Result<u32> {
        let id = self.child().id();
        id.with_context(|| self.state())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // One that has ended already needs no telling.
        let _ = self.tell_to_end();
    }
}

/// What a server says at a path.
pub(crate) async fn look_at(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "it says {head}");
    Ok(body.to_owned())
}

/// This binary, in another part.
pub(crate) fn ourselves(part: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part);
    Ok(command)
}

/// The server under test: this file, or the one beside this binary, which `make` of this target
/// builds.
pub(crate) fn binary(given: Option<&Path>, target: &str) -> anyhow::Result<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name("cache-server"),
    };
    ensure!(path.exists(), "{} is missing: run `make {target}`, which builds it", path.display());
    Ok(path)
}

/// How the server under test is run.
pub(crate) fn cache_server(binary: &Path, data_dir: &Path, upstream: SocketAddr) -> Command {
    cache_server_on(["127.0.0.1:0"; 2], binary, data_dir, upstream)
}

/// The same on addresses that are given, for callers and for operators.
pub(crate) fn cache_server_on(
    [listen, admin]: [&str; 2],
    binary: &Path,
    data_dir: &Path,
    upstream: SocketAddr,
) -> Command {
    let mut command = Command::new(binary);
    command
        .arg("serve")
        .args(["--listen", listen, "--admin-listen", admin])
        .arg("--data-dir")
        .arg(data_dir)
        .arg("--upstream")
        .arg(format!("http://{upstream}"));
    command
}

/// Runs one job of load to its end, for which it has some time beyond its `duration`.
pub(crate) async fn run_load<J: Serialize, O: DeserializeOwned>(
    job: &J,
    duration: Duration,
    core: Option<usize>,
) -> anyhow::Result<O> {
    let mut command = ourselves("load")?;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    without_our_environment(&mut command);
    let mut child = cores::spawn_on(&mut command, core).context("the load cannot be started")?;
    let mut stdin = child.stdin.take().context("the load has no standard input")?;
    stdin.write_all(&serde_json::to_vec(job)?).await.context("the load takes no job")?;
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE + duration, child.wait_with_output()).await;
    let output = output.context("the load does not end")??;
    ensure!(output.status.success(), "the load failed: {}", output.status);
    serde_json::from_slice(&output.stdout).context("the load's outcome cannot be read")
}

/// The other end of [`run_load`]: takes a job from standard input.
pub(crate) fn take_job<J: DeserializeOwned>() -> anyhow::Result<J> {
    let mut job = String::new();
    std::io::stdin().read_to_string(&mut job).context("cannot read the job")?;
    serde_json::from_str(&job).context("this is no job")
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

fn announced(said: &str) -> Option<SocketAddr> {
    let (_, rest) = said.split_once(ANNOUNCEMENT)?;
    // A log in JSON has a quote behind it.
    rest.split(['"', '\n']).next()?.trim_end_matches('/').parse().ok()
}
