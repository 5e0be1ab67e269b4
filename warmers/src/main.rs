//! `warm`: fills a cache-server from recorded requests.
//!
//! - [`record`]: the recorded requests, read line by line;
//! - [`run`]: sends them, several at a time, and sees what the cache did;
//! - [`cache_status`]: what the cache says that it did;
//! - [`report`]: counts and the closing report;
//! - [`progress`]: how the run goes;
//! - [`shell`]: completions and man pages.
//!
//! Exit codes: 0 when nothing failed, 1 when a request failed, 2 for wrong usage or a file that
//! cannot be read.

mod cache_status;
mod progress;
mod record;
mod report;
mod run;
mod shell;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use reqwest::Url;

use progress::Progress;
use run::{End, Replay};

/// What `--version` says: the version, and the commit that it was built from.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CACHE_SERVER_COMMIT"), ")");

/// Fills a cache-server from recorded requests.
#[derive(Debug, Parser)]
#[command(name = "warm", version = VERSION, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send every recorded request to a cache-server once
    Run(RunOptions),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man {
        /// Write the pages of all commands into this folder instead, a file each
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct RunOptions {
    /// The recorded requests, one JSON object a line: method, path, headers, body
    #[arg(value_name = "FILE.ndjson")]
    file: PathBuf,
    /// The cache-server, e.g. <http://127.0.0.1:8080>
    #[arg(long, value_name = "URL", value_parser = server_url)]
    server: Url,
    /// Requests under way at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    concurrency: u16,
    /// How long a request may take, to the last byte of its answer
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    deadline: Duration,
}

fn server_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}"))?;
    let is_base = matches!(url.scheme(), "http" | "https")
        && url.query().is_none()
        && url.fragment().is_none();
    if is_base { Ok(url) } else { Err("must be http:// or https://, without a query".into()) }
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Run(options) => warm(&options),
        Command::Completions { shell } => shell::completions(shell).map(|()| true),
        Command::Man { dir } => shell::man(dir.as_deref()).map(|()| true),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(why) => {
            eprintln!("warm: {why:#}");
            ExitCode::from(2)
        }
    }
}

/// Sends the file's requests and prints the report, also when the file breaks off or Ctrl-C ends it.
/// Says whether all of them were answered well.
fn warm(options: &RunOptions) -> anyhow::Result<bool> {
    let file = open(&options.file)?;
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("the TLS provider is already chosen"))?;
    let replay = Replay::new(&options.server, options.concurrency, options.deadline)
        .context("cannot set up the HTTP client")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let begun = Instant::now();
    let (tally, read) =
        runtime.block_on(replay.run(file, Progress::of(&options.file), interrupted()));
    // A file that is a pipe may never give what its reader waits for.
    runtime.shutdown_background();
    print!("{}", tally.report(begun.elapsed()));
    let end = read.with_context(|| format!("cannot read {}", options.file.display()))?;
    Ok(end == End::OfFile && tally.failures() == 0)
}

/// Resolves at Ctrl-C; never where that cannot be waited for.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn open(path: &Path) -> anyhow::Result<impl BufRead + Send + use<>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // A folder opens like a file, and fails only when it is read.
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        bail!("{} is a folder", path.display());
    }
    Ok(BufReader::with_capacity(1 << 20, file))
}
