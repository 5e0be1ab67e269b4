//! What is measured, and which figures of it are shown.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;

use crate::load::job::{Expected, Until};
use crate::rounds::{self, Contender, Measured, Prompts};
use crate::shared::exchange::{ANSWER_BYTES, QUESTION_BYTES, Question};
use crate::shared::machine;
use crate::shared::process::Server;
use crate::shared::report::{Column, Report, Section};
use crate::shared::rounds::{Figure, Rounds};
use crate::stage::{REUSED, REUSED_STREAM, STORED, STORED_STREAMS, Stage};

/// Connections of the throughput measurement.
const CONNECTIONS: u64 = 64;
/// Callers of the storm, and how long its upstream thinks.
const STORM_CALLERS: u64 = 200;
const STORM_DELAY_MS: u64 = 400;
/// A question that is never answered from the cache, and otherwise the same.
const PASSED: Question = Question { reusable: false, ..REUSED };
const PASSED_STREAM: Question = Question { stream: true, ..PASSED };
const STORM: Question = Question { delay_ms: STORM_DELAY_MS, ..REUSED };

/// What can be measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Subject {
    /// Hits a second from memory, against the floor
    Hits,
    /// The time of a call, against the upstream itself
    Calls,
    /// The first byte of a stream
    Streams,
    /// Many callers on one cold key
    Storm,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    rounds: u16,
    throughput_ms: u64,
    latency_ms: u64,
}

impl Extent {
    /// The whole, or a smoke run.
    pub(crate) fn of(quick: bool, rounds: Option<u16>) -> Extent {
        let (usual, throughput_ms, latency_ms) =
            if quick { (2, 400, 250) } else { (5, 2000, 1000) };
        Extent { rounds: rounds.unwrap_or(usual), throughput_ms, latency_ms }
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
        let section = match subject {
            Subject::Hits => hits(&mut stage, extent).await,
            Subject::Calls => calls(&mut stage, extent).await,
            Subject::Streams => streams(&mut stage, extent).await,
            Subject::Storm => storm(&mut stage, extent).await,
        };
        report.sections.push(section.with_context(|| format!("while measuring {subject:?}"))?);
    }
    Ok(report)
}

fn how(stage: &Stage, extent: Extent) -> Vec<String> {
    let Extent { rounds, throughput_ms, latency_ms } = extent;
    let mut how = vec![
        format!(
            "Chat completions over keep-alive HTTP/1.1 on loopback: {QUESTION_BYTES} bytes asked \
             with a credential, {ANSWER_BYTES} answered. {rounds} rounds of {throughput_ms} ms for \
             hits and {latency_ms} ms for the rest, contenders alternating. Every answer was \
             checked: status, Cache-Status and body."
        ),
        stage.cores.describe(),
        "Figures are medians over the rounds, upstream calls the most of a round; × and differences are taken within a round, against \
         the first row. A spread is (largest − smallest) / median over the rounds: where it is \
         large, the machine was not quiet. Only ratios carry over to other machines."
            .into(),
    ];
    if stage.cores.load.is_some() {
        how.push("The load spun instead of sleeping, so that no server paid for waking it.".into());
    }
    if cfg!(debug_assertions) {
        how.push("BUILT WITHOUT OPTIMISATION: the figures mean nothing; run `make bench`.".into());
    }
    how
}

fn floor(stage: &Stage) -> &Server {
    &stage.floor
}

fn upstream(stage: &Stage) -> &Server {
    &stage.upstream
}

fn cache(stage: &Stage) -> &Server {
    &stage.cache
}

fn disk(stage: &Stage) -> &Server {
    &stage.disk
}

/// Hits a second from memory, against the floor.
async fn hits(stage: &mut Stage, extent: Extent) -> anyhow::Result<Section> {
    let stored = Prompts::These(STORED);
    let contender = |name, server, expected| Contender {
        name,
        server,
        question: REUSED,
        prompts: stored,
        expected,
    };
    let contenders = [
        contender("floor: bare hyper", floor, Expected::Direct),
        contender("memory hit", cache, Expected::Memory),
    ];
    let until = Until::Elapsed { millis: extent.throughput_ms };
    let rounds = rounds::run(stage, &contenders, extent.rounds, CONNECTIONS, until).await?;
    let per_second: Figure<Measured> = |measured| Some(measured.outcome.per_second);
    let server_us: Figure<Measured> = |measured| measured.server_us;
    let columns = vec![
        Column::median("requests/s", 0, per_second),
        Column::ratio("of the floor", per_second),
        Column::spread(per_second),
        Column::median("median µs", 0, |measured| Some(measured.outcome.whole.median)),
        Column::median("p99 µs", 0, |measured| Some(measured.outcome.whole.p99)),
        Column::median("server µs/request", 2, server_us),
        Column::ratio("× floor", server_us),
        Column::median("load busy", 2, |measured| Some(measured.outcome.busy)),
    ];
    let title = format!(
        "Hits under load: {CONNECTIONS} connections, {} prompts. Server µs/request is processor \
         time. Where the load is busy near 1, it holds the floor back and flatters its ratio.",
        STORED.count
    );
    Ok(section(title, &contenders, &rounds, &columns))
}

