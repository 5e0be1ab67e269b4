//! What is measured, and which figures of it are shown.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use crate::ask::{Asked, Form, Kind, LIFETIME};
use crate::calls::early;
use crate::load::{Job, Source, Target};
use crate::rounds::{self, Contender, Measured};
use crate::said;
use crate::shared::machine;
use crate::shared::process::{self, Server};
use crate::shared::report::{Column, Report, Section};
use crate::shared::rounds::Figure;
use crate::shared::spread::count;
use crate::stage::Stage;
use crate::{expiry, storm, stream};

/// Callers of a storm, and how long its upstream thinks.
const STORM_CALLERS: usize = 1000;
const STORM_DELAYS_MS: [u64; 2] = [400, 700];
/// Callers of a stream.
const STREAM_CALLERS: usize = 200;
/// Keys that expire, the connections that ask for them, how often, and how long the upstream
/// thinks.
const EXPIRY_KEYS: usize = 1000;
const EXPIRY_CALLERS: u32 = 500;
const EXPIRY_PER_SECOND: u32 = 2000;
const EXPIRY_DELAY_MS: u64 = 200;
/// A refresh may come so much of a lifetime after the one before, and no sooner: it is counted
/// from when the cache asks, and called when the upstream reads.
const SOONEST: f64 = 0.9;

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// A thousand callers at once on a cold key
    Storm,
    /// Callers who join a stream while it is being said
    Stream,
    /// Hot keys that expire under load
    Expiry,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    rounds: u16,
    expiry_rounds: u16,
    lifetimes: u16,
}

impl Extent {
    /// The whole, or a smoke run.
    pub(crate) fn of(quick: bool, rounds: Option<u16>) -> Extent {
        let (usual, expiry_rounds, lifetimes) = if quick { (2, 1, 2) } else { (5, 3, 4) };
        Extent {
            rounds: rounds.unwrap_or(usual),
            expiry_rounds: rounds.unwrap_or(expiry_rounds),
            lifetimes,
        }
    }
}

/// Measures everything, or these subjects alone.
pub(crate) async fn all(
    extent: Extent,
    only: &[Subject],
    server: Option<&Path>,
) -> anyhow::Result<Report> {
    let mut stage = Stage::set(server).await?;
    let mut report =
        Report { how: how(&stage, extent), about: machine::facts(), sections: Vec::new() };
    for subject in Subject::value_variants() {
        if !only.is_empty() && !only.contains(subject) {
            continue;
        }
        eprintln!("measuring {subject:?} …");
        for kind in [Kind::Chat, Kind::Page] {
            let sections = match subject {
                Subject::Storm => storms(&mut stage, extent, kind).await,
                Subject::Stream => streams(&mut stage, extent, kind).await,
                Subject::Expiry => expiries(&mut stage, extent, kind).await,
            };
            let sections = sections.with_context(|| format!("while measuring {subject:?}"))?;
            report.sections.extend(sections);
        }
    }
    stage.clear().await?;
    Ok(report)
}

fn how(stage: &Stage, extent: Extent) -> Vec<String> {
    let Extent { rounds, expiry_rounds, lifetimes } = extent;
    let mut how = vec![
        format!(
            "HTTP/1.1 on loopback; chat completions of 2 KB with a credential by POST, or pages by \
             GET; answers of 2.8 KB. {rounds} rounds ({expiry_rounds} of expiry, of {lifetimes} \
             lifetimes each), contenders alternating. Every answer was checked: status, who gave \
             it, body."
        ),
        stage.cores.describe(),
        "Figures are medians over the rounds, and the largest of all rounds where they are called \
         most or max; × and differences are taken within a round, against the first row. Server ms \
         is processor time, in steps of 10 ms; held up is the time in which the server could have \
         run while others had its core: where it is large, the machine was not quiet. Only ratios and differences carry over to other \
         machines."
            .into(),
    ];
    if cfg!(debug_assertions) {
        how.push(
            "BUILT WITHOUT OPTIMISATION: the figures mean nothing; run `make bench-flights`."
                .into(),
        );
    }
    how
}

fn upstream(stage: &Stage) -> Option<&Server> {
    Some(&stage.upstream)
}

fn cache(stage: &Stage) -> Option<&Server> {
    Some(&stage.cache)
}

fn brief(stage: &Stage) -> Option<&Server> {
    Some(&stage.brief)
}

fn nginx(stage: &Stage) -> Option<&Server> {
    stage.nginx.as_ref()
}

fn varnish(stage: &Stage) -> Option<&Server> {
    stage.varnish.as_ref()
}

