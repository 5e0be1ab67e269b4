//! How long fills took of late, by route and upstream: nobody waits longer for another server's fill than most take.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Routes that are told apart; those beyond are not measured.
const ROUTES_MAX: usize = 1_024;
/// Fills that are remembered of a route.
const FILLS: usize = 64;
/// Fewer say nothing.
const FILLS_MIN: usize = 8;

/// The last fills of each route.
#[derive(Debug, Default)]
pub struct FillTimes {
    routes: Mutex<HashMap<Box<str>, Recent>>,
}

/// The last fills of one route, the oldest of which the next takes the place of.
#[derive(Debug, Default)]
struct Recent {
    fills: Vec<Duration>,
    next: usize,
}

impl FillTimes {
    /// Notes a fill of a route from an upstream that came to its end.
    pub fn note(&self, route: &str, upstream: &str, took: Duration) {
        let route = name(route, upstream);
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if routes.len() < ROUTES_MAX || routes.contains_key(&route) {
            routes.entry(route).or_default().note(took);
        }
    }

    /// What 95 of 100 such fills took at most; nothing while too few are known.
    #[must_use]
    pub fn p95(&self, route: &str, upstream: &str) -> Option<Duration> {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let fills = &routes.get(&name(route, upstream))?.fills;
        let mut sorted = fills.clone();
        drop(routes);
        sorted.sort_unstable();
        (sorted.len() >= FILLS_MIN).then(|| sorted[(sorted.len() * 95).div_ceil(100) - 1])
    }
}

/// Names of upstreams have no blanks.
fn name(route: &str, upstream: &str) -> Box<str> {
    format!("{route} {upstream}").into()
}

impl Recent {
    fn note(&mut self, took: Duration) {
        if self.fills.len() < FILLS {
            self.fills.push(took);
            return;
        }
        self.fills[self.next] = took;
        self.next = (self.next + 1) % FILLS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_route_is_known_from_its_eighth_fill_on() {
        let times = FillTimes::default();
        (1..8).for_each(|took| times.note("chat", "a", ms(took)));
        assert_eq!(times.p95("chat", "a"), None);
        times.note("chat", "a", ms(8));
        assert_eq!(times.p95("chat", "a"), Some(ms(8)));
        assert_eq!(times.p95("chat", "b"), None);
    }

    #[test]
    fn one_slow_fill_of_many_is_not_waited_for() {
        let times = FillTimes::default();
        (0..63).for_each(|_| times.note("chat", "a", ms(100)));
        times.note("chat", "a", ms(60_000));
        assert_eq!(times.p95("chat", "a"), Some(ms(100)));
        (0..64).for_each(|_| times.note("chat", "a", ms(7)));
        assert_eq!(times.p95("chat", "a"), Some(ms(7)), "what is long past is forgotten");
    }

    #[test]
    fn routes_beyond_the_bound_are_not_measured() {
        let times = FillTimes::default();
        for route in 0..=ROUTES_MAX {
            (0..8).for_each(|_| times.note("http", &route.to_string(), ms(1)));
        }
        assert_eq!(times.p95("http", &(ROUTES_MAX - 1).to_string()), Some(ms(1)));
        assert_eq!(times.p95("http", &ROUTES_MAX.to_string()), None);
    }
}
