//! The table: what criterion estimated, as medians and ratios.

use std::path::Path;

use crate::ROUNDS;
use crate::bodies::Body;
use crate::contenders::CONTENDERS;

/// Prints a line a body, if all of it was measured.
pub(crate) fn print(bodies: &[Body], estimates: &Path) {
    println!(
        "{:<12} {:>9} | {:>11} {:>11} {:>11} | {:>9} {:>10}",
        "body", "bytes", "read", "skip", "value", "read/skip", "value/read"
    );
    for body in bodies {
        let of = |index: usize| rounds(body, CONTENDERS[index].name, estimates);
        let (Some(read), Some(skip), Some(value)) = (of(0), of(1), of(2)) else {
            println!("{:<12} not measured", body.name);
            continue;
        };
        println!(
            "{:<12} {:>9} | {:>8.2} µs {:>8.2} µs {:>8.2} µs | {:>9.2} {:>10.2}",
            body.name,
            body.bytes.len(),
            median(&read) / 1e3,
            median(&skip) / 1e3,
            median(&value) / 1e3,
            median(&ratios(&read, &skip)),
            median(&ratios(&value, &read)),
        );
    }
}

/// A contender's median time of each round, in nanoseconds.
fn rounds(body: &Body, contender: &str, estimates: &Path) -> Option<Vec<f64>> {
    (0..ROUNDS)
        .map(|round| {
            let directory = estimates.join(body.name).join(contender).join(round.to_string());
            let text = std::fs::read(directory.join("new/estimates.json")).ok()?;
            let estimates: serde_json::Value = serde_json::from_slice(&text).ok()?;
            estimates["median"]["point_estimate"].as_f64()
        })
        .collect()
}

/// Round by round, so that a machine that was slow for a while was slow for both.
fn ratios(over: &[f64], under: &[f64]) -> Vec<f64> {
    over.iter().zip(under).map(|(over, under)| over / under).collect()
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
