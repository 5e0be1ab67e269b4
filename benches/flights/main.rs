//! Flights: storms, streams and expiry, where many want the same and the upstream is to be asked
//! once. The cache beside the upstream itself, and beside nginx and Varnish where they are
//! installed, in one run on one machine.
//!
//! Only ratios and differences mean anything, and nothing here passes or fails on a figure. What
//! fails the run is an answer that is not what its row claims to measure.
//!
//! - [`ask`], [`said`], [`upstream`]: what is asked, and who answers it how;
//! - [`stage`], [`peers`]: who takes part;
//! - [`load`]: what is done, by [`storm`], [`stream`] and [`expiry`];
//! - [`measure`], [`rounds`], [`calls`], [`held_up`]: what comes of it.

mod ask;
mod calls;
mod clock;
mod expiry;
mod held_up;
#[path = "../shared/peers.rs"]
mod installed;
mod load;
mod measure;
mod peers;
mod rounds;
mod said;
#[path = "../shared/mod.rs"]
mod shared;
mod stage;
mod storm;
mod stream;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Extent, Subject};
use shared::{listen, single_thread};

// The same allocator as in the server under test, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures storms, streams and expiry: the cache beside its upstream, nginx and Varnish.
#[derive(Debug, Parser)]
struct Arguments {
    /// A smoke run: few and short rounds, figures of little worth
    #[arg(long)]
    quick: bool,
    /// Rounds to take the medians of
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Measure this alone. Repeatable
    #[arg(long, value_name = "SUBJECT", value_enum)]
    only: Vec<Subject>,
    /// Write the table as JSON, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The server under test [default: cache-server beside this binary]
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that this binary plays in processes of their own.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Upstream,
    #[command(hide = true)]
    Load,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match play(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("flights: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.part {
        Some(Part::Upstream) => listen::runtime()?.block_on(upstream::run()),
        Some(Part::Load) => single_thread()?.block_on(load::run()),
        None => single_thread()?.block_on(conduct(arguments)),
    }
}

async fn conduct(arguments: &Arguments) -> anyhow::Result<()> {
    let extent = Extent::of(arguments.quick, arguments.rounds);
    let report = measure::all(extent, &arguments.only, arguments.server.as_deref()).await?;
    print!("{}", report.table());
    if let Some(path) = &arguments.json {
        report.write_json(path)?;
    }
    Ok(())
}
