//! The table: what criterion estimated, as medians and ratios.

use std::path::Path;

use crate::ROUNDS;
use crate::bodies::Body;
use crate::contenders::CONTENDERS;
use crate::samples::{self, Samples, least};

/// Prints two lines a body, if all of it was measured: medians, and what the quickest samples
/// took. Neighbours on a shared machine disturb those least.
pub(crate) fn print(bodies: &[Body], estimates: &Path) {
    println!(
        "{:<12} {:>9} {:<8} | {:>11} {:>11} {:>11} | {:>9} {:>10}",
        "body", "bytes", "", "read", "skip", "value", "read/skip", "value/read"
    );
    for body in bodies {
        let of = |index: usize| rounds(body, CONTENDERS[index].name, estimates);
        let (Some(read), Some(skip), Some(value)) = (of(0), of(1), of(2)) else {
            println!("{:<12} not measured", body.name);
            continue;
        };
        let medians = [&read, &skip, &value].map(|rounds| median(&column(rounds, |r| r.median)));
        let of_medians = [ratio(&read, &skip), ratio(&value, &read)];
        line(body, "median", medians, of_medians);
        let [read, skip, value] =
            [&read, &skip, &value].map(|rounds| least(&column(rounds, |r| r.quickest)));
        line(body, "quickest", [read, skip, value], [read / skip, value / read]);
    }
}

fn line(body: &Body, which: &str, [read, skip, value]: [f64; 3], ratios: [f64; 2]) {
    println!(
        "{:<12} {:>9} {which:<8} | {:>8.2} µs {:>8.2} µs {:>8.2} µs | {:>9.2} {:>10.2}",
        body.name,
        body.bytes.len(),
        read / 1e3,
        skip / 1e3,
        value / 1e3,
        ratios[0],
        ratios[1],
    );
}

fn rounds(body: &Body, contender: &str, estimates: &Path) -> Option<Vec<Samples>> {
    let directory =
        |round: usize| estimates.join(body.name).join(contender).join(round.to_string());
    (0..ROUNDS).map(|round| samples::read(&directory(round))).collect()
}

fn column(rounds: &[Samples], of: fn(&Samples) -> f64) -> Vec<f64> {
    rounds.iter().map(of).collect()
}

/// Round by round, so that a machine that was slow for a while was slow for both.
fn ratio(over: &[Samples], under: &[Samples]) -> f64 {
    let ratios: Vec<f64> =
        over.iter().zip(under).map(|(over, under)| over.median / under.median).collect();
    median(&ratios)
}

fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
