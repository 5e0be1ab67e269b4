//! The cache beside its peers: a bare server as the floor, nginx and Varnish where they are installed,
//! and the upstream itself, in one run on one machine. All are asked the same: chat completions by
//! POST, whose bodies are in the peers' keys as they are.
//!
//! Only ratios mean anything, and nothing here passes or fails on a figure. What fails the run is an
//! answer that is not what its row claims to measure. Every answer is checked, in the measured rounds
//! as well: status, who says it is from where, body.
//!
//! - [`stage`], [`products`]: who takes part, and how the peers are set up;
//! - [`contenders`], [`rounds`]: who is asked what, and how they take turns;
//! - [`hits`], [`calls`], [`crowd`]: what is measured; [`measure`]: all of it;
//! - [`chart`]: a picture of it.

mod calls;
mod chart;
mod contenders;
mod crowd;
#[path = "../shared/floor.rs"]
mod floor;
mod forwarder;
mod hits;
#[expect(dead_code, reason = "peers that key by URL are for others")]
#[path = "../shared/peers.rs"]
mod installed;
#[path = "../shared/load/mod.rs"]
mod load;
mod measure;
mod products;
mod rounds;
#[path = "../shared/mod.rs"]
mod shared;
#[path = "../shared/sized.rs"]
mod sized;
mod stage;
#[path = "../shared/upstream.rs"]
mod upstream;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use measure::{Extent, Subject};
use shared::command::{Options, ended};
use shared::{listen, single_thread};

// The same allocator as in the server under test, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the cache beside a bare server, nginx, Varnish and the upstream itself.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options<Subject>,
    /// Draw a chart of requests a second, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The parts that this binary plays in processes of their own.
#[derive(Clone, Copy, Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Floor(floor::Floor),
    #[command(hide = true)]
    Forwarder(forwarder::Forwarder),
    #[command(hide = true)]
    Upstream,
    #[command(hide = true)]
    Load,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ended("peers", play(&arguments))
}

fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.part {
        Some(Part::Floor(like)) => listen::runtime()?.block_on(floor::run(like)),
        Some(Part::Forwarder(like)) => listen::runtime()?.block_on(forwarder::run(like)),
        Some(Part::Upstream) => listen::runtime()?.block_on(upstream::run()),
        Some(Part::Load) => single_thread()?.block_on(load::run()),
        None => single_thread()?.block_on(conduct(arguments)),
    }
}

async fn conduct(arguments: &Arguments) -> anyhow::Result<()> {
    allow_descriptors().context("no more files can be opened")?;
    let options = &arguments.options;
    let extent = Extent::of(options.quick, options.rounds);
    let all = measure::all(extent, &options.only, options.server.as_deref()).await?;
    options.show(&all.report)?;
    if let Some(path) = &arguments.svg {
        let drawn = chart::draw(&all.groups);
        std::fs::write(path, drawn).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A thousand connections are more than many systems let a process open unasked. Those who are
/// started may as many as we.
fn allow_descriptors() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