/// The upstream itself, the cache, and of pages the peers, too: they key by URL.
fn in_front_of(asked: Asked) -> Vec<Contender> {
    let contender = |name, server, source| Contender { name, server, asked, source };
    let mut contenders = vec![
        contender("direct to the upstream", upstream, Source::Upstream),
        contender("cache-server", cache, Source::Cache),
    ];
    if asked.kind == Kind::Page {
        contenders.push(contender("nginx", nginx, Source::Peer));
        contenders.push(contender("Varnish", varnish, Source::Peer));
    }
    contenders
}

fn named(kind: Kind) -> &'static str {
    match kind {
        Kind::Chat => "chat completions by POST",
        Kind::Page => "pages by GET",
    }
}

fn shown(contenders: &[Contender], stage: &Stage) -> Vec<String> {
    contenders.iter().map(|contender| contender.shown(stage)).collect()
}

/// Many callers at once on one cold key.
async fn storms(stage: &mut Stage, extent: Extent, kind: Kind) -> anyhow::Result<Vec<Section>> {
    let mut sections = Vec::new();
    for delay_ms in STORM_DELAYS_MS {
        let contenders = in_front_of(Asked { kind, form: Form::Whole, delay_ms });
        let load = async |target, stage: &Stage| {
            let job = Job::Storm(storm::Job { target, callers: STORM_CALLERS });
            process::run_load(&job, job.duration(), stage.cores.load).await
        };
        let rounds = rounds::run(stage, &contenders, extent.rounds, load).await?;
        let mean: Figure<Measured<storm::Outcome>> =
            |measured| Some(measured.outcome.whole.mean / 1e3);
        let columns: [Column<Measured<storm::Outcome>>; 11] = [
            Column::largest("most calls", 0, |measured| Some(count(measured.calls.len()))),
            Column::median("mean ms", 1, mean),
            Column::difference("− direct ms", 1, mean),
            Column::spread(mean),
            Column::median("p50 ms", 1, |measured| Some(measured.outcome.whole.median / 1e3)),
            Column::median("p99 ms", 1, |measured| Some(measured.outcome.whole.p99 / 1e3)),
            Column::largest("max ms", 1, |measured| Some(measured.outcome.whole.max / 1e3)),
            Column::median("asked within ms", 1, |measured| Some(measured.outcome.moment_us / 1e3)),
            Column::median("server ms", 0, |measured| Some(measured.server?.busy_ms)),
            Column::median("held up ms", 0, |measured| Some(measured.server?.held_up_ms)),
            Column::largest("most held up ms", 0, |measured| Some(measured.server?.held_up_ms)),
        ];
        let title = format!(
            "Storm of {}: {STORM_CALLERS} callers ask the same at once, the upstream takes \
             {delay_ms} ms. Wanted: 1 call, mean − direct ≤ 15 ms.",
            named(kind)
        );
        sections.push(Section::new(title, shown(&contenders, stage), &rounds, &columns));
    }
    Ok(sections)
}

/// Callers who join a stream while it is being said.
async fn streams(stage: &mut Stage, extent: Extent, kind: Kind) -> anyhow::Result<Vec<Section>> {
    let contenders = in_front_of(Asked { kind, form: Form::Stream, delay_ms: 0 });
    let load = async |target, stage: &Stage| {
        let job = Job::Stream(stream::Job { target, callers: STREAM_CALLERS });
        process::run_load(&job, job.duration(), stage.cores.load).await
    };
    let rounds = rounds::run(stage, &contenders, extent.rounds, load).await?;
    let late: Figure<Measured<stream::Outcome>> =
        |measured| Some(measured.outcome.late?.median / 1e3);
    let columns: [Column<Measured<stream::Outcome>>; 11] = [
        Column::largest("most streams", 0, |measured| Some(count(measured.calls.len()))),
        Column::largest("most bodies", 0, |measured| Some(measured.outcome.bodies)),
        Column::median("joined midway", 0, |measured| Some(measured.outcome.joined_midway)),
        Column::median("first byte p50 ms", 1, |m| Some(m.outcome.first_byte.median / 1e3)),
        Column::median("catch-up p50 ms", 1, |m| Some(m.outcome.caught_up?.median / 1e3)),
        Column::median("p99 ms", 1, |m| Some(m.outcome.caught_up?.p99 / 1e3)),
        Column::largest("max ms", 1, |m| Some(m.outcome.caught_up?.max / 1e3)),
        Column::median("late p50 ms", 2, late),
        Column::difference("− direct ms", 2, late),
        Column::median("p99 ms late", 2, |measured| Some(measured.outcome.late?.p99 / 1e3)),
        Column::largest("max ms late", 1, |measured| Some(measured.outcome.late?.max / 1e3)),
    ];
    let title = format!(
        "Stream, {}: {} events over {} ms; {STREAM_CALLERS} callers, the first begins it, the \
         others join at random moments. Catch-up is from asking until all was there that had been \
         said before; late is how long after it was said each later event came. Wanted: 1 stream, \
         1 body, catch-up ≤ 25 ms. Asked directly, everyone begins a stream.",
        named(kind),
        said::EVENTS,
        said::LASTS.as_millis(),
    );
    Ok(vec![Section::new(title, shown(&contenders, stage), &rounds, &columns)])
}

