//! The breaker: whether Redis is asked at all.
//!
//! Three failures in a row, or half of the last thirty-two calls, open it: nobody waits for what does
//! not answer. What closes it again is a probe of the one who keeps the connections, never a
//! caller's request.
//!
//! A cluster has sixteen sections, each a run of 1,024 hash slots: when one of its nodes is gone, the
//! keys of the others are still asked for. A node has many of them: once one is open, a single failure
//! opens another. Anything else has one section.

use std::sync::atomic::{AtomicU32, Ordering};

/// Failures in a row that open a section.
pub(super) const OPENS_AFTER: u32 = 3;
/// Sections of a cluster.
pub(super) const CLUSTER_SECTIONS: usize = 16;
/// Hash slots of a cluster (Redis Cluster specification).
pub(super) const SLOTS: usize = 16_384;

/// Part of the keys, which one breaker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Section(pub(super) usize);

/// Which sections are left alone.
#[derive(Debug)]
pub(super) struct Breaker {
    /// One bit a section.
    open: AtomicU32,
    /// The last 32 calls of each section, one bit each: set for a failure, the newest lowest.
    recent: Box<[AtomicU32]>,
}

impl Breaker {
    /// One with all sections open: nobody has been reached yet.
    #[must_use]
    pub(super) fn new(is_cluster: bool) -> Breaker {
        let sections = if is_cluster { CLUSTER_SECTIONS } else { 1 };
        let breaker = Breaker {
            open: AtomicU32::new(0),
            recent: (0..sections).map(|_| AtomicU32::new(0)).collect(),
        };
        breaker.open_all();
        breaker
    }

    /// How many sections there are.
    #[must_use]
    pub(super) fn sections(&self) -> usize {
        self.recent.len()
    }

    /// The section of a key by the slot that it hashes to.
    #[must_use]
    pub(super) fn section_of(&self, slot: usize) -> Section {
        Section(slot * self.sections() / SLOTS)
    }

    /// Whether calls may be made.
    #[must_use]
    pub(super) fn is_closed(&self, section: Section) -> bool {
        self.open.load(Ordering::Relaxed) & (1 << section.0) == 0
    }

    /// The sections that are left alone.
    pub(super) fn open_sections(&self) -> impl Iterator<Item = Section> {
        let open = self.open.load(Ordering::Relaxed);
        (0..self.sections()).filter(move |number| open & (1 << number) != 0).map(Section)
    }

    /// Whether any section is left alone.
    #[must_use]
    pub(super) fn has_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) != 0
    }

    /// Whether nothing is asked at all.
    #[must_use]
    pub(super) fn is_all_open(&self) -> bool {
        self.open_sections().count() == self.sections()
    }

    /// Notes a call that was answered.
    pub(super) fn succeeded(&self, section: Section) {
        let recent = &self.recent[section.0];
        // Nothing to change in the common case, so that callers do not meet at one cache line.
        if recent.load(Ordering::Relaxed) != 0 {
            let noted = |calls: u32| Some(calls << 1);
            let _ = recent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, noted);
        }
    }

    /// Notes a call that was not. Says whether that has opened the section.
    pub(super) fn failed(&self, section: Section) -> bool {
        let noted = |calls: u32| Some((calls << 1) | 1);
        let recent = &self.recent[section.0];
        let before = recent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, noted);
        let calls = before.unwrap_or_else(|calls| calls) << 1 | 1;
        (self.has_open() || opens(calls)) && self.open(section)
    }

    /// Opens a section, whatever its calls have come to. Says whether it was closed.
    pub(super) fn open(&self, section: Section) -> bool {
        self.open.fetch_or(1 << section.0, Ordering::Relaxed) & (1 << section.0) == 0
    }

    /// Opens all of them.
    pub(super) fn open_all(&self) {
        self.open.store(u32::MAX >> (32 - self.sections()), Ordering::Relaxed);
    }

    /// Closes a section; what its calls came to before is forgotten.
    pub(super) fn close(&self, section: Section) {
        self.recent[section.0].store(0, Ordering::Relaxed);
        self.open.fetch_and(!(1 << section.0), Ordering::Relaxed);
    }
}

fn opens(calls: u32) -> bool {
    calls.trailing_ones() >= OPENS_AFTER || calls.count_ones() >= 16
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Section = Section(0);

    fn closed() -> Breaker {
        let breaker = Breaker::new(false);
        breaker.close(ONE);
        breaker
    }

    #[test]
    fn nothing_is_asked_before_somebody_was_reached() {
        let breaker = Breaker::new(false);
        assert!(!breaker.is_closed(ONE) && breaker.is_all_open());
        breaker.close(ONE);
        assert!(breaker.is_closed(ONE));
    }

    #[test]
    fn three_failures_in_a_row_open_it_and_two_do_not() {
        let breaker = closed();
        for _ in 0..5 {
            assert!(!breaker.failed(ONE));
            assert!(!breaker.failed(ONE));
            breaker.succeeded(ONE);
        }
        assert!(!breaker.failed(ONE));
        assert!(!breaker.failed(ONE));
        assert!(breaker.failed(ONE));
        assert!(!breaker.failed(ONE), "it was open already");
    }

    #[test]
    fn half_of_the_last_calls_open_it_even_if_they_come_by_turns() {
        let breaker = closed();
        let mut failures = 0;
        while breaker.is_closed(ONE) {
            breaker.failed(ONE);
            breaker.succeeded(ONE);
            failures += 1;
        }
        assert_eq!(failures, 16);
    }

    #[test]
    fn a_failure_now_and_then_never_opens_it() {
        let breaker = closed();
        for _ in 0..1000 {
            assert!(!breaker.failed(ONE));
            for _ in 0..3 {
                breaker.succeeded(ONE);
            }
        }
    }

    #[test]
    fn what_was_before_it_closed_is_forgotten() {
        let breaker = closed();
        for _ in 0..3 {
            breaker.failed(ONE);
        }
        breaker.close(ONE);
        assert!(!breaker.failed(ONE));
    }

    #[test]
    fn once_a_section_is_open_one_failure_opens_another() {
        let breaker = Breaker::new(true);
        (0..CLUSTER_SECTIONS).for_each(|number| breaker.close(Section(number)));
        assert!(!breaker.failed(Section(4)));
        (0..3).for_each(|_| {
            breaker.failed(Section(3));
        });
        assert!(breaker.failed(Section(4)), "its neighbour is open");
    }

    #[test]
    fn sections_of_a_cluster_open_and_close_alone() {
        let breaker = Breaker::new(true);
        assert_eq!(breaker.open_sections().count(), CLUSTER_SECTIONS);
        (0..CLUSTER_SECTIONS).for_each(|number| breaker.close(Section(number)));
        let (first, last) = (breaker.section_of(0), breaker.section_of(SLOTS - 1));
        assert_eq!((first, last), (Section(0), Section(CLUSTER_SECTIONS - 1)));
        breaker.open(last);
        assert!(breaker.is_closed(first) && !breaker.is_closed(last) && !breaker.is_all_open());
        assert_eq!(breaker.open_sections().collect::<Vec<_>>(), [last]);
    }
}
