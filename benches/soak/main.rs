//! The soak: minutes of everything at once, against a server with small bounds, before an
//! upstream in this process.
//!
//! Callers ask popular and new questions, streams and storms; others hang up, read slowly or not
//! at all, or send hostile bytes; the upstream fails in every way it can. Every answer is checked
//! byte for byte. Then the load ends, and what it had opened must be closed again. It exits with
//! 0 if every rule of [`verdict`] was kept, else with 1.
//!
//! - [`question`]: what is asked and what is answered;
//! - [`upstream`], [`server`]: whom it is asked of;
//! - [`kind`]: who asks, how many at once; [`callers`], [`unruly`], [`hostile`]: what they do;
//! - [`watch`], [`tally`], [`verdict`]: what comes of it.

mod callers;
mod hostile;
mod kind;
mod question;
mod server;
mod tally;
mod unruly;
mod upstream;
mod verdict;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use fastrand::Rng;
use tokio::task::JoinSet;

use callers::Stage;
use kind::Kind;
use server::Server;
use tally::Tally;
use upstream::Asked;
use verdict::{Verdict, quarters, unrest};
use watch::Sample;

/// How long the server may take to come to rest. Its connections to the upstream stay open for
/// 60 s without use.
const REST: Duration = Duration::from_secs(120);

/// Minutes of load of every kind, with every answer checked.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long the load lasts
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Begins the callers' choices; a run cannot be repeated exactly, since time has its part
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The server under test [default: cache-server beside this binary]
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

fn main() -> ExitCode {
    match soak(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("soak: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn soak(arguments: &Arguments) -> anyhow::Result<bool> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(conduct(arguments))
}

async fn conduct(arguments: &Arguments) -> anyhow::Result<bool> {
    let binary = match &arguments.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("cache-server"),
    };
    ensure!(binary.exists(), "{} is missing: run `make soak`, which builds it", binary.display());
    let asked = Arc::new(Asked::default());
    let upstream = upstream::start(Arc::clone(&asked)).await.context("no upstream")?;
    let mut server = Server::start(&binary, upstream).await?;
    let begun = Instant::now();
    let before = Sample::of(&mut server, begun).await?;
    let ran = run(arguments, &mut server, &asked, &before, begun).await;
    if ran.as_ref().map_or(true, |verdict| !verdict.is_kept()) {
        println!("the server's last words:\n{}", server.last_words());
    }
    let mut verdict = ran?;
    let stopped = server.stop().await;
    verdict.rule(stopped.is_ok(), &format!("the server stops cleanly: {stopped:?}"));
    print!("{}", verdict.table());
    Ok(verdict.is_kept())
}

/// Loads the server, lets it come to rest, and judges.
async fn run(
    arguments: &Arguments,
    server: &mut Server,
    asked: &Arc<Asked>,
    before: &Sample,
    begun: Instant,
) -> anyhow::Result<Verdict> {
    let stage = Arc::new(Stage::new(server.address, Arc::clone(asked))?);
    let tally = Arc::new(Tally::default());
    let end = begun + Duration::from_secs(60 * arguments.minutes);
    let mut callers = load(arguments.seed, &stage, &tally, end);
    let samples = watch::until(end, begun, server, &tally).await?;
    // Each has a deadline of its own for the turn that it is in.
    while let Some(ended) = callers.join_next().await {
        ended.context("a caller panicked")?;
    }
    let (storms, calls) = (&stage.storms, &stage.storm_calls);
    let (storms, calls) = (storms.load(Ordering::Relaxed), calls.load(Ordering::Relaxed));
    // Its connections are closed with it.
    drop(stage);
    let (after, left) = rest(server, before, begun).await?;
    println!("\n{}\n{}", tally.table(), memory_table(&samples));

    let mut verdict = Verdict::default();
    let (turns, unexpected) = tally.totals();
    verdict.rule(unexpected == 0, &format!("{unexpected} of {turns} turns ended unexpectedly"));
    verdict.storms(storms, calls);
    let smuggled = asked.smuggled.load(Ordering::Relaxed);
    verdict.rule(smuggled == 0, &format!("{smuggled} requests were smuggled upstream"));
    verdict.memory(&samples);
    verdict.rule(left.is_empty(), &format!("the server came to rest; left: {left:?}"));
    verdict.rule(server.panics() == 0, &format!("the server panicked {} times", server.panics()));
    verdict.happened(&after, &tally.idle());
    let calls = asked.calls.load(Ordering::Relaxed);
    println!("upstream calls: {calls}; descriptors: {} before", before.descriptors);
    println!("after the load: {} descriptors, {:.1} MiB\n", after.descriptors, after.rss_mib());
    Ok(verdict)
}

/// Sets every caller of every kind to work.
fn load(seed: u64, stage: &Arc<Stage>, tally: &Arc<Tally>, end: Instant) -> JoinSet<()> {
    let mut rng = Rng::with_seed(seed);
    let mut callers = JoinSet::new();
    for kind in Kind::ALL {
        for _ in 0..kind.callers() {
            let (stage, tally, rng) = (Arc::clone(stage), Arc::clone(tally), rng.fork());
            callers.spawn(async move { kind.drive(&stage, &tally, rng, end).await });
        }
    }
    callers
}

/// Waits until the server holds no more than before the load; what it still holds at the end.
async fn rest(
    server: &mut Server,
    before: &Sample,
    begun: Instant,
) -> anyhow::Result<(Sample, Vec<String>)> {
    let deadline = Instant::now() + REST;
    loop {
        let now = Sample::of(server, begun).await?;
        let left = unrest(before, &now);
        if left.is_empty() || Instant::now() > deadline {
            return Ok((now, left));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn memory_table(samples: &[Sample]) -> String {
    let quarters =
        quarters(samples).map(|median| median.map_or("-".into(), |mib| format!("{mib:.1}")));
    let most = samples.iter().map(|sample| sample.descriptors).max().unwrap_or(0);
    format!("median RSS by quarter, MiB: {}; most descriptors: {most}", quarters.join(", "))
}
