//! What each step of a hit costs, one by one and without a server around it: a key, a read of memory
//! and of the disk, whether an entry is still of use, and what a flight adds for those who wait.
//!
//! Absolute times, so they say where the time of a hit goes and how a change moves one step, on one
//! machine. What holds on others, or from one commit to the next, is for the ratios of the other
//! benchmarks and for the instruction counts.
//!
//! - [`bodies`], [`entries`]: what is asked, and what is stored of it;
//! - [`key`], [`tier`], [`entry`], [`judgement`], [`flight`]: the steps;
//! - [`table`]: what criterion measured, by its [`samples`].

#[expect(dead_code, reason = "the canonical form is compared with others' by others")]
#[path = "../keys/bodies.rs"]
mod bodies;
#[expect(dead_code, unused_imports, reason = "names in Redis are for others, and tests run there")]
#[path = "../shared/entries.rs"]
mod entries;
mod entry;
mod flight;
mod judgement;
mod key;
#[path = "../shared/samples.rs"]
mod samples;
mod table;
mod tier;

use std::path::Path;
use std::time::{Duration, SystemTime};

use criterion::Criterion;

// The same allocator as in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The time of everything that is stored here.
const NOW: cache_server::clock::Timestamp = cache_server::clock::Timestamp(1_763_923_456_000);

fn main() -> anyhow::Result<()> {
    let began = SystemTime::now();
    let estimates = Path::new(env!("CARGO_TARGET_TMPDIR")).join("micro");
    let mut criterion = Criterion::default()
        .output_directory(&estimates)
        .without_plots()
        .sample_size(50)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    key::measure(&mut criterion)?;
    tier::measure(&mut criterion)?;
    judgement::measure(&mut criterion)?;
    entry::measure(&mut criterion)?;
    flight::measure(&mut criterion);
    criterion.final_summary();
    table::print(&estimates, began)
}
