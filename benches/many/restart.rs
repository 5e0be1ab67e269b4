//! The rolling restart: servers are stopped and started again one after the other, on the same ports
//! and data folders, while callers ask whichever of them takes their connections.

use std::time::Duration;

use anyhow::{Context, ensure};

use crate::cache::CacheServer;
use crate::clock::now_ns;
use crate::exchange::Kind;
use crate::load;
use crate::measure::UPSTREAM_MS;
use crate::shared::process;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::Rounds;
use crate::shared::spread::Spread;
use crate::stage::{self, Member, Stage};
use crate::traffic::{self, Drawn, End, Outcome, Sample, Shares};

/// Servers that are one cache.
const SERVERS: usize = 4;
/// Different questions that are asked again and again, and every how many are new: so 95 % are hits.
const KEYS: usize = 3000;
const NEW_EVERY: u64 = 20;
/// How often callers ask, and how many there are: those of new questions wait for the upstream.
const PER_SECOND: u32 = 500;
const CALLERS: usize = 64;
/// How long it is watched before and after; the first of it finds new connections, and does not count.
const AROUND: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_secs(1);
/// How long a server may take to be ready, and how often it is asked whether it is.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
/// The time over which the hit ratio is taken, and in how many steps that moves on by itself.
const WINDOW_NS: u64 = 1_000_000_000;
const STEPS: u64 = 10;

/// When what happened, on the clock of all processes.
#[derive(Clone, Debug)]
struct Marks {
    watched: u64,
    begun: u64,
    ended: u64,
    /// From SIGTERM to ready again, of each server.
    away: Vec<Duration>,
}

/// What a restart was like.
#[derive(Clone, Debug)]
struct Measured {
    before: Shares,
    during: Shares,
    lowest: f64,
    failed: f64,
    retries: f64,
    calls: f64,
    /// Upstream calls beyond those for new questions.
    calls_beyond: f64,
    p99_before_ms: f64,
    p99_during_ms: f64,
    lasted_s: f64,
    longest_away_ms: f64,
}

/// Measures rolling restarts of four servers.
pub(crate) async fn measure(
    stage: &mut Stage,
    rounds: u16,
    is_quick: bool,
) -> anyhow::Result<Section> {
    let around = if is_quick { AROUND / 2 } else { AROUND };
    let mut measured = Rounds::of(1);
    for _ in 0..rounds {
        measured.add(0, one(stage, around).await?);
    }
    Ok(Section::new(title(), [format!("{SERVERS} servers")], &measured, &columns()))
}

async fn one(stage: &mut Stage, around: Duration) -> anyhow::Result<Measured> {
    let redis = stage.redis().await?;
    let members = stage.members(SERVERS, &redis, &[])?;
    let mut servers = stage.start_all(&members).await?;
    let first = stage.new_numbers();
    let fill = fill(&servers, first);
    let filled: Outcome = load::Job::Traffic(fill).run(stage.cores.load).await?;
    ensure!(filled.failed() == 0.0, "what is to be asked again cannot be fetched");
    stage::all_written(&servers, KEYS).await?;

    let over = stage.new_folder();
    let job = traffic::Job {
        questions: Drawn {
            first,
            keys: KEYS,
            in_turn: false,
            new: Some((NEW_EVERY, stage.new_numbers())),
        },
        per_second: Some(PER_SECOND),
        delay_ms: UPSTREAM_MS,
        end: End::When(over.clone()),
        ..self::fill(&servers, first)
    };
    let calls = stage.upstream_calls().await?;
    let job = load::Job::Traffic(job);
    let load = job.run::<Outcome>(stage.cores.load);
    let restart = async {
        let marks = roll(stage, &members, &mut servers, around).await?;
        std::fs::write(&over, "").context("cannot tell callers to end")?;
        Ok(marks)
    };
    let (outcome, marks) = tokio::try_join!(load, restart)?;
    let calls = stage.upstream_calls().await? - calls;
    stage::stop_all(servers).await?;
    Ok(measured(&outcome, &marks, calls))
}

/// Every question once.
fn fill(servers: &[CacheServer], first: u64) -> traffic::Job {
    traffic::Job {
        servers: stage::addresses(servers),
        kind: Kind::Chat,
        callers: CALLERS,
        questions: Drawn { first, keys: KEYS, in_turn: true, new: None },
        per_second: None,
        delay_ms: 0,
        end: End::After(KEYS),
    }
}

/// Restarts one after the other, each when the one before is ready.
async fn roll(
    stage: &Stage,
    members: &[Member],
    servers: &mut Vec<CacheServer>,
    around: Duration,
) -> anyhow::Result<Marks> {
    tokio::time::sleep(WARM_UP).await;
    let watched = now_ns();
    tokio::time::sleep(around).await;
    let (begun, mut away) = (now_ns(), Vec::new());
    for member in members {
        let stopped = now_ns();
        // The one that is stopped is always the first, and comes back as the last.
        servers.remove(0).stop().await?;
        let server = stage.start(member).await?;
        is_ready(&server).await?;
        away.push(Duration::from_nanos(now_ns() - stopped));
        servers.push(server);
    }
    let ended = now_ns();
    tokio::time::sleep(around).await;
    Ok(Marks { watched, begun, ended, away })
}

