//! What a key costs: canonicalising and hashing a body, side by side with hashing it as it is
//! and with the way of two libraries.
//!
//! Only ratios mean anything, so the contenders alternate in rounds, and a ratio is the median
//! of the rounds' ratios. Criterion measures; the table at the end is made from its estimates.

mod bodies;
mod contenders;
#[path = "../shared/samples.rs"]
mod samples;
mod table;

use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};

use bodies::Body;
use contenders::CONTENDERS;

// The same allocator as in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Odd, so that a median is a round's.
const ROUNDS: usize = 7;

fn main() {
    let bodies = Body::all();
    let estimates = estimates_directory();
    let mut criterion = Criterion::default()
        .output_directory(&estimates)
        .without_plots()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    for body in &bodies {
        contenders::check(body);
        measure(&mut criterion, body);
    }
    criterion.final_summary();
    table::print(&bodies, &estimates);
}

/// Criterion's own place in the target directory depends on the environment.
fn estimates_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("keys")
}

fn measure(criterion: &mut Criterion, body: &Body) {
    let mut group = criterion.benchmark_group(body.name);
    group.throughput(Throughput::Bytes(body.bytes.len() as u64));
    for round in 0..ROUNDS {
        for contender in &CONTENDERS {
            let id = BenchmarkId::new(contender.name, round);
            group.bench_function(id, |bencher| bencher.iter(|| (contender.digest)(body)));
        }
    }
    group.finish();
}
