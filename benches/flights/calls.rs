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

/// The most calls for one number that begin within any span of time of this length.
pub(crate) fn most_within(calls: &[Call], span: Duration) -> usize {
    let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let mut times: HashMap<u64, Vec<u64>> = HashMap::new();
    for call in calls {
        times.entry(call.number).or_default().push(call.at_ns);
    }
    let most = |mut times: Vec<u64>| {
        times.sort_unstable();
        let from = |at: usize| times.partition_point(|time| *time < times[at] + span) - at;
        (0..times.len()).map(from).max().unwrap_or(0)
    };
    times.into_values().map(most).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_number_in_every_span() {
        let calls = |of: &[(u64, u64)]| -> Vec<Call> {
            of.iter().map(|(number, at_ns)| Call { number: *number, at_ns: *at_ns }).collect()
        };
        let span = Duration::from_nanos(10);
        assert_eq!(most_within(&[], span), 0);
        assert_eq!(most_within(&calls(&[(1, 0), (2, 0), (1, 10), (1, 20)]), span), 1);
        assert_eq!(most_within(&calls(&[(1, 0), (2, 0), (1, 9)]), span), 2);
        assert_eq!(most_within(&calls(&[(1, 30), (1, 21), (1, 0), (1, 25)]), span), 3);
    }
}
