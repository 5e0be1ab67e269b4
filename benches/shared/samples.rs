//! What criterion wrote of one benchmark.

use std::path::Path;

use serde_json::Value;

/// What an iteration took, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Samples {
    pub(crate) median: f64,
    /// In the quickest sample: neighbours on a shared machine disturb that least.
    pub(crate) quickest: f64,
}

/// Reads the last run of the benchmark whose files are in this directory; nothing if there was none.
pub(crate) fn read(directory: &Path) -> Option<Samples> {
    let read = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(directory.join("new").join(name)).ok()?).ok()
    };
    let median = read("estimates.json")?["median"]["point_estimate"].as_f64()?;
    let quickest = least(&times(&read("sample.json")?)?);
    Some(Samples { median, quickest })
}

/// The time of an iteration, for each sample.
fn times(sample: &Value) -> Option<Vec<f64>> {
    let (times, iterations) = (sample["times"].as_array()?, sample["iters"].as_array()?);
    times
        .iter()
        .zip(iterations)
        .map(|(time, count)| Some(time.as_f64()? / count.as_f64()?))
        .collect()
}

/// The least of some figures.
pub(crate) fn least(figures: &[f64]) -> f64 {
    figures.iter().copied().fold(f64::INFINITY, f64::min)
}