fn contender(
    name: &'static str,
    server: fn(&Stage) -> &Server,
    question: Question,
    prompts: Prompts,
    expected: Expected,
) -> Contender {
    Contender { name, server, question, prompts, expected }
}

/// The time of a call, against the upstream itself.
async fn calls(stage: &mut Stage, extent: Extent) -> anyhow::Result<Section> {
    let stored = Prompts::These(STORED);
    let contenders = [
        contender("direct to the upstream", upstream, REUSED, stored, Expected::Direct),
        contender("passed through", cache, PASSED, stored, Expected::Bypass),
        contender("miss", cache, REUSED, Prompts::New, Expected::Miss),
        contender("memory hit", cache, REUSED, stored, Expected::Memory),
        contender("disk hit, page cache warm", disk, REUSED, stored, Expected::Disk),
    ];
    let until = Until::Elapsed { millis: extent.latency_ms };
    let rounds = rounds::run(stage, &contenders, extent.rounds, 1, until).await?;
    let whole: Figure<Measured> = |measured| Some(measured.outcome.whole.median);
    let columns = vec![
        Column::median("median µs", 1, whole),
        Column::ratio("× direct", whole),
        Column::difference("− direct µs", 1, whole),
        Column::spread(whole),
        Column::median("p99 µs", 1, |measured| Some(measured.outcome.whole.p99)),
        Column::median("server µs/request", 1, |measured| measured.server_us),
    ];
    let title = "One caller in a closed loop, the upstream answering at once.".into();
    Ok(section(title, &contenders, &rounds, &columns))
}

/// The first byte of a stream.
async fn streams(stage: &mut Stage, extent: Extent) -> anyhow::Result<Section> {
    let stored = Prompts::These(STORED_STREAMS);
    let contenders = [
        contender("direct to the upstream", upstream, REUSED_STREAM, stored, Expected::Direct),
        contender("passed through", cache, PASSED_STREAM, stored, Expected::Bypass),
        contender("miss", cache, REUSED_STREAM, Prompts::New, Expected::Miss),
        contender("memory hit", cache, REUSED_STREAM, stored, Expected::Memory),
    ];
    let until = Until::Elapsed { millis: extent.latency_ms };
    let rounds = rounds::run(stage, &contenders, extent.rounds, 1, until).await?;
    let first: Figure<Measured> = |measured| Some(measured.outcome.first_byte.median);
    let columns = vec![
        Column::median("first byte µs", 1, first),
        Column::ratio("× direct", first),
        Column::difference("− direct µs", 1, first),
        Column::spread(first),
        Column::median("p99 µs", 1, |measured| Some(measured.outcome.first_byte.p99)),
        Column::median("whole µs", 0, |measured| Some(measured.outcome.whole.median)),
    ];
    let title = "Streams, one caller: the upstream's first event comes at once, the others in \
                 steps of a millisecond or two."
        .into();
    Ok(section(title, &contenders, &rounds, &columns))
}

/// Many callers on one cold key.
async fn storm(stage: &mut Stage, extent: Extent) -> anyhow::Result<Section> {
    let contender = |name, server, expected| Contender {
        name,
        server,
        question: STORM,
        prompts: Prompts::OneNew,
        expected,
    };
    let contenders = [
        contender("direct to the upstream", upstream, Expected::Direct),
        contender("one cold key", cache, Expected::Miss),
    ];
    let until = Until::Asked { times: 1 };
    let rounds = rounds::run(stage, &contenders, extent.rounds, STORM_CALLERS, until).await?;
    let mean: Figure<Measured> = |measured| Some(measured.outcome.whole.mean / 1e3);
    let columns: Vec<Column<Measured>> = vec![
        Column::largest("upstream calls", 0, |measured| Some(measured.upstream_calls)),
        Column::median("mean ms", 1, mean),
        Column::difference("− direct ms", 1, mean),
        Column::spread(mean),
        Column::median("p99 ms", 1, |measured| Some(measured.outcome.whole.p99 / 1e3)),
    ];
    let title = format!(
        "Storm: {STORM_CALLERS} callers ask the same at once; the upstream takes {STORM_DELAY_MS} ms."
    );
    Ok(section(title, &contenders, &rounds, &columns))
}

fn section(
    title: String,
    contenders: &[Contender],
    rounds: &Rounds<Measured>,
    columns: &[Column<Measured>],
) -> Section {
    let names = contenders.iter().map(|contender| contender.name.to_owned());
    Section::new(title, names, rounds, columns)
}
