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
#[path = "../shared/clock.rs"]
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

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Extent, Subject};
use shared::command::{Options, ended};
use shared::{listen, single_thread};

// The same allocator as in the server under test, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures storms, streams and expiry: the cache beside its upstream, nginx and Varnish.
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
    ended("flights", play(&arguments))
}

fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.part {
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
