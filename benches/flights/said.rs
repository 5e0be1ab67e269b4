//! A stream whose events carry the time at which the upstream said them, and what a caller finds
//! out by that: when it had caught up with what had been said before it asked, and how late
//! everything else came.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use memchr::memmem;
use serde_json::json;

use crate::ask::run_of_digits;
use crate::shared::exchange::{self, DONE};

/// Events of a stream; the end comes with the last.
pub(crate) const EVENTS: usize = 20;
/// From the first event to the last.
pub(crate) const LASTS: Duration = Duration::from_secs(1);
/// Digits of a time: a `u64` always fits.
const TIME_DIGITS: usize = 20;

/// When an event is due, from the beginning of its stream.
pub(crate) fn due(event: usize) -> Duration {
    let event = u32::try_from(event).unwrap_or(u32::MAX);
    LASTS * event / u32::try_from(EVENTS - 1).unwrap_or(1)
}

/// An event that is said at this time; the stream's end comes with the last one.
pub(crate) fn event(event: usize, at_ns: u64) -> Bytes {
    let content = json!({"content": format!(" {at_ns:0TIME_DIGITS$}")});
    if event + 1 < EVENTS {
        return exchange::event(&content, None);
    }
    [&exchange::event(&content, Some("stop")), DONE].concat().into()
}

/// What a caller heard of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    /// Events that had been said when it asked.
    pub(crate) said_before: usize,
    /// From asking until it had all of them; nothing if there were none.
    pub(crate) caught_up: Option<Duration>,
    /// How long after it was said each later event came.
    pub(crate) late: Vec<Duration>,
}

/// What a caller heard who asked at this time; `arrivals` tell when the body was there up to
/// which byte, in order.
///
/// # Errors
/// If it is no such stream, or not the whole of it.
pub(crate) fn heard(
    asked_ns: u64,
    body: &[u8],
    arrivals: &[(u64, usize)],
) -> anyhow::Result<Heard> {
    let events = body.strip_suffix(DONE).context("the stream has no end")?;
    let mut heard = Heard { said_before: 0, caught_up: None, late: Vec::new() };
    let mut start = 0;
    for end in memmem::find_iter(events, b"\n\n").map(|at| at + 2) {
        let said =
            run_of_digits(&events[start..end], TIME_DIGITS).context("an event has no time")?;
        let arrival = arrivals.partition_point(|(_, bytes)| *bytes < end);
        let (came, _) = arrivals.get(arrival).context("an event came at no time")?;
        let after = |time| Duration::from_nanos(came.saturating_sub(time));
        if said <= asked_ns {
            heard.said_before += 1;
            heard.caught_up = Some(after(asked_ns));
        } else {
            heard.late.push(after(said));
        }
        start = end;
    }
    let events = heard.said_before + heard.late.len();
    ensure!(events == EVENTS, "{events} events instead of {EVENTS}");
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream whose event `n` is said at 100 × n, and where each event ends.
    fn stream() -> (Vec<u8>, Vec<usize>) {
        let mut body = Vec::new();
        let mut ends = Vec::new();
        for number in 0..EVENTS {
            body.extend_from_slice(&event(number, 100 * number as u64));
            ends.push(body.len());
        }
        (body, ends)
    }

    #[test]
    fn events_are_spread_evenly_from_the_beginning_to_the_end() {
        assert_eq!(due(0), Duration::ZERO);
        assert_eq!(due(EVENTS - 1), LASTS);
        assert!((due(2) - due(1)).abs_diff(due(1)) <= Duration::from_nanos(1));
    }

    #[test]
    fn a_caller_catches_up_with_what_was_said_and_hears_the_rest_live() {
        let (body, ends) = stream();
        // It asks when three have been said. Two of them come at 260, the third at 290, the
        // others 7 after they are said, the last two together.
        let mut arrivals = vec![(260, ends[1]), (290, ends[2])];
        arrivals.extend((3..EVENTS - 2).map(|number| (100 * number as u64 + 7, ends[number])));
        arrivals.push((1907, ends[EVENTS - 1]));
        let heard = heard(250, &body, &arrivals).unwrap();
        assert_eq!((heard.said_before, heard.caught_up), (3, Some(Duration::from_nanos(40))));
        assert_eq!(heard.late.len(), EVENTS - 3);
        assert!(heard.late[..EVENTS - 5].iter().all(|late| *late == Duration::from_nanos(7)));
        assert_eq!(heard.late[EVENTS - 5..], [107, 7].map(Duration::from_nanos));
    }

    #[test]
    fn one_who_asks_first_has_nothing_to_catch_up_with_and_one_who_asks_last_has_all() {
        let (body, _) = stream();
        let later: Vec<u8> =
            (0..EVENTS).flat_map(|number| event(number, 1 + number as u64)).collect();
        assert_eq!(heard(0, &later, &[(9_000, later.len())]).unwrap().caught_up, None);
        let last = heard(8_000, &body, &[(9_000, body.len())]).unwrap();
        assert_eq!((last.said_before, last.late.len()), (EVENTS, 0));
        assert_eq!(last.caught_up, Some(Duration::from_nanos(1_000)));
    }

    #[test]
    fn what_is_not_the_whole_stream_is_refused() {
        let (body, ends) = stream();
        assert!(heard(0, &body[..ends[4]], &[(1, ends[4])]).is_err(), "no end");
        let gap = [&body[..ends[4]], &body[ends[5]..]].concat();
        assert!(heard(0, &gap, &[(1, gap.len())]).is_err(), "an event is missing");
        assert!(heard(0, &body, &[(1, ends[4])]).is_err(), "it never came");
        assert!(heard(0, b"data: {}\n\ndata: [DONE]\n\n", &[(1, 99)]).is_err(), "no times");
    }
}
