//! Redis stops: what callers notice of it, and how soon it is used again.

use std::slice;

use anyhow::{Context, ensure};

use crate::cache::have_written;
use crate::load::Job;
use crate::outage::{self, Fill, Marks, Outcome, Part};
use crate::shared::process;
use crate::shared::report::{Column, Section};
use crate::shared::rounds::{Figure, Rounds};
use crate::shared::spread::count;
use crate::stage::Stage;

/// How long the upstream thinks, and the deadline of a read that a server has by default.
const DELAY_MS: u64 = 50;
const DEADLINE_MS: u64 = 20;
/// Entries in memory, and more entries in Redis alone than can be asked for.
const HOT: u64 = 100;
const SHARED: u64 = 2500;
/// Reads that failed, as the server counts them.
const FAILED: &str = "cache_server_redis_reads_total{outcome=\"failed\"}";
/// The parts of the time.
const PARTS: [&str; 4] = ["before", "stopped, until left alone", "left alone", "after it went on"];

/// When what happened in a round.
#[derive(Clone, Copy, Debug)]
struct Marked {
    marks: Marks,
    /// Reads of Redis that failed, by the server's count.
    failed: f64,
    /// Callers who waited for that, by the time that their answers took.
    paid: f64,
}

/// Measures what callers see in the parts of the time, and when what happens.
pub(crate) async fn measure(
    stage: &mut Stage,
    rounds: u16,
    millis: u64,
) -> anyhow::Result<Vec<Section>> {
    let redis = stage.redis().await?;
    // What the writer has asked, the server under test finds in Redis.
    let writer = stage.server("cache-server that writes", &redis).await?;
    let server = stage.server("cache-server", &redis).await?;
    let hot = stage.new_numbers();
    fill(stage, Fill { server: server.address(), first: hot, count: HOT }).await?;
    let (mut parts, mut marks) = (Rounds::of(PARTS.len()), Rounds::of(1));
    for _ in 0..rounds {
        let shared = stage.new_numbers();
        let written = writer.written().await?;
        fill(stage, Fill { server: writer.address(), first: shared, count: SHARED }).await?;
        let dropped =
            have_written(slice::from_ref(&writer), written + count(usize::try_from(SHARED)?))
                .await?;
        ensure!(dropped == 0.0, "redis lacks entries");
        let job = Job::Outage(outage::Job {
            server: server.address(),
            admin: server.admin,
            redis: redis.process()?.as_raw_nonzero().get(),
            delay_ms: DELAY_MS,
            deadline_ms: DEADLINE_MS,
            millis,
            hot: (hot, HOT),
            shared: (shared, SHARED),
            cold: stage.new_numbers(),
        });
        let failed = server.metric(FAILED).await?;
        let outcome = process::run_load(&job, job.duration(), stage.cores.load).await;
        let outcome: Outcome = outcome.with_context(|| server.state())?;
        let failed = server.metric(FAILED).await? - failed;
        let paid = outcome.parts.iter().skip(1).map(|part| part.paid).sum();
        marks.add(0, Marked { marks: outcome.marks, failed, paid });
        outcome.parts.into_iter().enumerate().for_each(|(index, part)| parts.add(index, part));
    }
    server.stop().await?;
    writer.stop().await?;
    Ok(vec![section_of_parts(&parts, millis), section_of_marks(&marks)])
}

async fn fill(stage: &Stage, fill: Fill) -> anyhow::Result<()> {
    let job = Job::Fill(fill);
    let fetched: u64 = process::run_load(&job, job.duration(), stage.cores.load).await?;
    ensure!(fetched == fill.count, "what was to be new was there already");
    Ok(())
}

fn section_of_parts(parts: &Rounds<Part>, millis: u64) -> Section {
    let p99: Figure<Part> = |part| Some(part.hits?.p99);
    let columns: [Column<Part>; 13] = [
        Column::median("local hits", 0, |part| Some(part.hits_count)),
        Column::median("p50 µs", 0, |part| Some(part.hits?.median)),
        Column::median("p99 µs", 0, p99),
        Column::ratio("× before", p99),
        Column::median("max ms", 1, |part| Some(part.hits?.max / 1e3)),
        Column::median("misses", 0, |part| Some(part.misses_count)),
        Column::median("over p50 ms", 1, |part| Some(part.misses?.median / 1e3)),
        Column::median("over p99 ms", 1, |part| Some(part.misses?.p99 / 1e3)),
        Column::largest("most over ms", 1, |part| Some(part.misses?.max / 1e3)),
        Column::median("paid", 0, |part| Some(part.paid)),
        Column::largest("most paid", 0, |part| Some(part.paid)),
        Column::median("redis hits", 0, |part| Some(part.redis_hits)),
        Column::largest("most errors", 0, |part| Some(part.errors)),
    ];
    let title = format!(
        "Redis stops (SIGSTOP) for {millis} ms under load: 2,000 hits from memory a second, 8 \
         callers of new questions in a closed loop and 4 of questions whose answers are in Redis, \
         each 25 a second at most; the upstream takes {DELAY_MS} ms, a read of Redis {DEADLINE_MS} ms at most. Over \
         is what a miss took beyond the upstream's {DELAY_MS} ms; paid is how many misses waited for the \
         deadline. Wanted: no errors, local hits as before."
    );
    Section::new(title, PARTS.map(str::to_owned), parts, &columns)
}

fn section_of_marks(marks: &Rounds<Marked>) -> Section {
    let columns: [Column<Marked>; 8] = [
        Column::median("left alone after ms", 0, |marked| Some(marked.marks.down_ms)),
        Column::largest("most", 0, |marked| Some(marked.marks.down_ms)),
        Column::median("failed reads", 0, |marked| Some(marked.failed)),
        Column::median("misses that paid", 0, |marked| Some(marked.paid)),
        Column::median("asked again after ms", 0, |marked| Some(marked.marks.up_ms)),
        Column::largest("most ms", 0, |marked| Some(marked.marks.up_ms)),
        Column::median("first hit after ms", 0, |marked| marked.marks.first_hit_ms),
        Column::largest("latest ms", 0, |marked| marked.marks.first_hit_ms),
    ];
    let title = "When what happened: how long after Redis stopped it was left alone, and how long \
                 after it went on (SIGCONT) it was asked again and a caller had a hit from it. \
                 Failed reads are the server's count. Wanted: the first hit within 1,000 ms."
        .into();
    Section::new(title, ["redis".to_owned()], marks, &columns)
}
