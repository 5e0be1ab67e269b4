//! Load side by side: the cache, a bare server and the upstream itself, in one run on one
//! machine.
//!
//! Only ratios mean anything, and nothing here passes or fails on a figure. What fails the run
//! is an answer that is not what its row claims to measure. Every answer is checked, in the
//! measured rounds as well: status, `Cache-Status`, body.
//!
//! The floor, the upstream, the load and the server under test are processes of their own. The
//! servers have one core, the load has another.

mod floor;
mod load;
mod measure;
mod rounds;
#[path = "../shared/mod.rs"]
mod shared;
mod stage;
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Extent, Subject};
use shared::{listen, single_thread};

// The same allocator as in the server under test, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the cache against a bare server and against the upstream, side by side.
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
    Floor,
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
            eprintln!("side-by-side: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.part {
        Some(Part::Floor) => listen::runtime()?.block_on(floor::run()),
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
