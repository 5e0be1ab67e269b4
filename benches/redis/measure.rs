//! What is measured, and how much of it.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use crate::shared::cores::{self, Cores};
use crate::shared::machine;
use crate::shared::report::{Report, Section};
use crate::stage::Stage;
use crate::{get, memory, second, stopped};

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// A read through the tier, beside redis-benchmark
    Get,
    /// What callers notice when Redis stops
    Stopped,
    /// What a second server is spared
    Second,
    /// What entries take in Redis; only if named
    Memory,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    is_quick: bool,
    rounds: u16,
    /// Rounds of those that take long.
    long_rounds: u16,
    get_ms: u64,
    /// How long Redis is stopped, and watched before and after.
    stopped_ms: u64,
}

impl Extent {
    /// The whole, or a smoke run.
    pub(crate) fn of(quick: bool, rounds: Option<u16>) -> Extent {
        let (usual, long, get_ms, stopped_ms) =
            if quick { (2, 1, 200, 2000) } else { (5, 3, 1000, 5000) };
        Extent {
            is_quick: quick,
            rounds: rounds.unwrap_or(usual),
            long_rounds: rounds.unwrap_or(long),
            get_ms,
            stopped_ms,
        }
    }
}

/// Measures everything but memory, or these subjects alone.
pub(crate) async fn all(
    extent: Extent,
    only: &[Subject],
    server: Option<&Path>,
) -> anyhow::Result<Report> {
    let cores = cores::choose()?;
    let mut stage = Stage::set(server, cores).await?;
    let mut report =
        Report { how: how(extent, cores), about: machine::facts(), sections: Vec::new() };
    for subject in Subject::value_variants() {
        let is_usual = only.is_empty() && *subject != Subject::Memory;
        if !is_usual && !only.contains(subject) {
            continue;
        }
        eprintln!("measuring {subject:?} …");
        let sections = measure(*subject, &mut stage, extent).await;
        report.sections.extend(sections.with_context(|| format!("while measuring {subject:?}"))?);
    }
    Ok(report)
}

async fn measure(
    subject: Subject,
    stage: &mut Stage,
    extent: Extent,
) -> anyhow::Result<Vec<Section>> {
    Ok(match subject {
        Subject::Get => vec![get::measure(stage.cores, extent.rounds, extent.get_ms).await?],
        Subject::Stopped => stopped::measure(stage, extent.long_rounds, extent.stopped_ms).await?,
        Subject::Second => vec![second::measure(stage, extent.long_rounds).await?],
        Subject::Memory => vec![memory::measure(stage.cores, extent.is_quick).await?],
    })
}

fn how(extent: Extent, cores: Cores) -> Vec<String> {
    let Extent { rounds, long_rounds, get_ms, .. } = extent;
    let mut how = vec![
        format!(
            "Loopback without TLS; a Redis that keeps nothing on disk. {rounds} rounds of {get_ms} ms \
             for reads, contenders alternating, {long_rounds} rounds of what takes long. Every answer \
             was checked: reads of the tier by key, length and both ends (the tier itself checks \
             the whole), redis-benchmark by what Redis says it found and sent, HTTP by status, Cache-Status and body."
        ),
        cores.describe(),
        "Figures are medians over the rounds, and the largest of all rounds where they are called \
         most or latest; ratios are taken within a round. A spread is (largest − smallest) / median over the rounds: where it is large, \
         the machine was not quiet. Only ratios and differences carry over to other machines."
            .into(),
    ];
    if cores.load.is_some() {
        how.push(
            "On both cores a process of the lowest priority spun, so that neither core slept: to \
             wake one takes longer than a read."
                .into(),
        );
    }
    if cfg!(debug_assertions) {
        how.push(
            "BUILT WITHOUT OPTIMISATION: the figures mean nothing; run `make bench-redis`.".into(),
        );
    }
    how
}
