//! The command line: what can be typed, and what each command does.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod digest;
pub(crate) mod serve;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use cache_server::config::{Config, LoadError, Overrides, load};
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// A caching server for AI and agent traffic.
#[derive(Debug, Parser)]
#[command(version, about)]
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
    /// Check a config and explain what it means
    Check(CheckOptions),
    /// Print the digest of a bare key read from standard input, for a [[tenant]]
    CredentialDigest,
}

/// What `serve` and `demo` have in common.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListenOptions {
    /// Where callers connect [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "CACHE_SERVER_LISTEN")]
    pub(crate) listen: Option<String>,
    /// Where health, metrics and stats are [default: 127.0.0.1:8081]
    #[arg(long, value_name = "ADDR", env = "CACHE_SERVER_ADMIN_LISTEN")]
    pub(crate) admin_listen: Option<String>,
    /// The data folder [default: cache-server in the user's cache directory; for the demo, demo in
    /// that]
    #[arg(long, value_name = "DIR", env = "CACHE_SERVER_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Which answers are reused: deterministic, declared or any [default: deterministic]
    #[arg(long, value_name = "POLICY", env = "CACHE_SERVER_REUSE")]
    pub(crate) reuse: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The config file
    #[arg(long, value_name = "FILE", env = "CACHE_SERVER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) common: ListenOptions,
    /// An upstream: URL takes everything; NAME=URL is mounted under /NAME. Repeatable
    #[arg(
        long,
        value_name = "URL | NAME=URL",
        env = "CACHE_SERVER_UPSTREAM",
        value_delimiter = ' '
    )]
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
pub(crate) struct CheckOptions {
    /// The config file
    #[arg(long, value_name = "FILE", env = "CACHE_SERVER_CONFIG")]
    pub(crate) config: PathBuf,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("a share is from 0 to 1".into()) }
}

impl ListenOptions {
    pub(crate) fn overrides(&self) -> Overrides {
        Overrides {
            listen: self.listen.clone(),
            admin_listen: self.admin_listen.clone(),
            data_dir: self.data_dir.clone(),
            reuse: self.reuse.clone(),
            upstreams: Vec::new(),
        }
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

pub(crate) fn load_config(
    path: Option<&std::path::Path>,
    overrides: &Overrides,
) -> Result<Config, Failure> {
    Ok(load(path, overrides)?)
}

/// Logs go to standard error, at `info` unless `RUST_LOG` says otherwise.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,foyer=warn,foyer_storage=warn,foyer_memory=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
