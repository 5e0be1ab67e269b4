//! A real Redis in a process of its own: alone, behind sentinels, or one of a cluster.

mod cluster;
mod commands;
mod sentinels;
mod sharing;

use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

pub use cluster::Cluster;
pub use commands::{Commands, Said};
pub use sentinels::Sentinels;

use crate::programs::{installed, lasting_port};
use crate::{Answer, Certified, eventually};

/// The name by which certificates know the Redis that speaks TLS.
const TLS_HOST: &str = "localhost";

/// A running Redis, or one that was killed. It is killed when dropped.
#[derive(Debug)]
pub struct Redis {
    /// Where it takes connections without TLS.
    pub port: u16,
    tls_port: Option<u16>,
    arguments: Vec<String>,
    folder: TempDir,
    child: Child,
    login: Option<String>,
}

impl Redis {
    /// Starts an empty one that keeps nothing when it ends.
    pub async fn start() -> Redis {
        Redis::with(&[]).await
    }

    /// Starts one with more options, such as `["--maxmemory", "2mb"]`.
    pub async fn with(options: &[&str]) -> Redis {
        Redis::begin(folder(), lasting_port(), options).await
    }

    /// Starts one at this port.
    pub async fn on(port: u16) -> Redis {
        Redis::begin(folder(), port, &[]).await
    }

    /// Starts one that wants this password of everybody.
    pub async fn with_password(password: &str) -> Redis {
        let mut redis = Redis::start().await;
        redis.call(&["CONFIG", "SET", "requirepass", password]).await;
        redis.login = Some(password.into());
        redis
    }

    /// Starts a copy of another, which takes no writes but that one's.
    ///
    /// # Panics
    /// When it does not become one.
    pub async fn replica_of(master: &Redis) -> Redis {
        let port = master.port.to_string();
        let replica = Redis::with(&["--replicaof", &format!("127.0.0.1 {port}")]).await;
        eventually("a copy of the master", || async {
            let is_up = replica.info("replication", "master_link_status").await == "up";
            let is_known = master.info("replication", "connected_slaves").await != "0";
            (is_up && is_known).then_some(())
        })
        .await;
        replica
    }

