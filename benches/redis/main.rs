//! Redis behind the cache: what a read through the tier costs beside Redis's own benchmark, what
//! callers notice when Redis stops, what a second server is spared, and what entries take there.
//! Real `redis-server` processes, in one run on one machine.
//!
//! Only ratios and differences mean anything, and nothing here passes or fails on a figure. What
//! fails the run is an answer that is not what its row claims to measure.
//!
//! - [`entries`]: entries as they are written, and how they are found again;
//! - [`exchange`], [`upstream`]: what is asked over HTTP, and who answers it;
//! - [`redis_server`], [`benchmark`]: Redis, and its own benchmark;
//! - [`tier`]: the tier as a library, reading and writing in a process of its own;
//! - [`load`]: callers of a cache-server, by [`outage`] and [`zipf`], who ask what [`draw`] says;
//! - [`stage`]: servers that share a Redis, each a [`cache`]; [`awake`]: cores that do not sleep;
//! - [`measure`]: what comes of it, by [`get`], [`stopped`], [`second`] and [`memory`].

mod awake;
mod benchmark;
#[expect(dead_code, reason = "what was dropped is for others to say")]
#[path = "../shared/cache.rs"]
mod cache;
#[path = "../shared/draw.rs"]
mod draw;
#[path = "../shared/entries.rs"]
mod entries;
#[expect(dead_code, reason = "pages are for others")]
#[path = "../shared/numbered.rs"]
mod exchange;
mod get;
#[expect(dead_code, reason = "nginx and Varnish are peers of others")]
#[path = "../shared/peers.rs"]
mod installed;
mod load;
mod measure;
mod memory;
mod outage;
#[path = "../shared/redis_server.rs"]
mod redis_server;
mod second;
#[expect(dead_code, reason = "streams are for others")]
#[path = "../shared/mod.rs"]
mod shared;
mod stage;
mod stopped;
mod tier;
#[path = "../shared/numbered_upstream.rs"]
mod upstream;
mod zipf;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measure::{Extent, Subject};
use shared::command::{Options, ended};
use shared::{listen, single_thread};

// The same allocator as in the server under test, so that it makes no difference.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the Redis tier: beside Redis's own benchmark, and through servers that share a Redis.
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
    Awake,
    #[command(hide = true)]
    Upstream,
    #[command(hide = true)]
    Load,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    ended("redis", play(&arguments))
}

fn play(arguments: &Arguments) -> anyhow::Result<()> {
    match arguments.part {
        Some(Part::Awake) => awake::spin(),
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
