//! A server in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};

use crate::{Client, PATIENCE, Terminal, Upstream, eventually};

/// How to start a server.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    config: String,
    arguments: Vec<String>,
    variables: Vec<(String, String)>,
    listen: Option<String>,
    admin_listen: Option<String>,
    demo: bool,
    terminal: bool,
    open_files_max: Option<u32>,
}

impl Setup {
    /// In front of one upstream that takes everything.
    #[must_use]
    pub fn in_front_of(upstream: &Upstream) -> Setup {
        Setup::default().argument("--upstream").argument(&upstream.url())
    }

    /// With more arguments.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Setup {
        self.arguments.push(argument.into());
        self
    }

    /// With these lines in its config file, below `version = 1`.
    #[must_use]
    pub fn config(mut self, toml: &str) -> Setup {
        self.config.push_str(toml);
        self.config.push('\n');
        self
    }

    /// With one more environment variable.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Listening at this address for callers, instead of on any free port.
    #[must_use]
    pub fn listening_on(mut self, address: &str) -> Setup {
        self.listen = Some(address.into());
        self
    }

    /// With its admin listener at this address, instead of on any free port of loopback.
    #[must_use]
    pub fn admin_listening_on(mut self, address: &str) -> Setup {
        self.admin_listen = Some(address.into());
        self
    }

    /// With a terminal for its standard error.
    #[must_use]
    pub fn on_a_terminal(mut self) -> Setup {
        self.terminal = true;
        self
    }

    /// Allowed this many open files and no more.
    #[must_use]
    pub fn with_open_files(mut self, max: u32) -> Setup {
        self.open_files_max = Some(max);
        self
    }

    /// As `demo` instead of `serve`.
    #[must_use]
    pub fn demo() -> Setup {
        Setup { demo: true, ..Setup::default() }
    }
}