    /// Starts one that speaks TLS besides, and wants a certificate by the authority of `clients`
    /// if there is one.
    pub async fn over_tls(certified: &Certified, clients: Option<&Certified>) -> Redis {
        let (folder, tls_port) = (folder(), lasting_port());
        certified.write_to(folder.path());
        let authority = folder.path().join("clients.crt");
        let trusted = clients.unwrap_or(certified);
        std::fs::write(&authority, &trusted.authority_pem).expect("the authority is written");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (cert, key, authority) = (path("tls.crt"), path("tls.key"), path("clients.crt"));
        let port = tls_port.to_string();
        let asks = if clients.is_some() { "yes" } else { "no" };
        let options = ["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key];
        let more = ["--tls-ca-cert-file", &authority, "--tls-auth-clients", asks];
        let mut redis =
            Redis::begin(folder, lasting_port(), &[&options[..], &more[..]].concat()).await;
        redis.tls_port = Some(tls_port);
        redis
    }

    async fn begin(folder: TempDir, port: u16, options: &[&str]) -> Redis {
        let dir = folder.path().display().to_string();
        let port_text = port.to_string();
        let always = ["--port", &port_text, "--bind", "127.0.0.1 -::1", "--dir", &dir];
        let kept = ["--save", "", "--appendonly", "no", "--logfile", "log"];
        // A copy is made at once.
        let soon = ["--repl-diskless-sync-delay", "0"];
        let all = always.iter().chain(&kept).chain(&soon).chain(options);
        let arguments = all.map(ToString::to_string);
        Redis::launch(folder, port, arguments.collect()).await
    }

    /// Starts a process with these arguments that takes connections at this port.
    async fn launch(folder: TempDir, port: u16, arguments: Vec<String>) -> Redis {
        let child = spawn(folder.path(), &arguments);
        let mut redis = Redis { port, tls_port: None, arguments, folder, child, login: None };
        redis.answers().await;
        redis
    }

    /// Waits until it answers.
    async fn answers(&mut self) {
        let answers = eventually("an answer of Redis", || async {
            let said = self.try_call(&["PING"]).await?;
            // One that wants a password answers, too.
            (said == Said::Line("PONG".into()) || said.text().starts_with("NOAUTH")).then_some(())
        });
        let ended = async {
            loop {
                let process = format!("/proc/{}/stat", self.child.id().unwrap_or_default());
                let stat = std::fs::read_to_string(process).unwrap_or_default();
                if stat.is_empty() || stat.contains(") Z ") {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            () = answers => {}
            () = ended => panic!("Redis ended:\n{}", self.log()),
        }
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its host and port for TLS.
    ///
    /// # Panics
    /// When it speaks none.
    #[must_use]
    pub fn tls_address(&self) -> String {
        format!("{TLS_HOST}:{}", self.tls_port.expect("it speaks TLS"))
    }

    /// A connection to it, logged in.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn commands(&self) -> Commands {
        self.try_commands().await.expect("it takes connections")
    }

    async fn try_commands(&self) -> Option<Commands> {
        let mut commands = Commands::open(self.port).await?;
        if let Some(password) = &self.login {
            commands.call(&["AUTH", password]).await?;
        }
        Some(commands)
    }

    async fn try_call<T: AsRef<[u8]>>(&self, words: &[T]) -> Option<Said> {
        self.try_commands().await?.call(words).await
    }

    /// Has it do this.
    ///
    /// # Panics
    /// When it does not.
    pub async fn call<T: AsRef<[u8]>>(&self, words: &[T]) -> Said {
        let command: Vec<_> =
            words.iter().map(|word| String::from_utf8_lossy(word.as_ref())).collect();
        match self.try_call(words).await {
            None => panic!("no answer to {command:?}"),
            Some(Said::Error(said)) => panic!("{command:?}: {said}"),
            Some(said) => said,
        }
    }

    /// Whether it is a master. Where a sentinel makes it one, that cuts all connections to it.
    pub async fn is_master(&self) -> bool {
        let said = self.try_call(&["INFO", "replication"]).await;
        said.is_some_and(|said| said.text().contains("role:master"))
    }

    /// A line of a section of what it says of itself.
    ///
    /// # Panics
    /// When there is no such line.
    pub async fn info(&self, section: &str, name: &str) -> String {
        let said = self.call(&["INFO", section]).await.text();
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in:\n{said}")).to_owned()
    }

    /// A figure of a command, such as `calls` of `set`; 0 for one that was never called.
    pub async fn count(&self, command: &str, figure: &str) -> u64 {
        let said = self.call(&["INFO", "commandstats"]).await.text();
        let start = format!("cmdstat_{command}:");
        let line = said.lines().find_map(|line| line.strip_prefix(&start));
        let figures = line.unwrap_or_default().split(',');
        let value = figures.filter_map(|pair| pair.split_once('=')).find(|pair| pair.0 == figure);
        value.and_then(|pair| pair.1.parse().ok()).unwrap_or(0)
    }

    /// The names of all keys, of entries and of what else there is.
    pub async fn all_keys(&self) -> Vec<String> {
        self.call(&["KEYS", "*"]).await.list().iter().map(Said::text).collect()
    }

    /// The names of all entries.
    pub async fn keys(&self) -> Vec<String> {
        entries_in(&mut self.commands().await).await
    }

    /// The name of the one key.
    ///
    /// # Panics
    /// When there is none, or another.
    pub async fn only_key(&self) -> String {
        let keys = self.keys().await;
        let [key] = &keys[..] else { panic!("not one key: {keys:?}") };
        key.clone()
    }

    /// The name of the key that this answer was stored under.
    ///
    /// # Panics
    /// When there is none.
    pub async fn key_of(&self, answer: &Answer) -> String {
        let status = answer.cache_status();
        let digits = status.split("key=\"ks1_").nth(1).and_then(|rest| rest.split('"').next());
        let digits = digits.unwrap_or_else(|| panic!("no key in {status}"));
        let found = self.keys().await.into_iter().find(|key| key.ends_with(digits));
        found.unwrap_or_else(|| panic!("{digits} is not in Redis"))
    }

    /// The value of a key.
    ///
    /// # Panics
    /// When it has none.
    pub async fn value(&self, key: &str) -> Vec<u8> {
        self.call(&["GET", key]).await.bytes()
    }

    /// Puts other bytes in the place of a key's value. It lives as long as the one before.
    pub async fn replace(&self, key: &str, value: &[u8]) {
        self.call(&[b"SET", key.as_bytes(), value, b"KEEPTTL"]).await;
    }

    /// Waits until it has this many keys.
    pub async fn has_keys(&self, count: usize) {
        eventually(&format!("{count} entries in Redis"), || async {
            (self.keys().await.len() == count).then_some(())
        })
        .await;
    }

    /// Holds it still. Connections stand and are taken, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it outright.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().await.expect("it ends");
    }

    /// Starts it again, at the same port and empty; it must have ended.
    pub async fn start_again(&mut self) {
        self.child = spawn(self.folder.path(), &self.arguments);
        self.answers().await;
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        kill_process(id.expect("it still runs"), signal).expect("the signal is sent");
    }
}

fn folder() -> TempDir {
    TempDir::new().expect("a temporary folder")
}

fn spawn(folder: &Path, arguments: &[String]) -> Child {
    Command::new(installed("redis-server", "redis-server"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it is installed")
}

/// The names of all entries in the database that a connection is at.
///
/// # Panics
/// When it has ended.
pub async fn entries_in(commands: &mut Commands) -> Vec<String> {
    let keys = commands.call(&["KEYS", "*:ks1_*"]).await.expect("an answer").list();
    let is_entry = |key: &String| !key.contains(":lease:");
    keys.iter().map(Said::text).filter(is_entry).collect()
}

/// What a user must be allowed to call.
pub const ALLOWED_COMMANDS: [&str; 25] = [
    "+get",
    "+getrange",
    "+set",
    "+eval",
    "+info",
    "+time",
    "+hmget",
    "+hset",
    "+hget",
    "+hgetall",
    "+hdel",
    "+zadd",
    "+zcard",
    "+zscore",
    "+zrangebyscore",
    "+zremrangebyscore",
    "+zpopmin",
    "+pexpire",
    "+pttl",
    "+del",
    "+publish",
    "+subscribe",
    "+client",
    "+hello",
    "+select",
];
