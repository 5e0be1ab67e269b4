//! The command line: what can be typed, and what each command does.

pub(crate) mod admin_client;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod digest;
pub(crate) mod health;
pub(crate) mod inspect;
pub(crate) mod man;
pub(crate) mod overrides;
pub(crate) mod purge;
pub(crate) mod reload;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod supervisor;
pub(crate) mod top;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use cache_server::config::LoadError;
use cache_server::config::sources::{FlagValue, Sources};
use clap::{Args, Parser, Subcommand};

use admin_client::AdminAddress;
use inspect::InspectOptions;
use overrides::OverrideOptions;
use purge::PurgeOptions;

/// What `--version` says: the version, and the commit that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CACHE_SERVER_COMMIT"), ")");

/// A caching server for AI and agent traffic.
#[derive(Debug, Parser)]
#[command(version = VERSION, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve: a read-through cache in front of model APIs
    Serve(ServeOptions),
    /// Serve in front of a bundled, simulated model API: no key and no network needed
    Demo(DemoOptions),
    /// Check what serve would run with: every value in force, its origin, and what it means
    Check(ServeOptions),
    /// Print the JSON schema of the config file
    Schema,
    /// Show what a running server does: rates, latencies, models, reasons
    Top(TopOptions),
    /// Pull a lever of a running server for a while: past the cache, other lifetimes, stale only
    Override(OverrideOptions),
    /// Purge entries of a running server: by key, tag, URL, route or tenant, or all
    Purge(PurgeOptions),
    /// Show what a running server has stored under a key
    Inspect(InspectOptions),
    /// Print the digest of a bare key read from standard input, for a [[tenant]]
    CredentialDigest,
    /// Ask a server whether it takes requests: exits with 0 if it does, with 1 if not
    Health(AdminAddress),
    /// Print a completion script for a shell
    Completions(CompletionsOptions),
    /// Print the man page
    Man(ManOptions),
}

/// What `serve` and `demo` have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListenOptions {
    /// Where callers connect [env: CACHE_SERVER_LISTEN] [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<String>,
    /// Where health, metrics and stats are [env: CACHE_SERVER_ADMIN_LISTEN] [default:
    /// 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR")]
    pub(crate) admin_listen: Option<String>,
    /// The data folder [env: CACHE_SERVER_DATA_DIR] [default: cache-server in the user's cache
    /// directory; for the demo, demo in that]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<String>,
    /// The Redis that servers share, such as redis://127.0.0.1:6379 [env: CACHE_SERVER_REDIS]
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// Which answers are reused: deterministic, declared or any [env: CACHE_SERVER_REUSE]
    /// [default: deterministic]
    #[arg(long, value_name = "POLICY")]
    pub(crate) reuse: Option<String>,
    /// How loud the log is: LEVEL, or MODULE=LEVEL, separated by commas [env:
    /// CACHE_SERVER_LOG_LEVEL] [default: info, and warn for foyer]
    #[arg(long, value_name = "DIRECTIVES")]
    pub(crate) log_level: Option<String>,
    /// Any other field, such as server.idle_timeout=10s. Repeatable
    #[arg(long, value_name = "SECTION.FIELD=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The config file [env: CACHE_SERVER_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: ListenOptions,
    /// An upstream: URL takes everything; NAME=URL is mounted under /NAME. Repeatable, or
    /// separated by spaces [env: CACHE_SERVER_UPSTREAM]
    #[arg(long, value_name = "URL | NAME=URL", value_delimiter = ' ')]
    pub(crate) upstream: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoOptions {
    #[command(flatten)]
    pub(crate) common: ListenOptions,
    /// How long the simulated model thinks before its first byte
    #[arg(long, value_name = "DURATION", default_value = "800ms", value_parser = humantime::parse_duration)]
    pub(crate) latency: Duration,
    /// Up to this much is added to the latency
    #[arg(long, value_name = "DURATION", default_value = "200ms", value_parser = humantime::parse_duration)]
    pub(crate) jitter: Duration,
    /// The share of requests that the simulated model answers with an error, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub(crate) error_rate: f64,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsOptions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManOptions {
    /// Write the pages of all commands into this folder instead, a file each
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct TopOptions {
    #[command(flatten)]
    pub(crate) server: AdminAddress,
    /// How often to look, at least 100ms
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print one table of the time since the start, and end
    #[arg(long)]
    pub(crate) once: bool,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if interval < Duration::from_millis(100) { Err("at least 100ms".into()) } else { Ok(interval) }
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is from 0 to 1".into()) }
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (path, value) = text.split_once('=').ok_or("write SECTION.FIELD=VALUE")?;
    Ok((path.trim().to_owned(), value.trim().to_owned()))
}

impl ListenOptions {
    fn flags(&self) -> Vec<FlagValue> {
        let named = [
            ("--listen", "server.listen", &self.listen),
            ("--admin-listen", "server.admin_listen", &self.admin_listen),
            ("--data-dir", "cache.data_dir", &self.data_dir),
            ("--redis", "redis.url", &self.redis),
            ("--reuse", "cache.reuse", &self.reuse),
            ("--log-level", "log.level", &self.log_level),
        ];
        let named = named.into_iter().filter_map(|(flag, path, text)| {
            Some(FlagValue { flag: flag.into(), path: path.into(), text: text.clone()? })
        });
        let set = self.set.iter().map(|(path, text)| FlagValue {
            flag: "--set".into(),
            path: path.clone(),
            text: text.clone(),
        });
        named.chain(set).collect()
    }
}

impl ServeOptions {
    /// Everything that the config is made of.
    pub(crate) fn sources(&self) -> Sources {
        Sources {
            file: self
                .config
                .clone()
                .or_else(|| variable("CACHE_SERVER_CONFIG").map(PathBuf::from)),
            flags: self.common.flags(),
            upstreams: self.upstream.clone(),
            ..Sources::default()
        }
        .with_environment()
    }
}

/// A variable of the environment; an empty one says nothing.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

impl DemoOptions {
    /// Everything that the demo's config is made of; it has no file, and its own upstreams.
    pub(crate) fn sources(&self) -> Sources {
        let mut sources = Sources { flags: self.common.flags(), ..Sources::default() };
        sources = sources.with_environment();
        sources.environment.retain(|(name, _)| name != "CACHE_SERVER_UPSTREAM");
        sources
    }
}

/// Why a command failed, and what the shell is told.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: anyhow::Error,
    pub(crate) exit_code: u8,
}

impl Failure {
    /// The config or the usage is wrong.
    pub(crate) fn usage(why: impl Into<anyhow::Error>) -> Failure {
        Failure { why: why.into(), exit_code: 2 }
    }

    /// The server cannot do its work.
    pub(crate) fn start(why: impl Into<anyhow::Error>) -> Failure {
        Failure { why: why.into(), exit_code: 1 }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Failure {
        Failure::usage(error)
    }
}

/// Writes to standard output, which may be a pipe that nobody reads any more.
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text).and_then(|()| stdout.flush());
    written.context("cannot write to standard output").map_err(Failure::start)
}
