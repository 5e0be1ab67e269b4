//! What is measured, and what is said about it.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use crate::chart::Group;
use crate::products::{self, Varnish};
use crate::shared::cores;
use crate::shared::exchange::QUESTION_BYTES;
use crate::shared::machine;
use crate::shared::process;
use crate::shared::report::{Report, Section};
use crate::stage::Stage;
use crate::{calls, crowd, hits};

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Memory hits by connections
    Hits,
    /// Memory hits by the size of answers
    Sizes,
    /// Memory hits by HTTP/2
    Http2,
    /// Disk hits
    Disk,
    /// What is never reused
    Passed,
    /// New prompts that are stored
    Misses,
    /// The first byte of a stream
    Streams,
    /// A thousand callers on one cold key
    Storm,
    /// Stored prompts and new ones
    Mixed,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) rounds: u16,
    /// How long a contender's turn takes.
    pub(crate) millis: u64,
}

impl Extent {
    /// The whole, or a smoke run.
    pub(crate) fn of(quick: bool, rounds: Option<u16>) -> Extent {
        let (usual, millis) = if quick { (2, 400) } else { (5, 2000) };
        Extent { rounds: rounds.unwrap_or(usual), millis }
    }
}

/// What a subject gave.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) sections: Vec<Section>,
    /// What the chart shows of it.
    pub(crate) groups: Vec<Group>,
}

impl Found {
    /// One more table.
    pub(crate) fn add(&mut self, other: Found) {
        self.sections.extend(other.sections);
        self.groups.extend(other.groups);
    }
}

/// All that was measured.
#[derive(Debug)]
pub(crate) struct All {
    pub(crate) report: Report,
    /// What the chart shows of it.
    pub(crate) groups: Vec<Group>,
}

/// Measures everything, or these subjects alone.
pub(crate) async fn all(
    extent: Extent,
    only: &[Subject],
    server: Option<&Path>,
) -> anyhow::Result<All> {
    let binary = process::binary(server, "bench-peers")?;
    let mut how = how(extent)?;
    let mut found = Found::default();
    for subject in Subject::value_variants() {
        if !only.is_empty() && !only.contains(subject) {
            continue;
        }
        eprintln!("measuring {subject:?} …");
        let stage = Stage::set(&binary).await?;
        let missing = missing(&stage);
        if !how.ends_with(&missing) {
            how.extend(missing);
        }
        let one = measure(*subject, &stage, extent).await;
        found.add(one.with_context(|| format!("while measuring {subject:?}"))?);
        stage.clear().await?;
    }
    let mut about = machine::facts();
    for (name, program, argument) in [("nginx", "nginx", "-v"), ("Varnish", "varnishd", "-V")] {
        about.insert(name, products::version(program, argument).await.unwrap_or("none".into()));
    }
    let Found { sections, groups } = found;
    Ok(All { report: Report { how, about, sections }, groups })
}

async fn measure(subject: Subject, stage: &Stage, extent: Extent) -> anyhow::Result<Found> {
    match subject {
        Subject::Hits => hits::memory(stage, extent).await,
        Subject::Sizes => hits::sizes(stage, extent).await,
        Subject::Http2 => hits::http2(stage, extent).await,
        Subject::Disk => hits::disk(stage, extent).await,
        Subject::Passed => calls::passed(stage, extent).await,
        Subject::Misses => calls::misses(stage, extent).await,
        Subject::Streams => calls::streams(stage, extent).await,
        Subject::Storm => crowd::storm(stage, extent).await,
        Subject::Mixed => crowd::mixed(stage, extent).await,
    }
}

/// Who takes no part, and what would change it.
fn missing(stage: &Stage) -> Vec<String> {
    let nginx = stage.nginx.is_none().then_some(
        "nginx IS NOT INSTALLED, and its rows are empty. `make peers` says how to install it.",
    );
    let varnish = match stage.varnish {
        Varnish::Runs(_) => None,
        Varnish::NotInstalled => Some(
            "Varnish IS NOT INSTALLED, and its rows are empty. `make peers` says how to install it.",
        ),
        Varnish::WithoutModule => Some(
            "Varnish HAS NO MODULE bodyaccess, by which bodies are in the key, and its rows are \
             empty. `make peers` says how to install it.",
        ),
    };
    [nginx, varnish].into_iter().flatten().map(str::to_owned).collect()
}

fn how(extent: Extent) -> anyhow::Result<Vec<String>> {
    let Extent { rounds, millis } = extent;
    let cores = cores::choose()?;
    let mut how = vec![
        format!(
            "Chat completions by POST on loopback: {QUESTION_BYTES} bytes asked with a credential. \
             {rounds} rounds of {millis} ms for each contender, in turns. Every answer was checked: \
             status, Cache-Status (which the peers are set up to say) and body."
        ),
        cores.describe(),
        "The cache has its defaults. nginx: proxy_cache of POST, keyed by \
         \"$request_uri$request_body\", its files in memory (tmpfs) where nothing else is said. Varnish: bodies read by std.cache_req_body and hashed by the \
         module bodyaccess. Each has one core and as many workers or threads as that is good for."
            .into(),
        "Figures are medians over the rounds, calls and max the largest; ratios and differences are \
         taken within a round. Server µs/request is processor time, of all processes of a server. A \
         spread is (largest − smallest) / median over the rounds: where it is large, the machine was \
         not quiet. Where the load is busy near 1 it holds the faster servers back, and their ratios \
         are smaller than the servers': server µs/request then tells more. Only ratios carry over to \
         other machines."
            .into(),
        "The shared tier is measured beside redis-benchmark by `make bench-redis`.".into(),
    ];
    if cores.load.is_some() {
        how.push(
            "The load spun instead of sleeping, so that no server paid for waking it; not in the \
             storm."
                .into(),
        );
    }
    if let Some(paced) = machine::congestion_control().filter(|name| name.starts_with("bbr")) {
        how.push(format!(
            "TCP is PACED on this system ({paced}): where large answers wait for it and not for a \
             server, rows are alike or jump; server µs/request then tells more. To be without it: \
             sysctl net.ipv4.tcp_congestion_control=cubic."
        ));
    }
    if cfg!(debug_assertions) {
        how.push(
            "BUILT WITHOUT OPTIMISATION: the figures mean nothing; run `make bench-peers`.".into(),
        );
    }
    Ok(how)
}