/// Hot keys that expire under load, beside the same keys when they do not.
async fn expiries(stage: &mut Stage, extent: Extent, kind: Kind) -> anyhow::Result<Vec<Section>> {
    let lifetimes = extent.lifetimes;
    let load = async |target, stage: &Stage| {
        let job = Job::Expiry(expiry_job(target, lifetimes)?);
        process::run_load(&job, job.duration(), stage.cores.load).await
    };
    let contenders = expiring(kind);
    let rounds = rounds::run(stage, &contenders, extent.expiry_rounds, load).await?;
    let p99: Figure<Measured<expiry::Outcome>> = |measured| Some(measured.outcome.whole.p99);
    let columns: [Column<Measured<expiry::Outcome>>; 13] = [
        Column::median("requests/s", 0, |measured| Some(measured.outcome.per_second)),
        Column::largest("most waited", 0, |measured| Some(measured.outcome.waited)),
        Column::largest("most fetched", 0, |measured| measured.outcome.fetched),
        Column::largest("calls/key/lifetime", 2, |measured| {
            let fill = count(EXPIRY_KEYS);
            Some((count(measured.calls.len()) - fill) / fill / measured.outcome.lifetimes)
        }),
        Column::largest("most early", 0, |measured| {
            Some(count(early(&measured.calls, LIFETIME.mul_f64(SOONEST))))
        }),
        Column::median("p50 µs", 0, |measured| Some(measured.outcome.whole.median)),
        Column::median("p99 µs", 0, p99),
        Column::ratio("× without", p99),
        Column::largest("max ms", 1, |measured| Some(measured.outcome.whole.max / 1e3)),
        Column::median("load late p99 µs", 0, |measured| Some(measured.outcome.late.p99)),
        Column::median("server ms", 0, |measured| Some(measured.server?.busy_ms)),
        Column::median("held up ms", 0, |measured| Some(measured.server?.held_up_ms)),
        Column::largest("most held up ms", 0, |measured| Some(measured.server?.held_up_ms)),
    ];
    let title = format!(
        "Expiry, {}: {EXPIRY_KEYS} keys that are fresh for {} s, {EXPIRY_PER_SECOND} requests a \
         second over {lifetimes} lifetimes, after a fill; the upstream takes {EXPIRY_DELAY_MS} ms. \
         Fetched is what was no hit by Cache-Status; early is a call for a key less than {SOONEST} \
         lifetimes after the one before. Wanted: nobody waited \
         (100 ms or more), of each key at most one call in a lifetime, none early.",
        named(kind),
        LIFETIME.as_secs(),
    );
    Ok(vec![Section::new(title, shown(&contenders, stage), &rounds, &columns)])
}

fn expiring(kind: Kind) -> Vec<Contender> {
    let asked = |form| Asked { kind, form, delay_ms: EXPIRY_DELAY_MS };
    let contender =
        |name, server, form, source| Contender { name, server, asked: asked(form), source };
    let mut contenders = vec![
        contender("cache-server, nothing expires", cache, Form::Whole, Source::Cache),
        contender("cache-server", brief, Form::Brief, Source::Cache),
    ];
    if kind == Kind::Page {
        contenders.push(contender("nginx", nginx, Form::Brief, Source::Peer));
        contenders.push(contender("Varnish", varnish, Form::Brief, Source::Peer));
    }
    contenders
}

fn expiry_job(target: Target, lifetimes: u16) -> anyhow::Result<expiry::Job> {
    let millis = u64::try_from((LIFETIME * u32::from(lifetimes)).as_millis())?;
    let keys = u64::try_from(EXPIRY_KEYS)?;
    let (callers, per_second) = (EXPIRY_CALLERS, EXPIRY_PER_SECOND);
    Ok(expiry::Job { target, callers, keys, per_second, millis })
}