/// A running server. It is killed when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where callers connect, such as `127.0.0.1:40001`.
    pub address: String,
    /// Where health, metrics and stats are.
    pub admin: String,
    folder: Arc<TempDir>,
    setup: Setup,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts one on free ports and a fresh data folder, and waits until it listens.
    pub async fn start(setup: Setup) -> Server {
        let folder = Arc::new(TempDir::new().expect("a temporary folder"));
        Server::start_in(folder, setup).await
    }

    /// Starts one with the same data folder and setup; this one must have ended.
    pub async fn start_again(self) -> Server {
        let setup = self.setup.clone();
        self.start_again_as(setup).await
    }

    /// The same with another setup.
    pub async fn start_again_as(self, setup: Setup) -> Server {
        let folder = Arc::clone(&self.folder);
        drop(self);
        Server::start_in(folder, setup).await
    }

    async fn start_in(folder: Arc<TempDir>, setup: Setup) -> Server {
        let mut command = command(&folder, &setup);
        let terminal = setup.terminal.then(Terminal::open);
        if let Some(terminal) = &terminal {
            command.stderr(terminal.other_end());
        }
        let mut child = command.spawn().expect("the server starts");
        // The command has the terminal's other end, and would keep it open.
        drop(command);
        let log = terminal.map_or_else(Arc::default, |terminal| terminal.text);
        if let Some(stderr) = child.stderr.take() {
            follow_log(stderr, Arc::clone(&log));
        }
        let said = |prefix: &'static str| {
            let log = Arc::clone(&log);
            async move { find_address(&log.lock().expect("the log"), prefix) }
        };
        let listens = async {
            let address = eventually("its address", || said("Listening on ")).await;
            let admin = eventually("its admin address", || said("stats on ")).await;
            (address, admin)
        };
        let (address, admin) = tokio::select! {
            found = listens => found,
            ended = child.wait() => {
                panic!("the server ended with {ended:?}:\n{}", log.lock().expect("the log"))
            }
        };
        Server { child, address, admin, folder, setup, log }
    }

    /// Runs one that is expected to end by itself: its status and what it said.
    pub async fn run_to_end(setup: Setup) -> (ExitStatus, String) {
        let folder = TempDir::new().expect("a temporary folder");
        let ended = end_of(command(&folder, &setup)).await;
        (ended.status, ended.stderr)
    }

    /// Runs a second one on this one's data folder, which is expected to end by itself.
    pub async fn run_beside(&self) -> Ended {
        end_of(command(&self.folder, &self.setup)).await
    }

    /// Runs `cache-server check` on a config file of these lines below `version = 1`.
    pub async fn check(config: &str) -> Ended {
        let folder = TempDir::new().expect("a temporary folder");
        let mut check = Command::new(binary("cache-server"));
        check.arg("check").arg("--config").arg(write_config(folder.path(), config));
        end_of(check).await
    }

    /// A client of the data listener.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::of(&self.address)
    }

    /// A client of the admin listener.
    #[must_use]
    pub fn admin_client(&self) -> Client {
        Client::of(&self.admin)
    }

    /// The data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.folder)
    }

    /// Replaces its config file, as an editor does: by another file of the same name.
    pub fn rewrite_config(&self, lines: &str) {
        let new = self.folder.path().join("config.toml.new");
        std::fs::write(&new, config_text(lines)).expect("the config is written");
        std::fs::rename(new, self.folder.path().join("config.toml")).expect("it is replaced");
    }

    /// Its figures.
    pub async fn stats(&self) -> Value {
        self.admin_client().get("/stats").await.json()
    }

    /// The value of one series of its metrics, named as they are printed; 0 where there is none.
    pub async fn metric(&self, series: &str) -> f64 {
        let metrics = self.admin_client().get("/metrics").await;
        let text = String::from_utf8(metrics.body.to_vec()).expect("metrics are text");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().expect("a number"))
    }

    /// How many requests have looked in vain in the cache since the start.
    pub async fn lookups_in_vain(&self) -> f64 {
        self.metric("cache_server_tier_read_seconds_count{tier=\"disk\"}").await
    }

    /// Waits until this many requests have looked in vain in the cache since the start: from
    /// then on they have joined a flight, or are the flight.
    pub async fn misses_looked_up(&self, count: u32) {
        eventually(&format!("{count} lookups"), || async {
            (self.lookups_in_vain().await >= f64::from(count)).then_some(())
        })
        .await;
    }

    /// The id of its process.
    ///
    /// # Panics
    /// When it has ended.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.child.id().expect("it still runs")
    }

    /// Runs `cache-server top` on this one's figures, to its end.
    pub async fn top(&self, arguments: &[&str]) -> Ended {
        end_of(top(&self.admin, arguments)).await
    }

    /// What it has written to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().expect("the log").clone()
    }

    /// What the system says of its process under this name (proc_pid_status(5)).
    pub fn process_status(&self, name: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process()));
        let status = status.expect("the server runs");
        let told = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        told.expect("the system says it").trim().to_owned()
    }

    /// The same in bytes: `VmRSS` is the memory that it has, `VmHWM` the most that it has had.
    pub fn process_bytes(&self, name: &str) -> u64 {
        let status = self.process_status(name);
        let kib: u64 = status.trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// Sends a signal.
    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.process()).expect("process ids are small");
        // kill(2) has no safe form in the standard library; the shell has.
        let sent = std::process::Command::new("kill")
            .args([format!("-{signal}"), id.to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "the signal was not sent");
    }

    /// Waits until it ends.
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("it ran")
    }

    /// Stops it by SIGTERM and waits for a clean end.
    pub async fn stop(&mut self) {
        self.signal(libc::SIGTERM);
        let status = self.ended().await;
        assert!(status.success(), "it ended with {status}:\n{}", self.log());
    }

    /// Kills it outright.
    pub async fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.ended().await;
    }
}

