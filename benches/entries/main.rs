//! What entries cost: memory and disk for each, a restart with many of them, and how well the bound on
//! memory holds while entries come and go. A real server, filled through its listener like any other.
//!
//! Nothing here passes or fails on a figure. What fails the run is an answer that is not what its row
//! claims to measure.
//!
//! - [`exchange`], [`upstream`]: what is asked, and who answers it;
//! - [`load`]: callers, in a process of their own;
//! - [`stage`]: the server, a [`cache`], with what its settings are; [`taken`]: what it takes;
//! - [`measure`]: what comes of it, by [`memory`], [`disk`] and [`churn`].

#[expect(dead_code, reason = "Redis is for others")]
#[path = "../shared/cache.rs"]
mod cache;
mod churn;
mod disk;
mod exchange;
mod load;
mod measure;
mod memory;
#[expect(dead_code, reason = "streams and cores are for others")]
#[path = "../shared/mod.rs"]
mod shared;
mod stage;
mod taken;
mod upstream;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Extent, Subject};
use shared::command::{Options, ended};
use shared::{listen, single_thread};

// The same allocator as in the server under test, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures what entries take in memory and on disk, a restart with them, and their coming and going.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options<Subject>,
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
    ended("entries", play(&arguments))
}

fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.part {
        Some(Part::Upstream) => listen::runtime()?.block_on(upstream::run()),
        Some(Part::Load) => load::run(),
        None => single_thread()?.block_on(conduct(&arguments.options)),
    }
}

async fn conduct(options: &Options<Subject>) -> anyhow::Result<()> {
    let extent = Extent::of(options.quick, options.rounds);
    let report = measure::all(extent, &options.only, options.server.as_deref()).await?;
    options.show(&report)
}
