//! Many servers as one cache: a storm on a key that none of them has, how soon a purge is everywhere,
//! what callers notice of a rolling restart, and what ways of balancing give. Real `cache-server` and
//! `redis-server` processes, and nginx where it is installed, in one run on one machine.
//!
//! Only ratios and differences mean anything, and nothing here passes or fails on a figure. What
//! fails the run is an answer that is not what its row claims to measure.
//!
//! - [`exchange`], [`upstream`]: what is asked over HTTP, and who answers it; [`draw`]: how often;
//! - [`stage`]: servers that share a [`redis_server`], each a [`cache`]; [`front`]: nginx before them;
//! - [`load`]: callers, of a [`storm`], of a [`purge`], or the [`traffic`] of [`restart`] and [`balance`];
//! - [`clock`]: one for all processes; [`measure`]: what comes of it.

mod balance;
#[path = "../shared/cache.rs"]
mod cache;
#[expect(dead_code, reason = "instants of others are told by others")]
#[path = "../shared/clock.rs"]
mod clock;
#[path = "../shared/draw.rs"]
mod draw;
#[expect(dead_code, reason = "what chat alone asks is for others")]
#[path = "../shared/numbered.rs"]
mod exchange;
mod front;
#[expect(dead_code, reason = "other peers are for others")]
#[path = "../shared/peers.rs"]
mod installed;
mod load;
mod measure;
mod purge;
#[expect(dead_code, reason = "what Redis says is for others")]
#[path = "../shared/redis_server.rs"]
mod redis_server;
mod restart;
#[expect(dead_code, reason = "streams are for others")]
#[path = "../shared/mod.rs"]
mod shared;
mod stage;
mod storm;
mod traffic;
#[path = "../shared/numbered_upstream.rs"]
mod upstream;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Extent, Subject};
use shared::command::{Options, ended};
use shared::{listen, single_thread};

// The same allocator as in the server under test, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures many servers as one cache: storms, purges, a rolling restart, ways of balancing.
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
    ended("many", play(&arguments))
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