async fn is_ready(server: &CacheServer) -> anyhow::Result<()> {
    let ready = async {
        while process::look_at(server.admin, "/readyz").await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.with_context(|| server.state())
}

fn measured(outcome: &Outcome, marks: &Marks, calls: f64) -> Measured {
    let between = |from: u64, to: u64| {
        outcome.samples.iter().filter(move |sample| (from..to).contains(&sample.at_ns))
    };
    let p99 = |from, to| {
        let took = between(from, to).map(|sample| Duration::from_nanos(sample.took_ns));
        Spread::of(took).map_or(f64::NAN, |spread| spread.p99 / 1e3)
    };
    let longest = marks.away.iter().max().copied().unwrap_or_default();
    Measured {
        before: Shares::of(between(marks.watched, marks.begun)),
        during: Shares::of(between(marks.begun, marks.ended)),
        lowest: lowest(&outcome.samples, marks.begun, marks.ended),
        failed: outcome.failed(),
        retries: outcome.retries,
        calls,
        calls_beyond: calls - outcome.of_new(),
        p99_before_ms: p99(marks.watched, marks.begun),
        p99_during_ms: p99(marks.begun, marks.ended),
        lasted_s: Duration::from_nanos(marks.ended - marks.begun).as_secs_f64(),
        longest_away_ms: longest.as_secs_f64() * 1e3,
    }
}

/// The lowest hit ratio over any second that has a part of this time.
fn lowest(samples: &[Sample], from: u64, to: u64) -> f64 {
    let first = from.saturating_sub(WINDOW_NS);
    let steps = 0..(to - first) * STEPS / WINDOW_NS;
    let ratios = steps.map(|step| {
        let begin = first + step * WINDOW_NS / STEPS;
        let window = begin..begin + WINDOW_NS;
        Shares::of(samples.iter().filter(|sample| window.contains(&sample.at_ns))).hits()
    });
    ratios.fold(1.0, f64::min)
}

fn title() -> String {
    format!(
        "Restart: {SERVERS} servers restart one after the other (SIGTERM, the end, the same ports and \
         folders, /readyz) under {PER_SECOND} requests a second by a timetable: {KEYS} questions by \
         Zipf's law, and every {NEW_EVERY}th a new one, for which the upstream takes {UPSTREAM_MS} ms. \
         Callers go to the next server where a connection is refused or breaks before an answer. \
         Lowest is of any second. Wanted: hits of 94 % or more, nothing failed. Beyond are calls for \
         what was no new question."
    )
}

fn columns() -> [Column<Measured>; 13] {
    [
        Column::median("hit % before", 2, |of| Some(of.before.hits() * 100.0)),
        Column::median("during", 2, |of| Some(of.during.hits() * 100.0)),
        Column::median("lowest", 2, |of| Some(of.lowest * 100.0)),
        Column::median("Redis % before", 2, |of| Some(of.before.redis * 100.0)),
        Column::median("during ", 2, |of| Some(of.during.redis * 100.0)),
        Column::largest("most failed", 0, |of| Some(of.failed)),
        Column::median("retries", 0, |of| Some(of.retries)),
        Column::median("calls", 0, |of| Some(of.calls)),
        Column::largest("most beyond", 0, |of| Some(of.calls_beyond)),
        Column::median("p99 ms before", 1, |of| Some(of.p99_before_ms)),
        Column::median("during  ", 1, |of| Some(of.p99_during_ms)),
        Column::median("lasted s", 1, |of| Some(of.lasted_s)),
        Column::largest("most away ms", 0, |of| Some(of.longest_away_ms)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Source;

    #[test]
    fn the_lowest_second_is_found_where_it_is() {
        let sample = |at_ms: u64, source| Sample {
            at_ns: at_ms * 1_000_000,
            took_ns: 0,
            source: Some(source),
            is_new: false,
        };
        // A hit every 10 ms, but for half a second of misses.
        let samples: Vec<Sample> = (0..500)
            .map(|at| {
                let is_bad = (200..250).contains(&at);
                sample(at * 10, if is_bad { Source::Upstream } else { Source::Local })
            })
            .collect();
        let of = |from_s: u64, to_s: u64| lowest(&samples, from_s * WINDOW_NS, to_s * WINDOW_NS);
        assert!((of(1, 4) - 0.5).abs() < 1e-9, "{}", of(1, 4));
        assert!((of(4, 5) - 1.0).abs() < 1e-9, "{}", of(4, 5));
    }
}
