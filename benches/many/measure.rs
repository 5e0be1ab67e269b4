//! What is measured, and how much of it.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use crate::shared::cores::{self, Cores};
use crate::shared::machine;
use crate::shared::report::{Report, Section};
use crate::stage::Stage;
use crate::{balance, purge, restart, storm};

/// How long the upstream thinks.
pub(crate) const UPSTREAM_MS: u64 = 400;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// A thousand callers of four servers at once on a cold key
    Storm,
    /// How soon a purge is in force on all servers
    Purge,
    /// A rolling restart under load
    Restart,
    /// Ways of balancing, by nginx
    Balance,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    is_quick: bool,
    rounds: u16,
}

impl Extent {
    /// The whole, or a smoke run.
    pub(crate) fn of(quick: bool, rounds: Option<u16>) -> Extent {
        Extent { is_quick: quick, rounds: rounds.unwrap_or(if quick { 1 } else { 3 }) }
    }
}

/// Measures everything, or these subjects alone.
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
    let Extent { is_quick, rounds } = extent;
    Ok(match subject {
        Subject::Storm => vec![storm::measure(stage, rounds, is_quick).await?],
        Subject::Purge => vec![purge::measure(stage, rounds, is_quick).await?],
        Subject::Restart => vec![restart::measure(stage, rounds, is_quick).await?],
        Subject::Balance => balance::measure(stage, rounds, is_quick).await?,
    })
}

fn how(extent: Extent, cores: Cores) -> Vec<String> {
    let mut how = vec![
        format!(
            "HTTP/1.1 on loopback without TLS; chat completions of 2 KB with a credential by POST, or \
             pages by GET; answers of 2.8 KB; a Redis that keeps nothing on disk, new for each row. \
             {} rounds, contenders alternating. Every answer was checked: status, who gave it, body.",
            extent.rounds
        ),
        pinned(cores),
        "Figures are medians over the rounds, and the largest of all rounds where they are called \
         most, worst or max; × and differences are taken within a round, against the first row. \
         Only ratios and differences carry over to other machines."
            .into(),
    ];
    if cfg!(debug_assertions) {
        how.push(
            "BUILT WITHOUT OPTIMISATION: the figures mean nothing; run `make bench-many`.".into(),
        );
    }
    how
}

fn pinned(cores: Cores) -> String {
    match (cores.servers, cores.load) {
        (Some(servers), Some(load)) => format!(
            "All servers of a row, their Redis, nginx and the upstream were pinned to core {servers}, \
             the load to core {load}: what they do at the same moment, they do one after the other."
        ),
        _ => cores.describe(),
    }
}
