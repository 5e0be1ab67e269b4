//! Load side by side: the cache, a bare server and the upstream itself, in one run on one
//! machine.
//!
//! Only ratios mean anything, and nothing here passes or fails on a figure. What fails the run
//! is an answer that is not what its row claims to measure. Every answer is checked, in the
//! measured rounds as well: status, `Cache-Status`, body.
//!
//! The floor, the upstream, the load and the server under test are processes of their own. The
//! servers have one core, the load has another.

#[path = "../shared/floor.rs"]
mod floor;
#[path = "../shared/load/mod.rs"]
mod load;
mod measure;
mod rounds;
#[path = "../shared/mod.rs"]
mod shared;
#[path = "../shared/sized.rs"]
mod sized;
mod stage;
#[path = "../shared/upstream.rs"]
mod upstream;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Extent, Subject};
use shared::command::{Options, ended};
use shared::{listen, single_thread};

// The same allocator as in the server under test, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the cache against a bare server and against the upstream, side by side.
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
    Floor(floor::Floor),
    #[command(hide = true)]
    Upstream,
    #[command(hide = true)]
    Load,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ended("side-by-side", play(&arguments))
}

fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.part {
        Some(Part::Floor(like)) => listen::runtime()?.block_on(floor::run(like)),
        Some(Part::Upstream) => listen::runtime()?.block_on(upstream::run()),
        Some(Part::Load) => single_thread()?.block_on(load::run()),
        None => single_thread()?.block_on(conduct(&arguments.options)),
    }
}

async fn conduct(options: &Options<Subject>) -> anyhow::Result<()> {
    let extent = Extent::of(options.quick, options.rounds);
    let report = measure::all(extent, &options.only, options.server.as_deref()).await?;
    options.show(&report)
}