/// `cache-server top` on the figures of the server with this admin listener.
#[must_use]
pub fn top(admin: &str, arguments: &[&str]) -> Command {
    let mut top = Command::new(binary("cache-server"));
    top.arg("top").args(["--admin", admin]).args(arguments).stdin(Stdio::null());
    top.kill_on_drop(true);
    top
}

/// How a run ended that was expected to end by itself.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs a binary of the workspace that is expected to end by itself.
pub async fn run(name: &str, arguments: &[&str]) -> Ended {
    let mut command = Command::new(binary(name));
    command.args(arguments).stdin(Stdio::null());
    without_our_variables(&mut command);
    end_of(command).await
}

/// Runs a command to its end.
///
/// # Panics
/// When it does not end.
pub async fn end_of(mut command: Command) -> Ended {
    command.kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output());
    let output = output.await.expect("it ends").expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// The binary under test, built beside this test's own.
///
/// # Panics
/// When it is not built.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("this test has a path");
    path.pop();
    path.pop();
    path.push(name);
    assert!(path.exists(), "{} is missing: run `make test`, which builds it", path.display());
    path
}

/// What `cache-server credential-digest` prints for this credential: what a `[[tenant]]` lists.
///
/// # Panics
/// When it does not print one.
pub async fn credential_digest(credential: &str) -> String {
    let mut child = Command::new(binary("cache-server"))
        .arg("credential-digest")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(credential.as_bytes()).await.expect("it reads");
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends").expect("it runs");
    assert!(output.status.success(), "it ended with {}", output.status);
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn data_dir(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

fn command(folder: &TempDir, setup: &Setup) -> Command {
    let mut command = match setup.open_files_max {
        None => Command::new(binary("cache-server")),
        Some(max) => {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -n {max}; exec \"$0\" \"$@\"")]);
            shell.arg(binary("cache-server"));
            shell
        }
    };
    command.arg(if setup.demo { "demo" } else { "serve" });
    if !setup.demo {
        command.arg("--config").arg(write_config(folder.path(), &setup.config));
    }
    // What an argument says, no file can change.
    if !setup.config.contains("admin_listen") {
        let address = setup.admin_listen.as_deref().unwrap_or("127.0.0.1:0");
        command.args(["--admin-listen", address]);
    }
    command
        .args(["--listen", setup.listen.as_deref().unwrap_or("127.0.0.1:0")])
        .arg("--data-dir")
        .arg(data_dir(folder))
        .args(&setup.arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    without_our_variables(&mut command);
    command.envs(setup.variables.iter().cloned());
    command
}

/// Settings around the test are not for what it starts.
fn without_our_variables(command: &mut Command) {
    for (name, _) in std::env::vars() {
        if name.starts_with("CACHE_SERVER_") || name.starts_with("OTEL_") {
            command.env_remove(name);
        }
    }
}

fn write_config(folder: &Path, lines: &str) -> PathBuf {
    let path = folder.join("config.toml");
    std::fs::write(&path, config_text(lines)).expect("the config is written");
    path
}

fn config_text(lines: &str) -> String {
    // A small disk opens faster; a test that says something about [cache] says it all.
    let small = "[cache]\ndisk_bytes_max = \"64MiB\"\n";
    let cache = if lines.contains("[cache]") { "" } else { small };
    format!("version = 1\n{lines}\n{cache}")
}

fn follow_log(stderr: ChildStderr, log: Arc<Mutex<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut log = log.lock().expect("the log");
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// The address behind `prefix` and a scheme.
fn find_address(log: &str, prefix: &str) -> Option<String> {
    let (_, rest) = log.split_once(prefix)?;
    let (_, rest) = rest.split_once("://")?;
    // A log in JSON has a quote behind it.
    let address = rest.split(['"', '\n']).next()?.trim().trim_end_matches('/');
    // The line may still be being written.
    rest.contains('\n').then(|| address.to_owned())
}
