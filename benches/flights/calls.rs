//! The upstream's record of its calls, and what is read off it.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where the upstream gives its record out, and begins a new one.
pub(crate) const CALLS_PATH: &str = "/calls";

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Call {
    /// The number of what was asked: one a key.
    pub(crate) number: u64,
    /// When it had been read, on the clock of all processes.
    pub(crate) at_ns: u64,
}

/// How many calls came within this time after the one before for the same number.
pub(crate) fn early(calls: &[Call], within: Duration) -> usize {
    let within = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
    let mut times: HashMap<u64, Vec<u64>> = HashMap::new();
    for call in calls {
        times.entry(call.number).or_default().push(call.at_ns);
    }
    let early = |mut times: Vec<u64>| {
        times.sort_unstable();
        times.windows(2).filter(|pair| pair[1] - pair[0] < within).count()
    };
    times.into_values().map(early).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_early_by_the_one_before_for_the_same_number() {
        let calls = |of: &[(u64, u64)]| -> Vec<Call> {
            of.iter().map(|(number, at_ns)| Call { number: *number, at_ns: *at_ns }).collect()
        };
        let within = Duration::from_nanos(10);
        assert_eq!(early(&[], within), 0);
        assert_eq!(early(&calls(&[(1, 0), (2, 0), (1, 10), (1, 20)]), within), 0);
        assert_eq!(early(&calls(&[(1, 0), (2, 0), (1, 9), (2, 9)]), within), 2);
        assert_eq!(early(&calls(&[(1, 30), (1, 21), (1, 0), (1, 25)]), within), 2);
    }
}
