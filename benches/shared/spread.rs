//! How times spread.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How times spread, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of these times; nothing if there are none.
    pub(crate) fn of(times: impl Iterator<Item = Duration>) -> Option<Spread> {
        let mut micros: Vec<f64> = times.map(|time| time.as_secs_f64() * 1e6).collect();
        micros.sort_by(f64::total_cmp);
        let at = |percent: usize| micros.get(micros.len() * percent / 100).copied();
        Some(Spread {
            mean: micros.iter().sum::<f64>() / count(micros.len()),
            median: at(50)?,
            p99: at(99)?,
            max: micros.last().copied()?,
        })
    }
}

/// A count as a number to reckon with; counts here are far below 2^32.
pub(crate) fn count(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_read_off_the_times_in_order() {
        let millis = (1..=200).rev().map(Duration::from_millis);
        let spread = Spread::of(millis).unwrap();
        assert!((spread.mean - 100_500.0).abs() < 1e-6, "{spread:?}");
        assert_eq!((spread.median, spread.p99, spread.max), (101e3, 199e3, 200e3));
        assert_eq!(Spread::of(std::iter::empty()), None);
    }
}
