//! What is measured, and how much of it.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use crate::shared::machine;
use crate::shared::report::{Report, Section};
use crate::stage::Stage;
use crate::{churn, disk, memory};

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// What entries take in memory
    Memory,
    /// What they take on disk, and a restart with them
    #[value(alias = "restart")]
    Disk,
    /// How well the bound on memory holds
    Churn,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) is_quick: bool,
    /// Small entries.
    pub(crate) entries: u64,
    /// Restarts.
    pub(crate) rounds: u16,
}

impl Extent {
    /// The whole, or a smoke run.
    pub(crate) fn of(quick: bool, rounds: Option<u16>) -> Extent {
        let (entries, usual) = if quick { (50_000, 2) } else { (1_000_000, 5) };
        Extent { is_quick: quick, entries, rounds: rounds.unwrap_or(usual) }
    }
}

/// Measures everything, or these subjects alone.
pub(crate) async fn all(
    extent: Extent,
    only: &[Subject],
    server: Option<&Path>,
) -> anyhow::Result<Report> {
    let mut stage = Stage::set(server).await?;
    let mut report = Report { how: how(extent), about: machine::facts(), sections: Vec::new() };
    for subject in Subject::value_variants() {
        if !only.is_empty() && !only.contains(subject) {
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
        Subject::Memory => vec![memory::measure(stage, extent).await?],
        Subject::Disk => disk::measure(stage, extent).await?,
        Subject::Churn => vec![churn::measure(stage, extent).await?],
    })
}

/// The mean of so many that make this sum.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn mean(sum: u64, count: u64) -> f64 {
    sum as f64 / count as f64
}

fn how(extent: Extent) -> Vec<String> {
    let mut how = vec![format!(
        "Loopback without TLS, 64 connections, all defaults but for the bounds that are named and the \
         memo, which is off. Every answer was checked: status, Cache-Status, its number and its \
         length. One round, {} restarts. Bytes carry over to other machines, times do not.",
        extent.rounds
    )];
    if cfg!(debug_assertions) {
        how.push(
            "BUILT WITHOUT OPTIMISATION: the figures mean nothing; run `make bench-entries`."
                .into(),
        );
    }
    how
}
